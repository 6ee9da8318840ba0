//! A node that comes to take another's place, and who holds seats meanwhile.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use trine_cli::context::Purpose;
use trine_cli::online::Connection;

use super::caller::eventually;
use super::cluster::Cluster;

/// A fourth node beside a cluster of three.
pub(crate) struct Newcomer {
    id: u64,
    home: PathBuf,
    /// Where the other nodes reach it.
    pub(crate) peer: String,
    /// Where clients reach it.
    pub(crate) client: String,
    /// Where balancers ask how it is.
    pub(crate) health: String,
    process: Option<Child>,
}

impl Newcomer {
    /// Gives a new node a certificate and a configuration that names itself and
    /// the nodes that stay, and starts it.
    pub(crate) fn start(cluster: &Cluster, id: u64, instead_of: u8) -> Self {
        let (dir, stay, engine) = {
            let servers = cluster.servers();
            let stay: Vec<u8> = (1..=3).filter(|node| *node != instead_of).collect();
            (servers.layout().dir().to_owned(), stay, servers.engine().to_owned())
        };
        let caller = cluster.caller();
        let own = id.to_string();
        caller.json(&["pki", "issue", "node", &own, "--dir", "pki", "--san", "127.0.0.1"]);
        let act = &caller.json(&["cluster", "status"])["cluster"]["activation_id"];
        let [client, peer, health] = [(); 3].map(|()| free_port());
        let mut members = member(id, client, peer);
        for node in stay {
            let config = fs::read_to_string(dir.join(format!("node-{node}/node.toml")));
            let config: toml::Table =
                config.expect("its configuration").parse().expect("a configuration");
            let tables = config["members"].as_array().expect("members");
            let found = tables.iter().find(|table| table["id"].as_integer() == Some(node.into()));
            let port = |key: &str| {
                let address = found.expect("itself")[key].as_str().expect("an address");
                address.rsplit_once(':').expect("a port").1.parse::<u16>().expect("a port")
            };
            members += &member(node.into(), port("client"), port("peer"));
        }
        let home = dir.join(format!("node-{id}"));
        fs::create_dir_all(&home).expect("its directory");
        let config = format!(
            "id = {id}\nact = {act}\ndata = \"data\"\n\n[listen]\nclient = \"127.0.0.1:{client}\"\n\
             peer = \"127.0.0.1:{peer}\"\nhealth = \"127.0.0.1:{health}\"\n{members}\n\
             [tls]\nca = \"../pki/ca.pem\"\ncert = \"../pki/node-{id}.pem\"\n\
             key = \"../pki/node-{id}.key\"\n\
             container = \"../pki/node-{id}.container.pem\"\n\n[storage]\nengine = \"{engine}\"\n\n\
             [proxy]\ntrusted = [\"127.0.0.2\", \"127.0.0.3\"]\n\n\
             [trust]\nvendor_roots = [\"../vendor/vendor.root\"]\n"
        );
        fs::write(home.join("node.toml"), config).expect("its configuration");
        let config = home.join("node.toml");
        let (config, request) = (config.to_str().expect("UTF-8"), format!("node-{id}.enroll"));
        caller.json(&["node", "enroll", "--config", config, "-o", &request]);
        caller.json(&["pki", "enroll", "--dir", "pki", &request]);
        let [peer, client, health] = [peer, client, health].map(|at| format!("127.0.0.1:{at}"));
        let mut node = Self { id, home, peer, client, health, process: None };
        node.run();
        eventually("the new node is up", || node.log().contains("node is up").then_some(()));
        node
    }

    pub(crate) fn run(&mut self) {
        let log = File::create(self.home.join("node.log")).expect("its log");
        let process = Command::new(env!("CARGO_BIN_EXE_trine"))
            .args(["node", "--config"])
            .arg(self.home.join("node.toml"))
            .arg("--while-stdin-open")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("the node starts");
        self.process = Some(process);
    }

    /// It dies at once, with whatever it was about.
    pub(crate) fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it is ours");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.join("node.log")).unwrap_or_default()
    }
}

impl Drop for Newcomer {
    fn drop(&mut self) {
        if let Some(process) = &mut self.process {
            // It may have ended, which is as good.
            let _ = process.kill();
            let _ = process.wait();
        }
        if std::thread::panicking() {
            eprintln!("node-{} said:\n{}", self.id, self.log());
        }
    }
}

fn member(id: u64, client: u16, peer: u16) -> String {
    format!(
        "\n[[members]]\nid = {id}\npeer = \"127.0.0.1:{peer}\"\nclient = \"127.0.0.1:{client}\"\n"
    )
}

pub(crate) fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Somebody who holds every seat of `press` and renews it, until told to stop.
pub(crate) struct Holders {
    stop: Arc<AtomicBool>,
    task: JoinHandle<Result<(), String>>,
}

/// Takes the three seats of `press`, for `ttl` at a time.
pub(crate) fn fill(cluster: &Cluster, ttl: Duration) -> Holders {
    let (stop, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let target = cluster.servers().target(Purpose::Application);
    let connection = cluster.block_on(Connection::to(target)).expect("a connection");
    let task = cluster.spawn(hold(connection, 3, ttl, stop.clone(), held.clone()));
    eventually("the pool is full", || {
        (task.is_finished() || held.load(Ordering::Relaxed) == 3).then_some(())
    });
    Holders { stop, task }
}

impl Holders {
    /// No seat was lost so far.
    #[track_caller]
    pub(crate) fn still_hold(&self) {
        assert!(!self.task.is_finished(), "a seat was lost");
    }

    /// They give back what they hold; none of it was lost.
    pub(crate) fn end(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        cluster.block_on(self.task).expect("the task ends").expect("no seat was lost");
    }
}

/// The first loss is an error.
async fn hold(
    connection: Connection,
    seats: u32,
    ttl: Duration,
    stop: Arc<AtomicBool>,
    held: Arc<AtomicU32>,
) -> Result<(), String> {
    let mut kept = Vec::new();
    for _ in 0..seats {
        let seat = connection.client.acquire("press").ttl(ttl).send().await;
        kept.push(seat.map_err(|error| format!("acquire: {error}"))?);
    }
    held.store(seats, Ordering::Relaxed);
    while !stop.load(Ordering::Relaxed) {
        if let Some(lost) = kept.iter().find(|seat| !seat.standing().is_usable()) {
            return Err(format!("a seat was lost: {:?}", lost.standing()));
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    for seat in kept {
        seat.release().await.map_err(|error| format!("release: {error}"))?;
    }
    Ok(())
}
