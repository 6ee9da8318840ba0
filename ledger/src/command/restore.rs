//! Restoring a backup: begun once, handed over in parts, put in force at the end.

use std::fmt;

use license::container::ContainerSerial;
use license::product::{ClusterId, NodeId};
use serde::de::{self, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::Member;
use crate::limits::{RESTORE_BYTES_MAX, RESTORE_PART_BYTES};
use crate::name::Subject;

/// One step of a restore. Counts only before the cluster is formed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Restore {
    /// Says what is to be restored, and into which nodes. The same plan again
    /// goes on with it; another plan takes its place and begins anew.
    Begin(RestorePlan),
    /// Hands over one part of the backup. Sent again it changes nothing.
    Part(RestorePart),
    /// Puts the backup in force: from here on the cluster is formed.
    Finish(RestoreFinish),
}

/// What is restored, and into which cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePlan {
    /// SHA-256 of the backed-up ledger.
    pub backup: [u8; 32],
    /// Its length.
    pub bytes: u64,
    /// The cluster it is of, which the restored one is again.
    pub cluster: ClusterId,
    /// The new restore epoch, above the backup's.
    pub epoch: u64,
    /// For so long nothing is granted, in milliseconds of cluster time.
    pub quiet_ms: u64,
    /// The certificate (DER) of the cluster CA that the nodes use now.
    pub ca: Vec<u8>,
    /// The three nodes it is restored into, with the containers they show.
    pub members: Vec<Member>,
    /// The operator.
    pub by: Subject,
}

impl RestorePlan {
    /// How many parts the backup has.
    pub fn parts(&self) -> u32 {
        let parts = self.bytes.div_ceil(RESTORE_PART_BYTES as u64);
        u32::try_from(parts).unwrap_or(u32::MAX)
    }

    /// How long a part is; `None` when there is no such part.
    pub fn part_bytes(&self, number: u32) -> Option<usize> {
        let begins = u64::from(number) * RESTORE_PART_BYTES as u64;
        let rest = self.bytes.checked_sub(begins).filter(|rest| *rest > 0)?;
        Some(usize::try_from(rest).unwrap_or(usize::MAX).min(RESTORE_PART_BYTES))
    }
}

/// One part of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestorePart {
    /// The plan's.
    pub backup: [u8; 32],
    /// From 0 on.
    pub number: u32,
    /// [`RESTORE_PART_BYTES`] of them, but for the last part.
    pub bytes: Blob,
}

/// The end of a restore.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RestoreFinish {
    /// The plan's.
    pub backup: [u8; 32],
}

/// Bytes that are written, read and hashed as a whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Blob(pub Vec<u8>);

impl fmt::Debug for Blob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Blob({} bytes)", self.0.len())
    }
}

impl Serialize for Blob {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for Blob {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Bytes;
        impl Visitor<'_> for Bytes {
            type Value = Blob;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E: de::Error>(self, bytes: &[u8]) -> Result<Blob, E> {
                Ok(Blob(bytes.to_vec()))
            }
        }
        deserializer.deserialize_bytes(Bytes)
    }
}

/// Why a step of a restore was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum RestoreRefusal {
    /// Whoever is formed keeps what it has.
    #[error(
        "this is cluster {cluster} and it is formed: a backup is restored into three nodes that are not (stop all three, put their data directories aside, start them with empty ones)"
    )]
    Formed {
        /// What it is.
        cluster: ClusterId,
    },
    /// The part or the end of something that was not begun, or not of this.
    #[error(
        "no restore of this backup is under way here; begin it again with `trine cluster restore`"
    )]
    NotBegun,
    /// No such part, or of another length.
    #[error(
        "part {number} does not fit into this backup; begin again with `trine cluster restore`"
    )]
    PartWrong {
        /// Which.
        number: u32,
    },
    /// The end came before all parts did.
    #[error("{missing} parts of the backup are missing; go on with `trine cluster restore`")]
    Incomplete {
        /// How many.
        missing: u32,
    },
    /// All parts are there and do not make the backup.
    #[error("the backup does not hold: {detail}; nothing was restored, take another backup")]
    Damaged {
        /// What is wrong with it.
        detail: String,
    },
    /// The backup is of another cluster than was said.
    #[error("the backup is of cluster {found}, not {said}; nothing was restored")]
    OtherCluster {
        /// What the plan said.
        said: ClusterId,
        /// What it is of.
        found: ClusterId,
    },
    /// Longer than any CA's certificate need be.
    #[error(
        "the cluster CA's certificate has {length} bytes and the limit is {limit}; use a smaller one"
    )]
    CaTooLong {
        /// Its length, in bytes.
        length: u64,
        /// The limit.
        limit: u64,
    },
    /// So many nodes and containers are gone that no more can be remembered.
    #[error(
        "the backup's cluster remembers nodes that are gone, up to its limit of {limit}, and has no room for more; form a new cluster with `trine cluster init`, and have the vendor issue for it"
    )]
    TooManyGone {
        /// The limit.
        limit: u64,
    },
    /// Epochs rise, and with them tokens.
    #[error(
        "epoch {asked} is not above {backup}, the highest that the backup's tokens are of; leave --epoch out, or give a higher one"
    )]
    EpochNotAbove {
        /// The backup's, or that of its last token if that is higher.
        backup: u64,
        /// The plan's.
        asked: u64,
    },
    /// Nobody who knows of the earlier attempt would hear who does not.
    #[error(
        "epoch {asked} is below {begun}, which a restore began with here before: leave --epoch out, or give {begun} or more"
    )]
    EpochBelowBegun {
        /// The highest that any restore began with.
        begun: u64,
        /// The plan's.
        asked: u64,
    },
    /// Its tokens would not be safe numbers for every reader of JSON.
    #[error(
        "epoch {asked} is above the highest, {highest}; see to the nodes' clocks, or give --epoch"
    )]
    EpochTooHigh {
        /// The plan's.
        asked: u64,
        /// The limit.
        highest: u64,
    },
    /// Longer than any lease may live.
    #[error(
        "{quiet_ms} ms without grants are more than the longest TTL, {longest_ms} ms; ask for less"
    )]
    QuietTooLong {
        /// The plan's.
        quiet_ms: u64,
        /// The longest TTL.
        longest_ms: u64,
    },
    /// Over the stated limit, or empty.
    #[error("a backup of {bytes} bytes is not restored: it has 1 to {RESTORE_BYTES_MAX} bytes")]
    Size {
        /// The plan's.
        bytes: u64,
    },
    /// Ids are never given again.
    #[error(
        "{node} was a member of this cluster once and was replaced; its id is never given again: configure the node with another"
    )]
    Retired {
        /// Who.
        node: NodeId,
    },
    /// A container belongs to one node for ever.
    #[error(
        "{node} shows container {container}, which is {owner}'s in the backup: put {node}'s own container file into its data directory, or empty that directory and enroll the container it makes then; nothing was restored"
    )]
    ContainerOfAnother {
        /// The node.
        node: NodeId,
        /// What it shows.
        container: ContainerSerial,
        /// Whose that is, or was.
        owner: NodeId,
    },
}
