//! Of which restore a node's data is (S21).
//!
//! A restored cluster has the old one's identity, its nodes the old ids, and its
//! Raft begins anew. So a data directory from before speaks of votes and entries
//! that nobody made in this epoch, and may show a higher term than there is. What
//! one epoch's nodes promised says nothing in another: who is of an earlier one
//! is neither heard nor believed, and none of its notes is taken.
//!
//! A node tells its epoch once its ledger has a cluster. One that does not yet
//! (new, joining, a few entries behind) tells none and is judged by its promises
//! alone, as is a build that knows no epochs. It takes no notes from those who
//! have one: it may turn out to belong to another.

use ledger::Ledger;

/// What a ledger says of its epoch. Asked several times for every message of
/// Raft, so it must not look at the parts of a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KnownEpoch {
    /// The highest that a restore began with.
    reached: u64,
    /// Whether there is a cluster. An epoch is not told before: a restore that
    /// was begun may never end.
    is_formed: bool,
}

impl KnownEpoch {
    /// As it is now.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Self { reached: ledger.epoch(), is_formed: ledger.charter().is_some() }
    }

    /// Of a cluster in this epoch.
    #[cfg(test)]
    pub(super) fn formed(epoch: u64) -> Self {
        Self { reached: epoch, is_formed: true }
    }

    /// What others are told.
    pub(super) fn told(self) -> Option<u64> {
        self.is_formed.then_some(self.reached)
    }

    /// Whether somebody who told this epoch is of before a restore that this
    /// data knows of.
    pub(super) fn outdates(self, told: Option<u64>) -> bool {
        told.is_some_and(|told| told < self.reached)
    }

    /// Whether this data is from before the epoch that was told.
    pub(super) fn is_outdated_by(self, told: Option<u64>) -> bool {
        self.is_formed && self.told() < told
    }

    /// Whether notes may be taken of what somebody says who told this epoch.
    pub(super) fn may_note(self, told: Option<u64>) -> bool {
        told.is_none() || told == self.told()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: KnownEpoch = KnownEpoch { reached: 0, is_formed: false };
    const RESTORING: KnownEpoch = KnownEpoch { reached: 9, is_formed: false };
    const OLD: KnownEpoch = KnownEpoch { reached: 0, is_formed: true };
    const RESTORED: KnownEpoch = KnownEpoch { reached: 9, is_formed: true };

    #[test]
    fn who_tells_no_epoch_is_judged_by_promises_alone() {
        for epoch in [NEW, RESTORING, OLD, RESTORED] {
            assert!(!epoch.outdates(None) && !epoch.is_outdated_by(None) && epoch.may_note(None));
        }
    }

    #[test]
    fn who_knows_no_cluster_is_outdated_by_nobody_and_notes_nothing_of_those_who_do() {
        for epoch in [NEW, RESTORING] {
            assert!(!epoch.is_outdated_by(Some(12)) && !epoch.may_note(Some(0)));
            assert_eq!(epoch.told(), None);
        }
        assert!(!NEW.outdates(Some(0)));
    }

    #[test]
    fn a_restore_outdates_what_was_before_it_from_its_first_step_on() {
        for epoch in [RESTORING, RESTORED] {
            assert!(epoch.outdates(Some(0)) && epoch.outdates(Some(8)));
            assert!(!epoch.outdates(Some(9)) && !epoch.outdates(Some(10)));
        }
        assert!(OLD.is_outdated_by(Some(9)) && !RESTORED.is_outdated_by(Some(9)));
        assert!(RESTORED.may_note(Some(9)) && !RESTORED.may_note(Some(0)));
    }
}
