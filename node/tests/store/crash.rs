//! What survives a crash, a failing disk, a full one and a rotten one.

use std::io;
use std::time::Duration;

use node::raft::{Endpoints, Entry, EntryPayload, Membership, TypeConfig, Vote, log_id};
use node::store::log::{Flush, Log};
use node::store::machine::Machine;
use node::store::mem::{Platter, Survives};
use node::store::{Operation, keys};
use openraft::storage::{
    IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt, RaftSnapshotBuilder,
    RaftStateMachine,
};
use openraft::type_config::TypeConfigExt;

use crate::bench::{entries, entry, held, log, machine};

async fn apply(machine: &mut Machine, entries: Vec<Entry>) {
    let entries = entries.into_iter().map(|entry| Ok((entry, None)));
    machine.apply(futures_util::stream::iter(entries)).await.expect("applied");
}

async fn snapshot(machine: &mut Machine) -> io::Result<()> {
    machine.get_snapshot_builder().await.build_snapshot().await.map(drop)
}

/// Acknowledges a vote and ten entries, cuts the power, and says what is missing.
async fn acknowledged_then_crashed(platter: &Platter) -> Result<(), String> {
    let mut before = log(&platter.open()).await;
    let vote = Vote::new_committed(3, 1);
    before.save_vote(&vote).await.map_err(|error| error.to_string())?;
    before.blocking_append(entries(3, 0..10)).await.map_err(|error| error.to_string())?;

    platter.crash(Survives::Nothing);

    let found = held(&mut log(&platter.open()).await).await;
    if found.vote != Some(vote) {
        return Err(format!("the vote was forgotten: {:?}", found.vote));
    }
    if found.entries != entries(3, 0..10) {
        return Err(format!("{} of 10 entries are left", found.entries.len()));
    }
    Ok(())
}

#[tokio::test]
async fn what_was_acknowledged_survives_a_power_cut() {
    assert_eq!(acknowledged_then_crashed(&Platter::new()).await, Ok(()));
}

/// The test above would not be worth much if it passed with the sync removed.
#[tokio::test]
async fn with_the_sync_removed_the_power_cut_test_fails() {
    let platter = Platter::new();
    platter.set_syncs_lie(true);
    assert!(acknowledged_then_crashed(&platter).await.is_err());
}

#[tokio::test(start_paused = true)]
async fn entries_are_readable_before_they_are_durable_and_acknowledged_only_after() {
    let platter = Platter::new();
    platter.set_sync_time(Duration::from_secs(1));
    let mut log = log(&platter.open()).await;
    let (flushed, mut acknowledged) = TypeConfig::oneshot();
    log.append(entries(1, 0..5), IOFlushed::signal(flushed)).await.expect("appended");

    assert_eq!(held(&mut log).await.entries, entries(1, 0..5));
    tokio::time::sleep(Duration::from_millis(900)).await;
    assert!(acknowledged.try_recv().is_err());
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert!(matches!(acknowledged.try_recv(), Ok(Ok(()))));
}

/// Ten proposals arrive while the disk is busy with the first: two syncs in all.
#[tokio::test(start_paused = true)]
async fn one_sync_serves_all_who_wait() {
    let platter = Platter::new();
    platter.set_sync_time(Duration::from_secs(1));
    let (count, mut flushes) = tokio::sync::mpsc::unbounded_channel();
    let observe = move |flush: Flush| count.send(flush.changes).expect("the test listens");
    let mut log = Log::open(platter.open(), observe).await.expect("opens");
    let mut waiting = Vec::new();
    for index in 0..11 {
        let (flushed, acknowledged) = TypeConfig::oneshot();
        log.append([entry(1, index)], IOFlushed::signal(flushed)).await.expect("appended");
        waiting.push(acknowledged);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for acknowledged in waiting {
        acknowledged.await.expect("an answer").expect("durable");
    }
    assert_eq!((flushes.recv().await, flushes.recv().await), (Some(1), Some(10)));
}

#[tokio::test]
async fn a_failed_sync_is_reported_and_nothing_is_acknowledged_after_it() {
    let platter = Platter::new();
    let mut log = log(&platter.open()).await;
    log.blocking_append(entries(1, 0..3)).await.expect("a healthy disk");
    platter.fail(Operation::Sync, 0);
    let refused = log.blocking_append([entry(1, 3)]).await.expect_err("the disk failed");
    assert!(refused.to_string().contains("sync memory"), "{refused}");

    // The fault is gone, and still: nobody knows what the disk holds.
    assert!(log.blocking_append([entry(1, 4)]).await.is_err());
    assert!(log.save_vote(&Vote::new(9, 1)).await.is_err());

    platter.crash(Survives::Nothing);
    assert_eq!(held(&mut crate::bench::log(&platter.open()).await).await.entries, entries(1, 0..3));
}

#[tokio::test]
async fn a_full_disk_says_what_to_do_and_loses_nothing_acknowledged() {
    let platter = Platter::new();
    let mut log = log(&platter.open()).await;
    log.blocking_append(entries(1, 0..3)).await.expect("there is room");
    platter.set_capacity(Some(200));
    let refused = log.blocking_append(entries(1, 3..100)).await.expect_err("the disk is full");
    assert!(refused.to_string().contains("free some space"), "{refused}");

    platter.crash(Survives::Nothing);
    platter.set_capacity(None);
    assert_eq!(held(&mut crate::bench::log(&platter.open()).await).await.entries, entries(1, 0..3));
}

#[tokio::test]
async fn a_rotten_entry_keeps_the_node_down_and_is_named() {
    let platter = Platter::new();
    log(&platter.open()).await.blocking_append(entries(1, 0..9)).await.expect("appended");
    platter.flip(&keys::entry(4), 77);
    let refused = Log::open(platter.open(), |_| {}).await.err().expect("refused");
    assert_eq!(refused.to_string(), "log entry 4 does not match its checksum");
}

#[tokio::test]
async fn a_rotten_vote_keeps_the_node_down_and_is_named() {
    let platter = Platter::new();
    log(&platter.open()).await.save_vote(&Vote::new(2, 1)).await.expect("saved");
    platter.flip(&keys::vote(), 20);
    let refused = Log::open(platter.open(), |_| {}).await.err().expect("refused");
    assert_eq!(refused.to_string(), "the vote does not match its checksum");
}

#[tokio::test]
async fn a_hole_in_the_log_keeps_the_node_down() {
    let platter = Platter::new();
    let disk = platter.open();
    log(&disk).await.blocking_append(entries(1, 0..9)).await.expect("appended");
    let mut writes = node::store::Writes::new();
    writes.delete(keys::entry(4));
    disk.write(writes).await.expect("written");
    let refused = Log::open(disk, |_| {}).await.err().expect("refused");
    assert_eq!(refused.to_string(), "log entry 4 is missing");
}

#[tokio::test]
async fn a_purge_cut_short_at_any_change_leaves_a_whole_log() {
    for kept in 0..=2 {
        let platter = Platter::new();
        let disk = platter.open();
        let mut before = log(&disk).await;
        before.blocking_append(entries(1, 0..20)).await.expect("appended");
        before.purge(log_id(1, 11)).await.expect("purged");
        // The purge is on its way behind the append; wait until it is written.
        while platter.unsynced() < 2 {
            tokio::task::yield_now().await;
        }
        platter.crash(Survives::Changes(kept));

        let found = held(&mut log(&platter.open()).await).await;
        let expected = if kept == 0 { entries(1, 0..20) } else { entries(1, 12..20) };
        assert_eq!(found.entries, expected, "{kept} changes kept");
    }
}

#[tokio::test]
async fn a_snapshot_brings_back_the_ledger_and_the_membership() {
    let platter = Platter::new();
    let mut before = machine(&platter.open()).await;
    let members = Membership::new_with_defaults(vec![[1, 2, 3].into()], []);
    let joined = Entry { log_id: log_id(1, 0), payload: EntryPayload::Membership(members.clone()) };
    apply(&mut before, vec![joined]).await;
    apply(&mut before, entries(1, 1..40)).await;
    snapshot(&mut before).await.expect("saved");
    let hash = before.view().read(|applied| applied.ledger.hash());

    platter.crash(Survives::Nothing);

    let after = machine(&platter.open()).await;
    after.view().read(|applied| {
        assert_eq!(applied.last, Some(log_id(1, 39)));
        assert_eq!(applied.ledger.hash(), hash);
        assert_eq!(applied.membership.membership(), &members);
        assert_eq!(applied.membership.membership().get_node(&1), Some(&Endpoints::default()));
    });
}

/// Whatever a crash leaves of a snapshot half written, the one before it stands.
#[tokio::test]
async fn a_snapshot_cut_short_at_any_change_is_absent_and_the_last_one_stands() {
    let mut kept = 0;
    loop {
        let platter = Platter::new();
        let mut before = machine(&platter.open()).await;
        apply(&mut before, entries(1, 0..10)).await;
        snapshot(&mut before).await.expect("saved");
        apply(&mut before, entries(1, 10..20)).await;
        // The second snapshot's header is written and never synced.
        platter.fail(Operation::Sync, 1);
        assert!(snapshot(&mut before).await.is_err());
        let changes = platter.unsynced();
        platter.crash(Survives::Changes(kept));

        let last = machine(&platter.open()).await.view().read(|applied| applied.last);
        assert_eq!(last, Some(log_id(1, if kept == 0 { 9 } else { 19 })), "{kept} changes kept");
        kept += 1;
        if kept > changes {
            break;
        }
    }
}

#[tokio::test]
async fn the_last_two_snapshots_are_kept_and_no_more() {
    let platter = Platter::new();
    let mut machine = machine(&platter.open()).await;
    for round in 0..5 {
        apply(&mut machine, entries(1, round * 10..round * 10 + 10)).await;
        snapshot(&mut machine).await.expect("saved");
    }
    let headers = keys::snapshots();
    let kept: Vec<_> =
        platter.durable_keys().iter().filter_map(|key| keys::snapshot_id(key)).collect();
    assert_eq!(kept, [4, 5]);
    let chunks: Vec<_> =
        platter.durable_keys().into_iter().filter(|key| *key > headers.end).collect();
    assert_eq!(chunks, [keys::chunk(4, 0), keys::chunk(5, 0)]);
}

#[tokio::test]
async fn a_rotten_snapshot_keeps_the_node_down_and_is_named() {
    let platter = Platter::new();
    let mut before = machine(&platter.open()).await;
    apply(&mut before, entries(1, 0..10)).await;
    snapshot(&mut before).await.expect("saved");
    platter.flip(&keys::chunk(1, 0), 99);
    let refused = Machine::open(platter.open()).await.err().expect("refused");
    assert_eq!(refused.to_string(), "chunk 0 of snapshot 1 does not match its checksum");
}

#[tokio::test]
async fn a_snapshot_damaged_on_its_way_is_not_installed() {
    let mut sender = machine(&Platter::new().open()).await;
    apply(&mut sender, entries(1, 0..10)).await;
    snapshot(&mut sender).await.expect("saved");
    let mut sent = sender.get_current_snapshot().await.expect("readable").expect("present");
    let mut bytes = sent.snapshot.0.to_vec();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 4;
    sent.snapshot.0 = bytes.into();

    let mut receiver = machine(&Platter::new().open()).await;
    let refused = receiver.install_snapshot(&sent.meta, sent.snapshot).await.expect_err("refused");
    assert!(refused.to_string().contains("damaged"), "{refused}");
    assert_eq!(receiver.view().read(|applied| applied.last), None);
}

#[tokio::test]
async fn an_old_process_cannot_write_after_the_disk_was_opened_anew() {
    let platter = Platter::new();
    let mut old = log(&platter.open()).await;
    let mut new = log(&platter.open()).await;
    assert!(old.blocking_append([entry(1, 0)]).await.is_err());
    new.blocking_append([entry(1, 0)]).await.expect("appended");
}

#[tokio::test]
async fn a_lagging_follower_reads_what_has_left_memory() {
    let platter = Platter::new();
    let mut log = log(&platter.open()).await;
    // More than the window keeps.
    for from in (0..20_000).step_by(500) {
        log.blocking_append(entries(1, from..from + 500)).await.expect("appended");
    }
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(5..20_000).await.expect("read"), entries(1, 5..20_000));
    let some = reader.limited_get_log_entries(100, 20_000).await.expect("read");
    assert!(!some.is_empty() && some.len() < 19_900);
    assert_eq!(some, entries(1, 100..100 + some.len() as u64));
}

/// Raft would send what is left as if it followed what the follower has, which
/// would then find a hole in its log and stop (seed 6 of the simulator).
#[tokio::test]
async fn a_range_whose_beginning_was_purged_is_not_read_from_its_middle() {
    let platter = Platter::new();
    let mut log = log(&platter.open()).await;
    log.blocking_append(entries(1, 0..20)).await.expect("appended");
    log.purge(log_id(1, 9)).await.expect("purged");
    let mut reader = log.get_log_reader().await;
    assert_eq!(reader.limited_get_log_entries(5, 15).await.expect("read"), []);
    assert_eq!(reader.limited_get_log_entries(10, 15).await.expect("read"), entries(1, 10..15));
}
