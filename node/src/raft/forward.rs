//! What one node may hand another to be put into the log.

use ledger::command::{Command, Restore};

/// What a node may hand on for somebody else, or says for itself. What only an
/// operator may ask reaches the leader on the operator's own connection, so a
/// follower cannot act as one.
pub(super) fn may_be_forwarded(command: &Command) -> bool {
    match command {
        Command::Acquire(_) | Command::Renew(_) | Command::Release(_) | Command::Cancel(_) => true,
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use ledger::command::Batch;

    use super::*;

    /// Every kind of command, once each: a format's golden file holds them all.
    const EVERY_COMMAND: &[u8] = include_bytes!("../../../ledger/tests/golden/batch-2.bin");

    /// Who may bring a command to the leader over another node.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    enum Hand {
        /// An application's, with its subject inside.
        OnBehalf,
        /// The node's own word, which carries its own proof or counts once.
        Own,
        /// Nobody: an operator asks the leader, or the leader says it itself.
        Nobody,
    }

    macro_rules! table {
        ($($pattern:pat => $name:literal $hand:ident,)*) => {
            /// No wildcard: a new command does not compile until it stands here.
            fn classified(command: &Command) -> (&'static str, Hand) {
                match command { $($pattern => ($name, Hand::$hand),)* }
            }

            const NAMES: &[&str] = &[$($name),*];
        };
    }

    table! {
        Command::Genesis(_) => "Genesis" Own,
        Command::Acquire(_) => "Acquire" OnBehalf,
        Command::Renew(_) => "Renew" OnBehalf,
        Command::Release(_) => "Release" OnBehalf,
        Command::Cancel(_) => "Cancel" OnBehalf,
        Command::Revoke(_) => "Revoke" Nobody,
        Command::Install(_) => "Install" Nobody,
        Command::Attest(_) => "Attest" Own,
        Command::SignTerm(_) => "SignTerm" Nobody,
        Command::WithdrawShare(_) => "WithdrawShare" Nobody,
        Command::Heartbeat(_) => "Heartbeat" Own,
        Command::IssueToken(_) => "IssueToken" Nobody,
        Command::RevokeToken(_) => "RevokeToken" Nobody,
        Command::Restore(Restore::Begin(_)) => "Restore::Begin" Own,
        Command::Restore(Restore::Part(_)) => "Restore::Part" Nobody,
        Command::Restore(Restore::Finish(_)) => "Restore::Finish" Nobody,
        Command::BeginReplacement(_) => "BeginReplacement" Nobody,
        Command::FinishReplacement(_) => "FinishReplacement" Nobody,
        Command::AbandonReplacement(_) => "AbandonReplacement" Nobody,
        Command::OrderRepair(_) => "OrderRepair" Nobody,
        Command::RepairShare(_) => "RepairShare" Own,
        Command::ResetClock(_) => "ResetClock" Nobody,
        Command::RevokeCertificate(_) => "RevokeCertificate" Nobody,
        Command::RaiseLevel(_) => "RaiseLevel" Nobody,
        Command::SetRetention(_) => "SetRetention" Nobody,
        Command::Trust(_) => "Trust" Nobody,
        Command::Distrust(_) => "Distrust" Nobody,
    }

    #[test]
    fn a_follower_cannot_act_as_an_operator() {
        let every = Batch::decode(EVERY_COMMAND).expect("the ledger's golden batch").commands;
        let mut met = BTreeSet::new();
        for command in &every {
            let (name, hand) = classified(command);
            met.insert(name);
            assert_eq!(may_be_forwarded(command), hand != Hand::Nobody, "{name}");
        }
        let known: BTreeSet<_> = NAMES.iter().copied().collect();
        assert_eq!(met, known, "the golden batch does not hold every command");
    }
}
