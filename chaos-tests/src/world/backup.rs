//! Backups of a cluster, and a whole cluster that begins anew from one.

use ledger::backup::Backup;
use wire::v1::{BeginRestoreReply, BeginRestoreRequest, RestorePartRequest};

use super::callers::endpoint;
use super::{NODES, Platter, Survives, World};

impl World {
    /// A backup of the ledger as it is now.
    pub async fn back_up(&self) -> Backup {
        let operator = self.operator().operator();
        let mut chunks = operator.backup().await.expect("a backup is given");
        let mut bytes = Vec::new();
        while let Some(chunk) = chunks.message().await.expect("it is whole") {
            bytes.extend(chunk.bytes);
        }
        Backup::decode(bytes).expect("a backup")
    }

    /// All three nodes lose their data, keep their containers and begin anew from
    /// `backup`, which forgets nothing that is still held.
    pub async fn lose_all_and_restore(&self, backup: &Backup) -> u64 {
        let begun = self.lose_all_and_begin(backup).await;
        self.hand_over(backup, &begun).await;
        begun.epoch
    }

    /// The first step of it: the three have a leader that knows what is to come.
    pub async fn lose_all_and_begin(&self, backup: &Backup) -> BeginRestoreReply {
        for node in NODES {
            self.crash(node, Survives::Nothing).await;
        }
        for node in NODES {
            self.put_back(node, &Platter::new());
            self.restart(node).await;
        }
        let at = self.operator().operator().at(endpoint(1));
        let front = backup.header.encode();
        let request = BeginRestoreRequest { front, quiet_ms: 0, epoch: None };
        self.until("the restore begins", async || {
            let begun = at.begin_restore(request.clone()).await;
            begun.inspect_err(|error| self.note(format_args!("not begun: {error}"))).ok()
        })
        .await
    }

    /// The other steps.
    pub async fn hand_over(&self, backup: &Backup, begun: &BeginRestoreReply) {
        let operator = self.operator().operator();
        for (number, bytes) in (0..).zip(backup.snapshot.chunks(begun.part_bytes as usize)) {
            let digest = backup.header.digest.to_vec();
            let part = RestorePartRequest { backup: digest, number, bytes: bytes.to_vec() };
            operator.restore_part(part).await.expect("a part is taken");
        }
        operator.finish_restore(backup.header.digest).await.expect("it is restored");
    }
}
