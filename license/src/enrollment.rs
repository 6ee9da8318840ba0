//! What a node asks of its cluster's CA: a certificate for its container's key.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, FileKind};
use crate::container::{Container, ContainerIdentity};
use crate::key::{Signature, Statement};
use crate::product::NodeId;

/// A node's request to be enrolled, signed by its container's key.
///
/// A value of this type is verified: whoever made it has the key. That the node
/// is the one it says is for the person to know who carries the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EnrollmentRequest {
    body: EnrollmentBody,
    signature: Signature,
}

/// What the container signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct EnrollmentBody {
    node: NodeId,
    container: ContainerIdentity,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnrollmentRefusal {
    /// Not such a file.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// It was altered, or another container's key was put into it.
    #[error(
        "the enrollment request of {node} is not signed by its own container: make it on the node again with `trine node enroll`"
    )]
    SignatureWrong {
        /// Whose.
        node: NodeId,
    },
}

impl EnrollmentRequest {
    /// Makes and signs a request.
    pub fn make(container: &Container, node: NodeId) -> Self {
        let body = EnrollmentBody { node, container: container.identity() };
        let signature = container.sign(Statement::Enrollment, &codec::body(&body));
        Self { body, signature }
    }

    /// Reads a request file, strictly, and verifies it.
    ///
    /// # Errors
    /// When the file is of another kind, damaged or altered.
    pub fn decode(file: &[u8]) -> Result<Self, EnrollmentRefusal> {
        let request: Self = codec::decode(FileKind::Enrollment, file)?;
        let key = request.container().key();
        if key.verify(Statement::Enrollment, &codec::body(&request.body), &request.signature) {
            return Ok(request);
        }
        Err(EnrollmentRefusal::SignatureWrong { node: request.node() })
    }

    /// The request file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::Enrollment, self)
    }

    /// The node that asks.
    pub fn node(&self) -> NodeId {
        self.body.node
    }

    /// Its container.
    pub fn container(&self) -> &ContainerIdentity {
        &self.body.container
    }
}
