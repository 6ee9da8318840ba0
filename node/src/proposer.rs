//! Batches what has arrived, stamps it, proposes one log entry for it.
//!
//! The only place where cluster time is made (laws.md, Time). A lone request
//! leaves at once; while [`IN_FLIGHT_MAX`] batches are on their way the next
//! crowd gathers, and shares one sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ledger::command::{Batch, Command, Reply};
use license::product::NodeId;
use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::agreement::{self, Agreement};
use crate::clock::Clock;
use crate::office::{Office, TICK};
use crate::raft::{Proposal, Raft, Replies, spawn};
use crate::service::NotAnswered;
use crate::store::machine::View;
use crate::telemetry::{ClockAlarm, Metrics};

/// Submissions that may wait in the channel before new ones are refused.
pub(crate) const QUEUE_MAX: usize = 16_384;

/// Most commands of one batch.
const BATCH_COMMANDS_MAX: usize = 1_024;

/// A batch takes no further command beyond this many bytes, roughly.
const BATCH_BYTES_MAX: usize = 256 << 10;

/// Batches that may be on their way at once.
const IN_FLIGHT_MAX: usize = 4;

/// A leader that no quorum has confirmed for so long takes nothing in (L4).
pub(crate) const QUORUM_SILENCE_MAX: Duration = Duration::from_millis(1_000);

/// How long a submission waits for this node to be ready to lead.
const READY_WAIT_MAX: Duration = Duration::from_millis(300);

/// A batch without an outcome by then is reported unknown. Less than the
/// 2 s of L4, which also covers what passed before it was proposed.
const OUTCOME_WAIT_MAX: Duration = Duration::from_millis(1_400);

/// While a lease lives a stamp is logged at least this often.
const STAMP_INTERVAL: Duration = Duration::from_secs(1);

/// A command and where its answer goes.
pub(crate) struct Submission {
    pub(crate) command: Command,
    /// Content to share the sync of whatever comes next, by the next tick at the latest.
    pub(crate) lazy: bool,
    pub(crate) answer: Answer,
}

type Answer = oneshot::Sender<Result<Reply, NotAnswered>>;

pub(crate) struct Proposer {
    node: NodeId,
    raft: Raft,
    view: View,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    queue: mpsc::Receiver<Submission>,
    pending: VecDeque<(Submission, Instant)>,
    office: Option<Office>,
    /// The node whose ledger differs while no third one can decide (S18).
    differs_from: Option<NodeId>,
    last_stamp: Instant,
    slots: Arc<Semaphore>,
}

/// Whether this node may propose.
enum Standing {
    Leads,
    /// Elected a moment ago: wait.
    NotYet(&'static str),
    Refuses(NotAnswered),
}

impl Proposer {
    pub(crate) fn new(
        node: NodeId,
        raft: Raft,
        view: View,
        clock: Arc<dyn Clock>,
        metrics: Arc<Metrics>,
        queue: mpsc::Receiver<Submission>,
    ) -> Self {
        Self {
            node,
            raft,
            view,
            clock,
            metrics,
            queue,
            pending: VecDeque::new(),
            office: None,
            differs_from: None,
            last_stamp: Instant::now(),
            slots: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }

    /// Runs until the last [`Service`](crate::service::Service) is gone.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut ticked = false;
        loop {
            let slots = self.slots.clone();
            tokio::select! {
                submission = self.queue.recv(), if self.pending.len() < QUEUE_MAX => {
                    let Some(submission) = submission else { return };
                    self.pending.push_back((submission, Instant::now()));
                    while self.pending.len() < QUEUE_MAX
                        && let Ok(submission) = self.queue.try_recv()
                    {
                        self.pending.push_back((submission, Instant::now()));
                    }
                }
                _ = ticks.tick() => {
                    ticked = true;
                    self.compare_ledgers();
                }
                // A slot came free while a crowd waits for one.
                slot = slots.clone().acquire_owned(), if self.is_crowded() => drop(slot),
            }
            match self.standing() {
                Standing::Leads => {
                    while (ticked && self.is_stamp_due() || self.has_work(ticked))
                        && let Ok(slot) = slots.clone().try_acquire_owned()
                    {
                        self.propose(slot);
                        ticked = false;
                    }
                }
                Standing::NotYet(detail) => self.refuse_those_who_waited(detail),
                Standing::Refuses(reason) => self.refuse_all(&reason),
            }
            ticked = false;
        }
    }

    fn compare_ledgers(&mut self) {
        self.differs_from = match self.view.look(|ledger| agreement::of(ledger, self.node)) {
            Agreement::Undecided { with, .. } => Some(with),
            _ => None,
        };
    }

    fn is_crowded(&self) -> bool {
        self.office.is_some() && self.has_work(false) && self.slots.available_permits() == 0
    }

    fn has_work(&self, lazy_too: bool) -> bool {
        self.pending.iter().any(|(submission, _)| lazy_too || !submission.lazy)
    }

    /// A stamp is logged when a deadline is due, and now and then while a lease lives.
    fn is_stamp_due(&mut self) -> bool {
        let Some(office) = &mut self.office else { return false };
        let boot = self.clock.boot();
        if office.sees_jump(boot) {
            self.metrics.clock_alarm(ClockAlarm::Jump);
        }
        let now = office.stamp(boot).time;
        let since_last = self.last_stamp.elapsed();
        self.view.look(|ledger| {
            ledger.overdue()
                || ledger
                    .next_deadline()
                    .is_some_and(|deadline| deadline <= now || since_last >= STAMP_INTERVAL)
        })
    }

    fn standing(&mut self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        if metrics.state != ServerState::Leader {
            self.office = None;
            let leader = metrics.current_leader.and_then(|node| {
                let endpoints = metrics.membership_config.membership().get_node(&node)?;
                let client_address = endpoints.client.clone();
                Some(crate::service::LeaderHint { node, client_address })
            });
            return Standing::Refuses(NotAnswered::NotLeader { leader });
        }
        let term = metrics.current_term;
        if self.office.as_ref().is_none_or(|office| office.term() != term) {
            self.office = None;
            // Time starts from the ledger's clock only once an entry of this
            // term is applied: then every earlier stamp is in it (S14).
            let applied_own = metrics.last_applied.is_some_and(|id| id.leader_id.term == term);
            if !applied_own {
                return Standing::NotYet("this node was elected a moment ago");
            }
            let clock = self.view.look(ledger::Ledger::clock);
            self.office = Some(Office::take(term, clock, self.clock.boot()));
            self.metrics.leader_changed();
        }
        match metrics.last_quorum_acked {
            None => Standing::NotYet("no quorum has confirmed this leader yet"),
            Some(acked) if acked.elapsed() > QUORUM_SILENCE_MAX => {
                let detail = "the leader has not heard from a second node".into();
                Standing::Refuses(NotAnswered::NoQuorum { detail })
            }
            Some(_) => Standing::Leads,
        }
    }

    fn refuse_all(&mut self, reason: &NotAnswered) {
        for (submission, _) in self.pending.drain(..) {
            let _ = submission.answer.send(Err(reason.clone()));
        }
    }

    fn refuse_those_who_waited(&mut self, detail: &str) {
        let now = Instant::now();
        while let Some((_, since)) = self.pending.front()
            && now.duration_since(*since) >= READY_WAIT_MAX
        {
            if let Some((submission, _)) = self.pending.pop_front() {
                let no_quorum = NotAnswered::NoQuorum { detail: detail.to_owned() };
                let _ = submission.answer.send(Err(no_quorum));
            }
        }
    }

    /// Sends one batch on its way; it may be empty, and then only tells the time.
    fn propose(&mut self, slot: OwnedSemaphorePermit) {
        let Some(office) = &mut self.office else { return };
        let stamp = office.stamp(self.clock.boot());
        self.last_stamp = Instant::now();
        let mut commands = Vec::new();
        let mut answers = Vec::new();
        let mut bytes = 0;
        while commands.len() < BATCH_COMMANDS_MAX
            && bytes < BATCH_BYTES_MAX
            && let Some((submission, _)) = self.pending.pop_front()
        {
            // A caller that hung up before its command left wants nothing done.
            if submission.answer.is_closed() {
                continue;
            }
            if let Some(with) = self.differs_from
                && matches!(submission.command, Command::Acquire(_) | Command::Renew(_))
            {
                let detail = format!("the ledger of {with} differs from the leader's");
                let _ = submission.answer.send(Err(NotAnswered::NoQuorum { detail }));
                continue;
            }
            bytes += roughly_bytes(&submission.command);
            commands.push(submission.command);
            answers.push(submission.answer);
        }
        self.metrics.observe_batch(commands.len());
        let (raft, metrics) = (self.raft.clone(), self.metrics.clone());
        spawn(async move {
            let began = Instant::now();
            let write = raft.client_write(Proposal::from(Batch { stamp, commands }));
            let outcome = match tokio::time::timeout(OUTCOME_WAIT_MAX, write).await {
                Ok(Ok(response)) => {
                    metrics.observe_commit(began.elapsed());
                    Ok(response.data)
                }
                Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                    // Not appended. The caller looks for the leader afresh.
                    Err(NotAnswered::NoQuorum { detail: "the leader changed".into() })
                }
                Ok(Err(error)) => Err(NotAnswered::Unknown { detail: error.to_string() }),
                Err(_) => {
                    let detail = "no quorum confirmed it in time".into();
                    Err(NotAnswered::Unknown { detail })
                }
            };
            drop(slot);
            hand_out(outcome, answers);
        });
    }
}

fn hand_out(outcome: Result<Replies, NotAnswered>, answers: Vec<Answer>) {
    match outcome {
        Ok(Replies(replies)) => {
            assert_eq!(replies.len(), answers.len(), "one reply for each command of the batch");
            for (answer, reply) in answers.into_iter().zip(replies) {
                let _ = answer.send(Ok(reply));
            }
        }
        Err(not_answered) => {
            for answer in answers {
                let _ = answer.send(Err(not_answered.clone()));
            }
        }
    }
}

/// Only a package is of a size that matters.
fn roughly_bytes(command: &Command) -> usize {
    match command {
        Command::Install(install) => install.package.len(),
        _ => 256,
    }
}
