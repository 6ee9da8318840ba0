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
mod clocks;
mod enrolled;
mod faults;
mod floor;
mod inspector;
mod journal;
mod machine;
mod net;
mod pair;
mod rehearsal;
mod rollback;
mod sometimes;
mod sources;
mod swarm;
mod trace;
mod traps;
mod vendor;
mod weather;

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use license::package::Package;
use license::product::LicenseSerial;
use license::request::ClusterRequest;
use license::terms::Terms;
pub use node::config::Snapshots;
pub use node::store::mem::{Platter, Survives};
use pki::{Identity, Role};
use trine_client::{Client, Endpoint, Options};
use wire::peer::peer_client::PeerClient;

use crate::history::History;
use crate::laws::s15_time_is_not_ahead::JUMP;
use crate::model::Counts;
use crate::oracle::{self, Figures};
use clocks::HostClock;
use floor::{FLOORS, Floor, floor_name};
use inspector::Inspector;
use journal::Journal;
use machine::Machine;
use net::Addresses;
use pair::{Balancer, Misplaced};
pub use rehearsal::{Syncs, rehearse};
pub use rollback::LiveSnapshot;
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
    machines: [Rc<Machine>; 3],
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

/// What only the world outside the simulation can do, between two steps.
enum Order {
    Crash(u64, Survives),
    Restart(u64),
    Start(Rc<Machine>),
    Destroy(Rc<Machine>),
    Open(Rc<Floor>, World),
    Kill(Rc<Floor>),
    Revive(Rc<Floor>),
    Latency(String, String, Duration),
    Distance(u64, u64, Duration),
    Door(Rc<Balancer>),
    Fell(String),
    Raise(String),
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
        let machines =
            NODES.map(|id| Rc::new(Machine::new(id, &seed, snapshots, &addresses, &now)));
        let vendor = Vendor::new(&seed);
        machines.iter().for_each(|machine| machine.trust(vendor.root()));
        let inner = Inner {
            machines,
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

    /// Plays `story` to its end; why it did not get there, if it did not.
    fn run(&self, story: impl AsyncFnOnce(Self) -> Ending + 'static) -> Result<(), String> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.inner.seed.number())
            .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH))
            .simulation_duration(STORY_MAX)
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(self.inner.latency_max)
            .tcp_capacity(65_536)
            .build();
        for machine in &self.inner.machines {
            let started = machine.clone();
            sim.host(machine.name(), move || {
                let machine = started.clone();
                async move { machine.run().await }
            });
        }
        let told = self.clone();
        sim.client(DESK, async move { story(told).await });
        loop {
            // A panic of a node or of the story is one of its host's runtime.
            let stepped = catch_unwind(AssertUnwindSafe(|| sim.step()));
            let at = sim.elapsed();
            self.inner.now.stepped(at);
            let ended = stepped
                .map_err(|panic| format!("a panic after {at:?}: {}", panicked(&*panic)))?
                .map_err(|error| format!("the world ended after {at:?}: {error}"))?;
            self.inspect(at)?;
            if let Some(why) = self.inner.failed.take() {
                return Err(why);
            }
            if ended {
                return Ok(());
            }
            if self.inner.supervised.get() {
                self.supervise(&mut sim)?;
            }
            self.obey(&mut sim);
        }
    }

    fn inspect(&self, at: Duration) -> Result<(), String> {
        match &mut *self.inner.inspector.borrow_mut() {
            Some(inspector) => inspector.look(&self.inner, at),
            None => Ok(()),
        }
    }

    fn judge(&self, seats: u32) -> Figures {
        let verdict = self.verdict(seats);
        let broken: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "laws were broken:\n{}", broken.join("\n"));
        verdict.figures
    }

    /// Counts what must happen now and then.
    fn saw(&self, what: impl IntoIterator<Item = Sometimes>) {
        if let Some(inspector) = &mut *self.inner.inspector.borrow_mut() {
            what.into_iter().for_each(|what| inspector.watcher.count(what));
        }
    }

    fn verdict(&self, seats: u32) -> oracle::Verdict {
        let jumped = JUMP * u32::try_from(self.jumps()).unwrap_or(u32::MAX);
        let jumped_ms = u64::try_from(jumped.as_millis()).unwrap_or(u64::MAX);
        oracle::check_after_jumps(&self.inner.history.events(), self.counts(seats), jumped_ms)
    }

    /// The seats sold, along the log.
    fn counts(&self, seats: u32) -> Counts {
        let mut counts = Counts::fixed(seats as usize);
        if let Some(inspector) = &*self.inner.inspector.borrow() {
            for (from, by, seats) in &inspector.watcher.counts {
                counts.change(*from, *by, *seats as usize);
            }
        }
        counts
    }

    /// How often a node's boot clock jumped.
    fn jumps(&self) -> u64 {
        self.inner.machines.iter().map(|machine| machine.clock().jumps()).sum()
    }

    fn obey(&self, sim: &mut turmoil::Sim<'_>) {
        for machine in &self.inner.machines {
            if let Some((subject, point, survives)) = machine.traps().sprung() {
                self.note(format_args!("{} crashes at {subject:?} {point:?}", machine.name()));
                self.saw(sometimes::of_trap(subject, point, survives));
                sim.crash(machine.name());
                machine.lose_power(survives);
                self.inner.trace.begin(self.inner.now.get(), machine.name(), "down");
            }
        }
        for order in self.inner.orders.take() {
            match order {
                Order::Crash(node, survives) => {
                    let machine = self.machine(node);
                    self.saw(sometimes::of_crash(machine.platter().unsynced(), survives));
                    sim.crash(machine.name());
                    machine.lose_power(survives);
                    self.inner.trace.begin(self.inner.now.get(), machine.name(), "down");
                }
                Order::Destroy(machine) => sim.crash(machine.name()),
                Order::Restart(node) => {
                    self.machine(node).power_on();
                    self.inner.trace.end(self.inner.now.get(), self.machine(node).name(), None);
                    sim.bounce(self.machine(node).name());
                }
                Order::Open(floor, world) => {
                    sim.host(floor.name.clone(), move || floor.clone().run(world.clone()));
                }
                Order::Kill(floor) => {
                    sim.crash(floor.name.as_str());
                    floor.died();
                }
                Order::Revive(floor) => sim.bounce(floor.name.as_str()),
                Order::Distance(one, other, way) => {
                    sim.set_link_latency(format!("node-{one}"), format!("node-{other}"), way);
                }
                Order::Door(balancer) => {
                    sim.host(balancer.name.clone(), move || balancer.clone().run());
                }
                Order::Fell(name) => sim.crash(name),
                Order::Raise(name) => sim.bounce(name),
                Order::Latency(one, other, most) => {
                    sim.set_link_max_message_latency(one, other, most);
                }
                Order::Start(machine) => {
                    sim.host(machine.name().to_owned(), move || {
                        let machine = machine.clone();
                        async move { machine.run().await }
                    });
                }
            }
        }
    }

    fn machine(&self, node: u64) -> &Machine {
        self.inner.machines.iter().find(|machine| machine.id() == node).expect("one of the three")
    }

    async fn order(&self, order: Order) {
        self.inner.orders.borrow_mut().push(order);
        // Carried out before the next step.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// Cuts the power of a node. What was not synced is lost, except what `survives`.
    pub async fn crash(&self, node: u64, survives: Survives) {
        self.note(format_args!("node-{node} crashes"));
        self.order(Order::Crash(node, survives)).await;
    }

    /// Starts a crashed node on what its disk kept.
    pub async fn restart(&self, node: u64) {
        self.note(format_args!("node-{node} starts"));
        self.order(Order::Restart(node)).await;
    }

    /// Crashes a node unless it is down already.
    async fn crash_if_up(&self, node: u64, survives: Survives) {
        if self.machine(node).is_up() {
            self.crash(node, survives).await;
        }
    }

    /// Starts a node unless it has power.
    async fn restart_if_down(&self, node: u64) {
        if !self.machine(node).is_up() {
            self.restart(node).await;
        }
    }

    /// Whether a node leads, as far as it knows itself.
    pub fn leads(&self, node: u64) -> bool {
        let window = self.machine(node).window();
        window.as_ref().is_some_and(|window| window.standing().leads)
    }

    /// The node that leads the highest term, as the nodes themselves see it.
    fn leading(&self) -> Option<u64> {
        let machines = self.inner.machines.iter();
        let standings = machines.filter_map(|machine| {
            let standing = machine.window().as_ref()?.standing();
            Some((standing.leads, standing.term, machine.id()))
        });
        let leader = standings.filter(|(leads, ..)| *leads).max_by_key(|(_, term, _)| *term);
        leader.map(|(_, _, node)| node)
    }

    /// The names of the balancers, if there are any.
    fn balancer_names(&self) -> Vec<String> {
        self.inner.balancers.borrow().iter().map(|balancer| balancer.name.clone()).collect()
    }

    /// A bit of a dead node's disk flips.
    fn rot(&self, node: u64, rng: &mut impl rand::Rng) {
        if !self.machine(node).is_up() {
            self.machine(node).rot(rng);
        }
    }

    /// The run has failed, and ends with the next step.
    fn fail(&self, why: String) {
        self.inner.failed.borrow_mut().get_or_insert(why);
    }

    /// Withdraws a node's share of the license.
    ///
    /// # Errors
    /// It could not be, or only perhaps.
    async fn withdraw_share(&self, node: u64) -> Result<(), trine_client::CallError> {
        let license = self.inner.vendor.borrow().license();
        self.inner.amended.set(true);
        self.note(format_args!("node-{node}'s share is withdrawn"));
        self.operator().operator().withdraw_share(&license, node).await.map(drop)
    }

    /// Installs an update of the license as it was sold, with new shares for all.
    async fn update_license(&self) {
        self.amend_license(|_| ()).await;
        self.inner.amended.set(false);
    }

    /// Installs an update with other terms. A later one may overtake it.
    async fn amend_license(&self, amend: impl FnOnce(&mut Terms)) {
        self.inner.amended.set(true);
        let serial = self.inner.serial.get() + 1;
        self.inner.serial.set(serial);
        let operator = self.operator().operator();
        let request = self
            .until("the cluster's request is told", async || operator.request_license().await.ok())
            .await;
        let request = ClusterRequest::decode(&request.request).expect("a good request");
        let seats = self.inner.sold.get().unwrap_or(0);
        let mut terms = Terms { serial: LicenseSerial(serial), ..self.terms(&request, seats) };
        amend(&mut terms);
        self.note(format_args!(
            "update {serial} of the license: {} seats, until {:?}",
            terms.seats, terms.expiration
        ));
        let package =
            self.issue(|vendor, rng| vendor.issue(&request, terms, rng).expect("valid terms"));
        self.until("the update is installed", async || {
            match operator.install_license(package.encode()).await {
                Ok(_) | Err(trine_client::CallError::Refused(_)) => Some(()),
                Err(_) => None,
            }
        })
        .await;
    }

    fn floor(&self, number: u32) -> Rc<Floor> {
        self.inner.floors.borrow()[number as usize - 1].clone()
    }

    /// Machine `number` full of clients loses its power.
    async fn kill_floor(&self, number: u32) {
        self.note(format_args!("{} crashes", floor_name(number)));
        self.order(Order::Kill(self.floor(number))).await;
    }

    /// And starts again.
    async fn revive_floor(&self, number: u32) {
        if !self.floor(number).is_up() {
            self.note(format_args!("{} starts", floor_name(number)));
            self.order(Order::Revive(self.floor(number))).await;
        }
    }

    /// From now on nothing that `from` sends reaches `to`.
    fn cut(&self, from: &str, to: &str) {
        *self.inner.cuts.borrow_mut().entry((from.to_owned(), to.to_owned())).or_default() += 1;
        turmoil::partition_oneway(from, to);
        let at = self.inner.now.get();
        self.inner.trace.begin(at, &format!("cut {from}"), format_args!("to {to}"));
    }

    /// Takes one [`cut`](Self::cut) back.
    fn mend(&self, from: &str, to: &str) {
        let mut cuts = self.inner.cuts.borrow_mut();
        let line = (from.to_owned(), to.to_owned());
        let Some(count) = cuts.get_mut(&line) else { return };
        *count -= 1;
        let at = self.inner.now.get();
        self.inner.trace.end(at, &format!("cut {from}"), Some(&format!("to {to}")));
        if *count == 0 {
            cuts.remove(&line);
            turmoil::repair_oneway(from, to);
        }
    }

    /// Holds up what the two send one another.
    fn stall(&self, one: &str, other: &str) {
        turmoil::hold(one, other);
    }

    /// Lets it all arrive.
    fn unstall(&self, one: &str, other: &str) {
        turmoil::release(one, other);
        for (from, to) in self.inner.cuts.borrow().keys() {
            turmoil::partition_oneway(from.as_str(), to.as_str());
        }
    }

    async fn set_latency(&self, one: &str, other: &str, most: Duration) {
        self.order(Order::Latency(one.to_owned(), other.to_owned(), most)).await;
    }

    /// Puts the nodes so far apart: a message there and its answer take just so long.
    pub async fn set_round_trips(&self, round_trip: Duration) {
        for (one, other) in [(1, 2), (2, 3), (1, 3)] {
            self.order(Order::Distance(one, other, round_trip / 2)).await;
        }
    }

    /// Lets each message between a node and the two others take up to so long.
    pub async fn set_distance(&self, node: u64, most: Duration) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            self.set_latency(&format!("node-{node}"), &format!("node-{other}"), most).await;
        }
    }

    /// A copy of what a node's disk would keep now.
    pub fn copy_disk(&self, node: u64) -> Platter {
        self.machine(node).platter().copy()
    }

    /// Puts `copy` in the place of a crashed node's disk.
    pub fn put_back(&self, node: u64, copy: &Platter) {
        self.note(format_args!("node-{node} gets another disk"));
        self.machine(node).platter().restore(copy);
    }

    /// Starts a crashed node that will stop by itself, and says why it did.
    pub async fn restart_until_it_stops(&self, node: u64) -> String {
        self.let_stop(node);
        self.restart(node).await;
        self.until_stopped(node).await
    }

    /// Asks a node to drain and end, as a service manager does.
    pub fn shut_down(&self, node: u64) {
        self.note(format_args!("node-{node} is asked to end"));
        self.machine(node).shut_down();
    }

    /// From now on a node may stop by itself.
    pub fn let_stop(&self, node: u64) {
        self.machine(node).let_stop();
    }

    /// Why a node stopped by itself, if it did.
    pub fn stopped(&self, node: u64) -> Option<String> {
        self.machine(node).stopped()
    }

    /// Why a node stopped by itself, once it has.
    pub async fn until_stopped(&self, node: u64) -> String {
        self.until("the node stops by itself", async || self.stopped(node)).await
    }

    /// Starts a second process of a node, with a copy of its disk as it is now,
    /// on a machine of its own where nobody looks for it.
    pub async fn start_clone(&self, node: u64) -> SecondProcess {
        let name = format!("clone-of-node-{node}");
        self.note(format_args!("{name} starts"));
        let machine = Rc::new(self.machine(node).clone_to(&name, self.copy_disk(node)));
        self.order(Order::Start(machine.clone())).await;
        SecondProcess { machine }
    }

    /// Lets each sync of a node's disk take this long.
    pub fn set_sync_time(&self, node: u64, time: Duration) {
        self.machine(node).platter().set_sync_time(time);
    }

    /// Lets a node's syncs report success without doing anything.
    pub fn set_syncs_lie(&self, node: u64) {
        self.machine(node).platter().set_syncs_lie(true);
    }

    /// How many changes a crash of this node would lose now.
    pub fn unsynced(&self, node: u64) -> usize {
        self.machine(node).platter().unsynced()
    }

    /// What a node sends, the clients of this story no longer hear.
    pub fn mute(&self, node: u64) {
        turmoil::partition_oneway(self.machine(node).name(), DESK);
    }

    /// Cuts a node off from the other two; clients still reach it.
    pub fn isolate(&self, node: u64) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            turmoil::partition(self.machine(node).name(), self.machine(other).name());
        }
    }

    /// Heals what [`isolate`](Self::isolate) cut.
    pub fn rejoin(&self, node: u64) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            turmoil::repair(self.machine(node).name(), self.machine(other).name());
        }
    }

    /// A client of the whole cluster: the real library, seeing all three nodes.
    pub fn client(&self, role: Role, name: &str) -> Client {
        self.client_at(role, name, &NODES, Duration::from_secs(10))
    }

    /// A client that sees only some nodes and gives up after `patience`.
    pub fn client_at(&self, role: Role, name: &str, nodes: &[u64], patience: Duration) -> Client {
        self.client_on(&self.inner.clock, role, name, nodes, patience)
    }

    fn client_on(
        &self,
        clock: &HostClock,
        role: Role,
        name: &str,
        nodes: &[u64],
        patience: Duration,
    ) -> Client {
        let endpoints = nodes.iter().map(|node| endpoint(*node)).collect();
        self.client_of(clock, role, name, endpoints, patience)
    }

    fn client_of(
        &self,
        clock: &HostClock,
        role: Role,
        name: &str,
        endpoints: Vec<Endpoint>,
        patience: Duration,
    ) -> Client {
        let number = self.inner.clients.replace(self.inner.clients.get() + 1);
        let identity = Identity::new(role, name).expect("a valid name");
        let caller = net::Caller::new(identity, self.inner.addresses.clone(), number as usize);
        let options = Options::new(endpoints, Arc::new(caller))
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(self.inner.seed.random("client", number)))
            .observer(self.inner.trace.observer(name, &self.inner.history))
            .patience(patience)
            .holder(name);
        // Nothing in `connect` waits.
        futures_util::FutureExt::now_or_never(Client::connect(options))
            .expect("connecting does not wait")
            .expect("valid options")
    }

    /// An application.
    pub fn application(&self, name: &str) -> Client {
        self.client(Role::Application, name)
    }

    /// An operator.
    pub fn operator(&self) -> Client {
        self.client(Role::Operator, "ana")
    }

    /// A direct line to a node's peer listener, as another node has it.
    pub async fn peer(&self, node: u64, as_node: u64) -> PeerClient<tonic::transport::Channel> {
        net::peer(node, as_node).await.expect("the node is up")
    }

    /// Forms the cluster; returns its virtual container.
    pub async fn form(&self) -> String {
        let at = self.operator().operator().at(endpoint(1));
        for _ in 0..50 {
            match at.init().await {
                Ok(formed) => return formed.virtual_container,
                // The nodes of a new world need a moment to come up.
                Err(error) => self.note(format_args!("not formed yet: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the cluster did not form");
    }

    /// The cluster's request, as the vendor reads it.
    pub async fn request(&self) -> ClusterRequest {
        let reply = self.operator().operator().request_license().await.expect("a formed cluster");
        ClusterRequest::decode(&reply.request).expect("a good request")
    }

    /// The terms of a license for `seats` seats of [`PRODUCT`].
    pub fn terms(&self, request: &ClusterRequest, seats: u32) -> Terms {
        self.inner.vendor.borrow().terms(request, seats)
    }

    /// Has the vendor make a package in any way it can.
    pub fn issue(
        &self,
        make: impl FnOnce(&license::vendor::Vendor, &mut chacha20::ChaCha20Rng) -> Package,
    ) -> Package {
        self.inner.vendor.borrow_mut().issue(make)
    }

    /// Installs a package.
    pub async fn install(&self, package: &Package) {
        self.operator().operator().install_license(package.encode()).await.expect("installed");
    }

    /// Forms the cluster, sells it `seats` seats of [`PRODUCT`], waits until they serve.
    pub async fn serve_license(&self, seats: u32) {
        self.form().await;
        let request = self.request().await;
        let terms = self.terms(&request, seats);
        let package =
            self.issue(|vendor, rng| vendor.issue(&request, terms, rng).expect("valid terms"));
        self.inner.sold.set(Some(seats));
        self.install(&package).await;
        self.until_serving().await;
    }

    /// Waits until the license is listed as serving.
    pub async fn until_serving(&self) {
        let operator = self.operator().operator();
        self.until("the license serves", async || {
            let listed = operator.list_licenses().await.ok()?;
            listed.licenses.first().is_some_and(|license| license.serving).then_some(())
        })
        .await;
    }

    /// Waits until `look` sees something, and says what did not happen if it never does.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("this did not happen within 30 s: {what}");
    }

    /// Who leads, once somebody does.
    pub async fn leader(&self) -> u64 {
        let operator = self.operator().operator();
        self.until("somebody leads", async || Some(operator.status().await.ok()?.leader)).await
    }

    /// How a node stands as itself sees it: index applied, and hash of the ledger there.
    pub async fn state(&self, node: u64) -> Option<(u64, String)> {
        let client = self.client_at(Role::Operator, "ana", &[node], Duration::from_secs(1));
        let status = client.operator().at(endpoint(node)).node_status().await.ok()?;
        let state = (status.applied_index, status.state_hash);
        self.note(format_args!("node-{node} applied {} hash {}", state.0, state.1));
        Some(state)
    }

    /// Waits until all three nodes show the same ledger at the same entry (S18, L1).
    ///
    /// # Panics
    /// When two show different ones at the same entry.
    pub async fn until_same(&self) -> (u64, String) {
        self.until("three nodes show the same ledger", async || {
            let mut states = Vec::new();
            for node in NODES {
                states.push(self.state(node).await?);
            }
            let [first, second, third] = [&states[0], &states[1], &states[2]];
            for (one, other) in [(first, second), (second, third), (first, third)] {
                assert!(
                    one.0 != other.0 || one.1 == other.1,
                    "two ledgers at one entry: {states:?}"
                );
            }
            (first == second && second == third).then(|| first.clone())
        })
        .await
    }

    /// Seats taken and requests waiting, as this node's ledger has it.
    pub fn taken_and_waiting(&self, node: u64) -> Option<(u64, u32)> {
        let machine = self.machine(node);
        let window = machine.window();
        let pools = window.as_ref()?.look(|ledger| ledger.pools());
        pools.first().map(|pool| (pool.seats, pool.waiting))
    }

    /// Writes a line into the trace.
    pub fn note(&self, what: impl std::fmt::Display) {
        self.inner.trace.note(what);
    }

    /// What could be observed so far, one event a line, each beginning with its microsecond.
    pub fn trace(&self) -> Vec<String> {
        self.inner.trace.lines()
    }

    /// What the nodes have logged so far at `info` and above.
    pub fn journal(&self) -> Vec<String> {
        self.inner.journal.lines()
    }
}

/// A second process with a node's identity.
pub struct SecondProcess {
    machine: Rc<Machine>,
}

impl SecondProcess {
    /// Why it stopped, if it did.
    pub fn stopped(&self) -> Option<String> {
        self.machine.stopped()
    }
}

/// What a panic said.
fn panicked(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}

fn endpoint(node: u64) -> Endpoint {
    Endpoint::new(format!("node-{node}"), net::CLIENT_PORT)
}
