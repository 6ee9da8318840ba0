//! openraft's own storage suite, on every engine.

use std::sync::Arc;

use node::raft::TypeConfig;
use node::store::log::Log;
use node::store::machine::Machine;
use node::store::mem::Platter;
use node::store::{Disk, EngineKind};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};

use crate::bench::{log, machine};

struct InMemory;

impl StoreBuilder<TypeConfig, Log, Machine, ()> for InMemory {
    async fn build(&self) -> Result<((), Log, Machine), StorageError<TypeConfig>> {
        let disk = Platter::new().open();
        Ok(((), log(&disk).await, machine(&disk).await))
    }
}

struct OnDisk(EngineKind);

impl StoreBuilder<TypeConfig, Log, Machine, tempfile::TempDir> for OnDisk {
    async fn build(&self) -> Result<(tempfile::TempDir, Log, Machine), StorageError<TypeConfig>> {
        let dir = tempfile::tempdir().expect("a directory");
        let disk: Arc<dyn Disk> = node::store::open(dir.path(), self.0).expect("the disk opens");
        Ok((dir, log(&disk).await, machine(&disk).await))
    }
}

#[tokio::test]
async fn the_memory_disk_passes_the_storage_suite() {
    Suite::test_all(InMemory).await.expect("the suite passes");
}

#[tokio::test]
async fn the_embedded_engine_passes_the_storage_suite() {
    Suite::test_all(OnDisk(EngineKind::Embedded)).await.expect("the suite passes");
}

#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn rocksdb_passes_the_storage_suite() {
    Suite::test_all(OnDisk(EngineKind::RocksDb)).await.expect("the suite passes");
}
