//! What goes wrong, one thing after another and sometimes two at once.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use chacha20::ChaCha20Rng;
use license::product::WallTime;
use node::store::Operation;
use node::store::mem::Survives;
use rand::seq::IndexedRandom as _;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::net::BALANCER;
use super::pair::Misplaced;
use super::sometimes::Sometimes;
use super::swarm::{Fault, Options};
use super::traps::{Point, Subject};
use super::{EPOCH, FLOORS, NODES, World, floor_name};
use crate::laws::s20_durability::promised;

/// How long a node stays dead.
const DEAD: std::ops::Range<u64> = 200..6_000;
/// How long a line stays cut: from less than a heartbeat to more than a lease lives.
const CUT: std::ops::Range<u64> = 50..9_000;
/// Faults at once, at most.
const AT_ONCE: usize = 2;

/// How often each fault came.
pub(super) type Counted = Rc<RefCell<BTreeMap<Fault, u64>>>;

/// Lets things go wrong until `until`; what is still wrong then is for [`World::heal`].
pub(super) async fn strike(world: &World, options: &Options, until: Duration, counted: Counted) {
    let mut rng = world.inner.seed.stream("faults", 0);
    let faults: Vec<Fault> = options.faults.iter().copied().collect();
    let mut under_way = JoinSet::new();
    // One that does not end by itself, because the operator in it is not served,
    // must not keep off the healing.
    let one_ends = async |under_way: &mut JoinSet<()>| {
        let left = until.saturating_sub(world.inner.now.get());
        matches!(timeout(left, under_way.join_next()).await, Ok(Some(_)))
    };
    loop {
        let calm = rng.random_range(options.calm_max_ms / 4..=options.calm_max_ms);
        sleep(Duration::from_millis(calm)).await;
        if world.inner.now.get() >= until {
            break;
        }
        while under_way.try_join_next().is_some() {}
        if under_way.len() >= AT_ONCE && !one_ends(&mut under_way).await {
            break;
        }
        let fault = *faults.choose(&mut rng).expect("some");
        // It is found out only if nothing else is wrong (LAWS.md, S21).
        while fault == Fault::OldDisk && one_ends(&mut under_way).await {}
        if world.inner.now.get() >= until {
            break;
        }
        *counted.borrow_mut().entry(fault).or_default() += 1;
        let (world, mut own) = (world.clone(), ChaCha20Rng::seed_from_u64(rng.next_u64()));
        under_way.spawn_local(async move { happen(&world, fault, &mut own).await });
        while fault == Fault::OldDisk && one_ends(&mut under_way).await {}
    }
    under_way.shutdown().await;
}

async fn happen(world: &World, fault: Fault, rng: &mut ChaCha20Rng) {
    let nodes = world.nodes();
    let node = *nodes.choose(rng).expect("three");
    let leader = world.leading().unwrap_or(node);
    // Trouble finds the leader more often than its share.
    let node = if rng.random_bool(0.4) { leader } else { node };
    let others: Vec<u64> = nodes.into_iter().filter(|other| *other != node).collect();
    world.note(format_args!("{fault:?} at node-{node}"));
    let what = format!("{fault:?} at node-{node}");
    world.inner.trace.begin(world.inner.now.get(), "faults", &what);
    strike_with(world, fault, node, leader, &others, rng).await;
    world.inner.trace.end(world.inner.now.get(), "faults", Some(&what));
}

async fn strike_with(
    world: &World,
    fault: Fault,
    node: u64,
    leader: u64,
    others: &[u64],
    rng: &mut ChaCha20Rng,
) {
    let name = |node: u64| format!("node-{node}");
    match fault {
        Fault::Crash => fall(world, &[node], rng).await,
        Fault::CrashLeader => fall(world, &[leader], rng).await,
        Fault::CrashLoop => {
            for _ in 0..rng.random_range(2..6) {
                let survives = survives(rng);
                world.crash_if_up(node, survives).await;
                pause(rng, 50..800).await;
                world.restart_if_down(node).await;
                pause(rng, 50..1_500).await;
            }
        }
        Fault::CrashTwo => fall(world, others, rng).await,
        Fault::CrashAll => fall(world, &world.nodes(), rng).await,
        Fault::CrashPoint => {
            let mut subject = *Subject::ALL.choose(rng).expect("some");
            let mut point = *Point::ALL.choose(rng).expect("some");
            if rng.random_bool(0.3) {
                // Where most is at stake.
                (subject, point) = (Subject::Entry, Point::BeforeSync);
            }
            world.machine(node).traps().set(subject, point, survives(rng));
            for _ in 0..50 {
                pause(rng, 100..101).await;
                if !world.machine(node).is_up() {
                    break;
                }
            }
            world.machine(node).traps().disarm();
            pause(rng, DEAD).await;
            world.restart_if_down(node).await;
        }
        Fault::VoteLost => {
            let mut others = world.nodes().to_vec();
            others.retain(|other| *other != leader);
            for other in &others {
                let machine = world.machine(*other);
                machine.traps().set(Subject::Vote, Point::BeforeSync, Survives::Nothing);
            }
            world.crash_if_up(leader, survives(rng)).await;
            for _ in 0..30 {
                pause(rng, 100..101).await;
                if others.iter().any(|other| !world.machine(*other).is_up()) {
                    break;
                }
            }
            others.iter().for_each(|other| world.machine(*other).traps().disarm());
            pause(rng, 50..1_500).await;
            for node in world.nodes() {
                world.restart_if_down(node).await;
            }
        }
        Fault::OldDisk => old_disk(world, node, rng).await,
        Fault::Replace => {
            for other in world.nodes() {
                if rng.random_bool(0.5) {
                    continue;
                }
                let point = *Point::ALL.choose(rng).expect("some");
                world.machine(other).traps().set(Subject::Membership, point, survives(rng));
            }
            let nodes_come_back = async {
                loop {
                    pause(rng, 200..3_000).await;
                    for node in world.nodes() {
                        world.restart_if_down(node).await;
                    }
                }
            };
            tokio::select! {
                () = world.replace(node) => {}
                () = nodes_come_back => {}
            }
            NODES
                .into_iter()
                .chain(world.nodes())
                .for_each(|node| world.machine(node).traps().disarm());
        }
        Fault::Rot => {
            let machine = world.machine(node);
            machine.excuse(true);
            world.crash_if_up(node, survives(rng)).await;
            world.rot(node, rng);
            pause(rng, 50..500).await;
            world.restart_if_down(node).await;
            pause(rng, 500..4_000).await;
            world.machine(node).unrot();
            pause(rng, 2_000..2_001).await;
            world.machine(node).excuse(false);
            world.restart_if_down(node).await;
        }
        Fault::ReadError => {
            let machine = world.machine(node);
            machine.excuse(true);
            if rng.random_bool(0.5) {
                machine.platter().fail(Operation::Read, rng.random_range(0..4));
            } else {
                machine.platter().shorten_reads(1);
            }
            // It reads most when it starts.
            world.crash_if_up(node, survives(rng)).await;
            pause(rng, 50..500).await;
            world.restart_if_down(node).await;
            pause(rng, 500..2_000).await;
            world.machine(node).platter().mend();
            pause(rng, 2_000..2_001).await;
            world.machine(node).excuse(false);
        }
        Fault::Suspend => {
            let mut far: Vec<String> = others.iter().map(|other| name(*other)).collect();
            far.extend((1..=FLOORS).map(floor_name));
            far.extend(world.balancer_names());
            let lasts = millis(rng, CUT);
            far.iter().for_each(|other| world.stall(&name(node), other));
            world.machine(node).clock().suspend();
            sleep(lasts).await;
            world.machine(node).clock().resume();
            far.iter().for_each(|other| world.unstall(&name(node), other));
        }
        Fault::ClientsSuspend => {
            let floor = world.floor(rng.random_range(1..=FLOORS));
            let mut far: Vec<String> = world.nodes().map(name).to_vec();
            far.extend(world.balancer_names());
            let lasts = millis(rng, CUT);
            far.iter().for_each(|other| world.stall(&floor.name, other));
            floor.suspend(true);
            floor.clock.suspend();
            sleep(lasts).await;
            floor.clock.resume();
            floor.suspend(false);
            far.iter().for_each(|other| world.unstall(&floor.name, other));
        }
        Fault::ShareLost => {
            let Ok(()) = world.withdraw_share(node).await else { return };
            let other = *others.choose(rng).expect("two");
            world.crash_if_up(other, survives(rng)).await;
            // Longer than a share stays live in silence.
            pause(rng, 4_000..7_000).await;
            world.restart_if_down(other).await;
            pause(rng, 200..2_000).await;
            world.update_license().await;
        }
        Fault::Shrink => {
            let sold = world.inner.sold.get().unwrap_or(1);
            let seats = rng.random_range(1..=sold);
            world.amend_license(|terms| terms.seats = seats).await;
            pause(rng, CUT).await;
            world.update_license().await;
        }
        Fault::LicenseEnds => {
            let lasts = millis(rng, 1_000..6_000);
            let ends = EPOCH * 1_000 + (world.inner.now.get() + lasts).as_millis() as u64;
            world.amend_license(|terms| terms.expiration = Some(WallTime(ends as i64))).await;
            sleep(lasts).await;
            pause(rng, 1_000..6_000).await;
            world.update_license().await;
        }
        Fault::BalancerCrash => {
            let number = rng.random_range(0..2);
            world.kill_balancer(number).await;
            pause(rng, DEAD).await;
            world.revive_balancer(number).await;
        }
        Fault::BalancerCut => {
            let balancer = format!("{BALANCER}{}", rng.random_range(1..=2));
            let mut lines = vec![(name(node), balancer.clone())];
            if rng.random_bool(0.5) {
                lines.push((balancer, name(node)));
            }
            cut(world, lines, rng).await;
        }
        Fault::AddressOnBoth => {
            world.misplace(Some(Misplaced::Both));
            pause(rng, CUT).await;
            world.misplace(None);
        }
        Fault::AddressOnNone => {
            world.misplace(Some(Misplaced::Neither));
            // What was under way is lost.
            let balancers = world.balancer_names();
            let floors = (1..=FLOORS).map(floor_name);
            let lines = floors.flat_map(|floor| {
                let both = |balancer: &String| {
                    [(floor.clone(), balancer.clone()), (balancer.clone(), floor.clone())]
                };
                balancers.iter().flat_map(both).collect::<Vec<_>>()
            });
            cut(world, lines.collect(), rng).await;
            world.misplace(None);
        }
        Fault::AddressFlaps => {
            for _ in 0..rng.random_range(2..8) {
                world.misplace(Some(Misplaced::Other));
                pause(rng, 150..1_000).await;
                world.misplace(None);
                pause(rng, 150..1_000).await;
            }
        }
        Fault::Isolate => {
            let lines = others
                .iter()
                .flat_map(|other| [(name(node), name(*other)), (name(*other), name(node))]);
            cut(world, lines.collect(), rng).await;
        }
        Fault::OneWay => {
            world.saw([Sometimes::OneWayCut]);
            cut(world, vec![(name(node), name(others[0]))], rng).await;
        }
        Fault::Ring => {
            let [one, other, third] = world.nodes();
            let lines = [(one, other), (other, third), (third, one)];
            let lines = lines.map(|(from, to)| (name(from), name(to)));
            cut(world, lines.to_vec(), rng).await;
        }
        Fault::HalfForEver => {
            // Once is enough, and twice would be no quorum for ever.
            if !world.inner.halved.replace(true) {
                world.cut(&name(node), &name(others[0]));
                world.cut(&name(others[0]), &name(node));
            }
        }
        Fault::ClientsCut | Fault::AnswersLost => {
            let floor = floor_name(rng.random_range(1..=FLOORS));
            let mut lines = vec![(name(node), floor.clone())];
            if fault == Fault::ClientsCut {
                lines.push((floor, name(node)));
            }
            cut(world, lines, rng).await;
        }
        Fault::Delay => {
            let slow = Duration::from_millis(rng.random_range(20..1_500));
            for other in others {
                world.set_latency(&name(node), &name(*other), slow).await;
            }
            pause(rng, CUT).await;
            for other in others {
                world.set_latency(&name(node), &name(*other), world.inner.latency_max).await;
            }
        }
        Fault::Stall => {
            others.iter().for_each(|other| world.stall(&name(node), &name(*other)));
            pause(rng, CUT).await;
            others.iter().for_each(|other| world.unstall(&name(node), &name(*other)));
        }
        Fault::ClientsDie => {
            let floor = rng.random_range(1..=FLOORS);
            world.kill_floor(floor).await;
            pause(rng, DEAD).await;
            world.revive_floor(floor).await;
        }
        Fault::BootJump => {
            let by = jump(rng);
            world.note(format_args!("node-{node}'s boot clock jumps by {by} ms"));
            world.machine(node).clock().jump_boot(by);
        }
        Fault::WallJump => {
            let by = jump(rng);
            world.note(format_args!("node-{node}'s wall clock jumps by {by} ms"));
            world.machine(node).clock().jump_wall(by);
        }
        Fault::Drift => {
            let ppm = rng.random_range(-5_000..=5_000);
            world.note(format_args!("node-{node}'s clocks drift by {ppm} ppm"));
            world.machine(node).clock().drift(ppm);
            let floor = rng.random_range(1..=FLOORS);
            world.floor(floor).clock.drift(rng.random_range(-5_000..=5_000));
        }
        Fault::Freeze => {
            world.machine(node).clock().stop(true);
            pause(rng, CUT).await;
            world.machine(node).clock().stop(false);
        }
        Fault::DiskError => {
            let operation = *[Operation::Write, Operation::Sync].choose(rng).expect("some");
            let machine = world.machine(node);
            machine.excuse(true);
            machine.platter().fail(operation, rng.random_range(0..20));
            pause(rng, 1_000..4_000).await;
            world.machine(node).platter().mend();
            pause(rng, 2_000..2_001).await;
            world.machine(node).excuse(false);
        }
        Fault::DiskFull => {
            let machine = world.machine(node);
            machine.excuse(true);
            let used = machine.platter().bytes();
            machine.platter().set_capacity(Some(used + rng.random_range(0..4_000)));
            pause(rng, 1_000..6_000).await;
            world.machine(node).platter().set_capacity(None);
            pause(rng, 2_000..2_001).await;
            world.machine(node).excuse(false);
        }
        Fault::DiskSlow => {
            let time = Duration::from_millis(rng.random_range(2..400));
            world.set_sync_time(node, time);
            pause(rng, CUT).await;
            world.set_sync_time(node, Duration::ZERO);
        }
    }
}

/// A node is put back to an older copy of its disk while all else is well, must
/// stop by itself, and gets its own disk again.
async fn old_disk(world: &World, node: u64, rng: &mut ChaCha20Rng) {
    let all_is_well = || {
        world.leading().is_some()
            && world.nodes().into_iter().all(|node| world.machine(node).is_up())
    };
    if world.inner.halved.get() || !all_is_well() {
        return;
    }
    let machine = world.machine(node);
    let copy = world.copy_disk(node);
    pause(rng, 500..3_000).await;
    // Its peers have noted what it had promised by then.
    let before = promised(machine.platter());
    pause(rng, 1_500..1_501).await;
    if !all_is_well() || !machine.is_up() {
        return;
    }
    let is_behind = promised(&copy) < before;
    world.crash(node, Survives::Everything).await;
    let own = world.copy_disk(node);
    machine.age(Some(own));
    machine.excuse(true);
    machine.platter().restore(&copy);
    world.note(format_args!("node-{node} gets an older disk: {:?}", promised(&copy)));
    world.restart(node).await;
    for _ in 0..60 {
        pause(rng, 100..101).await;
        if !world.machine(node).is_up() {
            break;
        }
    }
    if is_behind && world.machine(node).is_up() {
        world.fail(format!(
            "S21 broken: node-{node} came up on an older disk, with {:?} after {before:?}, and was not refused",
            promised(&copy)
        ));
    }
    world.crash_if_up(node, Survives::Everything).await;
    world.machine(node).rejuvenate();
    world.machine(node).excuse(false);
    pause(rng, 50..1_000).await;
    world.restart_if_down(node).await;
}

/// Cuts the power of these, and gives it back.
async fn fall(world: &World, nodes: &[u64], rng: &mut ChaCha20Rng) {
    for node in nodes {
        let survives = survives(rng);
        world.crash_if_up(*node, survives).await;
    }
    pause(rng, DEAD).await;
    for node in nodes {
        world.restart_if_down(*node).await;
    }
}

async fn cut(world: &World, lines: Vec<(String, String)>, rng: &mut ChaCha20Rng) {
    lines.iter().for_each(|(from, to)| world.cut(from, to));
    pause(rng, CUT).await;
    lines.iter().for_each(|(from, to)| world.mend(from, to));
}

fn survives(rng: &mut ChaCha20Rng) -> Survives {
    match rng.random_range(0..4) {
        0 | 1 => Survives::Nothing,
        2 => Survives::Changes(rng.random_range(0..6)),
        _ => Survives::Everything,
    }
}

/// From a second to ten years, either way.
fn jump(rng: &mut ChaCha20Rng) -> i64 {
    const SECOND: i64 = 1_000;
    const YEARS: i64 = 10 * 365 * 24 * 3_600 * SECOND;
    let by = match rng.random_range(0..3) {
        0 => rng.random_range(SECOND..10 * SECOND),
        1 => rng.random_range(10 * SECOND..86_400 * SECOND),
        _ => rng.random_range(86_400 * SECOND..YEARS),
    };
    if rng.random_bool(0.5) { by } else { -by }
}

async fn pause(rng: &mut ChaCha20Rng, millis: std::ops::Range<u64>) {
    sleep(self::millis(rng, millis)).await;
}

fn millis(rng: &mut ChaCha20Rng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}
