//! Public keys, signatures and the statements they are made over.
//!
//! Every signature in Trine is ECDSA P-256 with SHA-256 over a tag that
//! says what kind of statement it is and a body, so a signature of one kind is never valid as another.

use std::fmt;

use p256::ecdsa::signature::{Signer, Verifier};
use p256::ecdsa::{SigningKey, VerifyingKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::{Digest, Sha256};

/// What a signed message is about. Its tag opens the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Statement {
    /// A vendor root vouches for itself in its own file.
    Root,
    /// A vendor root certifies a firm's key.
    Firm,
    /// A firm states a license.
    License,
    /// A container asks for shares.
    ContainerRequest,
    /// A node says it is alive.
    Heartbeat,
    /// A firm resets the date of a cluster.
    ClockReset,
    /// A container asks the cluster CA for a certificate.
    Enrollment,
}

impl Statement {
    fn tag(self) -> &'static [u8] {
        match self {
            Self::Root => b"trine root v1\0",
            Self::Firm => b"trine firm v1\0",
            Self::License => b"trine license v1\0",
            Self::ContainerRequest => b"trine container request v1\0",
            Self::Heartbeat => b"trine heartbeat v1\0",
            Self::ClockReset => b"trine clock reset v1\0",
            Self::Enrollment => b"trine enrollment v1\0",
        }
    }

    fn message(self, body: &[u8]) -> Vec<u8> {
        [self.tag(), body].concat()
    }
}

/// What precedes the 65 bytes of an uncompressed P-256 point in its
/// SubjectPublicKeyInfo (RFC 5480): the lengths and names are always the same.
const SPKI_P256: [u8; 26] = [
    0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a,
    0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00,
];

/// A P-256 public key, known to be a point of the curve.
///
/// Encoded as the 33 bytes of a compressed SEC1 point; no other form is read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct PublicKey(VerifyingKey);

impl PublicKey {
    /// The public half of `secret`.
    pub(crate) fn of(secret: &SigningKey) -> Self {
        Self(*secret.verifying_key())
    }

    /// The key whose compressed SEC1 encoding this is, if it is one.
    pub fn from_bytes(bytes: &[u8; 33]) -> Option<Self> {
        // SEC1 knows a third, rarely used 33-byte form: two encodings of one key.
        if !matches!(bytes[0], 2 | 3) {
            return None;
        }
        VerifyingKey::from_sec1_bytes(bytes).ok().map(Self)
    }

    /// The compressed SEC1 encoding.
    pub fn to_bytes(&self) -> [u8; 33] {
        let point = self.0.to_sec1_point(true);
        let mut bytes = [0; 33];
        bytes.copy_from_slice(point.as_bytes());
        bytes
    }

    /// The key as certificates carry it: SubjectPublicKeyInfo, DER.
    ///
    /// A container's certificate is the container's when this is its public key.
    pub fn to_spki_der(&self) -> Vec<u8> {
        [SPKI_P256.as_slice(), self.0.to_sec1_point(false).as_bytes()].concat()
    }

    /// SHA-256 of the encoding, by which files name the key.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.to_bytes()).into()
    }

    /// For people to compare: the first 16 bytes of the digest.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.digest())
    }

    pub(crate) fn from_point(point: &p256::PublicKey) -> Self {
        Self(point.into())
    }

    pub(crate) fn to_point(self) -> p256::PublicKey {
        self.0.into()
    }

    /// Whether `signature` is this key's over exactly this statement.
    ///
    /// A signature with a high S is refused: each statement then has one
    /// signature per signing, and nobody can alter a file without its key.
    pub(crate) fn verify(&self, statement: Statement, body: &[u8], signature: &Signature) -> bool {
        let Ok(parsed) = p256::ecdsa::Signature::from_slice(&signature.0.0) else {
            return false;
        };
        parsed.normalize_s() == parsed && self.0.verify(&statement.message(body), &parsed).is_ok()
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.fingerprint())
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Bytes(self.to_bytes()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = Bytes::<33>::deserialize(deserializer)?;
        Self::from_bytes(&bytes.0).ok_or_else(|| de::Error::custom("not a P-256 public key"))
    }
}

/// An ECDSA P-256 signature: 64 bytes, r then s, with s in its lower half.
///
/// Only bytes until a key has verified it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Signature(pub(crate) Bytes<64>);

impl Signature {
    /// Signs one statement. Deterministic (RFC 6979), so it needs no randomness.
    pub(crate) fn make(secret: &SigningKey, statement: Statement, body: &[u8]) -> Self {
        let signature: p256::ecdsa::Signature = secret.sign(&statement.message(body));
        Self(Bytes(signature.normalize_s().to_bytes().into()))
    }
}

/// A fixed number of bytes: raw in files, hexadecimal for people.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bytes<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeTuple;
        if serializer.is_human_readable() {
            return serializer.serialize_str(&hex(&self.0));
        }
        let mut tuple = serializer.serialize_tuple(N)?;
        for byte in &self.0 {
            tuple.serialize_element(byte)?;
        }
        tuple.end()
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if deserializer.is_human_readable() {
            return deserializer.deserialize_str(BytesVisitor);
        }
        deserializer.deserialize_tuple(N, BytesVisitor)
    }
}

struct BytesVisitor<const N: usize>;

impl<'de, const N: usize> de::Visitor<'de> for BytesVisitor<N> {
    type Value = Bytes<N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{N} bytes")
    }

    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Bytes<N>, A::Error> {
        let mut bytes = [0; N];
        for (index, byte) in bytes.iter_mut().enumerate() {
            *byte = seq.next_element()?.ok_or_else(|| de::Error::invalid_length(index, &self))?;
        }
        Ok(Bytes(bytes))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Bytes<N>, E> {
        let mut bytes = [0; N];
        let pairs = text.as_bytes().chunks_exact(2);
        if text.len() != 2 * N || !text.is_ascii() {
            return Err(E::invalid_length(text.len() / 2, &self));
        }
        for (byte, pair) in bytes.iter_mut().zip(pairs) {
            let digits = std::str::from_utf8(pair).map_err(E::custom)?;
            *byte = u8::from_str_radix(digits, 16).map_err(E::custom)?;
        }
        Ok(Bytes(bytes))
    }
}

/// Lowercase hexadecimal.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The first 16 bytes of a digest in groups of four digits, for people to compare aloud.
pub fn fingerprint(digest: &[u8; 32]) -> String {
    let groups: Vec<String> = digest[..16].chunks(2).map(hex).collect();
    groups.join("-")
}
