//! Packages that no honest vendor issues, for tests of what becomes of them.
//!
//! The vendor's signature over them holds, so it is for the nodes to find out
//! what is wrong. Behind the feature `testing`, which no product is built with.

use crate::frost;
use crate::package::Package;
use crate::product::NodeId;
use crate::rand_core::CryptoRng;
use crate::request::ClusterRequest;
use crate::share::SealedShare;
use crate::terms::Terms;
use crate::vendor::{Vendor, split_and_seal};

/// What is sealed to a container in place of its share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Spoiled {
    /// 32 random bytes.
    RandomBytes,
    /// The share that the same signer has of another license.
    OfAnotherLicense,
}

/// Issues a license in which the shares of these nodes are spoiled.
///
/// # Panics
/// When a node is not in the request, or the randomness is degenerate.
pub fn issue_spoiled<R: CryptoRng>(
    vendor: &Vendor,
    request: &ClusterRequest,
    terms: &Terms,
    spoiled: &[(NodeId, Spoiled)],
    rng: &mut R,
) -> Package {
    let mut statement = split_and_seal(request, terms.clone(), rng).expect("good randomness");
    for (node, how) in spoiled {
        let signer = request.requests().iter().position(|asking| asking.node() == *node);
        let signer = signer.expect("a node of the request");
        let mut secret = [0; 32];
        match how {
            Spoiled::RandomBytes => rng.fill_bytes(&mut secret),
            Spoiled::OfAnotherLicense => {
                secret = *frost::split(rng).expect("good randomness").shares[signer];
            }
        }
        let share = &mut statement.shares[signer];
        *share = SealedShare::seal(terms, &share.recipient, share.verifying, &secret, rng)
            .expect("good randomness");
    }
    vendor.sign(statement)
}
