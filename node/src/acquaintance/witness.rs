//! Who says that the cluster was restored since this node's data was written (S21).
//!
//! One may be mistaken: restored alone, on the bench say, and strayed into a
//! cluster that lives. Two other members of one epoch are the cluster, and whoever
//! is of an earlier one stops. But two directories from before are a majority
//! too, and then one is all there is left to say so: while it does, nothing is
//! granted.

use std::collections::BTreeMap;
use std::time::Duration;

use license::product::NodeId;
use tokio::time::Instant;

use super::origin::Origin;

/// What a node told longer ago than this does not count towards the two that stop
/// a process: both may be up one after the other, and are the cluster all the same.
const TOLD_MAX: Duration = Duration::from_secs(60);

/// For so long after its last word a node of another epoch is taken to be there.
/// One that is there is asked a second after its last answer, and an answer that
/// does not come is given up after 2.5 s: so two may be lost in a row. It is a
/// third of the shortest lease that anybody gets unasked, so that a stray which
/// was there for a moment ends no lease: holders renew at a third of it, and have
/// a third left.
pub(super) const PRESENT_MAX: Duration = Duration::from_secs(10);

/// The origin that each node told last, and when.
#[derive(Debug, Default)]
pub(super) struct Witnesses(BTreeMap<u64, (Origin, Instant)>);

impl Witnesses {
    /// Takes in what `node` told. Says whether that is news.
    pub(super) fn take(&mut self, node: u64, told: Option<Origin>, now: Instant) -> bool {
        let before = match told {
            Some(origin) => self.0.insert(node, (origin, now)),
            None => self.0.remove(&node),
        };
        before.map(|(origin, _)| origin) != told
    }

    /// Two of the other `members` who told one and the same origin lately, and
    /// that origin, if it `is_later` than this node's.
    pub(super) fn agree(
        &mut self,
        members: &[u64],
        now: Instant,
        is_later: impl Fn(Origin) -> bool,
    ) -> Option<([NodeId; 2], Origin)> {
        self.forget(members, now);
        let mut first = BTreeMap::new();
        let later = self.0.iter().filter(|(_, (origin, _))| is_later(*origin));
        for (node, (origin, _)) in later {
            if let Some(other) = first.insert(*origin, *node) {
                return Some(([NodeId(other), NodeId(*node)], *origin));
            }
        }
        None
    }

    /// The other `members` who are there and of another origin than `ours`, with it.
    pub(super) fn of_others(
        &mut self,
        members: &[u64],
        now: Instant,
        ours: Origin,
    ) -> Vec<(NodeId, Origin)> {
        self.forget(members, now);
        let present = self.0.iter().filter(|(_, (_, told))| now - *told < PRESENT_MAX);
        let told = present.map(|(node, (origin, _))| (NodeId(*node), *origin));
        told.filter(|(_, origin)| *origin != ours).collect()
    }

    fn forget(&mut self, members: &[u64], now: Instant) {
        self.0.retain(|node, (_, told)| members.contains(node) && now - *told < TOLD_MAX);
    }
}

#[cfg(test)]
mod tests {
    use license::product::ClusterId;

    use super::*;

    const LATER: fn(Origin) -> bool = |told| told.epoch > 0;

    fn of(epoch: u64) -> Origin {
        Origin { cluster: ClusterId([1; 16]), epoch }
    }

    #[test]
    fn two_members_who_tell_one_later_epoch_agree() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        assert!(witnesses.take(2, Some(of(9)), now));
        assert!(!witnesses.take(2, Some(of(9)), now), "it said so before");
        assert_eq!(witnesses.agree(&[2, 3], now, LATER), None, "one is not two");
        assert!(witnesses.take(3, Some(of(0)), now));
        assert_eq!(witnesses.agree(&[2, 3], now, LATER), None, "it is of this node's epoch");
        assert!(witnesses.take(3, Some(of(9)), now));
        let agreed = Some(([NodeId(2), NodeId(3)], of(9)));
        assert_eq!(witnesses.agree(&[2, 3], now, LATER), agreed);
    }

    #[test]
    fn one_member_who_is_there_and_of_another_epoch_is_heard_and_a_stranger_is_not() {
        let (mut witnesses, start) = (Witnesses::default(), Instant::now());
        witnesses.take(2, Some(of(0)), start);
        witnesses.take(4, Some(of(9)), start);
        assert_eq!(witnesses.of_others(&[2, 3], start, of(0)), []);
        witnesses.take(3, Some(of(9)), start);
        assert_eq!(witnesses.of_others(&[2, 3], start, of(0)), [(NodeId(3), of(9))]);
        let later = start + PRESENT_MAX;
        assert_eq!(witnesses.of_others(&[2, 3], later, of(0)), [], "it is there no more");
        witnesses.take(2, Some(of(9)), later);
        let agreed = Some(([NodeId(2), NodeId(3)], of(9)));
        assert_eq!(witnesses.agree(&[2, 3], later, LATER), agreed, "it is a witness all the same");
    }

    /// Two strays of two rehearsals are no cluster.
    #[test]
    fn witnesses_of_two_epochs_do_not_agree() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        witnesses.take(2, Some(of(9)), now);
        witnesses.take(3, Some(of(10)), now);
        assert_eq!(witnesses.agree(&[2, 3], now, LATER), None);
    }

    #[test]
    fn a_witness_that_tells_no_epoch_any_more_is_none() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        witnesses.take(2, Some(of(9)), now);
        witnesses.take(2, None, now);
        witnesses.take(3, Some(of(9)), now);
        assert_eq!(witnesses.agree(&[2, 3], now, LATER), None);
    }

    #[test]
    fn a_witness_that_is_gone_is_none() {
        let (mut witnesses, now) = (Witnesses::default(), Instant::now());
        witnesses.take(2, Some(of(9)), now);
        witnesses.take(3, Some(of(9)), now);
        assert_eq!(witnesses.agree(&[3, 4], now, LATER), None);
    }

    #[test]
    fn what_was_told_a_minute_ago_does_not_count() {
        let (mut witnesses, start) = (Witnesses::default(), Instant::now());
        witnesses.take(2, Some(of(9)), start);
        let later = start + TOLD_MAX;
        witnesses.take(3, Some(of(9)), later);
        assert_eq!(witnesses.agree(&[2, 3], later, LATER), None);
        witnesses.take(2, Some(of(9)), later);
        assert!(witnesses.agree(&[2, 3], later, LATER).is_some(), "it says so again");
    }
}
