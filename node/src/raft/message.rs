//! How Raft's messages travel: openraft's own types in postcard, with a format number.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use wire::peer::RaftMessage;

/// Changes whenever openraft's message types do; another than ours is refused.
pub(super) const FORMAT: u32 = 1;

pub(super) fn pack(message: &impl Serialize) -> Result<RaftMessage, Status> {
    let body = postcard::to_allocvec(message)
        .map_err(|error| Status::internal(format!("message does not encode: {error}")))?;
    Ok(RaftMessage { format: FORMAT, body })
}

pub(super) fn unpack<T: DeserializeOwned>(message: &RaftMessage) -> Result<T, Status> {
    if message.format != FORMAT {
        return Err(Status::failed_precondition(format!(
            "peer speaks message format {}, this node {FORMAT}; run matching versions",
            message.format
        )));
    }
    postcard::from_bytes(&message.body)
        .map_err(|error| Status::invalid_argument(format!("message does not decode: {error}")))
}
