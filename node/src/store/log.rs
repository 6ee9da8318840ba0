//! The Raft log on a [`Disk`]: entries, the vote, what is committed, what is purged.
//!
//! Every change goes through one queue to one [`flusher`], which writes all
//! that has arrived, syncs once and answers in order. So votes and appends
//! reach the disk in the order in which Raft asked, one sync serves many
//! proposals, and nothing is acknowledged that is not on the disk. Recent
//! entries stay in memory, so replication rarely reads.

mod flusher;
mod window;

use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use openraft::storage::{IOFlushed, LogState, RaftLogReader, RaftLogStorage};
use serde::de::DeserializeOwned;
use tokio::sync::{mpsc, oneshot};

use self::flusher::{Done, Pending, Progress};
use self::window::Window;
use super::frame::Damaged;
use super::memory::Memory;
use super::promise::Promise;
use super::{Disk, Key, Limit, Writes, entry, keys};
use crate::raft::{Entry, LogId, TypeConfig, Vote};

/// One message to a follower that lags: enough to fill a pipe, not to stall it.
const REPLICATION_LIMIT: Limit = Limit { pairs: 512, bytes: 1 << 20 };
/// One read while the log is loaded.
const LOAD_LIMIT: Limit = Limit { pairs: 4_096, bytes: 8 << 20 };

/// What one flush did, for metrics.
#[derive(Debug, Clone, Copy)]
pub struct Flush {
    /// How many changes shared the sync.
    pub changes: usize,
    /// From handing them to the disk until they were durable.
    pub took: Duration,
}

/// The log. Clones share it.
#[derive(Clone)]
pub struct Log(Arc<Shared>);

/// Reads the log for replication and for applying.
#[derive(Clone)]
pub struct LogReader(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    progress: Arc<Progress>,
    memory: Memory,
    state: Mutex<State>,
}

/// The log as Raft sees it: ahead of the disk by what the flusher holds.
struct State {
    vote: Option<Vote>,
    committed: Option<LogId>,
    purged: Option<LogId>,
    /// Index of the first entry; `None` when there are no entries.
    first: Option<u64>,
    /// The last entry, or else the last that was purged.
    last: Option<LogId>,
    window: Window,
    /// Rises with every truncation, so that a read across one is found out.
    truncations: u64,
    /// Number of the latest append.
    appends: u64,
    queue: mpsc::UnboundedSender<Pending>,
}

impl Log {
    /// Opens the log on `disk`, checking every entry.
    ///
    /// `observe` is called after each flush that was synced.
    ///
    /// # Errors
    /// When the disk fails, or when something is damaged or missing: then the
    /// node must not start, because it may have forgotten what it promised.
    pub async fn open(
        disk: Arc<dyn Disk>,
        observe: impl Fn(Flush) + Send + Sync + 'static,
    ) -> io::Result<Self> {
        let (queue, pending) = mpsc::unbounded_channel();
        let mut state = State {
            vote: record(&*disk, keys::vote()).await?,
            committed: record(&*disk, keys::committed()).await?,
            purged: record(&*disk, keys::purged()).await?,
            first: None,
            last: None,
            window: Window::new(),
            truncations: 0,
            appends: 0,
            queue,
        };
        state.last = state.purged;
        load(&*disk, &mut state).await?;
        let memory = Memory::load(&*disk).await?;
        // What was written before the process died may not be on the disk yet,
        // and from here on counts as held.
        disk.sync().await?;
        let progress = Arc::new(Progress::default());
        progress.reach(state.last);
        tokio::spawn(flusher::run(
            Arc::clone(&disk),
            pending,
            Arc::clone(&progress),
            memory.clone(),
            Box::new(observe),
        ));
        if let Some(purged) = state.purged {
            // A crash may have come between the mark and the deletion.
            state.send(delete(..=purged.index), false, Done::Nobody)?;
        }
        Ok(Self(Arc::new(Shared { disk, progress, memory, state: Mutex::new(state) })))
    }

    /// How far this node's disk has promised, as of what is durable now.
    pub fn promise(&self) -> Promise {
        // In this order: a vote that comes in between outweighs the entries
        // before it, while entries without their vote would promise too little.
        let last = self.0.progress.durable();
        let term = self.0.state().vote.map_or(0, |vote| vote.leader_id().term);
        Promise::new(term, last)
    }

    /// The vote on the disk.
    pub(crate) fn vote(&self) -> Option<Vote> {
        self.0.state().vote
    }

    /// The first of `entries` under whose log id something else is held here:
    /// of one term there is one leader, and it writes a log id once.
    ///
    /// Looks at the latest entries, which are in memory; new ones cost nothing.
    pub(crate) fn contradicts(&self, entries: &[Entry]) -> Option<LogId> {
        let state = self.0.state();
        let differs = |entry: &&Entry| {
            let held = state.window.get(entry.log_id.index);
            held.is_some_and(|held| held.log_id == entry.log_id && held != *entry)
        };
        entries.iter().find(differs).map(|entry| entry.log_id)
    }

    /// What this node remembers of the others' promises. Its notes reach the
    /// disk behind whatever the log writes next.
    pub fn memory(&self) -> Memory {
        self.0.memory.clone()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The entries of `range`, in order and without a hole.
    ///
    /// All that the log has, or with a `limit` the first of them.
    async fn read(&self, range: impl RangeBounds<u64>, limit: Limit) -> io::Result<Vec<Entry>> {
        loop {
            let (wanted, tail, truncations) = {
                let state = self.state();
                let Some(range) = state.present(&range) else {
                    return Ok(Vec::new());
                };
                let in_memory = state.window.first().unwrap_or(range.end).min(range.end);
                if range.start >= in_memory {
                    return Ok(state.window.read(range, limit));
                }
                let tail = if limit == Limit::NONE && in_memory < range.end {
                    state.window.read(in_memory..range.end, limit)
                } else {
                    Vec::new()
                };
                (range.start..in_memory, tail, state.truncations)
            };
            let pairs = self.disk.scan(keys::entries(wanted.clone()), limit).await?;
            {
                let state = self.state();
                let purged = state.purged.is_some_and(|purged| purged.index >= wanted.start);
                if purged || state.truncations != truncations {
                    // What was read is not one moment of the log; read again.
                    continue;
                }
            }
            let mut entries = Vec::with_capacity(pairs.len() + tail.len());
            for (index, (key, value)) in wanted.clone().zip(pairs) {
                if keys::entry_index(&key) != Some(index) {
                    return Err(Damaged::missing(&keys::entry(index)).into());
                }
                entries.push(entry::decode(index, &value)?);
            }
            let reached = wanted.start + entries.len() as u64;
            if entries.is_empty() || (limit == Limit::NONE && reached < wanted.end) {
                return Err(Damaged::missing(&keys::entry(reached)).into());
            }
            entries.extend(tail);
            return Ok(entries);
        }
    }
}

impl State {
    /// The part of `range` that the log has, if any.
    fn present(&self, range: &impl RangeBounds<u64>) -> Option<Range<u64>> {
        let (first, last) = (self.first?, self.last?);
        let start = match range.start_bound() {
            Bound::Included(&index) => index,
            Bound::Excluded(&index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let end = match range.end_bound() {
            Bound::Included(&index) => index.saturating_add(1),
            Bound::Excluded(&index) => index,
            Bound::Unbounded => u64::MAX,
        };
        let present = start.max(first)..end.min(last.index + 1);
        (!present.is_empty()).then_some(present)
    }

    /// Queues `writes` behind all earlier changes.
    fn send(&self, writes: Writes, sync: bool, done: Done) -> io::Result<()> {
        self.queue_up(Pending { writes, sync, done, append: 0, last: None })
    }

    fn queue_up(&self, pending: Pending) -> io::Result<()> {
        self.queue
            .send(pending)
            .map_err(|_| io::Error::new(io::ErrorKind::BrokenPipe, "the log's flusher has stopped"))
    }
}

impl RaftLogReader<TypeConfig> for LogReader {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> io::Result<Vec<Entry>>
    where
        RB: RangeBounds<u64> + Clone + Debug + openraft::OptionalSend,
    {
        let range = (range.start_bound().cloned(), range.end_bound().cloned());
        self.0.read(range, Limit::NONE).await
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> io::Result<Vec<Entry>> {
        let entries = self.0.read(start..end, REPLICATION_LIMIT).await?;
        // A follower that fell behind may be sent what was purged meanwhile. What
        // is left would not follow what it has: give nothing, and Raft, which
        // has a snapshot on its way by then, asks for something else.
        let follow = entries.first().is_some_and(|first| first.log_id.index == start);
        Ok(if follow { entries } else { Vec::new() })
    }

    async fn read_vote(&mut self) -> io::Result<Option<Vote>> {
        Ok(self.0.state().vote)
    }
}

impl RaftLogStorage<TypeConfig> for Log {
    type LogReader = LogReader;

    async fn get_log_state(&mut self) -> io::Result<LogState<TypeConfig>> {
        let state = self.0.state();
        Ok(LogState { last_purged_log_id: state.purged, last_log_id: state.last })
    }

    async fn get_log_reader(&mut self) -> LogReader {
        LogReader(Arc::clone(&self.0))
    }

    async fn save_vote(&mut self, vote: &Vote) -> io::Result<()> {
        let key = keys::vote();
        let mut writes = Writes::new();
        writes.put(key.clone(), entry::encode_record(&key, vote)?);
        let (done, saved) = oneshot::channel();
        self.0.progress.check()?;
        self.0.state().send(writes, true, Done::Answer(done))?;
        saved.await.map_err(|_| {
            io::Error::new(io::ErrorKind::BrokenPipe, "the log's flusher has stopped")
        })??;
        self.0.state().vote = Some(*vote);
        Ok(())
    }

    /// Queued without a sync of its own: it becomes durable with the next
    /// entry. Losing it costs a restarted node nothing but a moment: what is
    /// committed is on a quorum's disks, and linearizable reads wait for it.
    async fn save_committed(&mut self, committed: Option<LogId>) -> io::Result<()> {
        let key = keys::committed();
        let mut writes = Writes::new();
        match committed {
            Some(id) => writes.put(key.clone(), entry::encode_record(&key, &id)?),
            None => writes.delete(key),
        }
        self.0.progress.check()?;
        let mut state = self.0.state();
        state.committed = committed;
        state.send(writes, false, Done::Nobody)
    }

    async fn read_committed(&mut self) -> io::Result<Option<LogId>> {
        Ok(self.0.state().committed)
    }

    /// Returns once the entries are readable; `callback` is called once they
    /// are durable.
    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> io::Result<()>
    where
        I: IntoIterator<Item = Entry> + openraft::OptionalSend,
        I::IntoIter: openraft::OptionalSend,
    {
        self.0.progress.check()?;
        let mut writes = Writes::new();
        let mut encoded = Vec::new();
        for entry in entries {
            let value = entry::encode(&entry)?;
            encoded.push((entry.clone(), value.len()));
            writes.put(keys::entry(entry.log_id.index), value);
        }
        let mut state = self.0.state();
        let mut last = state.last;
        for (entry, _) in &encoded {
            // Raft never asks for it, and a hole can never be closed again.
            if last.is_some_and(|last| entry.log_id.index != last.index + 1) {
                let why = format!("log entry {} would not follow {last:?}", entry.log_id.index);
                return Err(io::Error::new(io::ErrorKind::InvalidInput, why));
            }
            last = Some(entry.log_id);
        }
        state.appends += 1;
        let append = state.appends;
        for (entry, bytes) in encoded {
            state.first.get_or_insert(entry.log_id.index);
            state.window.push(entry, bytes, append);
        }
        state.last = last;
        state.window.trim(self.0.progress.appended());
        let done = Done::Flushed(callback);
        state.queue_up(Pending { writes, sync: true, done, append, last })
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> io::Result<()> {
        self.0.progress.check()?;
        let mut state = self.0.state();
        let from = last.map_or(0, |last| last.index + 1);
        state.window.truncate(from);
        state.truncations += 1;
        state.first = state.first.filter(|first| *first < from);
        // Nothing is cut off when the log ends before that already.
        state.last = state.last.min(last).max(state.purged);
        state.send(delete(from..), false, Done::Nobody)
    }

    async fn purge(&mut self, id: LogId) -> io::Result<()> {
        self.0.progress.check()?;
        let key = keys::purged();
        let mut writes = Writes::new();
        // The mark comes first: a crash in between leaves entries too many, never too few.
        writes.put(key.clone(), entry::encode_record(&key, &id)?);
        writes.append(delete(..=id.index));
        // What is purged is in a snapshot, which is durable before the purge.
        self.0.progress.reach(Some(id));
        let mut state = self.0.state();
        state.purged = Some(id);
        state.window.purge(id.index);
        if state.last.is_none_or(|last| last.index <= id.index) {
            state.last = Some(id);
            state.first = None;
        } else {
            state.first = state.first.map(|first| first.max(id.index + 1));
        }
        state.send(writes, false, Done::Nobody)
    }
}

fn delete(range: impl RangeBounds<u64>) -> Writes {
    let mut writes = Writes::new();
    writes.delete_range(keys::entries(range));
    writes
}

async fn record<T: DeserializeOwned>(disk: &dyn Disk, key: Key) -> io::Result<Option<T>> {
    let value = disk.get(key.clone()).await?;
    Ok(value.map(|value| entry::decode_record(&key, &value)).transpose()?)
}

/// Reads and checks every entry, and keeps the latest in the window.
async fn load(disk: &dyn Disk, state: &mut State) -> io::Result<()> {
    let mut next = state.purged.map_or(0, |purged| purged.index + 1);
    loop {
        let pairs = disk.scan(keys::entries(next..), LOAD_LIMIT).await?;
        if pairs.is_empty() {
            return Ok(());
        }
        for (key, value) in pairs {
            if keys::entry_index(&key) != Some(next) {
                return Err(Damaged::missing(&keys::entry(next)).into());
            }
            let entry = entry::decode(next, &value)?;
            if state.last.is_some_and(|last| last > entry.log_id) {
                return Err(Damaged::body(&key, "its term is older than its predecessor's").into());
            }
            state.first.get_or_insert(next);
            state.last = Some(entry.log_id);
            state.window.push(entry, value.len(), 0);
            state.window.trim(0);
            next += 1;
        }
    }
}
