//! The world a balancer is handed: where connections come from and how nodes
//! are reached. TCP here; a simulator brings its own.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::config::HostPort;

/// Where connections come from.
pub trait Incoming: Send + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Waits for the next connection. Must be cancel safe.
    fn accept(&mut self) -> impl Future<Output = io::Result<Accepted<Self::Stream>>> + Send;
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted<S> {
    /// The connection.
    pub stream: S,
    /// Who called.
    pub caller: SocketAddr,
    /// The address they called.
    pub called: SocketAddr,
}

/// How nodes are reached. Dropping the future gives the attempt up.
pub trait Connector: Send + Sync + 'static {
    /// One connection.
    type Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static;

    /// Connects to `address`. The caller sets the deadline.
    fn connect(&self, address: &HostPort) -> impl Future<Output = io::Result<Self::Stream>> + Send;
}

/// Connections of a TCP listener.
#[derive(Debug)]
pub struct TcpIncoming(pub TcpListener);

impl Incoming for TcpIncoming {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<Accepted<TcpStream>> {
        let (stream, caller) = self.0.accept().await?;
        let called = stream.local_addr()?;
        tune(&stream)?;
        Ok(Accepted { stream, caller, called })
    }
}

/// Reaches nodes by TCP, from a given address if there is one.
#[derive(Debug, Clone, Copy)]
pub struct TcpConnector {
    /// The address connections come from; the system's choice if `None`.
    pub source: Option<IpAddr>,
}

impl Connector for TcpConnector {
    type Stream = TcpStream;

    async fn connect(&self, address: &HostPort) -> io::Result<TcpStream> {
        let mut failure = None;
        for node in tokio::net::lookup_host((address.host(), address.port())).await? {
            match self.dial(node).await {
                Ok(stream) => return Ok(stream),
                Err(error) => failure = Some(error),
            }
        }
        Err(failure.unwrap_or_else(|| io::Error::other(format!("{address} has no address"))))
    }
}

impl TcpConnector {
    async fn dial(&self, node: SocketAddr) -> io::Result<TcpStream> {
        let socket = if node.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        if let Some(source) = self.source {
            socket.bind(SocketAddr::new(source, 0)).map_err(|error| {
                let why = format!("connections to {node} cannot come from {source}: {error}");
                io::Error::new(error.kind(), why)
            })?;
        }
        let stream = socket.connect(node).await?;
        tune(&stream)?;
        Ok(stream)
    }
}

/// How long the far end may leave bytes unacknowledged, or probes unanswered.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// No delay for small messages; a far end that is gone is noticed within
/// [`SILENCE_MAX`], whether the connection is quiet or in the midst of sending.
fn tune(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let probes = Duration::from_secs(5);
    let keepalive =
        TcpKeepalive::new().with_time(SILENCE_MAX / 2).with_interval(probes).with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    // Keepalive waits while data is in flight, and retransmission alone gives
    // up only after a quarter of an hour.
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(Some(SILENCE_MAX))?;
    Ok(())
}
