//! Whether the server let us in: its verdict on our certificate, overheard on
//! the stream.
//!
//! With TLS 1.3 a server judges a client's certificate after the client
//! believes the handshake done, so the verdict comes where an answer should.
//! HTTP/2 hands on only the text of a stream's error, and a text proves
//! nothing; here the alert still has its type.
//!
//! Only a verdict before the server's first byte says that nothing was done. A
//! server that has spoken has let us in, and may have carried out what it was
//! sent, whatever ends the connection later.

use std::io;
use std::pin::Pin;
use std::sync::{Arc, OnceLock};
use std::task::{Context, Poll, ready};

use rustls::AlertDescription;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::error::find;

/// Why the server turned us away at the door, once it has.
#[derive(Debug, Clone, Default)]
pub(crate) struct TurnedAway(Arc<OnceLock<AlertDescription>>);

impl TurnedAway {
    /// The server's word, if it turned us away.
    pub(crate) fn why(&self) -> Option<AlertDescription> {
        self.0.get().copied()
    }
}

/// A stream that notes if the server turns us away.
pub(crate) struct AtTheDoor<S> {
    stream: S,
    let_in: bool,
    turned_away: TurnedAway,
}

impl<S> AtTheDoor<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, let_in: false, turned_away: TurnedAway::default() }
    }

    pub(crate) fn turned_away(&self) -> TurnedAway {
        self.turned_away.clone()
    }

    fn hear(&mut self, error: &io::Error) {
        if let Some(rustls::Error::AlertReceived(alert)) = find(error)
            && !self.let_in
            && is_about_identity(*alert)
        {
            // Said once, heard once: what follows is an echo.
            let _ = self.turned_away.0.set(*alert);
        }
    }
}

/// Whether an alert says that a certificate is missing or not accepted.
pub(crate) fn is_about_identity(alert: AlertDescription) -> bool {
    matches!(
        alert,
        AlertDescription::CertificateRequired
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::UnknownCA
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateUnknown
            // A certificate of another CA of the same name.
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied
    )
}

impl<S: AsyncRead + Unpin> AsyncRead for AtTheDoor<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = ready!(Pin::new(&mut self.stream).poll_read(cx, buf));
        match &read {
            Ok(()) => self.let_in |= buf.filled().len() > before,
            Err(error) => self.hear(error),
        }
        Poll::Ready(read)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AtTheDoor<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
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
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt as _;

    use super::*;

    /// Says these words, then sends this alert.
    struct Server {
        words: &'static [u8],
        alert: AlertDescription,
    }

    impl AsyncRead for Server {
        fn poll_read(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
            buf: &mut ReadBuf<'_>,
        ) -> Poll<io::Result<()>> {
            if self.words.is_empty() {
                let error = rustls::Error::AlertReceived(self.alert);
                return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, error)));
            }
            buf.put_slice(self.words);
            self.words = &[];
            Poll::Ready(Ok(()))
        }
    }

    async fn heard(words: &'static [u8], alert: AlertDescription) -> Option<AlertDescription> {
        let mut stream = AtTheDoor::new(Server { words, alert });
        let turned_away = stream.turned_away();
        stream.read_to_end(&mut Vec::new()).await.unwrap_err();
        turned_away.why()
    }

    #[tokio::test]
    async fn a_certificate_refused_before_a_word_is_a_closed_door() {
        let required = AlertDescription::CertificateRequired;
        assert_eq!(heard(b"", required).await, Some(required));
        let unknown = AlertDescription::UnknownCA;
        assert_eq!(heard(b"", unknown).await, Some(unknown));
    }

    #[tokio::test]
    async fn a_server_that_has_spoken_has_let_us_in() {
        assert_eq!(heard(b"settings", AlertDescription::CertificateExpired).await, None);
    }

    #[tokio::test]
    async fn garbage_on_the_way_says_nothing_of_the_door() {
        assert_eq!(heard(b"", AlertDescription::BadRecordMac).await, None);
        assert_eq!(heard(b"settings", AlertDescription::BadRecordMac).await, None);
    }
}
