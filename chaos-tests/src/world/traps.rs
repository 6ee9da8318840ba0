//! Moments at which a machine loses its power: before something is written,
//! between a write and its sync, and after the sync but before anybody knows.
//!
//! A trap stands between the node and its disk. When it springs, whoever asked
//! waits for ever; the world crashes the machine before its next step.

use std::collections::BTreeSet;
use std::future::pending;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use node::store::mem::Survives;
use node::store::{Disk, DiskFuture, Key, Limit, Pair, Write, Writes, entry, keys};
use openraft::EntryPayload;
use serde::Serialize;

/// What is written, by its key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Subject {
    /// The vote.
    Vote,
    /// Log entries.
    Entry,
    /// A log entry that changes who votes.
    Membership,
    /// The end of the log is cut off, or its beginning let go.
    Removal,
    /// The mark of what is committed.
    Committed,
    /// The mark of what is purged.
    Purged,
    /// What another node was seen to promise.
    Promise,
    /// A piece of a snapshot.
    Chunk,
    /// What makes a snapshot count.
    Snapshot,
    /// A page of the usage history.
    Page,
    /// The note of pages that are missing.
    Missing,
}

impl Subject {
    /// All of them.
    pub(super) const ALL: [Self; 11] = [
        Self::Vote,
        Self::Entry,
        Self::Membership,
        Self::Removal,
        Self::Committed,
        Self::Purged,
        Self::Promise,
        Self::Chunk,
        Self::Snapshot,
        Self::Page,
        Self::Missing,
    ];

    fn of(write: &Write) -> Option<Self> {
        let key = match write {
            Write::Put(key, value) if is_membership(key, value) => return Some(Self::Membership),
            Write::Put(key, _) => key,
            Write::Delete(key) | Write::DeleteRange(Range { start: key, .. })
                if keys::entry_index(key).is_some() =>
            {
                return Some(Self::Removal);
            }
            Write::Delete(_) | Write::DeleteRange(_) => return None,
        };
        Some(match key.first()? {
            0x01 => Self::Vote,
            0x02 => Self::Committed,
            0x03 => Self::Purged,
            0x04 => Self::Promise,
            0x10 => Self::Entry,
            0x20 => Self::Snapshot,
            0x21 => Self::Chunk,
            0x30 => Self::Page,
            0x31 => Self::Missing,
            _ => return None,
        })
    }
}

fn is_membership(key: &Key, value: &[u8]) -> bool {
    let entry = keys::entry_index(key).and_then(|index| entry::decode(index, value).ok());
    entry.is_some_and(|entry| matches!(entry.payload, EntryPayload::Membership(_)))
}

/// When, in the life of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Point {
    /// The disk has not heard of it.
    BeforeWrite,
    /// Written, not synced.
    BeforeSync,
    /// Synced; whoever asked for it has not been told.
    AfterSync,
}

impl Point {
    /// All of them.
    pub(super) const ALL: [Self; 3] = [Self::BeforeWrite, Self::BeforeSync, Self::AfterSync];
}

/// A machine's traps. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Traps(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    set: Option<(Subject, Point, Survives)>,
    sprung: Option<(Subject, Point, Survives)>,
    /// Written since the last sync.
    unsynced: BTreeSet<Subject>,
}

impl Traps {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets one, in the place of any before.
    pub(super) fn set(&self, subject: Subject, point: Point, survives: Survives) {
        self.state().set = Some((subject, point, survives));
    }

    /// Takes it away again.
    pub(super) fn disarm(&self) {
        self.state().set = None;
    }

    /// What sprang since it was asked last.
    pub(super) fn sprung(&self) -> Option<(Subject, Point, Survives)> {
        self.state().sprung.take()
    }

    /// The disk as a process has it that starts now.
    pub(super) fn guard(&self, disk: Arc<dyn Disk>) -> Arc<dyn Disk> {
        self.state().unsynced.clear();
        Arc::new(Guarded { disk, traps: self.clone() })
    }

    /// Springs if it is set for one of these at this point.
    async fn pass(&self, subjects: &BTreeSet<Subject>, now: Point) {
        {
            let mut state = self.state();
            match state.set {
                Some((subject, point, _)) if point == now && subjects.contains(&subject) => {
                    state.sprung = state.set.take();
                }
                _ => return,
            }
        }
        pending().await
    }
}

struct Guarded {
    disk: Arc<dyn Disk>,
    traps: Traps,
}

impl Disk for Guarded {
    fn get(&self, key: Key) -> DiskFuture<'_, Option<Vec<u8>>> {
        self.disk.get(key)
    }

    fn scan(&self, range: Range<Key>, limit: Limit) -> DiskFuture<'_, Vec<Pair>> {
        self.disk.scan(range, limit)
    }

    fn write(&self, writes: Writes) -> DiskFuture<'_, ()> {
        Box::pin(async move {
            let subjects: BTreeSet<Subject> = writes.iter().filter_map(Subject::of).collect();
            self.traps.pass(&subjects, Point::BeforeWrite).await;
            self.disk.write(writes).await?;
            self.traps.state().unsynced.extend(subjects);
            Ok(())
        })
    }

    fn sync(&self) -> DiskFuture<'_, ()> {
        Box::pin(async move {
            let subjects = std::mem::take(&mut self.traps.state().unsynced);
            self.traps.pass(&subjects, Point::BeforeSync).await;
            self.disk.sync().await?;
            self.traps.pass(&subjects, Point::AfterSync).await;
            Ok(())
        })
    }
}
