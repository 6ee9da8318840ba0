//! All is healed, the applications go on, and one thing breaks and stays so:
//! what two nodes are then still good for is measured (L2, L3, L8, L9).

use std::collections::BTreeMap;
use std::time::Duration;

use node::store::mem::Survives;
use tokio::time::sleep;

use super::swarm::Aftermath;
use super::{FLOORS, World, floor_name};
use crate::history::{AttemptId, Op, What};
use crate::laws::Endured;

/// How long health is measured, and then the lack of it.
const HEALTHY: Duration = Duration::from_secs(4);
const BROKEN: Duration = Duration::from_secs(10);
/// How long no client reaches anybody.
const AWAY: Duration = Duration::from_secs(15);
/// Elections, and clients that look for another door.
const GRACE: Duration = Duration::from_secs(2);
/// Calls of which the 99th of 100 says something.
const TELLING: usize = 100;

/// The calls answered in some stretch of time.
struct Answered {
    /// When each was decided: those that have a place in the log.
    decided: Vec<Duration>,
    /// What each took that was not to wait in a queue.
    took: Vec<Duration>,
}

impl Answered {
    fn p99(&mut self) -> Option<Duration> {
        self.took.sort_unstable();
        let place = self.took.len() * 99 / 100;
        (self.took.len() >= TELLING).then(|| self.took.get(place).copied()).flatten()
    }
}

/// Breaks it, and measures.
pub(super) async fn endure(world: &World, what: Aftermath) -> Endured {
    let begun = world.inner.now.get();
    sleep(HEALTHY).await;
    let broken = world.inner.now.get();
    let mut healthy = answered(world, begun, broken);
    world.note(format_args!("{what:?} from now on"));
    let nodes = world.nodes();
    let leader = world.leading().unwrap_or(nodes[0]);
    let follower = nodes.into_iter().find(|node| *node != leader).unwrap_or(nodes[1]);
    let name = |node: u64| format!("node-{node}");
    let mut counted_from = broken;
    match what {
        Aftermath::LeaderDead => world.crash(leader, Survives::Nothing).await,
        Aftermath::FollowerDead => world.crash(follower, Survives::Nothing).await,
        Aftermath::FollowerSlow => world.set_sync_time(follower, Duration::from_millis(800)),
        Aftermath::FollowerDeaf => world.cut(&name(leader), &name(follower)),
        Aftermath::FollowerFlaps => {
            for _ in 0..BROKEN.as_secs() / 2 {
                world.crash_if_up(follower, Survives::Nothing).await;
                sleep(Duration::from_secs(1)).await;
                world.restart_if_down(follower).await;
                sleep(Duration::from_secs(1)).await;
            }
        }
        Aftermath::AllComeBack => {
            let doors = || nodes.map(name).into_iter().chain(world.balancer_names());
            let lines: Vec<_> = (1..=FLOORS)
                .map(floor_name)
                .flat_map(|floor| doors().map(move |door| (floor.clone(), door)))
                .collect();
            for (floor, door) in &lines {
                world.cut(floor, door);
                world.cut(door, floor);
            }
            sleep(AWAY).await;
            for (floor, door) in &lines {
                world.mend(floor, door);
                world.mend(door, floor);
            }
            counted_from = world.inner.now.get();
        }
    }
    if what != Aftermath::FollowerFlaps {
        sleep(BROKEN).await;
    }
    let ended = world.inner.now.get();
    let after = answered(world, counted_from, ended);
    let is_away = what == Aftermath::AllComeBack;
    let of_follower = matches!(what, Aftermath::FollowerDead | Aftermath::FollowerSlow);
    let mut settled = answered(world, counted_from + GRACE, ended);
    let rate = healthy.decided.len() as f64 / HEALTHY.as_secs_f64();
    Endured {
        what,
        silence: if is_away {
            Duration::ZERO
        } else {
            silence(&settled.decided, counted_from + GRACE, ended)
        },
        failover: (what == Aftermath::LeaderDead)
            .then(|| after.decided.first().map_or(ended - broken, |first| *first - broken)),
        reconnected: is_away.then(|| {
            let at_rate = |at: &&Duration| {
                let until = **at + Duration::from_secs(1);
                let within = after.decided.iter().filter(|other| (**at..until).contains(*other));
                within.count() as f64 >= rate / 2.0
            };
            after.decided.iter().find(at_rate).map_or(BROKEN * 2, |at| *at - counted_from)
        }),
        p99_before: of_follower.then(|| healthy.p99()).flatten(),
        p99: of_follower.then(|| settled.p99()).flatten(),
    }
}

/// The calls answered from `from` on and before `to`, as the applications saw it.
fn answered(world: &World, from: Duration, to: Duration) -> Answered {
    let mut open: BTreeMap<AttemptId, (Duration, bool)> = BTreeMap::new();
    let mut answered = Answered { decided: Vec::new(), took: Vec::new() };
    for event in world.inner.history.events() {
        let at = Duration::from_micros(event.at_us);
        match event.what {
            What::Invoke { attempt, op, .. } => {
                let waits = matches!(op, Op::Acquire { wait_until_ms: 1.., .. });
                open.insert(attempt, (at, waits));
            }
            What::Answer { attempt, answer } => {
                let Some((sent, waits)) = open.remove(&attempt) else { continue };
                if sent < from || at >= to {
                    continue;
                }
                if answer.place().is_some() {
                    answered.decided.push(at);
                }
                if !waits {
                    answered.took.push(at - sent);
                }
            }
            What::Note { .. } => {}
        }
    }
    answered
}

/// The longest time without a decision.
fn silence(decided: &[Duration], from: Duration, to: Duration) -> Duration {
    let moments = [from].into_iter().chain(decided.iter().copied()).chain([to]);
    let moments: Vec<Duration> = moments.collect();
    moments.windows(2).map(|pair| pair[1].saturating_sub(pair[0])).max().unwrap_or_default()
}
