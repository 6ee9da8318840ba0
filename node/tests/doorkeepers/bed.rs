//! Three nodes in this process, at whose doors the test says who knocks.

use std::io;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use hyper_util::rt::TokioIo;
use license::container::Container;
use license::product::{ActId, NodeId, WallTime};
use license::rand_core::UnwrapErr;
use node::certificates::Certificates;
use node::clock::Clock;
use node::config::{Config, Limits};
use node::enrollment::Enrolled;
use node::entropy::Entropy;
use node::identity::Peer;
use node::incoming::{Connection, Incoming};
use node::node::{Setup, World};
use node::peers::{Dial, Dialing};
use node::raft::{Endpoints, seeded};
use node::store::mem::Platter;
use node::telemetry::Metrics;
use pki::{Authority, ContainerSubject, Pem, UnixTime, Validity};
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tonic::Request;
use tonic::transport::{Channel, Endpoint};
use wire::v1;
use wire::v1::cluster_client::ClusterClient;

/// The operator who formed the cluster.
pub(crate) const OPERATOR: &str = "trine://operator/ana";

/// When the nodes started, in seconds since 1970.
const STARTED: u64 = 1_800_000_000;

/// A door to knock at.
pub(crate) type Knocker = mpsc::Sender<Connection<DuplexStream>>;

/// The doors of one node.
#[derive(Clone)]
pub(crate) struct Doors {
    pub(crate) clients: Knocker,
    pub(crate) peers: Knocker,
}

/// A listener at which the test says who knocks.
struct Door(mpsc::Receiver<Connection<DuplexStream>>);

impl Incoming for Door {
    type Stream = DuplexStream;

    async fn accept(&mut self) -> Connection<DuplexStream> {
        match self.0.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }
}

struct SinceStart(Instant);

impl Clock for SinceStart {
    fn boot(&self) -> Duration {
        self.0.elapsed() + Duration::from_secs(1)
    }

    fn wall(&self) -> WallTime {
        let millis = i64::try_from(self.0.elapsed().as_millis()).expect("a short test");
        WallTime(i64::try_from(STARTED).expect("a date") * 1_000 + millis)
    }
}

struct Seeded(Mutex<StdRng>);

impl Entropy for Seeded {
    fn fill(&self, bytes: &mut [u8]) {
        use rand::Rng as _;
        self.0.lock().unwrap_or_else(PoisonError::into_inner).fill_bytes(bytes);
    }
}

/// The way from one node to the others' peer doors.
struct Street {
    own: u64,
    houses: Arc<OnceLock<Vec<Doors>>>,
}

impl Dial for Street {
    fn dial(&self, id: u64, _: &str) -> Dialing {
        let house = self.houses.get().and_then(|houses| houses.get(id as usize - 1)).cloned();
        let caller = format!("trine://peer/node-{}", self.own);
        Box::pin(async move {
            let house = house.ok_or(io::ErrorKind::ConnectionRefused)?;
            Ok(Box::new(knock(&house.peers, Some(&caller)).await?) as Box<dyn node::peers::Stream>)
        })
    }
}

/// A stream to a door, as whom this certificate speaks for.
async fn knock(door: &Knocker, identity: Option<&str>) -> io::Result<DuplexStream> {
    let (near, far) = tokio::io::duplex(64 * 1024);
    let identity = identity.map(|uri| uri.parse().expect("an identity"));
    let peer = Peer { address: Ipv4Addr::LOCALHOST.into(), identity, certificate: None };
    door.send(Connection::new(far, peer)).await.map_err(io::Error::other)?;
    Ok(near)
}

/// A connection to a door, as whom this certificate speaks for.
pub(crate) async fn connect(door: &Knocker, identity: Option<&'static str>) -> Channel {
    let door = door.clone();
    let connector = tower::service_fn(move |_: http::Uri| {
        let door = door.clone();
        async move { knock(&door, identity).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://trine");
    endpoint.connect_with_connector(connector).await.expect("a connection")
}

struct Chain(Vec<Vec<u8>>);

impl Enrolled for Chain {
    fn chain(&self) -> Result<Vec<Vec<u8>>, String> {
        Ok(self.0.clone())
    }
}

fn limits() -> Limits {
    let example = include_str!("../../../deploy/node.example.toml");
    Config::parse(example, "node.toml".as_ref()).expect("the example holds").limits
}

fn validity() -> Validity {
    let from = UnixTime::since_unix_epoch(Duration::from_secs(STARTED - 60));
    Validity::starting(from, Duration::from_secs(24 * 3_600))
}

/// Runs three nodes, not formed into a cluster.
pub(crate) fn nodes() -> Vec<Doors> {
    let authority = Authority::create("works", validity()).expect("an authority");
    let houses = Arc::new(OnceLock::new());
    let started = Instant::now();
    let all: Vec<Doors> = (1..=3).map(|id| node(id, &authority, houses.clone(), started)).collect();
    assert!(houses.set(all.clone()).is_ok(), "built once");
    all
}

fn node(
    id: u64,
    authority: &Authority,
    houses: Arc<OnceLock<Vec<Doors>>>,
    started: Instant,
) -> Doors {
    let (knock_clients, clients) = mpsc::channel(1);
    let (knock_peers, peers) = mpsc::channel(1);
    let (_, health) = mpsc::channel(1);
    let member = |id: u64| {
        let at = |port: u16| format!("node-{id}:{port}");
        (NodeId(id), Endpoints { peer: at(1), client: at(2) })
    };
    let setup = Setup {
        id: NodeId(id),
        members: (1..=3).map(member).collect(),
        ca: authority.ca().clone(),
        vendor_roots: Vec::new(),
        limits: limits(),
        snapshots: node::config::Snapshots::default(),
        engine: "memory",
        data: None,
        proxies: Vec::new(),
    };
    let container = Container::create(ActId(7), &mut UnwrapErr(rand::rngs::SysRng));
    let chain = certify(authority, &container, id);
    let world = World {
        clock: Arc::new(SinceStart(started)),
        entropy: Arc::new(Seeded(Mutex::new(StdRng::seed_from_u64(id)))),
        boot: [1; 16],
        disk: Platter::new().open(),
        container,
        enrolled: Arc::new(Chain(chain)),
        dial: Arc::new(Street { own: id, houses }),
        clients: Door(clients),
        peers: Door(peers),
        health: Door(health),
        metrics: Arc::new(Metrics::new("memory")),
        certificates: Certificates::none(),
        onlooker: Box::new(drop),
    };
    tokio::spawn(seeded(id, async move {
        let ended = node::node::run(setup, world, std::future::pending()).await;
        panic!("node-{id} ended: {ended:?}");
    }));
    Doors { clients: knock_clients, peers: knock_peers }
}

fn certify(authority: &Authority, container: &Container, node: u64) -> Vec<Vec<u8>> {
    let identity = container.identity();
    let (serial, key) = (identity.serial().to_string(), identity.key().to_spki_der());
    let subject = ContainerSubject { node, serial: &serial, key: &key };
    let chain = authority.certify_container(&subject, validity()).expect("a certificate");
    pki::container_chain(Pem::new("the chain", chain.as_bytes())).expect("it is PEM")
}

/// Forms the cluster, and gives the secret of a token of the application `robot`.
pub(crate) async fn form(nodes: &[Doors]) -> String {
    let mut first = ClusterClient::new(connect(&nodes[0].clients, Some(OPERATOR)).await);
    first.init(v1::InitRequest {}).await.expect("the cluster is formed");
    let wanted = v1::IssueTokenRequest { subject: "robot".to_owned(), lifetime_ms: 3_600_000 };
    // Whoever leads; and the date is known once the clocks have been heard.
    for _ in 0..200 {
        for node in nodes {
            let mut node = ClusterClient::new(connect(&node.clients, Some(OPERATOR)).await);
            if let Ok(issued) = node.issue_token(Request::new(wanted.clone())).await {
                return issued.into_inner().secret;
            }
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nobody issues a token");
}
