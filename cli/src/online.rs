//! Speaking with a cluster: the client for a target, and its failures as ours.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use trine_client::observe::Observer;
use trine_client::{AcquireError, CallError, Client, Operator, Options, Outcome, Reason};

use crate::args::Global;
use crate::context::{Credential, Purpose, Target};
use crate::failure::Failure;

/// How long the shares of a new license may take to be proved and to sign. They
/// take a fraction of a second when the nodes are up.
pub const SERVING_MAX: Duration = Duration::from_secs(15);

/// The runtime of a command that is not a server.
pub fn runtime() -> Result<Runtime, Failure> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))
}

/// Does `what` unless Ctrl-C comes first; either way the caller cleans up.
pub async fn until_interrupted<T>(
    what: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    tokio::select! {
        done = what => done,
        interrupted = tokio::signal::ctrl_c() => {
            interrupted.map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
            Err(Failure::signalled(2, "interrupted"))
        }
    }
}

/// A client and where it was sent.
#[derive(Debug)]
pub struct Connection {
    /// Whom it asks, and as whom.
    pub target: Target,
    /// The client.
    pub client: Client,
}

impl Connection {
    /// Finds the cluster for a command. Nothing is sent yet.
    pub async fn find(global: &Global, purpose: Purpose) -> Result<Self, Failure> {
        Self::to(Target::resolve(global, purpose)?).await
    }

    /// A client of `target`.
    pub async fn to(target: Target) -> Result<Self, Failure> {
        let options = options(&target)?;
        Self::with(target, options).await
    }

    /// A client of `target` that gives every try so long to be answered.
    pub async fn patient(target: Target, answer_within: Duration) -> Result<Self, Failure> {
        let options = options(&target)?.answer_within(answer_within);
        Self::with(target, options).await
    }

    /// A client of `target` whose every attempt and answer `observer` hears of.
    pub async fn observed(target: Target, observer: Arc<dyn Observer>) -> Result<Self, Failure> {
        let options = options(&target)?.observer(observer);
        Self::with(target, options).await
    }

    async fn with(target: Target, options: Options) -> Result<Self, Failure> {
        let client = Client::connect(options).await.map_err(Failure::usage)?;
        Ok(Self { target, client })
    }

    /// What operators may do.
    pub fn operator(&self) -> Operator {
        self.client.operator()
    }

    /// Waits until this very update of a license serves: until two shares of it
    /// have been proved and have signed for the term. Gives the reason if it
    /// does not within `patience`.
    pub async fn serving(
        &self,
        license: &str,
        serial: u64,
        patience: Duration,
    ) -> Result<Option<String>, Failure> {
        let deadline = tokio::time::Instant::now() + patience;
        loop {
            let status = self.operator().status().await.map_err(|error| self.unread(&error))?;
            let reason = match status.licenses.into_iter().find(|found| found.id == license) {
                Some(found) if found.serving && found.serial == serial => return Ok(None),
                Some(found) if found.serial != serial => {
                    format!("serial {} still does", found.serial)
                }
                Some(found) => found.reason,
                None => "it is not listed".to_owned(),
            };
            if tokio::time::Instant::now() >= deadline {
                return Ok(Some(reason));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// The numbers of the seats that the ledger lists for `product`.
    pub async fn listed_seats(&self, product: &str) -> Result<BTreeSet<u64>, Failure> {
        let listed = self.operator().seats(Some(product)).await;
        let listed = listed.map_err(|error| self.unread(&error))?;
        Ok(listed.seats.iter().map(|seat| seat.seat).collect())
    }

    /// A failed call as a failed command, with what to do next.
    pub fn failed(&self, error: &CallError) -> Failure {
        let what = error.failure();
        let failure = match error {
            CallError::Unknown(_) => translate(what.outcome, what.reason, error),
            CallError::Refused(_) | CallError::NotDone(_) => {
                translate(what.outcome, what.reason, &what.message)
            }
        };
        self.hint(what.reason, failure)
    }

    /// The same of a call that only reads: nothing is in doubt but the answer.
    pub fn unread(&self, error: &CallError) -> Failure {
        let what = error.failure();
        self.hint(what.reason, translate(what.outcome, what.reason, &what.message))
    }

    /// A seat that was not taken as a failed command, with what to do next.
    pub fn not_acquired(&self, error: &AcquireError) -> Failure {
        let reason = error.reason();
        let failure = match error {
            AcquireError::Invalid(_) => Failure::usage(error),
            AcquireError::Ended { .. } => Failure::refused(reason.as_str(), error),
            AcquireError::Refused(what) | AcquireError::NotDone(what) => {
                translate(what.outcome, reason, &what.message)
            }
            AcquireError::Unknown { failure: what, .. } => translate(what.outcome, reason, error),
        };
        self.hint(reason, failure)
    }

    fn hint(&self, reason: Reason, failure: Failure) -> Failure {
        // Many of the server's messages say the next step themselves.
        if failure.to_string().contains("`trine ") {
            return failure;
        }
        let asked: Vec<String> = self.target.hosts.iter().map(ToString::to_string).collect();
        match reason {
            Reason::Unreachable => match &self.target.development {
                Some(dir) => failure.next(format!(
                    "is the development cluster up? start it with `trine up --dir {}`",
                    dir.display()
                )),
                None => {
                    failure.next(format!("asked {}; see --host and TRINE_HOST", asked.join(", ")))
                }
            },
            Reason::NoQuorum => failure.next("`trine cluster doctor` says which nodes are away"),
            Reason::SharesMissing => {
                failure.next("see `trine cluster status` for which shares are live")
            }
            Reason::IdReused => failure.next(
                "to repeat an earlier request, repeat everything, its --not-after too: an id alone makes another request of it",
            ),
            Reason::NoSeatFree => {
                failure.next("see `trine seats` for who holds them, or wait with --wait 5m")
            }
            Reason::UnknownProduct => {
                failure.next("see `trine license list` for the products there are")
            }
            Reason::LicenseExpired => failure.next(
                "that is by the cluster's own date, which `trine cluster status` shows; if it is not today's, `trine cluster doctor` says whose clock is wrong",
            ),
            // Who takes seats must not be led to form a cluster that waits for a restore.
            Reason::NotFormed => failure
                .next("ask whoever runs the cluster; `trine cluster doctor` says how it goes on"),
            Reason::WrongRole => failure
                .next("use another identity: operators run the cluster, applications take seats"),
            _ => failure,
        }
    }
}

fn translate(outcome: Outcome, reason: Reason, message: impl std::fmt::Display) -> Failure {
    let name = reason.as_str();
    if reason.is_not_allowed() {
        return Failure::not_allowed(name, message);
    }
    match (reason, outcome) {
        (Reason::Invalid, _) => Failure::usage(message),
        (Reason::BadAnswer, _) => Failure::failed(message),
        (Reason::HistoryDamaged, _) => Failure::unsound(name, message),
        // Not a decision about what was asked: how the cluster is at this moment.
        (
            Reason::NoQuorum
            | Reason::TermUnsigned
            | Reason::NotLeader
            | Reason::LeaderChanged
            | Reason::LedgersDiffer
            | Reason::EpochsDiffer
            | Reason::EpochsUnknown
            | Reason::HistoryIncomplete
            | Reason::Draining
            | Reason::Overloaded
            | Reason::Unreachable,
            _,
        ) => Failure::unreachable(name, message),
        (_, Outcome::Refused) => Failure::refused(name, message),
        (_, Outcome::Unknown) => Failure::unreachable(name, message),
        (_, Outcome::NotDone) => Failure::refused(name, message),
    }
}

fn options(target: &Target) -> Result<Options, Failure> {
    let text = |path: &std::path::Path| path.to_string_lossy().into_owned();
    let hosts: Vec<String> = target.hosts.iter().map(ToString::to_string).collect();
    let find = |name: &str| match (name, &target.credential) {
        ("TRINE_HOST", _) => Some(hosts.join(",")),
        ("TRINE_CA", _) => Some(text(&target.ca)),
        ("TRINE_CERT", Credential::Certificate(pair)) => Some(text(&pair.cert)),
        ("TRINE_KEY", Credential::Certificate(pair)) => Some(text(&pair.key)),
        ("TRINE_TOKEN_FILE", Credential::TokenFile(path)) => Some(text(path)),
        _ => None,
    };
    Options::from_vars(find).map_err(Failure::usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;

    #[test]
    fn exit_codes_tell_a_no_from_nobody_there() {
        let exit = |outcome, reason| translate(outcome, reason, "").exit();
        assert_eq!(exit(Outcome::Refused, Reason::NoSeatFree), Exit::Refused);
        assert_eq!(exit(Outcome::Refused, Reason::SharesMissing), Exit::Refused);
        assert_eq!(exit(Outcome::NotDone, Reason::NotFormed), Exit::Refused);
        assert_eq!(exit(Outcome::NotDone, Reason::NoQuorum), Exit::Unreachable);
        assert_eq!(exit(Outcome::NotDone, Reason::Unreachable), Exit::Unreachable);
        assert_eq!(exit(Outcome::Unknown, Reason::NoAnswer), Exit::Unreachable);
        assert_eq!(exit(Outcome::NotDone, Reason::WrongRole), Exit::NotAllowed);
        assert_eq!(exit(Outcome::NotDone, Reason::HistoryIncomplete), Exit::Unreachable);
        assert_eq!(exit(Outcome::NotDone, Reason::HistoryDamaged), Exit::Unsound);
        assert_eq!(exit(Outcome::NotDone, Reason::Invalid), Exit::Usage);
    }
}
