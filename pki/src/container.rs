//! Certificates of containers: the cluster CA's word that a public key is that
//! of one node's container.
//!
//! They name the container by the URI `trine://container/node-N/SERIAL`, which
//! is no [`Identity`](crate::Identity): with such a certificate nobody is let
//! in anywhere. Whoever collects three containers checks it, and the vendor.

use rcgen::{IsCa, KeyUsagePurpose, SanType, SubjectPublicKeyInfo};
use rustls::CertificateError;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::authority::{Authority, AuthorityError, Validity, params};
use crate::credentials::{Ca, date, dates, is_authority};
use crate::identity::SCHEME;
use crate::pem::{self, Pem, PemError};
use crate::tls;

/// The container that a certificate is, or should be, of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContainerSubject<'a> {
    /// The node's id.
    pub node: u64,
    /// The container's serial number, `130-XXXXXXXXXX`.
    pub serial: &'a str,
    /// Its public key: SubjectPublicKeyInfo, DER.
    pub key: &'a [u8],
}

impl ContainerSubject<'_> {
    fn uri(&self) -> String {
        format!("{SCHEME}container/node-{}/{}", self.node, self.serial)
    }
}

/// Why a chain of certificates does not vouch for a container.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ContainerRefusal {
    /// No certificate at all.
    #[error("it has no certificate of the cluster CA")]
    None,
    /// Bytes that are no certificate, or a chain whose end is no authority.
    #[error("its chain is not a chain of certificates that ends with a CA's")]
    Unreadable,
    /// Another CA than those that count.
    #[error("its chain leads to another CA, {}", fingerprint(found))]
    OtherCa {
        /// SHA-256 of the CA certificate at the end of the chain.
        found: [u8; 32],
    },
    /// The CA at its end did not sign it.
    #[error("its certificate was not signed by the CA at the end of its chain")]
    NotSignedByCa,
    /// Its time is over, or its CA's.
    #[error("its certificate, or its CA's, expired at {}", date(*expired))]
    Expired {
        /// The last second.
        expired: UnixTime,
    },
    /// Its time has not come, or its CA's.
    #[error("its certificate, or its CA's, is not valid before {}; look at this machine's clock", date(*from))]
    NotYetValid {
        /// The first second.
        from: UnixTime,
    },
    /// The certificate of something else, or of another container or node.
    #[error("its certificate is for {found}, not for {wanted}")]
    OtherName {
        /// What the certificate names.
        found: String,
        /// The container's name.
        wanted: String,
    },
    /// The certificate of another key.
    #[error("its certificate is for another key")]
    OtherKey,
    /// Anything else X.509 has against it.
    #[error("its certificate is refused: {reason}")]
    Refused {
        /// In the checker's words.
        reason: String,
    },
}

impl Authority {
    /// A certificate for a container's key. Gives the chain as PEM: the
    /// container's certificate, then this authority's.
    pub fn certify_container(
        &self,
        subject: &ContainerSubject<'_>,
        validity: Validity,
    ) -> Result<String, AuthorityError> {
        let key = SubjectPublicKeyInfo::from_der(subject.key).map_err(AuthorityError::Failed)?;
        let mut params = params(&format!("container {}", subject.serial), validity)?;
        let uri = subject.uri().try_into().map_err(AuthorityError::Failed)?;
        params.subject_alt_names = vec![SanType::URI(uri)];
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyAgreement];
        params.use_authority_key_identifier_extension = true;
        let certificate = params.signed_by(&key, self.issuer()).map_err(AuthorityError::Failed)?;
        Ok(certificate.pem() + &self.pem().certificate_pem)
    }
}

/// The certificates in a file, in its order, DER: a container's own, then any
/// intermediate ones, then the CA's.
pub fn container_chain(file: Pem<'_>) -> Result<Vec<Vec<u8>>, PemError> {
    Ok(pem::certificates(file)?.iter().map(|certificate| certificate.to_vec()).collect())
}

/// Whether a chain (DER: the container's own certificate first, the CA's last)
/// vouches for this container at `now`, by a CA whose digest `counts`.
///
/// Gives that CA.
///
/// # Errors
/// [`ContainerRefusal`], the first thing that is wrong.
pub fn verify_container(
    chain: &[Vec<u8>],
    subject: &ContainerSubject<'_>,
    counts: impl FnOnce(&[u8; 32]) -> bool,
    now: UnixTime,
) -> Result<Ca, ContainerRefusal> {
    let chain: Vec<CertificateDer<'static>> =
        chain.iter().map(|certificate| CertificateDer::from(certificate.clone())).collect();
    let (own, intermediates, ca) = match &chain[..] {
        [] => return Err(ContainerRefusal::None),
        [own, intermediates @ .., ca] if is_authority(ca) => (own, intermediates, ca),
        _ => return Err(ContainerRefusal::Unreadable),
    };
    let ca = Ca::from_der(ca.clone());
    if !counts(&ca.digest()) {
        return Err(ContainerRefusal::OtherCa { found: ca.digest() });
    }
    for certificate in [own, ca.der()] {
        let (from, expired) = dates(certificate).ok_or(ContainerRefusal::Unreadable)?;
        if now < from {
            return Err(ContainerRefusal::NotYetValid { from });
        }
        if now > expired {
            return Err(ContainerRefusal::Expired { expired });
        }
    }
    signed(own, intermediates, &ca, now)?;
    names(own, subject)?;
    Ok(ca)
}

fn signed(
    own: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    ca: &Ca,
    now: UnixTime,
) -> Result<(), ContainerRefusal> {
    let refused = |reason: String| ContainerRefusal::Refused { reason };
    let roots = tls::roots(std::slice::from_ref(ca)).map_err(|error| refused(error.to_string()))?;
    WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider())
        .build()
        .map_err(|error| refused(error.to_string()))?
        .verify_client_cert(own, intermediates, now)
        .map(drop)
        .map_err(|error| match error {
            rustls::Error::InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => ContainerRefusal::NotSignedByCa,
            other => refused(other.to_string()),
        })
}

/// Whether the certificate is of exactly this node, container and key.
fn names(
    certificate: &CertificateDer<'_>,
    subject: &ContainerSubject<'_>,
) -> Result<(), ContainerRefusal> {
    let unreadable = |_| ContainerRefusal::Unreadable;
    let (_, x509) = X509Certificate::from_der(certificate).map_err(unreadable)?;
    let alternatives = x509.subject_alternative_name().map_err(|_| ContainerRefusal::Unreadable)?;
    let uris: Vec<&str> = alternatives
        .iter()
        .flat_map(|names| &names.value.general_names)
        .filter_map(|name| match name {
            GeneralName::URI(uri) if uri.starts_with(SCHEME) => Some(*uri),
            _ => None,
        })
        .collect();
    let wanted = subject.uri();
    if uris != [wanted.as_str()] {
        let shown: Vec<String> = uris.iter().map(|uri| uri.chars().take(80).collect()).collect();
        let found =
            if shown.is_empty() { "nothing of Trine's".to_owned() } else { shown.join(", ") };
        return Err(ContainerRefusal::OtherName { found, wanted });
    }
    if x509.tbs_certificate.subject_pki.raw != subject.key {
        return Err(ContainerRefusal::OtherKey);
    }
    Ok(())
}

/// As people compare digests: the first 16 bytes, in groups of four digits.
fn fingerprint(digest: &[u8; 32]) -> String {
    let group = |pair: &[u8]| pair.iter().map(|byte| format!("{byte:02x}")).collect();
    digest[..16].chunks(2).map(group).collect::<Vec<String>>().join("-")
}
