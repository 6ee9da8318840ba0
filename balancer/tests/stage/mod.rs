//! The stage for the balancer's stories: nodes that are played, a balancer in
//! front of them, and clients that knock.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use balancer::config::Config;
use balancer::net::{TcpConnector, TcpIncoming};
use balancer::pair::Pair;
use balancer::{Parts, ServeError, run};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

/// How long to wait for what must happen.
const PATIENCE: Duration = Duration::from_secs(20);

/// Waits until `holds`, or fails the test.
pub(crate) async fn eventually(holds: impl AsyncFn() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.expect("it never came true");
}

async fn loopback() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").await.expect("a free port")
}

/// What a played node says of itself; `None` leaves a caller without an answer.
type Line = Arc<Mutex<Option<String>>>;

/// A node whose client listener reads the PROXY header, says its number and
/// who called, and then echoes.
pub(crate) struct FakeNode {
    id: u64,
    client: SocketAddr,
    health: SocketAddr,
    line: Line,
    serving: JoinHandle<()>,
}

impl FakeNode {
    pub(crate) async fn start(id: u64) -> Self {
        let (clients, healths) = (loopback().await, loopback().await);
        let (client, health) = (address(&clients), address(&healths));
        let line = Line::default();
        let said = line.clone();
        let answer = get(async move || {
            let line = said.lock().expect("lock").clone();
            match line {
                Some(line) => line,
                None => std::future::pending().await,
            }
        });
        let router = Router::new().route("/leader", answer);
        tokio::spawn(serve_http(healths, router));
        let serving = tokio::spawn(async move {
            while let Ok((stream, _)) = clients.accept().await {
                tokio::spawn(echo(id, stream));
            }
        });
        Self { id, client, health, line, serving }
    }

    /// From now on it answers probes with this.
    pub(crate) fn says(&self, term: u64, leader: Option<u64>, ready: bool) {
        let role = if leader == Some(self.id) { "leader" } else { "follower" };
        let leader = leader.map_or("null".to_owned(), |id| id.to_string());
        self.answers_raw(&format!(
            r#"{{"node":{},"role":"{role}","term":{term},"leader":{leader},"ready":{ready}}}"#,
            self.id
        ));
    }

    pub(crate) fn answers_raw(&self, line: &str) {
        *self.line.lock().expect("lock") = Some(line.to_owned());
    }

    /// Its sockets stay open and nothing comes out of them.
    pub(crate) fn falls_silent(&self) {
        *self.line.lock().expect("lock") = None;
    }

    /// Further clients are refused; probes are still answered.
    pub(crate) async fn close_client_listener(&mut self) {
        self.serving.abort();
        let _ = (&mut self.serving).await;
    }
}

fn address(listener: &TcpListener) -> SocketAddr {
    listener.local_addr().expect("an address")
}

async fn serve_http(listener: TcpListener, router: Router) {
    axum::serve(listener, router).await.expect("served");
}

async fn echo(id: u64, mut stream: TcpStream) -> std::io::Result<()> {
    let mut header = [0; 16 + 12];
    stream.read_exact(&mut header).await?;
    let parsed = ppp::v2::Header::try_from(&header[..]).expect("a PROXY header, version 2");
    let ppp::v2::Addresses::IPv4(seen) = parsed.addresses else { panic!("no IPv4 addresses") };
    let met = format!(
        "{id} {}:{} {}:{} {}\n",
        seen.source_address,
        seen.source_port,
        seen.destination_address,
        seen.destination_port,
        stream.peer_addr()?,
    );
    stream.write_all(met.as_bytes()).await?;
    let (mut from, mut to) = stream.split();
    tokio::io::copy(&mut from, &mut to).await?;
    to.shutdown().await
}

/// What a node said when it was reached.
pub(crate) struct Met {
    pub(crate) node: u64,
    pub(crate) caller: SocketAddr,
    pub(crate) called: SocketAddr,
    /// Where the connection itself comes from: the balancer.
    pub(crate) carrier: SocketAddr,
}

/// A client connected to the balancer.
pub(crate) struct Client {
    pub(crate) stream: TcpStream,
}

impl Client {
    pub(crate) fn address(&self) -> SocketAddr {
        self.stream.local_addr().expect("an address")
    }

    /// Reads the node's first line; `None` if the connection ends instead.
    pub(crate) async fn meet(&mut self) -> Option<Met> {
        let mut line = String::new();
        loop {
            let read = tokio::time::timeout(PATIENCE, self.stream.read_u8()).await;
            match read.expect("the node never said a word") {
                Ok(b'\n') => break,
                Ok(byte) => line.push(byte.into()),
                Err(_) => return None,
            }
        }
        let mut words = line.split(' ');
        let mut word = || words.next().expect("four words");
        Some(Met {
            node: word().parse().expect("a number"),
            caller: word().parse().expect("an address"),
            called: word().parse().expect("an address"),
            carrier: word().parse().expect("an address"),
        })
    }

    /// Sends bytes and reads as many back.
    pub(crate) async fn echo(&mut self, bytes: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut back = vec![0; bytes.len()];
        let (mut from, mut to) = self.stream.split();
        let both = async { tokio::join!(from.read_exact(&mut back), to.write_all(bytes)) };
        let (read, written) = tokio::time::timeout(PATIENCE, both).await.expect("no echo came");
        written?;
        read?;
        Ok(back)
    }

    /// Whether the far side ends the connection, by an end or a reset.
    pub(crate) async fn ends(&mut self) -> bool {
        let read = tokio::time::timeout(PATIENCE, self.stream.read_u8()).await;
        matches!(read, Ok(Err(_)))
    }
}

/// A running balancer.
pub(crate) struct Door {
    clients: SocketAddr,
    health: SocketAddr,
    leave: Option<oneshot::Sender<()>>,
    running: JoinHandle<Result<(), ServeError>>,
}

impl Door {
    /// A balancer in front of `nodes`; `settings` are lines of its TOML,
    /// top-level keys or one table.
    pub(crate) async fn open(nodes: &[FakeNode], settings: &str) -> Self {
        Self::open_with(nodes, settings, None).await
    }

    /// The same, talking to a keepalived that is played.
    pub(crate) async fn open_with(nodes: &[FakeNode], settings: &str, pair: Option<Pair>) -> Self {
        let (clients, health) = (loopback().await, loopback().await);
        let mut text =
            format!("listen = \"{}\"\nhealth = \"{}\"\n", address(&clients), address(&health));
        if !settings.contains("notice_ms") {
            text.push_str("notice_ms = 0\n");
        }
        text.push_str(settings);
        text.push_str("\n[probe]\ninterval_ms = 20\ntimeout_ms = 1000\nfailures = 2\n");
        for node in nodes {
            text.push_str(&format!(
                "[[nodes]]\nid = {}\nclient = \"{}\"\nhealth = \"{}\"\n",
                node.id, node.client, node.health
            ));
        }
        let config = Config::parse(&text).expect("a valid configuration");
        let (at, health_at) = (address(&clients), address(&health));
        let parts = Parts {
            clients: TcpIncoming(clients),
            health: TcpIncoming(health),
            connector: TcpConnector { source: config.source },
            pair,
        };
        let (leave, left) = oneshot::channel::<()>();
        let running = tokio::spawn(run(config, parts, async move {
            let _ = left.await;
        }));
        Self { clients: at, health: health_at, leave: Some(leave), running }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.clients
    }

    pub(crate) async fn knock(&self) -> Client {
        Client { stream: TcpStream::connect(self.clients).await.expect("an open door") }
    }

    /// The number of the node that a new connection reaches.
    pub(crate) async fn who_answers(&self) -> u64 {
        self.knock().await.meet().await.expect("somebody answers").node
    }

    /// Waits until the balancer takes `leader` for the leader and has heard from it.
    pub(crate) async fn sees_leader(&self, leader: u64) {
        let line = format!(r#"node_leader{{node="{leader}"}}"#);
        eventually(async || self.metric(&line).await == 1.0).await;
        let up = format!(r#"node_up{{node="{leader}"}}"#);
        eventually(async || self.metric(&up).await == 1.0).await;
    }

    /// Status code and body of a GET on the health listener.
    pub(crate) async fn get(&self, path: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.health).await.expect("an open health listener");
        let request = format!("GET {path} HTTP/1.1\r\nhost: balancer\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("asked");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("answered");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
        let code = head.split(' ').nth(1).and_then(|code| code.parse().ok());
        (code.expect("a status code"), body.to_owned())
    }

    /// The value of one series, named without its prefix.
    pub(crate) async fn metric(&self, series: &str) -> f64 {
        let (_, page) = self.get("/metrics").await;
        let line = page
            .lines()
            .find_map(|line| line.strip_prefix("trine_balancer_")?.strip_prefix(series))
            .unwrap_or_else(|| panic!("no series {series} in\n{page}"));
        line.trim().parse().expect("a number")
    }

    pub(crate) fn tell_to_leave(&mut self) {
        self.leave.take().expect("told once").send(()).expect("still running");
    }

    /// Waits for the balancer's end, which must be a good one.
    pub(crate) async fn has_left(self) {
        let ended = tokio::time::timeout(PATIENCE, self.running).await.expect("it never left");
        ended.expect("no panic").expect("no error");
    }
}
