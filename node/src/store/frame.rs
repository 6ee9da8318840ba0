//! The frame around every value on disk: a version and a checksum.
//!
//! `version (1) · XXH3-64 of key, version and body (8, little-endian) · body`
//!
//! The key is part of the checksum, so that a value that ended up under
//! another key is found out as well as one whose bits have rotted.

use ledger::level::{HIGHEST, Level};
use xxhash_rust::xxh3::Xxh3;

use super::keys;

/// The version this binary writes, and the newest it reads.
pub(crate) const VERSION: u8 = 1;
const HEAD: usize = 9;

/// A value that is not what was written under its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Damaged {
    /// The bytes changed, or belong elsewhere.
    #[error("{key} does not match its checksum")]
    Checksum {
        /// The key in words.
        key: String,
    },
    /// Written by a newer Trine.
    #[error(
        "{key} has format {version}, and this binary reads up to {VERSION}; run the newer version"
    )]
    Version {
        /// The key in words.
        key: String,
        /// The version found.
        version: u8,
    },
    /// Written under a feature level that this build does not know.
    #[error(
        "{key} is of feature level {level}, and this build knows levels up to {HIGHEST}; start the newer build again"
    )]
    Level {
        /// The key in words.
        key: String,
        /// The level found.
        level: Level,
    },
    /// The checksum holds and yet the body makes no sense.
    #[error("{key} does not decode: {reason}")]
    Body {
        /// The key in words.
        key: String,
        /// What the codec says.
        reason: String,
    },
    /// Something that must be there is not.
    #[error("{key} is missing")]
    Missing {
        /// The key in words.
        key: String,
    },
}

impl Damaged {
    /// `key`'s body makes no sense, for `reason`.
    pub fn body(key: &[u8], reason: impl ToString) -> Self {
        Self::Body { key: keys::describe(key), reason: reason.to_string() }
    }

    /// `key` should be there.
    pub fn missing(key: &[u8]) -> Self {
        Self::Missing { key: keys::describe(key) }
    }
}

impl From<Damaged> for std::io::Error {
    fn from(damaged: Damaged) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, damaged)
    }
}

/// Frames `body`, to be kept under `key`.
pub fn seal(key: &[u8], body: &[u8]) -> Vec<u8> {
    let mut framed = Vec::with_capacity(HEAD + body.len());
    framed.push(VERSION);
    framed.extend(checksum(key, VERSION, body).to_le_bytes());
    framed.extend(body);
    framed
}

/// The body of what was found under `key`.
pub fn open<'a>(key: &[u8], framed: &'a [u8]) -> Result<&'a [u8], Damaged> {
    let wrong = || Damaged::Checksum { key: keys::describe(key) };
    let (version, rest) = framed.split_first().ok_or_else(wrong)?;
    let (stated, body) = rest.split_first_chunk().ok_or_else(wrong)?;
    if u64::from_le_bytes(*stated) != checksum(key, *version, body) {
        return Err(wrong());
    }
    if *version != VERSION {
        return Err(Damaged::Version { key: keys::describe(key), version: *version });
    }
    Ok(body)
}

fn checksum(key: &[u8], version: u8, body: &[u8]) -> u64 {
    let mut hasher = Xxh3::new();
    hasher.update(&[key.len() as u8]);
    hasher.update(key);
    hasher.update(&[version]);
    hasher.update(body);
    hasher.digest()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flipped_bit_is_found() {
        let key = keys::entry(7);
        let framed = seal(&key, b"a batch of commands");
        assert_eq!(open(&key, &framed), Ok(&b"a batch of commands"[..]));
        for bit in 0..framed.len() * 8 {
            let mut rotten = framed.clone();
            rotten[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&key, &rotten).is_err(), "bit {bit}");
        }
    }

    #[test]
    fn a_value_under_another_key_is_found() {
        let framed = seal(&keys::entry(7), b"x");
        assert!(open(&keys::entry(8), &framed).is_err());
    }

    #[test]
    fn a_newer_format_is_named_and_not_guessed_at() {
        let key = keys::vote();
        let mut framed = vec![VERSION + 1];
        framed.extend(checksum(&key, VERSION + 1, b"new").to_le_bytes());
        framed.extend(b"new");
        assert!(matches!(open(&key, &framed), Err(Damaged::Version { version: 2, .. })));
    }

    #[test]
    fn no_truncation_panics_or_passes() {
        let key = keys::vote();
        let framed = seal(&key, b"vote");
        assert!((0..framed.len()).all(|length| open(&key, &framed[..length]).is_err()));
    }
}
