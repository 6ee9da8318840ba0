//! Handing leadership to another node, without the pause of an election.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver as _;

use crate::raft::Raft;
use crate::service::Service;
use crate::status::RaftRole;

/// How long another node may take to lead. It takes one round trip.
const HANDOVER_WAIT_MAX: Duration = Duration::from_secs(2);

/// Who has not answered for so long is not asked to lead: from being asked on the
/// leader proposes nothing, so a node that is gone would cost an election.
const SILENCE_MAX: Duration = Duration::from_secs(1);

/// Why leadership is not handed over.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotHandedOver {
    /// It is sent the log, as a node on its way in, or it is gone.
    #[error("node-{node} has no vote, so it cannot lead; name one that has: {}", named(voters))]
    NoVote { node: u64, voters: BTreeSet<u64> },
    #[error(
        "node-{node} has not answered this leader within a second; bring it back, or name another"
    )]
    Silent { node: u64 },
    #[error("no other node with a vote has answered this leader within a second")]
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

    /// Who is to lead: `to`, or the voter that holds the most; of several, the
    /// one that answered last.
    fn choose(&self, to: Option<u64>) -> Result<u64, NotHandedOver> {
        let answers = |node: &u64| self.silent_for.get(node).is_some_and(|s| *s <= SILENCE_MAX);
        match to {
            Some(node) if !self.voters.contains(&node) => {
                Err(NotHandedOver::NoVote { node, voters: self.voters.clone() })
            }
            Some(node) if !answers(&node) => Err(NotHandedOver::Silent { node }),
            Some(node) => Ok(node),
            None => {
                let there = self.voters.iter().copied().filter(answers);
                let rank = |node: &u64| {
                    let held = self.matched.get(node).copied().unwrap_or(0);
                    (held, std::cmp::Reverse(self.silent_for.get(node).copied()))
                };
                there.max_by_key(rank).ok_or(NotHandedOver::NobodyThere)
            }
        }
    }
}

/// If this node leads, lets `to` lead instead, or the voter that is furthest.
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
    let next = Sight::of(raft, status.id).choose(to)?;
    tracing::info!(to = next, "handing leadership over");
    if raft.trigger().transfer_leader(next).await.is_err() {
        return Ok(status.id);
    }
    let mut metrics = raft.server_metrics();
    let taken_over = async {
        loop {
            let leader = metrics.borrow_watched().current_leader;
            if let Some(leader) = leader.filter(|leader| *leader != status.id) {
                return leader;
            }
            if metrics.changed().await.is_err() {
                return status.id;
            }
        }
    };
    let leader = tokio::time::timeout(HANDOVER_WAIT_MAX, taken_over).await;
    Ok(leader.unwrap_or_else(|_| {
        tracing::info!("nobody took the lead in time");
        status.id
    }))
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
        assert_eq!(sight().choose(None), Ok(3));
        assert_eq!(sight().choose(Some(2)), Ok(2));
        let refused = sight().choose(Some(4)).unwrap_err();
        assert_eq!(refused, NotHandedOver::NoVote { node: 4, voters: [2, 3].into() });
        let words = refused.to_string();
        assert!(words.contains("node-4 has no vote") && words.contains("node-2, node-3"));
    }

    #[test]
    fn a_voter_that_does_not_answer_is_not_asked_to_lead() {
        let mut sight = sight();
        sight.silent_for.insert(3, SILENCE_MAX * 2);
        assert_eq!(sight.choose(None), Ok(2));
        assert_eq!(sight.choose(Some(3)), Err(NotHandedOver::Silent { node: 3 }));
        // Never heard at all.
        sight.silent_for.remove(&2);
        assert_eq!(sight.choose(None), Err(NotHandedOver::NobodyThere));
        assert_eq!(sight.choose(Some(2)), Err(NotHandedOver::Silent { node: 2 }));
    }

    #[test]
    fn of_two_that_hold_as_much_the_one_heard_last_leads() {
        let mut sight = sight();
        sight.matched.insert(2, 1_000);
        sight.silent_for.insert(3, Duration::from_millis(700));
        assert_eq!(sight.choose(None), Ok(2));
    }
}
