//! The encodings that live on disk: batches, snapshots and pages of history.
//!
//! All open with a magic, a format version and a feature level, and are read
//! strictly: trailing bytes, unknown versions, levels above this build's
//! highest and values out of bounds are refused.
//!
//! The version says how the header and postcard are used. What a level adds
//! stands under the level: every build writes for a cluster at a level what
//! all builds have always written there, so a rolling upgrade changes no byte.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::command::Batch;
use crate::level::{HIGHEST, Level};
use crate::limits::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, PAGE_RECORDS_MAX};
use crate::state::State;
use crate::usage::Page;
use crate::usage::audit::Ends;

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not this kind of file.
    #[error("these bytes are not a {what}; the file is another's or damaged")]
    Magic {
        /// What was expected.
        what: &'static str,
    },
    /// Written by a newer build.
    #[error(
        "this {what} has format version {found} and this build reads {known}; use a newer build"
    )]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The version this build reads.
        known: u16,
    },
    /// Written under a feature level that this build does not know.
    #[error(
        "this {what} is of feature level {found} and this build knows levels up to {known}; start the newer build again"
    )]
    Level {
        /// What was read.
        what: &'static str,
        /// Its level.
        found: Level,
        /// The highest level this build knows.
        known: Level,
    },
    /// Does not decode.
    #[error("the {what} is damaged, or a development build of another day wrote it: {detail}")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Over a stated limit.
    #[error("the {what} has {found} {unit} and the limit is {limit}")]
    TooLarge {
        /// What was read or written.
        what: &'static str,
        /// How much it has.
        found: usize,
        /// The limit.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
}

/// Where a file's version stands, and where its body begins.
const HEADER_BYTES: usize = 6;
const BATCH: Format = Format { what: "batch", magic: *b"TRLB", version: 2 };
const SNAPSHOT: Format = Format { what: "snapshot", magic: *b"TRLS", version: 2 };
const ENDS: Format = Format { what: "history file", magic: *b"TRLX", version: 1 };
const PAGE: Format = Format { what: "page of history", magic: *b"TRLU", version: 1 };

/// The version of the format of batches in the log.
pub const BATCH_FORMAT: u16 = BATCH.version;
/// The version of the format of ledger snapshots.
pub const SNAPSHOT_FORMAT: u16 = SNAPSHOT.version;

pub(crate) struct Format {
    pub(crate) what: &'static str,
    pub(crate) magic: [u8; 4],
    pub(crate) version: u16,
}

impl Format {
    pub(crate) fn encode(&self, body: &impl Serialize) -> Vec<u8> {
        let mut bytes = self.magic.to_vec();
        bytes.extend_from_slice(&self.version.to_le_bytes());
        postcard::to_extend(body, bytes)
            .expect("the ledger's own types always encode, and a vector takes them all")
    }

    /// The body of a file of this format and version.
    pub(crate) fn body<'a>(&self, bytes: &'a [u8]) -> Result<&'a [u8], CodecError> {
        let magic = CodecError::Magic { what: self.what };
        let Some((header, body)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(magic);
        };
        if header[..4] != self.magic {
            return Err(magic);
        }
        let found = u16::from_le_bytes([header[4], header[5]]);
        if found != self.version {
            return Err(CodecError::Version { what: self.what, found, known: self.version });
        }
        Ok(body)
    }

    pub(crate) fn decode<'a, T: Deserialize<'a>>(&self, body: &'a [u8]) -> Result<T, CodecError> {
        match postcard::take_from_bytes(body) {
            Ok((value, [])) => Ok(value),
            Ok((_, rest)) => Err(self.damaged(format!("{} bytes follow its end", rest.len()))),
            Err(error) => Err(self.damaged(error.to_string())),
        }
    }

    /// A file that stands under a feature level: the level, then the body.
    fn encode_at(&self, level: Level, body: &impl Serialize) -> Vec<u8> {
        self.encode(&(level, body))
    }

    /// The level a file stands under, and its body.
    fn level<'a>(&self, bytes: &'a [u8]) -> Result<(Level, &'a [u8]), CodecError> {
        let leveled = postcard::take_from_bytes(self.body(bytes)?);
        leveled.map_err(|error| self.damaged(error.to_string()))
    }

    /// Reads what stands under a level this build knows. `level_of` says which
    /// level the content has, and so the file must say.
    fn decode_at<'a, T: Deserialize<'a>>(
        &self,
        bytes: &'a [u8],
        level_of: impl FnOnce(&T) -> Level,
    ) -> Result<T, CodecError> {
        let (found, body) = self.level(bytes)?;
        if found > HIGHEST {
            return Err(CodecError::Level { what: self.what, found, known: HIGHEST });
        }
        let value = self.decode(body)?;
        if level_of(&value) != found {
            return Err(self.damaged("it states another level than it has".to_owned()));
        }
        Ok(value)
    }

    pub(crate) fn damaged(&self, detail: String) -> CodecError {
        CodecError::Damaged { what: self.what, detail }
    }
}

impl Batch {
    /// The batch as one log entry carries it.
    ///
    /// # Errors
    /// [`CodecError::TooLarge`] over the limits of [`crate::limits`]: split it.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        let bytes = BATCH.encode_at(self.level(), self);
        check_size(self.commands.len(), bytes.len())?;
        Ok(bytes)
    }

    /// Reads a batch, strictly.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        check_size(0, bytes.len())?;
        let batch: Self = BATCH.decode_at(bytes, Self::level)?;
        check_size(batch.commands.len(), bytes.len())?;
        Ok(batch)
    }
}

fn check_size(commands: usize, bytes: usize) -> Result<(), CodecError> {
    for (found, limit, unit) in
        [(commands, BATCH_COMMANDS_MAX, "commands"), (bytes, BATCH_BYTES_MAX, "bytes")]
    {
        if found > limit {
            return Err(CodecError::TooLarge { what: BATCH.what, found, limit, unit });
        }
    }
    Ok(())
}

pub(crate) fn encode_ends(ends: &Ends) -> Vec<u8> {
    ENDS.encode(ends)
}

pub(crate) fn decode_ends(bytes: &[u8]) -> Result<Ends, CodecError> {
    ENDS.decode(ENDS.body(bytes)?)
}

pub(crate) fn encode_page(page: &Page) -> Vec<u8> {
    PAGE.encode_at(page.level(), page)
}

pub(crate) fn decode_page(bytes: &[u8]) -> Result<Page, CodecError> {
    let page: Page = PAGE.decode_at(bytes, Page::level)?;
    let (found, limit) = (page.records.len(), PAGE_RECORDS_MAX);
    if found > limit {
        return Err(CodecError::TooLarge { what: PAGE.what, found, limit, unit: "records" });
    }
    Ok(page)
}

/// The state and, behind it, its hash and a checksum of every byte.
pub(crate) fn encode_snapshot(state: &State) -> Vec<u8> {
    let mut bytes = SNAPSHOT.encode_at(state.scalars.level, state);
    bytes.extend_from_slice(&state.hash());
    let checksum: [u8; 32] = Sha256::digest(&bytes).into();
    bytes.extend_from_slice(&checksum);
    bytes
}

/// Reads a state whose checksum and hash hold.
pub(crate) fn decode_snapshot(bytes: &[u8]) -> Result<State, CodecError> {
    SNAPSHOT.body(bytes)?;
    let cut_short = || SNAPSHOT.damaged("it is cut short".to_owned());
    let (summed, checksum) = bytes.split_last_chunk::<32>().ok_or_else(cut_short)?;
    if Sha256::digest(summed)[..] != checksum[..] {
        return Err(SNAPSHOT.damaged("its checksum does not match".to_owned()));
    }
    let (file, hash) = summed.split_last_chunk::<32>().ok_or_else(cut_short)?;
    let state: State = SNAPSHOT.decode_at(file, |state: &State| state.scalars.level)?;
    if state.hash() != *hash {
        return Err(SNAPSHOT.damaged("its state does not have the hash it says".to_owned()));
    }
    Ok(state)
}
