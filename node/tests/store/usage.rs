//! The history on disk: whole after a crash, fetched where a snapshot skipped
//! it, refused when it is not the cluster's.

use std::sync::Arc;

use ledger::command::{Acquire, Batch, Command, Genesis, LeaseId, LogId, Member, SetRetention};
use ledger::name::{HolderName, Subject};
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::usage::audit::{Auditor, Ends, Survey};
use ledger::usage::{Page, Retention, hash};
use license::container::Container;
use license::product::{ActId, ClusterId, NodeId, ProductName, WallTime};
use node::raft::{Entry, EntryPayload, log_id};
use node::store::history::Missing;
use node::store::machine::Machine;
use node::store::mem::{Platter, Survives};
use node::store::{Disk, Writes, keys};
use openraft::storage::{RaftSnapshotBuilder, RaftStateMachine};
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::bench::machine;

fn entry(index: u64, commands: Vec<Command>) -> Entry {
    entry_at(index, index * 1_000, commands)
}

fn entry_at(index: u64, time: u64, commands: Vec<Command>) -> Entry {
    let stamp = Stamp { time: ClusterTime(time), term: 1, withheld: false };
    let batch = Batch { stamp, commands };
    Entry { log_id: log_id(1, index), payload: EntryPayload::Normal(batch.into()) }
}

/// Forms the cluster.
fn genesis() -> Entry {
    let member = |node: u64| Member {
        node: NodeId(node),
        container: Container::create(ActId(7), &mut StdRng::seed_from_u64(node)).identity(),
    };
    let genesis = Genesis {
        cluster: ClusterId([7; 16]),
        ca: b"a certificate".to_vec(),
        vendor_roots: Vec::new(),
        members: (1..=3).map(member).collect(),
        formed: WallTime(0),
        level: ledger::level::Level::LOWEST,
    };
    entry(1, vec![Command::Genesis(genesis)])
}

/// Entry `index`, which denies somebody something: one page.
fn denial(index: u64) -> Entry {
    denial_at(index, index * 1_000)
}

fn denial_at(index: u64, time: u64) -> Entry {
    let acquire = Acquire {
        lease: LeaseId(index.into()),
        subject: Subject::parse(&format!("line-{index}")).expect("a name"),
        product: ProductName::parse("cad").expect("a name"),
        holder: HolderName::parse("").expect("a name"),
        version: None,
        ttl: Ttl::from_millis(10_000).expect("a TTL"),
        not_after: ClusterTime(time + 50_000),
        wait_until: None,
    };
    entry_at(index, time, vec![Command::Acquire(acquire)])
}

async fn apply(machine: &mut Machine, entries: impl IntoIterator<Item = Entry>) {
    let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
    machine.apply(futures_util::stream::iter(entries)).await.expect("applied");
}

async fn snapshot(machine: &mut Machine) -> node::raft::Snapshot {
    machine.get_snapshot_builder().await.build_snapshot().await.expect("saved")
}

/// All pages, checked against the ledger.
async fn pages(machine: &Machine) -> Vec<Vec<u8>> {
    let view = machine.view();
    let reach = view.look(|ledger| ledger.history());
    let pages = view.history().read(reach.kept..reach.pages, usize::MAX).await.expect("whole");
    let mut head = reach.kept_previous;
    for bytes in &pages {
        assert_eq!(Page::decode(bytes).expect("a page").previous, head);
        head = hash(bytes);
    }
    assert_eq!(head, reach.head);
    assert_eq!(pages.len() as u64, reach.pages - reach.kept);
    pages
}

#[tokio::test]
async fn a_page_can_be_read_as_soon_as_its_entry_is_applied() {
    let mut machine = machine(&Platter::new().open()).await;
    apply(&mut machine, [genesis()]).await;
    for index in 2..30 {
        apply(&mut machine, [denial(index)]).await;
        assert_eq!(pages(&machine).await.len() as u64, index);
    }
    let some = machine.view().history().read(3..20, 1).await.expect("readable");
    assert_eq!(some.len(), 1, "a limit of bytes gives one page at least");
}

/// Whatever a crash leaves behind the snapshot, the replay makes it whole
/// again, and the same.
#[tokio::test]
async fn a_crash_anywhere_and_a_replay_make_the_same_history() {
    let mut whole = machine(&Platter::new().open()).await;
    apply(&mut whole, std::iter::once(genesis()).chain((2..20).map(denial))).await;
    let whole = pages(&whole).await;
    for kept in 0..12 {
        let platter = Platter::new();
        let mut before = machine(&platter.open()).await;
        apply(&mut before, std::iter::once(genesis()).chain((2..10).map(denial))).await;
        snapshot(&mut before).await;
        apply(&mut before, (10..20).map(denial)).await;
        assert_eq!(pages(&before).await, whole);
        platter.crash(Survives::Changes(kept));

        let mut after = machine(&platter.open()).await;
        assert_eq!(pages(&after).await, whole[..9], "what the snapshot covers is there");
        apply(&mut after, (10..20).map(denial)).await;
        assert_eq!(pages(&after).await, whole, "{kept} changes kept");
    }
}

/// A node far behind installs a snapshot, is restarted half way through the
/// history it has not, and ends with the same.
#[tokio::test]
async fn what_a_snapshot_skipped_is_filled_in_across_a_restart() {
    let mut ahead = machine(&Platter::new().open()).await;
    apply(&mut ahead, std::iter::once(genesis()).chain((2..40).map(denial))).await;
    let sent = snapshot(&mut ahead).await;
    let whole = pages(&ahead).await;

    let platter = Platter::new();
    let mut behind = machine(&platter.open()).await;
    apply(&mut behind, std::iter::once(genesis()).chain((2..6).map(denial))).await;
    behind.install_snapshot(&sent.meta, sent.snapshot).await.expect("installed");
    let head = hash(&whole[38]);
    let missing = Some(Missing { from: 5, until: 39, head });
    assert_eq!(behind.view().history().missing(), missing);
    assert!(behind.view().history().read(5..39, usize::MAX).await.is_err());
    // New entries go on meanwhile.
    apply(&mut behind, [denial(40)]).await;
    let filled = behind.view().history().fill(&whole[20..39]).await;
    filled.expect("they are the last of what is missing");
    assert_eq!(behind.view().history().missing().map(|missing| missing.until), Some(20));

    platter.crash(Survives::Everything);
    let mut behind = machine(&platter.open()).await;
    apply(&mut behind, [denial(40)]).await;
    assert_eq!(behind.view().history().missing().map(|missing| missing.until), Some(20));
    behind.view().history().fill(&whole[..20]).await.expect("the rest");
    assert_eq!(behind.view().history().missing(), None);
    apply(&mut ahead, [denial(40)]).await;
    assert_eq!(pages(&behind).await, pages(&ahead).await);

    platter.crash(Survives::Everything);
    assert_eq!(machine(&platter.open()).await.view().history().missing(), None);
}

/// A peer that gives what is not the cluster's history is not believed.
#[tokio::test]
async fn pages_that_are_not_the_clusters_are_not_taken() {
    let mut ahead = machine(&Platter::new().open()).await;
    apply(&mut ahead, std::iter::once(genesis()).chain((2..20).map(denial))).await;
    let sent = snapshot(&mut ahead).await;
    let whole = pages(&ahead).await;
    let mut behind = machine(&Platter::new().open()).await;
    behind.install_snapshot(&sent.meta, sent.snapshot).await.expect("installed");
    let history = behind.view().history().clone();

    let mut altered = whole.clone();
    altered[10][40] ^= 1;
    let refused = history.fill(&altered).await.expect_err("page 10 is not the one");
    assert!(refused.to_string().contains("page 10"), "{refused}");
    assert_eq!(history.missing().map(|missing| missing.until), Some(11), "the others were taken");
    assert!(history.fill(&whole[..9]).await.is_err(), "page 10 is the next");
    history.fill(&whole[..11]).await.expect("the true ones");
    assert_eq!(pages(&behind).await, whole);
}

/// What was there before the gap is checked too, when the gap is closed.
#[tokio::test]
async fn what_does_not_meet_the_fetched_history_is_fetched_anew() {
    let mut ahead = machine(&Platter::new().open()).await;
    apply(&mut ahead, std::iter::once(genesis()).chain((2..20).map(denial))).await;
    let sent = snapshot(&mut ahead).await;
    let whole = pages(&ahead).await;
    let disk: Arc<dyn Disk> = Platter::new().open();
    let mut behind = machine(&disk).await;
    apply(&mut behind, std::iter::once(genesis()).chain((2..6).map(denial))).await;
    behind.install_snapshot(&sent.meta, sent.snapshot).await.expect("installed");
    let history = behind.view().history().clone();
    let mut writes = Writes::new();
    writes.delete(keys::page(4));
    disk.write(writes).await.expect("written");
    history.fill(&whole[5..]).await.expect("taken");
    assert_eq!(history.missing().map(|missing| (missing.from, missing.until)), Some((0, 5)));
    history.fill(&whole[..5]).await.expect("taken");
    assert_eq!(pages(&behind).await, whole);
}

const DAY: u64 = 24 * 60 * 60 * 1_000;

/// The numbers of the pages that a disk holds.
fn kept_on(platter: &Platter) -> Vec<u64> {
    let all = keys::pages(0..u64::MAX);
    let keys = platter.durable_keys().into_iter().filter(|key| all.contains(key));
    keys.map(|key| u64::from_be_bytes(key[1..].try_into().expect("a page's key"))).collect()
}

/// A month of records of which a week is kept, on a node that was there, on one
/// that crashed, and on one that was given a snapshot: the same pages are gone
/// from all three disks, and what is left is audited from where it begins.
#[tokio::test]
async fn what_is_no_longer_kept_is_gone_from_every_disk_alike() {
    let retention = Retention::new(7, 64).expect("within bounds");
    let by = Subject::parse("ops").expect("a name");
    let retain = Command::SetRetention(SetRetention { retention, by });
    // Every seven hours somebody is denied something.
    let mut month = vec![genesis(), entry(2, vec![retain])];
    month.extend((3..110).map(|index| denial_at(index, index * 7 * DAY / 24)));
    let platters = [Platter::new(), Platter::new(), Platter::new()];
    let [there, crashed, away] = &platters;

    let mut first = machine(&there.open()).await;
    apply(&mut first, month[..60].to_vec()).await;
    let sent = snapshot(&mut first).await;
    apply(&mut first, month[60..].to_vec()).await;

    let mut second = machine(&crashed.open()).await;
    apply(&mut second, month[..40].to_vec()).await;
    snapshot(&mut second).await;
    apply(&mut second, month[40..80].to_vec()).await;
    crashed.crash(Survives::Changes(3));
    let mut second = machine(&crashed.open()).await;
    apply(&mut second, month[40..].to_vec()).await;

    let mut third = machine(&away.open()).await;
    apply(&mut third, month[..10].to_vec()).await;
    third.install_snapshot(&sent.meta, sent.snapshot).await.expect("installed");
    apply(&mut third, month[60..].to_vec()).await;
    let wanted = third.view().history().missing();
    assert_eq!(wanted, None, "what it missed is no longer kept");

    let left = pages(&first).await;
    let reach = first.view().look(|ledger| ledger.history());
    assert!(reach.kept > 50 && left.len() < 40, "{reach:?}");
    for (machine, platter) in [(&mut first, there), (&mut second, crashed), (&mut third, away)] {
        assert_eq!(pages(machine).await, left);
        snapshot(machine).await;
        assert_eq!(kept_on(platter), (reach.kept..reach.pages).collect::<Vec<_>>());
    }

    let log_id = LogId { epoch: 0, index: 109, position: 0 };
    let ends = Ends {
        cluster: ClusterId([7; 16]),
        log_id,
        time: ClusterTime(109 * 7 * DAY / 24),
        first: reach.kept,
        previous: reach.kept_previous,
        pages: reach.pages,
        head: reach.head,
        live: Default::default(),
    };
    let mut survey = Survey::default();
    left.iter().for_each(|page| survey.read(&Page::decode(page).expect("a page")));
    let mut auditor = Auditor::new(ends, survey.opening(&Default::default()));
    left.iter().try_for_each(|page| auditor.read(page)).expect("the rest holds");
    let report = auditor.finish().expect("to the end");
    assert_eq!(report.pages, reach.pages - reach.kept);
}
