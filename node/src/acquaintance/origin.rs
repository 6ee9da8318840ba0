//! Of which cluster, and of which of its restores, a node's data is (S21).
//!
//! A restored cluster has the old one's identity, its nodes the old ids, and its
//! Raft begins anew. So a data directory from before speaks of votes and entries
//! that nobody made in this epoch, and may show a higher term than there is. What
//! one epoch's nodes promised says nothing in another: who is of an earlier one
//! is neither heard nor believed, and none of its notes is taken.
//!
//! The same holds of a node of another cluster, which one CA may have certified
//! under the same name. Neither of the two is from before the other.
//!
//! A node tells its origin once its ledger has a cluster. One that does not yet
//! (new, joining, a few entries behind) tells none and is judged by its promises
//! alone, as is a build that knows of none. It takes no notes from those who
//! have one: it may turn out to belong to another.

use ledger::Ledger;
use license::product::ClusterId;
use wire::peer;

/// Of a node whose ledger has a cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Origin {
    pub(crate) cluster: ClusterId,
    /// The restore epoch, 0 before the first restore.
    pub(crate) epoch: u64,
}

impl Origin {
    /// As a peer told it; one that is no origin is none.
    pub(crate) fn of_wire(told: Option<&peer::Origin>) -> Option<Self> {
        let peer::Origin { cluster, epoch } = told?;
        let cluster = ClusterId(cluster.as_slice().try_into().ok()?);
        Some(Self { cluster, epoch: *epoch })
    }

    pub(crate) fn to_wire(self) -> peer::Origin {
        peer::Origin { cluster: self.cluster.0.to_vec(), epoch: self.epoch }
    }
}

/// What a ledger knows of its origin. Asked several times for every message of
/// Raft, so it must not look at the parts of a restore.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct KnownOrigin {
    /// The highest epoch that a restore began with.
    reached: u64,
    /// The cluster, if there is one. Neither is told before: a restore that was
    /// begun may never end.
    cluster: Option<ClusterId>,
}

impl KnownOrigin {
    /// As it is now.
    pub(crate) fn of(ledger: &Ledger) -> Self {
        let cluster = ledger.charter().map(|charter| charter.cluster);
        Self { reached: ledger.epoch(), cluster }
    }

    /// Of a cluster in this epoch.
    #[cfg(test)]
    pub(super) fn formed(epoch: u64) -> Self {
        Self { reached: epoch, cluster: Some(ClusterId([1; 16])) }
    }

    /// What others are told.
    pub(super) fn told(self) -> Option<Origin> {
        self.cluster.map(|cluster| Origin { cluster, epoch: self.reached })
    }

    /// The cluster that this data is of, if that is another than who told this is of.
    pub(super) fn differs_from(self, told: Origin) -> Option<ClusterId> {
        self.cluster.filter(|ours| *ours != told.cluster)
    }

    /// Whether somebody who told this is of before a restore that this data knows of.
    pub(super) fn outdates(self, told: Origin) -> bool {
        self.differs_from(told).is_none() && told.epoch < self.reached
    }

    /// Whether this data is from before the restore that was told.
    pub(super) fn is_outdated_by(self, told: Origin) -> bool {
        self.cluster == Some(told.cluster) && self.reached < told.epoch
    }

    /// Whether notes may be taken of what somebody says who told this.
    pub(super) fn may_note(self, told: Option<Origin>) -> bool {
        told.is_none() || told == self.told()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: ClusterId = ClusterId([1; 16]);
    const NEW: KnownOrigin = KnownOrigin { reached: 0, cluster: None };
    const RESTORING: KnownOrigin = KnownOrigin { reached: 9, cluster: None };
    const OLD: KnownOrigin = KnownOrigin { reached: 0, cluster: Some(OURS) };
    const RESTORED: KnownOrigin = KnownOrigin { reached: 9, cluster: Some(OURS) };

    fn told(epoch: u64) -> Origin {
        Origin { cluster: OURS, epoch }
    }

    #[test]
    fn who_knows_no_cluster_is_outdated_by_nobody_and_notes_nothing_of_those_who_do() {
        for origin in [NEW, RESTORING] {
            assert!(!origin.is_outdated_by(told(12)) && !origin.may_note(Some(told(0))));
            assert_eq!((origin.told(), origin.differs_from(told(0))), (None, None));
        }
        assert!(!NEW.outdates(told(0)));
        for origin in [NEW, RESTORING, OLD, RESTORED] {
            assert!(origin.may_note(None), "who tells none is judged by promises alone");
        }
    }

    #[test]
    fn a_restore_outdates_what_was_before_it_from_its_first_step_on() {
        for origin in [RESTORING, RESTORED] {
            assert!(origin.outdates(told(0)) && origin.outdates(told(8)));
            assert!(!origin.outdates(told(9)) && !origin.outdates(told(10)));
        }
        assert!(OLD.is_outdated_by(told(9)) && !RESTORED.is_outdated_by(told(9)));
        assert!(RESTORED.may_note(Some(told(9))) && !RESTORED.may_note(Some(told(0))));
    }

    /// Each of two clusters may have been restored, and one is not the other's past.
    #[test]
    fn another_cluster_is_neither_before_nor_after() {
        for epoch in [0, 9, 12] {
            let other = Origin { cluster: ClusterId([2; 16]), epoch };
            for origin in [OLD, RESTORED] {
                assert_eq!(origin.differs_from(other), Some(OURS));
                assert!(!origin.outdates(other) && !origin.is_outdated_by(other));
                assert!(!origin.may_note(Some(other)));
            }
        }
        assert_eq!(OLD.differs_from(told(9)), None);
    }

    #[test]
    fn an_origin_travels_and_what_is_none_is_none() {
        let origin = told(9);
        assert_eq!(Origin::of_wire(Some(&origin.to_wire())), Some(origin));
        let garbled = peer::Origin { cluster: vec![1; 15], epoch: 9 };
        assert_eq!(Origin::of_wire(Some(&garbled)), None);
        assert_eq!(Origin::of_wire(None), None);
    }
}
