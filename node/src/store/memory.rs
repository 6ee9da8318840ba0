//! What this node remembers of the others' promises (S21).
//!
//! Kept in memory and written behind whatever the log writes next, so that a
//! note costs nothing; a note that waited a second is written and synced by
//! itself ([`super::log`]). So what is on the disk lags behind what is
//! remembered by a flush or a second. A note that a crash takes with it costs
//! something only if the node it was about loses its data before it has spoken
//! to this one again, and nobody else took the same note; a leader tells its
//! followers its notes with every append.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::promise::Promise;
use super::{Disk, Limit, Writes, entry, keys};

/// Nodes that are remembered at most; then nothing is noted of further ones.
/// Those that are gone are forgotten, so there are some four.
pub const NODES_MAX: usize = 512;

/// The notes. Clones share them.
#[derive(Debug, Clone, Default)]
pub struct Memory(Arc<Mutex<Notes>>);

#[derive(Debug, Default)]
struct Notes {
    /// The highest promise each node was seen to make.
    promises: BTreeMap<u64, Promise>,
    /// Those that are not on the disk yet.
    unwritten: BTreeSet<u64>,
}

impl Memory {
    /// The notes on `disk`.
    pub(super) async fn load(disk: &dyn Disk) -> io::Result<Self> {
        let mut notes = Notes::default();
        for (key, value) in disk.scan(keys::memories(), Limit::NONE).await? {
            if let Some(node) = keys::memory_of(&key) {
                notes.promises.insert(node, entry::decode_record(&key, &value)?);
            }
        }
        Ok(Self(Arc::new(Mutex::new(notes))))
    }

    /// What `node` has promised, as far as this node knows.
    pub fn of(&self, node: u64) -> Promise {
        self.notes().promises.get(&node).copied().unwrap_or_default()
    }

    /// All that is remembered, by node.
    pub fn all(&self) -> Vec<(u64, Promise)> {
        self.notes().promises.iter().map(|(node, promise)| (*node, *promise)).collect()
    }

    /// Notes that `node` has made `promise`. An older one changes nothing.
    pub fn note(&self, node: u64, promise: Promise) {
        let mut notes = self.notes();
        let is_full = notes.promises.len() >= NODES_MAX && !notes.promises.contains_key(&node);
        if promise.is_none() || is_full {
            return;
        }
        let known = notes.promises.entry(node).or_default();
        if *known < promise {
            *known = promise;
            notes.unwritten.insert(node);
        }
    }

    /// Forgets `node`, which is gone for ever: nobody is to find out any more
    /// whether it lost data.
    pub fn forget(&self, node: u64) {
        let mut notes = self.notes();
        if notes.promises.remove(&node).is_some() {
            notes.unwritten.insert(node);
        }
    }

    /// Whether there is something that is not on the disk yet.
    pub(super) fn has_unwritten(&self) -> bool {
        !self.notes().unwritten.is_empty()
    }

    /// Adds what is not on the disk yet to `writes`, which are about to be made.
    pub(super) fn write_behind(&self, writes: &mut Writes) {
        let mut notes = self.notes();
        for node in std::mem::take(&mut notes.unwritten) {
            let key = keys::memory(node);
            let Some(promise) = notes.promises.get(&node) else {
                writes.delete(key);
                continue;
            };
            let value = entry::encode_record(&key, promise).expect("two numbers encode");
            writes.put(key, value);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
