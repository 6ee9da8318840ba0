//! What a process shows of itself, as of now: its certificate and key, which
//! are replaced while it runs. Every handshake shows what is current.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use rustls::SignatureScheme;
use rustls::client::ResolvesClientCert;
use rustls::crypto::ring;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls_pki_types::UnixTime;

use crate::credentials::{CredentialError, Credentials};
use crate::tls::refused;
use crate::trust::Fingerprint;

/// A certificate and its key, in use. Clones share one, so that a new pair is
/// shown by every listener and dialer at once.
#[derive(Clone)]
pub struct Shown(Arc<RwLock<Arc<Pair>>>);

struct Pair {
    key: Arc<CertifiedKey>,
    fingerprint: Fingerprint,
    expires: UnixTime,
    ca: [u8; 32],
}

impl Shown {
    /// Shows this certificate.
    ///
    /// # Errors
    /// [`CredentialError`] if TLS cannot use it.
    pub fn new(credentials: &Credentials) -> Result<Self, CredentialError> {
        Ok(Self(Arc::new(RwLock::new(Arc::new(Pair::of(credentials)?)))))
    }

    /// Shows another certificate from the next handshake on. Whether others
    /// will believe it is [`Credentials::check_by`]'s to say, before.
    ///
    /// # Errors
    /// [`CredentialError`] if TLS cannot use it; then the old one is shown still.
    pub fn show(&self, credentials: &Credentials) -> Result<(), CredentialError> {
        let pair = Arc::new(Pair::of(credentials)?);
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = pair;
        Ok(())
    }

    /// The certificate that is shown.
    pub fn fingerprint(&self) -> Fingerprint {
        self.pair().fingerprint
    }

    /// Its last second, or that of an intermediate one if sooner.
    pub fn expires(&self) -> UnixTime {
        self.pair().expires
    }

    /// SHA-256 of the CA certificate that it is under.
    pub fn ca(&self) -> [u8; 32] {
        self.pair().ca
    }

    fn pair(&self) -> Arc<Pair> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Pair {
    fn of(credentials: &Credentials) -> Result<Self, CredentialError> {
        let signer = ring::sign::any_supported_type(credentials.key()).map_err(refused)?;
        Ok(Self {
            key: Arc::new(CertifiedKey::new(credentials.chain().to_vec(), signer)),
            fingerprint: credentials.fingerprint(),
            expires: credentials.expires_itself()?,
            ca: credentials.ca().digest(),
        })
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Shown({})", self.fingerprint())
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().key.clone())
    }
}

impl ResolvesClientCert for Shown {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(self.pair().key.clone())
    }

    fn has_certs(&self) -> bool {
        true
    }
}
