//! Where a node keeps what it must not forget: the log, the vote, the snapshots.
//!
//! [`Disk`] is the seam. Above it: [`log`] and [`machine`], which openraft
//! drives. Below it: the engines, and [`mem`] for the simulator.

mod directory;
mod embedded;
pub mod entry;
pub mod frame;
pub mod history;
pub mod keys;
pub mod log;
pub mod machine;
pub mod mem;
pub mod memory;
pub mod promise;
#[cfg(feature = "rocksdb")]
mod rocks;
mod snapshots;
mod thread;

use std::fmt;
use std::future::Future;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;

pub use self::directory::{EngineKind, OpenError, open};

/// A key; [`keys`] lists them all. Ordered by its bytes.
pub type Key = Vec<u8>;
/// A key and its value.
pub type Pair = (Key, Vec<u8>);

/// What a disk operation returns: a future that runs wherever it is awaited.
pub type DiskFuture<'a, T> = Pin<Box<dyn Future<Output = Result<T, DiskError>> + Send + 'a>>;

/// An ordered map of bytes on a disk.
///
/// A write is readable as soon as [`Disk::write`] returns and durable only
/// after a [`Disk::sync`] that began later. Writes take effect in the order in
/// which they were asked for. A crash leaves all that was synced and, of what
/// was written after, the first so many changes, which may end within a batch:
/// engines do better than that, but nobody above relies on it.
///
/// After a write or a sync has failed nothing is known about what the disk
/// holds, so every later write and sync fails too: the process must stop and
/// find out by opening the disk again (S20).
///
/// The trait is object-safe and its futures are boxed: a node picks its engine
/// when it starts, and one allocation is nothing beside a sync. It is
/// asynchronous although engines block, because the simulator's disk must be
/// able to be slow without holding up its single thread.
pub trait Disk: Send + Sync + 'static {
    /// The value under `key`.
    fn get(&self, key: Key) -> DiskFuture<'_, Option<Vec<u8>>>;

    /// The first pairs within `range`, in key order, as many as `limit` allows.
    fn scan(&self, range: Range<Key>, limit: Limit) -> DiskFuture<'_, Vec<Pair>>;

    /// Makes `writes`, all or none; readable when this returns.
    fn write(&self, writes: Writes) -> DiskFuture<'_, ()>;

    /// Makes all that was written before durable.
    fn sync(&self) -> DiskFuture<'_, ()>;

    /// [`Disk::write`], then [`Disk::sync`], in one trip to the disk.
    fn commit(&self, writes: Writes) -> DiskFuture<'_, ()> {
        Box::pin(async move {
            self.write(writes).await?;
            self.sync().await
        })
    }
}

/// Where a scan stops. The first pair is always returned, however large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// At most so many pairs.
    pub pairs: usize,
    /// No further pair once the values add up to so many bytes.
    pub bytes: usize,
}

impl Limit {
    /// No limit.
    pub const NONE: Self = Self { pairs: usize::MAX, bytes: usize::MAX };

    /// As many of `pairs` as this allows.
    fn take(self, pairs: impl Iterator<Item = Pair>) -> impl Iterator<Item = Pair> {
        let mut bytes = 0;
        pairs.take(self.pairs).take_while(move |(_, value)| {
            let fits = bytes == 0 || bytes + value.len() <= self.bytes;
            bytes += value.len().max(1);
            fits
        })
    }
}

/// Changes that take effect together, in this order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Writes(Vec<Write>);

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Write {
    /// Puts a value under a key, replacing what was there.
    Put(Key, Vec<u8>),
    /// Deletes one key, present or not.
    Delete(Key),
    /// Deletes every key from `start` up to and without `end`.
    DeleteRange(Range<Key>),
}

impl Writes {
    /// No changes yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts `value` under `key`.
    pub fn put(&mut self, key: Key, value: Vec<u8>) {
        self.0.push(Write::Put(key, value));
    }

    /// Deletes `key`.
    pub fn delete(&mut self, key: Key) {
        self.0.push(Write::Delete(key));
    }

    /// Deletes every key within `range`.
    pub fn delete_range(&mut self, range: Range<Key>) {
        self.0.push(Write::DeleteRange(range));
    }

    /// Adds the changes of `later` behind these.
    pub fn append(&mut self, mut later: Self) {
        self.0.append(&mut later.0);
    }

    /// Whether there is nothing to do.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes in order.
    pub fn iter(&self) -> impl Iterator<Item = &Write> {
        self.0.iter()
    }
}

impl IntoIterator for Writes {
    type Item = Write;
    type IntoIter = std::vec::IntoIter<Write>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

/// A disk operation that failed.
///
/// Cloned, because one failed sync fails everyone who waited for it.
#[derive(Debug, Clone)]
pub struct DiskError {
    operation: Operation,
    path: PathBuf,
    kind: io::ErrorKind,
    source: Arc<dyn std::error::Error + Send + Sync>,
}

impl DiskError {
    /// A failure of `operation` at `path`.
    pub fn new(
        operation: Operation,
        path: &Path,
        kind: io::ErrorKind,
        source: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Self {
        Self { operation, path: path.to_owned(), kind, source: Arc::from(source.into()) }
    }

    /// What failed.
    pub fn operation(&self) -> Operation {
        self.operation
    }

    /// How it failed, as the operating system classes it.
    pub fn kind(&self) -> io::ErrorKind {
        self.kind
    }
}

impl fmt::Display for DiskError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cannot {} {}: {}", self.operation, self.path.display(), self.source)?;
        match self.kind {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                f.write_str("; free some space there and start the node again")
            }
            io::ErrorKind::PermissionDenied => {
                f.write_str("; give the node's user read and write access to it")
            }
            io::ErrorKind::InvalidData => f.write_str(
                "; what is there was damaged: check the disk, then replace this node by a new one (`trine cluster replace`)",
            ),
            _ => Ok(()),
        }
    }
}

impl std::error::Error for DiskError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.source)
    }
}

impl From<DiskError> for io::Error {
    fn from(error: DiskError) -> Self {
        io::Error::new(error.kind, error)
    }
}

/// What a disk was asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// Open it.
    Open,
    /// Get or scan.
    Read,
    /// Write.
    Write,
    /// Sync.
    Sync,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Open => "open",
            Self::Read => "read",
            Self::Write => "write to",
            Self::Sync => "sync",
        })
    }
}
