//! The embedded engine: redb, chosen over fjall because, at equal speed under
//! a sync (benches/RESULTS.md), it undoes by one commit or refuses what it finds
//! damaged after a crash, where fjall cuts its journal at the first odd byte and
//! silently drops every synced batch behind it.
//!
//! What it does with a damaged tail. Each commit is a new root beside the old
//! one, both under checksums. After a crash redb checks the whole tree of the
//! newer root; if that was torn, which before its sync is legal, it goes back
//! to the older. If the *synced* newest commit has rotted on the medium it goes
//! back as well, by that one commit: no single disk can tell the two apart. Only
//! the peers' memory of what this node acknowledged could (S21), which does not
//! exist yet. Rot anywhere else is refused: by redb, or by the checksums of [`super::frame`].

use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use redb::{Database, Durability, ReadableDatabase, TableDefinition, TableError};

use super::thread::Engine;
use super::{DiskError, Key, Limit, Operation, Pair, Write, Writes};

const TABLE: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("trine");
/// Bytes of pages kept in memory. The log has its own window; this is for the rest.
const CACHE: usize = 32 << 20;

/// Makes an empty database, whole or not at all: a disk that was full at the
/// first start leaves nothing that the second takes for a damaged one.
fn make(path: &Path) -> Result<(), DiskError> {
    let failed = |error: redb::Error| failure(Operation::Open, path, error);
    let unfinished = path.with_extension("part");
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error.into())),
        _ => {}
    }
    // Dropping it closes the file; opening the finished one checks it again.
    drop(Database::create(&unfinished).map_err(|error| failed(error.into()))?);
    std::fs::rename(&unfinished, path).map_err(|error| failed(error.into()))
}

pub(super) struct Embedded {
    path: PathBuf,
    database: Database,
}

impl Embedded {
    /// Opens the database in `directory`, or makes it.
    pub(super) fn open(directory: &Path) -> Result<Self, DiskError> {
        let path = directory.join("trine.redb");
        if !path.exists() {
            make(&path)?;
        }
        let opened = Database::builder().set_cache_size(CACHE).open(&path);
        let database =
            opened.map_err(|error| failure(Operation::Open, &path, redb::Error::from(error)))?;
        Ok(Self { path, database })
    }

    fn failed(&self, operation: Operation) -> impl Fn(redb::Error) -> DiskError + '_ {
        move |error| failure(operation, &self.path, error)
    }

    fn try_get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, redb::Error> {
        match self.database.begin_read()?.open_table(TABLE) {
            Ok(table) => Ok(table.get(key)?.map(|value| value.value().to_vec())),
            // Nothing was written yet.
            Err(TableError::TableDoesNotExist(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn try_scan(&self, range: Range<Key>, limit: Limit) -> Result<Vec<Pair>, redb::Error> {
        let table = match self.database.begin_read()?.open_table(TABLE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Vec::new()),
            Err(error) => return Err(error.into()),
        };
        let mut broken = None;
        let pairs =
            table.range(range.start.as_slice()..range.end.as_slice())?.map_while(
                |pair| match pair {
                    Ok((key, value)) => Some((key.value().to_vec(), value.value().to_vec())),
                    Err(error) => {
                        broken = Some(error);
                        None
                    }
                },
            );
        let pairs = limit.take(pairs).collect();
        broken.map_or(Ok(pairs), |error| Err(error.into()))
    }

    fn try_write(&self, writes: Writes, sync: bool) -> Result<(), redb::Error> {
        let mut transaction = self.database.begin_write()?;
        transaction.set_durability(if sync { Durability::Immediate } else { Durability::None })?;
        {
            let mut table = transaction.open_table(TABLE)?;
            for change in writes {
                match change {
                    Write::Put(key, value) => {
                        table.insert(key.as_slice(), value.as_slice())?;
                    }
                    Write::Delete(key) => {
                        table.remove(key.as_slice())?;
                    }
                    Write::DeleteRange(range) if range.is_empty() => {}
                    Write::DeleteRange(range) => {
                        table.retain_in(range.start.as_slice()..range.end.as_slice(), |_, _| {
                            false
                        })?;
                    }
                }
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

impl Engine for Embedded {
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, DiskError> {
        self.try_get(key).map_err(self.failed(Operation::Read))
    }

    fn scan(&self, range: Range<Key>, limit: Limit) -> Result<Vec<Pair>, DiskError> {
        self.try_scan(range, limit).map_err(self.failed(Operation::Read))
    }

    fn write(&self, writes: Writes, sync: bool) -> Result<(), DiskError> {
        let operation = if sync { Operation::Sync } else { Operation::Write };
        self.try_write(writes, sync).map_err(self.failed(operation))
    }
}

fn failure(operation: Operation, path: &Path, error: redb::Error) -> DiskError {
    let kind = match &error {
        redb::Error::Io(error) => error.kind(),
        redb::Error::Corrupted(_) | redb::Error::RepairAborted => io::ErrorKind::InvalidData,
        redb::Error::DatabaseAlreadyOpen => io::ErrorKind::ResourceBusy,
        _ => io::ErrorKind::Other,
    };
    DiskError::new(operation, path, kind, error)
}
