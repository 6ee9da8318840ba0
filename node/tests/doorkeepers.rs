//! Who gets past which door: every call that the compiled protocol declares,
//! times every kind of caller, at both listeners of a real node.
//!
//! The calls come from the descriptors, so that a new one is asked here before
//! anybody has thought of it, and a new service fails until it stands below.

use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use http::{Request, Uri};
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
use pki::{Authority, Ca, UnixTime, Validity};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tokio::io::DuplexStream;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status};
use tower::{Service as _, ServiceExt as _};

/// What a caller hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// The call itself, whatever it answers.
    LetIn,
    /// That it does not say who it is.
    Nobody,
    /// That it is not for the likes of it.
    NotYours,
    /// That there is no such call here.
    Nothing,
}

/// Who knocks: nobody, the two roles of the client listener, a member, and a
/// node that is none.
const CALLERS: [Option<&str>; 5] = [
    None,
    Some("trine://application/cad"),
    Some("trine://operator/ana"),
    Some("trine://peer/node-2"),
    Some("trine://peer/node-9"),
];

/// What each of [`CALLERS`] is to hear from every call of a service, at the
/// client listener and at the peer listener.
fn expected(service: &str) -> [[Heard; 5]; 2] {
    use Heard::{LetIn, Nobody, NotYours, Nothing};
    match service {
        "trine.v1.Licensing" => [[Nobody, LetIn, LetIn, NotYours, NotYours], [Nothing; 5]],
        "trine.v1.Cluster" => [[Nobody, NotYours, LetIn, NotYours, NotYours], [Nothing; 5]],
        "trine.peer.v1.Peer" => [[Nothing; 5], [NotYours, NotYours, NotYours, LetIn, NotYours]],
        other => panic!("nobody has said who may call {other}"),
    }
}

/// Every call of the compiled protocol: service and name.
fn declared() -> BTreeSet<(String, String)> {
    let files = FileDescriptorSet::decode(wire::DESCRIPTORS).expect("descriptors").file;
    let calls = files.iter().flat_map(|file| {
        file.service.iter().flat_map(|service| {
            let name = format!("{}.{}", file.package(), service.name());
            service.method.iter().map(move |method| (name.clone(), method.name().to_owned()))
        })
    });
    calls.collect()
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

struct StoppedClock;

impl Clock for StoppedClock {
    fn boot(&self) -> Duration {
        Duration::from_secs(1)
    }

    fn wall(&self) -> WallTime {
        WallTime(1_800_000_000_000)
    }
}

struct Zeros;

impl Entropy for Zeros {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(0);
    }
}

struct NobodyThere;

impl Dial for NobodyThere {
    fn dial(&self, _: u64, _: &str) -> Dialing {
        Box::pin(async { Err(io::ErrorKind::ConnectionRefused.into()) })
    }
}

struct NotEnrolled;

impl Enrolled for NotEnrolled {
    fn chain(&self) -> Result<Vec<Vec<u8>>, String> {
        Ok(Vec::new())
    }
}

fn limits() -> Limits {
    let example = include_str!("../../deploy/node.example.toml");
    Config::parse(example, "node.toml".as_ref()).expect("the example holds").limits
}

fn ca() -> Ca {
    let from = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    let validity = Validity::starting(from, Duration::from_secs(3_600));
    Authority::create("works", validity).expect("an authority").ca().clone()
}

/// Runs node 1 of a cluster that is not formed; gives its two doors.
fn node() -> [mpsc::Sender<Connection<DuplexStream>>; 2] {
    let (knock_clients, clients) = mpsc::channel(1);
    let (knock_peers, peers) = mpsc::channel(1);
    let (_, health) = mpsc::channel(1);
    let member = |id: u64| {
        let at = |port: u16| format!("node-{id}:{port}");
        (NodeId(id), Endpoints { peer: at(1), client: at(2) })
    };
    let setup = Setup {
        id: NodeId(1),
        members: (1..=3).map(member).collect(),
        ca: ca(),
        vendor_roots: Vec::new(),
        limits: limits(),
        snapshots: node::config::Snapshots::default(),
        engine: "memory",
        data: None,
    };
    let world = World {
        clock: Arc::new(StoppedClock),
        entropy: Arc::new(Zeros),
        boot: [1; 16],
        disk: Platter::new().open(),
        container: Container::create(ActId(7), &mut UnwrapErr(rand::rngs::SysRng)),
        enrolled: Arc::new(NotEnrolled),
        dial: Arc::new(NobodyThere),
        clients: Door(clients),
        peers: Door(peers),
        health: Door(health),
        metrics: Arc::new(Metrics::new("memory")),
        certificates: Certificates::none(),
        onlooker: Box::new(drop),
    };
    tokio::spawn(seeded(7, async {
        let ended = node::node::run(setup, world, std::future::pending()).await;
        panic!("the node ended: {ended:?}");
    }));
    [knock_clients, knock_peers]
}

/// A connection to a door, as this caller.
async fn connect(
    door: &mpsc::Sender<Connection<DuplexStream>>,
    caller: Option<&'static str>,
) -> Channel {
    let door = door.clone();
    let connector = tower::service_fn(move |_: Uri| {
        let door = door.clone();
        async move {
            let (near, far) = tokio::io::duplex(64 * 1024);
            let identity = caller.map(|uri| uri.parse().expect("an identity"));
            let address = Ipv4Addr::LOCALHOST.into();
            let peer = Peer { address, identity, certificate: None };
            door.send(Connection::new(far, peer)).await.map_err(io::Error::other)?;
            Ok::<_, io::Error>(TokioIo::new(near))
        }
    });
    let endpoint = Endpoint::from_static("http://trine");
    endpoint.connect_with_connector(connector).await.expect("a connection")
}

/// What one call with an empty message is told at the door.
async fn ask(channel: &mut Channel, service: &str, name: &str) -> Heard {
    let request = Request::post(format!("http://trine/{service}/{name}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(tonic::body::Body::new(Body::from(vec![0; 5])))
        .expect("a request");
    let answer = channel.ready().await.expect("a connection").call(request).await;
    let answer = answer.expect("an answer");
    let Some(status) = Status::from_header_map(answer.headers()) else { return Heard::LetIn };
    match (status.code(), status.message()) {
        // A member that has not said hello is turned away by another rule (S21).
        (Code::Unauthenticated, said) if service.contains(".peer.") => {
            assert!(!said.contains("identity"), "{said}");
            Heard::LetIn
        }
        (Code::Unauthenticated, _) => Heard::Nobody,
        (Code::PermissionDenied, _) => Heard::NotYours,
        (Code::Unimplemented, _) => Heard::Nothing,
        _ => Heard::LetIn,
    }
}

#[tokio::test]
async fn every_caller_hears_of_every_call_what_it_should() {
    let calls = declared();
    assert!(calls.len() > 25, "{calls:?}");
    let doors = node();
    for (at, door) in doors.iter().enumerate() {
        for (who, caller) in CALLERS.into_iter().enumerate() {
            let mut channel = connect(door, caller).await;
            for (service, name) in &calls {
                let heard = ask(&mut channel, service, name).await;
                let wanted = expected(service)[at][who];
                assert_eq!(heard, wanted, "{caller:?} asks {service}/{name} at door {at}");
            }
        }
    }
}
