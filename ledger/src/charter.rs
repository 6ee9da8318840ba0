//! The charter: who belongs to the cluster and whom it trusts, as of now.
//!
//! Genesis writes it; later commands amend it. Whatever asks "is this one of
//! us" asks the charter, never a configuration.

use std::collections::BTreeMap;
use std::fmt;

use license::container::{ContainerIdentity, ContainerSerial};
use license::product::{ActId, ClusterId, NodeId, WallTime};
use license::trust::VendorRoot;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::command::{Genesis, Member};
use crate::name::{Address, Subject};

/// Who belongs, and who is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// The cluster's identity; never changes.
    pub cluster: ClusterId,
    /// The act id that all containers of the cluster share; never changes.
    pub act: ActId,
    /// The wall clock of the node that formed it.
    pub formed: WallTime,
    /// The cluster CAs that are trusted now: certificates (DER) by SHA-256.
    pub cas: BTreeMap<[u8; 32], Vec<u8>>,
    /// The vendors whose licenses may be installed.
    pub vendor_roots: Vec<VendorRoot>,
    /// The three members.
    pub members: Vec<Member>,
    /// The member that is being replaced, and by whom.
    pub replacement: Option<Replacement>,
    /// Nodes that were let in once and are gone. Their ids and containers are
    /// never let in again.
    pub retired: BTreeMap<NodeId, Retired>,
    /// Containers that a node had before a restore gave it another: licenses
    /// that were split for them go on with their other shares.
    pub superseded: BTreeMap<ContainerSerial, Superseded>,
}

/// A container that its node has no more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The node, which goes on with another container or is gone.
    pub node: NodeId,
    /// The container: packages that were split for it name it still.
    pub container: ContainerIdentity,
}

/// A replacement under way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replacement {
    /// The member that is to go.
    pub old: NodeId,
    /// The node that is to come.
    pub new: Member,
    /// Where the other nodes reach the new one.
    pub peer: Address,
    /// Where applications and balancers reach it.
    pub client: Address,
    /// The operator who began it, and in whose name it is finished.
    pub by: Subject,
}

/// A node that is gone.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retired {
    /// Its container: packages that were split for it name it still.
    pub container: ContainerIdentity,
    /// How it went.
    pub departure: Departure,
}

/// How a node went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Departure {
    /// This node took its place.
    ReplacedBy(NodeId),
    /// It was to take this node's place, and an operator gave that up.
    Abandoned {
        /// The node that stays.
        stays: NodeId,
    },
    /// The cluster was restored from a backup without it.
    LeftBehind,
}

/// In words that follow the name of the node.
impl fmt::Display for Departure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ReplacedBy(new) => write!(f, "was replaced by {new}"),
            Self::Abandoned { stays } => {
                write!(f, "was to replace {stays}, which was given up")
            }
            Self::LeftBehind => f.write_str("was left behind when a backup was restored"),
        }
    }
}

impl Charter {
    /// The charter that genesis writes.
    pub(crate) fn of(genesis: &Genesis, act: ActId) -> Self {
        Self {
            cluster: genesis.cluster,
            act,
            formed: genesis.formed,
            cas: BTreeMap::from([(ca_digest(&genesis.ca), genesis.ca.clone())]),
            vendor_roots: genesis.vendor_roots.clone(),
            members: genesis.members.clone(),
            replacement: None,
            retired: BTreeMap::new(),
            superseded: BTreeMap::new(),
        }
    }

    /// Whether a CA of that digest is trusted.
    pub fn trusts_ca(&self, digest: &[u8; 32]) -> bool {
        self.cas.contains_key(digest)
    }

    /// The member of that id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }

    /// The node of that id, if it is a member or on its way to be one.
    pub fn belonging(&self, node: NodeId) -> Option<&Member> {
        let coming = self.replacement.as_ref().map(|replacement| &replacement.new);
        self.members.iter().chain(coming).find(|member| member.node == node)
    }

    /// Whether a node of that id was ever let in.
    pub fn knew(&self, node: NodeId) -> bool {
        self.belonging(node).is_some() || self.retired.contains_key(&node)
    }

    /// The containers of a node that is a member or is gone, with those that it
    /// had before; none of a node that never was one.
    pub fn containers_of(&self, node: NodeId) -> impl Iterator<Item = &ContainerIdentity> {
        let present = self.member(node).map(|member| &member.container);
        let gone = self.retired.get(&node).map(|gone| &gone.container);
        let before = self.superseded.values().filter(move |before| before.node == node);
        present.into_iter().chain(gone).chain(before.map(|before| &before.container))
    }

    /// Whose a container is, or was.
    pub fn owner_of(&self, container: ContainerSerial) -> Option<NodeId> {
        let coming = self.replacement.as_ref().map(|replacement| &replacement.new);
        let present = self.members.iter().chain(coming);
        let present = present.map(|member| (member.node, &member.container));
        let gone = self.retired.iter().map(|(node, gone)| (*node, &gone.container));
        let before = self.superseded.values().map(|before| (before.node, &before.container));
        let mut ever = present.chain(gone).chain(before);
        ever.find(|(_, known)| known.serial() == container).map(|(node, _)| node)
    }

    /// How many nodes and containers are gone, and remembered for ever.
    pub fn gone(&self) -> u64 {
        (self.retired.len() + self.superseded.len()) as u64
    }

    /// The containers of all nodes that were ever let in. A license that was
    /// installed for three of them holds, though one of the three is gone.
    pub fn containers_ever(&self) -> impl Iterator<Item = &ContainerIdentity> {
        let coming = self.replacement.as_ref().map(|replacement| &replacement.new);
        let present = self.members.iter().chain(coming).map(|member| &member.container);
        let gone = self.retired.values().map(|gone| &gone.container);
        let before = self.superseded.values().map(|before| &before.container);
        present.chain(gone).chain(before)
    }
}

/// Names a CA certificate (DER).
pub fn ca_digest(certificate: &[u8]) -> [u8; 32] {
    Sha256::digest(certificate).into()
}
