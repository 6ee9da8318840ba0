//! PEM files: what is read from them, and which file an error is about.

use std::fmt;

use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// The bytes of a PEM file and the name by which errors call it.
#[derive(Clone, Copy)]
pub struct Pem<'a> {
    /// A path, or a setting such as `TRINE_CA`.
    pub name: &'a str,
    /// What the file holds.
    pub bytes: &'a [u8],
}

impl<'a> Pem<'a> {
    /// The bytes of the file called `name`.
    pub fn new(name: &'a str, bytes: &'a [u8]) -> Self {
        Self { name, bytes }
    }
}

impl fmt::Debug for Pem<'_> {
    /// Not the bytes: they may be a key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pem").field(&self.name).finish()
    }
}

/// A PEM file that does not hold what it should.
#[derive(Debug, thiserror::Error)]
pub enum PemError {
    /// No `CERTIFICATE` block.
    #[error(
        "{file} holds no certificate: a block that begins with -----BEGIN CERTIFICATE----- is needed"
    )]
    NoCertificate {
        /// The file.
        file: String,
    },
    /// No private key block.
    #[error(
        "{file} holds no private key: a block that begins with -----BEGIN PRIVATE KEY----- is needed"
    )]
    NoKey {
        /// The file.
        file: String,
    },
    /// A block that is cut short or garbled.
    #[error("{file} is damaged: {reason}; copy it again from where it was issued")]
    Damaged {
        /// The file.
        file: String,
        /// What is wrong with it.
        reason: String,
    },
    /// More than one certificate where one is meant.
    #[error("{file} holds {count} certificates; keep only the cluster CA's in it")]
    NotOneCertificate {
        /// The file.
        file: String,
        /// How many.
        count: usize,
    },
}

/// Every certificate in the file, in order; at least one.
pub(crate) fn certificates(pem: Pem<'_>) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let found: Vec<_> = CertificateDer::pem_slice_iter(pem.bytes)
        .collect::<Result<_, _>>()
        .map_err(|error| damaged(pem, &error))?;
    if found.is_empty() {
        return Err(PemError::NoCertificate { file: pem.name.to_owned() });
    }
    Ok(found)
}

/// The one certificate in the file.
pub(crate) fn certificate(pem: Pem<'_>) -> Result<CertificateDer<'static>, PemError> {
    let mut found = certificates(pem)?;
    match (found.pop(), found.len()) {
        (Some(one), 0) => Ok(one),
        (_, others) => {
            Err(PemError::NotOneCertificate { file: pem.name.to_owned(), count: others + 1 })
        }
    }
}

/// The first private key in the file.
pub(crate) fn key(pem: Pem<'_>) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_slice(pem.bytes).map_err(|error| match error {
        pem::Error::NoItemsFound => PemError::NoKey { file: pem.name.to_owned() },
        error => damaged(pem, &error),
    })
}

fn damaged(pem: Pem<'_>, error: &pem::Error) -> PemError {
    let reason = match error {
        pem::Error::MissingSectionEnd { .. } => "a block has no -----END line".to_owned(),
        pem::Error::IllegalSectionStart { .. } => "a -----BEGIN line is malformed".to_owned(),
        pem::Error::Base64Decode(_) => "a block is not base64".to_owned(),
        other => other.to_string(),
    };
    PemError::Damaged { file: pem.name.to_owned(), reason }
}
