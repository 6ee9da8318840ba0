//! Where commands enter the cluster: here, or one hop on at the leader.
//!
//! Every caller gets one of three things: the ledger's reply, a definite *not
//! done*, or an honest *unknown* (S25). Nothing here waits for ever.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ledger::Ledger;
use ledger::command::{Acquire, Command, LeaseId, LogId, Outcome, Refusal, Reply};
use ledger::time::ClusterTime;
use openraft::ReadPolicy;
use openraft::errors::{LinearizableReadError, RaftError};
use tokio::sync::{mpsc, oneshot};
use wire::peer::{ForwardRequest, forward_reply};

use crate::peers::{Peers, never_sent};
use crate::proposer::Submission;
use crate::raft::Raft;
use crate::store::machine::Reader;

/// How long a request waits for a leader, or for its own outcome, before its
/// caller is told. Below the 2 s in which L4 wants an answer.
const PATIENCE: Duration = Duration::from_millis(1_500);

/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_millis(20);

/// Why there is no reply of the ledger.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotAnswered {
    /// Definitely not done.
    #[error("no quorum: {detail}; nothing was done, ask again when two of the three nodes are up (see `trine cluster status`)")]
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
    #[error("this node has more requests waiting than it takes in; nothing was done, ask again in a moment")]
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

/// The door between the API and the cluster. Cheap to clone.
#[derive(Clone)]
pub struct Service {
    inner: Arc<Inner>,
}

struct Inner {
    id: u64,
    raft: Raft,
    reader: Reader,
    peers: Peers,
    queue: mpsc::Sender<Submission>,
    /// Who is to be told when a queued request is settled.
    waiting: Mutex<BTreeMap<LeaseId, Vec<oneshot::Sender<Reply>>>>,
}

impl Service {
    pub(crate) fn new(
        id: u64,
        raft: Raft,
        reader: Reader,
        peers: Peers,
        queue: mpsc::Sender<Submission>,
    ) -> Self {
        let waiting = Mutex::new(BTreeMap::new());
        Self { inner: Arc::new(Inner { id, raft, reader, peers, queue, waiting }) }
    }

    /// An application's command: proposed here, or forwarded to the leader.
    ///
    /// If the answer is a place in the queue, waits up to `hold` for the seat.
    ///
    /// # Errors
    /// [`NotAnswered`], within about two seconds.
    pub async fn submit(&self, command: Command, hold: Duration) -> Result<Reply, NotAnswered> {
        let held = match &command {
            Command::Acquire(Acquire { lease, wait_until: Some(_), .. }) if !hold.is_zero() => {
                // Before asking, so that a seat that comes free at once is not missed.
                Some((*lease, self.await_settling(*lease)))
            }
            _ => None,
        };
        let reply = self.ask_until(command).await?;
        match held {
            Some((lease, settled)) if matches!(reply.outcome, Outcome::Queued(_)) => {
                let settled = tokio::time::timeout(hold, settled).await;
                self.forget_closed(lease);
                Ok(settled.ok().and_then(Result::ok).unwrap_or(reply))
            }
            Some((lease, settled)) => {
                drop(settled);
                self.forget_closed(lease);
                Ok(reply)
            }
            None => Ok(reply),
        }
    }

    /// Asks wherever the leader is, again and again while nothing was done.
    async fn ask_until(&self, command: Command) -> Result<Reply, NotAnswered> {
        let give_up = tokio::time::Instant::now() + PATIENCE;
        loop {
            let answer = match self.leader() {
                Some(leader) if leader != self.inner.id => {
                    self.forward(leader, &command).await
                }
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
        let request = ForwardRequest { command: ledger::codec::encode_command(command) };
        let sent = tokio::time::timeout(PATIENCE, client.forward(request)).await;
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
            Some(forward_reply::Result::Reply(bytes)) => ledger::codec::decode_reply(&bytes)
                .map_err(|error| NotAnswered::Unknown { detail: error.to_string() }),
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
    pub async fn read<T>(
        &self,
        look: impl FnOnce(&Ledger) -> T,
    ) -> Result<(AsOf, T), NotAnswered> {
        let confirm = async {
            let linearizer = self.inner.raft.get_read_linearizer(ReadPolicy::ReadIndex).await?;
            linearizer.await_ready(&self.inner.raft).await?;
            Ok::<_, RaftError<_, LinearizableReadError<_>>>(())
        };
        match tokio::time::timeout(PATIENCE, confirm).await {
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
        Ok(self.inner.reader.look(|ledger| {
            let log_id = LogId { epoch: 0, index: ledger.applied(), position: 0 };
            (AsOf { log_id, stamp: ledger.clock() }, look(ledger))
        }))
    }

    /// This node's ledger, as far as it has applied.
    pub fn peek<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.inner.reader.look(look)
    }

    /// Who leads, as far as this node knows.
    pub fn leader_hint(&self) -> Option<LeaderHint> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow();
        let node = metrics.current_leader?;
        let endpoints = metrics.membership_config.membership().get_node(&node)?;
        Some(LeaderHint { node, client_address: endpoints.client.clone() })
    }

    fn leader(&self) -> Option<u64> {
        self.inner.raft.server_metrics().borrow().current_leader
    }

    /// Tells whoever waits for `lease` that it is settled.
    pub(crate) fn settle(&self, lease: LeaseId, reply: &Reply) {
        let waiters = self.waiting().remove(&lease).unwrap_or_default();
        for waiter in waiters {
            // A caller that hung up learns it by asking again.
            let _ = waiter.send(reply.clone());
        }
    }

    fn await_settling(&self, lease: LeaseId) -> oneshot::Receiver<Reply> {
        let (settled, receiver) = oneshot::channel();
        self.waiting().entry(lease).or_default().push(settled);
        receiver
    }

    fn forget_closed(&self, lease: LeaseId) {
        let mut waiting = self.waiting();
        if let Some(waiters) = waiting.get_mut(&lease) {
            waiters.retain(|waiter| !waiter.is_closed());
            if waiters.is_empty() {
                waiting.remove(&lease);
            }
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, BTreeMap<LeaseId, Vec<oneshot::Sender<Reply>>>> {
        // Nothing panics while it holds this lock, and a map of channels is never half changed.
        self.inner.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
