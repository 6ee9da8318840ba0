//! The replicated machine: hands committed entries to the ledger, in order.
//!
//! The ledger lives in memory. After a restart it is rebuilt from the last
//! snapshot and the log behind it. Everyone else looks at it through a
//! [`View`] and hears of what happened through its events.

use std::io;
use std::sync::{Arc, PoisonError, RwLock};

use futures_util::{Stream, StreamExt};
use ledger::{CodecError, Event, Ledger};
use openraft::EntryPayload;
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use tokio::sync::{broadcast, watch};

use super::Disk;
use super::frame::{self, Damaged};
use super::history::History;
pub use super::snapshots::SnapshotBytes;
use super::snapshots::Snapshots;
use crate::raft::{Entry, LogId, Replies, Snapshot, SnapshotMeta, StoredMembership, TypeConfig};

/// Events that a slow listener may fall behind before it loses the oldest.
const EVENTS_KEPT: usize = 4_096;
/// What a snapshot's bytes are framed for, in place of a key.
const FRAMED_FOR: &[u8] = b"snapshot";

/// The ledger at one moment of the log.
#[derive(Default)]
pub struct Applied {
    /// Who holds what.
    pub ledger: Ledger,
    /// The last entry that was applied.
    pub last: Option<LogId>,
    /// The last membership that was applied.
    pub membership: StoredMembership,
}

/// What one entry brought about beside the replies to its proposer.
#[derive(Debug, Clone)]
pub struct Happened {
    /// The entry. After a restart the entries since the last snapshot are
    /// applied, and reported, once more.
    pub log_id: LogId,
    /// In order; never empty.
    pub events: Arc<[Event]>,
}

/// A window on the ledger. Clones share it.
#[derive(Clone)]
pub struct View(Arc<Shared>);

struct Shared {
    applied: RwLock<Applied>,
    progress: watch::Sender<Option<LogId>>,
    events: broadcast::Sender<Happened>,
    history: History,
}

impl View {
    /// Looks at the ledger as it is now. Entries wait meanwhile, so be quick.
    pub fn read<T>(&self, look: impl FnOnce(&Applied) -> T) -> T {
        look(&self.0.applied.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks at the ledger alone.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.read(|applied| look(&applied.ledger))
    }

    /// The usage records of all that was applied.
    pub fn history(&self) -> &History {
        &self.0.history
    }

    /// The last applied entry, as it moves.
    pub fn progress(&self) -> watch::Receiver<Option<LogId>> {
        self.0.progress.subscribe()
    }

    /// What happens from now on. A listener that lags is told so, and should
    /// look at the ledger instead.
    pub fn events(&self) -> broadcast::Receiver<Happened> {
        self.0.events.subscribe()
    }
}

/// The machine that openraft drives.
pub struct Machine {
    snapshots: Arc<Snapshots>,
    view: View,
}

/// A snapshot that cannot be restored from.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Its checksum does not hold.
    #[error(
        "the snapshot is damaged: {0}; check the disk, then replace this node by a new one (`trine cluster replace`)"
    )]
    Damaged(#[from] Damaged),
    /// The ledger refuses it.
    #[error("the snapshot does not decode: {0}")]
    Undecodable(#[from] CodecError),
    /// It was announced as another.
    #[error("the snapshot was announced as of {said:?} and is of {last:?}; nothing was installed")]
    OtherPlace {
        /// What it was said to cover.
        said: Option<LogId>,
        /// What it covers.
        last: Option<LogId>,
    },
}

impl From<SnapshotError> for io::Error {
    fn from(error: SnapshotError) -> Self {
        Self::new(io::ErrorKind::InvalidData, error)
    }
}

impl Machine {
    /// The machine as of the last snapshot on `disk`, or an empty one.
    ///
    /// # Errors
    /// When the disk fails or the snapshot is damaged: the node must not start.
    pub async fn open(disk: Arc<dyn Disk>) -> io::Result<Self> {
        let snapshots = Arc::new(Snapshots::open(Arc::clone(&disk)).await?);
        let applied = match snapshots.current().await? {
            Some(Snapshot { meta, snapshot }) => restore(&meta, &snapshot)?,
            None => Applied::default(),
        };
        let history = History::open(disk, &applied.ledger.history()).await?;
        let view = View(Arc::new(Shared {
            history,
            progress: watch::Sender::new(applied.last),
            events: broadcast::Sender::new(EVENTS_KEPT),
            applied: RwLock::new(applied),
        }));
        Ok(Self { snapshots, view })
    }

    /// A window on its ledger.
    pub fn view(&self) -> View {
        self.view.clone()
    }

    fn apply_entry(&self, entry: Entry) -> Replies {
        let (replies, events) = {
            let shared = &self.view.0;
            let mut applied = shared.applied.write().unwrap_or_else(PoisonError::into_inner);
            applied.last = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => Default::default(),
                EntryPayload::Membership(membership) => {
                    applied.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Default::default()
                }
                EntryPayload::Normal(proposal) => {
                    let LogId { leader_id, index } = entry.log_id;
                    let outcome = applied.ledger.apply(index, leader_id.term, &proposal.0);
                    // Before anybody else can see how far the ledger's history reaches.
                    shared.history.append(outcome.pages, applied.ledger.history().kept);
                    (outcome.replies, outcome.events)
                }
            }
        };
        // Whoever waits for this index finds the ledger there before the proposer is answered.
        self.view.0.progress.send_replace(Some(entry.log_id));
        if !events.is_empty() {
            let happened = Happened { log_id: entry.log_id, events: events.into() };
            // Nobody may be listening.
            drop(self.view.0.events.send(happened));
        }
        Replies(replies)
    }
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotData = SnapshotBytes;
    type SnapshotBuilder = Builder;

    async fn applied_state(&mut self) -> io::Result<(Option<LogId>, StoredMembership)> {
        Ok(self.view.read(|applied| (applied.last, applied.membership.clone())))
    }

    async fn apply<S>(&mut self, mut entries: S) -> io::Result<()>
    where
        S: Stream<Item = io::Result<EntryResponder<TypeConfig>>> + Unpin + Send,
    {
        while let Some(next) = entries.next().await {
            let (entry, responder) = next?;
            self.view.history().room().await?;
            let replies = self.apply_entry(entry);
            if !self.view.look(Ledger::is_within_reach) {
                // What this build knows of the entries behind it is not all of it.
                return Err(io::Error::other("the feature level is above this build's"));
            }
            if let Some(responder) = responder {
                responder.send(replies);
            }
        }
        Ok(())
    }

    /// Encodes the ledger here and now, so that the snapshot is of one moment;
    /// writing it is the builder's work, beside further entries.
    async fn get_snapshot_builder(&mut self) -> Builder {
        let (meta, packed, pages) = self.view.read(|applied| {
            let meta = SnapshotMeta {
                last_log_id: applied.last,
                last_membership: applied.membership.clone(),
            };
            let packed = pack(&applied.ledger, &meta);
            (meta, packed, applied.ledger.history().pages)
        });
        let (snapshots, history) = (Arc::clone(&self.snapshots), self.view.history().clone());
        Builder { snapshots, history, pages, meta, packed }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotBytes,
    ) -> io::Result<()> {
        let restored = restore(meta, &snapshot)?;
        let have = self.view.look(|ledger| ledger.history().pages);
        self.view.history().skip(have, &restored.ledger.history()).await?;
        // On disk before in memory: the log before it may be purged next.
        self.snapshots.save(meta, &snapshot).await?;
        *self.view.0.applied.write().unwrap_or_else(PoisonError::into_inner) = restored;
        self.view.0.progress.send_replace(meta.last_log_id);
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> io::Result<Option<Snapshot>> {
        self.snapshots.current().await
    }
}

/// Writes one snapshot to disk.
pub struct Builder {
    snapshots: Arc<Snapshots>,
    history: History,
    /// Pages of history that it covers.
    pages: u64,
    meta: SnapshotMeta,
    packed: Result<SnapshotBytes, postcard::Error>,
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    type SnapshotData = SnapshotBytes;

    async fn build_snapshot(&mut self) -> io::Result<Snapshot> {
        let snapshot = self.packed.clone().map_err(io::Error::other)?;
        // Saving syncs them; from then on the log may forget their entries.
        self.history.until_written(self.pages).await?;
        self.snapshots.save(&self.meta, &snapshot).await?;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}

/// `what it covers · the ledger's own encoding`, framed. The latter carries the
/// ledger's hash, which restoring compares (S19).
fn pack(ledger: &Ledger, meta: &SnapshotMeta) -> Result<SnapshotBytes, postcard::Error> {
    let mut body = postcard::to_stdvec(meta)?;
    body.extend(ledger.snapshot());
    Ok(SnapshotBytes(frame::seal(FRAMED_FOR, &body).into()))
}

fn restore(meta: &SnapshotMeta, snapshot: &SnapshotBytes) -> Result<Applied, SnapshotError> {
    let body = frame::open(FRAMED_FOR, &snapshot.0)?;
    let (covers, bytes): (SnapshotMeta, _) =
        postcard::take_from_bytes(body).map_err(|error| Damaged::body(FRAMED_FOR, error))?;
    if covers != *meta {
        return Err(SnapshotError::OtherPlace { said: meta.last_log_id, last: covers.last_log_id });
    }
    let ledger = Ledger::restore(bytes)?;
    Ok(Applied { ledger, last: meta.last_log_id, membership: meta.last_membership.clone() })
}
