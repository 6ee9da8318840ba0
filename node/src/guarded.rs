//! A connection between nodes that breaks when the certificate at its other end
//! is revoked, so that both ends have to shake hands anew: with a new
//! certificate they succeed, with the old one they do not.

use std::fmt;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use pki::{Fingerprint, Trust};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A stream that breaks when the certificate at its other end is revoked. It is
/// noticed at the next use, which keep-alives see to.
pub struct Guarded<S> {
    stream: S,
    guard: Option<Guard>,
}

struct Guard {
    shown: Fingerprint,
    trust: Trust,
    /// The version of the trust that let it go on; `None` before the first look.
    judged: Option<u64>,
}

impl<S> Guarded<S> {
    /// Guards `stream`, at whose other end this certificate was shown; `None`
    /// lets it be.
    pub(crate) fn new(stream: S, shown: Option<(Fingerprint, Trust)>) -> Self {
        let guard = shown.map(|(shown, trust)| Guard { shown, trust, judged: None });
        Self { stream, guard }
    }

    fn check(&mut self) -> io::Result<()> {
        let Some(guard) = &mut self.guard else { return Ok(()) };
        let version = guard.trust.version();
        if guard.judged == Some(version) {
            return Ok(());
        }
        if guard.trust.is_revoked(&guard.shown) {
            let what = "the certificate at the other end was revoked";
            return Err(io::Error::new(io::ErrorKind::PermissionDenied, what));
        }
        guard.judged = Some(version);
        Ok(())
    }
}

impl<S: fmt::Debug> fmt::Debug for Guarded<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.stream).finish()
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
        let mut stream = Guarded::new(near, Some((shown, trust.clone())));
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
