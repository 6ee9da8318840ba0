//! A blocking engine as a [`Disk`]: one thread writes, in order, and syncs
//! once for all who wait.
//!
//! Reads do not queue behind syncs: they run on tokio's blocking threads.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::{Disk, DiskError, DiskFuture, Key, Limit, Operation, Pair, Writes};

/// Jobs that share one write at most.
const JOBS_MAX: usize = 256;

/// What an engine does, blocking. Written to by one thread only.
pub(crate) trait Engine: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError>;
    /// The first pairs within `range`, which is not empty.
    fn scan(&self, range: Range<Key>, limit: Limit) -> Result<Vec<Pair>, DiskError>;
    /// Makes `writes` readable, all or none; with `sync` also durable, and all
    /// earlier writes with them.
    fn write(&self, writes: Writes, sync: bool) -> Result<(), DiskError>;
}

/// An engine with its writer thread. Dropping it writes out what was asked
/// for, closes the engine and only then lets go of `guard`.
pub(crate) struct Threaded<E> {
    path: PathBuf,
    engine: Option<Arc<E>>,
    jobs: Option<mpsc::Sender<Job>>,
    writer: Option<JoinHandle<()>>,
    _guard: Box<dyn std::any::Any + Send + Sync>,
}

struct Job {
    writes: Writes,
    sync: bool,
    done: oneshot::Sender<Result<(), DiskError>>,
}

impl<E: Engine> Threaded<E> {
    /// Starts the writer of `engine`, which lives at `path`. `guard` is held
    /// for as long as the engine is open.
    pub(crate) fn start(
        path: &Path,
        engine: E,
        guard: impl std::any::Any + Send + Sync,
    ) -> Result<Self, DiskError> {
        let engine = Arc::new(engine);
        let (jobs, queue) = mpsc::channel();
        let writer = std::thread::Builder::new()
            .name("disk".to_owned())
            .spawn({
                let engine = Arc::clone(&engine);
                move || serve(&*engine, &queue)
            })
            .map_err(|error| DiskError::new(Operation::Open, path, error.kind(), error))?;
        Ok(Self {
            path: path.to_owned(),
            engine: Some(engine),
            jobs: Some(jobs),
            writer: Some(writer),
            _guard: Box::new(guard),
        })
    }

    fn ask(&self, writes: Writes, sync: bool) -> DiskFuture<'_, ()> {
        let operation = if sync { Operation::Sync } else { Operation::Write };
        let (done, answer) = oneshot::channel();
        // Queued here and not in the future: the order is that of the asking.
        let sent =
            self.jobs.as_ref().is_some_and(|jobs| jobs.send(Job { writes, sync, done }).is_ok());
        Box::pin(async move {
            if !sent {
                return Err(self.stopped(operation));
            }
            answer.await.unwrap_or_else(|_| Err(self.stopped(operation)))
        })
    }

    fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&E) -> Result<T, DiskError> + Send + 'static,
    ) -> DiskFuture<'_, T> {
        let engine = self.engine.clone();
        Box::pin(async move {
            let engine = engine.ok_or_else(|| self.stopped(Operation::Read))?;
            let reading = tokio::task::spawn_blocking(move || read(&engine));
            reading.await.unwrap_or_else(|_| Err(self.stopped(Operation::Read)))
        })
    }

    fn stopped(&self, operation: Operation) -> DiskError {
        let why = "its thread has stopped; see the log for an earlier failure";
        DiskError::new(operation, &self.path, std::io::ErrorKind::BrokenPipe, why)
    }
}

impl<E: Engine> Disk for Threaded<E> {
    fn get(&self, key: Key) -> DiskFuture<'_, Option<Vec<u8>>> {
        self.read(move |engine| engine.get(&key))
    }

    fn scan(&self, range: Range<Key>, limit: Limit) -> DiskFuture<'_, Vec<Pair>> {
        if range.is_empty() {
            return Box::pin(async { Ok(Vec::new()) });
        }
        self.read(move |engine| engine.scan(range, limit))
    }

    fn write(&self, writes: Writes) -> DiskFuture<'_, ()> {
        self.ask(writes, false)
    }

    fn sync(&self) -> DiskFuture<'_, ()> {
        self.ask(Writes::new(), true)
    }

    fn commit(&self, writes: Writes) -> DiskFuture<'_, ()> {
        self.ask(writes, true)
    }
}

impl<E> Drop for Threaded<E> {
    fn drop(&mut self) {
        drop(self.jobs.take());
        if let Some(writer) = self.writer.take() {
            // A panic in the writer has failed everyone who waited for it.
            drop(writer.join());
        }
        drop(self.engine.take());
    }
}

/// Writes all that has arrived at once, syncing if anyone asks for it.
fn serve<E: Engine>(engine: &E, queue: &mpsc::Receiver<Job>) {
    let mut result = Ok(());
    while let Ok(first) = queue.recv() {
        let mut writes = Writes::new();
        let mut sync = false;
        let mut waiting = Vec::new();
        for job in std::iter::once(first).chain(queue.try_iter().take(JOBS_MAX)) {
            writes.append(job.writes);
            sync |= job.sync;
            waiting.push(job.done);
        }
        // Once failed, for ever failed: see `Disk`.
        if result.is_ok() {
            result = engine.write(writes, sync);
        }
        for done in waiting {
            // Nobody may be left who wants to know; that changes nothing.
            drop(done.send(result.clone()));
        }
    }
}
