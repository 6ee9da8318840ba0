//! The cluster's certificate authority: makes itself, and certificates for
//! nodes, applications and operators.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType,
};
use rustls_pki_types::UnixTime;
use time::OffsetDateTime;

use crate::credentials::{Ca, CredentialError, key_fits};
use crate::identity::{Identity, InvalidIdentity, Role};
use crate::pem::{self, Pem, PemError};
use crate::tls::SERVER_NAME;

/// When a certificate counts, both ends included. X.509 counts whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// Not before this time.
    pub not_before: UnixTime,
    /// Not after this time.
    pub not_after: UnixTime,
}

impl Validity {
    /// How far clocks may differ between the issuer and whoever checks.
    const SLACK: Duration = Duration::from_secs(60 * 60);

    /// Valid for `period` from `now`, and from an hour before, so that a clock
    /// that is a little slow does not refuse a new certificate.
    pub fn starting(now: UnixTime, period: Duration) -> Self {
        let now = Duration::from_secs(now.as_secs());
        Self {
            not_before: UnixTime::since_unix_epoch(now.saturating_sub(Self::SLACK)),
            not_after: UnixTime::since_unix_epoch(now.saturating_add(period)),
        }
    }
}

/// A certificate and its private key, as PEM text.
///
/// The key is PKCS#8; write it to a file that only its owner may read.
#[derive(Clone, PartialEq, Eq)]
pub struct Issued {
    /// `-----BEGIN CERTIFICATE-----`
    pub certificate_pem: String,
    /// `-----BEGIN PRIVATE KEY-----`
    pub key_pem: String,
}

impl fmt::Debug for Issued {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Issued")
            .field("certificate_pem", &self.certificate_pem)
            .finish_non_exhaustive()
    }
}

/// Why an authority could not be made or read, or would not issue.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// A name that may not stand in a certificate.
    #[error(transparent)]
    Name(#[from] InvalidIdentity),
    /// A name for a node that is neither an address nor a DNS name.
    #[error("{name:?} is neither an IP address nor a DNS name")]
    HostName {
        /// What was given.
        name: String,
    },
    /// The dates cannot be written, or end before they begin.
    #[error("the validity asked for ends before it begins, or lies outside the years 1970 to 9999")]
    Validity,
    /// A file does not hold what it should.
    #[error(transparent)]
    Pem(#[from] PemError),
    /// The files are readable but are not an authority's.
    #[error(transparent)]
    Credential(#[from] CredentialError),
    /// The certificate may not sign others.
    #[error(
        "{file} is not a certificate authority's certificate; give the CA's, or make one with `trine pki init`"
    )]
    NotAnAuthority {
        /// The certificate file.
        file: String,
    },
    /// The key is of a kind that cannot sign here.
    #[error(
        "the key in {file} cannot be used: ECDSA P-256 or P-384, Ed25519 or RSA in PKCS#8 is needed"
    )]
    KeyKind {
        /// The key file.
        file: String,
    },
    /// The cryptographic library failed.
    #[error("making the certificate failed")]
    Failed(#[source] rcgen::Error),
}

/// A certificate authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pair: Issued,
    ca: Ca,
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("ca", &self.ca).finish_non_exhaustive()
    }
}

impl Authority {
    /// Makes a new authority called `name` (1 to 64 characters; shown, never compared).
    pub fn create(name: &str, validity: Validity) -> Result<Self, AuthorityError> {
        if name.is_empty() || name.chars().count() > 64 || name.chars().any(char::is_control) {
            let rule = "an authority's name is 1 to 64 printable characters long";
            let value = name.chars().take(80).collect();
            return Err(InvalidIdentity { value, rule }.into());
        }
        let mut params = params(name, validity)?;
        // Signs certificates of users only, never of further authorities.
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().map_err(AuthorityError::Failed)?;
        let certificate = params.self_signed(&key).map_err(AuthorityError::Failed)?;
        let pair = Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() };
        let ca = Ca::from_der(certificate.der().clone());
        Ok(Self { issuer: Issuer::new(params, key), pair, ca })
    }

    /// Reads an authority that [`create`](Self::create) or someone else made.
    pub fn from_pem(certificate: Pem<'_>, key: Pem<'_>) -> Result<Self, AuthorityError> {
        let der = pem::certificate(certificate)?;
        key_fits(std::slice::from_ref(&der), &pem::key(key)?, certificate.name, key.name)?;
        let kind = || AuthorityError::KeyKind { file: key.name.to_owned() };
        let key_pem = std::str::from_utf8(key.bytes).map_err(|_| kind())?;
        let pair = KeyPair::from_pem(key_pem).map_err(|_| kind())?;
        let not_an_authority =
            || AuthorityError::NotAnAuthority { file: certificate.name.to_owned() };
        let issuer = Issuer::from_ca_cert_der(&der, pair).map_err(|_| not_an_authority())?;
        if !crate::credentials::is_authority(&der) {
            return Err(not_an_authority());
        }
        let pair = Issued {
            certificate_pem: String::from_utf8_lossy(certificate.bytes).into_owned(),
            key_pem: key_pem.to_owned(),
        };
        Ok(Self { issuer, pair, ca: Ca::from_der(der) })
    }

    /// The certificate that all others trust.
    pub fn ca(&self) -> &Ca {
        &self.ca
    }

    pub(crate) fn issuer(&self) -> &Issuer<'static, KeyPair> {
        &self.issuer
    }

    /// The authority's own certificate and key, to be kept.
    pub fn pem(&self) -> &Issued {
        &self.pair
    }

    /// A certificate for node `id` (at least 1), as server and as client.
    ///
    /// It is good for the names `trine`, `node-N` and `localhost`, for
    /// 127.0.0.1 and ::1, and for `hosts`: IP addresses or DNS names.
    pub fn issue_node(
        &self,
        id: u64,
        hosts: &[&str],
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        let identity = Identity::node(id)?;
        let mut names = vec![
            dns(SERVER_NAME)?,
            dns(identity.name())?,
            dns("localhost")?,
            SanType::IpAddress(Ipv4Addr::LOCALHOST.into()),
            SanType::IpAddress(Ipv6Addr::LOCALHOST.into()),
        ];
        for host in hosts {
            let name = host_name(host)?;
            if !names.contains(&name) {
                names.push(name);
            }
        }
        let usages = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&identity, names, &usages, validity)
    }

    /// A certificate for an application, as client only.
    pub fn issue_application(
        &self,
        name: &str,
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        self.issue_client(Role::Application, name, validity)
    }

    /// A certificate for an operator, as client only.
    pub fn issue_operator(&self, name: &str, validity: Validity) -> Result<Issued, AuthorityError> {
        self.issue_client(Role::Operator, name, validity)
    }

    fn issue_client(
        &self,
        role: Role,
        name: &str,
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        let identity = Identity::new(role, name)?;
        self.issue(&identity, Vec::new(), &[ExtendedKeyUsagePurpose::ClientAuth], validity)
    }

    fn issue(
        &self,
        identity: &Identity,
        names: Vec<SanType>,
        usages: &[ExtendedKeyUsagePurpose],
        validity: Validity,
    ) -> Result<Issued, AuthorityError> {
        // X.520 bounds a common name at 64; the identity is in the URI in full.
        let common_name: String = identity.name().chars().take(64).collect();
        let mut params = params(&common_name, validity)?;
        let uri = identity.to_string().try_into().map_err(AuthorityError::Failed)?;
        params.subject_alt_names = names;
        params.subject_alt_names.push(SanType::URI(uri));
        params.is_ca = IsCa::ExplicitNoCa;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = usages.to_vec();
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().map_err(AuthorityError::Failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(AuthorityError::Failed)?;
        Ok(Issued { certificate_pem: certificate.pem(), key_pem: key.serialize_pem() })
    }
}

pub(crate) fn params(
    common_name: &str,
    validity: Validity,
) -> Result<CertificateParams, AuthorityError> {
    if validity.not_after < validity.not_before {
        return Err(AuthorityError::Validity);
    }
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Trine");
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.not_before = date(validity.not_before)?;
    params.not_after = date(validity.not_after)?;
    Ok(params)
}

fn date(time: UnixTime) -> Result<OffsetDateTime, AuthorityError> {
    let seconds = i64::try_from(time.as_secs()).map_err(|_| AuthorityError::Validity)?;
    OffsetDateTime::from_unix_timestamp(seconds).map_err(|_| AuthorityError::Validity)
}

fn dns(name: &str) -> Result<SanType, AuthorityError> {
    let name = name.to_owned().try_into().map_err(AuthorityError::Failed)?;
    Ok(SanType::DnsName(name))
}

fn host_name(host: &str) -> Result<SanType, AuthorityError> {
    if let Ok(address) = host.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    if rustls_pki_types::DnsName::try_from(host).is_err() {
        return Err(AuthorityError::HostName { name: host.to_owned() });
    }
    dns(host)
}
