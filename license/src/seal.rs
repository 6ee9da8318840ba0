//! Sealing a secret to one container's key, so that nobody else can open it.
//!
//! ECIES: an ephemeral P-256 key agrees on a secret with the container's key,
//! HKDF-SHA256 makes a key of it, ChaCha20-Poly1305 encrypts. The context
//! (which license, which cluster, which container) is authenticated with it.

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use p256::ecdh::{EphemeralSecret, SharedSecret, diffie_hellman};
use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::key::{Bytes, PublicKey};
use crate::rand_core::CryptoRng;

/// A sealed 32-byte secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Sealed {
    ephemeral: PublicKey,
    ciphertext: Bytes<48>,
}

/// Seals `secret` to `recipient`.
pub(crate) fn seal<R: CryptoRng>(
    recipient: &PublicKey,
    context: &[u8],
    secret: &[u8; 32],
    rng: &mut R,
) -> Option<Sealed> {
    let ours = EphemeralSecret::generate_from_rng(rng);
    let ephemeral = PublicKey::from_point(&ours.public_key());
    let agreed = ours.diffie_hellman(&recipient.to_point());
    let ciphertext = cipher(&agreed, &ephemeral, recipient)?
        .encrypt(&Nonce::default(), Payload { msg: secret, aad: context })
        .ok()?;
    Some(Sealed { ephemeral, ciphertext: Bytes(ciphertext.try_into().ok()?) })
}

/// Opens what was sealed to `recipient`'s public key in the same context.
pub(crate) fn open(
    recipient: &SigningKey,
    context: &[u8],
    sealed: &Sealed,
) -> Option<Zeroizing<[u8; 32]>> {
    let theirs = sealed.ephemeral.to_point();
    let agreed = diffie_hellman(recipient.as_nonzero_scalar(), theirs.as_affine());
    let opened = cipher(&agreed, &sealed.ephemeral, &PublicKey::of(recipient))?
        .decrypt(&Nonce::default(), Payload { msg: &sealed.ciphertext.0, aad: context })
        .map(Zeroizing::new)
        .ok()?;
    let mut secret = Zeroizing::new([0; 32]);
    if opened.len() != secret.len() {
        return None;
    }
    secret.copy_from_slice(&opened);
    Some(secret)
}

/// The cipher for one sealing. Its key is never used again, so its nonce may be fixed.
fn cipher(
    agreed: &SharedSecret,
    ephemeral: &PublicKey,
    recipient: &PublicKey,
) -> Option<ChaCha20Poly1305> {
    let info =
        [b"trine seal v1\0".as_slice(), &ephemeral.to_bytes(), &recipient.to_bytes()].concat();
    let mut key = Zeroizing::new([0; 32]);
    Hkdf::<Sha256>::new(None, agreed.raw_secret_bytes()).expand(&info, key.as_mut()).ok()?;
    ChaCha20Poly1305::new_from_slice(key.as_ref()).ok()
}
