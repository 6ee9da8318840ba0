//! A whole cluster in one thread: the real nodes and the real client library
//! on simulated disks, wires and clocks, all derived from one seed.
//!
//! A test writes a story, an async function that is handed the [`World`]:
//! ```no_run
//! use chaos_tests::world::{PRODUCT, Survives, play};
//!
//! play(7, async |world| {
//!     world.serve_license(1).await;
//!     let seat = world.application("line-1").acquire(PRODUCT).send().await?;
//!     world.crash(world.leader().await, Survives::Nothing).await;
//!     seat.release().await?;
//!     Ok(())
//! });
//! ```
//! When it ends, the history of what its clients saw is held to the laws
//! ([`oracle`](crate::oracle)).
//!
//! Nothing here is a switch in production code: a node is handed its disk,
//! clock, entropy and listeners here as it is by `main`.

mod aftermath;
mod backup;
mod callers;
mod clocks;
mod enrolled;
mod faults;
mod floor;
mod inspector;
mod journal;
mod lines;
mod machine;
mod net;
mod nodes;
mod pair;
mod rehearsal;
mod replacement;
mod rollback;
mod run;
mod sale;
mod sometimes;
mod sources;
mod swarm;
mod trace;
mod traps;
mod vendor;
mod verdict;
mod view;
mod weather;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

pub use node::config::Snapshots;
pub use node::store::mem::{Platter, Survives};

use crate::history::History;
use crate::oracle::Figures;
use clocks::HostClock;
use floor::{FLOORS, Floor, floor_name};
use inspector::Inspector;
use journal::Journal;
use machine::Machine;
use net::Addresses;
pub use nodes::SecondProcess;
use pair::{Balancer, Misplaced};
pub use rehearsal::{Syncs, rehearse};
use replacement::Replacement;
pub use rollback::LiveSnapshot;
use run::Order;
pub use sometimes::{Sometimes, Tally};
use sources::{Now, Seed};
pub use swarm::{Aftermath, Fault, Options as Weather};
pub use trace::Span;
use trace::Trace;
pub use vendor::PRODUCT;
use vendor::Vendor;
pub use weather::{Ended, brave};

/// What a story ends with.
pub type Ending = Result<(), Box<dyn std::error::Error>>;

/// A story that has not ended after so much simulated time never will.
const STORY_MAX: Duration = Duration::from_secs(600);

/// The host on which the story and all its clients run.
const DESK: &str = "desk";

/// When every world begins, in seconds since 1970.
const EPOCH: u64 = 1_800_000_000;

/// How long a message is on its way at most, in a story.
const LATENCY_MAX: Duration = Duration::from_millis(4);

/// The nodes of a cluster.
pub const NODES: [u64; 3] = [1, 2, 3];

/// What a story is handed: the cluster, and the levers by which to break it. Cheap to clone.
#[derive(Clone)]
pub struct World {
    inner: Rc<Inner>,
}

struct Inner {
    seed: Seed,
    /// Of the three members, as far as the world knows: one that replaces another
    /// has its place from its start on.
    machines: RefCell<Vec<Rc<Machine>>>,
    snapshots: Snapshots,
    replacement: RefCell<Option<Replacement>>,
    addresses: Addresses,
    vendor: RefCell<Vendor>,
    clients: Cell<u64>,
    orders: RefCell<Vec<Order>>,
    trace: Arc<Trace>,
    history: Arc<History>,
    /// Seats of the one license that was installed, if it was a good one.
    sold: Cell<Option<u32>>,
    journal: Journal,
    now: Now,
    /// The clock of the desk, which is never wrong.
    clock: HostClock,
    floors: RefCell<Vec<Rc<Floor>>>,
    balancers: RefCell<Vec<Rc<Balancer>>>,
    /// Where the virtual address is against the rules.
    misplaced: Cell<Option<Misplaced>>,
    /// The serial of the last license, and whether it is another than was sold:
    /// with a share withdrawn, fewer seats, or an end.
    serial: Cell<u64>,
    amended: Cell<bool>,
    /// Lines that are cut, from and to, and how many faults cut each.
    cuts: RefCell<BTreeMap<(String, String), u32>>,
    /// Whether two nodes were parted for ever.
    halved: Cell<bool>,
    latency_max: Duration,
    /// Whether a node that stops over its disk is started again.
    supervised: Cell<bool>,
    /// Why the run has failed, if it is not a law that saw it.
    failed: RefCell<Option<String>>,
    /// Holds the laws against every step, where they are.
    inspector: RefCell<Option<Inspector>>,
}

/// What a played story left to look at.
pub struct Played {
    trace: Arc<Trace>,
    figures: Figures,
}

impl Played {
    /// Everything that could be observed, in order, one event a line.
    pub fn trace(&self) -> Vec<String> {
        self.trace.lines()
    }

    /// What was in the history that the laws were held against.
    pub fn figures(&self) -> &Figures {
        &self.figures
    }

    /// A digest of the trace: equal for two runs that showed the same.
    pub fn digest(&self) -> u128 {
        xxhash_rust::xxh3::xxh3_128(self.trace.lines().join("\n").as_bytes())
    }
}

/// Says how to play a failed story again, and what its nodes logged.
struct Epitaph {
    seed: u64,
    journal: Journal,
}

impl Drop for Epitaph {
    fn drop(&mut self) {
        if std::thread::panicking() {
            println!("the world of seed {} failed; its nodes logged:", self.seed);
            self.journal.lines().iter().for_each(|line| println!("{line}"));
        }
    }
}

/// Plays a story in the world that `seed` makes.
///
/// # Panics
/// When the story fails or does not end, a node stops by itself, or a law was
/// broken; the seed and what the nodes logged are printed.
pub fn play(seed: u64, story: impl AsyncFnOnce(World) -> Ending + 'static) -> Played {
    play_with(seed, Snapshots::default(), story)
}

/// The same with nodes that write their ledgers down more or less often.
pub fn play_with(
    seed: u64,
    snapshots: Snapshots,
    story: impl AsyncFnOnce(World) -> Ending + 'static,
) -> Played {
    let world = World::new(seed, snapshots, LATENCY_MAX, true);
    let _kept = world.inner.journal.keep();
    let _epitaph = Epitaph { seed, journal: world.inner.journal.clone() };
    if let Err(why) = world.run(story) {
        panic!("{why}");
    }
    let verdict = world.inner.sold.get().map(|seats| world.judge(seats));
    Played { trace: world.inner.trace.clone(), figures: verdict.unwrap_or_default() }
}

impl World {
    fn new(seed: u64, snapshots: Snapshots, latency_max: Duration, traced: bool) -> Self {
        let seed = Seed::new(seed);
        let (now, addresses) = (Now::default(), Addresses::default());
        let machines = NODES
            .map(|id| Rc::new(Machine::new(id, NODES, &seed, snapshots, &addresses, &now)))
            .to_vec();
        let vendor = Vendor::new(&seed);
        machines.iter().for_each(|machine| machine.trust(vendor.root()));
        let inner = Inner {
            machines: RefCell::new(machines),
            snapshots,
            replacement: RefCell::default(),
            addresses,
            vendor: RefCell::new(vendor),
            clients: Cell::new(0),
            orders: RefCell::default(),
            trace: Arc::new(Trace::new(traced)),
            history: Arc::new(History::new(|| turmoil::sim_elapsed().unwrap_or_default())),
            sold: Cell::new(None),
            journal: Journal::default(),
            clock: HostClock::new(now.clone(), Duration::ZERO, EPOCH),
            now,
            floors: RefCell::default(),
            balancers: RefCell::default(),
            misplaced: Cell::new(None),
            serial: Cell::new(1),
            amended: Cell::new(false),
            cuts: RefCell::default(),
            halved: Cell::new(false),
            latency_max,
            supervised: Cell::new(false),
            failed: RefCell::default(),
            inspector: RefCell::default(),
            seed,
        };
        Self { inner: Rc::new(inner) }
    }
}
