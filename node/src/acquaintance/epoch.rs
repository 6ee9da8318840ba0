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

/// What a ledger says of its epoch.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Epoch {
    /// Of the cluster it knows.
    formed: Option<u64>,
    /// Of the restore that is on its way. Not told: it may never end.
    coming: Option<u64>,
}

impl Epoch {
    /// As it is now.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        Self {
            formed: ledger.charter().map(|_| ledger.epoch()),
            coming: ledger.restoring().map(|(plan, _)| plan.epoch),
        }
    }

    /// Of a cluster in this epoch.
    #[cfg(test)]
    pub(super) fn formed(epoch: u64) -> Self {
        Self { formed: Some(epoch), coming: None }
    }

    /// What others are told.
    pub(super) fn told(self) -> Option<u64> {
        self.formed
    }

    /// Whether somebody who told this epoch is of before a restore that this
    /// data knows of.
    pub(super) fn outdates(self, told: Option<u64>) -> bool {
        told.is_some() && told < self.formed.or(self.coming)
    }

    /// Whether this data is from before the epoch that was told.
    pub(super) fn is_outdated_by(self, told: Option<u64>) -> bool {
        self.formed.is_some() && self.formed < told
    }

    /// Whether notes may be taken of what somebody says who told this epoch.
    pub(super) fn may_note(self, told: Option<u64>) -> bool {
        told.is_none() || told == self.formed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Epoch = Epoch { formed: None, coming: None };
    const RESTORING: Epoch = Epoch { formed: None, coming: Some(9) };
    const OLD: Epoch = Epoch { formed: Some(0), coming: None };
    const RESTORED: Epoch = Epoch { formed: Some(9), coming: None };

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
