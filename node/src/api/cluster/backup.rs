//! Backups on their way out, and on their way back in.

use std::pin::Pin;
use std::sync::Arc;

use futures_util::{Stream, stream};
use ledger::Ledger;
use ledger::backup::Header;
use ledger::command::{Blob, Command, Reply, Restore, RestoreFinish, RestorePart as Part};
use ledger::limits::RESTORE_PART_BYTES;
use ledger::name::Subject;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tonic::Status;
use wire::v1;

use super::{Cluster, envelope, error};
use crate::answer::NotAnswered;
use crate::formation::restore::{Asked, Begun};

/// A backup as it is streamed.
pub(super) type Chunks = Pin<Box<dyn Stream<Item = Result<v1::BackupChunk, Status>> + Send>>;

/// One message of a backup.
const CHUNK_BYTES: usize = 256 << 10;

impl Cluster {
    /// The ledger as of now, with its header in front. Whatever was answered
    /// before the call is in it: it is read as `Status` is.
    pub(super) async fn back_up(&self, by: &Subject) -> Result<Chunks, Status> {
        let turn =
            turn(&self.backups).map_err(|why| self.answers.tell(error::not_answered(&why)))?;
        let taken = self.formation.clock.wall();
        let look = |ledger: &Ledger| {
            let snapshot = ledger.snapshot();
            Header::of(ledger, &snapshot, taken, env!("CARGO_PKG_VERSION"))
                .map(|header| (header, snapshot))
        };
        let not_formed = || self.answers.tell(error::not_answered(&NotAnswered::NotFormed));
        let (header, snapshot) = self.read(look).await?.1.ok_or_else(not_formed)?;
        tracing::info!(%by, index = header.index, bytes = header.bytes, "backup taken");
        Ok(chunks(header.encode(), snapshot, turn))
    }

    pub(super) async fn start_restore(
        &self,
        request: v1::BeginRestoreRequest,
        by: Subject,
    ) -> Result<v1::BeginRestoreReply, Status> {
        let v1::BeginRestoreRequest { front, quiet_ms, epoch } = request;
        let asked = Asked { front, quiet_ms, epoch, by: by.clone() };
        let begun = self.formation.begin_restore(asked).await;
        let Begun { reply, plan, next_part } =
            begun.map_err(|why| self.answers.tell(error::not_formed(&why)))?;
        let (parts, part_bytes) = (plan.parts(), RESTORE_PART_BYTES as u32);
        tracing::info!(%by, cluster = %plan.cluster, epoch = plan.epoch, parts, "restore begun");
        let envelope = envelope(&reply);
        Ok(v1::BeginRestoreReply { envelope, epoch: plan.epoch, next_part, parts, part_bytes })
    }

    pub(super) async fn take_part(&self, request: v1::RestorePartRequest) -> Result<Reply, Status> {
        let v1::RestorePartRequest { backup, number, bytes } = request;
        let backup = self.digest(&backup)?;
        let part = Part { backup, number, bytes: Blob(bytes) };
        self.command(Command::Restore(Restore::Part(part))).await
    }

    pub(super) async fn end_restore(
        &self,
        request: v1::FinishRestoreRequest,
        by: &Subject,
    ) -> Result<Reply, Status> {
        let backup = self.digest(&request.backup)?;
        let finish = RestoreFinish { backup };
        let reply = self.command(Command::Restore(Restore::Finish(finish))).await?;
        tracing::info!(%by, epoch = reply.log_id.epoch, "backup restored");
        Ok(reply)
    }

    fn digest(&self, bytes: &[u8]) -> Result<[u8; 32], Status> {
        bytes.try_into().map_err(|_| self.invalid("a backup is named by its SHA-256, 32 bytes"))
    }
}

/// A backup's turn; another waits until it has been sent.
fn turn(backups: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, NotAnswered> {
    Arc::clone(backups).try_acquire_owned().map_err(|_| NotAnswered::Overloaded)
}

/// The file in messages. Its turn is over when the last was taken, or nobody
/// takes them any more.
fn chunks(front: Vec<u8>, snapshot: Vec<u8>, turn: OwnedSemaphorePermit) -> Chunks {
    let begins = (0..snapshot.len()).step_by(CHUNK_BYTES);
    let ledger = begins.map(move |at| {
        let _held = &turn;
        snapshot[at..snapshot.len().min(at + CHUNK_BYTES)].to_vec()
    });
    let messages = std::iter::once(front).chain(ledger);
    Box::pin(stream::iter(messages.map(|bytes| Ok(v1::BackupChunk { bytes }))))
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;

    #[tokio::test]
    async fn a_second_backup_waits_for_the_first_to_be_sent() {
        let backups = Arc::new(Semaphore::new(1));
        let snapshot = vec![7; 2 * CHUNK_BYTES + 1];
        let mut first = chunks(vec![1, 2], snapshot.clone(), turn(&backups).expect("its turn"));
        let mut sent = Vec::new();
        while let Some(chunk) = first.next().await {
            assert_eq!(turn(&backups).err(), Some(NotAnswered::Overloaded));
            sent.push(chunk.expect("a chunk").bytes);
        }
        assert_eq!(sent.iter().map(Vec::len).collect::<Vec<_>>(), [2, CHUNK_BYTES, CHUNK_BYTES, 1]);
        assert_eq!(sent[1..].concat(), snapshot);
        drop(first);
        let given_up = chunks(vec![1, 2], snapshot, turn(&backups).expect("its turn"));
        drop(given_up);
        assert!(turn(&backups).is_ok(), "whoever gave up holds nobody up");
    }
}
