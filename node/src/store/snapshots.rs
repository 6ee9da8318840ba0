//! Snapshots on disk: in checksummed chunks, complete or absent, the last two kept.
//!
//! A snapshot exists once its header is durable, and its header is written
//! after all of its chunks are. A damaged snapshot is refused, never skipped:
//! an older one would need log entries that were purged because of it.

use std::fmt;
use std::io;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use super::frame::{self, Damaged};
use super::{Disk, Limit, Writes, entry, keys};
use crate::raft::{Snapshot, SnapshotMeta};

const CHUNK_BYTES: usize = 256 << 10;
/// Chunks in one write, so that the log's own writes get their turn in between.
const CHUNKS_PER_WRITE: usize = 4;
/// The one in use, and its predecessor for whoever has to find out what happened.
const KEPT: usize = 2;

/// A snapshot's bytes, as they travel between nodes and lie on disk.
///
/// They carry a checksum and the hash of the ledger in them; both are checked
/// when the machine restores from them.
#[derive(Clone, PartialEq, Eq)]
pub struct SnapshotBytes(pub Arc<[u8]>);

impl fmt::Debug for SnapshotBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SnapshotBytes({} bytes)", self.0.len())
    }
}

/// The snapshots of one node.
pub(super) struct Snapshots {
    disk: Arc<dyn Disk>,
    /// Those kept, oldest first. Held locked while one is saved.
    shelf: Mutex<Vec<(u64, Header)>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Header {
    meta: SnapshotMeta,
    chunks: u32,
    bytes: u64,
}

impl Snapshots {
    /// Finds the snapshots on `disk`, and clears what an unfinished one left.
    pub(super) async fn open(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let mut shelf = Vec::new();
        let mut leftovers = Writes::new();
        let mut unclaimed = 0;
        for (key, value) in disk.scan(keys::snapshots(), Limit::NONE).await? {
            let id = keys::snapshot_id(&key).ok_or_else(|| Damaged::body(&key, "wrong length"))?;
            shelf.push((id, entry::decode_record::<Header>(&key, &value)?));
            leftovers.delete_range(keys::chunks(unclaimed..id));
            unclaimed = id + 1;
        }
        leftovers.delete_range(keys::chunks_from(unclaimed));
        disk.write(leftovers).await?;
        Ok(Self { disk, shelf: Mutex::new(shelf) })
    }

    /// The latest snapshot, checked chunk by chunk.
    pub(super) async fn current(&self) -> io::Result<Option<Snapshot>> {
        let shelf = self.shelf.lock().await;
        let Some((id, header)) = shelf.last() else {
            return Ok(None);
        };
        let chunks = self.disk.scan(keys::chunks(*id..*id + 1), Limit::NONE).await?;
        let mut bytes = Vec::with_capacity(usize::try_from(header.bytes).unwrap_or(0));
        let mut found = chunks.iter();
        for number in 0..header.chunks {
            let wanted = keys::chunk(*id, number);
            match found.next() {
                Some((key, value)) if *key == wanted => bytes.extend(frame::open(key, value)?),
                _ => return Err(Damaged::missing(&wanted).into()),
            }
        }
        if bytes.len() as u64 != header.bytes {
            return Err(Damaged::body(&keys::snapshot(*id), "its length is wrong").into());
        }
        let snapshot = SnapshotBytes(bytes.into());
        Ok(Some(Snapshot { meta: header.meta.clone(), snapshot }))
    }

    /// Keeps a snapshot, unless one that covers as much is already kept.
    pub(super) async fn save(&self, meta: &SnapshotMeta, bytes: &SnapshotBytes) -> io::Result<()> {
        let mut shelf = self.shelf.lock().await;
        if shelf.last().is_some_and(|(_, latest)| latest.meta.last_log_id >= meta.last_log_id) {
            return Ok(());
        }
        let id = shelf.last().map_or(1, |(id, _)| id + 1);
        let mut chunks = 0;
        for group in bytes.0.chunks(CHUNK_BYTES * CHUNKS_PER_WRITE) {
            let mut writes = Writes::new();
            for chunk in group.chunks(CHUNK_BYTES) {
                let key = keys::chunk(id, chunks);
                writes.put(key.clone(), frame::seal(&key, chunk));
                chunks += 1;
            }
            self.disk.write(writes).await?;
        }
        self.disk.sync().await?;

        let header = Header { meta: meta.clone(), chunks, bytes: bytes.0.len() as u64 };
        let key = keys::snapshot(id);
        let mut writes = Writes::new();
        writes.put(key.clone(), entry::encode_record(&key, &header)?);
        let surplus = (shelf.len() + 1).saturating_sub(KEPT);
        for (old, _) in &shelf[..surplus] {
            // The header goes first: without it the chunks are leftovers.
            writes.delete(keys::snapshot(*old));
            writes.delete_range(keys::chunks(*old..*old + 1));
        }
        self.disk.commit(writes).await?;
        shelf.drain(..surplus);
        shelf.push((id, header));
        Ok(())
    }
}
