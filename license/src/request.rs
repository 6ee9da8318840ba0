//! What a cluster sends to the vendor: three containers asking for shares.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::{self, DecodeError, FileKind};
use crate::container::{Container, ContainerIdentity, VirtualSerial};
use crate::key::{self, Signature, Statement};
use crate::product::{ActId, ClusterId, NodeId};

/// The most certificates in one container's chain.
pub const CHAIN_LENGTH_MAX: usize = 4;
/// Longest certificate in a chain, in bytes of DER.
pub const CERTIFICATE_LENGTH_MAX: usize = 4 * 1024;

/// One container's request for a share, signed by its own key.
///
/// The signature shows that the container has its key. That the container is
/// the node's is what the certificate chain shows; whoever collects requests
/// checks the chain against the cluster CA, for this crate reads no X.509.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerRequest {
    body: RequestBody,
    signature: Signature,
}

/// What the container signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct RequestBody {
    cluster: ClusterId,
    node: NodeId,
    identity: ContainerIdentity,
    boot: [u8; 32],
    chain: Vec<Vec<u8>>,
}

/// Why a request is not answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RequestRefusal {
    /// Not such a file.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// It was altered, or another container's key was put into it.
    #[error(
        "the request of {node} is not signed by its own container: collect it from the node again"
    )]
    SignatureWrong {
        /// Whose.
        node: NodeId,
    },
    /// It asks for another cluster.
    #[error("{node} asks for cluster {asked}, not {wanted}: collect the requests of one cluster")]
    OtherCluster {
        /// Whose.
        node: NodeId,
        /// The cluster it asks for.
        asked: ClusterId,
        /// The cluster of the whole request.
        wanted: ClusterId,
    },
    /// The requests are not of three nodes, in order.
    #[error(
        "{node} does not come once and in order: give each of the three nodes' requests once, by rising number"
    )]
    NodesNotInOrder {
        /// The node out of place.
        node: NodeId,
    },
    /// Two nodes show one container.
    #[error(
        "{node} shows the same container as another node: each node needs a container of its own"
    )]
    SameContainer {
        /// The second.
        node: NodeId,
    },
    /// The containers have different activation ids.
    #[error("{node} has activation id {}, not {} as the first node: re-create its container with the cluster's", act.0, wanted.0)]
    OtherAct {
        /// Whose.
        node: NodeId,
        /// Its activation id.
        act: ActId,
        /// The first node's.
        wanted: ActId,
    },
    /// A certificate chain is over its limits.
    #[error(
        "the certificate chain of {node} is over the limit of {CHAIN_LENGTH_MAX} certificates of {CERTIFICATE_LENGTH_MAX} bytes: shorten it"
    )]
    ChainTooLong {
        /// Whose.
        node: NodeId,
    },
}

impl ContainerRequest {
    /// Makes and signs a request.
    ///
    /// `boot` is the fingerprint of the machine's boot, `chain` the DER
    /// certificates by which the cluster CA vouches for the container's key.
    ///
    /// # Errors
    /// When the chain is over its limits.
    pub fn make(
        container: &Container,
        cluster: ClusterId,
        node: NodeId,
        boot: [u8; 32],
        chain: Vec<Vec<u8>>,
    ) -> Result<Self, RequestRefusal> {
        let body = RequestBody { cluster, node, identity: container.identity(), boot, chain };
        body.check_chain()?;
        let signature = container.sign(Statement::ContainerRequest, &codec::body(&body));
        Ok(Self { body, signature })
    }

    /// Reads a request file, strictly, and verifies it.
    ///
    /// # Errors
    /// When the file is of another kind, damaged or altered.
    pub fn decode(file: &[u8]) -> Result<Self, RequestRefusal> {
        let request: Self = codec::decode(FileKind::ContainerRequest, file)?;
        request.verify()?;
        Ok(request)
    }

    /// The request file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::ContainerRequest, self)
    }

    /// The cluster it asks for.
    pub fn cluster(&self) -> ClusterId {
        self.body.cluster
    }

    /// The node that asks.
    pub fn node(&self) -> NodeId {
        self.body.node
    }

    /// Its container.
    pub fn identity(&self) -> &ContainerIdentity {
        &self.body.identity
    }

    /// The fingerprint of the machine's boot.
    pub fn boot(&self) -> &[u8; 32] {
        &self.body.boot
    }

    /// The DER certificates that vouch for the container's key, its own first.
    pub fn chain(&self) -> &[Vec<u8>] {
        &self.body.chain
    }

    fn verify(&self) -> Result<(), RequestRefusal> {
        self.body.check_chain()?;
        let body = codec::body(&self.body);
        let key = self.body.identity.key();
        if key.verify(Statement::ContainerRequest, &body, &self.signature) {
            return Ok(());
        }
        Err(RequestRefusal::SignatureWrong { node: self.body.node })
    }
}

impl RequestBody {
    fn check_chain(&self) -> Result<(), RequestRefusal> {
        let fits = self.chain.len() <= CHAIN_LENGTH_MAX
            && self.chain.iter().all(|certificate| certificate.len() <= CERTIFICATE_LENGTH_MAX);
        if fits { Ok(()) } else { Err(RequestRefusal::ChainTooLong { node: self.node }) }
    }
}

/// A cluster's request for a license: its three containers' requests.
///
/// A value of this type is verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterRequest {
    fields: ClusterFields,
}

/// A [`ClusterRequest`] as written, before it is verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ClusterFields {
    pub(crate) cluster: ClusterId,
    pub(crate) ca_digest: [u8; 32],
    pub(crate) requests: [ContainerRequest; 3],
}

impl ClusterRequest {
    /// Joins three containers' requests, given in any order.
    ///
    /// `ca_digest` is SHA-256 of the cluster CA certificate (DER).
    ///
    /// # Errors
    /// When they are not of three different nodes and containers of this
    /// cluster with one activation id, or one is not signed by its container.
    pub fn new(
        cluster: ClusterId,
        ca_digest: [u8; 32],
        mut requests: [ContainerRequest; 3],
    ) -> Result<Self, RequestRefusal> {
        requests.sort_by_key(ContainerRequest::node);
        Self::verified(ClusterFields { cluster, ca_digest, requests })
    }

    /// Reads a request file, strictly, and verifies it.
    ///
    /// # Errors
    /// As [`ClusterRequest::new`], or when the file is of another kind or damaged.
    pub fn decode(file: &[u8]) -> Result<Self, RequestRefusal> {
        Self::verified(codec::decode(FileKind::ClusterRequest, file)?)
    }

    /// The request file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::ClusterRequest, &self.fields)
    }

    fn verified(fields: ClusterFields) -> Result<Self, RequestRefusal> {
        let (wanted, act) = (fields.cluster, fields.requests[0].identity().act());
        for (index, request) in fields.requests.iter().enumerate() {
            let (node, before) = (request.node(), &fields.requests[..index]);
            request.verify()?;
            if request.cluster() != wanted {
                return Err(RequestRefusal::OtherCluster {
                    node,
                    asked: request.cluster(),
                    wanted,
                });
            }
            if before.last().is_some_and(|last| last.node() >= node) {
                return Err(RequestRefusal::NodesNotInOrder { node });
            }
            let serial = request.identity().serial();
            if before.iter().any(|other| other.identity().serial() == serial) {
                return Err(RequestRefusal::SameContainer { node });
            }
            if request.identity().act() != act {
                let wanted = act;
                return Err(RequestRefusal::OtherAct {
                    node,
                    act: request.identity().act(),
                    wanted,
                });
            }
        }
        Ok(Self { fields })
    }

    /// The cluster that asks.
    pub fn cluster(&self) -> ClusterId {
        self.fields.cluster
    }

    /// The virtual container that users will see.
    pub fn virtual_serial(&self) -> VirtualSerial {
        VirtualSerial::of(&self.fields.cluster)
    }

    /// The activation id of the three containers.
    pub fn act(&self) -> ActId {
        self.fields.requests[0].identity().act()
    }

    /// SHA-256 of the cluster CA certificate (DER).
    pub fn ca_digest(&self) -> &[u8; 32] {
        &self.fields.ca_digest
    }

    /// The containers' requests, by rising node number.
    pub fn requests(&self) -> &[ContainerRequest; 3] {
        &self.fields.requests
    }

    /// For customer and vendor to compare over another channel: names every
    /// key, node and certificate in the request.
    pub fn fingerprint(&self) -> String {
        key::fingerprint(&Sha256::digest(self.encode()).into())
    }
}
