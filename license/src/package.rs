//! A signed license, split for one cluster: the file a vendor sends.

use serde::{Deserialize, Serialize};

use crate::container::{ContainerIdentity, ContainerSerial};
use crate::product::{ClusterId, LicenseSerial, NodeId};
use crate::share::{ShareProof, TermSignature};
use crate::terms::Terms;
use crate::trust::{FirmCertificate, VendorRoot};

/// A package as it was read: nothing in it is believed until [`Package::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    certificate: FirmCertificate,
}

impl Package {
    /// Reads a package, strictly.
    pub fn decode(_bytes: &[u8]) -> Result<Self, PackageRefusal> {
        Err(PackageRefusal::SignatureWrong)
    }

    /// The one encoding of this package.
    pub fn encode(&self) -> Vec<u8> {
        Vec::new()
    }

    /// Believes the package, or says why not.
    pub fn verify(
        &self,
        _roots: &[VendorRoot],
        _cluster: &ClusterId,
        _members: &[ContainerIdentity],
    ) -> Result<License, PackageRefusal> {
        Err(PackageRefusal::SignatureWrong)
    }
}

/// A verified license. Only [`Package::verify`] makes one.
///
/// It can also be read back from a ledger snapshot, which is trusted state:
/// deserializing checks no signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    terms: Terms,
}

impl License {
    /// What was sold.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Whether the container's share was proved by this node for this license.
    pub fn verify_attestation(
        &self,
        _cluster: &ClusterId,
        _node: NodeId,
        _container: ContainerSerial,
        _proof: &ShareProof,
    ) -> bool {
        false
    }

    /// Whether two shares signed this term.
    pub fn verify_term(&self, _cluster: &ClusterId, _term: u64, _signature: &TermSignature) -> bool {
        false
    }
}

/// Why a package is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PackageRefusal {
    /// Something in the license was altered after the vendor signed it.
    #[error("the license signature is wrong: the file was altered or damaged; ask the vendor to send it again")]
    SignatureWrong,
    /// The ledger holds this serial or a later one.
    #[error("serial {} is not newer than the installed serial {}; ask the vendor for the current package", offered.0, installed.0)]
    NotNewer {
        /// The serial in force.
        installed: LicenseSerial,
        /// The serial offered.
        offered: LicenseSerial,
    },
}
