//! A balancer in hostile hands, in front of real nodes: it may deny, and that is
//! all. It cannot read, alter, grant, or stand in for a node.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use pki::{ClientAuth, Credentials, Pem, Shown, Trust};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use trine_cli::devcluster::Server;

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, word};

/// What it does with a connection.
#[derive(Clone)]
enum Mischief {
    /// Hands every byte on and keeps a copy of each.
    Listens,
    /// Turns one bit in what the client sends, after so many bytes.
    TurnsBits(usize),
    /// Turns one bit in what the node sends, after so many bytes.
    TurnsBitsBack(usize),
    /// Takes what it is sent and never answers.
    Swallows,
    /// Ends TLS itself, with this certificate and key.
    Poses(TlsAcceptor),
}

/// Bytes of one connection, as the client sent them.
type Heard = Arc<Mutex<Vec<Vec<u8>>>>;

struct Rogue {
    address: SocketAddr,
    heard: Heard,
    standing: JoinHandle<()>,
}

impl Drop for Rogue {
    fn drop(&mut self) {
        self.standing.abort();
    }
}

impl Rogue {
    /// Takes the balancer's place in front of `node`.
    fn stand(cluster: &Cluster, node: u8, mischief: Mischief) -> Self {
        let behind = cluster.servers().ports().client(Server::Node(node));
        let bind = TcpListener::bind("127.0.0.1:0");
        let listener = cluster.block_on(bind).expect("a port");
        let address = listener.local_addr().expect("its address");
        let heard = Heard::default();
        let book = heard.clone();
        let standing = cluster.spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(serve(client, behind, mischief.clone(), book.clone()));
            }
        });
        Self { address, heard, standing }
    }

    /// Somebody who finds this in the cluster's place.
    fn misleads(&self, caller: &Caller, words: &[&str]) -> std::process::Output {
        let host = self.address.to_string();
        caller.run(&[&["--json", "--host", &host], words].concat())
    }

    /// All it was sent, and all it sent back.
    fn all_heard(&self) -> Vec<Vec<u8>> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

async fn serve(client: TcpStream, behind: u16, mischief: Mischief, book: Heard) {
    if let Mischief::Poses(acceptor) = &mischief {
        if let Ok(mut client) = acceptor.accept(client).await {
            let mut sent = vec![0; 4_096];
            while let Ok(1..) = client.read(&mut sent).await {
                book.lock().unwrap_or_else(PoisonError::into_inner).push(sent.clone());
            }
        }
        return;
    }
    let Ok(node) = TcpStream::connect(("127.0.0.1", behind)).await else { return };
    let (from_client, to_client) = client.into_split();
    let (from_node, to_node) = node.into_split();
    let (there, back) = match mischief {
        Mischief::TurnsBits(after) => (Some(after), None),
        Mischief::TurnsBitsBack(after) => (None, Some(after)),
        _ => (None, None),
    };
    let back = tokio::spawn(carry(from_node, to_client, back, book.clone()));
    if let Mischief::Swallows = mischief {
        back.abort();
    }
    carry(from_client, to_node, there, book).await;
    // Half closed is how a client that is done waits for the rest.
    let _ = back.await;
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, turn: Option<usize>, book: Heard) {
    let (mut bytes, mut heard) = (vec![0; 16 * 1_024], Vec::new());
    while let Ok(count @ 1..) = from.read(&mut bytes).await {
        let passed = heard.len();
        heard.extend_from_slice(&bytes[..count]);
        if let Some(place) = turn.and_then(|place| place.checked_sub(passed))
            && place < count
        {
            bytes[place] ^= 1;
        }
        if to.write_all(&bytes[..count]).await.is_err() {
            break;
        }
    }
    book.lock().unwrap_or_else(PoisonError::into_inner).push(heard);
}

/// TLS under this identity of the cluster's own CA.
fn acceptor(cluster: &Cluster, stem: &str) -> TlsAcceptor {
    let dir = cluster.servers().layout().pki();
    let file = |name: &str| std::fs::read(dir.join(name)).expect("a file of the CA");
    let (ca, own, key) =
        (file("ca.pem"), file(&format!("{stem}.pem")), file(&format!("{stem}.key")));
    let credentials = Credentials::parse(
        Pem::new("ca", &ca),
        Pem::new("certificate", &own),
        Pem::new("key", &key),
    );
    let credentials = credentials.expect("a certificate of the cluster's CA");
    let trust = Trust::new(std::slice::from_ref(credentials.ca())).expect("a CA");
    let shown = Shown::new(&credentials).expect("a certificate");
    TlsAcceptor::from(pki::server_config(&trust, &shown, ClientAuth::Optional).expect("TLS"))
}

fn contains(bytes: &[u8], words: &str) -> bool {
    bytes.windows(words.len()).any(|window| window == words.as_bytes())
}

#[test]
fn a_hostile_balancer_reads_nothing_and_gains_nothing_by_saying_it_again() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    cluster.license("secret-product", 2);
    let rogue = Rogue::stand(&cluster, cluster.leader(), Mischief::Listens);
    let words = ["acquire", "secret-product", "--holder", "secret-holder", "--ttl", "10m"];
    let output = rogue.misleads(caller, &words);
    assert!(output.status.success(), "it does what a balancer does: {output:?}");
    let seat: Value = serde_json::from_slice(&output.stdout).expect("a seat");
    let lease = word(&seat, "lease");
    eventually("the connection has ended", || (rogue.all_heard().len() >= 2).then_some(()));
    let heard = rogue.all_heard();
    for secret in ["secret-product", "secret-holder", &lease] {
        assert!(!heard.iter().any(|bytes| contains(bytes, secret)), "{secret} was heard");
    }

    // What was heard, said again to the node, is nothing to it.
    let port = cluster.servers().ports().client(Server::Node(cluster.leader()));
    cluster.block_on(async {
        for said in &heard {
            let mut again = TcpStream::connect(("127.0.0.1", port)).await.expect("the node");
            // It may hang up before all is said.
            let _ = again.write_all(said).await;
            let _ = again.shutdown().await;
            let _ = again.read_to_end(&mut Vec::new()).await;
        }
    });
    let held = cluster.held("secret-product");
    assert_eq!(held.len(), 1, "{held:?}");
    assert_eq!(word(&held[0], "seat"), word(&seat, "token"));
    caller.give_back(&seat);
}

/// Wherever a bit is turned, in the handshake or in the call, the client gets no
/// seat that it was not granted, and no word that a node did not say.
#[test]
fn a_hostile_balancer_alters_nothing() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    cluster.license("cad", 2);
    let leader = cluster.leader();
    // A connection is more than a kilobyte each way, most of it the handshake.
    for mischief in [
        Mischief::TurnsBits(40),
        Mischief::TurnsBits(700),
        Mischief::TurnsBitsBack(40),
        Mischief::TurnsBitsBack(700),
        Mischief::Swallows,
    ] {
        let rogue = Rogue::stand(&cluster, leader, mischief);
        let output = rogue.misleads(caller, &["acquire", "cad", "--ttl", "1s"]);
        let code = output.status.code();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!([Some(4), Some(5)].contains(&code) && output.stdout.is_empty(), "{code:?} {said}");
    }
    // An answer that was altered on its way was given: that seat ends by itself.
    eventually("no seat is left", || cluster.held("cad").is_empty().then_some(()));
    caller.give_back(&caller.json(&["acquire", "cad"]));
}

/// Even with a certificate of the cluster's own CA, if it is not a node's.
#[test]
fn a_hostile_balancer_does_not_stand_in_for_a_node() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    cluster.license("cad", 2);
    let dir = cluster.servers().layout().pki();
    let dir = dir.to_str().expect("a path in UTF-8");
    caller.json(&["pki", "issue", "application", "mallory", "--dir", dir]);
    let posing = Mischief::Poses(acceptor(&cluster, "application-mallory"));
    let rogue = Rogue::stand(&cluster, cluster.leader(), posing);
    let output = rogue.misleads(caller, &["acquire", "cad"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(5), "{said}");
    assert!(rogue.all_heard().is_empty(), "it was told something: {said}");
}
