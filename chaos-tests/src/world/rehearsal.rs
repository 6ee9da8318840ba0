//! A story with a little of everything, drawn from the seed.
//!
//! Applications take, wait for, release and abandon seats while nodes crash,
//! come back and are cut off. Then all is healed, and must be well (L1, L7);
//! what the applications were told is held to the laws.

use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand::rngs::StdRng;
use rand::{Rng as _, RngExt as _, SeedableRng as _};
use tokio::time::sleep;
use trine_client::{AcquireError, Reason};

use super::{Ending, NODES, PRODUCT, Played, Survives, World, play};
use crate::workload::{TTL_MAX, Workload};

/// Seats sold.
const SEATS: usize = 4;
/// Clients, with two applications each that want one.
const CLIENTS: u32 = 3;
/// Things that go wrong.
const FAULTS: u32 = 4;

/// Whether a sync does what it says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Syncs {
    /// It does.
    Hold,
    /// It does nothing: what the rehearsal then finds is what it is for.
    Lie,
}

/// Plays the story of one seed.
///
/// # Panics
/// When the cluster does not come out of it as it should, or broke a law.
pub fn rehearse(seed: u64, syncs: Syncs) -> Played {
    play(seed, async move |world| {
        if syncs == Syncs::Lie {
            NODES.into_iter().for_each(|node| world.set_syncs_lie(node));
        }
        story(world).await
    })
}

async fn story(world: World) -> Ending {
    world.serve_license(SEATS as u32).await;
    let clients: Vec<_> =
        (0..CLIENTS).map(|number| world.application(&format!("line-{number}"))).collect();
    let mut rng = world.inner.seed.stream("rehearsal", 0);
    let workload = Workload::start(&clients, 2, &mut StdRng::seed_from_u64(rng.next_u64()));
    for _ in 0..FAULTS {
        sleep(between(&mut rng, 200, 1_500)).await;
        go_wrong(&world, &mut rng).await;
        for node in NODES {
            world.state(node).await;
        }
    }
    workload.finish().await;
    for client in &clients {
        client.settle(Duration::from_secs(60)).await;
    }
    world.until_same().await;
    // By now what vanished applications held has expired, or does so in a moment.
    sleep(TTL_MAX + TTL_MAX / 10).await;
    fill(&world).await
}

/// One fault, and its end.
async fn go_wrong(world: &World, rng: &mut ChaCha20Rng) {
    let node = NODES[rng.random_range(0..NODES.len())];
    let node = if rng.random_bool(0.5) { world.leader().await } else { node };
    let lasts = between(rng, 100, 3_000);
    if rng.random_bool(0.3) {
        world.note(format_args!("node-{node} is cut off"));
        world.isolate(node);
        sleep(lasts).await;
        world.rejoin(node);
        return;
    }
    let survives = match rng.random_range(0..3) {
        0 => Survives::Nothing,
        1 => Survives::Changes(rng.random_range(0..4)),
        _ => Survives::Everything,
    };
    world.crash(node, survives).await;
    sleep(lasts).await;
    world.restart(node).await;
}

/// Exactly the seats that were sold come out (L7).
async fn fill(world: &World) -> Ending {
    let client = world.application("filler");
    let mut seats = Vec::new();
    loop {
        match client.acquire(PRODUCT).send().await {
            Ok(seat) => seats.push(seat),
            Err(AcquireError::Refused(failure)) if failure.reason == Reason::NoSeatFree => break,
            Err(error) => return Err(error.into()),
        }
    }
    assert_eq!(seats.len(), SEATS, "seats came out");
    for seat in seats {
        seat.release().await?;
    }
    world.until_same().await;
    Ok(())
}

fn between(rng: &mut ChaCha20Rng, least: u64, most: u64) -> Duration {
    Duration::from_millis(rng.random_range(least..=most))
}
