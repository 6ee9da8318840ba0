//! Raft as this node runs it: openraft's types with our entries, answers and addresses.

pub(crate) mod arrival;
mod forward;
pub(crate) mod message;
pub(crate) mod network;
pub(crate) mod server;
pub mod timing;

use std::fmt;
use std::future::Future;
use std::sync::Arc;

use ledger::command::{Batch, Reply};
use openraft::vote::RaftLeaderId;
use serde::{Deserialize, Serialize};

openraft::declare_raft_types!(
    /// The types this node gives to openraft.
    ///
    /// One leader per term (`leader_id_std`): a stamp carries a term, and a
    /// license is signed per term, so a term must name one leader (S16).
    pub TypeConfig:
        D = Proposal,
        R = Replies,
        NodeId = u64,
        Node = Endpoints,
        LeaderId = openraft::impls::leader_id_std::LeaderId<Self::Term, Self::NodeId>,
        AsyncRuntime = Runtime,
);

/// Tokio, with election timeouts drawn from a seed that is handed in.
///
/// Everything that touches Raft runs inside [`seeded`] or is started by
/// [`spawn`] from within it; outside, openraft panics for want of a seed.
pub type Runtime =
    openraft_rt::deterministic_rng::DeterministicRng<openraft_rt_tokio::TokioRuntime>;

/// Runs `future` with `seed` as the root of Raft's randomness.
///
/// `main` draws the seed from the operating system, the simulator from its own.
pub fn seeded<F: Future>(seed: u64, future: F) -> impl Future<Output = F::Output> {
    Runtime::scope(seed, future)
}

/// Starts a task that may touch Raft: its seed derives from its parent's.
pub fn spawn<F>(future: F) -> tokio::task::JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    <Runtime as openraft::AsyncRuntime>::spawn(future)
}

/// What one log entry proposes: a batch, shared because the log's window, every
/// follower's stream and the machine hold the same entry at once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proposal(pub Arc<Batch>);

impl From<Batch> for Proposal {
    fn from(batch: Batch) -> Self {
        Self(Arc::new(batch))
    }
}

/// Says how much, not what: openraft logs its entries, and commands hold lease ids.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} commands at {}", self.0.commands.len(), self.0.stamp.time)
    }
}

/// The answers to one batch, in its order; empty for entries that are Raft's own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replies(pub Vec<Reply>);

/// Where a node is found. Text, because names may resolve differently tomorrow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoints {
    /// `host:port` where other nodes dial.
    pub peer: String,
    /// `host:port` where applications and balancers dial.
    pub client: String,
}

impl fmt::Display for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.peer)
    }
}

/// Which node, as Raft sees it: the number of a [`license::product::NodeId`].
pub type NodeId = u64;
/// Whom this node votes for or follows.
pub type LeaderId = openraft::type_config::alias::LeaderIdOf<TypeConfig>;
/// A vote, granted or cast.
pub type Vote = openraft::type_config::alias::VoteOf<TypeConfig>;
/// A place in the log: term and index.
pub type LogId = openraft::type_config::alias::LogIdOf<TypeConfig>;
/// One log entry.
pub type Entry = openraft::type_config::alias::EntryOf<TypeConfig>;
/// What an entry carries.
pub type EntryPayload = openraft::type_config::alias::PayloadOf<TypeConfig>;
/// Who is a member.
pub type Membership = openraft::Membership<NodeId, Endpoints>;
/// Who is a member, and which entry said so.
pub type StoredMembership = openraft::type_config::alias::StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = openraft::type_config::alias::SnapshotMetaOf<TypeConfig>;
/// A snapshot and what it covers.
pub type Snapshot =
    openraft::type_config::alias::SnapshotOf<TypeConfig, crate::store::machine::SnapshotBytes>;
/// Raft over our log and machine.
pub type Raft = openraft::Raft<TypeConfig, crate::store::machine::Machine>;

/// The first message of a snapshot on its way to a follower.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct SnapshotHeader {
    pub(crate) vote: Vote,
    pub(crate) meta: SnapshotMeta,
    /// How many bytes follow.
    pub(crate) bytes: u64,
}

/// Who leads and where applications reach it, if the membership knows.
pub(crate) fn leader_hint(
    leader: Option<NodeId>,
    membership: &StoredMembership,
) -> Option<crate::answer::LeaderHint> {
    let node = leader?;
    let client_address = membership.membership().get_node(&node)?.client.clone();
    Some(crate::answer::LeaderHint { node, client_address })
}

/// The log id of `index` in `term`.
pub fn log_id(term: u64, index: u64) -> LogId {
    // In standard Raft the term alone names the leader, whatever node id is given here.
    LogId { leader_id: LeaderId::new(term, 0).to_committed(), index }
}
