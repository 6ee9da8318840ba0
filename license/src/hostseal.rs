//! A container sealed to its host: what enough of the host's traits open and a
//! copied file alone does not.
//!
//! A fresh secret is split by Shamir's scheme, one part for each unit of
//! weight, so that any traits of enough weight together give it back and fewer
//! give nothing. The parts of a trait are encrypted under a key made of the
//! trait (HKDF-SHA256 with the file's salt, ChaCha20-Poly1305); the container
//! is encrypted under a key made of the secret. Nothing in the file compares a
//! trait with anything: a trait is right if it decrypts.
//!
//! What it is worth: serial numbers and addresses are no secrets for whoever
//! had the host in hand, and short enough to be guessed by who has the file and
//! patience. The seal keeps a copied directory from starting elsewhere; it is
//! not what keeps a stolen disk's share from being used. A key file of 32 random
//! bytes, kept on other storage than the data, does that too.

use std::fmt;

use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use chacha20poly1305::{ChaCha20Poly1305, Nonce};
use hkdf::Hkdf;
use serde::{Deserialize, Serialize};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::codec::{self, DecodeError, FileKind};
use crate::container::{Container, ContainerIdentity};
use crate::frost::{self, Secret};
use crate::key::{Bytes, PublicKey};
use crate::rand_core::CryptoRng;
use crate::traits::{LABEL_MAX, Tolerance, Trait, TraitKind, Traits};

/// Length of one part of the secret, in bytes.
const PART: usize = 32;

/// A container as it lies on a host's disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SealedContainer {
    head: Head,
    locks: Vec<Lock>,
    /// The container file, encrypted under the secret.
    container: Vec<u8>,
}

/// What is authenticated with everything that is encrypted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Head {
    identity: ContainerIdentity,
    tolerance: Tolerance,
    /// The weight that opens.
    threshold: u16,
    salt: Bytes<32>,
    /// The public half of the secret; `None` for a container that was sealed to
    /// nothing, because its host showed nothing.
    secret: Option<PublicKey>,
}

/// The parts of the secret that one trait unlocks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Lock {
    kind: TraitKind,
    label: String,
    parts: Vec<u8>,
}

/// A container that its host opened.
#[derive(Debug)]
pub struct Opened {
    /// The container.
    pub container: Container,
    /// Traits it was sealed to that are gone, by name.
    pub gone: Vec<String>,
    /// Traits of this host it was not sealed to, by name.
    pub new: Vec<String>,
    /// The tolerance it was sealed with.
    pub tolerance: Tolerance,
}

/// A sealed container that does not open here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealRefusal {
    /// Not enough of the host is there.
    #[error("{0}")]
    OtherHost(OtherHost),
    /// Its parts open and do not fit together.
    #[error("the sealed container is damaged: what its traits unlock does not open it")]
    Damaged,
}

/// How much of a host is missing, and what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtherHost {
    /// The weight of the traits that are there.
    pub found: u16,
    /// The weight that opens.
    pub needed: u16,
    /// Which are gone, by name.
    pub gone: Vec<String>,
    /// Which are new, by name.
    pub new: Vec<String>,
}

impl fmt::Display for OtherHost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let list = |names: &[String]| match names {
            [] => "nothing".to_owned(),
            names => names.join(", "),
        };
        write!(
            f,
            "the host has changed too much: traits of weight {} of the {} that are needed are there; gone: {}; new: {}",
            self.found,
            self.needed,
            list(&self.gone),
            list(&self.new)
        )
    }
}

impl SealedContainer {
    /// Seals `container` to a host of these traits.
    ///
    /// `None` only when the randomness is degenerate, which true randomness
    /// never is.
    pub fn seal<R: CryptoRng>(
        container: &Container,
        traits: &Traits,
        tolerance: Tolerance,
        rng: &mut R,
    ) -> Option<Self> {
        let threshold = tolerance.threshold(traits.weight());
        let mut salt = Bytes([0; 32]);
        rng.fill_bytes(&mut salt.0);
        let split = match threshold {
            0 => None,
            _ => Some(frost::scatter(traits.weight(), threshold, rng)?),
        };
        let (secret, parts) = split.map_or_else(
            || (Zeroizing::new([0; 32]), Vec::new()),
            |scattered| (scattered.secret, scattered.parts),
        );
        let public = (threshold > 0).then(|| frost::public_half(&secret)).flatten();
        let identity = container.identity();
        let head = Head { identity, tolerance, threshold, salt, secret: public };
        let mut parts = parts.iter();
        let mut locks = Vec::new();
        for (number, found) in traits.iter().enumerate() {
            let weight = usize::from(found.kind().weight());
            let plain: Vec<u8> = parts.by_ref().take(weight).flat_map(|part| **part).collect();
            let plain = Zeroizing::new(plain);
            let parts = head.encrypt(&head.cipher(found, number)?, &plain)?;
            locks.push(Lock { kind: found.kind(), label: found.label().to_owned(), parts });
        }
        let container = head.encrypt(&head.body_cipher(&secret)?, &container.encode())?;
        Some(Self { head, locks, container })
    }

    /// Opens it on a host of these traits.
    ///
    /// # Errors
    /// [`SealRefusal`] when too few of the traits are there.
    pub fn open(&self, traits: &Traits) -> Result<Opened, SealRefusal> {
        let mut parts: Vec<(u16, Secret)> = Vec::new();
        let (mut first, mut found_weight) = (0, 0);
        let (mut gone, mut known) = (Vec::new(), Vec::new());
        for (number, lock) in self.locks.iter().enumerate() {
            let weight = u16::from(lock.kind.weight());
            let mut same_kind = traits.iter().filter(|shown| shown.kind() == lock.kind);
            let unlocked =
                same_kind.find_map(|shown| Some((shown, self.unlock(shown, number, lock)?)));
            match unlocked {
                Some((shown, unlocked)) => {
                    parts.extend((first..).zip(unlocked));
                    known.push(shown);
                    found_weight += weight;
                }
                None => gone.push(lock.label.clone()),
            }
            first += weight;
        }
        let is_new = |shown: &&Trait| !known.contains(shown);
        let new = traits.iter().filter(is_new).map(|shown| shown.label().to_owned()).collect();
        let needed = self.head.threshold;
        if found_weight < needed {
            let found = found_weight;
            return Err(SealRefusal::OtherHost(OtherHost { found, needed, gone, new }));
        }
        let container = self.open_with(&parts).ok_or(SealRefusal::Damaged)?;
        Ok(Opened { container, gone, new, tolerance: self.head.tolerance })
    }

    fn unlock(&self, shown: &Trait, number: usize, lock: &Lock) -> Option<Vec<Secret>> {
        let plain = self.head.decrypt(&self.head.cipher(shown, number)?, &lock.parts)?;
        let (parts, []) = plain.as_chunks::<PART>() else { return None };
        let is_whole = parts.len() == usize::from(lock.kind.weight());
        is_whole.then(|| parts.iter().map(|part| Zeroizing::new(*part)).collect())
    }

    fn open_with(&self, parts: &[(u16, Secret)]) -> Option<Container> {
        let secret = match &self.head.secret {
            None => Zeroizing::new([0; 32]),
            Some(public) => {
                let enough = parts.get(..usize::from(self.head.threshold))?;
                frost::gather(enough, self.head.threshold, public)?
            }
        };
        let plain = self.head.decrypt(&self.head.body_cipher(&secret)?, &self.container)?;
        let container = Container::decode(&plain).ok()?;
        (container.identity() == self.head.identity).then_some(container)
    }

    /// What the container shows of itself.
    pub fn identity(&self) -> &ContainerIdentity {
        &self.head.identity
    }

    /// The names and weights of the traits it is sealed to.
    pub fn traits(&self) -> impl Iterator<Item = (&str, u8)> {
        self.locks.iter().map(|lock| (lock.label.as_str(), lock.kind.weight()))
    }

    /// The tolerance it was sealed with, and the weight that opens it.
    pub fn threshold(&self) -> (Tolerance, u16) {
        (self.head.tolerance, self.head.threshold)
    }

    /// Reads a sealed container file, strictly.
    ///
    /// # Errors
    /// When the file is of another kind or damaged.
    pub fn decode(file: &[u8]) -> Result<Self, DecodeError> {
        let kind = FileKind::SealedContainer;
        let sealed: Self = codec::decode(kind, file)?;
        let fits = |lock: &Lock| lock.label.len() <= LABEL_MAX;
        let counts = |kind: TraitKind| {
            sealed.locks.iter().filter(|lock| lock.kind == kind).count() <= kind.count_max()
        };
        if sealed.locks.iter().all(fits) && TraitKind::ALL.into_iter().all(counts) {
            return Ok(sealed);
        }
        Err(DecodeError::Malformed { kind })
    }

    /// The file, for the host's disk.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::SealedContainer, self)
    }
}

impl Head {
    /// The cipher of the lock `number` under a trait. Salt, trait and number
    /// make its key, which encrypts once: its nonce may be fixed.
    fn cipher(&self, shown: &Trait, number: usize) -> Option<ChaCha20Poly1305> {
        let number = u8::try_from(number).ok()?;
        let info = [b"trine host seal v1 trait\0".as_slice(), &[shown.kind().tag(), number]];
        self.key(shown.value(), &info.concat())
    }

    fn body_cipher(&self, secret: &Secret) -> Option<ChaCha20Poly1305> {
        self.key(secret.as_slice(), b"trine host seal v1 container\0")
    }

    fn key(&self, from: &[u8], info: &[u8]) -> Option<ChaCha20Poly1305> {
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha256>::new(Some(&self.salt.0), from).expand(info, key.as_mut()).ok()?;
        ChaCha20Poly1305::new_from_slice(key.as_ref()).ok()
    }

    fn encrypt(&self, cipher: &ChaCha20Poly1305, msg: &[u8]) -> Option<Vec<u8>> {
        let aad = codec::body(self);
        cipher.encrypt(&Nonce::default(), Payload { msg, aad: &aad }).ok()
    }

    fn decrypt(&self, cipher: &ChaCha20Poly1305, msg: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let aad = codec::body(self);
        let plain = cipher.decrypt(&Nonce::default(), Payload { msg, aad: &aad });
        plain.ok().map(Zeroizing::new)
    }
}
