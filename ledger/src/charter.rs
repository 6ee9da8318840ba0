//! The charter: who belongs to the cluster and whom it trusts, as of now.
//!
//! Genesis writes it; later commands amend it. Whatever asks "is this one of
//! us" asks the charter, never a configuration.

use std::collections::BTreeSet;

use license::product::{ActId, ClusterId, NodeId, WallTime};
use license::trust::VendorRoot;
use serde::{Deserialize, Serialize};

use crate::command::{Genesis, Member};

/// Who belongs, and who is trusted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charter {
    /// The cluster's identity; never changes.
    pub cluster: ClusterId,
    /// The act id that all containers of the cluster share; never changes.
    pub act: ActId,
    /// The wall clock of the node that formed it.
    pub formed: WallTime,
    /// SHA-256 of each cluster CA certificate (DER) that is trusted now.
    pub ca_digests: BTreeSet<[u8; 32]>,
    /// The vendors whose licenses may be installed.
    pub vendor_roots: Vec<VendorRoot>,
    /// The three members.
    pub members: Vec<Member>,
    /// Nodes that were members once. Their ids are never given again.
    pub retired: BTreeSet<NodeId>,
}

impl Charter {
    /// The charter that genesis writes.
    pub(crate) fn of(genesis: &Genesis, act: ActId) -> Self {
        Self {
            cluster: genesis.cluster,
            act,
            formed: genesis.formed,
            ca_digests: BTreeSet::from([genesis.ca_digest]),
            vendor_roots: genesis.vendor_roots.clone(),
            members: genesis.members.clone(),
            retired: BTreeSet::new(),
        }
    }

    /// The member of that id.
    pub fn member(&self, node: NodeId) -> Option<&Member> {
        self.members.iter().find(|member| member.node == node)
    }
}
