//! The one writer of the log: drains the queue, writes and syncs once, answers in order.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use openraft::storage::IOFlushed;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Flush;
use crate::raft::{LogId, TypeConfig};
use crate::store::memory::Memory;
use crate::store::{Disk, DiskError, Writes};

/// Changes that share one sync at most, so that the first does not wait for a flood.
const MERGED_MAX: usize = 1_024;

/// Notes about the others' promises that nothing else carries to the disk are
/// taken there after so long.
const NOTES_WAIT_MAX: Duration = Duration::from_secs(1);

/// A change on its way to the disk.
pub(super) struct Pending {
    pub(super) writes: Writes,
    /// Whether it counts only once it is durable.
    pub(super) sync: bool,
    pub(super) done: Done,
    /// Number of the append, 0 for other changes.
    pub(super) append: u64,
    /// The last entry that an append brings.
    pub(super) last: Option<LogId>,
}

/// Who is told.
pub(super) enum Done {
    /// Raft, which waits for entries to be durable.
    Flushed(IOFlushed<TypeConfig>),
    /// The caller.
    Answer(oneshot::Sender<Result<(), DiskError>>),
    /// Nobody waits; a failure shows in whatever comes after.
    Nobody,
}

impl Done {
    fn tell(self, result: Result<(), DiskError>) {
        match self {
            Self::Flushed(callback) => callback.io_completed(result.map_err(Into::into)),
            Self::Answer(caller) => drop(caller.send(result)),
            Self::Nobody => {}
        }
    }
}

/// How far the flusher has come.
#[derive(Default)]
pub(super) struct Progress {
    appended: AtomicU64,
    /// The greatest log id that was ever durable. Entries may have been cut off
    /// since; those of the current term never are, and only they are promised.
    durable: Mutex<Option<LogId>>,
    failed: OnceLock<DiskError>,
}

impl Progress {
    /// Number of the last append that is on the disk.
    pub(super) fn appended(&self) -> u64 {
        self.appended.load(Ordering::Acquire)
    }

    /// The greatest log id that was ever durable.
    pub(super) fn durable(&self) -> Option<LogId> {
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything up to `last` is durable.
    pub(super) fn reach(&self, last: Option<LogId>) {
        let mut durable = self.durable.lock().unwrap_or_else(PoisonError::into_inner);
        *durable = (*durable).max(last);
    }

    /// Refuses once the disk has failed: nothing after that can be promised.
    pub(super) fn check(&self) -> Result<(), DiskError> {
        self.failed.get().cloned().map_or(Ok(()), Err)
    }
}

/// Runs until the last [`super::Log`] and reader are gone.
pub(super) async fn run(
    disk: Arc<dyn Disk>,
    mut queue: mpsc::UnboundedReceiver<Pending>,
    progress: Arc<Progress>,
    memory: Memory,
    observe: Box<dyn Fn(Flush) + Send + Sync>,
) {
    let mut pending = Vec::new();
    loop {
        let arrived = queue.recv_many(&mut pending, MERGED_MAX);
        match tokio::time::timeout(NOTES_WAIT_MAX, arrived).await {
            Ok(0) => return,
            Err(_) if !memory.has_unwritten() => continue,
            Ok(_) | Err(_) => {}
        }
        let result = match progress.check() {
            Ok(()) => flush(&*disk, &mut pending, &memory, &*observe).await,
            failed => failed,
        };
        match &result {
            Ok(()) => {
                progress.reach(pending.iter().filter_map(|change| change.last).max());
                if let Some(append) = pending.iter().map(|change| change.append).max() {
                    progress.appended.fetch_max(append, Ordering::Release);
                }
            }
            Err(error) => {
                if progress.failed.set(error.clone()).is_ok() {
                    tracing::error!(%error, "the log cannot be written; this node must stop");
                }
            }
        }
        pending.drain(..).for_each(|change| change.done.tell(result.clone()));
    }
}

async fn flush(
    disk: &dyn Disk,
    pending: &mut [Pending],
    memory: &Memory,
    observe: &(dyn Fn(Flush) + Send + Sync),
) -> Result<(), DiskError> {
    let mut writes = Writes::new();
    for change in pending.iter_mut() {
        writes.append(std::mem::take(&mut change.writes));
    }
    // Without changes it is the notes that are to be kept.
    if !pending.is_empty() && !pending.iter().any(|change| change.sync) {
        return disk.write(writes).await;
    }
    memory.write_behind(&mut writes);
    let begun = Instant::now();
    disk.commit(writes).await?;
    observe(Flush { changes: pending.len(), took: begun.elapsed() });
    Ok(())
}
