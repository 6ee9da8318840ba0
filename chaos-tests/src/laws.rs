//! The laws, one file each, with the sentence that each checks.
//!
//! A law looks after every step of the world at what the nodes are (a
//! [`Sight`]), and at the end at what the run was (an [`End`]). What the
//! clients were told is judged in log order by the [oracle](crate::oracle);
//! the laws that it checks say so.

mod l01_healing;
mod l04_quorum_back;
mod l05_dead_clients;
mod l06_head_of_queue;
mod l07_fill;
mod s01_capacity;
mod s02_conservation;
mod s03_exactly_once;
mod s04_no_phantom_no_loss;
mod s05_token;
mod s06_release;
mod s07_renew;
mod s08_never_early;
mod s09_never_forgotten;
mod s10_waiters;
mod s11_quorum_and_shares;
mod s14_time_rises;
pub(crate) mod s15_time_is_not_ahead;
mod s17_raft;
mod s18_same_hash;
mod s19_snapshot;
mod s20_durability;
mod s21_amnesia;
mod s24_reads;
mod s26_bounds;

use std::time::Duration;

use node::raft::LogId;
use node::store::mem::Platter;
use node::window::{Standing, Window};

use crate::history::Event;
use crate::oracle::Verdict;

/// What a law says of what it sees.
pub type Held = Result<(), String>;

/// One law.
pub trait Law {
    /// As LAWS.md names it.
    fn name(&self) -> &'static str;

    /// What it demands, as far as it is checked here.
    fn sentence(&self) -> &'static str;

    /// Looks at the world after a step.
    ///
    /// # Errors
    /// How it was broken.
    fn step(&mut self, sight: &Sight<'_>) -> Held {
        let _ = sight;
        Ok(())
    }

    /// Looks at the whole run.
    ///
    /// # Errors
    /// How it was broken.
    fn end(&mut self, end: &End<'_>) -> Held {
        end.told(self.name())
    }
}

/// The world after one step.
pub struct Sight<'a> {
    /// True time.
    pub at: Duration,
    /// The nodes that run.
    pub nodes: &'a [NodeSight<'a>],
    /// The disks of all three, running or not.
    pub disks: [&'a Platter; 3],
    /// What clients did and heard in this step.
    pub events: &'a [Event],
    /// Tokens of the seats that applications use at this moment.
    pub in_use: &'a [u64],
    /// Seats sold.
    pub seats: u32,
    /// How often a node's boot clock jumped so far.
    pub jumps: u64,
}

/// One node that runs.
pub struct NodeSight<'a> {
    /// Which.
    pub node: u64,
    /// Which of its starts this is.
    pub start: u64,
    /// Where Raft stands.
    pub standing: Standing,
    /// The last entry that its ledger has seen.
    pub applied: Option<LogId>,
    /// Whether that is another than one step ago.
    pub moved: bool,
    /// The way to see more.
    pub window: &'a Window,
}

/// The whole run.
pub struct End<'a> {
    /// What the log-order check found.
    pub verdict: &'a Verdict,
    /// How the cluster came out of it.
    pub recovery: &'a Recovery,
    /// Seats sold.
    pub seats: u32,
}

impl End<'_> {
    /// What the oracle found of this law.
    ///
    /// # Errors
    /// It was broken.
    pub fn told(&self, law: &str) -> Held {
        match self.verdict.violations.iter().find(|violation| violation.law == law) {
            Some(violation) => Err(format!("at {}: {}", violation.at, violation.what)),
            None => Ok(()),
        }
    }
}

/// What was measured when everything was healed.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Recovery {
    /// From healing until there was one leader and three equal ledgers.
    pub same_after: Option<Duration>,
    /// From healing until a read was answered.
    pub read_after: Option<Duration>,
    /// Seats still listed when every lease had had its time.
    pub left_over: Vec<u64>,
    /// Seats that came out of the empty pool, and what the next one was told.
    pub filled: Option<(u32, String)>,
    /// What clients were still waiting for at the end.
    pub unsettled: u64,
}

/// A law that was broken.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Broken {
    /// Which.
    pub law: &'static str,
    /// How.
    pub how: String,
}

/// All of them, for one run.
pub struct Laws(Vec<Box<dyn Law>>);

impl Default for Laws {
    fn default() -> Self {
        Self(vec![
            Box::<s01_capacity::Capacity>::default(),
            Box::<s02_conservation::Conservation>::default(),
            Box::new(s03_exactly_once::ExactlyOnce),
            Box::new(s04_no_phantom_no_loss::NoPhantomNoLoss),
            Box::new(s05_token::Token),
            Box::new(s06_release::Release),
            Box::new(s07_renew::Renew),
            Box::<s08_never_early::NeverEarly>::default(),
            Box::new(s09_never_forgotten::NeverForgotten),
            Box::new(s10_waiters::Waiters),
            Box::<s11_quorum_and_shares::QuorumAndShares>::default(),
            Box::<s14_time_rises::TimeRises>::default(),
            Box::new(s15_time_is_not_ahead::TimeIsNotAhead),
            Box::<s17_raft::RaftsOwn>::default(),
            Box::<s18_same_hash::SameHash>::default(),
            Box::<s19_snapshot::Snapshots>::default(),
            Box::<s20_durability::Durability>::default(),
            Box::new(s21_amnesia::Amnesia),
            Box::new(s24_reads::Reads),
            Box::new(s26_bounds::Bounds),
            Box::new(l01_healing::Healing),
            Box::new(l04_quorum_back::QuorumBack),
            Box::new(l05_dead_clients::DeadClients),
            Box::new(l06_head_of_queue::HeadOfQueue),
            Box::new(l07_fill::Fill),
        ])
    }
}

impl Laws {
    /// Holds all of them against what is seen after a step.
    ///
    /// # Errors
    /// The first that was broken.
    pub fn step(&mut self, sight: &Sight<'_>) -> Result<(), Broken> {
        self.0.iter_mut().try_for_each(|law| {
            let name = law.name();
            law.step(sight).map_err(|how| Broken { law: name, how })
        })
    }

    /// Holds all of them against the whole run; all that were broken.
    pub fn end(&mut self, end: &End<'_>) -> Vec<Broken> {
        let broken = |law: &mut Box<dyn Law>| {
            let how = law.end(end).err()?;
            Some(Broken { law: law.name(), how })
        };
        let mut found: Vec<Broken> = self.0.iter_mut().filter_map(broken).collect();
        // Of laws that have no file here yet.
        for violation in &end.verdict.violations {
            if self.0.iter().all(|law| law.name() != violation.law) {
                found.push(Broken { law: violation.law, how: violation.to_string() });
            }
        }
        found
    }

    /// Each law's name and sentence.
    pub fn sentences(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.0.iter().map(|law| (law.name(), law.sentence()))
    }
}
