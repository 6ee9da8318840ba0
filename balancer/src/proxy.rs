//! One connection: finds it a node, says who called, moves bytes until it ends.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use ppp::v2::{Builder, Command, Protocol, Version};
use prometheus_client::metrics::counter::Counter;
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf, copy_bidirectional_with_sizes};
use tokio_util::sync::CancellationToken;
use tracing::debug;

use crate::board::{Board, Target};
use crate::config::Limits;
use crate::net::{Accepted, Connector};
use crate::telemetry::{End, RefusalReason};

/// Per direction and connection; a TLS record is at most this long.
const BUFFER_LENGTH: usize = 16 * 1024;

/// Carries one client's connection to the best node that takes it, until both
/// sides are done, the node goes down, it idles too long or `leave` is cancelled.
pub(crate) async fn carry<S, C>(
    board: &Board,
    connector: &C,
    limits: &Limits,
    accepted: Accepted<S>,
    leave: &CancellationToken,
) where
    S: AsyncRead + AsyncWrite + Unpin,
    C: Connector,
{
    let Accepted { stream, caller, called } = accepted;
    let header = header(caller, called);
    let reached = tokio::select! {
        biased;
        () = leave.cancelled() => None,
        reached = reach(board, connector, limits, &header) => reached,
    };
    let Some((mut node, target)) = reached else {
        board.telemetry.refused(RefusalReason::NoNode);
        return;
    };
    let _open = board.telemetry.connected(target.node);
    let moved = AtomicU64::new(0);
    let mut client = Counted {
        stream,
        moved: &moved,
        read: &board.telemetry.bytes_to_node,
        written: &board.telemetry.bytes_to_client,
    };
    let end = tokio::select! {
        biased;
        () = target.cut.cancelled() => End::NodeDown,
        () = leave.cancelled() => End::Drained,
        () = idled(&moved, limits.idle) => End::Idle,
        copied = copy_bidirectional_with_sizes(
            &mut client, &mut node, BUFFER_LENGTH, BUFFER_LENGTH,
        ) => match copied {
            Ok(_) => End::Finished,
            Err(_) => End::Broken,
        },
    };
    debug!(node = %target.node, %caller, ?end, "connection ended");
    board.telemetry.ended(end);
}

/// The first node that takes the connection and its header, in the board's order.
async fn reach<C: Connector>(
    board: &Board,
    connector: &C,
    limits: &Limits,
    header: &[u8],
) -> Option<(C::Stream, Target)> {
    for target in board.route() {
        let connect = async {
            let mut stream = connector.connect(&target.address).await?;
            stream.write_all(header).await?;
            stream.flush().await?;
            Ok(stream)
        };
        let connected: io::Result<C::Stream> = tokio::select! {
            biased;
            () = target.cut.cancelled() => Err(io::ErrorKind::HostUnreachable.into()),
            connected = tokio::time::timeout(limits.connect, connect) => {
                connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        match connected {
            Ok(stream) => return Some((stream, target)),
            Err(error) => {
                debug!(node = %target.node, %error, "connecting failed");
                board.telemetry.connect_failed(target.node);
            }
        }
    }
    None
}

/// PROXY protocol, version 2: who called which address.
fn header(caller: SocketAddr, called: SocketAddr) -> Vec<u8> {
    // A dual-stack listener shows IPv4 callers as ::ffff:a.b.c.d.
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Builder::with_addresses(
        Version::Two | Command::Proxy,
        Protocol::Stream,
        (plain(caller), plain(called)),
    )
    .build()
    .expect("addresses alone are far below the header's limit of 64 KiB")
}

/// Ends once no byte has moved for `limit`, or up to twice that; never without one.
async fn idled(moved: &AtomicU64, limit: Option<Duration>) {
    let Some(limit) = limit else { return std::future::pending().await };
    loop {
        let before = moved.load(Ordering::Relaxed);
        tokio::time::sleep(limit).await;
        if moved.load(Ordering::Relaxed) == before {
            return;
        }
    }
}

/// A client's stream that counts what passes.
struct Counted<'a, S> {
    stream: S,
    moved: &'a AtomicU64,
    read: &'a Counter,
    written: &'a Counter,
}

impl<S> Counted<'_, S> {
    fn count(&self, counter: &Counter, bytes: usize) {
        self.moved.fetch_add(bytes as u64, Ordering::Relaxed);
        counter.inc_by(bytes as u64);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Counted<'_, S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.count(self.read, buffer.filled().len() - before);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<'_, S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, bytes))?;
        self.count(self.written, written);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
