//! FROST over P-256 (RFC 9591): the only file that touches `frost-p256`, which
//! brings its own generation of the curve and randomness crates.
//!
//! Points and scalars cross this border as bytes.

use std::collections::BTreeMap;

use frost_p256::keys::repairable::{Delta, repair_share_part1, repair_share_part2};
use frost_p256::keys::{
    IdentifierList, PublicKeyPackage, SigningShare, VerifiableSecretSharingCommitment,
    VerifyingShare,
};
use frost_p256::rand_core as old_rand;
use frost_p256::round1::{NonceCommitment, SigningCommitments};
use frost_p256::{Identifier, Signature, SigningKey, SigningPackage, VerifyingKey};
use zeroize::Zeroizing;

use crate::key::{Bytes, PublicKey};
use crate::rand_core::CryptoRng;

pub(crate) use frost_p256::keys::KeyPackage;
pub(crate) use frost_p256::round1::SigningNonces;

/// How many shares a license is split into.
pub(crate) const SHARES: usize = 3;
/// How many of them make a signature.
pub(crate) const THRESHOLD: usize = 2;

/// A share's secret scalar, big-endian; erased when dropped.
pub(crate) type Secret = Zeroizing<[u8; 32]>;

/// A fresh signing key, split by the dealer. The key itself is gone.
pub(crate) struct Split {
    /// The public key that the shares sign for together.
    pub(crate) group: PublicKey,
    /// The dealer's commitment to the slope of its line; with `group` it fixes every share.
    pub(crate) slope: PublicKey,
    /// The shares, for signers 0, 1 and 2.
    pub(crate) shares: [Secret; SHARES],
}

/// Draws a signing key and splits it, two of three.
///
/// `None` only when the randomness yields a degenerate key, which true
/// randomness never does.
pub(crate) fn split<R: CryptoRng>(rng: &mut R) -> Option<Split> {
    let (shares, public) = frost_p256::keys::generate_with_dealer(
        SHARES as u16,
        THRESHOLD as u16,
        IdentifierList::Default,
        OldRng(rng),
    )
    .ok()?;
    let commitment = shares.values().next()?.commitment().serialize().ok()?;
    let [_, slope] = commitment.as_slice() else { return None };
    let mut secrets = shares.values().map(|share| secret_of(share.signing_share()));
    Some(Split {
        group: point(&public.verifying_key().serialize().ok()?)?,
        slope: point(slope)?,
        shares: [secrets.next()??, secrets.next()??, secrets.next()??],
    })
}

/// A secret in parts, of which so many give it back and fewer give nothing.
pub(crate) struct Scattered {
    pub(crate) secret: Secret,
    pub(crate) parts: Vec<Secret>,
}

/// Draws a secret and scatters it over `count` parts, any `threshold` of which
/// are enough: Shamir's scheme, as a dealer's key is split. At least 2 of 2.
pub(crate) fn scatter<R: CryptoRng>(count: u16, threshold: u16, rng: &mut R) -> Option<Scattered> {
    let mut rng = OldRng(rng);
    let key = SigningKey::new(&mut rng);
    let (shares, _) =
        frost_p256::keys::split(&key, count, threshold, IdentifierList::Default, &mut rng).ok()?;
    // By rising identifier, which `gather` counts along.
    let parts = (0..usize::from(count))
        .map(|part| secret_of(shares.get(&identifier(part)?)?.signing_share()))
        .collect::<Option<Vec<_>>>()?;
    Some(Scattered { secret: secret_bytes(key.serialize())?, parts })
}

/// The public half of a scattered secret.
pub(crate) fn public_half(secret: &Secret) -> Option<PublicKey> {
    let key = SigningKey::deserialize(secret.as_slice()).ok()?;
    point(&VerifyingKey::from(&key).serialize().ok()?)
}

/// The secret of which these are `threshold` numbered parts, if its public half
/// is `public`.
pub(crate) fn gather(
    parts: &[(u16, Secret)],
    threshold: u16,
    public: &PublicKey,
) -> Option<Secret> {
    let group = VerifyingKey::deserialize(&public.to_bytes()).ok()?;
    let packages = parts
        .iter()
        .map(|(part, secret)| {
            let share = SigningShare::deserialize(secret.as_slice()).ok()?;
            let verifying = VerifyingShare::from(share);
            let identifier = identifier(usize::from(*part))?;
            Some(KeyPackage::new(identifier, share, verifying, group, threshold))
        })
        .collect::<Option<Vec<_>>>()?;
    let key = frost_p256::keys::reconstruct(&packages).ok()?;
    let secret = secret_bytes(key.serialize())?;
    (public_half(&secret)? == *public).then_some(secret)
}

fn secret_of(share: &SigningShare) -> Option<Secret> {
    secret_bytes(share.serialize())
}

/// The public half of one signer's share, as the dealer's commitments fix it.
pub(crate) fn verifying_share(
    group: &PublicKey,
    slope: &PublicKey,
    signer: usize,
) -> Option<PublicKey> {
    let coefficients = [group.to_bytes(), slope.to_bytes()];
    let commitment = VerifiableSecretSharingCommitment::deserialize(coefficients).ok()?;
    let share = VerifyingShare::from_commitment(identifier(signer)?, &commitment);
    point(&share.serialize().ok()?)
}

/// One signer's key, if `secret` is the share that `verifying` is the public half of.
pub(crate) fn key_package(
    signer: usize,
    secret: &[u8; 32],
    verifying: &PublicKey,
    group: &PublicKey,
) -> Option<KeyPackage> {
    let share = SigningShare::deserialize(secret).ok()?;
    let public = VerifyingShare::from(share);
    let stated = VerifyingShare::deserialize(&verifying.to_bytes()).ok()?;
    if public != stated {
        return None;
    }
    Some(KeyPackage::new(
        identifier(signer)?,
        share,
        public,
        VerifyingKey::deserialize(&group.to_bytes()).ok()?,
        THRESHOLD as u16,
    ))
}

/// What one signer contributes to the share of `lost`, split at random between
/// itself and `partner`.
pub(crate) fn halves<R: CryptoRng>(
    key: &KeyPackage,
    partner: usize,
    lost: usize,
    rng: &mut R,
) -> Option<(Secret, Secret)> {
    let (ours, theirs) = (*key.identifier(), identifier(partner)?);
    let halves = repair_share_part1::<frost_p256::P256Sha256, _>(
        &[ours, theirs],
        key,
        &mut OldRng(rng),
        identifier(lost)?,
    )
    .ok()?;
    let half = |of| secret_bytes(halves.get(of)?.serialize());
    Some((half(&ours)?, half(&theirs)?))
}

/// The sum of two scalars.
pub(crate) fn sum(one: &Secret, other: &Secret) -> Option<Secret> {
    let read = |secret: &Secret| Delta::deserialize(secret.as_slice()).ok();
    secret_bytes(repair_share_part2(&[read(one)?, read(other)?]).serialize())
}

fn secret_bytes(bytes: Vec<u8>) -> Option<Secret> {
    let bytes = Zeroizing::new(bytes);
    let mut secret = Zeroizing::new([0; 32]);
    if bytes.len() != secret.len() {
        return None;
    }
    secret.copy_from_slice(&bytes);
    Some(secret)
}

/// A Schnorr signature by one signer's share alone.
///
/// The hash it is made over covers the share's own public key, so it can
/// never pass for a signature of the group.
pub(crate) fn sign_alone<R: CryptoRng>(
    key: &KeyPackage,
    message: &[u8],
    rng: &mut R,
) -> Option<Bytes<65>> {
    let secret = secret_of(key.signing_share())?;
    let key = SigningKey::deserialize(secret.as_slice()).ok()?;
    signature_bytes(&key.sign(OldRng(rng), message))
}

/// Whether `signature` is `key`'s, be it a share's or the group's.
pub(crate) fn verify(key: &PublicKey, message: &[u8], signature: &Bytes<65>) -> bool {
    // One form of a point only: its other 33-byte form would be a second encoding.
    if !matches!(signature.0[0], 2 | 3) {
        return false;
    }
    let (Ok(key), Ok(signature)) =
        (VerifyingKey::deserialize(&key.to_bytes()), Signature::deserialize(&signature.0))
    else {
        return false;
    };
    key.verify(message, &signature).is_ok()
}

/// Nonces for one signature, and the commitments to them that may be shown.
pub(crate) fn commit<R: CryptoRng>(
    key: &KeyPackage,
    rng: &mut R,
) -> Option<(SigningNonces, PublicKey, PublicKey)> {
    let (nonces, commitments) = frost_p256::round1::commit(key.signing_share(), &mut OldRng(rng));
    let hiding = point(&commitments.hiding().serialize().ok()?)?;
    let binding = point(&commitments.binding().serialize().ok()?)?;
    Some((nonces, hiding, binding))
}

/// Who signs what, with which nonces.
pub(crate) struct Round(SigningPackage);

impl Round {
    /// A round of these signers, each with its commitments (hiding, binding).
    pub(crate) fn new(
        message: &[u8],
        commitments: &BTreeMap<usize, (PublicKey, PublicKey)>,
    ) -> Option<Self> {
        let nonce = |point: &PublicKey| NonceCommitment::deserialize(&point.to_bytes()).ok();
        let commitments = commitments
            .iter()
            .map(|(signer, (hiding, binding))| {
                let both = SigningCommitments::new(nonce(hiding)?, nonce(binding)?);
                Some((identifier(*signer)?, both))
            })
            .collect::<Option<BTreeMap<_, _>>>()?;
        Some(Self(SigningPackage::new(commitments, message)))
    }

    /// One signer's part of the signature. The nonces are spent.
    pub(crate) fn sign(&self, nonces: SigningNonces, key: &KeyPackage) -> Option<Bytes<32>> {
        let share = frost_p256::round2::sign(&self.0, &nonces, key).ok()?;
        share.serialize().try_into().ok().map(Bytes)
    }

    /// Joins the parts into one signature of the group, or names the signer whose part is bad.
    pub(crate) fn aggregate(
        &self,
        parts: &BTreeMap<usize, Bytes<32>>,
        verifying: &[PublicKey; SHARES],
        group: &PublicKey,
    ) -> Result<Bytes<65>, AggregateError> {
        let mut shares = BTreeMap::new();
        for (signer, part) in parts {
            let share = frost_p256::round2::SignatureShare::deserialize(&part.0)
                .map_err(|_| AggregateError::BadPart { signer: *signer })?;
            shares.insert(identifier(*signer).ok_or(AggregateError::Inconsistent)?, share);
        }
        let public = public_key_package(verifying, group).ok_or(AggregateError::Inconsistent)?;
        let signature = frost_p256::aggregate(&self.0, &shares, &public).map_err(|error| {
            let culprit = error.culprits().first().copied();
            let signer = (0..SHARES).find(|signer| identifier(*signer) == culprit);
            signer.map_or(AggregateError::Inconsistent, |signer| AggregateError::BadPart { signer })
        })?;
        signature_bytes(&signature).ok_or(AggregateError::Inconsistent)
    }
}

/// Why parts do not make a signature.
pub(crate) enum AggregateError {
    /// This signer's part does not fit its commitments and share.
    BadPart {
        /// 0, 1 or 2.
        signer: usize,
    },
    /// The parts and the commitments are not of the same round.
    Inconsistent,
}

fn public_key_package(
    verifying: &[PublicKey; SHARES],
    group: &PublicKey,
) -> Option<PublicKeyPackage> {
    let shares = verifying
        .iter()
        .enumerate()
        .map(|(signer, share)| {
            Some((identifier(signer)?, VerifyingShare::deserialize(&share.to_bytes()).ok()?))
        })
        .collect::<Option<BTreeMap<_, _>>>()?;
    let group = VerifyingKey::deserialize(&group.to_bytes()).ok()?;
    Some(PublicKeyPackage::new(shares, group, Some(THRESHOLD as u16)))
}

/// FROST counts signers from one: at zero its polynomial is the group's secret itself.
fn identifier(signer: usize) -> Option<Identifier> {
    let number = u16::try_from(signer).ok()?.checked_add(1)?;
    Identifier::try_from(number).ok()
}

fn point(bytes: &[u8]) -> Option<PublicKey> {
    PublicKey::from_bytes(bytes.try_into().ok()?)
}

fn signature_bytes(signature: &Signature) -> Option<Bytes<65>> {
    signature.serialize().ok()?.try_into().ok().map(Bytes)
}

/// Randomness as `frost-p256`'s older `rand_core` asks for it.
struct OldRng<'a, R>(&'a mut R);

impl<R: CryptoRng> old_rand::RngCore for OldRng<'_, R> {
    fn next_u32(&mut self) -> u32 {
        self.0.next_u32()
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }

    fn fill_bytes(&mut self, bytes: &mut [u8]) {
        self.0.fill_bytes(bytes);
    }

    fn try_fill_bytes(&mut self, bytes: &mut [u8]) -> Result<(), old_rand::Error> {
        self.0.fill_bytes(bytes);
        Ok(())
    }
}

impl<R: CryptoRng> old_rand::CryptoRng for OldRng<'_, R> {}
