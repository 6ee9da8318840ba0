//! A story with a little of everything, drawn from the seed.
//!
//! Applications take, wait for, release and abandon seats while nodes crash,
//! come back and are cut off. Then all is healed, and must be well (L1, L7).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use rand::RngExt as _;
use tokio::time::sleep;
use trine_client::{AcquireError, Client, Reason};

use super::{Ending, NODES, PRODUCT, Played, Survives, World, play};

/// Seats sold.
const SEATS: usize = 3;
/// Applications that want one.
const APPLICATIONS: u64 = 6;
/// Things that go wrong.
const FAULTS: u32 = 4;
/// How long a seat outlives an application that dies.
const TTL: Duration = Duration::from_secs(3);

/// Plays the story of one seed.
///
/// # Panics
/// When the cluster does not come out of it as it should.
pub fn rehearse(seed: u64) -> Played {
    play(seed, story)
}

async fn story(world: World) -> Ending {
    world.serve_license(SEATS as u32).await;
    let stop = Arc::new(AtomicBool::new(false));
    let applications: Vec<_> = (0..APPLICATIONS)
        .map(|number| {
            let client = world.application(&format!("line-{number}"));
            let rng = world.inner.seed.stream("application", number);
            tokio::spawn(use_seats(client, rng, stop.clone()))
        })
        .collect();
    let mut rng = world.inner.seed.stream("faults", 0);
    for _ in 0..FAULTS {
        sleep(between(&mut rng, 200, 1_500)).await;
        go_wrong(&world, &mut rng).await;
        for node in NODES {
            world.state(node).await;
        }
    }
    stop.store(true, Ordering::Relaxed);
    for application in applications {
        application.await?;
    }
    world.until_same().await;
    fill(&world).await
}

/// Takes one seat after another until told to stop.
async fn use_seats(client: Client, mut rng: ChaCha20Rng, stop: Arc<AtomicBool>) {
    while !stop.load(Ordering::Relaxed) {
        let wait = between(&mut rng, 0, 2_000);
        let Ok(seat) = client.acquire(PRODUCT).ttl(TTL).wait(wait).send().await else {
            sleep(between(&mut rng, 10, 200)).await;
            continue;
        };
        sleep(between(&mut rng, 0, 2_000)).await;
        if rng.random_bool(0.2) {
            // Dies: nobody renews or releases.
            let _ = seat.detach();
        } else {
            // Not known whether it came through, it is left to its TTL.
            let _ = seat.release().await;
        }
    }
    client.settle(Duration::from_secs(60)).await;
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
    // By now what dead applications held has expired, or does so in a moment.
    sleep(TTL + TTL / 2).await;
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
