//! Randomness for secrets, handed in: keys, nonces, cluster ids.

use std::convert::Infallible;
use std::sync::Arc;

use rand::{TryCryptoRng, TryRng};

/// Where secrets come from: the operating system, or in the simulator a seed.
///
/// Asked each time and never buffered, so that two copies of one machine do
/// not sign with the same nonce.
pub trait Entropy: Send + Sync + 'static {
    /// Fills `bytes` with unpredictable ones.
    fn fill(&self, bytes: &mut [u8]);
}

/// An [`Entropy`] as the random number generator that cryptography asks for.
pub(crate) struct EntropyRng(pub(crate) Arc<dyn Entropy>);

impl TryRng for EntropyRng {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.0.fill(&mut bytes);
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.0.fill(&mut bytes);
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), Infallible> {
        self.0.fill(bytes);
        Ok(())
    }
}

impl TryCryptoRng for EntropyRng {}
