//! Handing leadership to another node, without the pause of an election.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver as _;
use tokio::time::{Instant, timeout_at};

use crate::raft::Raft;
use crate::raft::timing::SILENCE_MIN;
use crate::service::Service;
use crate::status::RaftRole;

/// When nobody leads by then, an election has long begun.
const HANDOVER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long one node may take to lead before the next is asked too. It takes two
/// round trips and a sync; who is late leads all the same, if the next has not.
const TURN: Duration = Duration::from_millis(150);

/// Why leadership is not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotHandedOver {
    /// It is sent the log, as a node on its way in, or it is gone.
    #[error("node-{node} has no vote, so it cannot lead; name one that has: {}", named(voters))]
    NoVote { node: u64, voters: BTreeSet<u64> },
    #[error(
        "node-{node} has not answered this leader for {SILENCE_MIN:?}; bring it back, or name another"
    )]
    Silent { node: u64 },
    #[error("no other node with a vote has answered this leader within {SILENCE_MIN:?}")]
    NobodyThere,
}

fn named(nodes: &BTreeSet<u64>) -> String {
    let names: Vec<_> = nodes.iter().map(|node| format!("node-{node}")).collect();
    names.join(", ")
}

/// What the leader sees of the others.
#[derive(Debug, Clone, Default)]
struct Sight {
    /// Who has a vote; in the middle of a change, in both sets of voters.
    voters: BTreeSet<u64>,
    /// How long ago the last answered message of each was sent.
    silent_for: BTreeMap<u64, Duration>,
    /// The last entry that each is known to hold.
    matched: BTreeMap<u64, u64>,
}

impl Sight {
    fn of(raft: &Raft, own: u64) -> Self {
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let membership = metrics.membership_config.membership();
        let sets = membership.get_joint_config().iter().cloned();
        let mut voters = sets.reduce(|one, other| &one & &other).unwrap_or_default();
        voters.remove(&own);
        let answers = metrics.heartbeat.iter().flatten();
        let answered = answers.filter_map(|(node, at)| Some((*node, at.as_ref()?.elapsed())));
        let matched = metrics.replication.iter().flatten();
        let index = |at: &Option<crate::raft::LogId>| at.map_or(0, |log_id| log_id.index);
        Self {
            voters,
            silent_for: answered.collect(),
            matched: matched.map(|(node, at)| (*node, index(at))).collect(),
        }
    }

    /// Who is asked to lead, one after the other: first `to`, if one is named;
    /// then the voter that holds the most; of several, the one that answered last.
    ///
    /// Who has not answered for so long that it might be gone is not asked: from
    /// then on the leader proposes nothing, and it would cost an election.
    fn order(&self, to: Option<u64>) -> Result<Vec<u64>, NotHandedOver> {
        let answers = |node: &u64| self.silent_for.get(node).is_some_and(|s| *s <= SILENCE_MIN);
        match to {
            Some(node) if !self.voters.contains(&node) => {
                return Err(NotHandedOver::NoVote { node, voters: self.voters.clone() });
            }
            Some(node) if !answers(&node) => return Err(NotHandedOver::Silent { node }),
            _ => {}
        }
        let mut order: Vec<_> = self.voters.iter().copied().filter(answers).collect();
        order.sort_by_key(|node| {
            let held = self.matched.get(node).copied().unwrap_or(0);
            (Some(*node) != to, Reverse(held), self.silent_for.get(node).copied())
        });
        if order.is_empty() { Err(NotHandedOver::NobodyThere) } else { Ok(order) }
    }
}

/// If this node leads, lets `to` lead instead, or the voter that holds the most.
/// Who does not take over in its turn is followed by the next: this leader
/// cannot go back, and an election would take longer.
///
/// Gives who leads when it is over, this node itself if nobody took over in time.
///
/// # Errors
/// [`NotHandedOver`]; then nobody was asked, and this node goes on leading.
pub(crate) async fn hand_over(
    raft: &Raft,
    service: &Service,
    to: Option<u64>,
) -> Result<u64, NotHandedOver> {
    let status = service.node_status();
    if status.role != RaftRole::Leader || to == Some(status.id) {
        return Ok(status.leader.map_or(status.id, |leader| leader.node));
    }
    let lead = Lead { node: status.id, term: status.term };
    let order = Sight::of(raft, status.id).order(to)?;
    let deadline = Instant::now() + HANDOVER_WAIT_MAX;
    for next in order.into_iter().cycle() {
        if lead.lasts(raft) {
            tracing::info!(to = next, "handing leadership over");
            if raft.trigger().transfer_leader(next).await.is_err() {
                break;
            }
        }
        let turn_ends = deadline.min(Instant::now() + TURN);
        if let Ok(leader) = timeout_at(turn_ends, lead.successor(raft)).await {
            return Ok(leader);
        }
        if Instant::now() >= deadline {
            tracing::info!("nobody took the lead in time");
            break;
        }
    }
    Ok(status.id)
}

/// A node's lead, from one election to the next. Leadership may have come back
/// to the node meanwhile, and then nobody asked it to hand that over.
#[derive(Debug, Clone, Copy)]
struct Lead {
    node: u64,
    term: u64,
}

impl Lead {
    /// Whether this is still the term.
    fn lasts(self, raft: &Raft) -> bool {
        raft.server_metrics().borrow_watched().vote.leader_id().term == self.term
    }

    /// The leader of `term`, if that is another lead than this one.
    fn succeeded_by(self, term: u64, leader: Option<u64>) -> Option<u64> {
        leader.filter(|leader| (*leader, term) != (self.node, self.term))
    }

    /// Resolves when it is over and another has begun, or Raft has ended here.
    async fn successor(self, raft: &Raft) -> u64 {
        let mut metrics = raft.server_metrics();
        loop {
            let (term, leader) = {
                let now = metrics.borrow_watched();
                (now.vote.leader_id().term, now.current_leader)
            };
            if let Some(leader) = self.succeeded_by(term, leader) {
                return leader;
            }
            if metrics.changed().await.is_err() {
                return self.node;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Node 1 leads 2 and 3. Node 4 is to replace 3 and has caught up.
    fn sight() -> Sight {
        let heard = Duration::from_millis(50);
        Sight {
            voters: [2, 3].into(),
            silent_for: [(2, heard), (3, heard), (4, heard)].into(),
            matched: [(2, 999), (3, 1_000), (4, 1_000)].into(),
        }
    }

    #[test]
    fn the_voter_that_holds_the_most_leads_and_never_a_learner() {
        assert_eq!(sight().order(None), Ok(vec![3, 2]));
        let refused = sight().order(Some(4)).unwrap_err();
        assert_eq!(refused, NotHandedOver::NoVote { node: 4, voters: [2, 3].into() });
        let words = refused.to_string();
        assert!(words.contains("node-4 has no vote") && words.contains("node-2, node-3"));
    }

    #[test]
    fn a_voter_that_does_not_answer_is_not_asked_to_lead() {
        let mut sight = sight();
        sight.silent_for.insert(3, SILENCE_MIN * 2);
        assert_eq!(sight.order(None), Ok(vec![2]));
        assert_eq!(sight.order(Some(3)), Err(NotHandedOver::Silent { node: 3 }));
        // Never heard at all.
        sight.silent_for.remove(&2);
        assert_eq!(sight.order(None), Err(NotHandedOver::NobodyThere));
        assert_eq!(sight.order(Some(2)), Err(NotHandedOver::Silent { node: 2 }));
    }

    #[test]
    fn of_two_that_hold_as_much_the_one_heard_last_leads() {
        let mut sight = sight();
        sight.matched.insert(2, 1_000);
        sight.silent_for.insert(3, Duration::from_millis(700));
        assert_eq!(sight.order(None), Ok(vec![2, 3]));
    }

    #[test]
    fn who_is_named_is_asked_first_and_the_other_if_it_does_not_take_over() {
        assert_eq!(sight().order(Some(2)), Ok(vec![2, 3]));
        assert_eq!(sight().order(Some(3)), Ok(vec![3, 2]));
    }

    /// It led, another did, and it was elected again before anybody looked.
    #[test]
    fn a_leader_that_came_back_in_a_later_term_is_asked_no_more() {
        let lead = Lead { node: 1, term: 5 };
        assert_eq!(lead.succeeded_by(5, Some(1)), None, "it leads on");
        assert_eq!(lead.succeeded_by(6, None), None, "nobody is elected yet");
        assert_eq!(lead.succeeded_by(6, Some(2)), Some(2));
        assert_eq!(lead.succeeded_by(7, Some(1)), Some(1));
    }
}
