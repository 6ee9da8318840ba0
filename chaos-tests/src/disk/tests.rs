//! Through the kernel, with ordinary file calls: what stays and what goes.

use std::fs::{self, File, OpenOptions};
use std::io::{Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::FileExt as _;
use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tempfile::TempDir;

use super::{Loss, LossyDisk};
use crate::skip;

/// A mounted disk, or `None` where there is no FUSE, said out loud.
fn disk() -> Option<(TempDir, LossyDisk)> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    match LossyDisk::mount(folder.path(), Duration::ZERO) {
        Ok(disk) => Some((folder, disk)),
        Err(reason) => {
            skip(&reason);
            None
        }
    }
}

fn crash(disk: &mut LossyDisk) -> super::Lost {
    disk.crash(Loss::Everything, &mut StdRng::seed_from_u64(1)).expect("a crash")
}

/// A file of this content whose name and bytes are durable.
fn durable(disk: &LossyDisk, name: &str, content: &[u8]) -> File {
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(true)
        .read(true)
        .write(true)
        .open(disk.path().join(name))
        .expect("a new file");
    file.write_all(content).expect("a write");
    file.sync_all().expect("a sync");
    sync_directory(disk);
    file
}

fn sync_directory(disk: &LossyDisk) {
    File::open(disk.path()).and_then(|root| root.sync_all()).expect("a directory sync");
}

fn content(disk: &LossyDisk, name: &str) -> Option<Vec<u8>> {
    fs::read(disk.path().join(name)).ok()
}

#[test]
fn synced_bytes_survive_and_unsynced_bytes_are_gone() {
    let Some((_folder, mut disk)) = disk() else { return };
    let mut file = durable(&disk, "log", b"kept");
    file.write_all(b" and lost").unwrap();
    assert_eq!(content(&disk, "log").unwrap(), b"kept and lost");
    drop(file);

    let lost = crash(&mut disk);

    assert_eq!(content(&disk, "log").unwrap(), b"kept");
    assert_eq!((lost.writes, lost.bytes), (1, 9));
}

#[test]
fn an_overwrite_in_place_goes_back_to_the_synced_bytes() {
    let Some((_folder, mut disk)) = disk() else { return };
    let file = durable(&disk, "table", b"0123456789");
    file.write_all_at(b"xxx", 2).unwrap();
    file.write_all_at(b"yyyyyy", 8).unwrap();
    assert_eq!(content(&disk, "table").unwrap(), b"01xxx567yyyyyy");
    drop(file);
    crash(&mut disk);
    assert_eq!(content(&disk, "table").unwrap(), b"0123456789");
}

#[test]
fn a_data_sync_keeps_the_bytes_and_the_length() {
    let Some((_folder, mut disk)) = disk() else { return };
    let mut file = durable(&disk, "log", b"a");
    file.write_all(b"bc").unwrap();
    file.sync_data().unwrap();
    drop(file);
    crash(&mut disk);
    assert_eq!(content(&disk, "log").unwrap(), b"abc");
}

#[test]
fn a_new_file_synced_without_its_directory_has_no_name_after_a_crash() {
    let Some((_folder, mut disk)) = disk() else { return };
    let mut file = File::create(disk.path().join("new")).unwrap();
    file.write_all(b"content").unwrap();
    file.sync_all().unwrap();
    drop(file);
    crash(&mut disk);
    assert_eq!(content(&disk, "new"), None);
}

#[test]
fn a_name_synced_without_its_file_names_an_empty_file() {
    let Some((_folder, mut disk)) = disk() else { return };
    fs::write(disk.path().join("new"), b"content").unwrap();
    sync_directory(&disk);
    crash(&mut disk);
    assert_eq!(content(&disk, "new").unwrap(), b"");
}

#[test]
fn a_rename_without_directory_sync_goes_back() {
    let Some((_folder, mut disk)) = disk() else { return };
    drop(durable(&disk, "current", b"old"));
    drop(durable(&disk, "next", b"new"));
    fs::rename(disk.path().join("next"), disk.path().join("current")).unwrap();
    assert_eq!(content(&disk, "current").unwrap(), b"new");

    crash(&mut disk);
    assert_eq!(content(&disk, "current").unwrap(), b"old");
    assert_eq!(content(&disk, "next").unwrap(), b"new");

    fs::rename(disk.path().join("next"), disk.path().join("current")).unwrap();
    sync_directory(&disk);
    crash(&mut disk);
    assert_eq!(content(&disk, "current").unwrap(), b"new");
    assert_eq!(content(&disk, "next"), None);
}

#[test]
fn a_deletion_without_directory_sync_is_undone() {
    let Some((_folder, mut disk)) = disk() else { return };
    drop(durable(&disk, "old", b"still here"));
    fs::remove_file(disk.path().join("old")).unwrap();
    assert_eq!(content(&disk, "old"), None);
    crash(&mut disk);
    assert_eq!(content(&disk, "old").unwrap(), b"still here");
}

#[test]
fn a_truncation_without_sync_is_undone() {
    let Some((_folder, mut disk)) = disk() else { return };
    let file = durable(&disk, "log", b"0123456789");
    file.set_len(3).unwrap();
    file.set_len(6).unwrap();
    assert_eq!(content(&disk, "log").unwrap(), b"012\0\0\0");
    drop(file);
    crash(&mut disk);
    assert_eq!(content(&disk, "log").unwrap(), b"0123456789");
}

#[test]
fn folders_and_what_is_in_them_need_their_own_syncs() {
    let Some((_folder, mut disk)) = disk() else { return };
    let inner = disk.path().join("a/b");
    fs::create_dir_all(&inner).unwrap();
    fs::write(inner.join("file"), b"x").unwrap();
    File::open(inner.join("file")).unwrap().sync_all().unwrap();
    for folder in ["a/b", "a", "."] {
        File::open(disk.path().join(folder)).unwrap().sync_all().unwrap();
    }
    fs::create_dir(disk.path().join("c")).unwrap();
    crash(&mut disk);
    assert_eq!(content(&disk, "a/b/file").unwrap(), b"x");
    assert!(!disk.path().join("c").exists());
}

#[test]
fn a_torn_crash_keeps_a_beginning_of_what_was_written() {
    let Some((_folder, mut disk)) = disk() else { return };
    let mut random = StdRng::seed_from_u64(7);
    let (mut torn, mut lengths) = (0, std::collections::BTreeSet::new());
    for round in 0..20 {
        let name = format!("log-{round}");
        let mut file = durable(&disk, &name, b"kept");
        for part in [&b"AAAA"[..], b"BBBB", b"CCCC"] {
            file.write_all(part).unwrap();
        }
        drop(file);
        torn += disk.crash(Loss::Torn, &mut random).unwrap().torn;
        let left = content(&disk, &name).unwrap();
        assert!(b"keptAAAABBBBCCCC".starts_with(&left), "{left:?}");
        assert!(left.starts_with(b"kept"), "{left:?}");
        lengths.insert(left.len());
    }
    assert!(torn > 0 && lengths.len() > 4, "{torn} torn writes, lengths {lengths:?}");
}

#[test]
fn the_same_seed_loses_the_same_bytes() {
    let left = |seed| {
        let (_folder, mut disk) = disk()?;
        let mut file = durable(&disk, "log", b"");
        (0..50u8).for_each(|byte| file.write_all(&[byte; 10]).unwrap());
        drop(file);
        disk.crash(Loss::Torn, &mut StdRng::seed_from_u64(seed)).unwrap();
        content(&disk, "log")
    };
    assert_eq!(left(3), left(3));
}

#[test]
fn a_lying_disk_counts_syncs_and_keeps_nothing() {
    let Some((_folder, mut disk)) = disk() else { return };
    let mut file = durable(&disk, "log", b"kept");
    let honest = disk.syncs();
    disk.ignore_syncs(true);
    file.write_all(b" not").unwrap();
    file.sync_all().unwrap();
    drop(file);
    assert_eq!(disk.syncs(), honest + 1);
    crash(&mut disk);
    assert_eq!(content(&disk, "log").unwrap(), b"kept");
}

#[test]
fn an_unlinked_file_stays_readable_while_open() {
    let Some((_folder, mut disk)) = disk() else { return };
    let file = durable(&disk, "temporary", b"bytes");
    fs::remove_file(disk.path().join("temporary")).unwrap();
    sync_directory(&disk);
    let mut found = [0; 5];
    file.read_exact_at(&mut found, 0).unwrap();
    assert_eq!(&found, b"bytes");
    drop(file);
    crash(&mut disk);
    assert_eq!(content(&disk, "temporary"), None);
}

#[test]
fn sparse_files_appends_and_large_writes_read_back() {
    let Some((_folder, disk)) = disk() else { return };
    let mut file = durable(&disk, "big", b"");
    let block = vec![7u8; 3 << 20];
    file.seek(SeekFrom::Start(1 << 20)).unwrap();
    file.write_all(&block).unwrap();
    let read = content(&disk, "big").unwrap();
    assert_eq!(read.len(), 4 << 20);
    assert!(read[..1 << 20].iter().all(|byte| *byte == 0));
    assert!(read[1 << 20..] == block[..]);
}

#[test]
fn a_disk_in_use_does_not_crash() {
    let Some((_folder, mut disk)) = disk() else { return };
    let file = durable(&disk, "held", b"");
    let closes = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(100));
        drop(file);
    });
    // The crash waits for the last descriptor, as it waits for a dying process.
    crash(&mut disk);
    closes.join().unwrap();
    assert_eq!(content(&disk, "held").unwrap(), b"");
}

#[test]
fn a_sync_under_way_when_the_power_fails_keeps_nothing() {
    let Some((_folder, mut disk)) = disk() else { return };
    let mut file = durable(&disk, "log", b"kept");
    file.write_all(b" not").unwrap();
    disk.power_fails();
    let syncs = std::thread::spawn(move || file.sync_all().map_err(|error| error.kind()));
    std::thread::sleep(Duration::from_millis(50));
    assert!(!syncs.is_finished(), "the sync came back from a dead disk");
    disk.power_off();
    assert!(syncs.join().unwrap().is_err());
    crash(&mut disk);
    assert_eq!(content(&disk, "log").unwrap(), b"kept");
    drop(durable(&disk, "log", b"the power is on again"));
}
