//! Time and randomness of a simulated world, all from one seed.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use license::product::WallTime;
use node::clock::Clock;
use node::entropy::Entropy;
use rand::{Rng as _, SeedableRng as _};
use trine_client::clock::Moment;
use trine_client::random::Seeded;

/// The seed of a world; every source of randomness in it derives from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The stream called `name`, number `number`.
    pub(super) fn stream(&self, name: &str, number: u64) -> ChaCha20Rng {
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&self.0.to_le_bytes());
        seed[8..16].copy_from_slice(&number.to_le_bytes());
        for (byte, letter) in seed[16..].iter_mut().zip(name.bytes()) {
            *byte = letter;
        }
        ChaCha20Rng::from_seed(seed)
    }

    /// Jitter and request ids of one client.
    pub(super) fn random(&self, name: &str, number: u64) -> Seeded {
        Seeded::from_seed(self.stream(name, number).next_u64())
    }
}

/// The secrets of one node.
pub(super) struct Secrets(Mutex<ChaCha20Rng>);

impl Secrets {
    pub(super) fn new(stream: ChaCha20Rng) -> Self {
        Self(Mutex::new(stream))
    }
}

impl Entropy for Secrets {
    fn fill(&self, bytes: &mut [u8]) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// The clock of one node: simulated time, begun at another moment on each.
pub(super) struct NodeClock {
    /// How long the machine was up when the world began.
    pub(super) up: Duration,
}

impl Clock for NodeClock {
    fn boot(&self) -> Duration {
        self.up + turmoil::sim_elapsed().unwrap_or_default()
    }

    fn wall(&self) -> WallTime {
        let since_1970 = turmoil::since_epoch().unwrap_or_default();
        WallTime(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}

/// The clients' clock.
pub(super) struct SimClock;

impl trine_client::clock::Clock for SimClock {
    fn now(&self) -> Moment {
        Moment(turmoil::sim_elapsed().unwrap_or_default())
    }
}
