//! How Raft's own records are written: log entries, votes, log ids, memberships.
//!
//! A log entry is `term (8, big-endian) · kind (1) · contents`; its index is
//! its key. Commands are in the ledger's encoding, which carries its own
//! version; Raft's small records are postcard, under the frame's version.

use ledger::CodecError;
use ledger::command::Batch;
use openraft::EntryPayload;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::frame::{self, Damaged};
use super::keys;
use crate::raft::{Entry, Membership, Proposal, log_id};

const BLANK: u8 = 0;
const COMMANDS: u8 = 1;
const MEMBERSHIP: u8 = 2;

/// A batch or record that cannot be written.
#[derive(Debug, thiserror::Error)]
#[error("{key} cannot be encoded: {reason}")]
pub struct Unencodable {
    key: String,
    reason: String,
}

impl From<Unencodable> for std::io::Error {
    fn from(error: Unencodable) -> Self {
        Self::new(std::io::ErrorKind::InvalidInput, error)
    }
}

/// `entry`, framed for its key.
pub fn encode(entry: &Entry) -> Result<Vec<u8>, Unencodable> {
    let key = keys::entry(entry.log_id.index);
    let unencodable = |reason: String| Unencodable { key: keys::describe(&key), reason };
    let (kind, contents) = match &entry.payload {
        EntryPayload::Blank => (BLANK, Vec::new()),
        EntryPayload::Normal(proposal) => {
            (COMMANDS, proposal.0.encode().map_err(|error| unencodable(error.to_string()))?)
        }
        EntryPayload::Membership(membership) => (
            MEMBERSHIP,
            postcard::to_stdvec(membership).map_err(|error| unencodable(error.to_string()))?,
        ),
    };
    let mut body = Vec::with_capacity(9 + contents.len());
    body.extend(entry.log_id.leader_id.term.to_be_bytes());
    body.push(kind);
    body.extend(contents);
    Ok(frame::seal(&key, &body))
}

/// The entry found under the key of `index`.
pub fn decode(index: u64, framed: &[u8]) -> Result<Entry, Damaged> {
    let key = keys::entry(index);
    let body = frame::open(&key, framed)?;
    let damaged = |reason: &dyn ToString| Damaged::body(&key, reason.to_string());
    let (term, rest) = body.split_first_chunk().ok_or_else(|| damaged(&"too short"))?;
    let (kind, contents) = rest.split_first().ok_or_else(|| damaged(&"too short"))?;
    let payload = match *kind {
        BLANK if contents.is_empty() => EntryPayload::Blank,
        COMMANDS => EntryPayload::Normal(Proposal::from(Batch::decode(contents).map_err(
            |error| match error {
                CodecError::Level { found: level, .. } => {
                    Damaged::Level { key: keys::describe(&key), level }
                }
                error => damaged(&error),
            },
        )?)),
        MEMBERSHIP => EntryPayload::Membership(
            strictly::<Membership>(contents).map_err(|error| damaged(&error))?,
        ),
        _ => return Err(damaged(&"unknown kind of entry")),
    };
    Ok(Entry { log_id: log_id(u64::from_be_bytes(*term), index), payload })
}

/// A small record of Raft's, framed for `key`.
pub fn encode_record<T: Serialize>(key: &[u8], record: &T) -> Result<Vec<u8>, Unencodable> {
    postcard::to_stdvec(record)
        .map(|body| frame::seal(key, &body))
        .map_err(|error| Unencodable { key: keys::describe(key), reason: error.to_string() })
}

/// The record found under `key`.
pub fn decode_record<T: DeserializeOwned>(key: &[u8], framed: &[u8]) -> Result<T, Damaged> {
    strictly(frame::open(key, framed)?).map_err(|error| Damaged::body(key, error))
}

/// Decodes all of `bytes`, leaving nothing over.
fn strictly<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        Ok((_, left)) => Err(format!("{} bytes too many", left.len())),
        Err(error) => Err(error.to_string()),
    }
}
