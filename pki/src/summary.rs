//! What a certificate says of itself, for lists and for renewing it. Says
//! nothing about who signed it.

use std::net::IpAddr;

use rustls_pki_types::{CertificateDer, UnixTime};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

use crate::credentials::dates;
use crate::identity::{Identity, IdentityError, identity_of};
use crate::pem::{self, Pem, PemError};
use crate::trust::Fingerprint;

/// One certificate, read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whom it speaks for.
    pub identity: Result<Identity, IdentityError>,
    /// What names it.
    pub fingerprint: Fingerprint,
    /// Its first second.
    pub from: UnixTime,
    /// Its last second.
    pub expires: UnixTime,
    /// Whether it may sign others.
    pub is_authority: bool,
    /// The DNS names and IP addresses it is good for, in order.
    pub hosts: Vec<String>,
    /// The certificate itself.
    pub der: CertificateDer<'static>,
}

impl Summary {
    /// Of this certificate, strictly: no byte may follow it, or its fingerprint
    /// would be another's.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, IdentityError> {
        let unreadable = IdentityError::Unreadable;
        let (rest, x509) =
            X509Certificate::from_der(certificate).map_err(|_| unreadable.clone())?;
        let names = x509.subject_alternative_name().map_err(|_| unreadable.clone())?;
        let (from, expires) = dates(certificate).ok_or_else(|| unreadable.clone())?;
        if !rest.is_empty() {
            return Err(unreadable);
        }
        let names = names.iter().flat_map(|names| &names.value.general_names);
        Ok(Self {
            identity: identity_of(certificate),
            fingerprint: Fingerprint::of(certificate),
            from,
            expires,
            is_authority: x509.is_ca(),
            hosts: names.filter_map(host).collect(),
            der: certificate.clone().into_owned(),
        })
    }

    /// Of the first certificate in a file; those behind it are intermediate ones.
    pub fn read(file: Pem<'_>) -> Result<Self, PemError> {
        let first = pem::certificates(file)?.into_iter().next();
        let damaged = |reason: String| PemError::Damaged { file: file.name.to_owned(), reason };
        let first = first.ok_or_else(|| PemError::NoCertificate { file: file.name.to_owned() })?;
        Self::of(&first).map_err(|error| damaged(error.to_string()))
    }
}

fn host(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match bytes.len() {
            4 => Some(IpAddr::from(<[u8; 4]>::try_from(*bytes).ok()?).to_string()),
            16 => Some(IpAddr::from(<[u8; 16]>::try_from(*bytes).ok()?).to_string()),
            _ => None,
        },
        _ => None,
    }
}
