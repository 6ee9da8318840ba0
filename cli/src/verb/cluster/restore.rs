//! `trine cluster restore`: a cluster formed anew from a backup.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use futures_util::{StreamExt, TryStreamExt, stream};
use ledger::backup::{Backup, Front, HEADER_BYTES_MAX, Header};
use ledger::time::Ttl;
use license::container::ContainerSerial;
use license::product::WallTime;
use serde::Serialize;
use trine_client::{CallError, Endpoint, Outcome, Reason};
use wire::v1;

use super::backup::{Opening, tell_progress};
use super::{Call, nodes};
use crate::console::Tone;
use crate::context::Target;
use crate::dates::{parse_duration, show_date, show_millis};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;

/// How long one answer may take: three containers are asked for, a leader elected.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// How long the nodes may take to put a large backup in force.
const FINISH_MAX: Duration = Duration::from_secs(600);

/// Parts on their way at once.
const PARTS_AT_ONCE: usize = 8;

/// Form a cluster anew from a backup, when all three nodes are lost
///
/// All three nodes must be up and not formed: new machines, or the old ones with
/// empty data directories. Put each node's own container file back into its data
/// directory first, if there is one: then its shares open again. With one container
/// lost, licenses serve with the two others; with more, the vendor issues anew.
///
/// The cluster is the same cluster, in a new epoch. Licenses, holders, queues and
/// bearer tokens are as they were when the backup was taken. What happened later is
/// not known, so nothing is granted for the longest TTL there is, 24 h: by then
/// every seat granted after the backup has ended. Who holds a seat of the backup
/// renews it meanwhile. If you know that no application asks for a longer TTL than,
/// say, ten minutes, say --quiet 10m; said wrongly, seats are held twice. Without --quiet you are asked.
///
/// Never restore one node of a cluster that lives: replace it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine --host node1,node2,node3 cluster restore today.backup --identity backup.key
  trine --host node1,node2,node3 cluster restore today.backup --identity backup.key --quiet 10m

Interrupted, the same command goes on where it was, or shows once more what it came to.")]
pub(super) struct Restore {
    /// The backup
    file: PathBuf,
    /// Grant nothing for so long: the longest TTL that any application asks for; 24h if left out
    #[arg(long, value_name = "DURATION", value_parser = parse_duration)]
    quiet: Option<Duration>,
    /// Do not ask whether a day without grants is meant, when --quiet is left out
    #[arg(long)]
    yes: bool,
    /// The new restore epoch, if the nodes' clocks are wrong: far above every earlier one
    #[arg(long)]
    epoch: Option<u64>,
    #[command(flatten)]
    opening: Opening,
}

/// `trine cluster restore --json`
#[derive(Debug, Serialize)]
struct Restored {
    /// 32 hexadecimal digits; the same as before.
    cluster: String,
    /// The new restore epoch.
    epoch: u64,
    /// When the backup was taken, RFC 3339.
    taken: String,
    /// For so long nothing is granted, in milliseconds of cluster time.
    quiet_ms: u64,
    /// Seats held when the backup was taken, which their holders may renew.
    seats: u64,
    /// Licenses of which two shares at least are in these nodes' containers.
    licenses: Vec<String>,
    /// Those of them that have two: the third can be made again.
    with_two_shares: Vec<String>,
    /// Licenses that the vendor must issue anew, because their shares are not.
    to_reissue: Vec<String>,
    /// Bearer tokens that work, those that were revoked after the backup too.
    tokens: Vec<Token>,
    /// Whether it was restored from this very backup before, and nothing was done now.
    already: bool,
}

#[derive(Debug, Serialize)]
struct Token {
    /// The application.
    name: String,
    /// RFC 3339.
    expires: String,
}

impl Restore {
    pub(super) async fn run(self, call: &Call, mut target: Target) -> Result<Exit, Failure> {
        let longest = Duration::from_millis(Ttl::MILLIS_MAX);
        if self.quiet.is_some_and(|quiet| quiet > longest) {
            return Err(Failure::usage("--quiet is longer than the longest TTL, 24h")
                .next("give 24h or less, or leave it out"));
        }
        let backup = self.opening.read(&self.file)?;
        if self.quiet.is_none() && !self.yes {
            confirm(call, &backup)?;
        }
        // Balancers lead to whoever leads, and nobody does yet.
        target.hosts = nodes(&target, call);
        let connection = Connection::patient(target, ANSWER_MAX).await?;
        let request = self.request(&backup.header);
        let already = match begin(&connection, request).await {
            Ok(begun) => {
                hand_over(&connection, call, &backup, &begun).await?;
                finish(&connection, backup.header.digest).await?;
                false
            }
            // Interrupted after its end: what it would have said is said now.
            Err(refused) if was_restored(&connection, &refused, &backup).await => true,
            Err(failure) => return Err(failure),
        };
        let restored = Restored { already, ..self.restored(&connection, &backup).await? };
        call.console.result(&restored, |page| restored.show(page))?;
        Ok(Exit::Done)
    }

    fn request(&self, header: &Header) -> v1::BeginRestoreRequest {
        v1::BeginRestoreRequest {
            front: header.encode(),
            quiet_ms: self.quiet.map_or(Ttl::MILLIS_MAX, |quiet| {
                u64::try_from(quiet.as_millis()).unwrap_or(u64::MAX)
            }),
            epoch: self.epoch,
        }
    }

    async fn restored(
        &self,
        connection: &Connection,
        backup: &Backup,
    ) -> Result<Restored, Failure> {
        let operator = connection.operator();
        let status = operator.status().await.map_err(|error| connection.unread(&error))?;
        let tokens = operator.list_tokens().await.map_err(|error| connection.unread(&error))?;
        let containers: BTreeSet<String> =
            status.nodes.into_iter().map(|node| node.container).collect();
        let (mut licenses, mut with_two_shares, mut to_reissue) = (vec![], vec![], vec![]);
        for license in backup.ledger.licenses() {
            let license = license.terms.license;
            let comes_back = comes_back(&backup.ledger.share_containers(license), &containers);
            let serves = comes_back != ComesBack::Not;
            if serves { &mut licenses } else { &mut to_reissue }.push(license.to_string());
            if comes_back == ComesBack::WithTwoShares {
                with_two_shares.push(license.to_string());
            }
        }
        let token = |token: v1::list_tokens_reply::Token| Token {
            name: token.subject,
            expires: show_date(WallTime(token.expires_ms)),
        };
        Ok(Restored {
            cluster: backup.header.cluster.to_string(),
            epoch: status.as_of.map_or(0, |as_of| as_of.epoch),
            taken: show_date(backup.header.taken),
            quiet_ms: status.quiet_ms.unwrap_or(0),
            seats: backup.ledger.live(),
            licenses,
            with_two_shares,
            to_reissue,
            tokens: tokens.tokens.into_iter().map(token).collect(),
            already: false,
        })
    }
}

/// A day without grants surprises who did not ask for it, and is not taken back.
fn confirm(call: &Call, backup: &Backup) -> Result<(), Failure> {
    let question = format!(
        "the cluster is restored as of {}, and grants nothing for 24h of cluster time: seats granted after the backup may be in use until then (renewals by holders who held on, and releases, work).\nBegin?",
        show_date(backup.header.taken)
    );
    call.console.confirm(
        &question,
        "add --yes if that is meant, or --quiet with the longest TTL that any application asks for",
    )
}

/// How a license comes back from a backup. Best last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum ComesBack {
    /// Fewer than two of its shares may sign.
    Not,
    /// Two may, and the third is in a container that is lost: it can be made again.
    WithTwoShares,
    /// As it was: nothing is lost that served.
    AsItWas,
}

/// How a license with these places comes back into these containers, by the
/// edition that does best. A withdrawn share does not serve and makes no other.
fn comes_back(editions: &[[(ContainerSerial, bool); 3]], here: &BTreeSet<String>) -> ComesBack {
    let judge = |places: &[(ContainerSerial, bool); 3]| {
        let is_here = |place: &ContainerSerial| here.contains(&place.to_string());
        let serving = places.iter().filter(|(place, withdrawn)| !withdrawn && is_here(place));
        let is_whole = places.iter().all(|(place, withdrawn)| *withdrawn || is_here(place));
        match (serving.count(), is_whole) {
            (..2, _) => ComesBack::Not,
            (_, false) => ComesBack::WithTwoShares,
            (_, true) => ComesBack::AsItWas,
        }
    };
    editions.iter().map(judge).max().unwrap_or(ComesBack::Not)
}

/// Asks the first node that is there. Asking again is harmless, so a node that
/// did not answer may be followed by another.
async fn begin(
    connection: &Connection,
    request: v1::BeginRestoreRequest,
) -> Result<v1::BeginRestoreReply, Failure> {
    debug_assert!(request.front.len() <= HEADER_BYTES_MAX + 64, "{}", request.front.len());
    debug_assert!(Front::decode(&request.front).is_ok(), "it was encoded a moment ago");
    let mut answer = Failure::usage("no node is named; give them with --host");
    let hosts: Vec<Endpoint> = connection.target.hosts.clone();
    for node in hosts {
        match connection.operator().at(node).begin_restore(request.clone()).await {
            Ok(begun) => return Ok(begun),
            Err(error) => {
                let is_absent = error.failure().reason == Reason::Unreachable;
                answer = connection.failed(&error);
                if !is_absent {
                    break;
                }
            }
        }
    }
    Err(answer)
}

/// Whether the cluster is formed because it was restored from this very backup:
/// ending that once more changes nothing.
async fn was_restored(connection: &Connection, refused: &Failure, backup: &Backup) -> bool {
    refused.reason() == Reason::RestoreRefused.as_str()
        && connection.operator().finish_restore(backup.header.digest).await.is_ok()
}

async fn hand_over(
    connection: &Connection,
    call: &Call,
    backup: &Backup,
    begun: &v1::BeginRestoreReply,
) -> Result<(), Failure> {
    let part_bytes = begun.part_bytes as usize;
    if part_bytes == 0 || backup.snapshot.len().div_ceil(part_bytes) != begun.parts as usize {
        return Err(Failure::failed("the node divides the backup otherwise than this trine does")
            .next("restore with the trine of the nodes' version"));
    }
    let operator = connection.operator();
    let next = begun.next_part as usize;
    let parts = (0..).zip(backup.snapshot.chunks(part_bytes)).skip(next);
    let sent = parts.map(|(number, bytes)| {
        let backup = backup.header.digest.to_vec();
        let part = v1::RestorePartRequest { backup, number, bytes: bytes.to_vec() };
        let operator = &operator;
        async move { operator.restore_part(part).await.map(|()| bytes.len() as u64) }
    });
    let all = backup.header.bytes;
    let before = (next * part_bytes) as u64;
    stream::iter(sent)
        .buffered(PARTS_AT_ONCE)
        .try_fold(before, |before, bytes| async move {
            tell_progress(call, before, bytes, all);
            Ok(before + bytes)
        })
        .await
        .map(drop)
        .map_err(|error| connection.failed(&error).next("give the same command again to go on"))
}

/// Large backups take the nodes longer to read than a call may take: the
/// question is asked until the answer is known.
async fn finish(connection: &Connection, backup: [u8; 32]) -> Result<(), Failure> {
    let deadline = tokio::time::Instant::now() + FINISH_MAX;
    loop {
        let error = match connection.operator().finish_restore(backup).await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let is_decided = matches!(
            &error,
            CallError::Refused(what) | CallError::NotDone(what) if what.outcome == Outcome::Refused
        );
        if is_decided || tokio::time::Instant::now() >= deadline {
            let failure = connection.failed(&error);
            return Err(if is_decided {
                failure
            } else {
                failure.next("give the same command again to see whether it was done")
            });
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

impl Restored {
    fn show(&self, page: &mut crate::console::Page) {
        let title = if self.already {
            "The cluster was restored from this backup before; nothing was done now"
        } else {
            "The cluster is restored"
        };
        let title = page.tone(Tone::Good, title);
        page.line(title);
        page.facts(&[
            ("cluster", self.cluster.clone()),
            ("as of", self.taken.clone()),
            ("epoch", self.epoch.to_string()),
            ("seats held", format!("{}, which their holders may renew", self.seats)),
            ("grants", format!("none for {} (cluster time)", show_millis(self.quiet_ms))),
            ("licenses", self.licenses.join(", ")),
        ]);
        for license in &self.with_two_shares {
            let line = format!(
                "License {license} serves with two shares, because the third is in a container \
                 that is lost. Next: trine license repair {license}; or, if that container may be \
                 in others' hands, trine license withdraw-share {license} --node NODE, and have \
                 the vendor issue the license anew"
            );
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
        if !self.to_reissue.is_empty() {
            let line = format!(
                "To be issued anew, because fewer than two of their shares are here and in \
                 service: {}",
                self.to_reissue.join(", ")
            );
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
            page.line("Next: trine license request");
        }
        let line = "Look at what was changed after the backup and is as it was again: \
                    revoke seats, tokens and certificates, withdraw shares, change trust, \
                    install license updates and clock resets once more. Certificates that \
                    were revoked since work again, whatever `trine pki list` says: \
                    trine pki revoke --again --dir DIR, where the CA's directory is.";
        let line = page.tone(Tone::Warning, line);
        page.line(line);
        if !self.tokens.is_empty() {
            let row = |token: &Token| vec![token.name.clone(), token.expires.clone()];
            page.table(&["bearer token of", "expires"], self.tokens.iter().map(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_withdrawn_share_neither_serves_nor_makes_another() {
        let serial = |number: u64| ContainerSerial::try_from(number).expect("ten digits");
        let here: BTreeSet<String> = [1, 2, 3].map(|number| serial(number).to_string()).into();
        // Each place by its container, with a minus where the share was withdrawn.
        let judged = |places: [i64; 3]| {
            let places = places.map(|place| (serial(place.unsigned_abs()), place < 0));
            comes_back(&[places], &here)
        };
        assert_eq!(judged([1, 2, 3]), ComesBack::AsItWas);
        assert_eq!(judged([1, 2, 9]), ComesBack::WithTwoShares);
        assert_eq!(judged([1, 8, 9]), ComesBack::Not);
        assert_eq!(judged([1, 2, -3]), ComesBack::AsItWas, "nothing is to be made again");
        assert_eq!(judged([1, 2, -9]), ComesBack::AsItWas, "it is not made again");
        assert_eq!(judged([1, -2, 9]), ComesBack::Not, "one share serves");
        assert_eq!(comes_back(&[], &here), ComesBack::Not);
    }
}
