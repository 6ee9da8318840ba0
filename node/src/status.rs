//! How a node stands, as itself sees it: for health, status, metrics and drain.

use std::collections::BTreeMap;

use openraft::async_runtime::WatchReceiver as _;
use openraft::{Instant as _, ServerState};

use crate::answer::LeaderHint;
use crate::clearance::WAITS;
use crate::raft::timing::LEADER_LEASE;
use crate::raft::{LogId, Raft, leader_hint};
use crate::store::machine::View;

/// How this node stands, as itself sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub id: u64,
    /// Its part in Raft.
    pub role: RaftRole,
    /// Its term.
    pub term: u64,
    /// Whom it follows, or itself.
    pub leader: Option<LeaderHint>,
    /// The last entry in its log.
    pub last_log_index: u64,
    /// The last entry its ledger has applied.
    pub applied_index: u64,
    /// The last entry its snapshot covers.
    pub snapshot_index: u64,
    /// On the leader: the last entry each other node is known to hold.
    pub matched: BTreeMap<u64, u64>,
    /// Whether it knows a leader and, if it is that leader, a quorum confirmed
    /// it within its leader lease. Draining does not matter.
    pub has_quorum: bool,
    /// Why it cannot serve, if it cannot.
    pub unready: Option<&'static str>,
}

/// A node's part in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RaftRole {
    /// Proposes.
    Leader,
    /// Follows a leader, or waits for one.
    Follower,
    /// Stands for election.
    Candidate,
    /// Takes entries and has no vote.
    Learner,
    /// Raft has stopped.
    Down,
}

impl RaftRole {
    /// The word for it in health answers, status and metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Down => "down",
        }
    }
}

impl NodeStatus {
    /// Of node `id`, now.
    pub(crate) fn of(
        id: u64,
        raft: &Raft,
        view: &View,
        is_cleared: bool,
        is_draining: bool,
    ) -> Self {
        let is_formed = view.look(|ledger| ledger.charter().is_some());
        let applied_index = view.read(|applied| index(applied.last));
        let metrics = raft.metrics();
        let metrics = metrics.borrow_watched();
        let leader = leader_hint(metrics.current_leader, &metrics.membership_config);
        let role = match (&metrics.running_state, metrics.state) {
            (Err(_), _) | (_, ServerState::Shutdown) => RaftRole::Down,
            (_, ServerState::Leader) => RaftRole::Leader,
            (_, ServerState::Follower) => RaftRole::Follower,
            (_, ServerState::Candidate) => RaftRole::Candidate,
            (_, ServerState::Learner) => RaftRole::Learner,
        };
        let is_confirmed = role != RaftRole::Leader
            || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() <= LEADER_LEASE);
        let unready = match () {
            () if is_draining => Some("shutting down"),
            () if role == RaftRole::Down => Some("raft has stopped"),
            () if !is_cleared => Some(WAITS),
            () if !is_formed => Some("the cluster is not formed"),
            () if leader.is_none() => Some("no leader is known"),
            () if !is_confirmed => Some("no quorum confirms this leader"),
            () => None,
        };
        let matched = metrics.replication.iter().flatten();
        Self {
            id,
            role,
            term: metrics.current_term,
            has_quorum: is_cleared && role != RaftRole::Down && leader.is_some() && is_confirmed,
            leader,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index,
            snapshot_index: index(metrics.snapshot),
            matched: matched.map(|(node, log_id)| (*node, index(*log_id))).collect(),
            unready,
        }
    }
}

fn index(log_id: Option<LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index)
}
