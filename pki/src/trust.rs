//! Whom a process believes, as of now: the cluster CAs, less the certificates
//! that were revoked, and what the date is. Replaced while the
//! process runs; every handshake asks anew.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use sha2::{Digest, Sha256};

use crate::credentials::{Ca, CredentialError};
use crate::identity::identity_of;
use crate::tls::{ClientAuth, provider, refused, roots};

/// Names one certificate: the SHA-256 of its DER.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// Of this certificate.
    pub fn of(certificate: &CertificateDer<'_>) -> Self {
        Self(Sha256::digest(certificate).into())
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Whom this process believes. Clones share one set, so that whoever learns of
/// a new CA or a revoked certificate tells every listener and dialer at once.
#[derive(Clone)]
pub struct Trust(Arc<Shared>);

struct Shared {
    current: RwLock<Arc<Believed>>,
    /// Rises with every change.
    version: AtomicU64,
    /// Another date than the machine's clock, in seconds since 1970; 0 before
    /// there is one.
    date: AtomicU64,
}

/// A refusal that may be about dates alone.
pub trait OutOfDate {
    /// Whether at another time the answer might be another.
    fn is_out_of_date(&self) -> bool;
}

impl OutOfDate for Error {
    fn is_out_of_date(&self) -> bool {
        use CertificateError::{Expired, ExpiredContext, NotValidYet, NotValidYetContext};
        let Self::InvalidCertificate(error) = self else { return false };
        matches!(error, Expired | ExpiredContext { .. } | NotValidYet | NotValidYetContext { .. })
    }
}

impl OutOfDate for CredentialError {
    fn is_out_of_date(&self) -> bool {
        matches!(self, Self::Expired { .. } | Self::NotYetValid { .. })
    }
}

#[derive(Clone)]
struct Believed {
    cas: Vec<Ca>,
    revoked: Arc<BTreeSet<Fingerprint>>,
    /// Nodes that belong to the cluster no more.
    gone: Arc<BTreeSet<u64>>,
    /// `None` while no CA is believed.
    judges: Option<Judges>,
}

/// The CAs, as TLS asks them.
#[derive(Clone)]
struct Judges {
    clients: Arc<dyn ClientCertVerifier>,
    servers: Arc<WebPkiServerVerifier>,
}

impl Trust {
    /// Believes what these CAs signed.
    ///
    /// # Errors
    /// [`CredentialError::Refused`] if TLS cannot use a CA's certificate.
    pub fn new(cas: &[Ca]) -> Result<Self, CredentialError> {
        let trust = Self::nobody();
        trust.believe(cas)?;
        Ok(trust)
    }

    /// Believes nobody, until told otherwise.
    pub fn nobody() -> Self {
        let believed = Believed {
            cas: Vec::new(),
            revoked: Arc::default(),
            gone: Arc::default(),
            judges: None,
        };
        let current = RwLock::new(Arc::new(believed));
        Self(Arc::new(Shared { current, version: AtomicU64::new(0), date: AtomicU64::new(0) }))
    }

    /// Believes what these CAs signed, and no longer what others did.
    ///
    /// Connections that stand are not touched: ask their other ends to connect anew.
    ///
    /// # Errors
    /// [`CredentialError::Refused`] if TLS cannot use a CA's certificate; then
    /// nothing has changed.
    pub fn believe(&self, cas: &[Ca]) -> Result<(), CredentialError> {
        let judges = if cas.is_empty() { None } else { Some(Judges::of(cas)?) };
        self.change(|believed| {
            believed.cas = cas.to_vec();
            believed.judges = judges;
        });
        Ok(())
    }

    /// Refuses exactly these certificates, whoever signed them.
    pub fn refuse(&self, revoked: BTreeSet<Fingerprint>) {
        if *self.current().revoked != revoked {
            self.change(|believed| believed.revoked = Arc::new(revoked));
        }
    }

    /// These nodes belong to the cluster no more, and are to hear that from its
    /// nodes even with a revoked certificate ([`ClientAuth::Required`]).
    pub fn tell(&self, gone: BTreeSet<u64>) {
        if *self.current().gone != gone {
            self.change(|believed| believed.gone = Arc::new(gone));
        }
    }

    /// From now on certificates hold if they do at `date`, too, whatever the
    /// machine's clock shows.
    pub fn date_is(&self, date: UnixTime) {
        self.0.date.store(date.as_secs(), Ordering::Release);
    }

    /// Whether a certificate holds, by whoever `verify` asks about one moment:
    /// by the machine's clock, or by the date that this was told.
    ///
    /// Either may be wrong, the date too when wrong clocks carried it ahead, and
    /// a node that believes nobody is worse than one that believes somebody for
    /// longer: who must be kept out is revoked.
    pub fn in_date<T, E: OutOfDate>(
        &self,
        clock: UnixTime,
        verify: impl Fn(UnixTime) -> Result<T, E>,
    ) -> Result<T, E> {
        verify(clock).or_else(|error| match self.0.date.load(Ordering::Acquire) {
            0 => Err(error),
            _ if !error.is_out_of_date() => Err(error),
            date => verify(UnixTime::since_unix_epoch(Duration::from_secs(date))),
        })
    }

    /// Whether this node belongs to the cluster no more.
    pub fn is_gone(&self, node: u64) -> bool {
        self.current().gone.contains(&node)
    }

    /// The CAs that are believed.
    pub fn cas(&self) -> Vec<Ca> {
        self.current().cas.clone()
    }

    /// Whether this certificate is refused.
    pub fn is_revoked(&self, certificate: &Fingerprint) -> bool {
        self.current().revoked.contains(certificate)
    }

    /// Rises with every change, so that who judged by the set can tell cheaply
    /// that it has to judge again.
    pub fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    fn current(&self) -> Arc<Believed> {
        self.0.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut Believed)) {
        let mut current = self.0.current.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut current));
        self.0.version.fetch_add(1, Ordering::Release);
    }

    /// Those who judge `certificate`, unless it is refused at once.
    fn judges_of(&self, certificate: &CertificateDer<'_>) -> Result<Judges, Error> {
        let current = self.current();
        if current.revoked.contains(&Fingerprint::of(certificate)) {
            return Err(CertificateError::Revoked.into());
        }
        current.judges.clone().ok_or_else(|| CertificateError::UnknownIssuer.into())
    }

    /// The same of a caller at a listener that tells nodes that they are gone.
    fn judges_of_peer(&self, certificate: &CertificateDer<'_>) -> Result<Judges, Error> {
        let current = self.current();
        let node = identity_of(certificate).ok().and_then(|identity| identity.node_id());
        match (node, &current.judges) {
            (Some(node), Some(judges)) if current.gone.contains(&node) => Ok(judges.clone()),
            _ => self.judges_of(certificate),
        }
    }
}

impl fmt::Debug for Trust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let current = self.current();
        write!(f, "Trust({:?}, {} revoked)", current.cas, current.revoked.len())
    }
}

impl Judges {
    fn of(cas: &[Ca]) -> Result<Self, CredentialError> {
        let roots = Arc::new(roots(cas).map_err(refused)?);
        let clients = WebPkiClientVerifier::builder_with_provider(roots.clone(), provider())
            .build()
            .map_err(refused)?;
        let servers = WebPkiServerVerifier::builder_with_provider(roots, provider())
            .build()
            .map_err(refused)?;
        Ok(Self { clients, servers })
    }
}

/// How either judge has a handshake's signature checked: as TLS always does.
macro_rules! tls_signatures {
    () => {
        fn verify_tls12_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls12_signature(message, certificate, signature, &algorithms)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            certificate: &CertificateDer<'_>,
            signature: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            let algorithms = provider().signature_verification_algorithms;
            rustls::crypto::verify_tls13_signature(message, certificate, signature, &algorithms)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            provider().signature_verification_algorithms.supported_schemes()
        }
    };
}

/// A listener's judge of its callers' certificates.
#[derive(Debug)]
pub(crate) struct Callers {
    pub(crate) trust: Trust,
    pub(crate) auth: ClientAuth,
}

impl ClientCertVerifier for Callers {
    fn client_auth_mandatory(&self) -> bool {
        self.auth == ClientAuth::Required
    }

    /// No hints: everyone has one certificate to show, and the set may change.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let judges = match self.auth {
            ClientAuth::Required => self.trust.judges_of_peer(certificate)?,
            ClientAuth::Optional => self.trust.judges_of(certificate)?,
        };
        let verify = |at| judges.clients.verify_client_cert(certificate, intermediates, at);
        self.trust.in_date(now, verify)
    }

    tls_signatures!();
}

/// A dialer's judge of the certificate it is shown.
#[derive(Debug)]
pub(crate) struct Servers(pub(crate) Trust);

impl ServerCertVerifier for Servers {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let judges = self.0.judges_of(certificate)?;
        let verify =
            |at| judges.servers.verify_server_cert(certificate, intermediates, name, ocsp, at);
        self.0.in_date(now, verify)
    }

    tls_signatures!();
}
