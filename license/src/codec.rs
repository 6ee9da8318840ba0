//! The one codec of Trine's files: a header that says what the file is, then
//! postcard, read strictly.
//!
//! A file begins with `TRINE`, a letter for its kind and its format version
//! (16 bits, little-endian). Reading is strict so that every content has one
//! encoding: a file that this build would not write byte for byte is refused.

use std::fmt;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Longest file that is looked at, in bytes.
pub const LENGTH_MAX: usize = 64 * 1024;

const MAGIC: &[u8; 5] = b"TRINE";
const HEADER_LENGTH: usize = 8;

/// What a file holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum FileKind {
    /// A signed license, split for one cluster.
    Package,
    /// A node's secret identity.
    Container,
    /// One container's request for shares.
    ContainerRequest,
    /// A whole cluster's request for a license.
    ClusterRequest,
    /// A vendor's trust root.
    VendorRoot,
    /// A root's certificate of a firm.
    FirmCertificate,
    /// A firm's signed reset of one cluster's date.
    ClockReset,
    /// A node's request for a certificate of its container.
    Enrollment,
    /// A container sealed to its host.
    SealedContainer,
}

impl FileKind {
    const ALL: [Self; 9] = [
        Self::Package,
        Self::Container,
        Self::ContainerRequest,
        Self::ClusterRequest,
        Self::VendorRoot,
        Self::FirmCertificate,
        Self::ClockReset,
        Self::Enrollment,
        Self::SealedContainer,
    ];

    fn letter(self) -> u8 {
        match self {
            Self::Package => b'P',
            Self::Container => b'C',
            Self::ContainerRequest => b'N',
            Self::ClusterRequest => b'Q',
            Self::VendorRoot => b'R',
            Self::FirmCertificate => b'F',
            Self::ClockReset => b'T',
            Self::Enrollment => b'E',
            Self::SealedContainer => b'S',
        }
    }

    /// The newest format version this build reads, and the one it writes.
    pub fn version(self) -> u16 {
        1
    }
}

impl fmt::Display for FileKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Package => "license package",
            Self::Container => "container file",
            Self::ContainerRequest => "container request",
            Self::ClusterRequest => "cluster request",
            Self::VendorRoot => "vendor root",
            Self::FirmCertificate => "firm certificate",
            Self::ClockReset => "clock reset",
            Self::Enrollment => "enrollment request",
            Self::SealedContainer => "sealed container file",
        })
    }
}

/// Why bytes are not a file of the kind that was wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DecodeError {
    /// Longer than any file Trine writes; not parsed at all.
    #[error(
        "the file has {length} bytes and Trine's have at most {limit}; check that it is the right file"
    )]
    TooLong {
        /// Its length, in bytes.
        length: u64,
        /// [`LENGTH_MAX`].
        limit: u64,
    },
    /// No Trine header.
    #[error(
        "this is not a Trine file: it does not begin with TRINE and a known kind; check that it is the right file"
    )]
    NotTrine,
    /// A Trine file, but another kind.
    #[error("this is a {found}, not a {wanted}; give the {wanted} instead")]
    OtherKind {
        /// What it is.
        found: FileKind,
        /// What was wanted.
        wanted: FileKind,
    },
    /// Written by a later Trine, or damaged in the header.
    #[error(
        "the {kind} has format version {version} and this build reads version {newest}; update trine, or ask for the older format"
    )]
    UnknownVersion {
        /// What it is.
        kind: FileKind,
        /// Its version.
        version: u16,
        /// The version this build reads.
        newest: u16,
    },
    /// It ends too early.
    #[error("the {kind} is cut short after {length} bytes; copy or fetch the whole file again")]
    Truncated {
        /// What it is.
        kind: FileKind,
        /// Its length, in bytes.
        length: u64,
    },
    /// Something follows its end.
    #[error(
        "the {kind} is followed by {count} bytes that do not belong to it; copy or fetch the file again"
    )]
    Trailing {
        /// What it is.
        kind: FileKind,
        /// How many bytes.
        count: u64,
    },
    /// A value in it breaks the rules of its type.
    #[error("the {kind} is damaged: a value in it is not valid; copy or fetch the file again")]
    Malformed {
        /// What it is.
        kind: FileKind,
    },
    /// It decodes, but is not how its contents are written.
    #[error(
        "the {kind} is damaged: its contents are not in their one valid form; copy or fetch the file again"
    )]
    NotCanonical {
        /// What it is.
        kind: FileKind,
    },
}

/// Writes a file.
///
/// # Panics
/// Never for this crate's types: postcard writes every one of them to memory.
pub(crate) fn encode<T: Serialize>(kind: FileKind, contents: &T) -> Vec<u8> {
    let mut file = Vec::with_capacity(1024);
    file.extend_from_slice(MAGIC);
    file.push(kind.letter());
    file.extend_from_slice(&kind.version().to_le_bytes());
    file.extend_from_slice(&body(contents));
    file
}

/// The canonical bytes of a value, without a header: what signatures are made over.
pub(crate) fn body<T: Serialize>(contents: &T) -> Vec<u8> {
    postcard::to_stdvec(contents).expect("postcard writes this crate's types to memory")
}

/// Reads a file of one kind, strictly.
pub(crate) fn decode<T>(wanted: FileKind, file: &[u8]) -> Result<T, DecodeError>
where
    T: Serialize + DeserializeOwned,
{
    let (kind, version) = header(file)?;
    if kind != wanted {
        return Err(DecodeError::OtherKind { found: kind, wanted });
    }
    let newest = kind.version();
    if version != newest {
        return Err(DecodeError::UnknownVersion { kind, version, newest });
    }
    let encoded = &file[HEADER_LENGTH..];
    let (contents, rest) =
        postcard::take_from_bytes::<T>(encoded).map_err(|error| match error {
            postcard::Error::DeserializeUnexpectedEnd => {
                DecodeError::Truncated { kind, length: file.len() as u64 }
            }
            _ => DecodeError::Malformed { kind },
        })?;
    if !rest.is_empty() {
        return Err(DecodeError::Trailing { kind, count: rest.len() as u64 });
    }
    if body(&contents) != encoded {
        return Err(DecodeError::NotCanonical { kind });
    }
    Ok(contents)
}

/// What a file says it is: its kind and format version.
pub(crate) fn header(file: &[u8]) -> Result<(FileKind, u16), DecodeError> {
    if file.len() > LENGTH_MAX {
        return Err(DecodeError::TooLong { length: file.len() as u64, limit: LENGTH_MAX as u64 });
    }
    let Some((magic, rest)) = file.split_first_chunk() else {
        return Err(DecodeError::NotTrine);
    };
    let (Some(letter), true) = (rest.first(), magic == MAGIC) else {
        return Err(DecodeError::NotTrine);
    };
    let kind = FileKind::ALL
        .into_iter()
        .find(|kind| kind.letter() == *letter)
        .ok_or(DecodeError::NotTrine)?;
    match rest[1..].first_chunk() {
        Some(version) => Ok((kind, u16::from_le_bytes(*version))),
        None => Err(DecodeError::Truncated { kind, length: file.len() as u64 }),
    }
}
