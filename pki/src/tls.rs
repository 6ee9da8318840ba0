//! How TLS is configured: 1.3 only, one cryptographic provider named
//! explicitly, one authority believed, HTTP/2 spoken.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::server::WebPkiClientVerifier;
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::credentials::{Ca, CredentialError, Credentials};
use crate::identity::{Identity, IdentityError, identity_of};

/// The name every node's certificate carries: through a balancer the address
/// dialed is not the node's own.
pub const SERVER_NAME: &str = "trine";

/// The one protocol inside TLS: HTTP/2.
pub const ALPN: &[u8] = b"h2";

/// Whether a listener takes callers without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate of this cluster's CA, or no connection. For peers.
    Required,
    /// None, or one of this cluster's CA: an application may bring a bearer
    /// token instead. A wrong certificate is refused all the same.
    Optional,
}

/// A connection that is not another node's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAPeer {
    /// No certificate at all.
    #[error("the caller showed no certificate, and only nodes are served here")]
    Nobody,
    /// A certificate that names nobody.
    #[error(transparent)]
    Unnamed(#[from] IdentityError),
    /// Somebody else's.
    #[error("{0} is not a node, and only nodes are served here")]
    Other(Identity),
}

/// How a node serves, clients or peers.
///
/// # Errors
/// [`CredentialError::Refused`] if rustls cannot use the credentials.
pub fn server_config(
    credentials: &Credentials,
    client_auth: ClientAuth,
) -> Result<Arc<ServerConfig>, CredentialError> {
    let ca = credentials.ca();
    let roots = roots(ca).map_err(refused)?;
    let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider());
    let verifier = match client_auth {
        ClientAuth::Required => verifier,
        ClientAuth::Optional => verifier.allow_unauthenticated(),
    };
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(verifier.build().map_err(refused)?)
        .with_single_cert(credentials.chain().to_vec(), credentials.key().clone_key())
        .map_err(refused)?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // No resumption: every connection shows a certificate that is valid now.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How anybody dials a node: believing only servers of `ca`, showing `own`
/// certificate if there is one (an application with a bearer token has none).
///
/// # Errors
/// [`CredentialError::Refused`] if rustls cannot use the credentials.
pub fn client_config(
    ca: &Ca,
    own: Option<&Credentials>,
) -> Result<Arc<ClientConfig>, CredentialError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_root_certificates(roots(ca).map_err(refused)?);
    let mut config = match own {
        Some(own) => config
            .with_client_auth_cert(own.chain().to_vec(), own.key().clone_key())
            .map_err(refused)?,
        None => config.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// The name to ask for when any node will do: [`SERVER_NAME`].
pub fn server_name() -> ServerName<'static> {
    server_name_of(SERVER_NAME.to_owned())
}

/// The name to ask for when only node `id` will do: a peer dialed at another
/// node's address is refused.
pub fn node_server_name(id: u64) -> ServerName<'static> {
    server_name_of(format!("node-{id}"))
}

fn server_name_of(name: String) -> ServerName<'static> {
    ServerName::try_from(name).expect("letters, digits and a hyphen make a DNS name")
}

/// Who called, as the finished handshake proved it; `None` without a certificate.
///
/// Pass what rustls' `peer_certificates()` returns.
pub fn caller_of(
    certificates: Option<&[CertificateDer<'_>]>,
) -> Result<Option<Identity>, IdentityError> {
    certificates.and_then(<[_]>::first).map(identity_of).transpose()
}

/// Which node called; anybody else is refused.
pub fn peer_of(certificates: Option<&[CertificateDer<'_>]>) -> Result<u64, NotAPeer> {
    let caller = caller_of(certificates)?.ok_or(NotAPeer::Nobody)?;
    caller.node_id().ok_or(NotAPeer::Other(caller))
}

pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

pub(crate) fn roots(ca: &Ca) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.der().clone())?;
    Ok(roots)
}

/// Whether a client would believe this certificate as a node's, at `now`.
pub(crate) fn verify_server(
    ca: &Ca,
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let roots = Arc::new(roots(ca)?);
    WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?
        .verify_server_cert(certificate, intermediates, &server_name(), &[], now)?;
    Ok(())
}

fn refused(error: impl ToString) -> CredentialError {
    CredentialError::Refused { file: "the TLS configuration".to_owned(), reason: error.to_string() }
}
