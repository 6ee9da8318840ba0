//! The ledger: who holds which seat, as a pure function of the commands so far.

use std::collections::BTreeSet;
use std::sync::Arc;

use license::product::ProductName;

use crate::codec::{self, CodecError};
use crate::command::{Batch, Command, GenesisRefusal, LogId, Outcome, Refusal, Reply};
use crate::event::{Applied, Event};
use crate::index::Index;
use crate::limits::{CHECKPOINT_EVERY, CHECKPOINTS_KEPT};
use crate::memory::Names;
use crate::state::State;
use crate::time::{ClusterTime, Stamp};
use crate::usage::{Fact, Record, WrittenPage};

/// Who holds what. Empty until a [`Command::Genesis`] forms the cluster.
///
/// ```
/// use ledger::Ledger;
/// use ledger::command::Batch;
/// use ledger::time::{ClusterTime, Stamp};
///
/// let mut ledger = Ledger::new();
/// let stamp = Stamp { time: ClusterTime(1_000), term: 1, withheld: false };
/// ledger.apply(1, 1, &Batch { stamp, commands: vec![] });
/// assert_eq!(ledger.clock(), ClusterTime(1_000));
/// assert_eq!(Ledger::restore(&ledger.snapshot()).unwrap(), ledger);
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    pub(crate) state: State,
    pub(crate) index: Index,
}

/// One log entry on its way through the ledger.
pub(crate) struct Entry {
    next: LogId,
    stamp: ClusterTime,
    pub(crate) events: Vec<Event>,
    /// Facts for the history, in order, that are in no page yet.
    pub(crate) records: Vec<Record>,
    /// Pages of the history.
    pub(crate) pages: Vec<WrittenPage>,
    /// Products in which a seat may have come free.
    pub(crate) freed: BTreeSet<Arc<ProductName>>,
}

impl Entry {
    fn new(epoch: u64, index: u64, stamp: ClusterTime) -> Self {
        let next = LogId { epoch, index, position: 0 };
        let (events, records, pages) = Default::default();
        Self { next, stamp, events, records, pages, freed: BTreeSet::new() }
    }

    /// The log id of the next answer.
    pub(crate) fn log_id(&mut self) -> LogId {
        let log_id = self.next;
        self.next.position += 1;
        log_id
    }

    /// A restore took effect: what is answered from here on is of its epoch and time.
    pub(crate) fn enter(&mut self, restored: &State) {
        self.next.epoch = restored.scalars.epoch;
        self.stamp = restored.scalars.clock;
    }

    /// The position of the last answer so far.
    pub(crate) fn answered(&self) -> u32 {
        self.next.position.saturating_sub(1)
    }

    /// An answer at its place.
    pub(crate) fn reply(&self, log_id: LogId, outcome: Outcome) -> Reply {
        Reply { log_id, stamp: self.stamp, outcome }
    }
}

impl Ledger {
    /// An empty ledger, before genesis.
    pub fn new() -> Self {
        Self::default()
    }

    /// Applies one committed batch: the log's `index`, the term its entry was
    /// proposed in, and what it carries.
    ///
    /// Total and deterministic: same history, same ledger, on every node. A
    /// refusal is an outcome, not an error. Time acts first: what is due ends
    /// (at most [`ENDINGS_PER_ENTRY`](crate::limits::ENDINGS_PER_ENTRY) of
    /// it), freed seats go to who waits, then the commands run in order, each
    /// handing on the seats it freed.
    pub fn apply(&mut self, index: u64, entry_term: u64, batch: &Batch) -> Applied {
        if batch.stamp.term != entry_term {
            return self.refuse_stale(index, batch);
        }
        let handed_on = self.hands_on();
        let mut entry = self.advance(index, batch.stamp);
        self.turn_part(&mut entry);
        self.end_due(&mut entry);
        self.forget_due();
        self.close_tallies(&mut entry);
        self.refresh_service(&mut entry);
        if !handed_on {
            self.hand_on_again(&mut entry);
        }
        self.hand_on(&mut entry);
        let replies =
            batch.commands.iter().map(|command| self.answer(command, &mut entry)).collect();
        let (events, pages) = self.write_history(entry);
        self.take_checkpoint(index);
        Applied { replies, events, pages }
    }

    /// S16: a batch stamped in another term has no effect, not even on the clock.
    fn refuse_stale(&self, index: u64, batch: &Batch) -> Applied {
        let mut entry = Entry::new(self.state.scalars.epoch, index, self.clock());
        let mut refuse = |_| {
            let log_id = entry.log_id();
            entry.reply(log_id, Outcome::Refused(Refusal::StaleStamp))
        };
        let replies = batch.commands.iter().map(&mut refuse).collect();
        Applied { replies, events: Vec::new(), pages: Vec::new() }
    }

    /// S14: the clock takes the maximum.
    fn advance(&mut self, index: u64, stamp: Stamp) -> Entry {
        let scalars = &mut self.state.scalars;
        scalars.clock = scalars.clock.max(stamp.time);
        if scalars.term != stamp.term {
            (scalars.term, scalars.term_since) = (stamp.term, scalars.clock);
        }
        (scalars.applied, scalars.withheld) = (index, stamp.withheld);
        Entry::new(scalars.epoch, index, scalars.clock)
    }

    fn answer(&mut self, command: &Command, entry: &mut Entry) -> Reply {
        let log_id = entry.log_id();
        let outcome = self.run(command, log_id, entry);
        if let Outcome::Refused(refusal) = &outcome {
            *self.state.scalars.counters.refused.entry(refusal.reason()).or_default() += 1;
        }
        self.hand_on(entry);
        entry.reply(log_id, outcome)
    }

    fn run(&mut self, command: &Command, log_id: LogId, entry: &mut Entry) -> Outcome {
        if let Err(refusal) = self.permits(command) {
            return Outcome::Refused(refusal);
        }
        let answer = match command {
            Command::Restore(step) => return done(self.restore_step(step, entry)),
            Command::Genesis(genesis) => {
                let formed = self.form(genesis);
                if formed.is_ok() {
                    entry.note(Fact::Formed { cluster: genesis.cluster });
                }
                return done(formed);
            }
            _ if self.charter().is_none() => Err(Refusal::Genesis(GenesisRefusal::NotFormed)),
            Command::Acquire(body) => self.acquire(body, log_id, entry),
            Command::Renew(body) => self.renew(body, entry),
            Command::Release(body) => self.release(body, entry),
            Command::Cancel(body) => self.cancel(body, entry),
            Command::Revoke(body) => return done(self.revoke(body, entry)),
            Command::Install(body) => return done(self.install(body, entry)),
            Command::Attest(body) => return done(self.attest(body, entry)),
            Command::SignTerm(body) => return done(self.sign_term(body, entry)),
            Command::WithdrawShare(body) => return done(self.withdraw_share(body, entry)),
            Command::Heartbeat(heartbeat) => return done(self.hear(heartbeat, entry)),
            Command::IssueToken(body) => return done(self.issue_token(body)),
            Command::RevokeToken(body) => return done(self.revoke_token(body)),
            Command::BeginReplacement(body) => return done(self.begin_replacement(body)),
            Command::FinishReplacement(body) => return done(self.finish_replacement(body, entry)),
            Command::AbandonReplacement(body) => return done(self.abandon_replacement(body)),
            Command::OrderRepair(body) => return done(self.order_repair(body)),
            Command::RepairShare(body) => return done(self.repair_share(body, entry)),
            Command::ResetClock(body) => return done(self.reset_clock(body, entry)),
            Command::RevokeCertificate(body) => return done(self.revoke_certificate(body)),
            Command::RaiseLevel(body) => return done(self.raise_level(body)),
            Command::SetRetention(body) => {
                self.set_retention(body, entry);
                return Outcome::Done;
            }
            Command::Trust(body) => return done(self.trust(body)),
            Command::Distrust(body) => return done(self.distrust(body)),
        };
        answer.unwrap_or_else(Outcome::Refused)
    }

    /// S18: nodes compare the hash at these indexes.
    fn take_checkpoint(&mut self, index: u64) {
        let last = self.state.scalars.checkpoints.last().map_or(0, |(index, _)| *index);
        if index / CHECKPOINT_EVERY <= last / CHECKPOINT_EVERY {
            return;
        }
        let hash = self.hash();
        let checkpoints = &mut self.state.scalars.checkpoints;
        checkpoints.push((index, hash));
        if checkpoints.len() > CHECKPOINTS_KEPT {
            checkpoints.remove(0);
        }
    }

    /// The hash of the whole ledger (S18). Cheap: kept as the ledger changes.
    pub fn hash(&self) -> [u8; 32] {
        self.state.hash()
    }

    /// The whole ledger as deterministic bytes (S19).
    pub fn snapshot(&self) -> Vec<u8> {
        codec::encode_snapshot(&self.state)
    }

    /// Reads a snapshot, strictly: its checksum, its state hash and its
    /// invariants must hold.
    ///
    /// # Errors
    /// [`CodecError`] names what is wrong; nothing is repaired.
    pub fn restore(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut state = codec::decode_snapshot(bytes)?;
        let mut names = Names::default();
        state.requests.repack(|request| names.share(request));
        let index = Index::of(&state);
        let ledger = Self { state, index };
        match ledger.check() {
            Ok(()) => Ok(ledger),
            Err(law) => Err(CodecError::Damaged { what: "snapshot", detail: law.to_owned() }),
        }
    }

    /// Checks what must hold between any two entries; names the law that does not.
    ///
    /// Costs a pass over the whole ledger: for restores and tests.
    pub fn check(&self) -> Result<(), &'static str> {
        let counters = &self.state.scalars.counters;
        let ended = counters.released + counters.expired + counters.revoked;
        let holds = [
            (self.state.hash() == self.state.recomputed_hash(), "S18: the kept hash is wrong"),
            (self.index == Index::of(&self.state), "the index is not that of the state"),
            (
                counters.granted == ended + self.index.seats.len() as u64,
                "S2: seats are not conserved",
            ),
            (
                self.index.seats.keys().all(|token| token.0 <= self.state.scalars.last_token),
                "S5: a live token is ahead of the counter",
            ),
        ];
        holds.into_iter().find(|(held, _)| !held).map_or(Ok(()), |(_, law)| Err(law))
    }
}

fn done(result: Result<(), Refusal>) -> Outcome {
    result.map_or_else(Outcome::Refused, |()| Outcome::Done)
}
