//! One node's share of a license: two of three make one signature.

use serde::{Deserialize, Serialize};

use crate::key::Bytes;

/// Proof that a node holds its share, bound to cluster, license, serial and node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ShareProof(pub(crate) Bytes<65>);

/// The signature of two shares over cluster, license, serial and term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct TermSignature(pub(crate) Bytes<65>);
