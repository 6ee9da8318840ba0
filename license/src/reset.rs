//! A vendor's clock reset: the firm's signed word that the date in one cluster
//! is wrong, and how far it may be turned back.
//!
//! ```text
//! root (trusted) --certifies--> firm --signs--> cluster, serial, from, to
//! ```
//! It counts once, by its serial, and only while the date is at or beyond
//! `from`: one that is kept for later is worth nothing while the date is right.

use serde::{Deserialize, Serialize};

use crate::codec::{self, DecodeError, FileKind};
use crate::key::{self, Signature, Statement};
use crate::product::{ClusterId, FirmCode, LicenseId, NodeId, WallTime};
use crate::trust::{self, FirmCertificate, VendorRoot};

/// What a reset says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetTerms {
    /// The one cluster it is good for.
    pub cluster: ClusterId,
    /// Rises with every reset of this firm for this cluster, so each counts once.
    pub serial: u64,
    /// The wrong date: it counts only while the cluster's date is at or after this.
    pub from: WallTime,
    /// The date that the firm's licenses go on from.
    pub to: WallTime,
    /// When the vendor made it.
    pub issued: WallTime,
}

/// A reset as it was read: nothing in it is believed until [`ClockReset::verify`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClockReset {
    pub(crate) certificate: FirmCertificate,
    pub(crate) terms: ResetTerms,
    pub(crate) signature: Signature,
}

/// Why a clock is not reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum ResetRefusal {
    /// Not a clock reset, damaged, cut short, too long, or of an unknown version.
    #[error(transparent)]
    Undecodable(#[from] DecodeError),
    /// A vendor who is not trusted here.
    #[error(
        "the reset of {vendor:?} is certified by vendor root {root}, which this cluster does not trust; only a vendor whose license is installed can reset the date"
    )]
    UnknownRoot {
        /// The vendor's name, as the file says.
        vendor: String,
        /// Fingerprint of the root's key.
        root: String,
    },
    /// The file brings a key that the trusted root did not certify.
    #[error("the key of firm {} in the file is not certified by vendor root {root:?}; keys are never taken from the file: ask the vendor for a reset signed with the certified key", firm.0)]
    FirmNotCertified {
        /// The firm, as the file says.
        firm: FirmCode,
        /// The root's name.
        root: String,
    },
    /// Altered after it was signed, or signed with another key.
    #[error(
        "the signature of the reset is wrong: the file was altered or damaged; ask the vendor to send it again"
    )]
    SignatureWrong,
    /// It turns nothing back.
    #[error(
        "the reset turns the date from {from} to {to}, which is not back; ask the vendor for a corrected one"
    )]
    NotBack {
        /// The date that is wrong.
        from: WallTime,
        /// The date to go on from.
        to: WallTime,
    },
    /// For another cluster.
    #[error(
        "the reset is for cluster {meant}, not for this cluster {here}; ask the vendor for one with this cluster's id (see `trine cluster status`)"
    )]
    OtherCluster {
        /// The cluster it is for.
        meant: ClusterId,
        /// This cluster.
        here: ClusterId,
    },
    /// The firm has no license here, so no date to reset.
    #[error("no license of firm {} is installed, so there is no date of its to reset (see `trine license list`)", firm.0)]
    NoLicense {
        /// Who signed.
        firm: FirmCode,
    },
    /// It, or a later one, was used.
    #[error("reset {serial} of firm {} has been used: each counts once, and {last} was the last; if the date is wrong again ask the vendor for a new one", firm.0)]
    Used {
        /// Who signed.
        firm: FirmCode,
        /// Its serial.
        serial: u64,
        /// The serial of the last that counted.
        last: u64,
    },
    /// The date is not as wrong as the vendor was told.
    #[error(
        "the date here is {here}, and the reset is for a date of {from} or later: there is nothing to turn back"
    )]
    NotAhead {
        /// The date that the firm's licenses run on.
        here: WallTime,
        /// From when on the reset counts.
        from: WallTime,
    },
    /// Before a license that is installed was even issued.
    #[error(
        "the reset is to {to}, but license {license} was issued at {issued}, so the date cannot be earlier; ask the vendor for a reset to a later date"
    )]
    BeforeIssue {
        /// The date asked for.
        to: WallTime,
        /// The license.
        license: LicenseId,
        /// When it was issued.
        issued: WallTime,
    },
    /// The nodes' clocks would carry the date right back.
    #[error(
        "the clocks of {} still say {date} or later and would carry the date right back: set them right first (see `trine cluster doctor`), then install the same reset again",
        list(nodes)
    )]
    ClocksAhead {
        /// What they agree on.
        date: WallTime,
        /// Whose clocks are at or beyond the wrong date.
        nodes: Vec<NodeId>,
    },
}

impl ClockReset {
    /// Reads a reset, strictly. Nothing in it is believed yet.
    ///
    /// # Errors
    /// [`ResetRefusal::Undecodable`].
    pub fn decode(file: &[u8]) -> Result<Self, ResetRefusal> {
        Ok(codec::decode(FileKind::ClockReset, file)?)
    }

    /// The reset file.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(FileKind::ClockReset, self)
    }

    /// What the reset says. Not verified.
    pub fn claimed_terms(&self) -> &ResetTerms {
        &self.terms
    }

    /// The certificate the reset brings. Not verified.
    pub fn claimed_certificate(&self) -> &FirmCertificate {
        &self.certificate
    }

    /// Believes the reset and says which firm's it is, or says why not.
    ///
    /// `roots` are the vendors this cluster trusts.
    ///
    /// # Errors
    /// The first thing that does not hold, from the trust root down.
    pub fn verify(
        &self,
        roots: &[VendorRoot],
        cluster: &ClusterId,
    ) -> Result<(FirmCode, ResetTerms), ResetRefusal> {
        let certificate = &self.certificate;
        let firm = certificate.firm();
        let root = roots.iter().find(|root| root.key.digest() == *certificate.issuer());
        let Some(root) = root else {
            return Err(ResetRefusal::UnknownRoot {
                vendor: certificate.vendor().chars().take(trust::NAME_MAX).collect(),
                root: key::fingerprint(certificate.issuer()),
            });
        };
        if !certificate.verify(root) {
            return Err(ResetRefusal::FirmNotCertified { firm, root: root.name.clone() });
        }
        let body = codec::body(&self.terms);
        if !certificate.key().verify(Statement::ClockReset, &body, &self.signature) {
            return Err(ResetRefusal::SignatureWrong);
        }
        let meant = self.terms.cluster;
        if meant != *cluster {
            return Err(ResetRefusal::OtherCluster { meant, here: *cluster });
        }
        self.terms.validate()?;
        Ok((firm, self.terms))
    }
}

impl ResetTerms {
    /// Checks that it turns the date back.
    ///
    /// # Errors
    /// [`ResetRefusal::NotBack`].
    pub fn validate(&self) -> Result<(), ResetRefusal> {
        let (from, to) = (self.from, self.to);
        if to < from { Ok(()) } else { Err(ResetRefusal::NotBack { from, to }) }
    }
}

fn list(nodes: &[NodeId]) -> String {
    nodes.iter().map(NodeId::to_string).collect::<Vec<_>>().join(", ")
}
