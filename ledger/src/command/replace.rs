//! Replacing a node by a new one, and giving the new one the share that was
//! lost; and why not.

use license::container::ContainerSerial;
use license::product::{ActId, LicenseId, LicenseSerial, NodeId};
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

/// Why a node is not replaced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ReplacementRefusal {
    /// One at a time.
    #[error(
        "{old} is being replaced by {new}: go on with `trine cluster replace {} {}`, or give it up with --undo", old.0, new.0
    )]
    UnderWay {
        /// The member that is to go.
        old: NodeId,
        /// The node that is to come.
        new: NodeId,
    },
    /// Nothing to finish or to give up.
    #[error("no replacement of {old} by {new} is under way: see `trine cluster status`")]
    NoneUnderWay {
        /// The member.
        old: NodeId,
        /// The node.
        new: NodeId,
    },
    /// An id is given once.
    #[error(
        "the id of {node} was used before, and an id is never used again: give the new node an id that this cluster never had, with a certificate of its own (`trine pki issue`)"
    )]
    IdUsed {
        /// The node.
        node: NodeId,
    },
    /// A container belongs to one node for ever.
    #[error(
        "container {container} of {node} was another node's: a data directory was copied; start the new node with an empty one"
    )]
    ContainerUsed {
        /// The new node.
        node: NodeId,
        /// Its container.
        container: ContainerSerial,
    },
    /// The new node was set up for another cluster.
    #[error(
        "the container of {node} has act id {}, and this cluster's is {}: write `act = {}` into its configuration, empty its data directory and start it again", act.0, wanted.0, wanted.0
    )]
    OtherAct {
        /// The new node.
        node: NodeId,
        /// Its container's.
        act: ActId,
        /// The cluster's.
        wanted: ActId,
    },
}

/// Why a share is not made again, or not withdrawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RepairRefusal {
    /// Nothing is lost.
    #[error("{node} has its share of license {license}: nothing is to be repaired")]
    HasShare {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
    },
    /// No operator allowed it.
    #[error(
        "no operator ordered a share of license {license} for {node}: `trine license repair` does"
    )]
    NotOrdered {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
    },
    /// What was lost was withdrawn, and made again it would be the same share.
    #[error(
        "the share of license {license} that {node} lacks was withdrawn, and made again it would be the same share: have the vendor issue the license anew (`trine license request`)"
    )]
    Withdrawn {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
    },
    /// One of the two that would make it may not: its own share was withdrawn.
    #[error(
        "the share of license {license} that {node} lacks cannot be made again: {helper} would have to help, and its share was withdrawn; have the vendor issue the license anew (`trine license request`)"
    )]
    HelperWithdrawn {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
        /// Who would have to help.
        helper: NodeId,
    },
    /// Fewer than two shares are left to make it from.
    #[error(
        "the share of license {license} that {node} lacks cannot be made again: that takes two shares, and another member has none either; have the vendor issue the license anew (`trine license request`)"
    )]
    TooFewShares {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
    },
    /// Nothing to withdraw.
    #[error(
        "{node} has no share of license {license} to withdraw (see `trine license show {license}`); if the share was lost with the node that {node} replaced, name that node"
    )]
    NoShare {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
    },
    /// It is none of this license's shares, another member's, or sealed to another container.
    #[error(
        "what was offered is no share of license {license} that {node} may hold: ask the vendor for a package made from `trine license request`"
    )]
    NoFreePlace {
        /// The license.
        license: LicenseId,
        /// The node.
        node: NodeId,
    },
}
