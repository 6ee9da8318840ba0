//! Where a new connection goes: probe results in, an order of nodes out. Pure.
//!
//! A claim to lead is weighed by its term, not by who makes it: an ex-leader on
//! the wrong side of a partition still believes in itself, but in a lower term.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Which node of the cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct NodeId(pub u64);

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node-{}", self.0)
    }
}

/// What a node says it is in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Leads its term.
    Leader,
    /// Follows.
    Follower,
    /// Stands for election.
    Candidate,
    /// Receives the log without a vote. Also what a newer node may call itself.
    #[serde(other)]
    Learner,
}

/// A node's answer to `GET /leader`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who answers.
    pub node: NodeId,
    /// What it says it is.
    pub role: Role,
    /// Its current term.
    pub term: u64,
    /// Whom it takes for the leader of that term.
    pub leader: Option<NodeId>,
    /// Whether it can serve or forward a request now.
    pub ready: bool,
}

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// The node answered.
    Answered(Report),
    /// It did not, or not sensibly.
    Failed,
}

/// How a node is, as far as probes tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Health {
    /// Not probed yet.
    Unknown,
    /// Answered the last probe.
    Up,
    /// Missed the last probe, but not yet enough of them to be down.
    Suspect,
    /// Missed as many probes in a row as the configuration allows.
    Down,
}

/// What an observation changed; the caller acts on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// The node answers (again).
    CameUp(NodeId),
    /// The node is down: its connections are to be cut.
    WentDown(NodeId),
    /// Another node leads, or none is known to.
    LeaderMoved(Option<Leadership>),
}

/// Who leads which term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Leadership {
    /// The leader.
    pub node: NodeId,
    /// Its term.
    pub term: u64,
}

/// One node as the balancer sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// The node.
    pub node: NodeId,
    /// How it is.
    pub health: Health,
    /// Probes missed in a row.
    pub failures: u32,
    /// Its last answer; `None` while it is down.
    pub report: Option<Report>,
}

/// What the balancer believes about its nodes.
#[derive(Debug)]
pub struct Topology {
    views: Vec<View>,
    failures_max: u32,
    /// Where the round robin stands.
    turn: usize,
}

impl Topology {
    /// Nothing known yet of `nodes`; one is down after `failures_max` failures in a row.
    pub fn new(nodes: impl IntoIterator<Item = NodeId>, failures_max: u32) -> Self {
        let unknown = |node| View { node, health: Health::Unknown, failures: 0, report: None };
        Self { views: nodes.into_iter().map(unknown).collect(), failures_max, turn: 0 }
    }

    /// Takes in what a probe of `node` found, and says what that changed.
    ///
    /// An answer in another node's name counts as a failure.
    pub fn observe(&mut self, node: NodeId, observation: Observation) -> Vec<Change> {
        let led = self.leader();
        let failures_max = self.failures_max;
        let Some(view) = self.views.iter_mut().find(|view| view.node == node) else {
            return Vec::new();
        };
        let before = view.health;
        match observation {
            Observation::Answered(report) if report.node == node => {
                *view = View { node, health: Health::Up, failures: 0, report: Some(report) };
            }
            Observation::Answered(_) | Observation::Failed => {
                view.failures = view.failures.saturating_add(1);
                view.health = Health::Suspect;
                if view.failures >= failures_max {
                    view.health = Health::Down;
                    view.report = None;
                }
            }
        }
        let mut changes = Vec::new();
        match (before, view.health) {
            (Health::Down | Health::Unknown, Health::Up) => changes.push(Change::CameUp(node)),
            (Health::Down, _) => {}
            (_, Health::Down) => changes.push(Change::WentDown(node)),
            _ => {}
        }
        let leads = self.leader();
        if leads != led {
            changes.push(Change::LeaderMoved(leads));
        }
        changes
    }

    /// Who leads: the claim with the highest term among nodes not known to be
    /// down, a node's claim for itself before hearsay of the same term.
    pub fn leader(&self) -> Option<Leadership> {
        let claims =
            self.views.iter().filter_map(|view| view.report.as_ref()).filter_map(|report| {
                let own = report.role == Role::Leader;
                let node = if own { report.node } else { report.leader? };
                Some((report.term, own, node))
            });
        let (term, _, node) = claims.filter(|(_, _, node)| self.view(*node).is_some()).max()?;
        Some(Leadership { node, term })
    }

    /// The nodes to try for a new connection, best first.
    ///
    /// The leader if it is ready; then ready nodes, which forward; then any that
    /// answers, for somebody must say "no quorum"; then those not heard lately.
    /// Nodes that are down are tried only when there is nobody else: a probe
    /// may be wrong. Equals take turns.
    pub fn route(&mut self) -> Vec<NodeId> {
        let leader = self.leader().map(|leadership| leadership.node);
        let rank = |view: &View| {
            let ready = view.report.as_ref().is_some_and(|report| report.ready);
            match (view.health, ready) {
                (Health::Up, true) if Some(view.node) == leader => Rank::Leader,
                (Health::Up, true) => Rank::Ready,
                (Health::Up, false) => Rank::Reachable,
                (Health::Unknown | Health::Suspect, _) => Rank::Unheard,
                (Health::Down, _) => Rank::Down,
            }
        };
        let count = self.views.len().max(1);
        let turn = self.turn;
        self.turn = (turn + 1) % count;
        let mut order: Vec<_> = self
            .views
            .iter()
            .enumerate()
            .map(|(place, view)| (rank(view), (place + count - turn) % count, view.node))
            .collect();
        order.sort_unstable();
        let somebody_is_up = order.iter().any(|(rank, ..)| *rank != Rank::Down);
        order.retain(|(rank, ..)| !somebody_is_up || *rank != Rank::Down);
        order.into_iter().map(|(.., node)| node).collect()
    }

    /// Every node as it is seen now, in configured order.
    pub fn views(&self) -> &[View] {
        &self.views
    }

    /// Whether at least one node answered its last probe.
    pub fn anyone_up(&self) -> bool {
        self.views.iter().any(|view| view.health == Health::Up)
    }

    fn view(&self, node: NodeId) -> Option<&View> {
        self.views.iter().find(|view| view.node == node)
    }
}

/// How well a node suits a new connection, best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Leader,
    Ready,
    Reachable,
    Unheard,
    Down,
}

#[cfg(test)]
#[path = "topology_tests.rs"]
mod tests;
