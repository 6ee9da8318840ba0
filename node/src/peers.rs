//! The connections to the other nodes.
//!
//! Two to each: one for Raft, one for everything else, so that a crowd of
//! forwarded requests never stands in the way of a heartbeat.

use std::collections::BTreeMap;
use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{Semaphore, watch};
use tonic::metadata::{Binary, MetadataMap, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};
use wire::peer::PresentRequest;
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

/// A peer that was heard a moment ago answers within a fraction of this.
const OPEN_MAX: Duration = Duration::from_secs(1);

/// A silent peer is asked for a sign of life this often, and given as long to answer.
const KEEP_ALIVE: Duration = Duration::from_secs(1);

/// The other nodes of the cluster, by id. Cheap to clone.
///
/// Those of the configuration until the cluster is formed, then those of Raft's
/// membership, which change while the node runs. Where both name a node, the
/// configuration's address is dialed: an operator may have moved it.
#[derive(Clone)]
pub struct Peers {
    inner: Arc<Inner>,
}

struct Inner {
    own: u64,
    configured: BTreeMap<u64, String>,
    dial: Arc<dyn Dial>,
    introduction: Introduction,
    lanes: RwLock<BTreeMap<u64, Lanes>>,
    /// What another node said about this one belonging no more.
    sent_away: watch::Sender<Option<String>>,
}

struct Lanes {
    address: String,
    raft: Client,
    calls: Client,
    /// Held while the first is opened.
    opening: Arc<Semaphore>,
}

impl Peers {
    /// Clients of the configured `members` (id and peer address) but `own`,
    /// which connect when first used and show that this process calls.
    pub fn new(
        own: u64,
        members: impl IntoIterator<Item = (u64, String)>,
        dial: Arc<dyn Dial>,
        incarnation: Incarnation,
    ) -> Self {
        let inner = Inner {
            own,
            configured: members.into_iter().collect(),
            dial,
            introduction: Introduction(MetadataValue::from_bytes(&incarnation.0)),
            lanes: RwLock::default(),
            sent_away: watch::Sender::new(None),
        };
        let configured = inner.configured.clone();
        let peers = Self { inner: Arc::new(inner) };
        peers.know(configured);
        peers
    }

    /// The ids of the other nodes.
    pub fn ids(&self) -> Vec<u64> {
        self.lanes().keys().copied().collect()
    }

    /// From now on these are the nodes, found there.
    pub(crate) fn know(&self, nodes: impl IntoIterator<Item = (u64, String)>) {
        let others = nodes.into_iter().filter(|(id, _)| *id != self.inner.own);
        let others: BTreeMap<_, _> = others.collect();
        let mut lanes = self.inner.lanes.write().unwrap_or_else(PoisonError::into_inner);
        lanes.retain(|id, _| others.contains_key(id));
        for (id, address) in others {
            self.learn(&mut lanes, id, address);
        }
    }

    /// One more node.
    pub(crate) fn meet(&self, id: u64, address: &str) {
        let mut lanes = self.inner.lanes.write().unwrap_or_else(PoisonError::into_inner);
        self.learn(&mut lanes, id, address.to_owned());
    }

    fn learn(&self, lanes: &mut BTreeMap<u64, Lanes>, id: u64, told: String) {
        let address = self.inner.configured.get(&id).cloned().unwrap_or(told);
        // An open connection is kept while its address is the same.
        if id == self.inner.own || lanes.get(&id).is_some_and(|lanes| lanes.address == address) {
            return;
        }
        let lane = || self.visit(id, &address);
        let (raft, calls) = (lane(), lane());
        let opening = Arc::new(Semaphore::new(1));
        lanes.insert(id, Lanes { address, raft, calls, opening });
    }

    /// Whether a stream to the peer opens now; if not, why.
    pub(crate) async fn reach(&self, id: u64) -> Result<(), String> {
        let address = self.lanes().get(&id).map(|lanes| lanes.address.clone());
        let Some(address) = address else { return Err("it is not a peer".to_owned()) };
        match tokio::time::timeout(CONNECT_MAX, self.inner.dial.dial(id, &address)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error.to_string()),
            Err(_) => Err("no answer in time".to_owned()),
        }
    }

    /// Opens the connection for Raft's own messages. A follower has no use for it
    /// until it stands for election, and a handshake then would lengthen that.
    /// Once at a time, however often the peer says hello.
    pub(crate) async fn open(self, id: u64) {
        let lane = self.lanes().get(&id).map(|lane| (lane.raft.clone(), lane.opening.clone()));
        let Some((mut client, opening)) = lane else { return };
        let Ok(_opening) = opening.try_acquire() else { return };
        let opened = tokio::time::timeout(OPEN_MAX, client.present(PresentRequest {})).await;
        if !matches!(opened, Ok(Ok(_))) {
            tracing::debug!(id, "the way to a peer does not open yet");
        }
    }

    /// The client for Raft's own messages.
    pub(crate) fn raft(&self, id: u64) -> Option<Client> {
        self.lanes().get(&id).map(|lanes| lanes.raft.clone())
    }

    /// A client that dials anew, and where: to see who stands there now.
    pub(crate) fn afresh(&self, id: u64) -> Option<(Client, String)> {
        let address = self.lanes().get(&id)?.address.clone();
        Some((self.visit(id, &address), address))
    }

    /// The client for everything else.
    pub(crate) fn calls(&self, id: u64) -> Option<Client> {
        self.lanes().get(&id).map(|lanes| lanes.calls.clone())
    }

    /// A client of its own, of a node that may be none of these.
    pub(crate) fn visit(&self, id: u64, address: &str) -> Client {
        let (dial, introduction) = (self.inner.dial.clone(), self.inner.introduction.clone());
        client(id, address.to_owned(), dial, introduction)
    }

    /// Takes note when a node says that this one belongs no more.
    pub(crate) fn heed(&self, status: &Status) {
        if status.metadata().contains_key(SENT_AWAY) {
            self.inner.sent_away.send_replace(Some(status.message().to_owned()));
        }
    }

    /// What a node said when it sent this one away.
    pub(crate) fn sent_away(&self) -> watch::Receiver<Option<String>> {
        self.inner.sent_away.subscribe()
    }

    fn lanes(&self) -> RwLockReadGuard<'_, BTreeMap<u64, Lanes>> {
        self.inner.lanes.read().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Marks the refusal of a node that belonged once and does no more.
const SENT_AWAY: &str = "trine-sent-away";

/// The refusal of a node that belonged once; `why` is for its operator.
pub(crate) fn send_away(why: impl Into<String>) -> Status {
    let mut status = Status::permission_denied(why);
    status.metadata_mut().insert(SENT_AWAY, MetadataValue::from_static("1"));
    status
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
        // HTTP/2 would remember the calls it gave up by the system's clock,
        // which is not the one that was handed in. A late answer to one is
        // answered with a reset instead.
        .http2_max_concurrent_reset_streams(0)
        .http2_max_local_error_reset_streams(None)
        .connect_with_connector_lazy(connector);
    PeerClient::with_interceptor(channel, introduction)
        .max_decoding_message_size(MESSAGE_BYTES_MAX)
        .max_encoding_message_size(MESSAGE_BYTES_MAX)
}

/// Whether `status` means that the request never left this node.
pub(crate) fn never_sent(status: &Status) -> bool {
    causes(status).any(|cause| cause.is::<tonic::ConnectError>())
}

/// Whether `status` means that the peer's host is up and nobody listens there.
pub(crate) fn is_refused(status: &Status) -> bool {
    causes(status)
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Whether the peer itself said so, rather than its connection ended.
pub(crate) fn is_answer(status: &Status) -> bool {
    causes(status).next().is_none()
}

fn causes(status: &Status) -> impl Iterator<Item = &(dyn Error + 'static)> {
    std::iter::successors(status.source(), |cause| {
        let cause: &(dyn Error + 'static) = *cause;
        cause.source()
    })
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    /// Where every dial hangs.
    struct Nowhere;

    impl Dial for Nowhere {
        fn dial(&self, _: u64, _: &str) -> Dialing {
            Box::pin(std::future::pending())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_way_to_a_peer_is_opened_once_at_a_time() {
        let members = [2, 3].map(|node| (node, format!("node-{node}:22451")));
        let peers = Peers::new(1, members, Arc::new(Nowhere), Incarnation([1; 16]));
        let mut first = std::pin::pin!(peers.clone().open(2));
        assert!(first.as_mut().now_or_never().is_none(), "it is under way");
        for _ in 0..1_000 {
            assert!(peers.clone().open(2).now_or_never().is_some(), "there is one");
        }
        let mut other = std::pin::pin!(peers.clone().open(3));
        assert!(other.as_mut().now_or_never().is_none(), "another peer's is another");
        first.await;
        assert!(peers.clone().open(2).now_or_never().is_none(), "and once more");
    }
}
