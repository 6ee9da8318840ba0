//! How Raft's messages and the ledger's commands travel between nodes: in
//! postcard, with a format number.

use serde::Serialize;
use serde::de::DeserializeOwned;
use tonic::Status;
use wire::peer::Packed;

/// Changes whenever openraft's message types do; another than ours is refused.
const FORMAT: u32 = 1;

pub(crate) fn pack(message: &impl Serialize) -> Result<Packed, Status> {
    let body = postcard::to_allocvec(message)
        .map_err(|error| Status::internal(format!("message does not encode: {error}")))?;
    Ok(Packed { format: FORMAT, body, promises: Vec::new() })
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
