//! `trine trust`: whom the cluster trusts, changed while it serves.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use license::product::WallTime;
use pki::{Pem, Summary};
use serde::Serialize;
use wire::v1::TrustAnchor;

use super::Call;
use crate::console::{Page, Tone};
use crate::context::Purpose;
use crate::dates::{parse_date, show_date};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::online::{self, Connection};
use crate::vendor_dir::FILE_BYTES_MAX;

/// See and change whom the cluster trusts: vendors, and its own CAs
///
/// A vendor's root decides whose licenses may be installed; a cluster CA decides
/// who is let in. Both are in the cluster's log: every node follows a change at
/// once, and configurations are not touched. A new one stands beside the old
/// until nothing needs the old any more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine trust list
  trine trust add beta.root
  trine trust rotate acme-2.root
  trine trust rotate new-ca.pem
  trine trust rotate new-ca.pem --finish")]
pub struct Trust {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    List(List),
    Add(Add),
    Rotate(Rotate),
    Remove(Remove),
}

/// List the vendors and cluster CAs that are trusted, and what needs each
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine trust list
  trine --json trust list | jq '.anchors[] | select(.kind == \"ca\")'")]
struct List {}

/// Trust one more vendor, beside the others
///
/// Compare the fingerprint with the vendor before, by another way than the file
/// came: `trine vendor inspect FILE` shows it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine vendor inspect beta.root
  trine trust add beta.root")]
struct Add {
    /// The vendor's root file
    file: PathBuf,
}

/// Replace a vendor's root, or the cluster CA, by a new one; repeat to go on
///
/// The first time it trusts the new one beside the old, and says what still
/// needs the old: licenses, until the vendor has issued them again under the new
/// root; nodes, until their certificates are under the new CA. When nothing does,
/// --finish drops the old. To go back, take the new one's certificates or licenses
/// back and `trine trust remove` it.
///
/// Before a new CA's certificates come into use, give every client the two CA
/// certificates in one file (TRINE_CA), and before --finish a certificate of the
/// new CA: afterwards those of the old one are let in no more.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine trust rotate acme-2.root            trust the vendor's new root beside the old
  trine trust rotate new/ca.pem             trust the new CA beside the old
  trine trust rotate new/ca.pem --finish    drop the old")]
struct Rotate {
    /// The new one: a vendor's root file, or a CA's certificate (PEM)
    file: PathBuf,
    /// Fingerprint of the old one [default: the vendor's of the same name, or the other CA]
    #[arg(long, value_name = "FINGERPRINT")]
    old: Option<String>,
    /// Drop the old one, if nothing needs it
    #[arg(long)]
    finish: bool,
    /// Do not ask, though the CA looks like one that was dropped
    #[arg(long)]
    yes: bool,
}

/// Trust one no more; refused while something needs it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine trust list
  trine trust remove 1f2e-3d4c-5b6a-7988-1f2e-3d4c-5b6a-7988")]
struct Remove {
    /// Its fingerprint, as `trine trust list` shows it
    fingerprint: String,
}

/// One vendor or CA, in every `trine trust … --json`.
#[derive(Debug, Clone, Serialize)]
struct Anchor {
    /// vendor or ca.
    kind: String,
    /// What it calls itself.
    name: String,
    /// For people to compare.
    fingerprint: String,
    /// 64 hexadecimal digits: of the root's key, or of the CA's certificate.
    digest: String,
    /// Installed licenses that stand on the vendor's root.
    licenses: Vec<String>,
    /// Nodes whose certificates are under the CA.
    nodes: Vec<u64>,
    /// When the CA's certificate ends, RFC 3339; null for a vendor.
    expires: Option<String>,
}

/// `trine trust list --json`
#[derive(Debug, Serialize)]
struct Listed {
    /// Vendors, then CAs.
    anchors: Vec<Anchor>,
}

/// `trine trust rotate --json`
#[derive(Debug, Serialize)]
struct Rotated {
    /// The one that stays.
    new: Anchor,
    /// Those that are still trusted and are to go; empty when it is done.
    old: Vec<Anchor>,
    /// waiting (something needs the old), ready (for --finish), done.
    state: &'static str,
    /// There was no old one, or it is gone already.
    #[serde(skip)]
    is_alone: bool,
}

/// `trine trust remove --json`
#[derive(Debug, Serialize)]
struct Removed {
    /// What was trusted until now.
    removed: Anchor,
}

impl Trust {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Operator).await?;
            match self.action {
                Action::List(List {}) => list(call, &connection).await,
                Action::Add(add) => add.run(call, &connection).await,
                Action::Rotate(rotate) => rotate.run(call, &connection).await,
                Action::Remove(remove) => remove.run(call, &connection).await,
            }
        })
    }
}

async fn list(call: &Call, connection: &Connection) -> Result<Exit, Failure> {
    let listed = Listed { anchors: anchors(connection).await? };
    call.console.result(&listed, |page| {
        page.table(
            &["kind", "name", "fingerprint", "needed by", "until"],
            listed.anchors.iter().map(|anchor| {
                vec![
                    anchor.kind.clone(),
                    anchor.name.clone(),
                    anchor.fingerprint.clone(),
                    anchor.needed_by().unwrap_or_else(|| "nothing".to_owned()),
                    anchor.expires.clone().unwrap_or_default(),
                ]
            }),
        );
    })?;
    Ok(Exit::Done)
}

impl Add {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let file = files::read("vendor root", &self.file, FILE_BYTES_MAX)?;
        // A CA that is added by a slip would let its people in.
        if !file.starts_with(b"TRINE") {
            return Err(Failure::usage(format!(
                "{} is no vendor's root file",
                self.file.display()
            ))
            .next("another CA of the cluster is trusted with `trine trust rotate`"));
        }
        let added = trust(connection, file).await?;
        call.console.result(&added, |page| {
            let title = format!("Licenses of {} may be installed", added.name);
            let title = page.tone(Tone::Strong, &title);
            page.line(title);
            page.facts(&[(
                "fingerprint",
                format!("{}  (compare it with the vendor)", added.fingerprint),
            )]);
        })?;
        Ok(Exit::Done)
    }
}

impl Rotate {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let file = files::read("new root or CA", &self.file, FILE_BYTES_MAX)?;
        self.confirm(call, &file, anchors(connection).await?)?;
        let new = trust(connection, file).await?;
        let mut old = self.old(&new, anchors(connection).await?)?;
        let is_needed = old.iter().any(|anchor| anchor.needed_by().is_some());
        let is_alone = old.is_empty();
        let state = match (is_alone, is_needed, self.finish) {
            (true, ..) => "done",
            (_, true, true) => {
                let needed = old.iter().filter_map(Anchor::needed_by).collect::<Vec<_>>();
                let what = format!("the old {} is still needed by {}", new.kind, needed.join(", "));
                return Err(Failure::refused("TRUST_REFUSED", what).next(next_step(&new.kind)));
            }
            (_, true, false) => "waiting",
            (_, false, false) => "ready",
            (_, false, true) => {
                for anchor in old.drain(..) {
                    distrust(connection, &anchor).await?;
                }
                "done"
            }
        };
        let rotated = Rotated { new, old, state, is_alone };
        call.console.result(&rotated, |page| rotated.show(page))?;
        Ok(Exit::Done)
    }

    /// Who takes back a CA that was dropped lets in everybody whom it certified.
    /// The cluster keeps no list of those; one that ends before the CA that is
    /// trusted now is most likely one of them.
    fn confirm(&self, call: &Call, file: &[u8], trusted: Vec<Anchor>) -> Result<(), Failure> {
        let name = self.file.display().to_string();
        let Ok(asked) = Summary::read(Pem::new(&name, file)) else { return Ok(()) };
        let ends = i64::try_from(asked.expires.as_secs()).unwrap_or(i64::MAX);
        let digest = asked.fingerprint.to_string();
        let Some(later) = ends_before(&digest, WallTime(ends.saturating_mul(1_000)), &trusted)
        else {
            return Ok(());
        };
        if self.yes {
            return Ok(());
        }
        let question = format!(
            "The CA {} ends before {}, which the cluster trusts now: is it an old one that was \
             dropped?\nTrusted again, it lets in everybody who has a certificate of it. Trust it?",
            fingerprint(&digest),
            later.fingerprint
        );
        call.console.confirm(&question, "add --yes if that is meant")
    }

    /// Which are to go.
    fn old(&self, new: &Anchor, all: Vec<Anchor>) -> Result<Vec<Anchor>, Failure> {
        let others = all.into_iter().filter(|one| one.kind == new.kind && one.digest != new.digest);
        if let Some(named) = &self.old {
            // One that is gone already: the rotation was finished before.
            return Ok(others.filter(|one| one.is(named)).collect());
        }
        Ok(match new.kind.as_str() {
            "vendor" => others.filter(|one| one.name == new.name).collect(),
            _ => others.collect(),
        })
    }
}

impl Remove {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let found = anchors(connection).await?.into_iter().find(|one| one.is(&self.fingerprint));
        let anchor = found.ok_or_else(|| {
            let what = format!("no vendor or CA of fingerprint {} is trusted", self.fingerprint);
            Failure::refused("UNKNOWN_ANCHOR", what).next("see `trine trust list`")
        })?;
        distrust(connection, &anchor).await?;
        let removed = Removed { removed: anchor };
        call.console.result(&removed, |page| {
            let Anchor { kind, name, .. } = &removed.removed;
            page.line(format_args!("The {kind} {name} is trusted no more"));
        })?;
        Ok(Exit::Done)
    }
}

impl Rotated {
    fn show(&self, page: &mut Page) {
        let title = match self.state {
            _ if self.is_alone => format!(
                "The {} {} is trusted, and no other that it could take the place of",
                self.new.kind, self.new.name
            ),
            "done" => {
                format!("The {} {} has taken the old one's place", self.new.kind, self.new.name)
            }
            _ => format!("The {} {} is trusted beside the old one", self.new.kind, self.new.name),
        };
        let title = page.tone(Tone::Strong, &title);
        page.line(title);
        page.facts(&[("new", self.new.fingerprint.clone())]);
        for old in &self.old {
            let needed = old.needed_by().unwrap_or_else(|| "nothing".to_owned());
            page.facts(&[("old", format!("{}  needed by {needed}", old.fingerprint))]);
        }
        match self.state {
            "waiting" => page.line(format_args!("Next: {}", next_step(&self.new.kind))),
            "ready" if self.new.kind == "ca" => page.line(
                "Ready, as far as the nodes are concerned: none of them needs the old CA, and the cluster cannot tell whether a client does.\nNext: give operators and applications certificates of the new CA, then run this again with --finish",
            ),
            "ready" => page.line("Ready: no license needs the old root.\nNext: run this again with --finish"),
            _ if self.is_alone && self.new.kind == "ca" => page.line(
                "If no rotation was finished before, this is the CA that the cluster has: give the new one",
            ),
            _ if self.is_alone => page.line(
                "If the vendor's old root has another name, say which with --old: see `trine trust list`",
            ),
            _ => {}
        }
    }
}

/// The trusted CA that outlives one of this digest and end, unless that is trusted too.
fn ends_before<'a>(digest: &str, end: WallTime, trusted: &'a [Anchor]) -> Option<&'a Anchor> {
    if trusted.iter().any(|anchor| anchor.is(digest)) {
        return None;
    }
    let outlives = |anchor: &&Anchor| {
        let theirs = anchor.expires.as_deref().and_then(|expires| parse_date(expires).ok());
        anchor.kind == "ca" && theirs.is_some_and(|theirs| theirs > end)
    };
    trusted.iter().find(outlives)
}

/// What has to happen before the old one may go.
fn next_step(kind: &str) -> &'static str {
    match kind {
        "ca" => {
            "give every client and balancer both CAs to believe, or they are cut off; then those nodes certificates of the new CA (`trine pki issue node N`, and `ca` under [tls]), which they take without a restart. Then run this again"
        }
        _ => {
            "ask the vendor to issue those licenses again under the new root, and install them. Then run this again"
        }
    }
}

impl Anchor {
    /// What would break without it, in words.
    fn needed_by(&self) -> Option<String> {
        let nodes = self.nodes.iter().map(|node| format!("node-{node}"));
        let needed: Vec<String> = nodes.chain(self.licenses.iter().cloned()).collect();
        (!needed.is_empty()).then(|| needed.join(", "))
    }

    fn is(&self, named: &str) -> bool {
        self.fingerprint.eq_ignore_ascii_case(named) || self.digest.eq_ignore_ascii_case(named)
    }
}

impl From<TrustAnchor> for Anchor {
    fn from(anchor: TrustAnchor) -> Self {
        let TrustAnchor { kind, digest, name, licenses, nodes, expires_ms } = anchor;
        let expires = expires_ms.map(|ms| show_date(WallTime(ms)));
        Self { fingerprint: fingerprint(&digest), kind, name, digest, licenses, nodes, expires }
    }
}

/// The first 16 of 32 bytes, as people compare them.
fn fingerprint(digest: &str) -> String {
    let digits: Vec<char> = digest.chars().take(32).collect();
    digits.chunks(4).map(|group| group.iter().collect::<String>()).collect::<Vec<_>>().join("-")
}

/// Everything that is trusted.
async fn anchors(connection: &Connection) -> Result<Vec<Anchor>, Failure> {
    let listed = connection.operator().list_trust().await;
    let anchors = listed.map_err(|error| connection.unread(&error))?.anchors;
    Ok(anchors.into_iter().map(Anchor::from).collect())
}

/// Trusts what the file holds; gives it as it is listed.
async fn trust(connection: &Connection, file: Vec<u8>) -> Result<Anchor, Failure> {
    let added = connection.operator().add_trust(file).await;
    let added = added.map_err(|error| connection.failed(&error))?;
    let listed = anchors(connection).await?.into_iter().find(|one| one.digest == added.digest);
    listed.ok_or_else(|| {
        Failure::failed("what was added was removed again by somebody else; see `trine trust list`")
    })
}

async fn distrust(connection: &Connection, anchor: &Anchor) -> Result<(), Failure> {
    let removed = connection.operator().remove_trust(&anchor.kind, &anchor.digest).await;
    removed.map(drop).map_err(|error| connection.failed(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ca(digest: &str, expires: &str) -> Anchor {
        let (kind, digest) = ("ca".to_owned(), digest.to_owned());
        let (fingerprint, expires) = (fingerprint(&digest), Some(expires.to_owned()));
        let (name, licenses, nodes) = (String::new(), Vec::new(), Vec::new());
        Anchor { kind, name, fingerprint, digest, licenses, nodes, expires }
    }

    #[test]
    fn a_ca_that_was_dropped_is_not_taken_back_without_a_question() {
        let now = [ca("bb", "2037-01-01T00:00:00Z")];
        let end = |text: &str| parse_date(text).expect("a date");
        let earlier = ends_before("aa", end("2036-01-01"), &now);
        assert_eq!(earlier.map(|anchor| &*anchor.digest), Some("bb"));
        assert!(ends_before("aa", end("2038-01-01"), &now).is_none(), "a new one");
        assert!(ends_before("bb", end("2036-01-01"), &now).is_none(), "trusted already");
        let vendor = Anchor { kind: "vendor".to_owned(), ..now[0].clone() };
        assert!(ends_before("aa", end("2036-01-01"), &[vendor]).is_none());
    }
}
