//! Batches what has arrived, stamps it, proposes one log entry for it.
//!
//! The only place where cluster time is made (ARCHITECTURE.md, Time). A lone
//! request leaves at once; while [`IN_FLIGHT_MAX`] batches are on their way the next
//! crowd gathers, and shares one sync.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
use ledger::command::{Batch, Command, Reply, Restore};
use ledger::time::{ClusterTime, Stamp};
use license::product::NodeId;
use openraft::Instant as _;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;
use openraft::errors::{ClientWriteError, RaftError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::acquaintance::{Acquaintances, Outdated};
use crate::agreement::{self, Agreement};
use crate::answer::NotAnswered;
use crate::clock::Clock;
use crate::office::{Office, Reign, TICK};
use crate::raft::timing::LEADER_LEASE;
use crate::raft::{Proposal, Raft, Replies, leader_hint, spawn};
use crate::service::{ANSWER_MAX, TAKE_IN_MAX};
use crate::store::machine::View;
use crate::telemetry::{ClockAlarm, Metrics};

/// Submissions that may wait before new ones are refused.
pub(crate) const SUBMISSIONS_MAX: usize = 16_384;

/// Most commands of one batch; a crowd beyond it makes the next.
const BATCH_COMMANDS_TARGET: usize = 1_024;

/// A batch takes no further command beyond this many bytes, roughly.
const BATCH_BYTES_TARGET: usize = 256 << 10;

// What the ledger would refuse is never proposed.
const _: () = assert!(BATCH_COMMANDS_TARGET <= ledger::limits::BATCH_COMMANDS_MAX);
const _: () = assert!(2 * BATCH_BYTES_TARGET <= ledger::limits::BATCH_BYTES_MAX);

/// Batches that may be on their way at once.
const IN_FLIGHT_MAX: usize = 4;

/// While a lease lives a stamp is logged at least this often.
const STAMP_INTERVAL: Duration = Duration::from_secs(1);

/// A command and where its answer goes.
pub(crate) struct Submission {
    pub(crate) command: Command,
    /// Content to share the sync of whatever comes next, by the next tick at the latest.
    pub(crate) lazy: bool,
    pub(crate) arrived: Instant,
    pub(crate) answer: Answer,
}

type Answer = oneshot::Sender<Result<Reply, NotAnswered>>;

pub(crate) struct Proposer {
    node: NodeId,
    raft: Raft,
    view: View,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
    acquaintances: Acquaintances,
    queue: mpsc::Receiver<Submission>,
    pending: VecDeque<Submission>,
    office: Option<Office>,
    /// The node whose ledger differs while no third one can decide (S18).
    differs_from: Option<NodeId>,
    /// Whether every member has had its chance to say that the cluster was restored
    /// since this node's data was written (S21).
    has_asked_around: bool,
    last_stamp: Instant,
    slots: Arc<Semaphore>,
}

/// Whether this node may propose.
enum Leadership {
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
        acquaintances: Acquaintances,
        queue: mpsc::Receiver<Submission>,
    ) -> Self {
        Self {
            node,
            raft,
            view,
            clock,
            metrics,
            acquaintances,
            queue,
            pending: VecDeque::new(),
            office: None,
            differs_from: None,
            has_asked_around: false,
            last_stamp: Instant::now(),
            slots: Arc::new(Semaphore::new(IN_FLIGHT_MAX)),
        }
    }

    /// Runs until the last [`Service`](crate::service::Service) is gone.
    pub(crate) async fn run(mut self) {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        let mut metrics = self.raft.metrics();
        loop {
            let slots = self.slots.clone();
            let ticked = tokio::select! {
                submission = self.queue.recv(), if self.pending.len() < SUBMISSIONS_MAX => {
                    let Some(submission) = submission else { return };
                    self.gather(submission);
                    false
                }
                _ = ticks.tick() => true,
                // Who was elected a moment ago may lead by now.
                _ = metrics.changed(), if self.is_awaited() => false,
                // A slot came free while a crowd waits for one.
                slot = slots.acquire_owned(), if self.is_crowded() => {
                    drop(slot);
                    false
                }
            };
            match self.leadership() {
                Leadership::Leads => self.propose_what_is_due(ticked),
                Leadership::NotYet(detail) => {
                    self.refuse_those_who_waited(&NotAnswered::NoQuorum { detail: detail.into() });
                }
                Leadership::Refuses(reason) => self.refuse_all(&reason),
            }
        }
    }

    fn gather(&mut self, first: Submission) {
        self.pending.push_back(first);
        while self.pending.len() < SUBMISSIONS_MAX
            && let Ok(submission) = self.queue.try_recv()
        {
            self.pending.push_back(submission);
        }
    }

    fn propose_what_is_due(&mut self, ticked: bool) {
        if ticked {
            let now = self.sample_clock();
            self.differs_from = self.undecided_difference();
            if (self.is_stamp_due(now) || self.has_work(true))
                && let Some(slot) = self.free_slot()
            {
                self.propose(slot);
            }
        }
        while self.has_work(false)
            && let Some(slot) = self.free_slot()
        {
            self.propose(slot);
        }
        // Four batches are on their way and none comes home: shed what waits too long.
        self.refuse_those_who_waited(&NotAnswered::Overloaded);
    }

    fn free_slot(&self) -> Option<OwnedSemaphorePermit> {
        self.slots.clone().try_acquire_owned().ok()
    }

    fn is_crowded(&self) -> bool {
        self.office.is_some() && self.has_work(false) && self.slots.available_permits() == 0
    }

    /// Whether somebody waits for this node to take office.
    fn is_awaited(&self) -> bool {
        self.office.is_none() && !self.pending.is_empty()
    }

    fn has_work(&self, lazy_too: bool) -> bool {
        self.pending.iter().any(|submission| lazy_too || !submission.lazy)
    }

    /// Moves cluster time on by what has elapsed.
    fn sample_clock(&mut self) -> Option<ClusterTime> {
        let boot = self.clock.boot();
        let office = self.office.as_mut()?;
        if office.sees_jump(boot) {
            self.metrics.clock_alarm(ClockAlarm::Jump);
        }
        Some(office.stamp(boot, Instant::now()).time)
    }

    /// A stamp is logged when a deadline is due, and now and then while a lease lives.
    fn is_stamp_due(&self, now: Option<ClusterTime>) -> bool {
        let is_quiet = self.last_stamp.elapsed() >= STAMP_INTERVAL;
        self.view.look(|ledger| {
            let next = ledger.next_deadline();
            ledger.overdue() || next.is_some_and(|next| is_quiet || Some(next) <= now)
        })
    }

    fn undecided_difference(&self) -> Option<NodeId> {
        match self.view.look(|ledger| agreement::of(ledger, self.node)) {
            Agreement::Undecided { with, .. } => Some(with),
            _ => None,
        }
    }

    /// Why nothing may be granted or renewed, if nothing may.
    fn withheld(&self) -> Option<NotAnswered> {
        let outdated =
            |Outdated { by, ours, theirs }| NotAnswered::EpochsDiffer { by, ours, theirs };
        let differs = |with| NotAnswered::LedgersDiffer { with };
        let unasked = || (!self.has_asked_around).then_some(NotAnswered::EpochsUnknown);
        self.acquaintances
            .outdated()
            .map(outdated)
            .or(self.differs_from.map(differs))
            .or_else(unasked)
    }

    fn leadership(&mut self) -> Leadership {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        self.has_asked_around |= self.acquaintances.has_asked_around();
        if metrics.state != ServerState::Leader {
            self.office = None;
            let leader = leader_hint(metrics.current_leader, &metrics.membership_config);
            return Leadership::Refuses(NotAnswered::NotLeader { leader });
        }
        let term = metrics.current_term;
        let (reign, clock) = self.view.look(|ledger| {
            let formed = ledger.charter().is_some();
            (Reign { term, epoch: ledger.epoch(), formed }, ledger.clock())
        });
        if self.office.as_ref().is_none_or(|office| office.reign() != reign) {
            let is_new_leader =
                self.office.as_ref().is_none_or(|office| office.reign().term != term);
            self.office = None;
            // Time starts from the ledger's clock only once an entry of this
            // term is applied: then every earlier stamp is in it (S14).
            let applied_own = metrics.last_applied.is_some_and(|id| id.leader_id.term == term);
            if !applied_own {
                return Leadership::NotYet("this node was elected a moment ago");
            }
            self.office = Some(Office::take(reign, clock, self.clock.boot(), Instant::now()));
            if is_new_leader {
                self.metrics.leader_changed();
            }
        }
        match metrics.last_quorum_acked {
            None => Leadership::NotYet("no quorum has confirmed this leader yet"),
            Some(acked) if acked.elapsed() > LEADER_LEASE => {
                let detail = "the leader has not heard from a second node".into();
                Leadership::Refuses(NotAnswered::NoQuorum { detail })
            }
            Some(_) => Leadership::Leads,
        }
    }

    fn refuse_all(&mut self, reason: &NotAnswered) {
        for submission in self.pending.drain(..) {
            let _ = submission.answer.send(Err(reason.clone()));
        }
    }

    /// Refuses what could not be taken in within [`TAKE_IN_MAX`].
    fn refuse_those_who_waited(&mut self, reason: &NotAnswered) {
        while self.pending.front().is_some_and(|first| first.arrived.elapsed() >= TAKE_IN_MAX)
            && let Some(submission) = self.pending.pop_front()
        {
            let _ = submission.answer.send(Err(reason.clone()));
        }
    }

    /// Sends one batch on its way; it may be empty, and then only tells the time.
    fn propose(&mut self, slot: OwnedSemaphorePermit) {
        let withheld = self.withheld();
        let Some(office) = &mut self.office else { return };
        let stamp = office.stamp(self.clock.boot(), Instant::now());
        let stamp = Stamp { withheld: withheld.is_some(), ..stamp };
        self.last_stamp = Instant::now();
        let level = self.view.look(Ledger::level);
        let mut commands = Vec::new();
        let mut answers = Vec::new();
        let mut bytes = 0;
        while commands.len() < BATCH_COMMANDS_TARGET
            && bytes < BATCH_BYTES_TARGET
            && let Some(submission) = self.pending.pop_front()
        {
            // A caller that hung up before its command left wants nothing done.
            if submission.answer.is_closed() {
                continue;
            }
            if let Some(why) = &withheld
                && self.view.look(|ledger| is_for_a_seat(ledger, &submission.command))
            {
                let _ = submission.answer.send(Err(why.clone()));
                continue;
            }
            // S22. The level never falls, so what is within it now stays so.
            let needs = submission.command.level();
            if needs > level {
                let _ = submission.answer.send(Err(NotAnswered::LevelTooLow { needs, level }));
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
            // Each caller stops waiting by itself; this only gives the slot back.
            let outcome = match tokio::time::timeout(ANSWER_MAX, write).await {
                Ok(Ok(response)) => {
                    metrics.observe_commit(began.elapsed());
                    Ok(response.data)
                }
                // Not appended.
                Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                    Err(NotAnswered::LeaderChanged)
                }
                Ok(Err(error)) => Err(NotAnswered::Unknown { detail: error.to_string() }),
                Err(_) => Err(NotAnswered::Unknown { detail: UNCONFIRMED.to_owned() }),
            };
            drop(slot);
            hand_out(outcome, answers);
        });
    }
}

/// What is told of a command that was proposed and not confirmed in time.
pub(crate) const UNCONFIRMED: &str = "no quorum confirmed it in time";

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

/// Whether somebody is to get or keep a seat by it. Who has a place in a queue and
/// asks again gets none while seats are withheld, and would lose the place by silence.
fn is_for_a_seat(ledger: &Ledger, command: &Command) -> bool {
    match command {
        Command::Acquire(body) => !ledger.is_waiting(body.lease),
        Command::Renew(_) => true,
        _ => false,
    }
}

/// Only a package and a part of a backup are of a size that matters.
fn roughly_bytes(command: &Command) -> usize {
    match command {
        Command::Install(install) => install.package.len(),
        Command::Restore(Restore::Part(part)) => part.bytes.0.len(),
        _ => 256,
    }
}
