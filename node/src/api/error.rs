//! What the caller hears when the answer is no: the one place where refusals
//! and failures become gRPC statuses. The table is in `licensing.proto`.

use ledger::command::{GenesisRefusal, LogId, Refusal};
use ledger::time::ClusterTime;
use license::product::{InvalidName, NodeId};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, ErrorInfo, StatusExt};

use crate::answer::NotAnswered;
use crate::formation::FormationError;
use crate::handover::NotHandedOver;
use crate::identity::{NoCaller, Role};
use crate::replace::ReplaceError;

/// Decided by the ledger.
const REFUSED: &str = "refused";
/// Never reached the ledger.
const NOT_DONE: &str = "not-done";
/// One of the two, or done.
const UNKNOWN: &str = "unknown";

/// A status, and the reason it is counted under.
#[derive(Debug)]
pub(super) struct No {
    /// What goes over the wire.
    pub(super) status: Status,
    /// The stable reason inside it.
    pub(super) reason: &'static str,
    /// Where the answer was found.
    pub(super) outcome: &'static str,
}

impl No {
    fn new<const N: usize>(
        (code, reason): (Code, &'static str),
        message: impl Into<String>,
        outcome: &'static str,
        metadata: [(&str, String); N],
    ) -> Self {
        let mut info = ErrorInfo::new(reason, wire::ERROR_DOMAIN, metadata.map(owned));
        info.metadata.extend([owned(("outcome", outcome))]);
        let details = ErrorDetails::with_error_info(info.reason, info.domain, info.metadata);
        let status = Status::with_error_details(code, message, details);
        Self { status, reason, outcome }
    }

    /// Whether the caller was told that it may have been done.
    pub(super) fn is_unknown(&self) -> bool {
        self.outcome == UNKNOWN
    }

    /// Whether the ledger decided it, and so counted it.
    pub(super) fn is_refusal(&self) -> bool {
        self.outcome == REFUSED
    }
}

fn owned((key, value): (&str, impl Into<String>)) -> (String, String) {
    (key.to_owned(), value.into())
}

/// Code and reason of a refusal.
pub(super) fn verdict(refusal: &Refusal) -> (Code, &'static str) {
    // No wildcard: a new refusal must find its place in the table of licensing.proto.
    match refusal {
        Refusal::NoSeatFree { .. } => (Code::ResourceExhausted, "NO_SEAT_FREE"),
        Refusal::QueueFull { .. } => (Code::ResourceExhausted, "QUEUE_FULL"),
        Refusal::TooManySeats { .. } => (Code::ResourceExhausted, "TOO_MANY_SEATS"),
        Refusal::LedgerFull { .. } => (Code::ResourceExhausted, "LEDGER_FULL"),
        Refusal::UnknownProduct { .. } => (Code::NotFound, "UNKNOWN_PRODUCT"),
        Refusal::NoSuchLease => (Code::NotFound, "NO_SUCH_LEASE"),
        Refusal::NoSuchSeat { .. } => (Code::NotFound, "NO_SUCH_SEAT"),
        Refusal::UnknownLicense { .. } => (Code::NotFound, "UNKNOWN_LICENSE"),
        Refusal::UnknownNode { .. } => (Code::NotFound, "UNKNOWN_NODE"),
        Refusal::SharesMissing { .. } => (Code::FailedPrecondition, "SHARES_MISSING"),
        Refusal::NotYetActive { .. } => (Code::FailedPrecondition, "NOT_YET_ACTIVE"),
        Refusal::LicenseExpired { .. } => (Code::FailedPrecondition, "LICENSE_EXPIRED"),
        Refusal::VersionTooHigh { .. } => (Code::FailedPrecondition, "VERSION_TOO_HIGH"),
        Refusal::StationHolds { .. } => (Code::FailedPrecondition, "STATION_HOLDS"),
        Refusal::LicenseGone { .. } => (Code::FailedPrecondition, "LICENSE_GONE"),
        Refusal::LeaseEnded { .. } => (Code::FailedPrecondition, "LEASE_ENDED"),
        Refusal::SeatRevoked { .. } => (Code::FailedPrecondition, "SEAT_REVOKED"),
        Refusal::OtherSerial { .. } => (Code::FailedPrecondition, "OTHER_SERIAL"),
        Refusal::TokenInUse { .. } => (Code::FailedPrecondition, "TOKEN_IN_USE"),
        Refusal::Trust(_) => (Code::FailedPrecondition, "TRUST_REFUSED"),
        Refusal::Replacement(_) => (Code::FailedPrecondition, "REPLACEMENT_REFUSED"),
        Refusal::Repair(_) => (Code::FailedPrecondition, "REPAIR_REFUSED"),
        Refusal::Package(_) => (Code::FailedPrecondition, "PACKAGE_REFUSED"),
        Refusal::ClockReset(_) => (Code::FailedPrecondition, "CLOCK_RESET_REFUSED"),
        Refusal::Genesis(GenesisRefusal::NotFormed) => (Code::FailedPrecondition, "NOT_FORMED"),
        Refusal::Genesis(GenesisRefusal::AlreadyFormed) => {
            (Code::FailedPrecondition, "ALREADY_FORMED")
        }
        Refusal::Genesis(GenesisRefusal::Restoring) => (Code::FailedPrecondition, "RESTORING"),
        Refusal::Restored { .. } => (Code::FailedPrecondition, "RESTORED"),
        Refusal::Restore(_) => (Code::FailedPrecondition, "RESTORE_REFUSED"),
        Refusal::WaitedInVain { .. } => (Code::DeadlineExceeded, "WAITED_IN_VAIN"),
        Refusal::TooLate { .. } => (Code::DeadlineExceeded, "TOO_LATE"),
        Refusal::TermUnsigned { .. } => (Code::Unavailable, "TERM_UNSIGNED"),
        Refusal::StaleStamp => (Code::Unavailable, "LEADER_CHANGED"),
        Refusal::TooFarAhead { .. } => (Code::InvalidArgument, "TOO_FAR_AHEAD"),
        Refusal::IdReused => (Code::InvalidArgument, "ID_REUSED"),
        Refusal::Withdrawn => (Code::Aborted, "WITHDRAWN"),
        Refusal::Genesis(GenesisRefusal::TooMuchTrust) => (Code::InvalidArgument, "TOO_MUCH_TRUST"),
        Refusal::Genesis(GenesisRefusal::NotThree) => (Code::InvalidArgument, "NOT_THREE"),
        Refusal::ProofInvalid { .. } => (Code::InvalidArgument, "PROOF_INVALID"),
        Refusal::TermSignatureInvalid { .. } => (Code::InvalidArgument, "TERM_SIGNATURE_INVALID"),
        Refusal::SignerNotInService { .. } => (Code::FailedPrecondition, "SIGNER_NOT_IN_SERVICE"),
        Refusal::HeartbeatStale { .. } => (Code::InvalidArgument, "HEARTBEAT_STALE"),
        Refusal::LevelTooLow { .. } => (Code::FailedPrecondition, "LEVEL_TOO_LOW"),
        Refusal::LevelNeverFalls { .. } => (Code::FailedPrecondition, "LEVEL_NEVER_FALLS"),
        Refusal::BuildUnknown { .. } => (Code::FailedPrecondition, "BUILD_UNKNOWN"),
        Refusal::BuildTooOld { .. } => (Code::FailedPrecondition, "BUILD_TOO_OLD"),
    }
}

/// The ledger refused.
pub(super) fn refused(refusal: &Refusal, log_id: LogId, stamp: ClusterTime) -> No {
    let place = [("log_id", log_id.to_string()), ("stamp_ms", stamp.0.to_string())];
    No::new(verdict(refusal), refusal.to_string(), REFUSED, place)
}

/// The ledger would refuse, and was not asked.
pub(super) fn refused_here(refusal: &Refusal) -> No {
    No::new(verdict(refusal), refusal.to_string(), NOT_DONE, [])
}

/// There is no reply of the ledger.
pub(super) fn not_answered(why: &NotAnswered) -> No {
    let message = why.to_string();
    match why {
        NotAnswered::NoQuorum { .. } => {
            No::new((Code::Unavailable, "NO_QUORUM"), message, NOT_DONE, [])
        }
        NotAnswered::NotLeader { leader: Some(leader) } => {
            let leader = [
                ("leader", leader.client_address.clone()),
                ("leader_node", leader.node.to_string()),
            ];
            No::new((Code::Unavailable, "NOT_LEADER"), message, NOT_DONE, leader)
        }
        NotAnswered::NotLeader { leader: None } => {
            No::new((Code::Unavailable, "NOT_LEADER"), message, NOT_DONE, [])
        }
        NotAnswered::LeaderChanged => {
            No::new((Code::Unavailable, "LEADER_CHANGED"), message, NOT_DONE, [])
        }
        NotAnswered::LedgersDiffer { .. } => {
            No::new((Code::Unavailable, "LEDGERS_DIFFER"), message, NOT_DONE, [])
        }
        NotAnswered::EpochsDiffer { .. } => {
            No::new((Code::Unavailable, "EPOCHS_DIFFER"), message, NOT_DONE, [])
        }
        NotAnswered::EpochsUnknown => {
            No::new((Code::Unavailable, "EPOCHS_UNKNOWN"), message, NOT_DONE, [])
        }
        NotAnswered::Overloaded => {
            No::new((Code::ResourceExhausted, "OVERLOADED"), message, NOT_DONE, [])
        }
        NotAnswered::Draining => No::new((Code::Unavailable, "DRAINING"), message, NOT_DONE, []),
        NotAnswered::NotFormed => {
            No::new((Code::FailedPrecondition, "NOT_FORMED"), message, NOT_DONE, [])
        }
        NotAnswered::LevelTooLow { .. } => {
            No::new((Code::FailedPrecondition, "LEVEL_TOO_LOW"), message, NOT_DONE, [])
        }
        NotAnswered::Unknown { .. } => {
            No::new((Code::DeadlineExceeded, "OUTCOME_UNKNOWN"), message, UNKNOWN, [])
        }
    }
}

/// This node installed a snapshot and is still fetching the history behind it.
pub(super) fn history_incomplete(from: u64, until: u64) -> No {
    let message = format!(
        "this node is still fetching pages {from} to {} of the history from the others; ask again in a moment",
        until.saturating_sub(1)
    );
    No::new((Code::Unavailable, "HISTORY_INCOMPLETE"), message, NOT_DONE, [])
}

/// This node's disk does not give back a page that was written.
pub(super) fn history_damaged(node: NodeId, why: &std::io::Error) -> No {
    let message = format!(
        "{node} cannot read its history: {why}; the others have the page: stop this node, check its disk and replace it (`trine cluster replace`)"
    );
    No::new((Code::DataLoss, "HISTORY_DAMAGED"), message, NOT_DONE, [])
}

/// The cluster was not formed, or its request not made.
pub(super) fn not_formed(why: &FormationError) -> No {
    let message = why.to_string();
    match why {
        FormationError::AlreadyFormed => {
            No::new((Code::FailedPrecondition, "ALREADY_FORMED"), message, NOT_DONE, [])
        }
        FormationError::MemberMissing { .. }
        | FormationError::NotCleared
        | FormationError::Raft(_) => {
            No::new((Code::Unavailable, "NO_QUORUM"), message, NOT_DONE, [])
        }
        FormationError::Newcomer { .. } => {
            No::new((Code::FailedPrecondition, "REPLACEMENT_REFUSED"), message, NOT_DONE, [])
        }
        FormationError::NotVouched(_) => {
            No::new((Code::FailedPrecondition, "NOT_ENROLLED"), message, NOT_DONE, [])
        }
        FormationError::MemberFormed { .. } | FormationError::OtherVersion { .. } => {
            No::new((Code::FailedPrecondition, "RESTORE_REFUSED"), message, NOT_DONE, [])
        }
        FormationError::Containers(_)
        | FormationError::Backup(_)
        | FormationError::EpochTooLow { .. } => invalid(message),
        FormationError::Refused(refusal) => refused_here(refusal),
        FormationError::NotAnswered(why) => not_answered(why),
    }
}

/// No step of a replacement was taken.
pub(super) fn not_replaced(why: &ReplaceError) -> No {
    match why {
        ReplaceError::Wrong(what) => {
            No::new((Code::FailedPrecondition, "REPLACEMENT_REFUSED"), what.as_str(), NOT_DONE, [])
        }
        ReplaceError::Refused(refusal) => refused_here(refusal),
        ReplaceError::Container(why) => not_formed(why),
        ReplaceError::NotAnswered(why) => not_answered(why),
    }
}

/// The request breaks a rule of the edge; it says which.
pub(super) fn invalid(message: impl Into<String>) -> No {
    No::new((Code::InvalidArgument, "INVALID"), message, NOT_DONE, [])
}

/// The lead stays where it is.
pub(super) fn not_handed_over(why: &NotHandedOver) -> No {
    match why {
        NotHandedOver::NoVote { .. } | NotHandedOver::Silent { .. } => invalid(why.to_string()),
        NotHandedOver::NobodyThere => {
            No::new((Code::Unavailable, "NO_QUORUM"), why.to_string(), NOT_DONE, [])
        }
    }
}

/// A field breaks the rule of its kind.
pub(super) fn invalid_name(name: &InvalidName) -> No {
    invalid(name.to_string())
}

/// Nobody in particular is asking.
pub(super) fn no_caller(why: &NoCaller) -> No {
    let verdict = match why {
        NoCaller::Node(_) => (Code::PermissionDenied, "WRONG_ROLE"),
        NoCaller::Revoked(_) => (Code::Unauthenticated, "CERTIFICATE_REVOKED"),
        NoCaller::Nobody | NoCaller::NotBearer | NoCaller::UnknownToken | NoCaller::Name(_) => {
            (Code::Unauthenticated, "NO_IDENTITY")
        }
    };
    No::new(verdict, why.to_string(), NOT_DONE, [])
}

/// The caller may not make this call.
pub(super) fn wrong_role(role: Role, call: &str) -> No {
    let message = format!(
        "{call} is for operators, and this caller is an {}; use an operator's certificate",
        role.name()
    );
    No::new((Code::PermissionDenied, "WRONG_ROLE"), message, NOT_DONE, [])
}

/// No such call.
pub(super) fn no_such_call(path: &str) -> No {
    let path: String = path.chars().take(80).collect();
    let message =
        format!("this node does not know the call {path:?}; is it older than its caller?");
    No::new((Code::Unimplemented, "UNKNOWN_CALL"), message, NOT_DONE, [])
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::answer::LeaderHint;

    const TABLE: &str = include_str!("../../../wire/proto/trine/v1/licensing.proto");

    /// The row of the table that names this reason also names this code.
    fn stands_in_the_table((code, reason): (Code, &'static str)) -> bool {
        let code = match code {
            Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
            Code::NotFound => "NOT_FOUND",
            Code::FailedPrecondition => "FAILED_PRECONDITION",
            Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
            Code::Unavailable => "UNAVAILABLE",
            Code::InvalidArgument => "INVALID_ARGUMENT",
            Code::Unauthenticated => "UNAUTHENTICATED",
            Code::PermissionDenied => "PERMISSION_DENIED",
            Code::Aborted => "ABORTED",
            Code::Unimplemented => "UNIMPLEMENTED",
            Code::DataLoss => "DATA_LOSS",
            _ => return false,
        };
        TABLE.lines().any(|line| {
            let cells: Vec<&str> = line.split('|').map(str::trim).collect();
            matches!(cells[..], [_, row, reasons, _]
                if row == code && reasons.split(' ').any(|word| word == reason))
        })
    }

    fn check(no: &No) {
        let pair = (no.status.code(), no.reason);
        assert!(stands_in_the_table(pair), "{pair:?} is not in the table of licensing.proto");
        let details = no.status.get_error_details();
        let info = details.error_info().expect("every no carries an ErrorInfo");
        assert_eq!(info.reason, no.reason);
        assert_eq!(info.domain, "trine");
        assert_eq!(info.metadata.get("outcome").map(String::as_str), Some(no.outcome));
    }

    /// `verdict` matches without a wildcard, so its rows are the refusals there
    /// are; each row must stand in the table.
    #[test]
    fn every_refusal_stands_in_the_table() {
        let source = include_str!("error.rs");
        let rows = source
            .split("fn verdict(")
            .nth(1)
            .and_then(|rest| rest.split("/// The ledger refused.").next())
            .expect("the function is above");
        assert!(!rows.contains("_ =>"), "a wildcard hides refusals");
        let verdicts: Vec<(&str, &str)> = rows
            .split("(Code::")
            .skip(1)
            .filter_map(|row| row.split_once(", \""))
            .filter_map(|(code, rest)| Some((code, rest.split('"').next()?)))
            .collect();
        assert!(verdicts.len() >= 33, "{verdicts:?}");
        let reasons: BTreeSet<&str> = verdicts.iter().map(|(_, reason)| *reason).collect();
        assert_eq!(reasons.len(), verdicts.len(), "two refusals share a reason");
        for (code, reason) in verdicts {
            let row = TABLE.lines().find(|line| {
                line.starts_with("// |") && line.split(['|', ' ']).any(|word| word == reason)
            });
            let row = row.unwrap_or_else(|| panic!("{reason} is not in the table"));
            let named = row.split('|').nth(1).expect("a code").trim().replace('_', "");
            assert!(named.eq_ignore_ascii_case(code), "{reason} is under {named}, not {code}");
        }
    }

    #[test]
    fn a_refusal_says_where_in_history_it_was_decided() {
        let log_id = LogId { epoch: 0, index: 7, position: 2 };
        let no = refused(&Refusal::IdReused, log_id, ClusterTime(1_500));
        check(&no);
        let details = no.status.get_error_details();
        let metadata = &details.error_info().expect("details").metadata;
        assert_eq!(metadata.get("outcome").map(String::as_str), Some("refused"));
        assert_eq!(metadata.get("log_id").map(String::as_str), Some("0.7.2"));
        assert_eq!(metadata.get("stamp_ms").map(String::as_str), Some("1500"));
    }

    #[test]
    fn whatever_is_not_answered_stands_in_the_table() {
        let leader = LeaderHint { node: 2, client_address: "b:22450".into() };
        check(&history_incomplete(3, 5));
        let rotten = std::io::Error::other("page 3 of the history does not match its checksum");
        check(&history_damaged(NodeId(2), &rotten));
        for why in [
            NotAnswered::NoQuorum { detail: "no leader is known".into() },
            NotAnswered::NotLeader { leader: Some(leader) },
            NotAnswered::NotLeader { leader: None },
            NotAnswered::Overloaded,
            NotAnswered::Draining,
            NotAnswered::NotFormed,
        ] {
            let no = not_answered(&why);
            check(&no);
            assert_eq!(no.outcome, "not-done", "{why}");
        }
        let unknown = not_answered(&NotAnswered::Unknown { detail: "it broke".into() });
        check(&unknown);
        assert!(unknown.is_unknown());
    }

    #[test]
    fn a_follower_names_the_leader_to_an_operator() {
        let leader = LeaderHint { node: 2, client_address: "b:22450".into() };
        let no = not_answered(&NotAnswered::NotLeader { leader: Some(leader) });
        let details = no.status.get_error_details();
        let metadata = &details.error_info().expect("details").metadata;
        assert_eq!(metadata.get("leader").map(String::as_str), Some("b:22450"));
        assert_eq!(metadata.get("leader_node").map(String::as_str), Some("2"));
        for key in metadata.keys() {
            assert!(TABLE.contains(key.as_str()), "{key} is not explained in licensing.proto");
        }
    }

    #[test]
    fn what_the_edge_says_itself_stands_in_the_table() {
        check(&invalid("too long"));
        check(&no_caller(&NoCaller::Nobody));
        check(&no_caller(&NoCaller::UnknownToken));
        check(&no_caller(&NoCaller::Revoked(pki::Identity::node(2).expect("a node"))));
        check(&no_caller(&NoCaller::Node(pki::Identity::node(2).expect("a node"))));
        check(&wrong_role(Role::Application, "Revoke"));
        check(&no_such_call("/trine.v1.Cluster/Destroy"));
    }
}
