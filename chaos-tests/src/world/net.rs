//! Simulated TCP, with the identity that TLS would have proved said in a first line.
//!
//! Who connects writes the length and the text of its identity, and is
//! believed: what certificates prove is tested with real ones elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use node::identity::Peer;
use node::incoming::proxy::{Forwarded, read_header};
use node::incoming::{Connection, Incoming};
use node::peers::{Dial, Dialing};
use pki::Identity;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};
use trine_client::connect::{Connecting, Connector};
use turmoil::net::{TcpListener, TcpStream};
use wire::peer::peer_client::PeerClient;

/// Where nodes listen for applications and operators.
pub(super) const CLIENT_PORT: u16 = 22_450;
/// Where nodes listen for one another.
pub(super) const PEER_PORT: u16 = 22_451;
/// What the names of balancers begin with.
pub(super) const BALANCER: &str = "balancer-";
/// Where nodes tell how they are.
pub(super) const HEALTH_PORT: u16 = 22_452;

/// Connecting takes a fraction of this; a host without power never answers.
const DIAL_MAX: Duration = Duration::from_secs(1);

/// The name of the address that moves between the balancers.
pub(super) const VIRTUAL: &str = "trine";

/// On which machine a name is found when it is not the one of that name, and
/// which machines have the virtual address. Clones share it.
#[derive(Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<Found>>);

#[derive(Default)]
struct Found {
    moved: BTreeMap<String, String>,
    /// Usually one of the balancers, at times both or none.
    holders: Vec<String>,
}

impl Addresses {
    /// From now on `name` is found on `machine`.
    pub(super) fn set(&self, name: &str, machine: &str) {
        self.found().moved.insert(name.to_owned(), machine.to_owned());
    }

    /// From now on the virtual address is on these machines.
    pub(super) fn hold(&self, machines: Vec<String>) {
        self.found().holders = machines;
    }

    /// Which machines have the virtual address.
    pub(super) fn holders(&self) -> Vec<String> {
        self.found().holders.clone()
    }

    /// Where a caller finds `name`. With two holders each caller has one of
    /// them in its ARP table; nobody answers for an address that none has.
    fn machine(&self, name: &str, caller: usize) -> Option<String> {
        let found = self.found();
        if name != VIRTUAL {
            return Some(found.moved.get(name).map_or(name, String::as_str).to_owned());
        }
        let holders = &found.holders;
        holders.get(caller % holders.len().max(1)).cloned()
    }

    /// Whether what was sent to `name` still arrives at `machine`.
    fn leads_to(&self, name: &str, machine: &str) -> bool {
        let found = self.found();
        name != VIRTUAL || found.holders.is_empty() || found.holders.iter().any(|h| h == machine)
    }

    fn found(&self) -> MutexGuard<'_, Found> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A connection to a name, reset when the name has moved to another machine.
struct Routed {
    stream: TcpStream,
    name: String,
    machine: String,
    addresses: Addresses,
}

impl Routed {
    fn check(&self) -> io::Result<()> {
        match self.addresses.leads_to(&self.name, &self.machine) {
            true => Ok(()),
            false => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }
}

impl AsyncRead for Routed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Routed {
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
}

/// A simulated listener.
pub(super) struct Listener {
    arrived: mpsc::Receiver<Connection<TcpStream>>,
    _listening: AbortOnDropHandle<()>,
}

impl Listener {
    /// Who connects here says who it is first.
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        Self::hearing(port, true).await
    }

    /// Nobody is asked who it is.
    pub(super) async fn plain(port: u16) -> io::Result<Self> {
        Self::hearing(port, false).await
    }

    async fn hearing(port: u16, asks: bool) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let (tell, arrived) = mpsc::channel(64);
        let listening = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let hearing = tokio::time::timeout(DIAL_MAX, hear(stream, from, asks));
                    if let Ok(Ok((stream, peer))) = hearing.await {
                        // A node that stops takes no more.
                        let _ = tell.send(Connection::new(stream, peer)).await;
                    }
                });
            }
        });
        Ok(Self { arrived, _listening: AbortOnDropHandle::new(listening) })
    }
}

impl Incoming for Listener {
    type Stream = TcpStream;

    async fn accept(&mut self) -> Connection<TcpStream> {
        match self.arrived.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }
}

/// What precedes the connection proper: from a balancer its PROXY header, from
/// a client its identity.
async fn hear(
    mut stream: TcpStream,
    from: SocketAddr,
    asks: bool,
) -> io::Result<(TcpStream, Peer)> {
    let mut peer = Peer { address: from.ip(), identity: None, certificate: None };
    if !asks {
        return Ok((stream, peer));
    }
    if turmoil::reverse_lookup(from.ip()).is_some_and(|name| name.starts_with(BALANCER)) {
        match read_header(&mut stream).await.map_err(io::Error::other)? {
            Forwarded::For(caller) => peer.address = caller,
            Forwarded::Own => {}
        }
    }
    let length = stream.read_u8().await?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    peer.identity = Some(text.parse().map_err(io::Error::other)?);
    Ok((stream, peer))
}

async fn call(host: &str, port: u16, identity: &Identity) -> io::Result<TcpStream> {
    let calling = async {
        let mut stream = TcpStream::connect((host, port)).await?;
        let text = identity.to_string();
        let length = u8::try_from(text.len()).map_err(io::Error::other)?;
        stream.write_all(&[&[length], text.as_bytes()].concat()).await?;
        Ok(stream)
    };
    tokio::time::timeout(DIAL_MAX, calling).await.unwrap_or_else(|_| {
        Err(io::Error::new(io::ErrorKind::TimedOut, format!("{host}:{port} did not answer")))
    })
}

/// How one node reaches the others.
pub(super) struct PeerDial(pub(super) Identity, pub(super) Addresses);

impl Dial for PeerDial {
    fn dial(&self, _: u64, address: &str) -> Dialing {
        let identity = self.0.clone();
        let machine = self.1.machine(address.split(':').next().unwrap_or_default(), 0);
        Box::pin(async move {
            let machine = machine.ok_or(io::ErrorKind::HostUnreachable)?;
            let stream = call(&machine, PEER_PORT, &identity).await?;
            Ok(Box::new(stream) as Box<dyn node::peers::Stream>)
        })
    }
}

/// How a client reaches the nodes and the balancers.
pub(super) struct Caller {
    identity: Identity,
    addresses: Addresses,
    number: usize,
}

impl Caller {
    /// Client `number`.
    pub(super) fn new(identity: Identity, addresses: Addresses, number: usize) -> Self {
        Self { identity, addresses, number }
    }
}

impl Connector for Caller {
    fn connect<'a>(&'a self, endpoint: &'a trine_client::Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let name = endpoint.host().to_owned();
            let Some(machine) = self.addresses.machine(&name, self.number) else {
                tokio::time::sleep(DIAL_MAX).await;
                return Err(io::ErrorKind::HostUnreachable.into());
            };
            let stream = call(&machine, endpoint.port(), &self.identity).await?;
            let addresses = self.addresses.clone();
            let routed = Routed { stream, name, machine, addresses };
            Ok(Box::new(routed) as Box<dyn trine_client::connect::Stream>)
        })
    }
}

/// A line to a node's peer listener, as node `as_node` has it.
pub(super) async fn peer(
    node: u64,
    as_node: u64,
) -> Result<PeerClient<Channel>, Box<dyn std::error::Error>> {
    let identity = Identity::node(as_node)?;
    let connector = tower::service_fn(move |_: http::Uri| {
        let identity = identity.clone();
        async move { call(&format!("node-{node}"), PEER_PORT, &identity).await.map(TokioIo::new) }
    });
    let channel = Endpoint::from_static("http://peer").connect_with_connector(connector).await?;
    Ok(PeerClient::new(channel))
}
