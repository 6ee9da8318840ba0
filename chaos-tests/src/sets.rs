//! Many seeds, played side by side and summed up.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::Serialize;

use crate::world::{Ended, Fault, Sometimes, Tally};

/// A set this large that never came to one of [`Sometimes`] has failed.
const TELLING: u64 = 100;

/// What a set of runs came to.
#[derive(Debug, Default, Serialize)]
pub struct Sum {
    /// Seeds played.
    pub seeds: u64,
    /// Seeds that failed, each with the laws it broke.
    pub failed: BTreeMap<u64, Vec<String>>,
    /// Simulated hours.
    pub hours: f64,
    /// Seeds in which the second check had too many orders to follow.
    pub open: u64,
    /// From the leader's crash to the next decision, in milliseconds, of the runs that measured it.
    pub failovers_ms: Vec<u64>,
    /// Calls that clients made, and of these:
    pub operations: u64,
    /// ended unknown,
    pub unknown: u64,
    /// definitely did not happen.
    pub not_done: u64,
    /// The least calls that a seed made.
    pub operations_min: Option<u64>,
    /// What went wrong, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// What the set came to.
    pub sometimes: Tally,
    /// CPU seconds.
    pub cpu: f64,
}

impl Sum {
    fn add(&mut self, ended: &Ended, cpu: Duration) {
        self.seeds += 1;
        self.hours += ended.seconds / 3_600.0;
        self.open += u64::from(ended.open);
        let endured = ended.recovery.endured.as_ref();
        let failover = endured.and_then(|endured| endured.failover);
        self.failovers_ms.extend(failover.map(|took| took.as_millis() as u64));
        self.failovers_ms.sort_unstable();
        let operations = ended.figures.attempts as u64;
        self.operations += operations;
        self.unknown += ended.figures.unknown as u64;
        self.not_done += ended.figures.not_done as u64;
        self.operations_min =
            Some(self.operations_min.map_or(operations, |least| least.min(operations)));
        self.cpu += cpu.as_secs_f64();
        for (fault, often) in &ended.faults {
            *self.faults.entry(*fault).or_default() += often;
        }
        for (what, often) in &ended.sometimes {
            *self.sometimes.entry(*what).or_default() += often;
        }
        if !ended.broken.is_empty() {
            let laws = ended.broken.iter().map(|broken| format!("{}: {}", broken.law, broken.how));
            self.failed.insert(ended.options.seed, laws.collect());
        }
    }

    /// What must happen now and then, and did not.
    pub fn missed(&self) -> Vec<Sometimes> {
        let reached = |what: &Sometimes| self.sometimes.contains_key(what);
        Sometimes::ALL.into_iter().filter(|what| !reached(what)).collect()
    }

    /// What 99 of 100 failovers took at most, in milliseconds.
    pub fn failover_p99_ms(&self) -> Option<u64> {
        self.failovers_ms.get(self.failovers_ms.len() * 99 / 100).copied()
    }

    /// Whether every seed passed and, if there were enough, nothing was missed.
    pub fn holds(&self) -> bool {
        self.failed.is_empty() && (self.seeds < TELLING || self.missed().is_empty())
    }

    /// Simulated seconds per CPU second.
    pub fn ratio(&self) -> f64 {
        self.hours * 3_600.0 / self.cpu.max(1e-9)
    }

    /// Operations per CPU second.
    pub fn pace(&self) -> f64 {
        self.operations as f64 / self.cpu.max(1e-9)
    }
}

/// Plays `seeds` on so many threads, and says of each how it ended.
///
/// `play` says how a seed ended and what CPU time it took. `go_on` is asked
/// before each seed.
pub fn play(
    seeds: impl Iterator<Item = u64> + Send,
    jobs: usize,
    play: impl Fn(u64) -> (Ended, Duration) + Sync,
    go_on: impl Fn() -> bool + Sync,
    tell: impl Fn(&Ended, Duration) + Sync,
) -> Sum {
    let seeds = Mutex::new(seeds);
    let sum = Mutex::new(Sum::default());
    let next = || seeds.lock().unwrap_or_else(PoisonError::into_inner).next();
    std::thread::scope(|scope| {
        for _ in 0..jobs.max(1) {
            scope.spawn(|| {
                while go_on()
                    && let Some(seed) = next()
                {
                    let (ended, cpu) = play(seed);
                    sum.lock().unwrap_or_else(PoisonError::into_inner).add(&ended, cpu);
                    tell(&ended, cpu);
                }
            });
        }
    });
    sum.into_inner().unwrap_or_else(PoisonError::into_inner)
}
