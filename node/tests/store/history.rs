//! Random histories with crashes, against a naive model of a log.
//!
//! After a crash the log must be as it was after some change since the last
//! one that was acknowledged: nothing acknowledged is lost, nothing appears
//! that was never asked for, nothing comes back out of order.

use std::time::Duration;

use node::raft::{LogId, Vote, log_id};
use node::store::log::Log;
use node::store::mem::{Platter, Survives};
use openraft::storage::{IOFlushed, RaftLogStorage, RaftLogStorageExt};
use proptest::prelude::*;

use crate::bench::{Held, entry, held, log};

#[derive(Debug, Clone)]
enum Step {
    /// Appends and waits for the acknowledgement.
    Append(u64),
    /// Appends and does not wait.
    AppendInFlight(u64),
    /// Raises the vote and waits.
    Vote,
    /// Cuts off so many entries from the end, as a follower does on conflict.
    Truncate(u64),
    /// Purges so many from the front.
    Purge(u64),
    /// Cuts the power; of what was not synced so many changes survive.
    Crash(usize),
    /// The process dies, the machine lives.
    Kill,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        3 => (1..6_u64).prop_map(Step::Append),
        3 => (1..6_u64).prop_map(Step::AppendInFlight),
        1 => Just(Step::Vote),
        2 => (0..4_u64).prop_map(Step::Truncate),
        2 => (0..6_u64).prop_map(Step::Purge),
        2 => (0..9_usize).prop_map(Step::Crash),
        1 => Just(Step::Kill),
    ];
    prop::collection::vec(step, 1..40)
}

struct World {
    platter: Platter,
    log: Log,
    term: u64,
    /// What a reader sees now.
    now: Held,
    /// What a crash may leave: states since the last acknowledged change.
    possible: Vec<Held>,
}

impl World {
    async fn new() -> Self {
        let platter = Platter::new();
        platter.set_sync_time(Duration::from_millis(10));
        let log = log(&platter.open()).await;
        Self { platter, log, term: 1, now: Held::default(), possible: vec![Held::default()] }
    }

    fn next(&self) -> u64 {
        self.last().map_or(0, |last| last.index + 1)
    }

    fn last(&self) -> Option<LogId> {
        self.now.entries.last().map(|entry| entry.log_id).or(self.now.purged)
    }

    fn append(&mut self, count: u64) -> Vec<node::raft::Entry> {
        let appended: Vec<_> =
            (self.next()..self.next() + count).map(|index| entry(self.term, index)).collect();
        for entry in &appended {
            self.now.entries.push(entry.clone());
            self.possible.push(self.now.clone());
        }
        appended
    }

    fn acknowledged(&mut self) {
        self.possible = vec![self.now.clone()];
    }

    async fn reopen(&mut self) {
        self.log = log(&self.platter.open()).await;
        let found = held(&mut self.log).await;
        assert!(
            self.possible.contains(&found),
            "found {found:#?}\nwhich is none of {:#?}",
            self.possible
        );
        self.now = found;
        // What has been read after a crash is on the platter already.
        self.possible = vec![self.now.clone()];
    }

    async fn take(&mut self, step: Step) {
        match step {
            Step::Append(count) => {
                let appended = self.append(count);
                self.log.blocking_append(appended).await.expect("appended");
                self.acknowledged();
            }
            Step::AppendInFlight(count) => {
                let appended = self.append(count);
                self.log.append(appended, IOFlushed::noop()).await.expect("appended");
            }
            Step::Vote => {
                self.term += 1;
                let vote = Vote::new_committed(self.term, 1);
                self.log.save_vote(&vote).await.expect("saved");
                self.now.vote = Some(vote);
                self.acknowledged();
            }
            Step::Truncate(count) => {
                let count = count.min(self.now.entries.len() as u64);
                let kept = self.now.entries.len() - count as usize;
                self.now.entries.truncate(kept);
                self.possible.push(self.now.clone());
                self.log.truncate_after(self.last()).await.expect("truncated");
                self.term += 1;
            }
            Step::Purge(count) => {
                let count = (count as usize).min(self.now.entries.len());
                let Some(last) = self.now.entries.drain(..count).next_back() else { return };
                self.now.purged = Some(log_id(last.log_id.leader_id.term, last.log_id.index));
                self.possible.push(self.now.clone());
                self.log.purge(last.log_id).await.expect("purged");
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
        }
        assert_eq!(held(&mut self.log).await, self.now);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_crash_loses_what_was_acknowledged_or_invents_what_was_not(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            let mut world = World::new().await;
            for step in steps {
                world.take(step).await;
            }
        });
    }
}
