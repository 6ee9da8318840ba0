//! One node's share of a license: two of three make one signature.
//!
//! A share proves that its node has it, and signs terms together with another
//! share. It signs nothing else, so a peer cannot use it to sign what it likes.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::container::{Container, ContainerSerial};
use crate::frost::{self, AggregateError, KeyPackage, Round, SHARES, SigningNonces, THRESHOLD};
use crate::key::{Bytes, PublicKey};
use crate::package::License;
use crate::product::{ClusterId, Epoch, LicenseId, LicenseSerial, NodeId};
use crate::rand_core::CryptoRng;
use crate::seal::{self, Sealed};
use crate::terms::Terms;

/// A share as the package carries it: sealed to one container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SealedShare {
    /// Whose it is.
    pub(crate) container: ContainerSerial,
    /// The key it is sealed to, which the serial is derived from.
    pub(crate) recipient: PublicKey,
    /// Its public half.
    pub(crate) verifying: PublicKey,
    sealed: Sealed,
}

impl SealedShare {
    /// Seals one share of the license with these terms to `recipient`.
    pub(crate) fn seal<R: CryptoRng>(
        terms: &Terms,
        recipient: &PublicKey,
        verifying: PublicKey,
        secret: &[u8; 32],
        rng: &mut R,
    ) -> Option<Self> {
        let container = ContainerSerial::of(recipient);
        let sealed = seal::seal(recipient, &seal_context(terms, container), secret, rng)?;
        Some(Self { container, recipient: *recipient, verifying, sealed })
    }
}

/// What a sealed share is bound to.
fn seal_context(terms: &Terms, container: ContainerSerial) -> Vec<u8> {
    Message::new(b"trine share v1\0", &terms.cluster, terms.license, terms.serial)
        .number(container.into())
        .0
}

/// An opened share, checked against the license's public commitments.
///
/// Only [`Share::open`] makes one. Its secret is erased when it is dropped.
pub struct Share {
    cluster: ClusterId,
    license: LicenseId,
    serial: LicenseSerial,
    containers: [ContainerSerial; SHARES],
    container: ContainerSerial,
    key: KeyPackage,
}

/// Why a container does not open a share.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ShareRefusal {
    /// None of the shares is for it.
    #[error("license {license} has no share for container {container}: its shares are for {}, {} and {}; ask the vendor for a package made from this cluster's request", theirs[0], theirs[1], theirs[2])]
    ForAnotherContainer {
        /// The license.
        license: LicenseId,
        /// Who tried.
        container: ContainerSerial,
        /// Whose the shares are.
        theirs: [ContainerSerial; 3],
    },
    /// The seal does not open with its key, for this license.
    #[error(
        "the share of license {license} for container {container} does not open: it was sealed for another key, license or cluster; ask the vendor for a new package"
    )]
    SealBroken {
        /// The license.
        license: LicenseId,
        /// The container.
        container: ContainerSerial,
    },
    /// It opens, but is not the share the license commits to.
    #[error(
        "the share of license {license} for container {container} disagrees with the license's public commitments: it is of another license or spoiled; ask the vendor for a new package"
    )]
    Disagrees {
        /// The license.
        license: LicenseId,
        /// The container.
        container: ContainerSerial,
    },
}

impl Share {
    /// Opens this container's share of a license.
    ///
    /// # Errors
    /// When no share is for this container, its seal does not open, or the
    /// secret is not the one that the license's commitments fix.
    pub fn open(license: &License, container: &Container) -> Result<Self, ShareRefusal> {
        let terms = license.terms();
        let ours = container.identity().serial();
        let Some(signer) = license.signer(ours) else {
            return Err(ShareRefusal::ForAnotherContainer {
                license: terms.license,
                container: ours,
                theirs: license.containers(),
            });
        };
        let share = &license.shares()[signer];
        let secret = container
            .open(&seal_context(terms, ours), &share.sealed)
            .ok_or(ShareRefusal::SealBroken { license: terms.license, container: ours })?;
        let key = frost::key_package(signer, &secret, &share.verifying, license.group())
            .ok_or(ShareRefusal::Disagrees { license: terms.license, container: ours })?;
        Ok(Self {
            cluster: terms.cluster,
            license: terms.license,
            serial: terms.serial,
            containers: license.containers(),
            container: ours,
            key,
        })
    }

    /// The license.
    pub fn license(&self) -> LicenseId {
        self.license
    }

    /// Which update of it.
    pub fn serial(&self) -> LicenseSerial {
        self.serial
    }

    pub(crate) fn key(&self) -> &KeyPackage {
        &self.key
    }

    /// The container it is sealed to.
    pub fn container(&self) -> ContainerSerial {
        self.container
    }

    /// Proves to the cluster that `node` holds this share, in this epoch.
    ///
    /// # Errors
    /// [`SignRefusal::BadRandomness`] only.
    pub fn prove<R: CryptoRng>(
        &self,
        epoch: Epoch,
        node: NodeId,
        rng: &mut R,
    ) -> Result<ShareProof, SignRefusal> {
        let message = attest_message(&self.cluster, self.license, self.serial, epoch, node);
        frost::sign_alone(&self.key, &message, rng)
            .map(ShareProof)
            .ok_or(SignRefusal::BadRandomness)
    }

    /// Draws nonces for one signature. The commitment goes to the other signer.
    ///
    /// # Errors
    /// [`SignRefusal::BadRandomness`] only.
    pub fn commit<R: CryptoRng>(&self, rng: &mut R) -> Result<(Nonces, Commitment), SignRefusal> {
        let (nonces, hiding, binding) =
            frost::commit(&self.key, rng).ok_or(SignRefusal::BadRandomness)?;
        let commitment = Commitment { container: self.container, hiding, binding };
        Ok((Nonces(nonces), commitment))
    }

    /// Signs a term of an epoch together with the others who committed. Spends
    /// the nonces.
    ///
    /// Whoever asks chooses `term`: sign only the term this node itself is in,
    /// or a stolen peer collects signatures for terms to come.
    ///
    /// # Errors
    /// When fewer than two committed, one is not of this license or comes
    /// twice, or the nonces are not those of this share's commitment.
    pub fn sign_term(
        &self,
        epoch: Epoch,
        term: u64,
        nonces: Nonces,
        commitments: &[Commitment],
    ) -> Result<SignatureShare, SignRefusal> {
        let message = term_message(&self.cluster, self.license, self.serial, epoch, term);
        let round = round(&message, commitments, &self.containers)?;
        let part = round.sign(nonces.0, &self.key).ok_or(SignRefusal::NotOurNonces)?;
        Ok(SignatureShare { container: self.container, part })
    }
}

impl fmt::Debug for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Share({} serial {} in {})", self.license, self.serial.0, self.container)
    }
}

/// Secret nonces for one signature, erased when dropped. Not clonable: nonces
/// used twice give the share away.
pub struct Nonces(SigningNonces);

impl fmt::Debug for Nonces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Nonces(..)")
    }
}

/// The public commitment to one share's nonces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Commitment {
    /// Whose share committed.
    pub container: ContainerSerial,
    hiding: PublicKey,
    binding: PublicKey,
}

/// One share's part of a signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignatureShare {
    /// Whose share signed.
    pub container: ContainerSerial,
    part: Bytes<32>,
}

/// Proof that a node holds its share, bound to cluster, license, serial, epoch
/// and node: a Schnorr signature by the share. 65 bytes, nothing until verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShareProof(pub(crate) Bytes<65>);

/// The signature of two shares over cluster, license, serial, epoch and term. 65
/// bytes, nothing until verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TermSignature(pub(crate) Bytes<65>);

/// Why shares do not sign together.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignRefusal {
    /// Not two.
    #[error("{count} shares take part and {THRESHOLD} are needed; wait for another node")]
    TooFewShares {
        /// How many.
        count: usize,
    },
    /// Not of this license.
    #[error(
        "container {container} has no share of this license; ask the nodes of this cluster only"
    )]
    ForeignContainer {
        /// Who.
        container: ContainerSerial,
    },
    /// The same share twice.
    #[error("the share of container {container} takes part twice; ask each node once")]
    SameShareTwice {
        /// Who.
        container: ContainerSerial,
    },
    /// The nonces do not belong to the commitment.
    #[error("the nonces are not those this share committed to; begin a new round")]
    NotOurNonces,
    /// A bad part, and whose.
    #[error(
        "the share of container {container} made a bad signature: it is not this license's share; install the license again on that node"
    )]
    BadShare {
        /// The culprit.
        container: ContainerSerial,
    },
    /// The parts are not of the same round.
    #[error("the parts do not belong to these commitments; begin a new round")]
    Inconsistent,
    /// Zero where randomness was due.
    #[error("the randomness handed in is unusable; check the node's source of randomness")]
    BadRandomness,
}

/// Joins two or three parts into the signature of a term.
///
/// # Errors
/// Names the container whose part is bad, or says why the parts do not fit.
pub fn aggregate_term(
    license: &License,
    epoch: Epoch,
    term: u64,
    commitments: &[Commitment],
    parts: &[SignatureShare],
) -> Result<TermSignature, SignRefusal> {
    let containers = license.containers();
    let message = license_term_message(license, epoch, term);
    let round = round(&message, commitments, &containers)?;
    let parts = by_signer(parts.iter().map(|part| (part.container, part.part)), &containers)?;
    round.aggregate(&parts, &license.verifying(), license.group()).map(TermSignature).map_err(
        |error| match error {
            AggregateError::BadPart { signer } => {
                SignRefusal::BadShare { container: containers[signer] }
            }
            AggregateError::Inconsistent => SignRefusal::Inconsistent,
        },
    )
}

fn round(
    message: &[u8],
    commitments: &[Commitment],
    containers: &[ContainerSerial; SHARES],
) -> Result<Round, SignRefusal> {
    let nonces = commitments.iter().map(|c| (c.container, (c.hiding, c.binding)));
    let nonces = by_signer(nonces, containers)?;
    if nonces.len() < THRESHOLD {
        return Err(SignRefusal::TooFewShares { count: nonces.len() });
    }
    Round::new(message, &nonces).ok_or(SignRefusal::Inconsistent)
}

/// Keys each share's contribution by its signer number, each once.
fn by_signer<T>(
    contributions: impl Iterator<Item = (ContainerSerial, T)>,
    containers: &[ContainerSerial; SHARES],
) -> Result<BTreeMap<usize, T>, SignRefusal> {
    let mut signers = BTreeMap::new();
    for (container, contribution) in contributions {
        let signer = containers
            .iter()
            .position(|theirs| *theirs == container)
            .ok_or(SignRefusal::ForeignContainer { container })?;
        if signers.insert(signer, contribution).is_some() {
            return Err(SignRefusal::SameShareTwice { container });
        }
    }
    Ok(signers)
}

/// The exact message that two shares sign so that a license serves in a term.
///
/// A restored cluster counts its terms anew: without the epoch, a signature of
/// the cluster that was lost would count in it.
pub fn term_message(
    cluster: &ClusterId,
    license: LicenseId,
    serial: LicenseSerial,
    epoch: Epoch,
    term: u64,
) -> Vec<u8> {
    Message::new(b"trine term v1\0", cluster, license, serial).number(epoch.0).number(term).0
}

pub(crate) fn license_term_message(license: &License, epoch: Epoch, term: u64) -> Vec<u8> {
    let terms = license.terms();
    term_message(&terms.cluster, terms.license, terms.serial, epoch, term)
}

/// The exact message that a share signs to prove that `node` holds it.
pub(crate) fn attest_message(
    cluster: &ClusterId,
    license: LicenseId,
    serial: LicenseSerial,
    epoch: Epoch,
    node: NodeId,
) -> Vec<u8> {
    Message::new(b"trine attest v1\0", cluster, license, serial).number(epoch.0).number(node.0).0
}

/// A message of fixed-length fields after a tag, so that no two read alike.
struct Message(Vec<u8>);

impl Message {
    fn new(tag: &[u8], cluster: &ClusterId, license: LicenseId, serial: LicenseSerial) -> Self {
        let mut bytes = tag.to_vec();
        bytes.extend_from_slice(&cluster.0);
        for part in [license.firm.0, license.product.0, license.tmr.0] {
            bytes.extend_from_slice(&part.to_be_bytes());
        }
        Self(bytes).number(serial.0)
    }

    fn number(mut self, number: u64) -> Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }
}
