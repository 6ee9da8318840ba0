//! The latest entries, kept in memory.

use std::collections::VecDeque;
use std::ops::Range;

use crate::raft::Entry;
use crate::store::Limit;

/// Entries kept once they are durable: what a follower may lag without a disk read.
const ENTRIES_MAX: usize = 8_192;
/// Their encoded size.
const BYTES_MAX: usize = 32 << 20;

/// The end of the log: consecutive entries up to the last.
///
/// Invariant: holds every entry that is not yet on the disk, whatever the
/// limits, because nobody could read it anywhere else.
pub(super) struct Window {
    entries: VecDeque<Recent>,
    bytes: usize,
}

struct Recent {
    entry: Entry,
    bytes: usize,
    /// The append that brought it.
    append: u64,
}

impl Window {
    pub(super) fn new() -> Self {
        Self { entries: VecDeque::new(), bytes: 0 }
    }

    /// Index of the first entry held.
    pub(super) fn first(&self) -> Option<u64> {
        self.entries.front().map(|recent| recent.entry.log_id.index)
    }

    /// Adds the entry after the last.
    pub(super) fn push(&mut self, entry: Entry, bytes: usize, append: u64) {
        if let Some(last) = self.entries.back() {
            assert_eq!(last.entry.log_id.index + 1, entry.log_id.index, "the window has a hole");
        }
        self.bytes += bytes;
        self.entries.push_back(Recent { entry, bytes, append });
    }

    /// Forgets the oldest beyond the limits, of those that appends up to `written` brought.
    pub(super) fn trim(&mut self, written: u64) {
        while (self.entries.len() > ENTRIES_MAX || self.bytes > BYTES_MAX)
            && self.entries.front().is_some_and(|oldest| oldest.append <= written)
        {
            self.pop_front();
        }
    }

    /// Forgets every entry from index `from` on.
    pub(super) fn truncate(&mut self, from: u64) {
        while self.entries.back().is_some_and(|last| last.entry.log_id.index >= from) {
            if let Some(last) = self.entries.pop_back() {
                self.bytes -= last.bytes;
            }
        }
    }

    /// Forgets every entry up to and with index `upto`.
    pub(super) fn purge(&mut self, upto: u64) {
        while self.first().is_some_and(|first| first <= upto) {
            self.pop_front();
        }
    }

    /// The entries of `range`, which lies within the window, as many as `limit` allows.
    pub(super) fn read(&self, range: Range<u64>, limit: Limit) -> Vec<Entry> {
        let skipped = self.first().map_or(0, |first| range.start.saturating_sub(first));
        let count = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = 0;
        self.entries
            .iter()
            .skip(usize::try_from(skipped).unwrap_or(usize::MAX))
            .take(count.min(limit.pairs))
            .take_while(|recent| {
                let fits = bytes == 0 || bytes + recent.bytes <= limit.bytes;
                bytes += recent.bytes;
                fits
            })
            .map(|recent| recent.entry.clone())
            .collect()
    }

    /// The entry at `index`, if it is held.
    pub(super) fn get(&self, index: u64) -> Option<&Entry> {
        let at = index.checked_sub(self.first()?)?;
        self.entries.get(usize::try_from(at).ok()?).map(|recent| &recent.entry)
    }

    fn pop_front(&mut self) {
        if let Some(oldest) = self.entries.pop_front() {
            self.bytes -= oldest.bytes;
        }
    }
}
