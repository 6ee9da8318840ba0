//! How a node reaches the others: TCP, and TLS that proves which node it is.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use pki::{Fingerprint, Trust};
use rustls::ClientConfig;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

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
                Ok(Box::new(Guarded::new(stream, shown, trust)) as Box<dyn Stream>)
            };
            tokio::time::timeout(DIAL_MAX, dialing).await.unwrap_or_else(|_| {
                let what = format!("{address} did not finish a handshake in time");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            })
        })
    }
}

/// A stream that breaks when the certificate at its other end is revoked.
struct Guarded<S> {
    stream: S,
    shown: Fingerprint,
    trust: Trust,
    /// The version of the trust that let it go on.
    judged: u64,
}

impl<S> Guarded<S> {
    fn new(stream: S, shown: Fingerprint, trust: Trust) -> Self {
        // As of before the handshake's verdict, so that the first use judges anew.
        Self { stream, shown, judged: u64::MAX, trust }
    }

    fn check(&mut self) -> io::Result<()> {
        let version = self.trust.version();
        if version == self.judged {
            return Ok(());
        }
        if self.trust.is_revoked(&self.shown) {
            let what = "the certificate at the other end was revoked";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        self.judged = version;
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn a_revoked_certificate_ends_the_connection_it_opened() {
        let (near, mut far) = tokio::io::duplex(64);
        let (shown, trust) = (Fingerprint([7; 32]), Trust::nobody());
        let mut stream = Guarded::new(near, shown, trust.clone());
        stream.write_all(b"in time").await.expect("nothing is revoked");
        trust.refuse([Fingerprint([8; 32])].into());
        far.write_all(b"!").await.expect("room");
        stream.read_u8().await.expect("another's was revoked");
        trust.refuse([Fingerprint([8; 32]), shown].into());
        far.write_all(b"!").await.expect("room");
        let read = stream.read_u8().await.expect_err("it is revoked");
        assert_eq!(read.kind(), io::ErrorKind::PermissionDenied);
        stream.write_all(b"too late").await.expect_err("it is revoked");
    }
}
