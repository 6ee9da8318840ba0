//! What is to be done next in a replacement. Pure.
//!
//! Each step looks at how things stand, whoever brought them there: so the
//! driver may die at any moment, and another goes on.

use std::collections::{BTreeMap, BTreeSet};

use ledger::charter::Departure;
use license::product::NodeId;

/// How far a new node may be behind when it is given its vote.
const LAG_MAX: u64 = 64;

/// What the leader sees.
#[derive(Debug, Clone, Default)]
pub(super) struct Sight {
    /// The leader itself.
    pub(super) leader: u64,
    /// The members, and whether each was heard within three seconds.
    pub(super) members: BTreeMap<u64, bool>,
    /// How the old and the new node left, if they did.
    pub(super) departed: [Option<Departure>; 2],
    /// The replacement under way: old and new.
    pub(super) pending: Option<(u64, u64)>,
    /// Raft's voters: two sets in the middle of a change.
    pub(super) voters: Vec<BTreeSet<u64>>,
    /// Everybody in Raft's membership, and where the log says so.
    pub(super) nodes: BTreeSet<u64>,
    pub(super) membership_index: u64,
    /// The last entry that is on a quorum's disks.
    pub(super) committed_index: u64,
    /// The leader's last entry, and the last each other node holds.
    pub(super) last_index: u64,
    pub(super) matched: BTreeMap<u64, u64>,
    /// Who answered the leader within three seconds.
    pub(super) answering: BTreeSet<u64>,
}

impl Sight {
    /// The members that stay when `old` goes.
    pub(super) fn survivors(&self, old: u64) -> impl Iterator<Item = u64> {
        self.members.keys().copied().filter(move |node| *node != old)
    }
}

/// The next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// Nothing is left to do.
    Done,
    /// A node that stays is not there, and without it one would be left.
    NeedSurvivor { node: u64 },
    /// Ask the new node who it is, and tell the ledger.
    Begin,
    /// The old node leads: another must.
    HandOver { to: u64 },
    /// Have the log sent to the new node.
    Teach,
    /// A node has not caught up: the new one, or one that stays.
    Wait { node: u64, behind: u64 },
    /// The new node does not answer, whether it holds what it needs or not.
    NeedNewcomer { behind: u64 },
    /// Give the new node the old one's vote.
    Switch { voters: BTreeSet<u64> },
    /// The new voters stand in the log, and not yet on a quorum's disks.
    Settle,
    /// Tell the ledger that it is so.
    Finish,
    /// Too late to undo: the new node votes already.
    TooLate,
    /// Stop sending the log to the new node.
    Dismiss,
    /// Tell the ledger that the old node stays.
    Abandon,
}

impl Step {
    /// The stage that it belongs to, for scripts (see cluster.proto), and what it
    /// does or waits for, for people.
    pub(super) fn words(&self, old: NodeId, new: NodeId) -> (&'static str, String) {
        match self {
            Self::NeedSurvivor { node } => (
                "waiting",
                format!(
                    "node-{node} is silent, and without {old} only one node would be left: \
                     bring node-{node} back first; if it is node-{node} that is lost, replace \
                     that one"
                ),
            ),
            Self::Begin => ("begun", format!("{new} is asked who it is")),
            Self::HandOver { to } => {
                ("handing-over", format!("{old} leads; node-{to} is to lead instead"))
            }
            Self::Teach => ("joining", format!("{new} is sent the log")),
            Self::Wait { node, behind } => {
                ("catching-up", format!("node-{node} is {behind} entries behind"))
            }
            Self::NeedNewcomer { behind } => (
                "catching-up",
                format!(
                    "{new} does not answer (is it started?) and is {behind} entries behind: \
                     start it, or give it up with --undo"
                ),
            ),
            Self::Switch { .. } => ("switching", format!("the vote of {old} goes to {new}")),
            Self::Settle => ("switching", format!("{new} votes once a quorum knows of it")),
            Self::Finish => ("switching", format!("{new} votes, which the ledger is to be told")),
            Self::Done => ("done", format!("{new} has the place of {old}")),
            Self::TooLate => ("switching", format!("{new} votes already")),
            Self::Dismiss => ("leaving", format!("{new} is sent the log no more")),
            Self::Abandon => ("undone", format!("{old} stays, and {new} is gone")),
        }
    }
}

/// The next step towards `new` in the place of `old`.
pub(super) fn forward(sight: &Sight, old: u64, new: u64) -> Step {
    if sight.departed[0] == Some(Departure::ReplacedBy(NodeId(new))) {
        return Step::Done;
    }
    let survivors = || sight.survivors(old);
    let has_voters = |voters: &BTreeSet<u64>| voters.contains(&new) && !voters.contains(&old);
    let is_pending = sight.pending == Some((old, new));
    if is_pending && matches!(&sight.voters[..], [voters] if has_voters(voters)) {
        // Another leader might still know nothing of it.
        let is_settled = sight.membership_index <= sight.committed_index;
        return if is_settled { Step::Finish } else { Step::Settle };
    }
    // Who asks for the wrong one is told so, whoever else is missing.
    if !is_pending && !sight.members.contains_key(&old) {
        return Step::Begin;
    }
    if let Some(node) = survivors().find(|node| sight.members.get(node) != Some(&true)) {
        return Step::NeedSurvivor { node };
    }
    // All that can be refused is refused before anything is moved.
    if !is_pending {
        return Step::Begin;
    }
    if sight.leader == old {
        let holds = |node: &u64| sight.matched.get(node).copied().unwrap_or(0);
        return match survivors().max_by_key(holds) {
            Some(to) => Step::HandOver { to },
            None => Step::NeedSurvivor { node: old },
        };
    }
    if !sight.nodes.contains(&new) {
        return Step::Teach;
    }
    // In the middle of the change there is only one way.
    let is_joint = sight.voters.len() > 1;
    let held = |node: u64| match node {
        leader if leader == sight.leader => sight.last_index,
        other => sight.matched.get(&other).copied().unwrap_or(0),
    };
    let behind = sight.last_index.saturating_sub(held(new));
    if !is_joint && !sight.answering.contains(&new) {
        return Step::NeedNewcomer { behind };
    }
    if !is_joint && (held(new) < sight.membership_index || behind > LAG_MAX) {
        return Step::Wait { node: new, behind: behind.max(1) };
    }
    // A node that stays must know of the new one, or it would refuse its call.
    if let Some(node) = survivors().find(|node| held(*node) < sight.membership_index) {
        return Step::Wait { node, behind: sight.last_index.saturating_sub(held(node)).max(1) };
    }
    Step::Switch { voters: survivors().chain([new]).collect() }
}

/// The replacement that there is no way back from, if one is under way: the new
/// node votes. Whoever leads finishes it, asked or not.
pub(super) fn beyond_undoing(sight: &Sight) -> Option<(u64, u64)> {
    let (old, new) = sight.pending?;
    (back(sight, old, new) == Step::TooLate).then_some((old, new))
}

/// The next step back.
pub(super) fn back(sight: &Sight, old: u64, new: u64) -> Step {
    if sight.departed[1] == Some(Departure::Abandoned { stays: NodeId(old) }) {
        return Step::Done;
    }
    if sight.departed[0] == Some(Departure::ReplacedBy(NodeId(new)))
        || sight.voters.iter().any(|voters| voters.contains(&new))
    {
        return Step::TooLate;
    }
    // What the ledger does not have under way it refuses to abandon, in words.
    if sight.pending == Some((old, new)) && sight.nodes.contains(&new) {
        return Step::Dismiss;
    }
    Step::Abandon
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node 1 leads, 3 is to be replaced by 4 and is dead.
    fn sight() -> Sight {
        Sight {
            leader: 1,
            members: BTreeMap::from([(1, true), (2, true), (3, false)]),
            voters: vec![BTreeSet::from([1, 2, 3])],
            nodes: BTreeSet::from([1, 2, 3]),
            membership_index: 1,
            last_index: 1_000,
            committed_index: 1_000,
            matched: BTreeMap::from([(2, 1_000)]),
            ..Sight::default()
        }
    }

    fn learning(held: u64) -> Sight {
        let mut sight = sight();
        sight.pending = Some((3, 4));
        sight.nodes.insert(4);
        sight.membership_index = 990;
        sight.matched.insert(4, held);
        sight.answering = BTreeSet::from([2, 4]);
        sight
    }

    const SWITCHED: [u64; 3] = [1, 2, 4];

    #[test]
    fn each_step_follows_from_how_things_stand() {
        assert_eq!(forward(&sight(), 3, 4), Step::Begin);
        let begun = Sight { pending: Some((3, 4)), ..sight() };
        assert_eq!(forward(&begun, 3, 4), Step::Teach);
        assert_eq!(forward(&learning(0), 3, 4), Step::Wait { node: 4, behind: 1_000 });
        assert_eq!(forward(&learning(980), 3, 4), Step::Wait { node: 4, behind: 20 });
        assert_eq!(forward(&learning(995), 3, 4), Step::Switch { voters: SWITCHED.into() });
        let switched = Sight { voters: vec![SWITCHED.into()], ..learning(1_000) };
        assert_eq!(forward(&switched, 3, 4), Step::Finish);
        let departed = [Some(Departure::ReplacedBy(NodeId(4))), None];
        assert_eq!(forward(&Sight { departed, ..switched }, 3, 4), Step::Done);
    }

    /// Old and new in the wrong order: the voters are as such a replacement would
    /// leave them, and there never was one.
    #[test]
    fn what_never_began_is_not_finished() {
        let mut sight = sight();
        sight.members.insert(3, true);
        assert_eq!(forward(&sight, 4, 3), Step::Begin, "which is refused");
    }

    #[test]
    fn who_is_no_member_is_said_to_be_none_though_another_is_silent() {
        let sight = sight();
        assert_eq!(forward(&sight, 4, 3), Step::Begin, "which is refused");
        assert_eq!(forward(&sight, 7, 4), Step::Begin, "which is refused");
        assert_eq!(forward(&sight, 2, 4), Step::NeedSurvivor { node: 3 });
    }

    #[test]
    fn a_new_node_votes_when_it_is_almost_there() {
        let behind = |entries: u64| Sight { membership_index: 1, ..learning(1_000 - entries) };
        assert_eq!(forward(&behind(65), 3, 4), Step::Wait { node: 4, behind: 65 });
        assert_eq!(forward(&behind(64), 3, 4), Step::Switch { voters: SWITCHED.into() });
    }

    #[test]
    fn it_is_so_only_when_the_new_voters_are_on_a_quorums_disks() {
        let voters = vec![SWITCHED.into()];
        let mut appended = Sight { voters, committed_index: 989, ..learning(1_000) };
        assert_eq!(forward(&appended, 3, 4), Step::Settle);
        appended.committed_index = 990;
        assert_eq!(forward(&appended, 3, 4), Step::Finish);
    }

    #[test]
    fn what_cannot_be_undone_is_finished_unasked() {
        assert_eq!(beyond_undoing(&sight()), None);
        assert_eq!(beyond_undoing(&learning(1_000)), None);
        let joint = vec![BTreeSet::from([1, 2, 3]), SWITCHED.into()];
        let half_way = Sight { voters: joint, ..learning(1_000) };
        assert_eq!(beyond_undoing(&half_way), Some((3, 4)));
        let switched = Sight { voters: vec![SWITCHED.into()], ..learning(1_000) };
        assert_eq!(beyond_undoing(&switched), Some((3, 4)));
        let finished = Sight { pending: None, ..switched };
        assert_eq!(beyond_undoing(&finished), None);
    }

    /// Cut off in the middle of the change of voters: on, whatever is behind.
    #[test]
    fn a_change_half_way_is_gone_on_with_and_not_undone() {
        let voters = vec![BTreeSet::from([1, 2, 3]), SWITCHED.into()];
        let joint = Sight { voters, ..learning(0) };
        assert_eq!(forward(&joint, 3, 4), Step::Switch { voters: SWITCHED.into() });
        assert_eq!(back(&joint, 3, 4), Step::TooLate);
    }

    #[test]
    fn nobody_is_replaced_while_another_is_missing() {
        let mut without_2 = sight();
        without_2.members = BTreeMap::from([(1, true), (2, false), (3, true)]);
        assert_eq!(forward(&without_2, 3, 4), Step::NeedSurvivor { node: 2 });
        let mut behind = learning(1_000);
        behind.matched.insert(2, 989);
        assert_eq!(forward(&behind, 3, 4), Step::Wait { node: 2, behind: 11 });
    }

    /// It caught up and died: with a vote it would be the dead node's successor in that too.
    #[test]
    fn a_new_node_that_does_not_answer_gets_no_vote() {
        let mut silent = learning(1_000);
        silent.answering.remove(&4);
        assert_eq!(forward(&silent, 3, 4), Step::NeedNewcomer { behind: 0 });
        assert_eq!(back(&silent, 3, 4), Step::Dismiss);
    }

    /// It is stopped: it would be behind for ever, and nobody would be told why.
    #[test]
    fn a_new_node_that_is_stopped_is_missed_before_it_has_caught_up() {
        let mut stopped = learning(10);
        stopped.answering.remove(&4);
        assert_eq!(forward(&stopped, 3, 4), Step::NeedNewcomer { behind: 990 });
    }

    #[test]
    fn a_leader_that_is_to_go_hands_over_once_the_ledger_took_the_new_node() {
        let mut old_leads = sight();
        (old_leads.leader, old_leads.matched) = (3, BTreeMap::from([(1, 900), (2, 1_000)]));
        old_leads.members.insert(3, true);
        assert_eq!(forward(&old_leads, 3, 4), Step::Begin, "a refusal must move nothing");
        old_leads.pending = Some((3, 4));
        assert_eq!(forward(&old_leads, 3, 4), Step::HandOver { to: 2 });
    }

    #[test]
    fn before_the_new_node_votes_everything_can_be_undone() {
        assert_eq!(back(&learning(1_000), 3, 4), Step::Dismiss);
        let dismissed = Sight { pending: Some((3, 4)), ..sight() };
        assert_eq!(back(&dismissed, 3, 4), Step::Abandon);
        let departed = [None, Some(Departure::Abandoned { stays: NodeId(3) })];
        assert_eq!(back(&Sight { departed, ..sight() }, 3, 4), Step::Done);
        let switched = Sight { voters: vec![SWITCHED.into()], ..learning(1_000) };
        assert_eq!(back(&switched, 3, 4), Step::TooLate);
    }
}
