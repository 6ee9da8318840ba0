//! What one process shows of itself and whom it believes: its certificate, its
//! key and the cluster CA, read from files and checked before use.

use std::fmt;
use std::time::Duration;

use rustls::crypto::ring;
use rustls::server::WebPkiClientVerifier;
use rustls::sign::CertifiedKey;
use rustls::{CertificateError, InconsistentKeys};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::identity::{Identity, IdentityError, identity_of};
use crate::pem::{self, Pem, PemError};
use crate::tls;
use crate::trust::Fingerprint;

/// The cluster CA's certificate: whom this process believes.
#[derive(Clone, PartialEq, Eq)]
pub struct Ca {
    der: CertificateDer<'static>,
}

impl Ca {
    /// Reads a file that holds the CA's certificate and no other.
    pub fn parse(file: Pem<'_>) -> Result<Self, CredentialError> {
        let der = pem::certificate(file)?;
        if !is_authority(&der) {
            return Err(CredentialError::NotAnAuthority { file: file.name.to_owned() });
        }
        Ok(Self { der })
    }

    /// Reads a file that holds a cluster CA's certificate, or several while the
    /// cluster rotates its CA.
    pub fn parse_all(file: Pem<'_>) -> Result<Vec<Self>, CredentialError> {
        let found = pem::certificates(file)?;
        if !found.iter().all(is_authority) {
            return Err(CredentialError::NotAnAuthority { file: file.name.to_owned() });
        }
        Ok(found.into_iter().map(Self::from_der).collect())
    }

    /// A CA whose certificate was read before. Not looked at here: what is none
    /// is believed by nobody.
    pub fn of_der(certificate: Vec<u8>) -> Self {
        Self::from_der(certificate.into())
    }

    /// What it calls itself; `None` if it is not X.509 after all.
    pub fn name(&self) -> Option<String> {
        let (_, x509) = X509Certificate::from_der(&self.der).ok()?;
        let name = x509.subject().iter_common_name().next()?.as_str().ok()?;
        Some(name.chars().filter(|c| !c.is_control()).take(64).collect())
    }

    /// Whether it signed this chain, at any time.
    fn signed(&self, chain: &[CertificateDer<'_>]) -> bool {
        let Some((own, intermediates)) = chain.split_first() else { return false };
        let first_second = chain.iter().chain([&self.der]).filter_map(dates).map(|(from, _)| from);
        let Some(then) = first_second.max() else { return false };
        tls::roots(std::slice::from_ref(self))
            .ok()
            .and_then(|roots| {
                WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider())
                    .build()
                    .ok()
            })
            .is_some_and(|judge| judge.verify_client_cert(own, intermediates, then).is_ok())
    }

    pub(crate) fn from_der(der: CertificateDer<'static>) -> Self {
        Self { der }
    }

    /// The certificate.
    pub fn der(&self) -> &CertificateDer<'static> {
        &self.der
    }

    /// Its last second; `None` if it is not X.509 after all.
    pub fn expires(&self) -> Option<UnixTime> {
        expires(&self.der)
    }

    /// SHA-256 of the certificate's DER; the cluster's first log entry records it.
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.der).into()
    }
}

impl fmt::Debug for Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ca(")?;
        self.digest().iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
        f.write_str(")")
    }
}

/// Files that cannot be used, and which one is to blame.
#[derive(Debug, thiserror::Error)]
pub enum CredentialError {
    /// A file does not hold what it should.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// A certificate that names nobody.
    #[error("{file} cannot be used: {source}")]
    Identity {
        /// The certificate file.
        file: String,
        /// What is wrong with its name.
        source: IdentityError,
    },
    /// A block that is not X.509.
    #[error("{file} does not hold an X.509 certificate")]
    Unreadable {
        /// The certificate file.
        file: String,
    },
    /// A CA file with someone's certificate in it.
    #[error(
        "{file} holds a certificate that may not sign others; give the cluster CA's certificate"
    )]
    NotAnAuthority {
        /// The CA file.
        file: String,
    },
    /// A key this build cannot use.
    #[error(
        "the key in {file} is of a kind that TLS here cannot use; issue another with `trine pki issue`"
    )]
    KeyKind {
        /// The key file.
        file: String,
    },
    /// Certificate and key are of two pairs.
    #[error(
        "the key in {key_file} does not belong to the certificate in {certificate_file}; they are issued as a pair"
    )]
    KeyMismatch {
        /// The certificate file.
        certificate_file: String,
        /// The key file.
        key_file: String,
    },
    /// Its time is over.
    #[error("the certificate in {file} expired at {} and it is {}; issue another with `trine pki issue`, or set this machine's clock", date(*expired), date(*now))]
    Expired {
        /// The certificate file, or the CA's.
        file: String,
        /// Its last second.
        expired: UnixTime,
        /// The time it was checked at.
        now: UnixTime,
    },
    /// Its time has not come.
    #[error("the certificate in {file} is not valid before {} and it is {}; set this machine's clock", date(*from), date(*now))]
    NotYetValid {
        /// The certificate file, or the CA's.
        file: String,
        /// Its first second.
        from: UnixTime,
        /// The time it was checked at.
        now: UnixTime,
    },
    /// Signed by someone else.
    #[error(
        "the certificate in {file} was not signed by the CA in {ca_file}; issue it with that CA, or name the CA that signed it"
    )]
    NotSignedByCa {
        /// The certificate file.
        file: String,
        /// The CA file.
        ca_file: String,
    },
    /// A node's certificate that cannot serve, or anyone's that cannot dial.
    #[error(
        "the certificate in {file} may not be used as TLS {usage}; issue it with `trine pki issue`"
    )]
    Usage {
        /// The certificate file.
        file: String,
        /// `client` or `server`.
        usage: &'static str,
    },
    /// Anything else TLS has against it.
    #[error("the certificate in {file} is refused: {reason}")]
    Refused {
        /// The certificate file.
        file: String,
        /// In TLS's words.
        reason: String,
    },
}

/// A certificate chain with its key, and the CA to believe.
///
/// Key and certificate belong together and the certificate names an
/// [`Identity`]; dates and signature are [`check`](Self::check)ed against a time.
pub struct Credentials {
    ca: Ca,
    ca_file: String,
    /// Own first; never empty.
    chain: Vec<CertificateDer<'static>>,
    certificate_file: String,
    key: PrivateKeyDer<'static>,
    identity: Identity,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, {:?})", self.identity, self.ca)
    }
}

impl Clone for Credentials {
    fn clone(&self) -> Self {
        Self {
            ca: self.ca.clone(),
            ca_file: self.ca_file.clone(),
            chain: self.chain.clone(),
            certificate_file: self.certificate_file.clone(),
            key: self.key.clone_key(),
            identity: self.identity.clone(),
        }
    }
}

impl Credentials {
    /// Reads the three files: the CA's certificate, one's own (followed by
    /// intermediate ones, if any), and its key. Of several CAs the one counts
    /// that signed one's own.
    pub fn parse(ca: Pem<'_>, certificate: Pem<'_>, key: Pem<'_>) -> Result<Self, CredentialError> {
        let ca_file = ca.name.to_owned();
        let mut cas = Ca::parse_all(ca)?;
        let chain = pem::certificates(certificate)?;
        let signer = cas.iter().position(|ca| ca.signed(&chain)).unwrap_or(0);
        let ca = cas.swap_remove(signer);
        let key_der = pem::key(key)?;
        key_fits(&chain, &key_der, certificate.name, key.name)?;
        let certificate_file = certificate.name.to_owned();
        let identity = match chain.first().map(identity_of) {
            Some(Ok(identity)) => identity,
            Some(Err(source)) => {
                return Err(CredentialError::Identity { file: certificate_file, source });
            }
            None => return Err(PemError::NoCertificate { file: certificate_file }.into()),
        };
        Ok(Self { ca, ca_file, chain, certificate_file, key: key_der, identity })
    }

    /// Whether others will believe this certificate at `now`: the CA signed it,
    /// both are within their dates, and it may be used for what its role does
    /// (a node's as server under the name `trine`, everyone's as client).
    pub fn check(&self, now: UnixTime) -> Result<(), CredentialError> {
        self.check_by(std::slice::from_ref(&self.ca), now)
    }

    /// The same, where others believe these CAs and not the one it came with.
    pub fn check_by(&self, cas: &[Ca], now: UnixTime) -> Result<(), CredentialError> {
        let in_date = |ca: &&Ca| within_dates(ca.der(), &self.ca_file, now).is_ok();
        let believed: Vec<Ca> = cas.iter().filter(in_date).cloned().collect();
        if let (Some(ca), []) = (cas.first(), &believed[..]) {
            within_dates(ca.der(), &self.ca_file, now)?;
        }
        let Some((own, intermediates)) = self.chain.split_first() else {
            return Err(CredentialError::Unreadable { file: self.certificate_file.clone() });
        };
        within_dates(own, &self.certificate_file, now)?;
        let roots = tls::roots(&believed).map_err(|error| self.refused(&error, "client"))?;
        WebPkiClientVerifier::builder_with_provider(roots.into(), tls::provider())
            .build()
            .map_err(|error| CredentialError::Refused {
                file: self.ca_file.clone(),
                reason: error.to_string(),
            })?
            .verify_client_cert(own, intermediates, now)
            .map_err(|error| self.refused(&error, "client"))?;
        if self.identity.node_id().is_some() {
            tls::verify_server(&believed, own, intermediates, now)
                .map_err(|error| self.refused(&error, "server"))?;
        }
        Ok(())
    }

    /// The first moment at which the certificate and its CA's were both in
    /// date: to check all but whether they still are.
    pub fn first_moment(&self) -> Result<UnixTime, CredentialError> {
        let begins = self.chain.iter().chain([self.ca.der()]).map(dates);
        let begins = begins.map(|dates| dates.map(|(from, _)| from)).max().flatten();
        begins.ok_or_else(|| unreadable(&self.certificate_file))
    }

    /// Whom the certificate speaks for.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// The CA it came with.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    /// The last second of the certificate, or of the CA's if that is sooner.
    pub fn expires(&self) -> Result<UnixTime, CredentialError> {
        let ca = self.ca.expires().ok_or_else(|| unreadable(&self.ca_file))?;
        Ok(self.expires_itself()?.min(ca))
    }

    /// The last second of the certificate, or of an intermediate one if that is sooner.
    pub fn expires_itself(&self) -> Result<UnixTime, CredentialError> {
        let ends = self.chain.iter().map(expires);
        ends.min().flatten().ok_or_else(|| unreadable(&self.certificate_file))
    }

    /// What names the certificate.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.chain[0])
    }

    /// The certificate and its intermediate ones, own first.
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    pub(crate) fn key(&self) -> &PrivateKeyDer<'static> {
        &self.key
    }

    fn refused(&self, error: &rustls::Error, usage: &'static str) -> CredentialError {
        use rustls::Error::InvalidCertificate;
        let file = self.certificate_file.clone();
        match error {
            InvalidCertificate(
                CertificateError::UnknownIssuer | CertificateError::BadSignature,
            ) => CredentialError::NotSignedByCa { file, ca_file: self.ca_file.clone() },
            InvalidCertificate(
                CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. },
            ) => CredentialError::Usage { file, usage },
            other => CredentialError::Refused { file, reason: other.to_string() },
        }
    }
}

/// The last second of a certificate; `None` if it is not X.509.
pub fn expires(certificate: &CertificateDer<'_>) -> Option<UnixTime> {
    Some(dates(certificate)?.1)
}

pub(crate) fn dates(certificate: &CertificateDer<'_>) -> Option<(UnixTime, UnixTime)> {
    let (_, x509) = X509Certificate::from_der(certificate).ok()?;
    // A date before 1970 is as long ago as a UnixTime can be.
    let time = |seconds: i64| {
        UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
    };
    let validity = x509.validity();
    Some((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

fn within_dates(
    certificate: &CertificateDer<'_>,
    file: &str,
    now: UnixTime,
) -> Result<(), CredentialError> {
    let (from, expired) = dates(certificate).ok_or_else(|| unreadable(file))?;
    if now < from {
        return Err(CredentialError::NotYetValid { file: file.to_owned(), from, now });
    }
    if now > expired {
        return Err(CredentialError::Expired { file: file.to_owned(), expired, now });
    }
    Ok(())
}

fn unreadable(file: &str) -> CredentialError {
    CredentialError::Unreadable { file: file.to_owned() }
}

/// Whether X.509 lets this certificate sign others.
pub(crate) fn is_authority(certificate: &CertificateDer<'_>) -> bool {
    X509Certificate::from_der(certificate).is_ok_and(|(_, x509)| x509.is_ca())
}

/// Refuses a key that is not the certificate's.
pub(crate) fn key_fits(
    chain: &[CertificateDer<'static>],
    key: &PrivateKeyDer<'static>,
    certificate_file: &str,
    key_file: &str,
) -> Result<(), CredentialError> {
    let signer = ring::sign::any_supported_type(key)
        .map_err(|_| CredentialError::KeyKind { file: key_file.to_owned() })?;
    match CertifiedKey::new(chain.to_vec(), signer).keys_match() {
        Ok(()) => Ok(()),
        Err(rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch)) => {
            Err(CredentialError::KeyMismatch {
                certificate_file: certificate_file.to_owned(),
                key_file: key_file.to_owned(),
            })
        }
        Err(rustls::Error::InconsistentKeys(_)) => {
            Err(CredentialError::KeyKind { file: key_file.to_owned() })
        }
        Err(_) => Err(unreadable(certificate_file)),
    }
}

pub(crate) fn date(time: UnixTime) -> String {
    i64::try_from(time.as_secs())
        .ok()
        .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok())
        .map_or_else(
            || format!("{} s after 1970", time.as_secs()),
            |at| {
                let (h, m, s) = at.to_hms();
                format!("{}T{h:02}:{m:02}:{s:02}Z", at.date())
            },
        )
}
