//! The history on disk: pages under their numbers, beside the ledger.
//!
//! A page is written when its entry is applied and is not waited for: writing
//! it behind the replies keeps the disk's syncs out of their way. Nothing is
//! lost by that. A page is on the disk, and synced, before the snapshot that
//! covers its entry is; until then the log still has the entry, and a replay
//! writes the page again, byte for byte.
//!
//! A snapshot from another node covers entries whose pages this node never
//! wrote. What is missing is noted on disk before the snapshot is, and is
//! fetched from a peer ([`crate::recall`]), the latest page first: the ledger
//! knows its hash, and each page names the hash of the one before.

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use ledger::usage::{self, Page, Reach, WrittenPage};
use serde::{Deserialize, Serialize};
use tokio::sync::{self, mpsc, watch};

use super::frame::{self, Damaged};
use super::{Disk, DiskError, Limit, Writes, entry, keys};

/// Bytes of pages on their way to the disk beyond which entries wait.
const BEHIND_BYTES_MAX: usize = 8 << 20;
/// Bytes of pages in one write, so that the log's own writes get their turn.
const WRITE_BYTES: usize = 1 << 20;

/// The history of one node. Clones share it.
#[derive(Clone)]
pub struct History(Arc<Shared>);

struct Shared {
    disk: Arc<dyn Disk>,
    state: Mutex<State>,
    /// Held from looking at what is missing until the note of it is on the disk.
    noting: sync::Mutex<()>,
    /// Wakes the writer.
    wake: mpsc::Sender<()>,
    /// Told when pages were written, or could not be, and when pages are missing.
    changed: watch::Sender<()>,
}

#[derive(Default)]
struct State {
    /// Written by entries and on their way to the disk.
    behind: BTreeMap<u64, Arc<[u8]>>,
    behind_bytes: usize,
    /// The first page that is kept.
    kept: u64,
    /// The first page that the disk keeps.
    kept_on_disk: u64,
    missing: Option<Missing>,
    failed: Option<DiskError>,
}

/// Pages that a snapshot covers and this node does not have.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Missing {
    /// The first.
    pub from: u64,
    /// The page after the last.
    pub until: u64,
    /// The hash that the last must have.
    pub head: [u8; 32],
}

/// Pages that are not those that are missing.
#[derive(Debug, thiserror::Error)]
pub enum Unfit {
    /// Altered, or another cluster's.
    #[error("page {0} is not the page that the one after it names")]
    Page(u64),
    /// The disk failed.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The note of what is missing cannot be written.
    #[error(transparent)]
    Note(#[from] entry::Unencodable),
}

impl History {
    /// The history on `disk`, which reaches as far as the ledger says.
    pub(crate) async fn open(disk: Arc<dyn Disk>, reach: &Reach) -> io::Result<Self> {
        let key = keys::missing_pages();
        let missing = disk.get(key.clone()).await?;
        let missing = missing.map(|value| entry::decode_record(&key, &value)).transpose()?;
        let (wake, woken) = mpsc::channel(1);
        let state = State { kept: reach.kept, missing, ..State::default() };
        let shared = Arc::new(Shared {
            disk,
            state: Mutex::new(state),
            noting: sync::Mutex::default(),
            wake,
            changed: watch::Sender::new(()),
        });
        tokio::spawn(write_behind(Arc::downgrade(&shared), woken));
        Ok(Self(shared))
    }

    /// Takes the pages of an applied entry; `kept` is the first that is kept from now on.
    pub(super) fn append(&self, pages: Vec<WrittenPage>, kept: u64) {
        let mut state = self.0.state();
        if pages.is_empty() && kept <= state.kept {
            return;
        }
        state.kept = state.kept.max(kept);
        for page in pages {
            state.behind_bytes += page.bytes.len();
            if let Some(before) = state.behind.insert(page.number, page.bytes.into()) {
                state.behind_bytes -= before.len();
            }
        }
        drop(state);
        // Full means that the writer is about to look anyway.
        let _ = self.0.wake.try_send(());
    }

    /// Waits until there is room for the pages of another entry.
    ///
    /// # Errors
    /// The disk has failed: this node must stop.
    pub(super) async fn room(&self) -> Result<(), DiskError> {
        self.until(|state| state.behind_bytes < BEHIND_BYTES_MAX).await
    }

    /// Waits until every page before `page` is written. The next sync makes them durable.
    pub(super) async fn until_written(&self, page: u64) -> Result<(), DiskError> {
        self.until(|state| state.behind.keys().next().is_none_or(|first| *first >= page)).await
    }

    async fn until(&self, holds: impl Fn(&State) -> bool) -> Result<(), DiskError> {
        let mut changes = self.0.changed.subscribe();
        loop {
            changes.mark_unchanged();
            {
                let state = self.0.state();
                if let Some(failed) = &state.failed {
                    return Err(failed.clone());
                }
                if holds(&state) {
                    return Ok(());
                }
            }
            // The sender lives as long as this does.
            let _ = changes.changed().await;
        }
    }

    /// Notes that a snapshot from elsewhere is about to take the ledger from
    /// `have` pages to `reach`. The snapshot's own sync makes the note durable.
    pub(crate) async fn skip(&self, have: u64, reach: &Reach) -> io::Result<()> {
        self.until_written(have).await?;
        let _noting = self.0.noting.lock().await;
        let missing = {
            let mut state = self.0.state();
            state.kept = state.kept.max(reach.kept);
            // What retention dropped meanwhile is missed no more.
            let known = state.missing.as_ref().filter(|known| known.until > state.kept);
            let from = known.map_or(have, |known| known.from.min(have)).max(reach.kept);
            let missing = Missing { from, until: reach.pages, head: reach.head };
            state.missing = (from < reach.pages).then_some(missing);
            state.missing.clone()
        };
        self.0.disk.write(noted(missing.as_ref())?).await?;
        self.0.changed.send_replace(());
        let _ = self.0.wake.try_send(());
        Ok(())
    }

    /// What is missing, if anything.
    pub fn missing(&self) -> Option<Missing> {
        let state = self.0.state();
        let missing = state.missing.clone()?;
        let from = missing.from.max(state.kept);
        (from < missing.until).then_some(Missing { from, ..missing })
    }

    /// Told when something may have come to be missing.
    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// Takes pages, in order, the last of which is the last that is missing.
    ///
    /// # Errors
    /// [`Unfit`]: those behind the one it names were taken.
    pub async fn fill(&self, pages: &[Vec<u8>]) -> Result<(), Unfit> {
        let _noting = self.0.noting.lock().await;
        let Some(mut missing) = self.missing() else { return Ok(()) };
        let mut writes = Writes::new();
        let mut unfit = None;
        for bytes in pages.iter().rev() {
            let (Some(number), true) = (missing.until.checked_sub(1), missing.from < missing.until)
            else {
                break;
            };
            let page = Page::decode(bytes).ok().filter(|page| page.number == number);
            let Some(page) = page.filter(|_| usage::hash(bytes) == missing.head) else {
                unfit = Some(Unfit::Page(number));
                break;
            };
            let key = keys::page(number);
            writes.put(key.clone(), frame::seal(&key, bytes));
            missing = Missing { until: number, head: page.previous, ..missing };
        }
        let left = self.what_is_left(missing).await;
        writes.append(noted(left.as_ref())?);
        self.0.disk.write(writes).await?;
        self.0.state().missing = left;
        self.0.changed.send_replace(());
        unfit.map_or(Ok(()), Err)
    }

    /// Nothing, once what was filled in meets what was there. If it does not,
    /// what was there is not this cluster's history, and goes too.
    async fn what_is_left(&self, missing: Missing) -> Option<Missing> {
        if missing.from < missing.until {
            return Some(missing);
        }
        let kept = self.0.state().kept;
        let last = missing.from.checked_sub(1).filter(|last| *last >= kept)?;
        match self.read(last..missing.from, usize::MAX).await.as_deref() {
            Ok([page]) if usage::hash(page) == missing.head => None,
            _ => {
                tracing::warn!(page = last, "the history before this page is fetched anew");
                Some(Missing { from: kept, ..missing })
            }
        }
    }

    /// The first pages of `range`, in order and without a hole, of so many bytes or one.
    ///
    /// # Errors
    /// The first is missing or damaged, or the disk fails.
    pub async fn read(&self, range: Range<u64>, bytes_max: usize) -> io::Result<Vec<Vec<u8>>> {
        let behind: BTreeMap<u64, Arc<[u8]>> = {
            let state = self.0.state();
            let range = range.start..range.end.max(range.start);
            state.behind.range(range).map(|(number, page)| (*number, Arc::clone(page))).collect()
        };
        let limit = Limit { bytes: bytes_max, ..Limit::NONE };
        let on_disk = self.0.disk.scan(keys::pages(range.clone()), limit).await?;
        let mut on_disk = on_disk.into_iter().peekable();
        let (mut pages, mut bytes) = (Vec::new(), 0);
        for number in range.clone() {
            let key = keys::page(number);
            let page = match on_disk.next_if(|(found, _)| *found == key) {
                Some((key, value)) => frame::open(&key, &value)?.to_vec(),
                None => match behind.get(&number) {
                    Some(page) => page.to_vec(),
                    None if pages.is_empty() => return Err(Damaged::missing(&key).into()),
                    None => break,
                },
            };
            bytes += page.len();
            if bytes > bytes_max && !pages.is_empty() {
                break;
            }
            pages.push(page);
        }
        Ok(pages)
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes what is behind, and deletes what is no longer kept, until there is nothing to do.
    async fn write_out(&self) {
        loop {
            let (writes, written, kept) = {
                let state = self.state();
                let (mut writes, mut written, mut bytes) = (Writes::new(), Vec::new(), 0);
                for (number, page) in &state.behind {
                    if bytes >= WRITE_BYTES {
                        break;
                    }
                    let key = keys::page(*number);
                    writes.put(key.clone(), frame::seal(&key, page));
                    bytes += page.len();
                    written.push((*number, Arc::clone(page)));
                }
                if state.kept > state.kept_on_disk {
                    writes.delete_range(keys::pages(0..state.kept));
                }
                (writes, written, state.kept)
            };
            if writes.is_empty() {
                return;
            }
            let result = self.disk.write(writes).await;
            let mut state = self.state();
            match result {
                Ok(()) => {
                    state.kept_on_disk = kept;
                    for (number, page) in written {
                        // An entry that was applied again has put it there again.
                        if state.behind.get(&number).is_some_and(|now| Arc::ptr_eq(now, &page)) {
                            state.behind.remove(&number);
                            state.behind_bytes -= page.len();
                        }
                    }
                }
                Err(error) => {
                    tracing::error!(%error, "history cannot be written; this node must stop");
                    state.failed = Some(error);
                }
            }
            let failed = state.failed.is_some();
            drop(state);
            self.changed.send_replace(());
            if failed {
                return;
            }
        }
    }
}

/// Runs until the last [`History`] is gone.
async fn write_behind(shared: Weak<Shared>, mut woken: mpsc::Receiver<()>) {
    while woken.recv().await.is_some() {
        let Some(shared) = shared.upgrade() else { return };
        shared.write_out().await;
    }
}

fn noted(missing: Option<&Missing>) -> Result<Writes, entry::Unencodable> {
    let key = keys::missing_pages();
    let mut writes = Writes::new();
    match missing {
        Some(missing) => writes.put(key.clone(), entry::encode_record(&key, missing)?),
        None => writes.delete(key),
    }
    Ok(writes)
}

#[cfg(test)]
pub(crate) mod testing {
    use ledger::name::{HolderName, Subject};
    use ledger::reason::Reason;
    use ledger::time::ClusterTime;
    use ledger::usage::{Fact, Record};
    use license::product::ProductName;

    use super::*;

    /// The first `count` pages of a history, each with one record.
    pub(crate) fn chain(count: u64) -> Vec<Vec<u8>> {
        let mut previous = usage::GENESIS;
        let page = |number| {
            let fact = Fact::GaveUp {
                product: ProductName::parse("cad").expect("a name"),
                subject: Subject::parse("app:line-1").expect("a name"),
                holder: HolderName::parse("").expect("a name"),
                waited_ms: number,
                reason: Reason::Withdrawn,
            };
            let page = Page {
                previous,
                number,
                first_record: number,
                epoch: 0,
                index: number,
                time: ClusterTime(number),
                date: None,
                records: vec![Record { position: 0, fact }],
            };
            let bytes = page.encode();
            previous = usage::hash(&bytes);
            bytes
        };
        (0..count).map(page).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use ledger::Ledger;
    use ledger::usage::GENESIS;

    use super::*;
    use crate::store::mem::Platter;
    use crate::store::{DiskFuture, Key, Pair};

    fn written(number: u64, bytes: usize) -> WrittenPage {
        WrittenPage { number, bytes: vec![7; bytes] }
    }

    /// Entries that are applied again write their pages again. What is counted
    /// twice and taken off once would in the end let no entry be applied.
    #[tokio::test]
    async fn a_page_that_is_written_again_before_it_is_on_disk_counts_once() {
        let reach = Ledger::new().history();
        let history = History::open(Platter::new().open(), &reach).await.expect("an empty disk");
        for round in 0..4 {
            // All before the writer has its turn.
            history.append(vec![written(0, BEHIND_BYTES_MAX / 2), written(1, 100)], 0);
            history.append(vec![written(0, BEHIND_BYTES_MAX / 3)], 0);
            assert_eq!(history.0.state().behind_bytes, BEHIND_BYTES_MAX / 3 + 100);
            history.until_written(2).await.expect("a good disk");
            assert_eq!(history.0.state().behind_bytes, 0, "round {round}");
        }
        history.room().await.expect("nothing is behind");
    }

    /// A disk on which writes wait while it is held.
    struct Held {
        disk: Arc<dyn Disk>,
        holds: AtomicBool,
    }

    impl Disk for Held {
        fn get(&self, key: Key) -> DiskFuture<'_, Option<Vec<u8>>> {
            self.disk.get(key)
        }

        fn scan(&self, range: Range<Key>, limit: Limit) -> DiskFuture<'_, Vec<Pair>> {
            self.disk.scan(range, limit)
        }

        fn write(&self, writes: Writes) -> DiskFuture<'_, ()> {
            Box::pin(async move {
                if self.holds.swap(false, Ordering::Relaxed) {
                    for _ in 0..100 {
                        tokio::task::yield_now().await;
                    }
                }
                self.disk.write(writes).await
            })
        }

        fn sync(&self) -> DiskFuture<'_, ()> {
            self.disk.sync()
        }
    }

    /// A snapshot is installed while pages that the last one skipped are being
    /// written: the note on the disk is the later one's, or a restart would
    /// believe a hole to be whole.
    #[tokio::test]
    async fn the_note_on_the_disk_is_of_the_last_snapshot() {
        let disk = Arc::new(Held { disk: Platter::new().open(), holds: AtomicBool::new(false) });
        let mut reach = Ledger::new().history();
        let history = History::open(disk.clone(), &reach).await.expect("an empty disk");
        let pages = testing::chain(2);
        (reach.pages, reach.head) = (2, usage::hash(&pages[1]));
        history.skip(0, &reach).await.expect("a good disk");
        assert_eq!(history.missing().map(|missing| missing.until), Some(2));

        disk.holds.store(true, Ordering::Relaxed);
        let further = Reach { pages: 9, head: [9; 32], ..reach.clone() };
        let (filled, skipped) = tokio::join!(history.fill(&pages), history.skip(2, &further));
        filled.expect("the true pages");
        skipped.expect("a good disk");
        let missing = history.missing();
        assert_eq!(missing.as_ref().map(|missing| missing.until), Some(9));
        let again = History::open(disk, &further).await.expect("the same disk");
        assert_eq!(again.missing(), missing);
        assert_eq!(further.kept_previous, GENESIS);
    }
}
