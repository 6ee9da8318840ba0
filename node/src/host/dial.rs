//! How a node reaches the others: TCP, and TLS that proves which node it is.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use pki::{Fingerprint, Trust};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::guarded::Guarded;
use crate::peers::{Dial, Dialing, Stream};

/// Connecting and shaking hands with a node that is up takes a fraction of this.
const DIAL_MAX: Duration = Duration::from_secs(1);

/// Dials a peer by TCP and makes sure by TLS that it is that very node.
pub(super) struct TlsDial {
    tls: TlsConnector,
    trust: Trust,
}

impl TlsDial {
    pub(super) fn new(tls: Arc<ClientConfig>, trust: Trust) -> Self {
        Self { tls: tls.into(), trust }
    }
}

impl Dial for TlsDial {
    fn dial(&self, id: u64, address: &str) -> Dialing {
        let (tls, trust, address) = (self.tls.clone(), self.trust.clone(), address.to_owned());
        Box::pin(async move {
            let dialing = async {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                let stream = tls.connect(pki::node_server_name(id), stream).await?;
                let shown = stream.get_ref().1.peer_certificates().and_then(<[_]>::first);
                let shown = shown.map(Fingerprint::of).ok_or(io::ErrorKind::PermissionDenied)?;
                Ok(Box::new(Guarded::new(stream, Some((shown, trust)))) as Box<dyn Stream>)
            };
            tokio::time::timeout(DIAL_MAX, dialing).await.unwrap_or_else(|_| {
                let what = format!("{address} did not finish a handshake in time");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            })
        })
    }
}
