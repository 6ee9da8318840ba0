//! One node's machine: what of it survives a crash, and how the node starts on it.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use license::container::Container;
use license::product::{ActId, NodeId};
use license::trust::VendorRoot;
use node::certificates::Certificates;
use node::config::{Limits, Snapshots};
use node::entropy::Entropy;
use node::node::Setup;
use node::raft::{Endpoints, seeded};
use node::store::Key;
use node::store::mem::{Platter, Survives};
use node::telemetry::Metrics;
use node::window::Window;
use pki::Identity;
use rand::seq::{IndexedMutRandom as _, IndexedRandom as _};
use rand::{Rng, RngExt as _};
use tokio::sync::Notify;

use super::clocks::HostClock;
use super::enrolled::{Chain, authority, certify};
use super::net::{Addresses, CLIENT_PORT, HEALTH_PORT, Listener, PEER_PORT, PeerDial};
use super::sources::{Now, Secrets, Seed};
use super::traps::Traps;
use super::{EPOCH, Ending};

/// Where a bit flipped, what was there, and what is.
type Rotten = (Key, Vec<u8>, Vec<u8>);

/// A machine with a disk, a container, and a node that starts and crashes on it.
pub(super) struct Machine {
    id: u64,
    name: String,
    /// The nodes that its configuration names.
    members: [u64; 3],
    seed: Seed,
    platter: Platter,
    container: Vec<u8>,
    chain: Vec<Vec<u8>>,
    vendor_roots: RefCell<Vec<VendorRoot>>,
    snapshots: Snapshots,
    /// Of this machine and of those that were cloned from it.
    starts: Rc<Cell<u64>>,
    /// Whether the node may stop by itself; if not, that fails the story.
    may_stop: Cell<bool>,
    /// Asked to drain and end.
    shutdown: Rc<Notify>,
    stopped: RefCell<Option<String>>,
    /// The start that it goes on with, as that same process.
    goes_on: Option<u64>,
    addresses: Addresses,
    clock: HostClock,
    traps: Traps,
    /// Of the process that runs.
    window: Arc<Mutex<Option<Window>>>,
    /// Whether it has power.
    up: Cell<bool>,
    /// Whether its disk is to blame if the node stops.
    excused: Cell<bool>,
    /// When it is started again after it stopped.
    restart_at: Cell<Option<Duration>>,
    /// What rotted on its disk.
    rotten: RefCell<Option<Rotten>>,
    /// Its own disk, while it has an older copy.
    own_disk: RefCell<Option<Platter>>,
}

impl Machine {
    pub(super) fn new(
        id: u64,
        members: [u64; 3],
        seed: &Seed,
        snapshots: Snapshots,
        addresses: &Addresses,
        now: &Now,
    ) -> Self {
        let container = Container::create(ActId(7), &mut seed.stream("container", id));
        Self {
            id,
            name: format!("node-{id}"),
            members,
            seed: *seed,
            platter: Platter::new(),
            container: container.encode().to_vec(),
            chain: certify(&container, id),
            vendor_roots: RefCell::default(),
            snapshots,
            starts: Rc::default(),
            may_stop: Cell::new(false),
            shutdown: Rc::default(),
            stopped: RefCell::default(),
            goes_on: None,
            addresses: addresses.clone(),
            // Each was switched on at another moment.
            clock: HostClock::new(now.clone(), Duration::from_secs(1_000 * id), EPOCH),
            traps: Traps::default(),
            window: Arc::default(),
            up: Cell::new(true),
            excused: Cell::new(false),
            restart_at: Cell::new(None),
            rotten: RefCell::default(),
            own_disk: RefCell::default(),
        }
    }

    /// The same machine once more at another address, with a copy of the disk.
    pub(super) fn clone_to(&self, name: &str, platter: Platter) -> Self {
        Self {
            id: self.id,
            name: name.to_owned(),
            members: self.members,
            seed: self.seed,
            platter,
            container: self.container.clone(),
            chain: self.chain.clone(),
            vendor_roots: self.vendor_roots.clone(),
            snapshots: self.snapshots,
            starts: self.starts.clone(),
            may_stop: Cell::new(true),
            shutdown: Rc::default(),
            stopped: RefCell::default(),
            goes_on: None,
            addresses: self.addresses.clone(),
            clock: self.clock.clone(),
            traps: Traps::default(),
            window: Arc::default(),
            up: Cell::new(true),
            excused: Cell::new(false),
            restart_at: Cell::new(None),
            rotten: RefCell::default(),
            own_disk: RefCell::default(),
        }
    }

    /// The same machine once more, with the process that runs here now: it draws
    /// the same incarnation and the same boot.
    pub(super) fn later_self(&self, name: &str, platter: Platter) -> Self {
        let goes_on = self.starts.get().checked_sub(1);
        Self { may_stop: Cell::new(false), goes_on, ..self.clone_to(name, platter) }
    }

    /// Asks the node to drain and end.
    pub(super) fn shut_down(&self) {
        self.shutdown.notify_one();
    }

    /// From now on the node may stop by itself.
    pub(super) fn let_stop(&self) {
        self.may_stop.set(true);
        self.stopped.take();
    }

    /// Why it did.
    pub(super) fn stopped(&self) -> Option<String> {
        self.stopped.borrow().clone()
    }

    pub(super) fn trust(&self, root: VendorRoot) {
        self.vendor_roots.borrow_mut().push(root);
    }

    pub(super) fn id(&self) -> u64 {
        self.id
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn platter(&self) -> &Platter {
        &self.platter
    }

    pub(super) fn lose_power(&self, survives: Survives) {
        self.up.set(false);
        self.window().take();
        self.platter.crash(survives);
    }

    pub(super) fn power_on(&self) {
        self.up.set(true);
    }

    /// Whether it has power; the node on it may have stopped by itself.
    pub(super) fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Why the node stopped by itself, told once.
    pub(super) fn take_stopped(&self) -> Option<String> {
        let why = self.stopped.take()?;
        self.window().take();
        Some(why)
    }

    /// From now on its disk is, or is not, to blame if the node stops.
    pub(super) fn excuse(&self, excused: bool) {
        self.excused.set(excused);
    }

    pub(super) fn is_excused(&self) -> bool {
        self.excused.get()
    }

    /// A bit of its disk, which is at rest, flips.
    pub(super) fn rot(&self, rng: &mut impl Rng) {
        let keys = self.platter.durable_keys();
        let Some(key) = keys.choose(rng) else { return };
        let good = self.platter.durable(key).unwrap_or_default();
        let mut bad = good.clone();
        let Some(byte) = bad.choose_mut(rng) else { return };
        *byte ^= 1 << rng.random_range(0..8);
        self.platter.exchange(key, &good, &bad);
        self.rotten.replace(Some((key.clone(), good, bad)));
    }

    /// What was written for one place of its disk, which is at rest, lies at another.
    pub(super) fn misdirect(&self, rng: &mut impl Rng) {
        let keys = self.platter.durable_keys();
        let (Some(from), Some(to)) = (keys.choose(rng), keys.choose(rng)) else { return };
        if from == to {
            return;
        }
        let [strange, good] = [from, to].map(|key| self.platter.durable(key).unwrap_or_default());
        self.platter.exchange(to, &good, &strange);
        self.rotten.replace(Some((to.clone(), good, strange)));
    }

    /// It is as it was.
    pub(super) fn unrot(&self) {
        if let Some((key, good, bad)) = self.rotten.take() {
            self.platter.exchange(&key, &bad, &good);
        }
    }

    /// Keeps its own disk while it has an older copy in its place.
    pub(super) fn age(&self, own: Option<Platter>) {
        self.own_disk.replace(own);
    }

    /// Whether it has an older copy of its disk.
    pub(super) fn is_aged(&self) -> bool {
        self.own_disk.borrow().is_some()
    }

    /// It gets its own disk back.
    pub(super) fn rejuvenate(&self) {
        if let Some(own) = self.own_disk.take() {
            self.platter.restore(&own);
        }
    }

    pub(super) fn restart_at(&self) -> Option<Duration> {
        self.restart_at.get()
    }

    pub(super) fn set_restart_at(&self, at: Option<Duration>) {
        self.restart_at.set(at);
    }

    pub(super) fn clock(&self) -> &HostClock {
        &self.clock
    }

    pub(super) fn traps(&self) -> &Traps {
        &self.traps
    }

    /// How often a node was started here.
    pub(super) fn starts(&self) -> u64 {
        self.starts.get()
    }

    /// The window on the node that runs.
    pub(super) fn window(&self) -> std::sync::MutexGuard<'_, Option<Window>> {
        self.window.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The node, from its start to its crash.
    pub(super) async fn run(&self) -> Ending {
        let next = || self.starts.replace(self.starts.get() + 1);
        let start = self.goes_on.unwrap_or_else(next);
        // Each start draws from streams of its own, as an operating system gives it.
        let number = self.id << 32 | start;
        let secrets: Arc<dyn Entropy> = Arc::new(Secrets::new(self.seed.stream("secrets", number)));
        let mut boot = [0; 16];
        secrets.fill(&mut boot);
        let identity = Identity::node(self.id)?;
        let world = node::node::World {
            clock: Arc::new(self.clock.clone()),
            entropy: secrets,
            boot,
            disk: self.traps.guard(self.platter.open()),
            container: Container::decode(&self.container)?,
            enrolled: Arc::new(Chain(self.chain.clone())),
            dial: Arc::new(PeerDial(identity, self.addresses.clone())),
            clients: Listener::bind(CLIENT_PORT).await?,
            peers: Listener::bind(PEER_PORT).await?,
            health: Listener::plain(HEALTH_PORT).await?,
            metrics: Arc::new(Metrics::new("memory")),
            certificates: Certificates::none(),
            onlooker: {
                let seen = self.window.clone();
                Box::new(move |window| {
                    *seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(window);
                })
            },
        };
        let jitter = self.seed.stream("jitter", number).next_u64();
        let shutdown = self.shutdown.clone();
        let node = node::node::run(self.setup(), world, async move { shutdown.notified().await });
        match seeded(jitter, node).await {
            Err(why) if self.may_stop.get() => {
                self.stopped.replace(Some(why.to_string()));
                Ok(())
            }
            ended => Ok(ended?),
        }
    }

    fn setup(&self) -> Setup {
        let member = |id: u64| {
            let at = |port| format!("node-{id}:{port}");
            (NodeId(id), Endpoints { peer: at(PEER_PORT), client: at(CLIENT_PORT) })
        };
        Setup {
            data: None,
            proxies: Vec::new(),
            id: NodeId(self.id),
            members: self.members.map(member).to_vec(),
            ca: authority().ca().clone(),
            vendor_roots: self.vendor_roots.borrow().clone(),
            limits: limits(),
            snapshots: self.snapshots,
            engine: "memory",
        }
    }
}

/// Wide enough that no story meets them by accident.
fn limits() -> Limits {
    Limits {
        connections: 4_096,
        connections_per_address: 4_096,
        streams_per_connection: 256,
        in_flight: 4_096,
        request_bytes: 1 << 20,
        header_bytes: 16 << 10,
        handshake: Duration::from_secs(5),
        header: Duration::from_secs(5),
        drain: Duration::from_secs(5),
        health_connections: 64,
    }
}
