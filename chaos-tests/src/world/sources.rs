//! Time and randomness of a simulated world, all from one seed.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chacha20::ChaCha20Rng;
use node::entropy::Entropy;
use rand::{Rng as _, SeedableRng as _};
use trine_client::random::Seeded;

/// The seed of a world; every source of randomness in it derives from here.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed(u64);

impl Seed {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The seed itself.
    pub(super) fn number(self) -> u64 {
        self.0
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

/// True time. Within a host it is the host's, to the microsecond; between two
/// steps it is when the last one ended.
#[derive(Clone, Default)]
pub(super) struct Now(Arc<AtomicU64>);

impl Now {
    /// Time since the world began.
    pub(super) fn get(&self) -> Duration {
        let stepped = || Duration::from_micros(self.0.load(Ordering::Relaxed));
        turmoil::sim_elapsed().unwrap_or_else(stepped)
    }

    /// A step has ended.
    pub(super) fn stepped(&self, elapsed: Duration) {
        let micros = u64::try_from(elapsed.as_micros()).unwrap_or(u64::MAX);
        self.0.store(micros, Ordering::Relaxed);
    }
}
