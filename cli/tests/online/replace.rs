//! A node that is lost, and a new one in its place.

use std::fs::{self, File};
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use trine_cli::context::Purpose;
use trine_cli::devcluster::Server;
use trine_cli::online::Connection;

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, word};

/// A fourth node beside a cluster of three.
struct Newcomer {
    id: u64,
    home: PathBuf,
    peer: String,
    process: Option<Child>,
}

impl Newcomer {
    /// Gives a new node a certificate and a configuration that names itself and
    /// the nodes that stay, and starts it.
    fn start(cluster: &Cluster, id: u64, instead_of: u8) -> Self {
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
             [trust]\nvendor_roots = [\"../vendor/vendor.root\"]\n"
        );
        fs::write(home.join("node.toml"), config).expect("its configuration");
        let config = home.join("node.toml");
        let (config, request) = (config.to_str().expect("UTF-8"), format!("node-{id}.enroll"));
        caller.json(&["node", "enroll", "--config", config, "-o", &request]);
        caller.json(&["pki", "enroll", "--dir", "pki", &request]);
        let mut node = Self { id, home, peer: format!("127.0.0.1:{peer}"), process: None };
        node.run();
        eventually("the new node is up", || node.log().contains("node is up").then_some(()));
        node
    }

    fn run(&mut self) {
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

fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("its address").port()
}

/// Holds every seat and renews it, until told to stop; the first loss is an error.
async fn hold(
    connection: Connection,
    seats: u32,
    stop: Arc<AtomicBool>,
    held: Arc<AtomicU32>,
) -> Result<(), String> {
    let mut kept = Vec::new();
    for _ in 0..seats {
        let seat = connection.client.acquire("press").ttl(Duration::from_secs(10)).send().await;
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

fn shares(caller: &Caller, license: &str) -> Vec<(u64, String)> {
    let shown = caller.json(&["license", "show", license])["licenses"][0].clone();
    let shares = shown["shares"].as_array().expect("three shares").iter();
    shares.map(|share| (share["node"].as_u64().expect("a node"), word(share, "state"))).collect()
}

fn until_live(caller: &Caller, license: &str, nodes: [u64; 3]) {
    let wanted: Vec<(u64, String)> = nodes.map(|node| (node, "live".to_owned())).into();
    eventually("three shares are live", || (shares(caller, license) == wanted).then_some(()));
}

fn members(status: &Value) -> Vec<u64> {
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    nodes.filter_map(|node| node["id"].as_u64()).collect()
}

/// The whole story: the pool is full and its holders renew all the while; a node
/// dies; a new one takes its place, the command line cut off half way and run
/// again; the share comes back by repair, and later by the vendor's next issue;
/// the old node is sent away.
#[test]
fn a_dead_node_is_replaced_while_the_pool_is_full() {
    let cluster = Cluster::alone();
    let license = cluster.license("press", 3).license;
    let caller = cluster.caller();
    let (stop, held) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let target = cluster.servers().target(Purpose::Application);
    let connection = cluster.block_on(Connection::to(target)).expect("a connection");
    let holding = cluster.spawn(hold(connection, 3, stop.clone(), held.clone()));
    eventually("the pool is full", || {
        (holding.is_finished() || held.load(Ordering::Relaxed) == 3).then_some(())
    });
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");

    let old = cluster.leader();
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(old))).expect("it is gone");
    }
    let (gone, stay) = (u64::from(old), (1..=3).filter(|node| *node != u64::from(old)));
    let now: Vec<u64> = stay.chain([4]).collect();
    let leaderless = || caller.run(&["--json", "cluster", "status"]).status.success();
    eventually("another leads", || leaderless().then_some(()));
    let newcomer = Newcomer::start(&cluster, 4, old);
    let (old_word, at) = (gone.to_string(), newcomer.peer.clone());
    let replace = ["cluster", "replace", &old_word, "4"];

    // It must be said where the new node is, and the id must be new.
    caller.refused(3, &replace).says(&["--at"]);
    let survivor = now[0].to_string();
    caller.refused(3, &["cluster", "replace", &old_word, &survivor, "--at", &at]).says(&["id"]);

    // Cut off after the first step, and run again without the address.
    let mut cut_off = caller.start(&[&replace[..], &["--at", &at]].concat());
    cut_off.until_said("begun");
    drop(cut_off);
    let replaced = caller.json(&replace);
    assert_eq!(replaced["stage"], "done", "{replaced}");
    assert_eq!(replaced["without_share"][0], license.as_str(), "{replaced}");
    let status = caller.json(&["cluster", "status"]);
    assert_eq!(members(&status), now, "{status}");
    // Done twice is done.
    assert_eq!(caller.json(&replace)["stage"], "done");
    assert_eq!(caller.json(&[&replace[..], &["--status"]].concat())["stage"], "done");

    // The license serves with two shares, to those who hold seats and to nobody else.
    assert!(shares(caller, &license).contains(&(4, "without a share".to_owned())));
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");

    // The old node comes back and is sent away, with what to do.
    {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.start(Server::Node(old)) }).expect("it starts");
        let log = servers.layout().log(Server::Node(old));
        drop(servers);
        eventually("the old node ends", || {
            let ended = !cluster.servers().deaths().is_empty();
            ended.then_some(())
        });
        let said = fs::read_to_string(log).expect("its log");
        assert!(said.contains("was replaced by node-4") && said.contains("wipe"), "{said}");
    }

    // The third share, made again by the other two.
    let repaired = caller.json(&["license", "repair", &license]);
    assert_eq!(repaired["nodes"][0], 4, "{repaired}");
    let three = [now[0], now[1], now[2]];
    until_live(caller, &license, three);
    // It is as good as any: one of the old two may go.
    let other = u8::try_from(now[1]).expect("1 to 3");
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(other))).expect("it is gone");
    }
    eventually("two shares serve", || {
        let shown = caller.run(&["--json", "license", "show", &license]);
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        let license = &shown["licenses"][0];
        let silent = license["shares"].as_array()?.iter().any(|share| share["state"] == "silent");
        (silent && license["serving"] == true).then_some(())
    });
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");
    {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.start(Server::Node(other)) }).expect("it starts");
    }
    until_live(caller, &license, three);

    // And the vendor's next issue is split for the three there are now.
    {
        let servers = cluster.servers();
        cluster.block_on(servers.ensure_license("press", Some(4), 4)).expect("an update");
    }
    until_live(caller, &license, three);
    caller.json(&["acquire", "press"]);
    stop.store(true, Ordering::Relaxed);
    cluster.block_on(holding).expect("the task ends").expect("no seat was lost");
}

/// A living node, the leader even, is replaced, after one try was given up.
#[test]
fn a_replacement_is_given_up_and_another_made() {
    let cluster = Cluster::alone();
    let license = cluster.license("mill", 2).license;
    let caller = cluster.caller();
    let old = cluster.leader();
    let old_word = old.to_string();
    let refused = Newcomer::start(&cluster, 4, old);
    let first = ["cluster", "replace", &old_word, "4"];
    let mut cut_off = caller.start(&[&first[..], &["--at", &refused.peer]].concat());
    cut_off.until_said("begun");
    drop(cut_off);
    let undone = caller.json(&[&first[..], &["--undo"]].concat());
    assert_eq!(undone["stage"], "undone", "{undone}");
    assert_eq!(members(&caller.json(&["cluster", "status"])), [1, 2, 3]);
    // Its id is spent.
    caller.refused(3, &[&first[..], &["--at", &refused.peer]].concat()).says(&["was used before"]);
    drop(refused);

    let newcomer = Newcomer::start(&cluster, 5, old);
    let replaced = caller.json(&[
        "cluster",
        "replace",
        &old_word,
        "5",
        "--at",
        &newcomer.peer,
        "--repair-shares",
    ]);
    assert_eq!(replaced["without_share"].as_array().map(Vec::len), Some(0), "{replaced}");
    let now: Vec<u64> = (1..=3).filter(|node| *node != u64::from(old)).chain([5]).collect();
    assert_eq!(members(&caller.json(&["cluster", "status"])), now);
    until_live(caller, &license, [now[0], now[1], now[2]]);
    // The old node still ran: it is told, and ends.
    eventually("the old node ends", || (!cluster.servers().deaths().is_empty()).then_some(()));
    caller.json(&["acquire", "mill"]);
    let late = ["cluster", "replace", &old_word, "5", "--undo"];
    caller.refused(3, &late).says(&["too late"]);
}

/// The leader dies between two steps. Without it one node would be left, so the
/// replacement waits for it, and goes on when it is back.
#[test]
fn a_replacement_goes_on_after_its_leader_died() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let leader = cluster.leader();
    let old = leader % 3 + 1;
    let old_word = old.to_string();
    let newcomer = Newcomer::start(&cluster, 4, old);
    // A cluster this young has not heard all of its nodes yet.
    eventually("all are heard", || {
        let status = caller.json(&["cluster", "status"]);
        status["nodes"].as_array()?.iter().all(|node| node["alive"] == true).then_some(())
    });
    let replace = ["cluster", "replace", &old_word, "4"];
    let mut cut_off = caller.start(&[&replace[..], &["--at", &newcomer.peer]].concat());
    cut_off.until_said("begun");
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(leader))).expect("it is gone");
    }
    drop(cut_off);
    caller.refused(3, &replace).says(&["silent", &format!("node-{leader}")]);
    assert_eq!(caller.json(&[&replace[..], &["--status"]].concat())["stage"], "under-way");
    {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.start(Server::Node(leader)) }).expect("it starts");
    }
    let replaced = eventually("it goes on", || {
        let output = caller.run(&[&["--json"], &replace[..]].concat());
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).ok())?
    });
    assert_eq!(replaced["stage"], "done", "{replaced}");
    let now: Vec<u64> = (1..=3).filter(|node| *node != u64::from(old)).chain([4]).collect();
    assert_eq!(members(&caller.json(&["cluster", "status"])), now);
}
