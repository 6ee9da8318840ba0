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
use tonic::metadata::{Binary, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
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
pub type Client = PeerClient<InterceptedService<Channel, Introduction>>;

/// One process of a node, from its start to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Incarnation(pub [u8; 16]);

impl Incarnation {
    /// The key under which a process shows its incarnation.
    const KEY: &str = "trine-incarnation-bin";

    /// The incarnation that a call shows, if it shows one.
    pub(crate) fn shown(metadata: &MetadataMap) -> Option<Self> {
        Self::from_wire(&metadata.get_bin(Self::KEY)?.to_bytes().ok()?)
    }

    pub(crate) fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    pub(crate) fn to_wire(self) -> Vec<u8> {
        self.0.to_vec()
    }
}

/// Shows the caller's incarnation with every call.
#[derive(Debug, Clone)]
pub struct Introduction(MetadataValue<Binary>);

impl Interceptor for Introduction {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert_bin(Incarnation::KEY, self.0.clone());
        Ok(request)
    }
}

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
    dial: Arc<dyn Dial>,
    introduction: Introduction,
}

struct Lanes {
    address: String,
    raft: Client,
    calls: Client,
}

impl Peers {
    /// Clients for `members` (id and peer address), which connect when first
    /// used and show that this process calls.
    pub fn new(
        members: impl IntoIterator<Item = (u64, String)>,
        dial: Arc<dyn Dial>,
        own: Incarnation,
    ) -> Self {
        let introduction = Introduction(MetadataValue::from_bytes(&own.0));
        let clients = members
            .into_iter()
            .map(|(id, address)| {
                let lane = || client(id, address.clone(), dial.clone(), introduction.clone());
                let (raft, calls) = (lane(), lane());
                (id, Lanes { address, raft, calls })
            })
            .collect();
        Self { clients: Arc::new(clients), dial, introduction }
    }

    /// The ids of the other nodes.
    pub fn ids(&self) -> impl Iterator<Item = u64> + '_ {
        self.clients.keys().copied()
    }

    /// Whether a stream to the peer opens now; if not, why.
    pub(crate) async fn reach(&self, id: u64) -> Result<(), String> {
        let Some(lanes) = self.clients.get(&id) else { return Err("it is not a peer".to_owned()) };
        match tokio::time::timeout(CONNECT_MAX, self.dial.dial(id, &lanes.address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// The client for Raft's own messages.
    pub(crate) fn raft(&self, id: u64) -> Option<Client> {
        self.clients.get(&id).map(|lanes| lanes.raft.clone())
    }

    /// A client that dials anew, and where: to see who stands there now.
    pub(crate) fn afresh(&self, id: u64) -> Option<(Client, String)> {
        let address = self.clients.get(&id)?.address.clone();
        let client = client(id, address.clone(), self.dial.clone(), self.introduction.clone());
        Some((client, address))
    }

    /// The client for everything else.
    pub(crate) fn calls(&self, id: u64) -> Option<Client> {
        self.clients.get(&id).map(|lanes| lanes.calls.clone())
    }
}

fn client(id: u64, address: String, dial: Arc<dyn Dial>, introduction: Introduction) -> Client {
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
    PeerClient::with_interceptor(channel, introduction)
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
