//! The connections to the other two nodes.
//!
//! Two to each: one for Raft, one for everything else, so that a crowd of
//! forwarded requests never stands in the way of a heartbeat.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tonic::transport::{Channel, Endpoint};
use wire::peer::peer_client::PeerClient;

/// A byte stream between two nodes.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin + 'static {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + 'static> Stream for T {}

/// What a [`Dial`] returns.
pub type Dialing = Pin<Box<dyn Future<Output = io::Result<Box<dyn Stream>>> + Send>>;

/// Opens streams to other nodes: TCP with mutual TLS in production, whatever
/// the simulator hands in there.
pub trait Dial: Send + Sync + 'static {
    /// Connects to node `id` at `address` and makes sure that it is `id`.
    fn dial(&self, id: u64, address: &str) -> Dialing;
}

/// A client of one peer.
pub type Client = PeerClient<Channel>;

/// Longest message a peer may send: an append of many batches, or a chunk of a snapshot.
pub const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// A dial that has not succeeded by then has failed.
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// A silent peer is asked for a sign of life this often, and given as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The other nodes of the cluster, by id.
#[derive(Clone)]
pub struct Peers {
    clients: Arc<BTreeMap<u64, Lanes>>,
}

struct Lanes {
    raft: Client,
    calls: Client,
}

impl Peers {
    /// Clients for `members` (id and peer address), which connect when first used.
    pub fn new(members: impl IntoIterator<Item = (u64, String)>, dial: Arc<dyn Dial>) -> Self {
        let clients = members
            .into_iter()
            .map(|(id, address)| {
                let lane = || client(id, address.clone(), dial.clone());
                (id, Lanes { raft: lane(), calls: lane() })
            })
            .collect();
        Self { clients: Arc::new(clients) }
    }

    /// The ids of the other nodes.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.clients.keys().copied()
    }

    /// The client for Raft's own messages.
    pub(crate) fn raft(&self, id: u64) -> Option<Client> {
        self.clients.get(&id).map(|lanes| lanes.raft.clone())
    }

    /// The client for everything else.
    pub(crate) fn calls(&self, id: u64) -> Option<Client> {
        self.clients.get(&id).map(|lanes| lanes.calls.clone())
    }
}

fn client(id: u64, address: String, dial: Arc<dyn Dial>) -> Client {
    let connector = tower::service_fn(move |_| {
        let dialing = dial.dial(id, &address);
        async move { dialing.await.map(TokioIo::new) }
    });
    // The connector knows the address; this one only names the peer in `:authority`.
    let channel = Endpoint::from_static("http://peer")
        .connect_timeout(CONNECT_MAX)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE)
        .keep_alive_while_idle(true)
        .connect_with_connector_lazy(connector);
    PeerClient::new(channel)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Whether `status` means that the request never left this node.
pub(crate) fn never_sent(status: &tonic::Status) -> bool {
    let mut source = std::error::Error::source(status);
    while let Some(error) = source {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        source = error.source();
    }
    false
}
