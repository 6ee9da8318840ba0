//! The laws, one file each, with the sentence that each checks.
//!
//! A law looks after every step of the world at what the nodes are (a
//! [`Sight`]), and at the end at what the run was (an [`End`]). What the
//! clients were told is judged in log order by the [oracle](crate::oracle);
//! the laws that it checks say so.

mod l01_healing;
mod l02_two_serve;
mod l03_failover;
mod l04_quorum_back;
mod l05_dead_clients;
mod l06_head_of_queue;
mod l07_fill;
mod l08_one_slow;
mod l09_all_at_once;
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
mod s12_shrink;
mod s13_terms;
mod s14_time_rises;
pub(crate) mod s15_time_is_not_ahead;
mod s16_stale_stamp;
mod s17_raft;
mod s18_same_hash;
mod s19_snapshot;
pub(crate) mod s20_durability;
mod s21_amnesia;
mod s23_stateless_balancers;
mod s24_reads;
mod s25_clean_refusal;
mod s26_bounds;
mod second_opinion;

use std::time::Duration;

use node::raft::LogId;
use node::store::mem::Platter;
use node::window::{Standing, Window};

use crate::history::Event;
use crate::linear::Opinion;
use crate::oracle::Verdict;
use crate::world::Aftermath;

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
    /// The disks of the three places, running or not: each a member's, and while it
    /// is being replaced also that of the node that comes.
    pub disks: &'a [Vec<(u64, &'a Platter)>],
    /// What clients did and heard in this step.
    pub events: &'a [Event],
    /// Tokens of the seats that applications use at this moment.
    pub in_use: &'a [u64],
    /// Seats sold.
    pub seats: u32,
    /// How often a node's boot clock jumped so far.
    pub jumps: u64,
}

impl Sight<'_> {
    /// The disk of a member.
    pub fn nodes_disk(&self, node: u64) -> Option<&Platter> {
        let mut disks = self.disks.iter().flatten();
        disks.find(|(owner, _)| *owner == node).map(|(_, disk)| *disk)
    }

    /// In how many places a disk is so.
    pub fn disks_that(&self, is_so: impl Fn(&Platter) -> bool) -> usize {
        self.disks.iter().filter(|place| place.iter().any(|(_, disk)| is_so(disk))).count()
    }
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
    /// What the second, independent check found.
    pub opinion: &'a Opinion,
    /// What the clients did and heard.
    pub history: &'a [Event],
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
    /// What was measured with one thing broken under load, in runs that do that.
    pub endured: Option<Endured>,
}

/// One thing that stayed broken while the applications went on.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Endured {
    /// What.
    pub what: Aftermath,
    /// From the second second on: the longest time in which no call was decided.
    pub silence: Duration,
    /// From the crash of the leader until the next call was decided.
    pub failover: Option<Duration>,
    /// From when all clients were let in again until calls were decided at half
    /// the rate of before.
    pub reconnected: Option<Duration>,
    /// What 99 of 100 calls took before, and then, if a follower was broken.
    pub p99_before: Option<Duration>,
    /// And then.
    pub p99: Option<Duration>,
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
            Box::<s12_shrink::Shrink>::default(),
            Box::<s13_terms::SignedTerms>::default(),
            Box::<s14_time_rises::TimeRises>::default(),
            Box::new(s15_time_is_not_ahead::TimeIsNotAhead),
            Box::<s16_stale_stamp::StaleStamp>::default(),
            Box::<s17_raft::RaftsOwn>::default(),
            Box::<s18_same_hash::SameHash>::default(),
            Box::<s19_snapshot::Snapshots>::default(),
            Box::<s20_durability::Durability>::default(),
            Box::new(s21_amnesia::Amnesia),
            Box::<s16_stale_stamp::Versions>::default(),
            Box::new(s23_stateless_balancers::StatelessBalancers),
            Box::new(s24_reads::Reads),
            Box::new(s25_clean_refusal::CleanRefusal),
            Box::new(s26_bounds::Bounds),
            Box::new(second_opinion::SecondOpinion),
            Box::new(l01_healing::Healing),
            Box::new(l02_two_serve::TwoServe),
            Box::new(l03_failover::Failover),
            Box::new(l04_quorum_back::QuorumBack),
            Box::new(l05_dead_clients::DeadClients),
            Box::new(l06_head_of_queue::HeadOfQueue),
            Box::new(l07_fill::Fill),
            Box::new(l08_one_slow::OneSlow),
            Box::new(l09_all_at_once::AllAtOnce),
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
