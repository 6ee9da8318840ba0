//! Every key on a node's disk.
//!
//! | key                          | value                                   | synced               |
//! |------------------------------|-----------------------------------------|----------------------|
//! | `01`                         | the vote                                | before it is answered |
//! | `02`                         | last log id known to be committed       | with the next entry  |
//! | `03`                         | last log id purged                      | with the next entry  |
//! | `04` node (u64)              | what that node was seen to promise      | with the next entry  |
//! | `10` index (u64)             | one log entry                           | before it is answered |
//! | `20` snapshot (u64)          | what the snapshot covers, chunks, bytes | after its chunks     |
//! | `21` snapshot (u64) # (u32)  | one chunk of the snapshot               | before its header    |
//! | `30` page (u64)              | one page of the history                 | before the snapshot that covers it |
//! | `31`                         | the pages of the history that are missing | before the snapshot that covers them |
//!
//! Numbers are big-endian, so that byte order is number order. Every value is
//! framed by [`super::frame`]. First bytes are never reused for another meaning.

use std::ops::{Bound, Range, RangeBounds};

use super::Key;

const MEMORY: u8 = 0x04;
const ENTRY: u8 = 0x10;
const SNAPSHOT: u8 = 0x20;
const CHUNK: u8 = 0x21;
const PAGE: u8 = 0x30;

/// The vote.
pub fn vote() -> Key {
    vec![0x01]
}

/// The last log id known to be committed.
pub fn committed() -> Key {
    vec![0x02]
}

/// The last log id purged.
pub fn purged() -> Key {
    vec![0x03]
}

/// What `node` was seen to promise.
pub fn memory(node: u64) -> Key {
    numbered(MEMORY, node)
}

/// What all nodes were seen to promise.
pub fn memories() -> Range<Key> {
    vec![MEMORY]..vec![MEMORY + 1]
}

/// The node of such a key.
pub fn memory_of(key: &[u8]) -> Option<u64> {
    number(MEMORY, key)
}

/// The log entry at `index`.
pub fn entry(index: u64) -> Key {
    numbered(ENTRY, index)
}

/// The log entries whose index is in `range`.
pub fn entries(range: impl RangeBounds<u64>) -> Range<Key> {
    let start = match range.start_bound() {
        Bound::Included(&index) => entry(index),
        Bound::Excluded(&index) => after(ENTRY, index),
        Bound::Unbounded => entry(0),
    };
    let end = match range.end_bound() {
        Bound::Included(&index) => after(ENTRY, index),
        Bound::Excluded(&index) => entry(index),
        Bound::Unbounded => vec![ENTRY + 1],
    };
    // An empty range may be written backwards; a scan wants it forwards.
    start.clone()..end.max(start)
}

/// The index of a log entry's key.
pub fn entry_index(key: &[u8]) -> Option<u64> {
    number(ENTRY, key)
}

/// The header of snapshot `id`.
pub fn snapshot(id: u64) -> Key {
    numbered(SNAPSHOT, id)
}

/// The headers of all snapshots.
pub fn snapshots() -> Range<Key> {
    vec![SNAPSHOT]..vec![SNAPSHOT + 1]
}

/// The snapshot of a header's key.
pub fn snapshot_id(key: &[u8]) -> Option<u64> {
    number(SNAPSHOT, key)
}

/// Chunk `number` of snapshot `id`.
pub fn chunk(id: u64, number: u32) -> Key {
    let mut key = numbered(CHUNK, id);
    key.extend(number.to_be_bytes());
    key
}

/// All chunks of the snapshots in `ids`.
pub fn chunks(ids: Range<u64>) -> Range<Key> {
    numbered(CHUNK, ids.start)..numbered(CHUNK, ids.end.max(ids.start))
}

/// All chunks of snapshot `id` and of every later one.
pub fn chunks_from(id: u64) -> Range<Key> {
    numbered(CHUNK, id)..vec![CHUNK + 1]
}

/// Page `number` of the history.
pub fn page(number: u64) -> Key {
    numbered(PAGE, number)
}

/// The pages of the history whose number is in `numbers`.
pub fn pages(numbers: Range<u64>) -> Range<Key> {
    page(numbers.start)..page(numbers.end.max(numbers.start))
}

/// What of the history is missing.
pub fn missing_pages() -> Key {
    vec![0x31]
}

/// A key in words, for messages.
pub fn describe(key: &[u8]) -> String {
    match (key, entry_index(key), snapshot_id(key)) {
        ([0x01], ..) => "the vote".to_owned(),
        ([0x02], ..) => "the committed log id".to_owned(),
        ([0x03], ..) => "the purged log id".to_owned(),
        ([0x31], ..) => "the note of missing history".to_owned(),
        ([PAGE, number @ ..], ..) if number.len() == 8 => {
            format!("page {} of the history", number_of(number).unwrap_or_default())
        }
        (_, Some(index), _) => format!("log entry {index}"),
        _ if memory_of(key).is_some() => {
            format!("the memory of node-{}", memory_of(key).unwrap_or_default())
        }
        (_, _, Some(id)) => format!("the header of snapshot {id}"),
        ([CHUNK, rest @ ..], ..) if rest.len() == 12 => {
            let (id, number) = rest.split_at(8);
            let id = number_of(id).unwrap_or_default();
            let number = number.iter().fold(0_u32, |n, byte| n << 8 | u32::from(*byte));
            format!("chunk {number} of snapshot {id}")
        }
        (b"snapshot", ..) => "a snapshot".to_owned(),
        _ => format!("unknown key {key:02x?}"),
    }
}

fn numbered(room: u8, number: u64) -> Key {
    let mut key = Vec::with_capacity(13);
    key.push(room);
    key.extend(number.to_be_bytes());
    key
}

fn after(room: u8, number: u64) -> Key {
    number.checked_add(1).map_or_else(|| vec![room + 1], |next| numbered(room, next))
}

fn number(room: u8, key: &[u8]) -> Option<u64> {
    let (first, rest) = key.split_first()?;
    (*first == room).then(|| number_of(rest)).flatten()
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    bytes.try_into().ok().map(u64::from_be_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_as_their_numbers_do() {
        assert!(entry(255) < entry(256));
        assert!(chunk(1, 255) < chunk(1, 256) && chunk(1, u32::MAX) < chunk(2, 0));
    }

    #[test]
    fn a_range_of_entries_holds_its_bounds_and_nothing_of_the_next_room() {
        assert!(entries(3..=5).contains(&entry(5)) && !entries(3..5).contains(&entry(5)));
        assert!(entries(..).contains(&entry(u64::MAX)) && !entries(..).contains(&snapshot(0)));
        assert!(entries(u64::MAX..=u64::MAX).contains(&entry(u64::MAX)));
        let (start, end) = (7, 3);
        assert!(entries(start..end).is_empty());
    }

    #[test]
    fn a_key_says_what_it_is() {
        assert_eq!(describe(&entry(17)), "log entry 17");
        assert_eq!(describe(&chunk(2, 3)), "chunk 3 of snapshot 2");
        assert_eq!(describe(&memory(2)), "the memory of node-2");
    }
}
