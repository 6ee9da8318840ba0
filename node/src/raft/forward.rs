//! What one node may hand another to be put into the log.
//!
//! `node/tests/doorkeepers/forwarded.rs` sends every command through the door.

use ledger::command::{Command, Restore};

use crate::identity::is_caller;

/// What a node may hand on for somebody else, or says for itself. What only an
/// operator may ask reaches the leader on the operator's own connection, so a
/// follower cannot act as one.
pub(super) fn may_be_forwarded(command: &Command) -> bool {
    match command {
        // Nodes take no seats: such a command is always some caller's.
        Command::Acquire(acquire) => is_caller(&acquire.subject),
        Command::Renew(renew) => is_caller(&renew.subject),
        Command::Release(release) => is_caller(&release.subject),
        Command::Cancel(cancel) => is_caller(&cancel.subject),
        // These carry proofs of their own; genesis counts once, and a restore
        // only before the cluster is formed.
        Command::Attest(_)
        | Command::Heartbeat(_)
        | Command::Genesis(_)
        | Command::RepairShare(_)
        | Command::Restore(Restore::Begin(_)) => true,
        Command::Revoke(_)
        | Command::Install(_)
        | Command::SignTerm(_)
        | Command::WithdrawShare(_)
        | Command::IssueToken(_)
        | Command::RevokeToken(_)
        | Command::Restore(Restore::Part(_) | Restore::Finish(_))
        | Command::BeginReplacement(_)
        | Command::FinishReplacement(_)
        | Command::AbandonReplacement(_)
        | Command::OrderRepair(_)
        | Command::ResetClock(_)
        | Command::RevokeCertificate(_)
        | Command::RaiseLevel(_)
        | Command::SetRetention(_)
        | Command::Trust(_)
        | Command::Distrust(_) => false,
    }
}
