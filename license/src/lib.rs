//! The license model and its cryptography: what the vendor sold, split three
//! ways for one cluster, and the proofs that two of the three shares agree.
//!
//! Pure: no IO, no clock, no randomness of its own. Whoever needs randomness
//! hands it in as a [`rand_core::CryptoRng`].

#![forbid(unsafe_code)]

pub mod build;
pub mod codec;
pub mod container;
pub mod enrollment;
mod frost;
pub mod hostseal;
pub mod inspect;
pub mod key;
pub mod keyfile;
pub mod package;
pub mod product;
pub mod repair;
pub mod request;
pub mod reset;
mod seal;
pub mod share;
pub mod terms;
#[cfg(feature = "testing")]
pub mod testing;
pub mod traits;
pub mod trust;
pub mod vendor;

#[cfg(test)]
mod tests;

pub use p256::elliptic_curve::rand_core;
