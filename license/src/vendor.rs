//! The vendor's side, offline: the root key that certifies firms and the firm
//! key that signs licenses.
//!
//! They are two things on purpose: issuing needs the firm key alone, so the
//! root key can stay in a safe.

use std::fmt;

use p256::ecdsa::SigningKey;
use p256::elliptic_curve::Generate;
use zeroize::Zeroizing;

use crate::codec;
use crate::frost::{self, Split};
use crate::key::{PublicKey, Signature, Statement};
use crate::keyfile::{self, KeyRefusal};
use crate::package::{LicenseStatement, Package};
use crate::product::{ActId, ClusterId, FirmCode};
use crate::rand_core::CryptoRng;
use crate::request::ClusterRequest;
use crate::reset::{ClockReset, ResetRefusal, ResetTerms};
use crate::share::SealedShare;
use crate::terms::{Terms, TermsRefusal};
use crate::trust::{self, FirmBody, FirmCertificate, TrustRefusal, VendorRoot};

/// Why a request is not answered with a license.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueRefusal {
    /// Terms that no license may have.
    #[error("the terms are not valid: {0}")]
    Terms(#[from] TermsRefusal),
    /// Terms for another cluster.
    #[error(
        "the terms are for cluster {terms} and the request is of cluster {request}; take the cluster from the request"
    )]
    OtherCluster {
        /// The terms'.
        terms: ClusterId,
        /// The request's.
        request: ClusterId,
    },
    /// Terms for another activation id.
    #[error("the terms have activation id {} and the request has {}; take it from the request", terms.0, request.0)]
    OtherAct {
        /// The terms'.
        terms: ActId,
        /// The request's.
        request: ActId,
    },
    /// Another firm's license.
    #[error("the license is of firm {} and this key signs for firm {}; use this firm's code", license.0, firm.0)]
    OtherFirm {
        /// The terms'.
        license: FirmCode,
        /// The key's.
        firm: FirmCode,
    },
    /// Zero where randomness was due.
    #[error("the randomness handed in is unusable; check this machine's source of randomness")]
    BadRandomness,
}

/// A vendor's root key: certifies firm keys, and nothing else.
pub struct RootKey {
    root: VendorRoot,
    secret: SigningKey,
}

impl RootKey {
    /// Draws a new root.
    ///
    /// # Errors
    /// When the name is not valid.
    pub fn create<R: CryptoRng>(name: &str, rng: &mut R) -> Result<Self, TrustRefusal> {
        trust::check_name(name)?;
        let secret = SigningKey::generate_from_rng(rng);
        let root = VendorRoot { name: name.to_owned(), key: PublicKey::of(&secret) };
        Ok(Self { root, secret })
    }

    /// The public root.
    pub fn root(&self) -> &VendorRoot {
        &self.root
    }

    /// The public root's file, for customers.
    pub fn root_file(&self) -> Vec<u8> {
        let body = codec::body(&self.root);
        self.root.clone().encode(Signature::make(&self.secret, Statement::Root, &body))
    }

    fn certify(&self, firm: FirmCode, vendor: &str, key: PublicKey) -> FirmCertificate {
        let issuer = self.root.key.digest();
        let body = FirmBody { firm, vendor: vendor.to_owned(), key, issuer };
        let signature = Signature::make(&self.secret, Statement::Firm, &codec::body(&body));
        FirmCertificate { body, signature }
    }

    /// The root key, encrypted under a passphrase as [`keyfile`] says.
    ///
    /// # Errors
    /// When the passphrase is shorter than [`keyfile::PASSPHRASE_MIN`].
    pub fn export<R: CryptoRng>(
        &self,
        passphrase: &[u8],
        rng: &mut R,
    ) -> Result<Zeroizing<String>, KeyRefusal> {
        keyfile::export(&self.secret, passphrase, rng)
    }

    /// Opens an exported root key.
    ///
    /// # Errors
    /// When the passphrase is wrong, or the key is not this root's.
    pub fn import(root: VendorRoot, pem: &str, passphrase: &[u8]) -> Result<Self, KeyRefusal> {
        let secret = keyfile::import(pem, passphrase, &root.key, &root.name)?;
        Ok(Self { root, secret })
    }
}

impl fmt::Debug for RootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("RootKey").field(&self.root).finish()
    }
}

/// A vendor at work: the firm key, and the root's certificate of it.
pub struct Vendor {
    certificate: FirmCertificate,
    secret: SigningKey,
}

impl Vendor {
    /// Draws a firm key and has the root certify it.
    ///
    /// # Errors
    /// When the vendor's name is not valid.
    pub fn create<R: CryptoRng>(
        root: &RootKey,
        firm: FirmCode,
        vendor: &str,
        rng: &mut R,
    ) -> Result<Self, TrustRefusal> {
        trust::check_name(vendor)?;
        let secret = SigningKey::generate_from_rng(rng);
        let certificate = root.certify(firm, vendor, PublicKey::of(&secret));
        Ok(Self { certificate, secret })
    }

    /// The root's certificate of this firm.
    pub fn certificate(&self) -> &FirmCertificate {
        &self.certificate
    }

    /// Issues a license for the cluster that asks: draws its signing key,
    /// splits it two of three, seals each share to one container, forgets it.
    ///
    /// An update is issued the same way under a higher serial, with new shares.
    ///
    /// # Errors
    /// When the terms are not valid, or not for this request and firm.
    pub fn issue<R: CryptoRng>(
        &self,
        request: &ClusterRequest,
        terms: Terms,
        rng: &mut R,
    ) -> Result<Package, IssueRefusal> {
        terms.validate()?;
        if terms.cluster != request.cluster() {
            let (terms, request) = (terms.cluster, request.cluster());
            return Err(IssueRefusal::OtherCluster { terms, request });
        }
        if terms.act != request.act() {
            return Err(IssueRefusal::OtherAct { terms: terms.act, request: request.act() });
        }
        let (license, firm) = (terms.license.firm, self.certificate.firm());
        if license != firm {
            return Err(IssueRefusal::OtherFirm { license, firm });
        }
        let statement = split_and_seal(request, terms, rng).ok_or(IssueRefusal::BadRandomness)?;
        Ok(self.sign(statement))
    }

    pub(crate) fn sign(&self, statement: LicenseStatement) -> Package {
        let body = codec::body(&statement);
        let signature = Signature::make(&self.secret, Statement::License, &body);
        Package { certificate: self.certificate.clone(), statement, signature }
    }

    /// Signs a reset of one cluster's date.
    ///
    /// # Errors
    /// When it would not turn the date back.
    pub fn reset_clock(&self, terms: ResetTerms) -> Result<ClockReset, ResetRefusal> {
        terms.validate()?;
        Ok(self.sign_reset(terms))
    }

    pub(crate) fn sign_reset(&self, terms: ResetTerms) -> ClockReset {
        let signature = Signature::make(&self.secret, Statement::ClockReset, &codec::body(&terms));
        ClockReset { certificate: self.certificate.clone(), terms, signature }
    }

    /// The firm key, encrypted under a passphrase as [`keyfile`] says.
    ///
    /// # Errors
    /// When the passphrase is shorter than [`keyfile::PASSPHRASE_MIN`].
    pub fn export<R: CryptoRng>(
        &self,
        passphrase: &[u8],
        rng: &mut R,
    ) -> Result<Zeroizing<String>, KeyRefusal> {
        keyfile::export(&self.secret, passphrase, rng)
    }

    /// Opens an exported firm key.
    ///
    /// # Errors
    /// When the passphrase is wrong, or the key is not the certified one.
    pub fn import(
        certificate: FirmCertificate,
        pem: &str,
        passphrase: &[u8],
    ) -> Result<Self, KeyRefusal> {
        let secret = keyfile::import(pem, passphrase, certificate.key(), certificate.vendor())?;
        Ok(Self { certificate, secret })
    }
}

impl fmt::Debug for Vendor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Vendor").field(&self.certificate).finish()
    }
}

/// Draws and splits a license key. `None` only when the randomness is degenerate.
pub(crate) fn split_and_seal<R: CryptoRng>(
    request: &ClusterRequest,
    terms: Terms,
    rng: &mut R,
) -> Option<LicenseStatement> {
    let Split { group, slope, shares: secrets } = frost::split(rng)?;
    let mut shares = Vec::with_capacity(secrets.len());
    for (signer, (request, secret)) in request.requests().iter().zip(&secrets).enumerate() {
        let verifying = frost::verifying_share(&group, &slope, signer)?;
        let recipient = request.identity().key();
        shares.push(SealedShare::seal(&terms, recipient, verifying, secret, rng)?);
    }
    Some(LicenseStatement { terms, group, slope, shares })
}
