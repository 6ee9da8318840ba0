//! The production engine: RocksDB.
//!
//! What it does with a damaged tail. `TolerateCorruptedTailRecords` accepts a
//! write-ahead log that *ends* early, which is what a power cut leaves of
//! writes that were not yet synced, and refuses a record whose checksum is
//! wrong. `AbsoluteConsistency` would refuse the cut as well and so keep a
//! healthy node down after every power failure; `PointInTime`, the default,
//! would silently drop everything behind a rotten record, acknowledged or not.
//! The manifest also remembers the size of every finished log and refuses one
//! that is missing or shorter. A synced tail cut off cleanly from the last log
//! is not noticed, as with every engine: only the peers' memory of what this node
//! acknowledged could (S21), which does not exist yet.

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use rocksdb::{
    DB, DBRecoveryMode, Direction, ErrorKind, IteratorMode, Options, ReadOptions, WriteBatch,
    WriteOptions,
};

use super::thread::Engine;
use super::{DiskError, Key, Limit, Operation, Pair, Write, Writes};

/// Bytes of changes in memory before they go to a table file.
const WRITE_BUFFER: usize = 32 << 20;
/// Bytes of write-ahead log before tables are written so that it can go.
const WAL_MAX: u64 = 128 << 20;
/// RocksDB's own diagnostic files.
const INFO_LOGS: usize = 4;
const INFO_LOG_BYTES: usize = 4 << 20;

pub(super) struct Rocks {
    path: PathBuf,
    database: DB,
}

impl Rocks {
    /// Opens the database in `directory`, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join("rocks");
        let mut options = Options::default();
        options.create_if_missing(true);
        options.set_paranoid_checks(true);
        options.set_wal_recovery_mode(DBRecoveryMode::TolerateCorruptedTailRecords);
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_write_buffer_size(WRITE_BUFFER);
        options.set_max_total_wal_size(WAL_MAX);
        options.set_keep_log_file_num(INFO_LOGS);
        options.set_max_log_file_size(INFO_LOG_BYTES);
        let database =
            DB::open(&options, &path).map_err(|error| failure(Operation::Open, &path, &error))?;
        Ok(Self { path, database })
    }

    fn failed(&self, operation: Operation) -> impl Fn(rocksdb::Error) -> DiskError + '_ {
        move |error| failure(operation, &self.path, &error)
    }
}

impl Engine for Rocks {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        self.database.get(key).map_err(self.failed(Operation::Read))
    }

    fn scan(&self, range: Range<Key>, limit: Limit) -> Result<Vec<Pair>, DiskError> {
        let mut options = ReadOptions::default();
        options.set_iterate_upper_bound(range.end);
        let from = IteratorMode::From(&range.start, Direction::Forward);
        let mut broken = None;
        let pairs = self.database.iterator_opt(from, options).map_while(|pair| match pair {
            Ok((key, value)) => Some((key.into_vec(), value.into_vec())),
            Err(error) => {
                broken = Some(error);
                None
            }
        });
        let pairs = limit.take(pairs).collect();
        broken.map_or(Ok(pairs), |error| Err(failure(Operation::Read, &self.path, &error)))
    }

    fn write(&self, writes: Writes, sync: bool) -> Result<(), DiskError> {
        let mut batch = WriteBatch::default();
        for change in writes {
            match change {
                Write::Put(key, value) => batch.put(key, value),
                Write::Delete(key) => batch.delete(key),
                Write::DeleteRange(range) if range.is_empty() => {}
                Write::DeleteRange(range) => batch.delete_range(range.start, range.end),
            }
        }
        let operation = if sync { Operation::Sync } else { Operation::Write };
        if batch.is_empty() {
            // An empty batch syncs nothing.
            return match sync {
                true => self.database.flush_wal(true).map_err(self.failed(operation)),
                false => Ok(()),
            };
        }
        let mut options = WriteOptions::default();
        options.set_sync(sync);
        self.database.write_opt(batch, &options).map_err(self.failed(operation))
    }
}

fn failure(operation: Operation, path: &Path, error: &rocksdb::Error) -> DiskError {
    let text = error.to_string();
    let kind = match error.kind() {
        ErrorKind::Corruption => io::ErrorKind::InvalidData,
        // RocksDB hands on the system's words, not its number.
        ErrorKind::IOError if text.contains("No space left") => io::ErrorKind::StorageFull,
        ErrorKind::IOError if text.contains("Permission denied") => io::ErrorKind::PermissionDenied,
        ErrorKind::Busy => io::ErrorKind::ResourceBusy,
        _ => io::ErrorKind::Other,
    };
    DiskError::new(operation, path, kind, text)
}
