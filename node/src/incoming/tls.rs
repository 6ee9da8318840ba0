//! The client and peer listeners' door: count, PROXY header, TLS, identity.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use pki::{Fingerprint, IdentityError, Trust};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::proxy::{self, Forwarded, ProxyError};
use super::slots::Slot;
use super::{Connection, Incoming, Slots};
use crate::config::Network;
use crate::guarded::Guarded;
use crate::identity::Peer;

/// Who is let in at one TLS listener.
#[derive(Debug, Clone)]
pub struct Door {
    /// Certificates, and whether the caller must show one.
    pub tls: Arc<ServerConfig>,
    /// From these networks, and only from these, a PROXY header comes first.
    pub proxies: Arc<[Network]>,
    /// PROXY header and handshake together.
    pub handshake: Duration,
    /// At the nodes' own listener: ends connections whose certificate comes to be
    /// revoked, which callers of the client listener hear from the gate, and
    /// knows who comes only to be told that it is gone.
    pub cuts_off: Option<Trust>,
    /// How many connections there may be.
    pub slots: Slots,
}

/// A bound socket with a [`Door`] before it.
#[derive(Debug)]
pub struct TlsIncoming {
    listener: TcpListener,
    door: Door,
    /// Those that knocked; each task ends by the handshake's deadline.
    knocking: JoinSet<Option<Connection<Guarded<TlsStream<TcpStream>>>>>,
}

/// Why a connection was closed at the door.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("nothing came of it within {} ms", .0.as_millis())]
    TooSlow(Duration),
    #[error(transparent)]
    Proxy(#[from] ProxyError),
    #[error("its address has too many connections")]
    TooManyFromAddress,
    #[error("it showed no certificate, and so have a quarter of all connections there may be")]
    TooManyAnonymous,
    #[error("it is of a node that is gone, which has as many as it takes to be told so")]
    TooManyOfGone,
    #[error("TLS handshake: {0}")]
    Handshake(std::io::Error),
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

impl Refused {
    /// Its label in `trine_connections_refused_total`.
    fn reason(&self) -> &'static str {
        match self {
            Self::TooSlow(_) => "timeout",
            Self::Proxy(_) => "proxy_header",
            Self::TooManyFromAddress => "address_limit",
            Self::TooManyAnonymous => "anonymous_limit",
            Self::TooManyOfGone => "gone_limit",
            Self::Handshake(_) => "handshake",
            Self::Identity(_) => "identity",
        }
    }
}

impl TlsIncoming {
    /// Lets in through `door` whoever connects to `listener`.
    pub fn new(listener: TcpListener, door: Door) -> Self {
        Self { listener, door, knocking: JoinSet::new() }
    }

    fn knock(&mut self, stream: TcpStream, from: SocketAddr) {
        // Beyond the limit the socket is closed unheard: a handshake costs more.
        let Some(slot) = self.door.slots.take() else { return };
        let door = self.door.clone();
        self.knocking.spawn(async move {
            let entered = timeout(door.handshake, door.enter(stream, from, slot)).await;
            match entered.unwrap_or(Err(Refused::TooSlow(door.handshake))) {
                Ok(connection) => Some(connection),
                Err(refused) => {
                    door.slots.refused(refused.reason());
                    let listener = door.slots.listener().name();
                    tracing::debug!(%from, listener, %refused, "connection refused");
                    None
                }
            }
        });
    }
}

impl Incoming for TlsIncoming {
    type Stream = Guarded<TlsStream<TcpStream>>;

    async fn accept(&mut self) -> Connection<Self::Stream> {
        loop {
            tokio::select! {
                Some(entered) = self.knocking.join_next() => {
                    if let Ok(Some(connection)) = entered {
                        return connection;
                    }
                }
                (stream, from) = accept_tcp(&self.listener) => self.knock(stream, from),
            }
        }
    }
}

impl Door {
    async fn enter(
        &self,
        mut stream: TcpStream,
        from: SocketAddr,
        mut slot: Slot,
    ) -> Result<Connection<Guarded<TlsStream<TcpStream>>>, Refused> {
        let mut address = from.ip().to_canonical();
        let is_balancer = self.proxies.iter().any(|network| network.contains(address));
        if is_balancer && let Forwarded::For(client) = proxy::read_header(&mut stream).await? {
            address = client.to_canonical();
        }
        if !slot.count_address(address) {
            return Err(Refused::TooManyFromAddress);
        }
        let stream =
            TlsAcceptor::from(self.tls.clone()).accept(stream).await.map_err(Refused::Handshake)?;
        let shown = stream.get_ref().1.peer_certificates();
        let identity = pki::caller_of(shown)?;
        let certificate = shown.and_then(<[_]>::first).map(Fingerprint::of);
        if identity.is_none() && !slot.count_anonymous() {
            return Err(Refused::TooManyAnonymous);
        }
        if let Some(trust) = &self.cuts_off
            && let Some(node) = identity.as_ref().and_then(pki::Identity::node_id)
            && (trust.is_gone(node) || certificate.is_some_and(|shown| trust.is_revoked(&shown)))
            && !slot.count_gone(node)
        {
            return Err(Refused::TooManyOfGone);
        }
        // Who was let in with a revoked certificate is to be told something.
        let is_guarded = |(shown, trust): &(Fingerprint, Trust)| !trust.is_revoked(shown);
        let guard = certificate.zip(self.cuts_off.clone()).filter(is_guarded);
        let stream = Guarded::new(stream, guard);
        Ok(Connection::counted(stream, Peer { address, identity, certificate }, slot))
    }
}

/// The next TCP connection. Cancel-safe.
///
/// An error here is the machine's, most often that it is out of descriptors:
/// connections that end will free some, so wait a little rather than give up.
pub(super) async fn accept_tcp(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Grants are small and waited for; Nagle's algorithm would only delay them.
                if stream.set_nodelay(true).is_ok() {
                    return (stream, from);
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
