//! Where commands enter the cluster: here, or one hop on at the leader.
//!
//! Every caller gets one of three things: the ledger's reply, a definite *not
//! done*, or an honest *unknown* (S25). Nothing here waits for ever.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::Ledger;
use ledger::command::{Acquire, Command, LeaseId, LogId, Outcome, Refusal, Reply};
use ledger::time::ClusterTime;
use openraft::Instant as _;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::{ReadPolicy, ServerState};
use tokio::sync::{mpsc, oneshot};
use wire::peer::{ForwardRequest, forward_reply};

use crate::peers::{Peers, never_sent};
use crate::proposer::{QUORUM_SILENCE_MAX, Submission};
use crate::raft::Raft;
use crate::raft::message::{pack, unpack};
use crate::store::machine::View;

/// How long a request looks for a leader that takes it in. Long enough to bridge
/// a planned handover; after a crash the client asks again.
const LEADER_WAIT_MAX: Duration = Duration::from_millis(400);

/// How long the leader may take to answer what was forwarded to it, and a quorum
/// to confirm a read. With the wait before it, below the 2 s of L4.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(1_500);

/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_millis(20);

/// Why there is no reply of the ledger.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotAnswered {
    /// Definitely not done.
    #[error(
        "no quorum: {detail}; nothing was done, ask again when two of the three nodes are up (see `trine cluster status`)"
    )]
    NoQuorum {
        /// What is missing.
        detail: String,
    },
    /// Definitely not done: only the leader answers this.
    #[error("this node does not lead{}", leader.as_ref().map(|l| format!("; node-{} at {} does", l.node, l.client_address)).unwrap_or_default())]
    NotLeader {
        /// Who does, if known.
        leader: Option<LeaderHint>,
    },
    /// Definitely not done.
    #[error(
        "this node has more requests waiting than it takes in; nothing was done, ask again in a moment"
    )]
    Overloaded,
    /// Definitely not done.
    #[error("this node is shutting down; nothing was done, ask another")]
    Draining,
    /// Definitely not done.
    #[error("the cluster is not formed yet; run `trine cluster init`")]
    NotFormed,
    /// It may or may not have been done; asking again with the same id is safe.
    #[error("the outcome is unknown: {detail}; ask again with the same request id")]
    Unknown {
        /// What broke.
        detail: String,
    },
}

/// Who leads, and where applications and operators reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The node.
    pub node: u64,
    /// Its client address.
    pub client_address: String,
}

/// The state a read is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AsOf {
    /// The last command it includes.
    pub log_id: LogId,
    /// Cluster time there.
    pub stamp: ClusterTime,
}

/// How this node stands, as itself sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeStatus {
    /// The node.
    pub id: u64,
    /// Its part in Raft.
    pub role: Role,
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
    /// it within the last second. Draining does not matter.
    pub has_quorum: bool,
    /// Why it cannot serve, if it cannot.
    pub unready: Option<&'static str>,
}

/// A node's part in Raft.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
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

impl Role {
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

/// Somebody waiting for a queued request; forgotten however the wait ends.
struct Settling<'a> {
    service: &'a Service,
    lease: LeaseId,
    settled: oneshot::Receiver<Reply>,
}

impl Drop for Settling<'_> {
    fn drop(&mut self) {
        self.settled.close();
        let mut waiting = self.service.waiting();
        if let Some(waiters) = waiting.get_mut(&self.lease) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                waiting.remove(&self.lease);
            }
        }
    }
}

/// The door between the API and the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    raft: Raft,
    view: View,
    peers: Peers,
    queue: mpsc::Sender<Submission>,
    /// Who is to be told when a queued request is settled.
    waiting: Mutex<Waiting>,
    draining: AtomicBool,
}

type Waiting = BTreeMap<LeaseId, Vec<oneshot::Sender<Reply>>>;

fn index(log_id: Option<crate::raft::LogId>) -> u64 {
    log_id.map_or(0, |log_id| log_id.index)
}

impl Service {
    pub(crate) fn new(
        id: u64,
        raft: Raft,
        view: View,
        peers: Peers,
        queue: mpsc::Sender<Submission>,
    ) -> Self {
        let waiting = Mutex::default();
        let draining = AtomicBool::new(false);
        Self { inner: Arc::new(Inner { id, raft, view, peers, queue, waiting, draining }) }
    }

    /// An application's command: proposed here, or forwarded to the leader.
    ///
    /// If the answer is a place in the queue, waits up to `hold` for the seat.
    ///
    /// # Errors
    /// [`NotAnswered`], within about two seconds.
    pub async fn submit(&self, command: Command, hold: Duration) -> Result<Reply, NotAnswered> {
        let settling = match &command {
            Command::Acquire(Acquire { lease, wait_until: Some(_), .. }) if !hold.is_zero() => {
                // Before asking, so that a seat that comes free at once is not missed.
                Some(self.await_settling(*lease))
            }
            _ => None,
        };
        let reply = self.ask_until(command).await?;
        match settling {
            Some(mut settling) if matches!(reply.outcome, Outcome::Queued(_)) => {
                let settled = tokio::time::timeout(hold, &mut settling.settled).await;
                Ok(settled.ok().and_then(Result::ok).unwrap_or(reply))
            }
            _ => Ok(reply),
        }
    }

    /// Asks wherever the leader is, again and again while nothing was done.
    async fn ask_until(&self, command: Command) -> Result<Reply, NotAnswered> {
        let give_up = tokio::time::Instant::now() + LEADER_WAIT_MAX;
        loop {
            let answer = match self.leader() {
                Some(leader) if leader != self.inner.id => self.forward(leader, &command).await,
                Some(_) => self.submit_here(command.clone()).await,
                None => Err(NotAnswered::NoQuorum { detail: "no leader is known".into() }),
            };
            let not_done = match answer {
                // Nothing happened and the next leader will know better.
                Ok(reply) if reply.outcome == Outcome::Refused(Refusal::StaleStamp) => {
                    NotAnswered::NoQuorum { detail: "the leader changed".into() }
                }
                Ok(reply) => return Ok(reply),
                Err(
                    final_answer @ (NotAnswered::Unknown { .. }
                    | NotAnswered::Overloaded
                    | NotAnswered::Draining
                    | NotAnswered::NotFormed),
                ) => return Err(final_answer),
                Err(NotAnswered::NotLeader { .. }) => {
                    NotAnswered::NoQuorum { detail: "the leader changed".into() }
                }
                Err(no_quorum @ NotAnswered::NoQuorum { .. }) => no_quorum,
            };
            if tokio::time::Instant::now() + PAUSE >= give_up {
                return Err(not_done);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// A command that only the leader takes.
    ///
    /// # Errors
    /// [`NotAnswered`], [`NotAnswered::NotLeader`] among them.
    pub async fn submit_here(&self, command: Command) -> Result<Reply, NotAnswered> {
        self.enqueue(command, false).await
    }

    /// A command that may share the next sync but asks for none of its own.
    pub(crate) async fn submit_lazily(&self, command: Command) -> Result<Reply, NotAnswered> {
        match self.leader() {
            Some(leader) if leader == self.inner.id => self.enqueue(command, true).await,
            Some(leader) => self.forward(leader, &command).await,
            None => Err(NotAnswered::NoQuorum { detail: "no leader is known".into() }),
        }
    }

    async fn enqueue(&self, command: Command, lazy: bool) -> Result<Reply, NotAnswered> {
        let (answer, answered) = oneshot::channel();
        let submission = Submission { command, lazy, answer };
        self.inner.queue.try_send(submission).map_err(|full| match full {
            mpsc::error::TrySendError::Full(_) => NotAnswered::Overloaded,
            mpsc::error::TrySendError::Closed(_) => NotAnswered::Draining,
        })?;
        // The proposer answers each submission, in time; if it is gone, the node is stopping.
        answered.await.unwrap_or_else(|_| {
            Err(NotAnswered::Unknown { detail: "this node is stopping".into() })
        })
    }

    async fn forward(&self, leader: u64, command: &Command) -> Result<Reply, NotAnswered> {
        let Some(mut client) = self.inner.peers.calls(leader) else {
            let detail = format!("node-{leader} leads and is not in this node's config");
            return Err(NotAnswered::NoQuorum { detail });
        };
        let command = pack(command)
            .map_err(|status| NotAnswered::NoQuorum { detail: status.message().to_owned() })?;
        let request = ForwardRequest { command: Some(command) };
        let sent = tokio::time::timeout(ANSWER_WAIT_MAX, client.forward(request)).await;
        let answer = match sent {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) if never_sent(&status) => {
                let detail = format!("the leader, node-{leader}, is not reached");
                return Err(NotAnswered::NoQuorum { detail });
            }
            Ok(Err(status)) => {
                let detail = format!("the way to node-{leader} broke: {}", status.message());
                return Err(NotAnswered::Unknown { detail });
            }
            Err(_) => {
                let detail = format!("node-{leader} did not answer in time");
                return Err(NotAnswered::Unknown { detail });
            }
        };
        match answer.result {
            Some(forward_reply::Result::Reply(reply)) => unpack(&reply)
                .map_err(|status| NotAnswered::Unknown { detail: status.message().to_owned() }),
            Some(forward_reply::Result::NotDone(detail)) => Err(NotAnswered::NoQuorum { detail }),
            Some(forward_reply::Result::Unknown(detail)) => Err(NotAnswered::Unknown { detail }),
            None => Err(NotAnswered::Unknown { detail: "the leader's answer was empty".into() }),
        }
    }

    /// Cluster time as this node knows it: never ahead of the cluster's.
    pub fn cluster_time(&self) -> ClusterTime {
        self.peek(Ledger::clock)
    }

    /// A linearizable read, on the leader.
    ///
    /// # Errors
    /// [`NotAnswered::NotLeader`], or [`NotAnswered::NoQuorum`] when leadership
    /// is not confirmed by a quorum in time.
    pub async fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> Result<(AsOf, T), NotAnswered> {
        let confirm = async {
            let linearizer = self.inner.raft.get_read_linearizer(ReadPolicy::ReadIndex).await?;
            linearizer.await_ready(&self.inner.raft).await?;
            Ok::<_, RaftError<_, LinearizableReadError<_>>>(())
        };
        match tokio::time::timeout(ANSWER_WAIT_MAX, confirm).await {
            Ok(Ok(())) => {}
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                return Err(match self.leader_hint() {
                    // It leads but may not say so yet: its lease is not confirmed.
                    Some(hint) if hint.node == self.inner.id => {
                        NotAnswered::NoQuorum { detail: "leadership is not confirmed".into() }
                    }
                    leader => NotAnswered::NotLeader { leader },
                });
            }
            Ok(Err(error)) => return Err(NotAnswered::NoQuorum { detail: error.to_string() }),
            Err(_) => {
                let detail = "leadership was not confirmed by a quorum in time".into();
                return Err(NotAnswered::NoQuorum { detail });
            }
        }
        Ok(self.inner.view.look(|ledger| {
            let log_id = LogId { epoch: 0, index: ledger.applied(), position: 0 };
            (AsOf { log_id, stamp: ledger.clock() }, look(ledger))
        }))
    }

    /// This node's ledger, as far as it has applied.
    pub fn peek<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.inner.view.look(look)
    }

    /// Who leads, as far as this node knows.
    pub fn leader_hint(&self) -> Option<LeaderHint> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let node = metrics.current_leader?;
        let endpoints = metrics.membership_config.membership().get_node(&node)?;
        Some(LeaderHint { node, client_address: endpoints.client.clone() })
    }

    /// How this node stands.
    pub fn node_status(&self) -> NodeStatus {
        let leader = self.leader_hint();
        let is_formed = self.peek(|ledger| ledger.genesis().is_some());
        let metrics = self.inner.raft.metrics();
        let metrics = metrics.borrow_watched();
        let role = match (&metrics.running_state, metrics.state) {
            (Err(_), _) | (_, ServerState::Shutdown) => Role::Down,
            (_, ServerState::Leader) => Role::Leader,
            (_, ServerState::Follower) => Role::Follower,
            (_, ServerState::Candidate) => Role::Candidate,
            (_, ServerState::Learner) => Role::Learner,
        };
        let is_confirmed = role != Role::Leader
            || metrics.last_quorum_acked.is_some_and(|acked| acked.elapsed() <= QUORUM_SILENCE_MAX);
        let has_quorum = role != Role::Down && leader.is_some() && is_confirmed;
        let unready = if self.inner.draining.load(Ordering::Relaxed) {
            Some("shutting down")
        } else if role == Role::Down {
            Some("raft has stopped")
        } else if !is_formed {
            Some("the cluster is not formed")
        } else if leader.is_none() {
            Some("no leader is known")
        } else if !is_confirmed {
            Some("no quorum confirms this leader")
        } else {
            None
        };
        let matched = metrics.replication.iter().flatten();
        NodeStatus {
            has_quorum,
            id: self.inner.id,
            role,
            term: metrics.current_term,
            leader,
            last_log_index: metrics.last_log_index.unwrap_or(0),
            applied_index: index(metrics.last_applied),
            snapshot_index: index(metrics.snapshot),
            matched: matched.map(|(node, log_id)| (*node, index(*log_id))).collect(),
            unready,
        }
    }

    /// From now on this node calls itself unready; what it began it finishes.
    pub(crate) fn start_draining(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    fn leader(&self) -> Option<u64> {
        self.inner.raft.server_metrics().borrow_watched().current_leader
    }

    /// Tells whoever waits for `lease` that it is settled.
    pub(crate) fn settle(&self, lease: LeaseId, reply: &Reply) {
        let waiters = self.waiting().remove(&lease).unwrap_or_default();
        for waiter in waiters {
            // A caller that hung up learns it by asking again.
            let _ = waiter.send(reply.clone());
        }
    }

    fn await_settling(&self, lease: LeaseId) -> Settling<'_> {
        let (waiter, settled) = oneshot::channel();
        self.waiting().entry(lease).or_default().push(waiter);
        Settling { service: self, lease, settled }
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // Nothing panics while it holds this lock, and a map of channels is never half changed.
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View {
    /// Looks at the ledger as it is now. Entries wait meanwhile, so be quick.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.read(|applied| look(&applied.ledger))
    }
}
