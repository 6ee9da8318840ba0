//! Changing whom the cluster trusts: vendors, and its own CAs.

use license::product::{LicenseId, NodeId};
use license::trust::VendorRoot;
use serde::{Deserialize, Serialize};

use crate::limits::CA_BYTES_MAX;
use crate::name::Subject;

/// Trusts one more. Trusting what is trusted is a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trust {
    /// Whom.
    pub anchor: Anchor,
    /// The operator.
    pub by: Subject,
}

/// Trusts one less, when nothing needs it any more. Distrusting what is not
/// trusted is a retry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Distrust {
    /// Whom.
    pub anchor: AnchorId,
    /// The operator.
    pub by: Subject,
}

/// What trust begins with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anchor {
    /// A vendor, whose licenses may be installed.
    Vendor(VendorRoot),
    /// A CA of the cluster (its certificate, DER), which signs nodes,
    /// operators, applications and containers.
    ClusterCa(Vec<u8>),
}

/// Names an [`Anchor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum AnchorId {
    /// By the digest of the root's key.
    Vendor([u8; 32]),
    /// By the SHA-256 of the certificate.
    ClusterCa([u8; 32]),
}

/// Why trust stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum TrustRefusal {
    /// The stated number of vendors or CAs.
    #[error(
        "{limit} {what} are trusted already, the limit; remove one that is no longer needed (see `trine trust list`)"
    )]
    Full {
        /// `vendors` or `cluster CAs`.
        what: Anchors,
        /// The limit.
        limit: u32,
    },
    /// Longer than any CA's certificate need be.
    #[error(
        "the certificate has {length} bytes and the limit is {CA_BYTES_MAX}; use a smaller one"
    )]
    CaTooLong {
        /// Its length, in bytes.
        length: u64,
    },
    /// Nobody could be let in any more.
    #[error("it is the only cluster CA; add another before with `trine trust rotate`")]
    LastCa,
    /// Members' certificates are under it.
    #[error(
        "the certificates of {} are under it: give each one under another trusted CA, or replace the node (see `trine trust list`)",
        list(nodes)
    )]
    CaInUse {
        /// Those that said so last, or were never heard.
        nodes: Vec<NodeId>,
    },
    /// Installed licenses stand on it.
    #[error(
        "{} installed under it: ask the vendor to issue under another trusted root, and install that",
        stand(licenses)
    )]
    VendorNeeded {
        /// The licenses.
        licenses: Vec<LicenseId>,
    },
}

/// Of which there can be too many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Anchors {
    /// Vendors.
    Vendors,
    /// CAs of the cluster.
    ClusterCas,
}

impl std::fmt::Display for Anchors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Vendors => "vendors",
            Self::ClusterCas => "cluster CAs",
        })
    }
}

fn list(named: &[impl ToString]) -> String {
    named.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

fn stand(licenses: &[LicenseId]) -> String {
    match licenses {
        [one] => format!("license {one} is"),
        many => format!("licenses {} are", list(many)),
    }
}
