//! The one room that knows how an identity is written in a certificate and how
//! TLS is configured.
//!
//! [`Authority`] makes certificates, [`Credentials`] reads and checks them,
//! [`Identity`] says whom one speaks for, [`server_config`] and
//! [`client_config`] say how it is used. What a process shows ([`Shown`]) and
//! whom it believes ([`Trust`]) may change while it runs. Nothing here opens a
//! file or a socket.
//!
//! Private keys come from the operating system's randomness and never from a
//! seed: the simulator runs without TLS.
#![forbid(unsafe_code)]

mod authority;
mod container;
mod credentials;
mod identity;
mod pem;
mod shown;
mod summary;
mod tls;
mod trust;

pub use authority::{Authority, AuthorityError, Issued, Validity};
pub use container::{ContainerRefusal, ContainerSubject, container_chain, verify_container};
pub use credentials::{Ca, CredentialError, Credentials, expires};
pub use identity::{Identity, IdentityError, InvalidIdentity, Role, identity_of};
pub use pem::{Pem, PemError};
pub use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
pub use shown::Shown;
pub use summary::Summary;
pub use tls::{
    ALPN, ClientAuth, NotAPeer, SERVER_NAME, caller_of, client_config, node_server_name, peer_of,
    server_config, server_name,
};
pub use trust::{Fingerprint, OutOfDate, Trust};
