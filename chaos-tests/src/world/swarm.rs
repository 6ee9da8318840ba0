//! What one seed makes of a world: how big, who does what, what goes wrong.
//!
//! Each seed switches off a random part of the operations and of the faults
//! (swarm testing): a world with everything in it rarely comes to where one
//! thing alone leads.

use std::collections::BTreeSet;
use std::time::Duration;

use rand::seq::IndexedRandom as _;
use rand::{Rng, RngExt as _};
use serde::Serialize;

use super::sources::Seed;
use crate::workload::Habits;

/// One thing that goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fault {
    /// A node loses its power, and comes back.
    Crash,
    /// The leader does.
    CrashLeader,
    /// A node, again and again.
    CrashLoop,
    /// Two nodes at once: no quorum.
    CrashTwo,
    /// All three at once.
    CrashAll,
    /// A node loses its power at one moment in the life of a write.
    CrashPoint,
    /// A node loses the vote that it is writing, while the others elect.
    VoteLost,
    /// A node comes up with an older copy of its disk; then its own is put back.
    OldDisk,
    /// A node dies for good, and a new one gets its place; then the old one comes back.
    Replace,
    /// A bit of a dead node's disk flips, and is found out; then it flips back.
    Rot,
    /// A read fails with EIO.
    ReadError,
    /// A machine is suspended: nothing comes or goes, and then its clock has jumped.
    Suspend,
    /// A machine full of clients is.
    ClientsSuspend,
    /// A balancer loses its power, and comes back.
    BalancerCrash,
    /// A balancer does not reach some node.
    BalancerCut,
    /// The virtual address is on both balancers.
    AddressOnBoth,
    /// The virtual address is on neither.
    AddressOnNone,
    /// The virtual address goes to and fro.
    AddressFlaps,
    /// The license shrinks, and grows again.
    Shrink,
    /// The license ends, and a new one comes.
    LicenseEnds,
    /// A share is withdrawn while another node is dead, and comes back with an update.
    ShareLost,
    /// A node is cut off from the other two; clients still reach it.
    Isolate,
    /// What a node sends to another is lost, what that one sends is not.
    OneWay,
    /// Each node hears one other and is heard by the third.
    Ring,
    /// Two nodes do not reach each other until the very end.
    HalfForEver,
    /// A machine full of clients does not reach some node.
    ClientsCut,
    /// What nodes send is lost on the way to a machine full of clients.
    AnswersLost,
    /// The lines of a node are slow and uneven.
    Delay,
    /// What is sent to and from a node is held up, and then all arrives.
    Stall,
    /// A machine full of clients loses its power, and comes back.
    ClientsDie,
    /// A boot clock jumps.
    BootJump,
    /// A wall clock jumps.
    WallJump,
    /// A machine's clocks run fast or slow.
    Drift,
    /// A machine's clocks stand still.
    Freeze,
    /// A write, or a sync, fails with EIO.
    DiskError,
    /// A disk runs full.
    DiskFull,
    /// A disk takes its time.
    DiskSlow,
}

impl Fault {
    /// All of them.
    pub const ALL: [Self; 37] = [
        Self::Crash,
        Self::CrashLeader,
        Self::CrashLoop,
        Self::CrashTwo,
        Self::CrashAll,
        Self::CrashPoint,
        Self::VoteLost,
        Self::OldDisk,
        Self::Replace,
        Self::Rot,
        Self::ReadError,
        Self::Suspend,
        Self::ClientsSuspend,
        Self::BalancerCrash,
        Self::BalancerCut,
        Self::AddressOnBoth,
        Self::AddressOnNone,
        Self::AddressFlaps,
        Self::Shrink,
        Self::LicenseEnds,
        Self::ShareLost,
        Self::Isolate,
        Self::OneWay,
        Self::Ring,
        Self::HalfForEver,
        Self::ClientsCut,
        Self::AnswersLost,
        Self::Delay,
        Self::Stall,
        Self::ClientsDie,
        Self::BootJump,
        Self::WallJump,
        Self::Drift,
        Self::Freeze,
        Self::DiskError,
        Self::DiskFull,
        Self::DiskSlow,
    ];
}

impl Fault {
    /// Whether it needs balancers.
    fn is_of_doors(self) -> bool {
        matches!(
            self,
            Self::BalancerCrash
                | Self::BalancerCut
                | Self::AddressOnBoth
                | Self::AddressOnNone
                | Self::AddressFlaps
        )
    }
}

/// One thing that applications do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operation {
    /// Take a seat if there is one.
    Take,
    /// Join the queue.
    Queue,
    /// Join the queue and leave it.
    GiveUp,
    /// Ask again with the same request.
    AskTwice,
    /// Ask again with a request whose seat was given back.
    AskLate,
    /// Take a seat and vanish.
    Vanish,
    /// Take a seat and try other tokens on it.
    Meddle,
    /// A copy of a request arrives more than a minute late.
    AskMuchLater,
    /// List the seats.
    Look,
}

impl Operation {
    const ALL: [Self; 9] = [
        Self::Take,
        Self::Queue,
        Self::GiveUp,
        Self::AskTwice,
        Self::AskLate,
        Self::Vanish,
        Self::Meddle,
        Self::AskMuchLater,
        Self::Look,
    ];
}

/// One thing that stays broken, after all else was healed, while the load goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aftermath {
    /// The leader crashes, and stays dead.
    LeaderDead,
    /// A follower does.
    FollowerDead,
    /// A follower's disk is slow.
    FollowerSlow,
    /// A follower crashes and starts again and again.
    FollowerFlaps,
    /// A follower hears nothing of what the leader sends.
    FollowerDeaf,
    /// No client reaches anybody for a while, and then all do at once.
    AllComeBack,
}

impl Aftermath {
    const ALL: [Self; 6] = [
        Self::LeaderDead,
        Self::FollowerDead,
        Self::FollowerSlow,
        Self::FollowerFlaps,
        Self::FollowerDeaf,
        Self::AllComeBack,
    ];
}

/// Where clients knock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Door {
    /// At the virtual address of the two balancers.
    Balancers,
    /// At the three nodes; there are no balancers.
    Nodes,
    /// At the virtual address, or else at the nodes.
    Any,
}

/// How long a world lives, at least, in seconds.
const LIFE: u64 = 120;

/// The part of it in which all is healed, in seconds.
const HEALED: u64 = 25;

/// What a seed makes of a world.
#[derive(Debug, Clone, Serialize)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// Seats sold.
    pub seats: u32,
    /// Clients on each of the machines full of them.
    pub clients: u32,
    /// Applications of each client.
    pub applications: u32,
    /// Where they knock.
    pub door: Door,
    /// What they do.
    pub operations: BTreeSet<Operation>,
    /// How many holds are long, in hundredths.
    pub long_holds: u32,
    /// From one thing that an application does to the next, at most, in milliseconds.
    pub pause_max_ms: u64,
    /// What goes wrong.
    pub faults: BTreeSet<Fault>,
    /// From one fault to the next, at most, in milliseconds.
    pub calm_max_ms: u64,
    /// The longest that a message is on its way, in milliseconds.
    pub latency_max_ms: u64,
    /// Entries between two snapshots.
    pub snapshot_interval: u32,
    /// Entries kept behind a snapshot.
    pub entries_kept: u32,
    /// What stays broken in the end, for a while, with the load going on.
    pub aftermath: Option<Aftermath>,
    /// Whether the applications stop before the last fault ends (L10).
    pub quiet_end: bool,
    /// Whether the disks report syncs that they do not make. No seed does: it
    /// is for seeing that the laws notice.
    pub syncs_lie: bool,
    /// How long the world lives, at least, in seconds. What is not for faults
    /// is for recovering from them.
    pub seconds: u64,
}

impl Options {
    /// What `seed` makes.
    pub fn of(seed: u64) -> Self {
        let mut rng = Seed::new(seed).stream("options", 0);
        let rng = &mut rng;
        // In most worlds more applications want a seat than there are.
        let saturated = rng.random_bool(0.75);
        let clients = *[2, 4, 8, 16, 20].choose(rng).expect("some");
        let applications = if clients < 8 { rng.random_range(1..4) } else { 1 };
        let wanted = super::FLOORS * clients * applications;
        let seats = if saturated {
            rng.random_range(1..=(wanted / 2).max(1))
        } else {
            wanted + rng.random_range(0..10)
        };
        let door = *[Door::Balancers, Door::Balancers, Door::Balancers, Door::Any, Door::Nodes]
            .choose(rng)
            .expect("some");
        let possible: Vec<Fault> = Fault::ALL
            .into_iter()
            .filter(|fault| door != Door::Nodes || !fault.is_of_doors())
            .collect();
        Self {
            seed,
            seats,
            clients,
            applications,
            door,
            operations: some(&Operation::ALL, 2, rng),
            long_holds: if rng.random_bool(0.6) { rng.random_range(30..80) } else { 5 },
            // The same number of things in all, however many do them.
            pause_max_ms: u64::from(wanted) * rng.random_range(20..80),
            faults: some(&possible, 3, rng),
            calm_max_ms: rng.random_range(1_000..6_000),
            latency_max_ms: rng.random_range(2..20),
            snapshot_interval: *[100, 300, 1_000, 20_000].choose(rng).expect("some"),
            entries_kept: *[10, 50, 5_000].choose(rng).expect("some"),
            aftermath: rng.random_bool(0.6).then(|| *Aftermath::ALL.choose(rng).expect("some")),
            quiet_end: rng.random_bool(0.2),
            syncs_lie: false,
            seconds: LIFE,
        }
    }

    /// When the faults end.
    pub(super) fn faults_until(&self) -> Duration {
        Duration::from_secs(self.seconds.saturating_sub(HEALED))
    }

    pub(super) fn habits(&self) -> Habits {
        let often = |operation, often| {
            if self.operations.contains(&operation) { often } else { 0 }
        };
        Habits {
            take: often(Operation::Take, 4),
            queue: often(Operation::Queue, 4),
            give_up: often(Operation::GiveUp, 2),
            ask_twice: often(Operation::AskTwice, 2),
            ask_late: often(Operation::AskLate, 1),
            vanish: often(Operation::Vanish, 1),
            meddle: often(Operation::Meddle, 1),
            ask_much_later: often(Operation::AskMuchLater, 2),
            look: often(Operation::Look, 1),
            long_holds: f64::from(self.long_holds) / 100.0,
            pause_max: Duration::from_millis(self.pause_max_ms.max(1)),
            ..Habits::default()
        }
    }
}

/// A random part of `all`, at least so many.
fn some<T: Copy + Ord>(all: &[T], least: usize, rng: &mut impl Rng) -> BTreeSet<T> {
    let count = rng.random_range(least..=all.len());
    all.sample(rng, count).copied().collect()
}
