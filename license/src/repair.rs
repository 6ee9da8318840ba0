//! A lost share made again by the two others (the repairable threshold scheme
//! of Laing and Stinson, <https://eprint.iacr.org/2017/1155>).
//!
//! Each of the two splits its contribution in two random halves, keeps one and
//! hands the other to its partner; each sends the sum of what it then has to
//! the new holder, who adds the two sums up. What comes out is the very share
//! that was lost: the same place in the split, fixed by the license's public
//! commitments, which the new holder checks. Neither partner learns it, and the
//! new holder learns neither of theirs.

use std::fmt;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::container::{Container, ContainerSerial};
use crate::frost::{self, Secret};
use crate::key::PublicKey;
use crate::package::License;
use crate::rand_core::CryptoRng;
use crate::share::{SealedShare, Share, ShareRefusal};

/// A share that was made again, sealed to its new holder's container.
///
/// Nothing until [`License::reseat`] finds its place.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RepairedShare(pub(crate) SealedShare);

impl RepairedShare {
    /// The key it is sealed to.
    pub fn recipient(&self) -> &PublicKey {
        &self.0.recipient
    }

    /// The container that it says it is in.
    pub fn container(&self) -> ContainerSerial {
        self.0.container
    }
}

/// One helper's half for the other, or for itself: a secret, erased when dropped.
///
/// Both halves of one helper together are as good as its share to whoever is
/// being helped, so they never travel the same way.
pub struct Half(Secret);

/// The sum of two halves, for the new holder: a secret, erased when dropped.
pub struct Contribution(Secret);

macro_rules! travels_as_bytes {
    ($secret:ident) => {
        impl $secret {
            /// As it travels, over a connection that hides it.
            pub fn to_bytes(&self) -> Zeroizing<[u8; 32]> {
                self.0.clone()
            }

            /// As it arrived.
            pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
                Some(Self(Zeroizing::new(bytes.try_into().ok()?)))
            }
        }

        impl fmt::Debug for $secret {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($secret), "(..)"))
            }
        }
    };
}

travels_as_bytes!(Half);
travels_as_bytes!(Contribution);

/// Why a share was not made again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RepairError {
    /// The containers are not three different ones of the license.
    #[error(
        "two other shares of this license make a lost one again, and {container} is not another"
    )]
    NotAnother {
        /// Whose share does not fit.
        container: ContainerSerial,
    },
    /// Zero or above the order of the curve.
    #[error("a part of the share does not decode: begin again")]
    Malformed,
    /// The sum is not the share that the license commits to.
    #[error(
        "the parts do not add up to the lost share: one of the two nodes has a damaged share; ask the vendor for a new package"
    )]
    DoesNotAddUp,
    /// The parts add up, and still nothing comes of it.
    #[error(transparent)]
    Share(#[from] ShareRefusal),
}

impl Share {
    /// Splits what this share contributes to the `lost` one into two halves:
    /// the one to keep, and the one for the share of `partner`.
    ///
    /// Fresh halves every time: use each pair for one repair.
    ///
    /// # Errors
    /// When the three are not different shares of this license.
    pub fn halve<R: CryptoRng>(
        &self,
        license: &License,
        partner: ContainerSerial,
        lost: ContainerSerial,
        rng: &mut R,
    ) -> Result<(Half, Half), RepairError> {
        let place = |container| {
            let signer = license.signer(container);
            signer.filter(|_| container != self.container())
        };
        let other = |container| place(container).ok_or(RepairError::NotAnother { container });
        let (partner_place, lost_place) = (other(partner)?, other(lost)?);
        if partner_place == lost_place {
            return Err(RepairError::NotAnother { container: lost });
        }
        let (ours, theirs) = frost::halves(self.key(), partner_place, lost_place, rng)
            .ok_or(RepairError::Malformed)?;
        Ok((Half(ours), Half(theirs)))
    }
}

/// What one helper sends to the new holder: the half it kept and the half it got.
///
/// # Errors
/// [`RepairError::Malformed`].
pub fn contribute(kept: Half, received: &Half) -> Result<Contribution, RepairError> {
    frost::sum(&kept.0, &received.0).map(Contribution).ok_or(RepairError::Malformed)
}

/// The new holder's part: adds up, checks against the license's commitments,
/// and seals what came out to its own container.
///
/// Gives the license with the share in its place, and the share as it is kept.
///
/// # Errors
/// [`RepairError`], naming what does not fit.
pub fn restore<R: CryptoRng>(
    license: &License,
    lost: ContainerSerial,
    contributions: &[Contribution; 2],
    container: &Container,
    rng: &mut R,
) -> Result<(License, RepairedShare), RepairError> {
    let signer = license.signer(lost).ok_or(RepairError::NotAnother { container: lost })?;
    let verifying = license.verifying()[signer];
    let [first, second] = contributions;
    let secret = frost::sum(&first.0, &second.0).ok_or(RepairError::Malformed)?;
    frost::key_package(signer, &secret, &verifying, license.group())
        .ok_or(RepairError::DoesNotAddUp)?;
    let identity = container.identity();
    let sealed = SealedShare::seal(license.terms(), identity.key(), verifying, &secret, rng)
        .ok_or(RepairError::Malformed)?;
    let repaired = RepairedShare(sealed);
    let (license, _) = license
        .reseat(&repaired)
        .ok_or(RepairError::NotAnother { container: identity.serial() })?;
    // It must open from what the others will keep.
    Share::open(&license, container)?;
    Ok((license, repaired))
}
