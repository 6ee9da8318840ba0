//! Where commands enter the cluster: here, or one hop on at the leader.
//!
//! Every caller gets one of three things within [`ANSWER_MAX`]: the ledger's
//! reply, a definite *not done*, or an honest *unknown* (S25, L4).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use ledger::Ledger;
use ledger::command::{Command, LeaseId, LogId, Outcome, Refusal, Reply};
use ledger::time::ClusterTime;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::metrics::RaftServerMetrics;
use openraft::type_config::alias::WatchReceiverOf;
use openraft::{ReadPolicy, ServerState};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;
use wire::peer::{ForwardRequest, forward_reply};

use crate::answer::{LeaderHint, NotAnswered};
use crate::clearance::{Clearance, WAITS};
use crate::news::or_never;
use crate::peers::{Peers, never_sent};
use crate::proposer::{Submission, UNCONFIRMED};
use crate::raft::message::{pack, unpack};
use crate::raft::{Raft, TypeConfig, leader_hint};
use crate::status::NodeStatus;
use crate::store::history::History;
use crate::store::machine::View;
use crate::waiters::{Waiter, Waiters};

/// From a request's arrival to its answer, whatever happens: below the 2 s of L4.
pub const ANSWER_MAX: Duration = Duration::from_millis(1_900);

/// Within this a request is on its way into the log or definitely not done.
/// Bridges a planned handover; after a crash the client asks again.
pub(crate) const TAKE_IN_MAX: Duration = Duration::from_millis(400);

/// What the way back from the leader may take, of a forwarded request's time.
const WAY_BACK: Duration = Duration::from_millis(100);

/// Between two looks for a leader.
const PAUSE: Duration = Duration::from_millis(20);

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
    view: View,
    peers: Peers,
    queue: mpsc::Sender<Submission>,
    waiters: Waiters,
    clearance: Clearance,
    draining: AtomicBool,
}

impl Service {
    pub(crate) fn new(
        id: u64,
        raft: Raft,
        view: View,
        peers: Peers,
        queue: mpsc::Sender<Submission>,
        clearance: Clearance,
    ) -> Self {
        let (waiters, draining) = (Waiters::default(), AtomicBool::new(false));
        let inner = Inner { id, raft, view, peers, queue, waiters, clearance, draining };
        Self { inner: Arc::new(inner) }
    }

    /// An application's command: proposed here, or forwarded to the leader.
    /// Asks again while nothing was done and there is time for another leader.
    ///
    /// # Errors
    /// [`NotAnswered`], within [`ANSWER_MAX`].
    pub async fn submit(&self, command: Command) -> Result<Reply, NotAnswered> {
        let arrived = Instant::now();
        let deadline = arrived + ANSWER_MAX;
        loop {
            let answer = match self.leader() {
                Some(leader) if leader != self.inner.id => {
                    self.forward(leader, &command, deadline).await
                }
                Some(_) => self.enqueue(command.clone(), false, deadline).await,
                None if !self.is_formed() => return Err(NotAnswered::NotFormed),
                None => Err(self.leaderless()),
            };
            let not_done = match answer {
                // Nothing happened, and the next leader will know better.
                Ok(Reply { outcome: Outcome::Refused(Refusal::StaleStamp), .. })
                | Err(NotAnswered::NotLeader { .. }) => NotAnswered::LeaderChanged,
                Err(again @ (NotAnswered::NoQuorum { .. } | NotAnswered::LeaderChanged)) => again,
                decided => return decided,
            };
            if arrived.elapsed() + PAUSE >= TAKE_IN_MAX {
                return Err(not_done);
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// Waits to hear how a queued request is settled. Begin before
    /// [`Service::submit`], so that a seat that comes free at once is not missed.
    pub(crate) fn wait_for(&self, lease: LeaseId) -> Waiter<'_> {
        self.inner.waiters.wait_for(lease)
    }

    /// A command that only the leader takes.
    ///
    /// # Errors
    /// [`NotAnswered`], [`NotAnswered::NotLeader`] among them, within [`ANSWER_MAX`].
    pub async fn submit_here(&self, command: Command) -> Result<Reply, NotAnswered> {
        match self.enqueue(command, false, Instant::now() + ANSWER_MAX).await {
            Err(NotAnswered::NotLeader { leader: None }) if !self.is_formed() => {
                Err(NotAnswered::NotFormed)
            }
            answered => answered,
        }
    }

    /// Like [`Service::submit_here`], for a node that forwarded and waits so long.
    pub(crate) async fn submit_forwarded(
        &self,
        command: Command,
        within: Duration,
    ) -> Result<Reply, NotAnswered> {
        self.enqueue(command, false, Instant::now() + within.min(ANSWER_MAX)).await
    }

    /// A command that may share the next sync but asks for none of its own.
    pub(crate) async fn submit_lazily(&self, command: Command) -> Result<Reply, NotAnswered> {
        let deadline = Instant::now() + ANSWER_MAX;
        match self.leader() {
            Some(leader) if leader == self.inner.id => self.enqueue(command, true, deadline).await,
            Some(leader) => self.forward(leader, &command, deadline).await,
            None => Err(self.leaderless()),
        }
    }

    fn leaderless(&self) -> NotAnswered {
        let why = if self.inner.clearance.is_given() { "no leader is known" } else { WAITS };
        NotAnswered::NoQuorum { detail: why.into() }
    }

    async fn enqueue(
        &self,
        command: Command,
        lazy: bool,
        deadline: Instant,
    ) -> Result<Reply, NotAnswered> {
        let (answer, answered) = oneshot::channel();
        let submission = Submission { command, lazy, arrived: Instant::now(), answer };
        self.inner.queue.try_send(submission).map_err(|full| match full {
            mpsc::error::TrySendError::Full(_) => NotAnswered::Overloaded,
            mpsc::error::TrySendError::Closed(_) => NotAnswered::Draining,
        })?;
        // What waits unproposed for TAKE_IN_MAX is refused, so time up means: proposed.
        match tokio::time::timeout_at(deadline, answered).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Err(unknown("this node is stopping")),
            Err(_) => Err(unknown(UNCONFIRMED)),
        }
    }

    async fn forward(
        &self,
        leader: u64,
        command: &Command,
        deadline: Instant,
    ) -> Result<Reply, NotAnswered> {
        let Some(mut client) = self.inner.peers.calls(leader) else {
            let detail = format!("node-{leader} leads and is not known here yet");
            return Err(NotAnswered::NoQuorum { detail });
        };
        // S22: the leader may be of a build that could not even read it.
        let (needs, level) = (command.level(), self.peek(Ledger::level));
        if needs > level {
            return Err(NotAnswered::LevelTooLow { needs, level });
        }
        let command = pack(command).expect("a command encodes: it is bounded and holds no maps");
        let within = deadline.saturating_duration_since(Instant::now()).saturating_sub(WAY_BACK);
        let within_ms = u32::try_from(within.as_millis()).unwrap_or(u32::MAX);
        let request = ForwardRequest { command: Some(command), within_ms };
        let answer = match tokio::time::timeout_at(deadline, client.forward(request)).await {
            Ok(Ok(answer)) => answer.into_inner(),
            Ok(Err(status)) if never_sent(&status) => {
                let detail = format!("the leader, node-{leader}, is not reached");
                return Err(NotAnswered::NoQuorum { detail });
            }
            Ok(Err(status)) => {
                return Err(unknown(format!(
                    "the way to node-{leader} broke: {}",
                    status.message()
                )));
            }
            Err(_) => return Err(unknown(format!("node-{leader} did not answer in time"))),
        };
        match answer.result {
            Some(forward_reply::Result::Reply(reply)) => {
                unpack(&reply).map_err(|status| unknown(status.message()))
            }
            Some(forward_reply::Result::NotDone(told)) => Err(NotAnswered::from_wire(told)),
            Some(forward_reply::Result::Unknown(detail)) => Err(unknown(detail)),
            None => Err(unknown("the leader's answer was empty")),
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
    /// is not confirmed by a quorum within [`ANSWER_MAX`].
    pub async fn read<T>(&self, look: impl FnOnce(&Ledger) -> T) -> Result<(AsOf, T), NotAnswered> {
        let confirm = async {
            let linearizer = self.inner.raft.get_read_linearizer(ReadPolicy::ReadIndex).await?;
            linearizer.await_ready(&self.inner.raft).await?;
            Ok::<_, RaftError<_, LinearizableReadError<_>>>(())
        };
        match tokio::time::timeout(ANSWER_MAX, confirm).await {
            Ok(Ok(())) => {}
            Ok(Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(_)))) => {
                return Err(match self.leader_hint() {
                    // It leads but may not say so yet: its lease is not confirmed.
                    Some(hint) if hint.node == self.inner.id => {
                        NotAnswered::NoQuorum { detail: "leadership is not confirmed".into() }
                    }
                    None if !self.is_formed() => NotAnswered::NotFormed,
                    leader => NotAnswered::NotLeader { leader },
                });
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, "a read was not confirmed");
                let detail = "leadership was not confirmed by a quorum".into();
                return Err(NotAnswered::NoQuorum { detail });
            }
            Err(_) => {
                let detail = "leadership was not confirmed by a quorum in time".into();
                return Err(NotAnswered::NoQuorum { detail });
            }
        }
        Ok(self.inner.view.look(|ledger| {
            let log_id = LogId { epoch: ledger.epoch(), index: ledger.applied(), position: 0 };
            (AsOf { log_id, stamp: ledger.clock() }, look(ledger))
        }))
    }

    /// This node's ledger, as far as it has applied.
    pub fn peek<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.inner.view.look(look)
    }

    /// The usage records that this node has.
    pub(crate) fn history(&self) -> &History {
        self.inner.view.history()
    }

    /// Who leads, as far as this node knows.
    pub fn leader_hint(&self) -> Option<LeaderHint> {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        leader_hint(metrics.current_leader, &metrics.membership_config)
    }

    /// How this node stands.
    pub fn node_status(&self) -> NodeStatus {
        let is_draining = self.inner.draining.load(Ordering::Relaxed);
        let is_cleared = self.inner.clearance.is_given();
        NodeStatus::of(self.inner.id, &self.inner.raft, &self.inner.view, is_cleared, is_draining)
    }

    /// From now on this node calls itself unready; what it began it finishes.
    pub(crate) fn start_draining(&self) {
        self.inner.draining.store(true, Ordering::Relaxed);
    }

    /// Tells whoever is held open for `lease` that it is settled.
    pub(crate) fn tell_waiters(&self, lease: LeaseId, reply: &Reply) {
        self.inner.waiters.tell(lease, reply);
    }

    /// Whether Raft has members: it has from the first step of forming on, so
    /// that genesis itself may look for a leader.
    fn is_formed(&self) -> bool {
        let metrics = self.inner.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().nodes().next().is_some()
    }

    /// Whether this node leads, as far as it knows.
    pub(crate) fn leads(&self) -> bool {
        self.leading_term().is_some()
    }

    /// The term in which this node leads, as far as it knows.
    pub(crate) fn leading_term(&self) -> Option<u64> {
        let term = {
            let metrics = self.inner.raft.server_metrics();
            let metrics = metrics.borrow_watched();
            (metrics.state == ServerState::Leader).then(|| metrics.vote.leader_id().term)
        };
        term.filter(|_| self.inner.clearance.is_given())
    }

    /// The elections that this node hears of.
    pub(crate) fn elections(&self) -> Elections {
        Elections(self.inner.raft.server_metrics())
    }

    /// The leader, for a node that may speak to it in its own name.
    pub(crate) fn leader(&self) -> Option<u64> {
        if !self.inner.clearance.is_given() {
            return None;
        }
        self.inner.raft.server_metrics().borrow_watched().current_leader
    }
}

/// Tells when somebody was elected, or stands.
pub(crate) struct Elections(WatchReceiverOf<TypeConfig, RaftServerMetrics<TypeConfig>>);

impl Elections {
    pub(crate) async fn next(&mut self) {
        or_never(self.0.changed()).await;
    }
}

fn unknown(detail: impl Into<String>) -> NotAnswered {
    NotAnswered::Unknown { detail: detail.into() }
}
