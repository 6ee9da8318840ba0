//! How Raft's messages and the ledger's commands travel between nodes: in
//! postcard, with a format number.

use ledger::level::Level;
use openraft::EntryPayload;
use openraft::raft::AppendEntriesRequest;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use wire::peer::Packed;

use super::TypeConfig;

/// Changes whenever openraft's message types do; another than ours is refused.
pub(crate) const FORMAT: u32 = 1;

pub(crate) fn pack(message: &impl Serialize) -> Result<Packed, Status> {
    let body = postcard::to_allocvec(message)
        .map_err(|error| Status::internal(format!("message does not encode: {error}")))?;
    Ok(Packed { format: FORMAT, body, promises: Vec::new(), level: 0 })
}

/// Entries, under the feature level of the ledger, or of the entries where that
/// is higher: a new leader holds what it has not yet applied.
pub(crate) fn pack_entries(
    ledger: Level,
    promises: Vec<wire::peer::NodePromise>,
    append: &AppendEntriesRequest<TypeConfig>,
) -> Result<Packed, Status> {
    let levels = append.entries.iter().filter_map(|entry| match &entry.payload {
        EntryPayload::Normal(proposal) => Some(proposal.0.level()),
        EntryPayload::Blank | EntryPayload::Membership(_) => None,
    });
    let level = levels.fold(ledger, Level::max).number().into();
    Ok(Packed { promises, level, ..pack(append)? })
}

pub(crate) fn unpack<T: DeserializeOwned>(message: &Packed) -> Result<T, Status> {
    if message.format != FORMAT {
        return Err(Status::failed_precondition(format!(
            "peer speaks message format {}, this node {FORMAT}; run matching versions",
            message.format
        )));
    }
    postcard::from_bytes(&message.body)
        .map_err(|error| Status::invalid_argument(format!("message does not decode: {error}")))
}
