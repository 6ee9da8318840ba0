//! Bad weather: a load of clients, one fault after another, then healing, and
//! all laws.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use node::config::Snapshots;
use node::store::mem::Survives;
use serde::Serialize;
use tokio::time::sleep;
use trine_client::AcquireError;

use super::aftermath;
use super::faults::{Counted, strike};
use super::floor::{FLOORS, Floor, floor_name};
use super::inspector::Inspector;
use super::sometimes::Tally;
use super::swarm::{Door, Fault, Options};
use super::{Ending, NODES, Order, PRODUCT, Span, World};
use crate::history::Event;
use crate::laws::s15_time_is_not_ahead::JUMP;
use crate::laws::{Broken, End, Recovery};
use crate::linear::{self, Opinion};
use crate::oracle::Figures;
use crate::workload::{Onlooker, TTL_MAX};

/// What a law gives the cluster to recover, several times over: then it never will.
const PATIENCE: Duration = Duration::from_secs(60);
/// A node that stopped by itself is started again after so long, as systemd does it.
const RESTART_AFTER: Duration = Duration::from_secs(1);

/// A run that has ended.
#[derive(Debug, Serialize)]
pub struct Ended {
    /// What its seed made of it.
    pub options: Options,
    /// What went wrong, by kind.
    pub faults: BTreeMap<Fault, u64>,
    /// What it came to that a set of runs must come to.
    pub sometimes: Tally,
    /// How the cluster came out of it.
    pub recovery: Recovery,
    /// What was in its history.
    pub figures: Figures,
    /// Whether the second check had too many orders to follow.
    pub open: bool,
    /// Simulated seconds.
    pub seconds: f64,
    /// What failed; nothing if it passed.
    pub broken: Vec<Broken>,
    /// Digest of all that could be observed.
    pub digest: String,
    /// What the clients did and heard.
    #[serde(skip)]
    pub history: Vec<Event>,
    /// What was done to the world, and its calls and answers if that was asked for.
    #[serde(skip)]
    pub trace: Vec<String>,
    /// What lasted, for the timeline.
    #[serde(skip)]
    pub spans: Vec<Span>,
    /// What the nodes logged.
    #[serde(skip)]
    pub journal: Vec<String>,
}

/// Plays the weather that `options` describe. `traced`: with every call in the trace.
pub fn brave(options: Options, traced: bool) -> Ended {
    let latency_max = Duration::from_millis(options.latency_max_ms);
    let snapshots = Snapshots { every: options.snapshot_interval, log_kept: options.entries_kept };
    let world = World::new(options.seed, snapshots, latency_max, traced);
    let _kept = world.inner.journal.keep();
    world.inner.inspector.replace(Some(Inspector::default()));
    let counted = Counted::default();
    let recovery = Rc::new(RefCell::new(Recovery::default()));
    let ended = {
        let (options, counted, recovery) = (options.clone(), counted.clone(), recovery.clone());
        world.run(async move |world| story(world, options, counted, recovery).await)
    };
    let recovery = recovery.take();
    let verdict = world.verdict(options.seats);
    let counts = world.counts(options.seats);
    let mut broken: Vec<Broken> = Vec::new();
    let mut sometimes = Tally::new();
    let mut open = false;
    if let Some(inspector) = &mut *world.inner.inspector.borrow_mut() {
        sometimes = std::mem::take(&mut inspector.watcher.tally);
        for (at, leader) in &inspector.watcher.led {
            world.inner.trace.end(*at, "leads", None);
            if let Some(leader) = leader {
                world.inner.trace.begin(*at, "leads", format_args!("node-{leader}"));
            }
        }
        let named = inspector.broken.take();
        broken.extend(ended.err().map(|how| named.unwrap_or(Broken { law: "run", how })));
        let history = world.inner.history.events();
        let (most, least) = counts.bounds();
        let jumped = JUMP * u32::try_from(world.jumps()).unwrap_or(u32::MAX);
        let jumped_us = u64::try_from(jumped.as_micros()).unwrap_or(u64::MAX);
        let opinion = linear::search(&history, least..=most, jumped_us);
        let end = End {
            verdict: &verdict,
            recovery: &recovery,
            opinion: &opinion,
            history: &history,
            seats: options.seats,
        };
        open = matches!(opinion, Opinion::Open { .. });
        // A run that broke off has no end to judge, but what was told counts.
        let found = inspector.laws.end(&end);
        let whole = broken.is_empty();
        broken.extend(found.into_iter().filter(|found| whole || !found.law.starts_with('L')));
    }
    let history = world.inner.history.events();
    let trace = world.inner.trace.lines();
    Ended {
        faults: counted.take(),
        sometimes,
        recovery,
        figures: verdict.figures,
        open,
        seconds: world.inner.now.get().as_secs_f64(),
        broken,
        digest: digest(&history, &trace),
        history,
        trace,
        spans: world.inner.trace.spans(),
        journal: world.inner.journal.lines(),
        options,
    }
}

fn digest(history: &[Event], trace: &[String]) -> String {
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for line in trace {
        hash.update(line.as_bytes());
    }
    for event in history {
        hash.update(serde_json::to_string(event).unwrap_or_default().as_bytes());
    }
    format!("{:032x}", hash.digest128())
}

async fn story(
    world: World,
    options: Options,
    counted: Counted,
    recovery: Rc<RefCell<Recovery>>,
) -> Ending {
    if options.syncs_lie {
        NODES.into_iter().for_each(|node| world.set_syncs_lie(node));
    }
    world.inner.supervised.set(true);
    world.machines().iter().for_each(|machine| machine.let_stop());
    world.serve_license(options.seats).await;
    if options.door != Door::Nodes {
        world.open_doors().await;
    }
    for number in 1..=FLOORS {
        let floor = Rc::new(Floor::new(&world, number, &options));
        world.inner.floors.borrow_mut().push(floor.clone());
        world.order(Order::Open(floor, world.clone())).await;
    }
    strike(&world, &options, options.faults_until(), counted.clone()).await;
    if options.quiet_end {
        world.heal().await;
        applications_end(&world).await?;
        let counted_last = Fault::CrashAll;
        *counted.borrow_mut().entry(counted_last).or_default() += 1;
        for node in world.nodes() {
            world.crash_if_up(node, Survives::Nothing).await;
        }
        sleep(Duration::from_secs(2)).await;
    }
    world.heal().await;
    recover(&world, &recovery).await;
    if let Some(aftermath) = options.aftermath.filter(|_| !options.quiet_end) {
        let endured = aftermath::endure(&world, aftermath).await;
        recovery.borrow_mut().endured = Some(endured);
        world.heal().await;
    }
    applications_end(&world).await?;
    all_comes_back(&world, &recovery).await;
    fill(&world, &recovery, options.seats).await;
    world.until_same().await;
    let now = world.inner.now.get();
    sleep(Duration::from_secs(options.seconds).saturating_sub(now)).await;
    Ok(())
}

/// One leader and three equal ledgers (L1), and an answered read (L4).
async fn recover(world: &World, recovery: &RefCell<Recovery>) {
    let healed = world.inner.now.get();
    let operator = world.operator().operator();
    let reading = async {
        while world.inner.now.get() < healed + PATIENCE {
            if operator.seats(Some(PRODUCT)).await.is_ok() {
                return Some(world.inner.now.get() - healed);
            }
        }
        None
    };
    let same = async {
        while world.inner.now.get() < healed + PATIENCE {
            if world.is_one() {
                return Some(world.inner.now.get() - healed);
            }
            sleep(Duration::from_millis(1)).await;
        }
        None
    };
    let (read_after, same_after) = tokio::join!(reading, same);
    let mut recovery = recovery.borrow_mut();
    (recovery.read_after, recovery.same_after) = (read_after, same_after);
}

async fn applications_end(world: &World) -> Ending {
    let floors = world.inner.floors.borrow().clone();
    floors.iter().for_each(|floor| floor.stop());
    let begun = world.inner.now.get();
    while !floors.iter().all(|floor| floor.has_ended()) {
        if world.inner.now.get() > begun + 3 * PATIENCE {
            return Err("the applications do not end".into());
        }
        sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// Every seat is back when its lease had its time (L5).
async fn all_comes_back(world: &World, recovery: &RefCell<Recovery>) {
    let begun = world.inner.now.get();
    let limit = TTL_MAX + TTL_MAX / 10 + Duration::from_secs(1);
    loop {
        let seats = list(world).await;
        let waited = world.inner.now.get() - begun;
        if seats.is_empty() || waited > limit {
            recovery.borrow_mut().left_over = seats;
            return;
        }
        sleep(Duration::from_millis(100)).await;
    }
}

/// The seats that are taken, as one linearizable read.
async fn list(world: &World) -> Vec<u64> {
    let onlooker = Onlooker::new(world.operator().operator(), world.inner.history.clone());
    onlooker.look().await.unwrap_or(vec![0])
}

/// As many seats come out as were sold (L7).
async fn fill(world: &World, recovery: &RefCell<Recovery>, seats: u32) {
    let client = world.application("filler");
    let mut taken = Vec::new();
    let next = loop {
        match client.acquire(PRODUCT).ttl(Duration::from_secs(60)).send().await {
            Ok(seat) if taken.len() <= seats as usize => taken.push(seat),
            Ok(_) => break "no end of them".to_owned(),
            Err(AcquireError::Refused(failure)) => break failure.reason.to_string(),
            Err(error) => break error.to_string(),
        }
    };
    recovery.borrow_mut().filled = Some((u32::try_from(taken.len()).unwrap_or(u32::MAX), next));
    for seat in taken {
        let _ = seat.release().await;
    }
}

impl World {
    /// Takes back all that went wrong.
    async fn heal(&self) {
        self.note("all is healed");
        let cuts: Vec<_> = std::mem::take(&mut *self.inner.cuts.borrow_mut()).into_keys().collect();
        for (from, to) in cuts {
            turmoil::repair_oneway(from.as_str(), to.as_str());
        }
        for node in self.nodes() {
            for other in self.nodes().into_iter().filter(|other| *other > node) {
                let (one, other) = (format!("node-{node}"), format!("node-{other}"));
                turmoil::release(one.as_str(), other.as_str());
                self.set_latency(&one, &other, self.inner.latency_max).await;
            }
            let machine = self.machine(node);
            machine.traps().disarm();
            machine.clock().heal();
            machine.unrot();
            machine.platter().mend();
            machine.platter().set_capacity(None);
            machine.platter().set_sync_time(Duration::ZERO);
        }
        for balancer in self.balancer_names() {
            for far in self
                .nodes()
                .map(|node| format!("node-{node}"))
                .into_iter()
                .chain((1..=FLOORS).map(floor_name))
            {
                turmoil::release(balancer.as_str(), far.as_str());
            }
        }
        for floor in self.inner.floors.borrow().iter() {
            floor.clock.heal();
            floor.suspend(false);
            for node in self.nodes() {
                turmoil::release(floor.name.as_str(), format!("node-{node}"));
            }
        }
        self.misplace(None);
        self.revive_balancer(0).await;
        self.revive_balancer(1).await;
        for node in self.nodes().into_iter().filter(|node| self.machine(*node).is_aged()) {
            self.crash_if_up(node, Survives::Everything).await;
            self.machine(node).rejuvenate();
        }
        for number in 1..=FLOORS {
            self.revive_floor(number).await;
        }
        for node in self.nodes() {
            self.restart_if_down(node).await;
        }
        // One that stopped over its disk is started again in a moment.
        while self.machines().iter().any(|machine| machine.restart_at().is_some()) {
            sleep(Duration::from_millis(10)).await;
        }
        self.machines().iter().for_each(|machine| machine.excuse(false));
        self.finish_replacement().await;
        self.until_replaced_is_gone().await;
        if self.inner.amended.get() {
            self.update_license().await;
        }
    }

    /// Starts again what stopped over its disk; anything else that stops has failed the run.
    pub(super) fn supervise(&self, sim: &mut turmoil::Sim<'_>) -> Result<(), String> {
        let now = self.inner.now.get();
        for machine in &self.machines() {
            if let Some(why) = machine.take_stopped() {
                // Two faults of one disk may overlap, and the first to end takes its excuse along.
                let says_so = ["(EIO)", "(ENOSPC)"].iter().any(|error| why.contains(error));
                if !machine.is_excused() && !says_so {
                    return Err(format!("{} stopped by itself: {why}", machine.name()));
                }
                self.note(format_args!("{} stopped by itself: {why}", machine.name()));
                // What it had written and not synced may be gone with the error.
                machine.lose_power(Survives::Nothing);
                self.inner.trace.begin(now, machine.name(), "stopped by itself");
                machine.set_restart_at(Some(now + RESTART_AFTER));
            }
            if machine.restart_at().is_some_and(|due| due <= now) {
                machine.set_restart_at(None);
                if !machine.is_up() {
                    machine.power_on();
                    self.inner.trace.end(now, machine.name(), None);
                    sim.bounce(machine.name());
                }
            }
        }
        Ok(())
    }

    /// Whether one leads and all three have the same ledger at the end of the same log.
    fn is_one(&self) -> bool {
        let mut seen = None;
        let mut leaders = 0;
        for machine in &self.machines() {
            let window = machine.window();
            let Some(window) = window.as_ref() else { return false };
            let standing = window.standing();
            leaders += u32::from(standing.leads);
            let state = (standing.last_log, window.applied(), window.look(|ledger| ledger.hash()));
            if *seen.get_or_insert(state) != state {
                return false;
            }
        }
        leaders == 1
    }
}
