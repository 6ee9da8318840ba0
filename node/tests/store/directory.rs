//! The data directory, and what real engines hold after a restart and a crash.

use std::fs;
use std::path::Path;

use node::raft::Vote;
use node::store::log::Log;
use node::store::{EngineKind, OpenError, open};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt};

use crate::bench::{entries, held, log};

const ENGINES: &[EngineKind] = if cfg!(feature = "rocksdb") {
    &[EngineKind::Embedded, EngineKind::RocksDb]
} else {
    &[EngineKind::Embedded]
};

fn refused(dir: &Path, engine: EngineKind) -> OpenError {
    open(dir, engine).err().expect("refused")
}

#[tokio::test]
async fn a_restart_finds_all_that_was_acknowledged() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().expect("a directory");
        let vote = Vote::new_committed(7, 2);
        {
            let mut before = log(&open(dir.path(), *engine).expect("opens")).await;
            before.save_vote(&vote).await.expect("saved");
            before.blocking_append(entries(7, 0..300)).await.expect("appended");
            before.purge(entries(7, 0..100)[99].log_id).await.expect("purged");
            before.truncate_after(Some(entries(7, 0..250)[249].log_id)).await.expect("truncated");
            before.blocking_append(entries(8, 250..260)).await.expect("appended");
        }
        let mut expected = entries(7, 100..250);
        expected.extend(entries(8, 250..260));
        let mut after = log(&reopened(dir.path(), *engine).await).await;
        let found = held(&mut after).await;
        assert_eq!(found.vote, Some(vote), "{engine}");
        assert_eq!(found.entries, expected, "{engine}");
    }
}

/// What a process leaves that is killed: the files as they are while it runs.
#[tokio::test]
async fn a_killed_process_leaves_all_that_was_acknowledged() {
    for engine in ENGINES {
        let dir = tempfile::tempdir().expect("a directory");
        let mut before = log(&open(dir.path(), *engine).expect("opens")).await;
        for index in 0..50 {
            before.blocking_append(entries(1, index..index + 1)).await.expect("appended");
        }
        let left = tempfile::tempdir().expect("a directory");
        copy(dir.path(), left.path());
        let mut after = log(&open(left.path(), *engine).expect("opens")).await;
        assert_eq!(held(&mut after).await.entries, entries(1, 0..50), "{engine}");
    }
}

/// A write-ahead log that ends early is what a power cut leaves of unsynced
/// writes: the node must start. A wrong byte within is rot: it must not.
#[cfg(feature = "rocksdb")]
#[tokio::test]
async fn rocksdb_accepts_a_torn_tail_and_refuses_a_rotten_record() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut before = log(&open(dir.path(), EngineKind::RocksDb).expect("opens")).await;
    for index in 0..50 {
        before.blocking_append(entries(1, index..index + 1)).await.expect("appended");
    }
    let killed = |change: &dyn Fn(&mut Vec<u8>)| {
        let left = tempfile::tempdir().expect("a directory");
        copy(dir.path(), left.path());
        let files = fs::read_dir(left.path().join("data/rocks")).expect("a listing");
        let wal = files
            .map(|file| file.expect("a file").path())
            .find(|path| path.extension().is_some_and(|extension| extension == "log"))
            .expect("a write-ahead log");
        let mut bytes = fs::read(&wal).expect("readable");
        change(&mut bytes);
        fs::write(&wal, bytes).expect("writable");
        left
    };

    let torn = killed(&|bytes| bytes.truncate(bytes.len() - 5));
    let mut after = log(&open(torn.path(), EngineKind::RocksDb).expect("opens")).await;
    assert_eq!(held(&mut after).await.entries, entries(1, 0..49));

    let rotten = killed(&|bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let message = refused(rotten.path(), EngineKind::RocksDb).to_string();
    assert!(message.contains("Corruption") && message.contains("replace this node"), "{message}");
}

/// Wherever a byte of the embedded engine's file rots, the node either refuses
/// to start or serves exactly what was written; but for the very last commit,
/// which redb may undo (see `embedded.rs`).
#[tokio::test]
async fn rot_in_the_embedded_engine_is_never_served() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut before = log(&open(dir.path(), EngineKind::Embedded).expect("opens")).await;
    for index in 0..40 {
        before.blocking_append(entries(1, index..index + 1)).await.expect("appended");
    }
    let file = "data/trine.redb";
    let size = fs::metadata(dir.path().join(file)).expect("metadata").len();
    for at in (0..size.min(1 << 17)).step_by(997) {
        let rotten = tempfile::tempdir().expect("a directory");
        copy(dir.path(), rotten.path());
        let mut bytes = fs::read(rotten.path().join(file)).expect("readable");
        bytes[at as usize] ^= 0x20;
        fs::write(rotten.path().join(file), bytes).expect("writable");
        let Ok(disk) = open(rotten.path(), EngineKind::Embedded) else { continue };
        let Ok(mut after) = Log::open(disk, |_| {}).await else { continue };
        let found = held(&mut after).await.entries;
        assert!(found == entries(1, 0..40) || found == entries(1, 0..39), "byte {at}: {found:?}");
    }
}

#[tokio::test]
async fn a_directory_is_opened_once() {
    let dir = tempfile::tempdir().expect("a directory");
    let first = open(dir.path(), EngineKind::Embedded).expect("opens");
    let message = refused(dir.path(), EngineKind::Embedded).to_string();
    assert!(message.contains("in use by another process; stop that node first"), "{message}");
    drop(first);
    open(dir.path(), EngineKind::Embedded).expect("opens once the first is gone");
}

#[tokio::test]
async fn a_missing_directory_is_made_with_its_parents() {
    let dir = tempfile::tempdir().expect("a directory");
    let deep = dir.path().join("var/lib/trine");
    open(&deep, EngineKind::Embedded).expect("opens");
    assert_eq!(fs::read_to_string(deep.join("engine")).expect("a marker"), "trine 1 embedded\n");
}

#[tokio::test]
async fn a_directory_of_somebody_elses_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::write(dir.path().join("thesis.tex"), "x").expect("written");
    let message = refused(dir.path(), EngineKind::Embedded).to_string();
    assert!(message.contains("thesis.tex") && message.contains("empty or a new"), "{message}");
    assert_eq!(fs::read_dir(dir.path()).expect("a listing").count(), 1);
}

#[tokio::test]
async fn the_other_engines_directory_is_refused_by_name() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), EngineKind::Embedded).expect("opens"));
    fs::write(dir.path().join("engine"), "trine 1 rocksdb\n").expect("written");
    let message = refused(dir.path(), EngineKind::Embedded).to_string();
    assert!(message.contains("set engine = \"rocksdb\""), "{message}");
}

#[tokio::test]
async fn a_newer_layout_is_refused_and_not_guessed_at() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), EngineKind::Embedded).expect("opens"));
    fs::write(dir.path().join("engine"), "trine 2 embedded sharded\n").expect("written");
    assert!(matches!(
        refused(dir.path(), EngineKind::Embedded),
        OpenError::Layout { found: 2, .. }
    ));
}

#[tokio::test]
async fn a_damaged_marker_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), EngineKind::Embedded).expect("opens"));
    for text in ["", "trine", "trine x embedded", "trine 1 papyrus", "trine 1 embedded extra"] {
        fs::write(dir.path().join("engine"), text).expect("written");
        assert!(
            matches!(refused(dir.path(), EngineKind::Embedded), OpenError::Marker { .. }),
            "{text:?}"
        );
    }
}

/// Starting empty under an old id would be amnesia (S21).
#[tokio::test]
async fn a_directory_that_lost_its_data_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    drop(open(dir.path(), EngineKind::Embedded).expect("opens"));
    fs::remove_dir_all(dir.path().join("data")).expect("removed");
    assert!(matches!(refused(dir.path(), EngineKind::Embedded), OpenError::Emptied { .. }));
}

#[tokio::test]
async fn a_first_start_cut_short_can_be_repeated() {
    let dir = tempfile::tempdir().expect("a directory");
    fs::create_dir(dir.path().join("data")).expect("made");
    fs::write(dir.path().join("lock"), "").expect("written");
    fs::write(dir.path().join("engine.part"), "tri").expect("written");
    open(dir.path(), EngineKind::Embedded).expect("opens");
}

#[tokio::test]
async fn a_file_in_place_of_the_directory_is_refused() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("data");
    fs::write(&file, "x").expect("written");
    let message = refused(&file, EngineKind::Embedded).to_string();
    assert!(message.contains("name a directory"), "{message}");
}

#[cfg(not(feature = "rocksdb"))]
#[tokio::test]
async fn an_engine_that_was_not_built_says_so() {
    let dir = tempfile::tempdir().expect("a directory");
    assert!(matches!(refused(dir.path(), EngineKind::RocksDb), OpenError::NotBuilt));
}

/// The flusher lets go of the disk a moment after the log is dropped.
async fn reopened(dir: &Path, engine: EngineKind) -> std::sync::Arc<dyn node::store::Disk> {
    loop {
        match open(dir, engine) {
            Err(OpenError::Locked { .. }) => tokio::task::yield_now().await,
            opened => return opened.expect("opens"),
        }
    }
}

fn copy(from: &Path, to: &Path) {
    for entry in fs::read_dir(from).expect("a listing") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            fs::create_dir(&target).expect("made");
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).expect("copied");
        }
    }
}
