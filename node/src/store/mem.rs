//! A disk in memory, for the simulator and the crash tests.
//!
//! A [`Platter`] is the thing that survives; [`Platter::open`] gives the
//! [`Disk`] of one process. Tests keep the platter and order its faults: a
//! crash that loses or tears what was not synced, an error, a full disk, a
//! flipped bit, slowness. It starts no thread and asks no clock but tokio's.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::{Disk, DiskError, DiskFuture, Key, Limit, Operation, Pair, Write, Writes};

/// What survives a crash, and the handle by which a test orders faults.
#[derive(Debug, Clone, Default)]
pub struct Platter(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    durable: BTreeMap<Key, Vec<u8>>,
    /// What a reader sees: `durable` with `unsynced` applied.
    visible: BTreeMap<Key, Vec<u8>>,
    unsynced: Vec<Write>,
    /// Changes that were written before the first of `unsynced`.
    settled: usize,
    /// Counts openings, so that a process that was crashed can do no more.
    opening: u64,
    failed: Option<DiskError>,
    faults: Faults,
}

#[derive(Debug, Default)]
struct Faults {
    operations: BTreeMap<Operation, u64>,
    capacity: Option<usize>,
    sync_time: Duration,
    syncs_lie: bool,
    /// The next so many reads that find something give half of each value.
    short_reads: u64,
}

/// How much of what was not synced a crash leaves on the platter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Survives {
    /// Nothing.
    Nothing,
    /// The first so many single changes, even if they end within a batch.
    Changes(usize),
    /// Everything, as when the process dies and the machine does not.
    Everything,
}

impl Platter {
    /// An empty disk without faults.
    pub fn new() -> Self {
        Self::default()
    }

    /// The disk as a process sees it that starts now. Whoever opened it
    /// before can use it no longer.
    pub fn open(&self) -> Arc<dyn Disk> {
        let mut state = self.state();
        state.opening += 1;
        state.failed = None;
        Arc::new(Mem { opening: state.opening, platter: self.clone() })
    }

    /// Cuts the power: what was not synced is lost, except what `survives`.
    pub fn crash(&self, survives: Survives) {
        let mut state = self.state();
        let unsynced = std::mem::take(&mut state.unsynced);
        state.settled += unsynced.len();
        let kept = match survives {
            Survives::Nothing => 0,
            Survives::Changes(changes) => changes.min(unsynced.len()),
            Survives::Everything => unsynced.len(),
        };
        unsynced.into_iter().take(kept).for_each(|change| apply(&mut state.durable, change));
        state.visible = state.durable.clone();
        state.opening += 1;
    }

    /// A copy of what a crash now would leave, as an operator's backup of the
    /// data directory is.
    pub fn copy(&self) -> Self {
        let durable = self.state().durable.clone();
        let visible = durable.clone();
        Self(Arc::new(Mutex::new(State { durable, visible, ..State::default() })))
    }

    /// Puts what `copy` holds in the place of all that is here. Whoever had it
    /// open can use it no longer.
    pub fn restore(&self, copy: &Self) {
        let durable = copy.state().durable.clone();
        let mut state = self.state();
        state.settled += state.unsynced.len();
        state.unsynced.clear();
        state.visible = durable.clone();
        state.durable = durable;
        state.opening += 1;
    }

    /// How many single changes a crash now could lose.
    pub fn unsynced(&self) -> usize {
        self.state().unsynced.len()
    }

    /// Lets `operation` fail with EIO once, after `successes` more successes.
    pub fn fail(&self, operation: Operation, successes: u64) {
        self.state().faults.operations.insert(operation, successes);
    }

    /// Lets the disk hold at most `bytes` of keys and values; `None` for no limit.
    pub fn set_capacity(&self, bytes: Option<usize>) {
        self.state().faults.capacity = bytes;
    }

    /// Lets the next so many reads that find something give half of each value.
    pub fn shorten_reads(&self, reads: u64) {
        self.state().faults.short_reads = reads;
    }

    /// Takes back what [`fail`](Self::fail) and [`shorten_reads`](Self::shorten_reads)
    /// ordered and has not happened yet.
    pub fn mend(&self) {
        let mut state = self.state();
        state.faults.operations.clear();
        state.faults.short_reads = 0;
    }

    /// Whether a write failed for want of space since it was opened.
    pub fn is_full(&self) -> bool {
        let state = self.state();
        state.failed.as_ref().is_some_and(|error| error.kind() == io::ErrorKind::StorageFull)
    }

    /// How many bytes of keys and values it holds.
    pub fn bytes(&self) -> usize {
        self.state().bytes()
    }

    /// Lets every sync take this long.
    pub fn set_sync_time(&self, time: Duration) {
        self.state().faults.sync_time = time;
    }

    /// Lets syncs report success without doing anything. This is what a
    /// forgotten sync looks like: tests that pass with it prove nothing.
    pub fn set_syncs_lie(&self, lie: bool) {
        self.state().faults.syncs_lie = lie;
    }

    /// Flips bit `bit` (modulo its size) of the value under `key`, if there is one.
    pub fn flip(&self, key: &[u8], bit: usize) {
        let mut state = self.state();
        let State { durable, visible, .. } = &mut *state;
        for map in [durable, visible] {
            if let Some(value) = map.get_mut(key).filter(|value| !value.is_empty()) {
                let bit = bit % (value.len() * 8);
                value[bit / 8] ^= 1 << (bit % 8);
            }
        }
    }

    /// Puts `to` in the place of `from` under `key`, wherever just that is there.
    pub fn exchange(&self, key: &[u8], from: &[u8], to: &[u8]) {
        let mut state = self.state();
        let State { durable, visible, .. } = &mut *state;
        for map in [durable, visible] {
            if let Some(value) = map.get_mut(key).filter(|value| value.as_slice() == from) {
                *value = to.to_vec();
            }
        }
    }

    /// What a crash now would leave under `key`.
    pub fn durable(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.state().durable.get(key).cloned()
    }

    /// Whether a crash now would leave something under `key`.
    pub fn is_durable(&self, key: &[u8]) -> bool {
        self.state().durable.contains_key(key)
    }

    /// The first key in `range` that a crash now would leave.
    pub fn first_durable(&self, range: Range<Key>) -> Option<Key> {
        self.state().durable.range(range).next().map(|(key, _)| key.clone())
    }

    /// The last key in `range` that a crash now would leave.
    pub fn last_durable(&self, range: Range<Key>) -> Option<Key> {
        self.state().durable.range(range).next_back().map(|(key, _)| key.clone())
    }

    /// Every key that a crash now would leave, in order.
    pub fn durable_keys(&self) -> Vec<Key> {
        self.state().durable.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Whether this opening may do `operation` now.
    fn admit(&mut self, opening: u64, operation: Operation) -> Result<(), DiskError> {
        if opening != self.opening {
            return Err(error(operation, io::ErrorKind::Other, "this process has crashed"));
        }
        if operation != Operation::Read
            && let Some(failed) = &self.failed
        {
            return Err(failed.clone());
        }
        match self.faults.operations.get_mut(&operation) {
            None => Ok(()),
            Some(0) => {
                self.faults.operations.remove(&operation);
                Err(self.fail(operation, io::ErrorKind::Other, "input/output error (EIO)"))
            }
            Some(successes) => {
                *successes -= 1;
                Ok(())
            }
        }
    }

    fn fail(&mut self, operation: Operation, kind: io::ErrorKind, why: &str) -> DiskError {
        let failed = error(operation, kind, why);
        if operation != Operation::Read {
            self.failed = Some(failed.clone());
        }
        failed
    }

    /// What a reader is given of what was found.
    fn read(&mut self, found: impl IntoIterator<Item = Pair>) -> impl Iterator<Item = Pair> {
        let mut found = found.into_iter().peekable();
        let short = found.peek().is_some() && self.faults.short_reads > 0;
        self.faults.short_reads -= u64::from(short);
        found.map(move |(key, mut value)| {
            value.truncate(if short { value.len() / 2 } else { value.len() });
            (key, value)
        })
    }

    fn bytes(&self) -> usize {
        self.visible.iter().map(|(key, value)| key.len() + value.len()).sum()
    }
}

/// A platter as one process has it open.
#[derive(Debug)]
struct Mem {
    platter: Platter,
    opening: u64,
}

impl Disk for Mem {
    fn get(&self, key: Key) -> DiskFuture<'_, Option<Vec<u8>>> {
        Box::pin(async move {
            let mut state = self.platter.state();
            state.admit(self.opening, Operation::Read)?;
            let found = state.visible.get(&key).cloned();
            Ok(state.read(found.map(|value| (key, value))).next().map(|(_, value)| value))
        })
    }

    fn scan(&self, range: Range<Key>, limit: Limit) -> DiskFuture<'_, Vec<Pair>> {
        Box::pin(async move {
            let mut state = self.platter.state();
            state.admit(self.opening, Operation::Read)?;
            if range.is_empty() {
                return Ok(Vec::new());
            }
            let pairs = state.visible.range(range).map(|(key, value)| (key.clone(), value.clone()));
            let found: Vec<_> = limit.take(pairs).collect();
            Ok(state.read(found).collect())
        })
    }

    fn write(&self, writes: Writes) -> DiskFuture<'_, ()> {
        Box::pin(async move {
            let mut state = self.platter.state();
            state.admit(self.opening, Operation::Write)?;
            for change in writes {
                apply(&mut state.visible, change.clone());
                state.unsynced.push(change);
                if state.faults.capacity.is_some_and(|capacity| state.bytes() > capacity) {
                    let full = "no space left on device (ENOSPC)";
                    return Err(state.fail(Operation::Write, io::ErrorKind::StorageFull, full));
                }
            }
            Ok(())
        })
    }

    fn sync(&self) -> DiskFuture<'_, ()> {
        Box::pin(async move {
            let (covered, time) = {
                let mut state = self.platter.state();
                state.admit(self.opening, Operation::Sync)?;
                (state.settled + state.unsynced.len(), state.faults.sync_time)
            };
            if !time.is_zero() {
                tokio::time::sleep(time).await;
            }
            let mut state = self.platter.state();
            if state.opening != self.opening {
                return Err(error(
                    Operation::Sync,
                    io::ErrorKind::Other,
                    "this process has crashed",
                ));
            }
            if !state.faults.syncs_lie {
                // A sync that ran meanwhile may have covered some of these already.
                let changes = covered.saturating_sub(state.settled);
                let synced: Vec<_> = state.unsynced.drain(..changes).collect();
                state.settled += changes;
                synced.into_iter().for_each(|change| apply(&mut state.durable, change));
            }
            Ok(())
        })
    }
}

fn apply(map: &mut BTreeMap<Key, Vec<u8>>, change: Write) {
    match change {
        Write::Put(key, value) => {
            map.insert(key, value);
        }
        Write::Delete(key) => {
            map.remove(&key);
        }
        Write::DeleteRange(range) if range.is_empty() => {}
        Write::DeleteRange(range) => {
            let keys: Vec<_> = map.range(range).map(|(key, _)| key.clone()).collect();
            keys.iter().for_each(|key| {
                map.remove(key);
            });
        }
    }
}

fn error(operation: Operation, kind: io::ErrorKind, why: &str) -> DiskError {
    DiskError::new(operation, Path::new("memory"), kind, why)
}
