//! What can go wrong, and what is known of the outcome when it does.
//!
//! Three words, never mixed up: *refused* (the ledger decided against it),
//! *not done* (it never reached the ledger) and *unknown* (it may or may not
//! have been done).

use std::fmt;

use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::connection::ConnectionError;
use crate::lease::{InvalidRequest, LeaseId, LogPlace};

/// What is known of a call that did not succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Definitely not done, by decision of the ledger.
    Refused,
    /// Definitely not done: it never reached the ledger.
    NotDone,
    /// It may or may not have been done.
    Unknown,
}

macro_rules! reasons {
    ($($(#[doc = $doc:literal])* $name:ident $wire:literal,)*) => {
        /// Why a call did not succeed. Stable; match on it.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        #[non_exhaustive]
        pub enum Reason {
            $($(#[doc = $doc])* $name,)*
            /// A reason this version of the library does not know; the message says more.
            Other,
        }

        impl Reason {
            /// The name on the wire, such as `NO_SEAT_FREE`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$name => $wire,)*
                    Self::Other => "OTHER",
                }
            }

            fn from_wire(text: &str) -> Self {
                match text {
                    $($wire => Self::$name,)*
                    _ => Self::Other,
                }
            }
        }
    };
}

reasons! {
    /// All seats are taken.
    NoSeatFree "NO_SEAT_FREE",
    /// The product's queue is at its limit.
    QueueFull "QUEUE_FULL",
    /// This subject is at its limit of seats and waits.
    TooManySeats "TOO_MANY_SEATS",
    /// The ledger is at one of its limits.
    LedgerFull "LEDGER_FULL",
    /// The server has too much to do just now.
    Overloaded "OVERLOADED",
    /// No license names the product.
    UnknownProduct "UNKNOWN_PRODUCT",
    /// No such live lease for this caller.
    NoSuchLease "NO_SUCH_LEASE",
    /// No such live seat.
    NoSuchSeat "NO_SUCH_SEAT",
    /// No such license.
    UnknownLicense "UNKNOWN_LICENSE",
    /// No such node in this cluster.
    UnknownNode "UNKNOWN_NODE",
    /// Fewer than two shares of the license are live.
    SharesMissing "SHARES_MISSING",
    /// The license's activation time has not come.
    NotYetActive "NOT_YET_ACTIVE",
    /// The license's expiration time has passed.
    LicenseExpired "LICENSE_EXPIRED",
    /// The license does not cover the version asked for.
    VersionTooHigh "VERSION_TOO_HIGH",
    /// Licensed once per station, and the station holds one.
    StationHolds "STATION_HOLDS",
    /// The license behind the lease ended.
    LicenseGone "LICENSE_GONE",
    /// The lease ended.
    LeaseEnded "LEASE_ENDED",
    /// An operator revoked the seat.
    SeatRevoked "SEAT_REVOKED",
    /// The license package does not hold.
    PackageRefused "PACKAGE_REFUSED",
    /// The clock reset does not hold; the message says why.
    ClockResetRefused "CLOCK_RESET_REFUSED",
    /// The license is at another serial.
    OtherSerial "OTHER_SERIAL",
    /// The token already stands for another application or date.
    TokenInUse "TOKEN_IN_USE",
    /// The cluster is not formed yet.
    NotFormed "NOT_FORMED",
    /// The cluster is formed already.
    AlreadyFormed "ALREADY_FORMED",
    /// Whom the cluster trusts stays as it is.
    TrustRefused "TRUST_REFUSED",
    /// The cluster CA does not vouch for a node's container.
    NotEnrolled "NOT_ENROLLED",
    /// A backup is being restored into the cluster.
    Restoring "RESTORING",
    /// The cluster was restored from a backup and grants nothing yet.
    Restored "RESTORED",
    /// A backup is not restored, or not here.
    RestoreRefused "RESTORE_REFUSED",
    /// The cluster is below the feature level that this needs.
    LevelTooLow "LEVEL_TOO_LOW",
    /// The feature level is never lowered.
    LevelNeverFalls "LEVEL_NEVER_FALLS",
    /// A node is silent, so nobody knows what it runs.
    BuildUnknown "BUILD_UNKNOWN",
    /// A node's build does not know the feature level.
    BuildTooOld "BUILD_TOO_OLD",
    /// No seat came free in time.
    WaitedInVain "WAITED_IN_VAIN",
    /// The request arrived after its own not-after.
    TooLate "TOO_LATE",
    /// The server does not know what became of the request.
    OutcomeUnknown "OUTCOME_UNKNOWN",
    /// Fewer than two nodes can reach one another.
    NoQuorum "NO_QUORUM",
    /// The license is not yet signed for the leader's term; a moment's matter.
    TermUnsigned "TERM_UNSIGNED",
    /// Another node leads.
    NotLeader "NOT_LEADER",
    /// The leader changed while the request was on its way.
    LeaderChanged "LEADER_CHANGED",
    /// Two nodes' ledgers differ and no third one decides; nothing is granted.
    LedgersDiffer "LEDGERS_DIFFER",
    /// A node was restored from a backup and the leader is from before; nothing is
    /// granted or renewed.
    EpochsDiffer "EPOCHS_DIFFER",
    /// The leader has just started and asks the others whether the cluster was
    /// restored meanwhile; a moment's matter.
    EpochsUnknown "EPOCHS_UNKNOWN",
    /// The server is still fetching the history from the others.
    HistoryIncomplete "HISTORY_INCOMPLETE",
    /// The server's disk lost or altered a page of the history.
    HistoryDamaged "HISTORY_DAMAGED",
    /// The server is shutting down.
    Draining "DRAINING",
    /// The request breaks a rule.
    Invalid "INVALID",
    /// The request's time is too far ahead of cluster time.
    TooFarAhead "TOO_FAR_AHEAD",
    /// The request id was used with other contents.
    IdReused "ID_REUSED",
    /// A cluster has three distinct nodes and containers of one act id.
    NotThree "NOT_THREE",
    /// A proof does not verify.
    ProofInvalid "PROOF_INVALID",
    /// The signature of a license for a term does not verify.
    TermSignatureInvalid "TERM_SIGNATURE_INVALID",
    /// A share that is withdrawn or not proved signed for a license.
    SignerNotInService "SIGNER_NOT_IN_SERVICE",
    /// The heartbeat was sent before.
    HeartbeatStale "HEARTBEAT_STALE",
    /// A node is not replaced, or not like this.
    ReplacementRefused "REPLACEMENT_REFUSED",
    /// A share is not made again.
    RepairRefused "REPAIR_REFUSED",
    /// The server does not know the call; it may be older than its caller.
    UnknownCall "UNKNOWN_CALL",
    /// The caller proved no identity.
    NoIdentity "NO_IDENTITY",
    /// An operator revoked the caller's certificate.
    CertificateRevoked "CERTIFICATE_REVOKED",
    /// The caller's role does not allow the call.
    WrongRole "WRONG_ROLE",
    /// The request was withdrawn.
    Withdrawn "WITHDRAWN",
    /// No connection: nothing was sent.
    Unreachable "UNREACHABLE",
    /// This client does not accept the server's certificate, or no TLS connection
    /// came about: nothing was done.
    Untrusted "UNTRUSTED",
    /// The server does not accept this client's certificate: nothing was done.
    CertificateRefused "CERTIFICATE_REFUSED",
    /// The request was sent and no answer came in time.
    NoAnswer "NO_ANSWER",
    /// The connection broke after the request was sent.
    ConnectionLost "CONNECTION_LOST",
    /// The answer makes no sense.
    BadAnswer "BAD_ANSWER",
}

impl Reason {
    /// Whether credentials or role are the matter, and asking again is no use.
    pub fn is_not_allowed(self) -> bool {
        self == Self::Untrusted || self.is_about_the_caller()
    }

    /// Whether it is the server's verdict on who asks.
    pub fn is_about_the_caller(self) -> bool {
        matches!(
            self,
            Self::NoIdentity
                | Self::CertificateRevoked
                | Self::CertificateRefused
                | Self::WrongRole
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One unsuccessful answer, or the lack of one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What is known of the outcome.
    pub outcome: Outcome,
    /// Why.
    pub reason: Reason,
    /// For people: what happened, to what, what to do next.
    pub message: String,
    /// Where in history a refusal was decided.
    pub at: Option<LogPlace>,
    /// Where the leading node is said to be.
    pub leader: Option<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.reason)
    }
}

impl Failure {
    pub(crate) fn new(outcome: Outcome, reason: Reason, message: impl Into<String>) -> Self {
        Self { outcome, reason, message: message.into(), at: None, leader: None }
    }

    /// Reads a gRPC status as `licensing.proto` documents it.
    pub(crate) fn from_status(status: &Status) -> Self {
        match status.get_details_error_info() {
            Some(info) if info.domain == wire::ERROR_DOMAIN => {
                let field = |key: &str| info.metadata.get(key).map(String::as_str);
                let reason = Reason::from_wire(&info.reason);
                let outcome = match field("outcome") {
                    Some("refused") => Outcome::Refused,
                    Some("not-done") => Outcome::NotDone,
                    _ => Outcome::Unknown,
                };
                Self {
                    outcome,
                    reason,
                    message: status.message().to_owned(),
                    at: LogPlace::from_metadata(field("log_id"), field("stamp_ms")),
                    leader: field("leader").filter(|leader| !leader.is_empty()).map(str::to_owned),
                }
            }
            _ => Self::from_bare_status(status),
        }
    }

    /// A status that none of our servers wrote: the transport's, or a proxy's.
    fn from_bare_status(status: &Status) -> Self {
        if let Some(broken) = find::<ConnectionError>(status) {
            return broken.failure();
        }
        let (outcome, reason) = match status.code() {
            Code::Unauthenticated => (Outcome::NotDone, Reason::NoIdentity),
            Code::PermissionDenied => (Outcome::NotDone, Reason::WrongRole),
            // The call was turned away before it was read.
            Code::Unimplemented => (Outcome::NotDone, Reason::Invalid),
            _ => (Outcome::Unknown, Reason::ConnectionLost),
        };
        Self::new(outcome, reason, describe(status))
    }

    pub(crate) fn bad_answer(what: &str) -> Self {
        let message = format!("the server's answer makes no sense: {what}; is it another version?");
        Self::new(Outcome::Unknown, Reason::BadAnswer, message)
    }
}

/// The first error of type `E` in a chain of sources.
pub(crate) fn find<'e, E: std::error::Error + 'static>(
    error: &'e (dyn std::error::Error + 'static),
) -> Option<&'e E> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // An io::Error hides what it wraps from `source`.
        if let Some(inner) = error.downcast_ref::<std::io::Error>().and_then(|e| e.get_ref())
            && let Some(found) = inner.downcast_ref()
        {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// An error with its causes on one line.
pub(crate) fn describe(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        next = cause.source();
    }
    text
}

/// Why a renewal, a release, a cancel or an operator's call did not succeed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Definitely not done, by decision of the ledger.
    #[error("{0}")]
    Refused(Failure),
    /// Definitely not done: it never reached the ledger.
    #[error("{0}")]
    NotDone(Failure),
    /// It may or may not have been done. Asking again is harmless.
    #[error("it is not known whether the request was carried out: {0}")]
    Unknown(Failure),
}

impl CallError {
    /// The last answer behind this error.
    pub fn failure(&self) -> &Failure {
        match self {
            Self::Refused(failure) | Self::NotDone(failure) | Self::Unknown(failure) => failure,
        }
    }

    /// Why.
    pub fn reason(&self) -> Reason {
        self.failure().reason
    }
}

impl From<Failure> for CallError {
    fn from(failure: Failure) -> Self {
        match failure.outcome {
            Outcome::Refused => Self::Refused(failure),
            Outcome::NotDone => Self::NotDone(failure),
            Outcome::Unknown => Self::Unknown(failure),
        }
    }
}

/// Why no seat was taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AcquireError {
    /// The request breaks a rule and was not sent.
    #[error(transparent)]
    Invalid(#[from] InvalidRequest),
    /// The ledger decided against it; no seat is held.
    #[error("{0}")]
    Refused(Failure),
    /// It never reached the ledger; no seat is held.
    #[error("{0}")]
    NotDone(Failure),
    /// It was granted, and the lease ended before the answer arrived.
    #[error("the seat was granted, and {how} before the answer arrived; take a new one")]
    Ended {
        /// How it ended, as a past tense: `released`, `expired`, `revoked`.
        how: &'static str,
    },
    /// It may or may not have been granted. The library is withdrawing it in the
    /// background; if that fails too, the seat ends by its TTL.
    #[error(
        "it is not known whether a seat was granted, so the request is being withdrawn: {failure}"
    )]
    Unknown {
        /// The request.
        lease: LeaseId,
        /// The last answer.
        failure: Failure,
    },
}

impl AcquireError {
    /// The last answer behind this error, if there was one.
    pub fn failure(&self) -> Option<&Failure> {
        match self {
            Self::Refused(failure) | Self::NotDone(failure) | Self::Unknown { failure, .. } => {
                Some(failure)
            }
            Self::Invalid(_) | Self::Ended { .. } => None,
        }
    }

    /// Why, as a stable reason.
    pub fn reason(&self) -> Reason {
        match self {
            Self::Invalid(_) => Reason::Invalid,
            Self::Ended { .. } => Reason::LeaseEnded,
            Self::Refused(failure) | Self::NotDone(failure) | Self::Unknown { failure, .. } => {
                failure.reason
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    fn status<const N: usize>(
        code: Code,
        reason: &str,
        domain: &str,
        metadata: [(&str, &str); N],
    ) -> Status {
        let metadata = metadata.map(|(key, value)| (key.to_owned(), value.to_owned()));
        let details = ErrorDetails::with_error_info(reason, domain, metadata);
        Status::with_error_details(code, "words", details)
    }

    #[test]
    fn a_refusal_keeps_its_place_in_history() {
        let status = status(
            Code::ResourceExhausted,
            "NO_SEAT_FREE",
            "trine",
            [("outcome", "refused"), ("log_id", "0.17.3"), ("stamp_ms", "4200")],
        );
        let failure = Failure::from_status(&status);
        assert_eq!((failure.outcome, failure.reason), (Outcome::Refused, Reason::NoSeatFree));
        let place = LogPlace { epoch: 0, index: 17, position: 3, stamp_ms: 4_200 };
        assert_eq!(failure.at, Some(place));
    }

    #[test]
    fn an_outcome_that_is_not_told_is_unknown() {
        let told = status(Code::Unavailable, "NO_QUORUM", "trine", []);
        assert_eq!(Failure::from_status(&told).outcome, Outcome::Unknown);
        let strange = status(Code::Unavailable, "NO_QUORUM", "elsewhere", [("outcome", "refused")]);
        assert_eq!(Failure::from_status(&strange).outcome, Outcome::Unknown);
    }

    #[test]
    fn a_reason_from_the_future_is_other() {
        let new = status(Code::Unavailable, "NEWER", "trine", [("outcome", "not-done")]);
        let failure = Failure::from_status(&new);
        assert_eq!((failure.outcome, failure.reason), (Outcome::NotDone, Reason::Other));
    }
}
