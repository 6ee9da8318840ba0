//! Simulated TCP, with the identity that TLS would have proved said in a first line.
//!
//! Who connects writes the length and the text of its identity, and is
//! believed: what certificates prove is tested with real ones elsewhere.

use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use node::identity::Peer;
use node::incoming::{Connection, Incoming};
use node::peers::{Dial, Dialing};
use pki::Identity;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
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
/// Where nodes tell how they are.
pub(super) const HEALTH_PORT: u16 = 22_452;

/// Connecting takes a fraction of this; a host without power never answers.
const DIAL_MAX: Duration = Duration::from_secs(1);

/// On which machine a name is found when it is not the one of that name.
/// Clones share it.
#[derive(Clone, Default)]
pub(super) struct Addresses(Arc<Mutex<BTreeMap<String, String>>>);

impl Addresses {
    /// From now on `name` is found on `machine`.
    pub(super) fn set(&self, name: &str, machine: &str) {
        let mut moved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moved.insert(name.to_owned(), machine.to_owned());
    }

    fn machine(&self, name: &str) -> String {
        let moved = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        moved.get(name).map_or(name, String::as_str).to_owned()
    }
}

/// A simulated listener.
pub(super) struct Listener {
    arrived: mpsc::Receiver<Connection<TcpStream>>,
    _listening: AbortOnDropHandle<()>,
}

impl Listener {
    pub(super) async fn bind(port: u16) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await?;
        let (tell, arrived) = mpsc::channel(64);
        let listening = tokio::spawn(async move {
            while let Ok((stream, from)) = listener.accept().await {
                let tell = tell.clone();
                tokio::spawn(async move {
                    let hearing = tokio::time::timeout(DIAL_MAX, hear(stream));
                    if let Ok(Ok((stream, identity))) = hearing.await {
                        let identity = Some(identity);
                        let peer = Peer { address: from.ip(), identity, certificate: None };
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

async fn hear(mut stream: TcpStream) -> io::Result<(TcpStream, Identity)> {
    let length = stream.read_u8().await?;
    let mut text = vec![0; usize::from(length)];
    stream.read_exact(&mut text).await?;
    let text = String::from_utf8(text).map_err(io::Error::other)?;
    Ok((stream, text.parse().map_err(io::Error::other)?))
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
        let machine = self.1.machine(address.split(':').next().unwrap_or_default());
        Box::pin(async move {
            let stream = call(&machine, PEER_PORT, &identity).await?;
            Ok(Box::new(stream) as Box<dyn node::peers::Stream>)
        })
    }
}

/// How a client reaches the nodes.
pub(super) struct Caller(Identity, Addresses);

impl Caller {
    pub(super) fn new(identity: Identity, addresses: Addresses) -> Self {
        Self(identity, addresses)
    }
}

impl Connector for Caller {
    fn connect<'a>(&'a self, endpoint: &'a trine_client::Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let machine = self.1.machine(endpoint.host());
            let stream = call(&machine, endpoint.port(), &self.0).await?;
            Ok(Box::new(stream) as Box<dyn trine_client::connect::Stream>)
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
