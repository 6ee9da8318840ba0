//! Replacing a node by a new one, and giving the new one the share that was lost.

use license::product::{LicenseId, LicenseSerial, NodeId};
use license::repair::RepairedShare;
use license::share::ShareProof;
use serde::{Deserialize, Serialize};

use super::Member;
use crate::name::{Address, Subject};

/// Lets a new node in, to take a member's place once it has caught up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BeginReplacement {
    /// The member that goes.
    pub old: NodeId,
    /// The node that comes, with an id and a container the cluster never had.
    pub new: Member,
    /// Where the other nodes reach it.
    pub peer: Address,
    /// Where applications and balancers reach it.
    pub client: Address,
    /// The operator.
    pub by: Subject,
}

/// Ends a replacement: the new node is the member, the old one never again.
///
/// Proposed when Raft's membership is the new one already.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FinishReplacement {
    /// The member that goes.
    pub old: NodeId,
    /// The node that came.
    pub new: NodeId,
    /// The operator.
    pub by: Subject,
}

/// Gives a replacement up: the old node stays, and the new one's id is spent.
///
/// Proposed when Raft no longer has the new node, and never gave it a vote.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AbandonReplacement {
    /// The member that stays.
    pub old: NodeId,
    /// The node that leaves.
    pub new: NodeId,
    /// The operator.
    pub by: Subject,
}

/// Allows the two holders of a license's shares to make the third again, for
/// the node that took over the place of its holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OrderRepair {
    /// The license.
    pub license: LicenseId,
    /// The node that has no share of it.
    pub node: NodeId,
    /// The operator.
    pub by: Subject,
}

/// The share that was made again, sealed to its new holder's container.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RepairShare {
    /// The license.
    pub license: LicenseId,
    /// Which update of it.
    pub serial: LicenseSerial,
    /// Its new holder.
    pub node: NodeId,
    /// The share.
    pub share: RepairedShare,
    /// The new holder's proof that it has it.
    pub proof: ShareProof,
}
