//! A signed license, split for one cluster: the file a vendor sends.
//!
//! ```text
//! root (configured) --certifies--> firm --signs--> terms, group key, commitments, three sealed shares
//! ```
//! Everything in the file is under one of the two signatures.

use std::array;

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, FileKind};
use crate::container::{ContainerIdentity, ContainerSerial};
use crate::frost::{self, SHARES};
use crate::key::{self, PublicKey, Signature, Statement};
use crate::product::{
    ActId, ClusterId, Epoch, FirmCode, LicenseId, LicenseSerial, NodeId, ProductName,
};
use crate::repair::RepairedShare;
use crate::share::{self, SealedShare, ShareProof, TermSignature};
use crate::terms::{Terms, TermsRefusal};
use crate::trust::{self, FirmCertificate, VendorRoot};

/// A package as it was read: nothing in it is believed until [`Package::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    pub(crate) certificate: FirmCertificate,
    pub(crate) statement: LicenseStatement,
    pub(crate) signature: Signature,
}

/// What the firm signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LicenseStatement {
    pub(crate) terms: Terms,
    /// The public key that two shares sign for.
    pub(crate) group: PublicKey,
    /// With `group`, the dealer's public commitment to all shares.
    pub(crate) slope: PublicKey,
    /// By signer. Three in every valid package.
    pub(crate) shares: Vec<SealedShare>,
}

/// Why a package is not installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum PackageRefusal {
    /// Not a package, damaged, cut short, too long, or of an unknown version.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// Another vendor's, or one that was never trusted here.
    #[error(
        "the license of {vendor:?} is certified by vendor root {root}, which this cluster does not trust; check whom you bought from; `trine trust list` shows whom it trusts, and `trine trust add` adds a vendor"
    )]
    UnknownRoot {
        /// The vendor's name, as the file says.
        vendor: String,
        /// Fingerprint of the root's key.
        root: String,
    },
    /// The file brings a key that the trusted root did not certify.
    #[error("the key of firm {} in the file is not certified by vendor root {root:?}; keys are never taken from the file: ask the vendor for a package signed with the certified key", firm.0)]
    FirmNotCertified {
        /// The firm, as the file says.
        firm: FirmCode,
        /// The root's name.
        root: String,
    },
    /// The license was altered after it was signed, or signed with another key.
    #[error(
        "the license signature is wrong: the file was altered or damaged; ask the vendor to send it again"
    )]
    SignatureWrong,
    /// A firm states another firm's license.
    #[error("firm {} signed a license of firm {}; ask the vendor for a package under its own firm code", firm.0, license.0)]
    ForeignFirm {
        /// Who signed.
        firm: FirmCode,
        /// Whose license it says it is.
        license: FirmCode,
    },
    /// Terms that no license may have.
    #[error("the terms of the license are not valid: {0}")]
    Terms(#[from] TermsRefusal),
    /// A license of another cluster.
    #[error(
        "the license is for cluster {licensed}, not for this cluster {here}; ask the vendor for one made from this cluster's request"
    )]
    OtherCluster {
        /// The cluster it is for.
        licensed: ClusterId,
        /// This cluster.
        here: ClusterId,
    },
    /// The license binds to another activation id than a container has.
    #[error("the license is for activation id {}, but container {container} has {}; ask the vendor for one made from this cluster's request", licensed.0, here.0)]
    OtherAct {
        /// The license's.
        licensed: ActId,
        /// The container's.
        here: ActId,
        /// The container.
        container: ContainerSerial,
    },
    /// Not split three ways.
    #[error("the package has {count} shares and 3 are needed; ask the vendor for a whole package")]
    ShareCount {
        /// How many.
        count: u64,
    },
    /// A share for a container that is not a member's.
    #[error(
        "a share is sealed to container {container}, which is not in this cluster; ask the vendor for a package made from this cluster's request"
    )]
    ShareForAnotherContainer {
        /// The stranger.
        container: ContainerSerial,
    },
    /// Two shares for one container.
    #[error(
        "two shares are sealed to container {container}, and each needs a container of its own; ask the vendor for a new package"
    )]
    SameContainerTwice {
        /// The container.
        container: ContainerSerial,
    },
    /// The shares are not of one split.
    #[error(
        "the share for container {container} disagrees with the others: they are not of one split key; ask the vendor for a new package"
    )]
    SharesDisagree {
        /// Whose share.
        container: ContainerSerial,
    },
    /// The ledger holds this serial or a later one.
    #[error("serial {} is not newer than the installed serial {}; ask the vendor for the current package", offered.0, installed.0)]
    NotNewer {
        /// The serial in force.
        installed: LicenseSerial,
        /// The serial offered.
        offered: LicenseSerial,
    },
    /// An update names another product than the license it updates.
    #[error(
        "license {license} is for product {installed} and the update names {offered}; an update keeps the product's name: ask the vendor for a license of its own for {offered}"
    )]
    OtherProduct {
        /// The license.
        license: LicenseId,
        /// The product it is for.
        installed: ProductName,
        /// The product the update names.
        offered: ProductName,
    },
    /// The product's name is already that of another vendor's product.
    #[error(
        "product {product} is firm {}'s here (license {installed}) and this license is of firm {}: seats of two vendors are never one pool; ask firm {} for a license under another product name", installed.firm.0, offered.firm.0, offered.firm.0
    )]
    NameOfAnotherFirm {
        /// The name.
        product: ProductName,
        /// The license that has it.
        installed: LicenseId,
        /// The license offered.
        offered: LicenseId,
    },
}

impl Package {
    /// Reads a package, strictly. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`PackageRefusal::Undecodable`].
    pub fn decode(file: &[u8]) -> Result<Self, PackageRefusal> {
        Ok(codec::decode(FileKind::Package, file)?)
    }

    /// The package file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::Package, self)
    }

    /// What the package says was sold. Not verified.
    pub fn claimed_terms(&self) -> &Terms {
        &self.statement.terms
    }

    /// The certificate the package brings. Not verified.
    pub fn claimed_certificate(&self) -> &FirmCertificate {
        &self.certificate
    }

    /// The containers the package's shares say they are sealed to. Not verified.
    pub fn claimed_containers(&self) -> impl Iterator<Item = ContainerSerial> + '_ {
        self.statement.shares.iter().map(|share| share.container)
    }

    /// Believes the package, or says why not.
    ///
    /// `roots` are the vendors this cluster trusts, `members` its three
    /// containers.
    ///
    /// # Errors
    /// The first thing that does not hold, from the trust root down to the shares.
    pub fn verify(
        &self,
        roots: &[VendorRoot],
        cluster: &ClusterId,
        members: &[ContainerIdentity],
    ) -> Result<License, PackageRefusal> {
        self.verify_signatures(roots)?;
        let terms = &self.statement.terms;
        terms.validate()?;
        if terms.cluster != *cluster {
            let (licensed, here) = (terms.cluster, *cluster);
            return Err(PackageRefusal::OtherCluster { licensed, here });
        }
        let shares = self.verify_shares(members)?;
        Ok(License {
            terms: terms.clone(),
            vendor: self.certificate.vendor().to_owned(),
            group: self.statement.group,
            shares: shares.clone(),
        })
    }

    fn verify_signatures(&self, roots: &[VendorRoot]) -> Result<(), PackageRefusal> {
        let certificate = &self.certificate;
        let root = roots.iter().find(|root| root.key.digest() == *certificate.issuer());
        let Some(root) = root else {
            return Err(PackageRefusal::UnknownRoot {
                vendor: certificate.vendor().chars().take(trust::NAME_MAX).collect(),
                root: key::fingerprint(certificate.issuer()),
            });
        };
        let firm = certificate.firm();
        if !certificate.verify(root) {
            return Err(PackageRefusal::FirmNotCertified { firm, root: root.name.clone() });
        }
        let statement = codec::body(&self.statement);
        if !certificate.key().verify(Statement::License, &statement, &self.signature) {
            return Err(PackageRefusal::SignatureWrong);
        }
        let license = self.statement.terms.license.firm;
        if license != firm {
            return Err(PackageRefusal::ForeignFirm { firm, license });
        }
        Ok(())
    }

    fn verify_shares(
        &self,
        members: &[ContainerIdentity],
    ) -> Result<&[SealedShare; SHARES], PackageRefusal> {
        let LicenseStatement { terms, group, slope, shares } = &self.statement;
        let shares: &[SealedShare; SHARES] = shares
            .as_slice()
            .try_into()
            .map_err(|_| PackageRefusal::ShareCount { count: shares.len() as u64 })?;
        for (signer, share) in shares.iter().enumerate() {
            let container = share.container;
            let member = members
                .iter()
                .find(|member| member.serial() == container && *member.key() == share.recipient)
                .ok_or(PackageRefusal::ShareForAnotherContainer { container })?;
            if member.act() != terms.act {
                let (licensed, here) = (terms.act, member.act());
                return Err(PackageRefusal::OtherAct { licensed, here, container });
            }
            if shares[..signer].iter().any(|other| other.container == container) {
                return Err(PackageRefusal::SameContainerTwice { container });
            }
            if frost::verifying_share(group, slope, signer) != Some(share.verifying) {
                return Err(PackageRefusal::SharesDisagree { container });
            }
        }
        Ok(shares)
    }
}

/// A verified license, with its shares still sealed.
///
/// Only [`Package::verify`] makes one. It can also be read back from a ledger
/// snapshot, which is trusted state: deserializing checks no signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct License {
    terms: Terms,
    vendor: String,
    group: PublicKey,
    shares: [SealedShare; SHARES],
}

impl License {
    /// What was sold.
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// The vendor's name, as the root certified it.
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The containers that hold its shares, by signer.
    pub fn containers(&self) -> [ContainerSerial; SHARES] {
        array::from_fn(|signer| self.shares[signer].container)
    }

    /// The public key that two shares sign for.
    pub fn group(&self) -> &PublicKey {
        &self.group
    }

    /// Whether `proof` shows that `node` holds this license's share for
    /// `container`, in this epoch. That the container is the node's is for the caller to check.
    pub fn verify_attestation(
        &self,
        cluster: &ClusterId,
        epoch: Epoch,
        node: NodeId,
        container: ContainerSerial,
        proof: &ShareProof,
    ) -> bool {
        let Some(signer) = self.signer(container) else { return false };
        let Terms { cluster: ours, license, serial, .. } = &self.terms;
        let message = share::attest_message(ours, *license, *serial, epoch, node);
        cluster == ours && frost::verify(&self.shares[signer].verifying, &message, &proof.0)
    }

    /// Whether two shares of this license signed this term of this epoch.
    pub fn verify_term(
        &self,
        cluster: &ClusterId,
        epoch: Epoch,
        term: u64,
        signature: &TermSignature,
    ) -> bool {
        let message = share::license_term_message(self, epoch, term);
        *cluster == self.terms.cluster && frost::verify(&self.group, &message, &signature.0)
    }

    /// The license with a share that was made again in the place of the lost
    /// one, and the container that held it before.
    ///
    /// The place is the one whose public half the share has. Whether the new
    /// container may have it is for the caller to check, and whether the share
    /// is in it is what its holder's attestation shows. `None` when the license
    /// has no such place, or the container has one already.
    pub fn reseat(&self, repaired: &RepairedShare) -> Option<(Self, ContainerSerial)> {
        let RepairedShare(share) = repaired;
        let named = ContainerSerial::of(&share.recipient) == share.container;
        if !named || self.signer(share.container).is_some() {
            return None;
        }
        let place = self.place(repaired)?;
        let mut reseated = self.clone();
        let before = std::mem::replace(&mut reseated.shares[place], share.clone());
        Some((reseated, before.container))
    }

    /// The place in the split of a share that was made again, whoever has it now.
    pub fn place(&self, repaired: &RepairedShare) -> Option<usize> {
        self.verifying().iter().position(|verifying| *verifying == repaired.0.verifying)
    }

    /// The place of a container's share in the split, if it has one.
    pub fn signer(&self, container: ContainerSerial) -> Option<usize> {
        self.shares.iter().position(|share| share.container == container)
    }

    pub(crate) fn shares(&self) -> &[SealedShare; SHARES] {
        &self.shares
    }

    pub(crate) fn verifying(&self) -> [PublicKey; SHARES] {
        array::from_fn(|signer| self.shares[signer].verifying)
    }
}
