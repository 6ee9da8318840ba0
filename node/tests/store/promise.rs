//! S21 on the disk: no crash makes a node look as if it had lost data, and no
//! older copy of its data passes for the newest.
//!
//! Random histories of one node as Raft drives it, and a peer that remembers
//! what it saw acknowledged. The judge beside them does not know the order of
//! promises: it looks whether each thing acknowledged is still there.

use std::time::Duration;

use node::raft::{Entry, LogId, Vote, log_id};
use node::store::log::Log;
use node::store::mem::{Platter, Survives};
use node::store::memory::{Memory, NODES_MAX};
use node::store::promise::Promise;
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use proptest::prelude::*;

use crate::bench::{entries, entry, held, log};

/// The node as its peer knows it.
const NODE: u64 = 1;

#[derive(Debug, Clone)]
enum Step {
    /// Appends entries of the term and acknowledges them.
    Append(u64),
    /// Appends and is not asked.
    AppendInFlight(u64),
    /// Votes in the next term.
    Vote,
    /// A leader of the next term cuts off so many entries, puts in as many as
    /// this of the term before, and hears that they are there.
    NewLeader { cut: u64, older: u64 },
    /// Purges so many entries from the front, as after a snapshot.
    Purge(u64),
    /// Cuts the power; of what was not synced so many changes survive.
    Crash(usize),
    /// The process dies, the machine lives.
    Kill,
    /// The operator copies the data directory.
    Copy,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => (1..5_u64).prop_map(Step::Append),
        3 => (1..5_u64).prop_map(Step::AppendInFlight),
        2 => Just(Step::Vote),
        3 => (0..5_u64, 0..3_u64).prop_map(|(cut, older)| Step::NewLeader { cut, older }),
        1 => (0..6_u64).prop_map(Step::Purge),
        2 => (0..9_usize).prop_map(Step::Crash),
        1 => Just(Step::Kill),
        1 => Just(Step::Copy),
    ];
    prop::collection::vec(step, 1..40)
}

/// One thing that was acknowledged.
enum Given {
    Vote(u64),
    /// An entry, to the leader of its own term.
    Entry(LogId),
}

struct Node {
    platter: Platter,
    log: Log,
    vote: u64,
    entries: Vec<LogId>,
    purged: Option<LogId>,
    /// What a peer remembers.
    memory: Memory,
    /// What was acknowledged since the copy was made.
    given: Vec<Given>,
    copy: Platter,
}

impl Node {
    async fn new() -> Self {
        let platter = Platter::new();
        platter.set_sync_time(Duration::from_millis(10));
        let copy = platter.copy();
        let log = log(&platter.open()).await;
        let memory = Memory::default();
        let (entries, given) = (Vec::new(), Vec::new());
        Self { platter, log, vote: 0, entries, purged: None, memory, given, copy }
    }

    fn last(&self) -> Option<LogId> {
        self.entries.last().copied().or(self.purged)
    }

    fn append(&mut self, term: u64, count: u64) -> Vec<Entry> {
        let next = self.last().map_or(0, |last| last.index + 1);
        let appended = entries(term, next..next + count);
        self.entries.extend(appended.iter().map(|entry| entry.log_id));
        appended
    }

    /// The leader of the term hears that the log is as far as `last`.
    fn acknowledge(&mut self) {
        let promise = Promise::new(self.vote, self.last());
        self.memory.note(NODE, promise);
        self.given.push(Given::Vote(self.vote));
        if promise.held.is_some() {
            self.given.extend(self.last().map(Given::Entry));
        }
        assert!(self.log.promise() >= promise, "acknowledged and not promised");
    }

    async fn save_vote(&mut self, vote: Vote) {
        self.log.save_vote(&vote).await.expect("saved");
        self.vote += 1;
    }

    async fn reopen(&mut self) {
        self.log = log(&self.platter.open()).await;
        let found = held(&mut self.log).await;
        self.vote = found.vote.map_or(0, |vote| vote.leader_id().term);
        self.entries = found.entries.iter().map(|entry| entry.log_id).collect();
        self.purged = found.purged;
        let (found, remembered) = (self.log.promise(), self.memory.of(NODE));
        assert!(found >= remembered, "a false alarm: {found} of {remembered}");
    }

    async fn take(&mut self, step: Step) {
        match step {
            // Nobody appends before the first vote.
            Step::Append(_) | Step::AppendInFlight(_) if self.vote == 0 => {}
            Step::Append(count) => {
                let appended = self.append(self.vote, count);
                self.log.blocking_append(appended).await.expect("appended");
                self.acknowledge();
            }
            Step::AppendInFlight(count) => {
                let appended = self.append(self.vote, count);
                self.log.append(appended, IOFlushed::noop()).await.expect("appended");
            }
            Step::Vote => {
                self.save_vote(Vote::new(self.vote + 1, 2)).await;
                self.memory.note(NODE, Promise::new(self.vote, None));
                self.given.push(Given::Vote(self.vote));
            }
            Step::NewLeader { cut, older } => {
                let before = self.last().map_or(0, |last| last.leader_id.term).max(self.vote);
                self.save_vote(Vote::new_committed(self.vote + 1, 2)).await;
                let kept = self.entries.len().saturating_sub(cut as usize);
                if kept < self.entries.len() {
                    self.entries.truncate(kept);
                    self.log.truncate_after(self.last()).await.expect("truncated");
                }
                if before > 0 && older > 0 {
                    let appended = self.append(before, older);
                    self.log.blocking_append(appended).await.expect("appended");
                    self.acknowledge();
                }
            }
            Step::Purge(count) => {
                let count = (count as usize).min(self.entries.len());
                let Some(last) = self.entries.drain(..count).next_back() else { return };
                self.purged = Some(last);
                self.log.purge(last).await.expect("purged");
            }
            Step::Crash(survive) => {
                // Some of what is under way reaches the disk before the power goes.
                tokio::time::sleep(Duration::from_millis(survive as u64)).await;
                self.platter.crash(Survives::Changes(survive));
                self.reopen().await;
            }
            Step::Kill => {
                self.platter.crash(Survives::Everything);
                self.reopen().await;
            }
            Step::Copy => {
                self.copy = self.platter.copy();
                self.given.clear();
            }
        }
    }

    /// The copy takes the place of the data: whether that looks like a loss,
    /// and whether it is one.
    async fn restored(mut self) -> (bool, bool) {
        self.platter.restore(&self.copy);
        let mut log = log(&self.platter.open()).await;
        let looks_lost = log.promise() < self.memory.of(NODE);
        let found = held(&mut log).await;
        let vote = found.vote.map_or(0, |vote| vote.leader_id().term);
        let has = |id: &LogId| {
            found.entries.iter().any(|entry| entry.log_id == *id)
                || found.purged.is_some_and(|purged| id.index <= purged.index)
        };
        let is_lost = self.given.drain(..).any(|given| match given {
            Given::Vote(term) => vote < term,
            Given::Entry(id) => !has(&id),
        });
        (looks_lost, is_lost)
    }
}

fn play<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(story)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn a_crash_raises_no_alarm_and_an_older_copy_always_does(steps in steps()) {
        let (looks_lost, is_lost) = play(async {
            let mut node = Node::new().await;
            for step in steps {
                node.take(step).await;
            }
            node.restored().await
        });
        prop_assert_eq!(looks_lost, is_lost);
    }
}

/// A peer's notes cost no write and no sync: they go to the disk behind what
/// the log writes next, and are there again after a crash.
#[tokio::test]
async fn what_is_remembered_rides_on_the_next_sync() {
    let platter = Platter::new();
    let promise = Promise { term: 4, held: Some(17) };
    let mut before = log(&platter.open()).await;
    before.memory().note(2, promise);
    before.memory().note(2, Promise { term: 3, held: Some(99) });
    tokio::task::yield_now().await;
    assert_eq!(platter.unsynced(), 0, "a note alone is not written");
    assert!(platter.durable_keys().is_empty());

    before.blocking_append([entry(4, 0)]).await.expect("appended");
    platter.crash(Survives::Nothing);
    let after = log(&platter.open()).await;
    assert_eq!(after.memory().of(2), promise);
    assert_eq!(after.memory().all(), [(2, promise)]);
}

/// In a cluster that writes nothing, a note waits a second and no longer.
#[tokio::test(start_paused = true)]
async fn what_nothing_else_carries_is_written_after_a_second() {
    let platter = Platter::new();
    let promise = Promise { term: 4, held: Some(17) };
    let before = log(&platter.open()).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    assert_eq!(platter.durable_keys(), Vec::<Vec<u8>>::new(), "nothing to write");
    before.memory().note(2, promise);
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    platter.crash(Survives::Nothing);
    assert_eq!(log(&platter.open()).await.memory().of(2), promise);
}

/// Purging what a snapshot covers forgets no note, and promises nothing less.
#[tokio::test]
async fn a_purge_keeps_the_promise_and_the_memory() {
    let platter = Platter::new();
    let mut before = log(&platter.open()).await;
    before.save_vote(&Vote::new_committed(2, 1)).await.expect("saved");
    before.memory().note(3, Promise { term: 2, held: Some(5) });
    before.blocking_append(entries(2, 0..9)).await.expect("appended");
    before.purge(log_id(2, 8)).await.expect("purged");
    let promise = Promise { term: 2, held: Some(8) };
    assert_eq!(before.promise(), promise);
    before.save_vote(&Vote::new_committed(2, 1)).await.expect("saved");
    platter.crash(Survives::Nothing);
    let after = log(&platter.open()).await;
    assert_eq!((after.promise(), after.memory().of(3).held), (promise, Some(5)));
}

/// What is noted of a node that is gone neither fills the memory nor comes back.
#[tokio::test]
async fn a_node_that_is_gone_is_forgotten_for_good() {
    let platter = Platter::new();
    let mut before = log(&platter.open()).await;
    let promise = Promise { term: 1, held: None };
    (2..=NODES_MAX as u64 + 1).for_each(|node| before.memory().note(node, promise));
    before.save_vote(&Vote::new_committed(2, 1)).await.expect("saved");
    (4..=NODES_MAX as u64 + 1).for_each(|node| before.memory().forget(node));
    let newcomer = NODES_MAX as u64 + 2;
    before.memory().note(newcomer, promise);
    before.save_vote(&Vote::new_committed(3, 1)).await.expect("saved");
    platter.crash(Survives::Nothing);
    let after = log(&platter.open()).await.memory().all();
    assert_eq!(after, [2, 3, newcomer].map(|node| (node, promise)));
}

#[test]
fn a_stated_number_of_nodes_is_remembered() {
    let memory = Memory::default();
    let promise = Promise { term: 1, held: None };
    (0..=NODES_MAX as u64).for_each(|node| memory.note(node, promise));
    assert_eq!(memory.all().len(), NODES_MAX);
    // Those who are known are still followed.
    memory.note(0, Promise { term: 2, held: None });
    assert_eq!(memory.of(0).term, 2);
}
