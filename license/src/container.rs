//! A node's container: the secret identity that shares are sealed to, what it
//! shows of itself, and its signed signs of life.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::key::{PublicKey, Signature};
use crate::product::{ActId, ClusterId, NodeId, WallTime};

/// A container's serial number, printed `130-XXXXXXXXXX`.
///
/// Derived from the container's public key, so nobody can claim another's.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ContainerSerial(u64);

impl fmt::Display for ContainerSerial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "130-{:010}", self.0)
    }
}

/// The serial number users see for a whole cluster, printed `131-XXXXXXXXXX`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct VirtualSerial(u64);

/// What a container shows of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerIdentity {
    serial: ContainerSerial,
    act: ActId,
    key: PublicKey,
}

impl ContainerIdentity {
    /// The container's serial number.
    pub fn serial(&self) -> ContainerSerial {
        self.serial
    }

    /// The activation id it shares with the two others of its cluster.
    pub fn act(&self) -> ActId {
        self.act
    }

    /// The key that shares are sealed to and heartbeats are checked against.
    pub fn key(&self) -> &PublicKey {
        &self.key
    }
}

/// A node's sign of life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// Its wall clock.
    pub wall: WallTime,
    /// Which boot of the machine, drawn at random by its kernel.
    pub boot: [u8; 16],
    /// The index of the last log entry it applied.
    pub applied: u64,
    /// Its ledger's hash there.
    pub hash: [u8; 32],
}

/// A [`Heartbeat`] and its container's signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignedHeartbeat {
    /// What the node says.
    pub heartbeat: Heartbeat,
    /// By the node's container.
    pub signature: Signature,
}

impl SignedHeartbeat {
    /// Whether this container signed it.
    pub fn verify(&self, _container: &ContainerIdentity) -> bool {
        false
    }
}
