//! Randomness, handed in: request ids and jitter come from one seed.

use std::sync::{Mutex, PoisonError};

use rand::rngs::{StdRng, SysRng};
use rand::{Rng, SeedableRng};

/// Where request ids and jitter come from.
///
/// Whoever can guess a request id may release its seat, if it is also its
/// subject: outside a simulator use [`Seeded::from_system`].
pub trait Random: Send + Sync + 'static {
    /// The next 64 random bits.
    fn bits(&self) -> u64;
}

/// A cryptographic generator run from one seed.
#[derive(Debug)]
pub struct Seeded(Mutex<StdRng>);

impl Seeded {
    /// Seeded by the operating system.
    ///
    /// # Errors
    /// The system has no randomness to give.
    pub fn from_system() -> std::io::Result<Self> {
        StdRng::try_from_rng(&mut SysRng)
            .map(|generator| Self(Mutex::new(generator)))
            .map_err(std::io::Error::other)
    }

    /// The same sequence for the same seed. For tests and simulators only.
    pub fn from_seed(seed: u64) -> Self {
        Self(Mutex::new(StdRng::seed_from_u64(seed)))
    }
}

impl Random for Seeded {
    fn bits(&self) -> u64 {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next_u64()
    }
}
