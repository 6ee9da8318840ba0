//! A node's container: the secret identity that shares are sealed to, what it
//! shows of itself, and its signed signs of life.

use std::fmt;

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, Zeroizing};

use crate::build::Build;
use crate::codec::{self, DecodeError, FileKind};
use crate::key::{Bytes, PublicKey, Signature, Statement};
use crate::product::{ActId, ClusterId, InvalidName, NodeId, WallTime};
use crate::rand_core::CryptoRng;
use crate::seal::{self, Sealed};

/// Serial numbers have ten decimal digits.
const SERIALS: u64 = 10_000_000_000;

/// A container's serial number, printed `130-XXXXXXXXXX`.
///
/// Derived from the container's public key, so nobody can claim another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct ContainerSerial(u64);

impl ContainerSerial {
    /// The serial number of the container with this key.
    pub fn of(key: &PublicKey) -> Self {
        Self(ten_digits(b"trine container serial v1\0", &key.to_bytes()))
    }

    /// Parses `130-XXXXXXXXXX`.
    ///
    /// # Errors
    /// When the text is not of that form.
    pub fn parse(text: &str) -> Result<Self, InvalidName> {
        let digits = text
            .strip_prefix("130-")
            .filter(|digits| digits.len() == 10 && digits.bytes().all(|b| b.is_ascii_digit()));
        digits.and_then(|digits| digits.parse().ok()).map(Self).ok_or_else(|| {
            InvalidName::new("container serial", text, "write it as 130- and ten digits")
        })
    }
}

impl fmt::Display for ContainerSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "130-{:010}", self.0)
    }
}

impl TryFrom<u64> for ContainerSerial {
    type Error = InvalidName;
    fn try_from(number: u64) -> Result<Self, InvalidName> {
        if number < SERIALS {
            return Ok(Self(number));
        }
        Err(InvalidName::new("container serial", &number.to_string(), "it has ten digits at most"))
    }
}

impl From<ContainerSerial> for u64 {
    fn from(serial: ContainerSerial) -> Self {
        serial.0
    }
}

/// The one serial number users see for a whole cluster, printed `131-XXXXXXXXXX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct VirtualSerial(u64);

impl VirtualSerial {
    /// The virtual container of this cluster.
    pub fn of(cluster: &ClusterId) -> Self {
        Self(ten_digits(b"trine virtual serial v1\0", &cluster.0))
    }
}

impl fmt::Display for VirtualSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "131-{:010}", self.0)
    }
}

fn ten_digits(tag: &[u8], source: &[u8]) -> u64 {
    let digest: [u8; 32] = Sha256::new().chain_update(tag).chain_update(source).finalize().into();
    digest[..8].iter().fold(0, |number, byte| (number << 8) | u64::from(*byte)) % SERIALS
}

/// What a container shows of itself. Its serial number is always its key's.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "IdentityFields", into = "IdentityFields")]
pub struct ContainerIdentity {
    serial: ContainerSerial,
    act: ActId,
    key: PublicKey,
}

/// A [`ContainerIdentity`] as written, before its serial number is checked.
#[derive(Serialize, Deserialize)]
struct IdentityFields {
    serial: ContainerSerial,
    act: ActId,
    key: PublicKey,
}

impl TryFrom<IdentityFields> for ContainerIdentity {
    type Error = InvalidName;
    fn try_from(fields: IdentityFields) -> Result<Self, InvalidName> {
        let identity = Self::new(fields.act, fields.key);
        if identity.serial == fields.serial {
            return Ok(identity);
        }
        let stated = fields.serial.to_string();
        Err(InvalidName::new("container serial", &stated, "it must be derived from its key"))
    }
}

impl From<ContainerIdentity> for IdentityFields {
    fn from(identity: ContainerIdentity) -> Self {
        Self { serial: identity.serial, act: identity.act, key: identity.key }
    }
}

impl ContainerIdentity {
    fn new(act: ActId, key: PublicKey) -> Self {
        Self { serial: ContainerSerial::of(&key), act, key }
    }

    /// The container's serial number.
    pub fn serial(&self) -> ContainerSerial {
        self.serial
    }

    /// The activation id it has in common with the two others of its cluster.
    pub fn act(&self) -> ActId {
        self.act
    }

    /// The key that shares are sealed to and heartbeats are checked against.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// A node's secret identity.
///
/// One P-256 key both signs the container's statements (ECDSA) and opens what
/// is sealed to it (ECDH): each use hashes its own tag, so one never helps to
/// break the other, and the vendor has one key per node to compare.
pub struct Container {
    secret: SigningKey,
    act: ActId,
}

/// What a container file holds.
#[derive(Serialize, Deserialize)]
struct ContainerFile {
    act: ActId,
    secret: Bytes<32>,
    /// Finds damage on disk; a container file is secret, so nobody forges it.
    check: Bytes<8>,
}

impl ContainerFile {
    fn check(act: ActId, secret: &[u8; 32]) -> Bytes<8> {
        let digest: [u8; 32] = Sha256::new()
            .chain_update(b"trine container file v1\0")
            .chain_update(act.0.to_be_bytes())
            .chain_update(secret)
            .finalize()
            .into();
        let mut check = [0; 8];
        check.copy_from_slice(&digest[..8]);
        Bytes(check)
    }
}

impl Drop for ContainerFile {
    fn drop(&mut self) {
        self.secret.0.zeroize();
    }
}

impl Container {
    /// Draws a new identity.
    pub fn create<R: CryptoRng>(act: ActId, rng: &mut R) -> Self {
        Self { secret: SigningKey::generate_from_rng(rng), act }
    }

    /// Reads a container file, strictly.
    ///
    /// # Errors
    /// When the file is of another kind or damaged.
    pub fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        let kind = FileKind::Container;
        let contents: ContainerFile = codec::decode(kind, file)?;
        let damaged = DecodeError::Malformed { kind };
        if contents.check != ContainerFile::check(contents.act, &contents.secret.0) {
            return Err(damaged);
        }
        let secret = SigningKey::from_slice(&contents.secret.0).map_err(|_| damaged)?;
        Ok(Self { secret, act: contents.act })
    }

    /// The container file, for the node's disk. It is the node's secret.
    pub fn encode(&self) -> Zeroizing<Vec<u8>> {
        let secret = Zeroizing::new(<[u8; 32]>::from(self.secret.to_bytes()));
        let check = ContainerFile::check(self.act, &secret);
        let contents = ContainerFile { act: self.act, secret: Bytes(*secret), check };
        Zeroizing::new(codec::encode(FileKind::Container, &contents))
    }

    /// What the container shows of itself.
    pub fn identity(&self) -> ContainerIdentity {
        ContainerIdentity::new(self.act, PublicKey::of(&self.secret))
    }

    /// Signs a sign of life.
    pub fn sign_heartbeat(&self, heartbeat: Heartbeat) -> SignedHeartbeat {
        let signature = self.sign(Statement::Heartbeat, &codec::body(&heartbeat));
        SignedHeartbeat { heartbeat, signature }
    }

    pub(crate) fn sign(&self, statement: Statement, body: &[u8]) -> Signature {
        Signature::make(&self.secret, statement, body)
    }

    pub(crate) fn open(&self, context: &[u8], sealed: &Sealed) -> Option<Zeroizing<[u8; 32]>> {
        seal::open(&self.secret, context, sealed)
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Container").field(&self.identity()).finish()
    }
}

/// A node's sign of life.
///
/// Whoever carries it cannot make it, but could keep it: the rising count is
/// what makes an old one worth nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// From 1, above that of every heartbeat the node has sent before.
    pub count: u64,
    /// Its wall clock.
    pub wall: WallTime,
    /// Which boot of the machine, drawn at random by its kernel.
    pub boot: [u8; 16],
    /// The index of the last log entry it applied.
    pub applied: u64,
    /// Its last checkpoint: the log index, and its ledger's hash there.
    pub checkpoint: (u64, [u8; 32]),
    /// What it runs.
    pub build: Build,
    /// SHA-256 of the CA certificate that its own certificates are under.
    pub ca: [u8; 32],
}

/// A [`Heartbeat`] and its container's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeartbeat {
    /// What the node says.
    pub heartbeat: Heartbeat,
    /// By the node's container.
    pub signature: Signature,
}

impl SignedHeartbeat {
    /// Whether this container signed it. Which node the container belongs to
    /// is for the caller to check.
    pub fn verify(&self, container: &ContainerIdentity) -> bool {
        let body = codec::body(&self.heartbeat);
        container.key.verify(Statement::Heartbeat, &body, &self.signature)
    }
}
