//! How TLS is configured: 1.3 only, one cryptographic provider named
//! explicitly, one authority believed, HTTP/2 spoken.

use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::crypto::{CryptoProvider, ring};
use rustls::version::TLS13;
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::credentials::{Ca, CredentialError};
use crate::identity::{Identity, IdentityError, identity_of};
use crate::shown::Shown;
use crate::trust::{Callers, Servers, Trust};

/// The name every node's certificate carries: through a balancer the address
/// dialed is not the node's own.
pub const SERVER_NAME: &str = "trine";

/// The one protocol inside TLS: HTTP/2.
pub const ALPN: &[u8] = b"h2";

/// Whether a listener takes callers without a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientAuth {
    /// A certificate of this cluster's CA, or no connection. For peers. A node
    /// that is gone ([`Trust::tell`]) comes in with a revoked one too: it is to
    /// be told, and served nothing.
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

/// How a node serves, clients or peers: whom it believes and what it shows are
/// looked up at every handshake, so both may change while it serves.
///
/// # Errors
/// [`CredentialError::Refused`] if the cryptographic library lacks TLS 1.3.
pub fn server_config(
    trust: &Trust,
    shown: &Shown,
    auth: ClientAuth,
) -> Result<Arc<ServerConfig>, CredentialError> {
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .with_client_cert_verifier(Arc::new(Callers { trust: trust.clone(), auth }))
        .with_cert_resolver(Arc::new(shown.clone()));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // No resumption: every connection shows a certificate that is valid now.
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

/// How anybody dials a node: believing only servers that `trust` believes,
/// showing a certificate if there is one (an application with a bearer token
/// has none). Both are looked up at every handshake.
///
/// # Errors
/// [`CredentialError::Refused`] if the cryptographic library lacks TLS 1.3.
pub fn client_config(
    trust: &Trust,
    shown: Option<&Shown>,
) -> Result<Arc<ClientConfig>, CredentialError> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(refused)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Servers(trust.clone())));
    let mut config = match shown {
        Some(shown) => config.with_client_cert_resolver(Arc::new(shown.clone())),
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

pub(crate) fn roots(cas: &[Ca]) -> Result<RootCertStore, rustls::Error> {
    let mut roots = RootCertStore::empty();
    cas.iter().try_for_each(|ca| roots.add(ca.der().clone()))?;
    Ok(roots)
}

/// Whether a client would believe this certificate as a node's, at `now`.
pub(crate) fn verify_server(
    cas: &[Ca],
    certificate: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    now: UnixTime,
) -> Result<(), rustls::Error> {
    let roots = Arc::new(roots(cas)?);
    WebPkiServerVerifier::builder_with_provider(roots, provider())
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?
        .verify_server_cert(certificate, intermediates, &server_name(), &[], now)?;
    Ok(())
}

pub(crate) fn refused(error: impl ToString) -> CredentialError {
    CredentialError::Refused { file: "the TLS configuration".to_owned(), reason: error.to_string() }
}
