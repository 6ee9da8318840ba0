//! `trine cluster doctor` on real processes, well and ill.

use std::fs;

use trine_cli::devcluster::Server;

use super::amnesia::wipe;
use super::caller::{Caller, PATIENCE, eventually};
use super::cluster::{Cluster, prepared, prepared_on, shared};
use super::disk::SmallDisk;
use super::findings::{examined, until_found};
use super::newcomer::free_port;

#[test]
fn a_healthy_cluster_is_healthy() {
    let cluster = shared();
    let ports = *cluster.servers().ports();
    let health = |number| format!("127.0.0.1:{}", ports.health(Server::Balancer(number)));
    let more = ["--balancer", &health(1), "--balancer", &health(2)];
    // Other stories withdraw shares of licenses of their own.
    let others = ["LICENSE_NOT_SERVING", "SHARE_MISSING"];
    eventually("nothing of ours is found", || {
        let (_, mut found) = examined(cluster.caller(), &more);
        found.retain(|(code, _)| !others.contains(&code.as_str()));
        eprintln!("{found:?}");
        found.is_empty().then_some(())
    });
}

#[test]
fn a_node_that_is_stopped_is_named_and_then_the_quorum() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    until_found(caller, &[], 0, &[]);
    let stop = |number| {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(number))).expect("the node is gone");
    };
    stop(3);
    until_found(caller, &[], 8, &[("NODE_DOWN", "node-3")]);
    stop(2);
    let until_missed = || {
        eventually("the quorum is missed", || {
            let (exit, found) = examined(caller, &[]);
            let is = |code: &str, about: &str| found.contains(&(code.into(), about.into()));
            assert!(!is("NOT_FORMED", "cluster"), "{found:?}");
            let down = |node| is("NODE_DOWN", node);
            let all = is("NO_QUORUM", "cluster") && down("node-2") && down("node-3");
            (exit == 8 && all && !down("node-1")).then_some(())
        });
    };
    until_missed();
    // The one that is left starts anew, alone: it is of that cluster still.
    stop(1);
    cluster.block_on(async { cluster.servers().start(Server::Node(1)) }).expect("it starts");
    until_missed();
    let said = caller.run(&["cluster", "status"]);
    let said = String::from_utf8_lossy(&said.stdout).into_owned();
    assert!(said.contains("No quorum answers"), "{said}");
    assert!(!said.contains("it is not known whether"), "{said}");
}

/// Its data directory was emptied, and it listens where nobody looks for it: nobody
/// tells it what it lost, and it learns of no cluster.
#[test]
fn a_member_that_nobody_reaches_and_that_knows_no_cluster_is_said_to_know_none() {
    let cluster = Cluster::alone();
    let node = Server::Node(3);
    cluster.stop(node);
    let (config, data, peer) = {
        let servers = cluster.servers();
        let home = servers.layout().home(node);
        (servers.layout().config(node), home.join("data"), servers.ports().nodes[2].peer)
    };
    wipe(&data);
    let address = |port: u16| format!("\"127.0.0.1:{port}\"");
    let written = fs::read_to_string(&config).expect("the configuration");
    let moved = written.replace(&address(peer), &address(free_port()));
    assert_ne!(moved, written);
    fs::write(&config, moved).expect("the configuration");
    let mut servers = cluster.servers();
    cluster.block_on(async {
        servers.start(node).expect("it starts");
        servers.until_healthy(&[node], "/livez", PATIENCE).await.expect("it lives");
    });
    drop(servers);
    eventually("the doctor says that it knows no cluster, and why", || {
        let (exit, found) = examined(cluster.caller(), &[]);
        let is = |code: &str, about: &str| found.contains(&(code.into(), about.into()));
        let unreached = is("PEER_UNREACHED", "node-1") && is("PEER_UNREACHED", "node-2");
        (exit == 8 && is("NOT_CAUGHT_UP", "node-3") && unreached).then_some(())
    });
}

/// One balancer dials from an address that no node trusts; then it looks for
/// a node's health where its peers are.
#[test]
fn a_balancer_that_is_wrongly_configured_is_told_why() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let (door, health, config, node_peer, node_health) = {
        let servers = cluster.servers();
        let balancer = Server::Balancer(2);
        let ports = servers.ports();
        (
            format!("127.0.0.1:{}", ports.client(balancer)),
            format!("127.0.0.1:{}", ports.health(balancer)),
            servers.layout().config(balancer),
            ports.nodes[0].peer,
            ports.health(Server::Node(1)),
        )
    };
    let written = fs::read_to_string(&config).expect("the configuration");
    let restart_with = |text: &str| {
        fs::write(&config, text).expect("the configuration");
        let mut servers = cluster.servers();
        cluster.block_on(async {
            servers.stop(Server::Balancer(2)).await.expect("it drains");
            servers.start(Server::Balancer(2)).expect("it starts");
            let balancer = [Server::Balancer(2)];
            servers.until_healthy(&balancer, "/livez", PATIENCE).await.expect("it lives");
        });
    };
    restart_with(&written.replace("source = \"127.0.0.3\"", "source = \"127.0.0.1\""));
    until_found(caller, &[], 8, &[("DOOR_NOT_TRUSTED", &door)]);

    let wrong = format!("health = \"127.0.0.1:{node_peer}\"");
    restart_with(&written.replace(&format!("health = \"127.0.0.1:{node_health}\""), &wrong));
    let about = format!("balancer {health}");
    eventually("the probe fails", || {
        let (_, found) = examined(caller, &["--balancer", &health]);
        found.contains(&("BALANCER_SEES_NO_NODE".into(), about.clone())).then_some(())
    });
    restart_with(&written);
    until_found(caller, &["--balancer", &health], 0, &[]);
    // A health listener that is none.
    let (exit, found) = examined(caller, &["--balancer", &door]);
    assert_eq!((exit, found[0].0.as_str()), (8, "BALANCER_DOWN"));
}

/// The balancer's table of nodes, wrong in every way that the doctor tells apart.
#[test]
fn a_balancer_with_a_wrong_table_of_nodes_is_told_what_is_wrong_in_it() {
    let cluster = Cluster::alone();
    let (config, health, clients, healths) = {
        let servers = cluster.servers();
        let (balancer, ports) = (Server::Balancer(2), servers.ports());
        (
            servers.layout().config(balancer),
            format!("127.0.0.1:{}", ports.health(balancer)),
            Server::NODES.map(|node| format!("client = \"127.0.0.1:{}\"", ports.client(node))),
            Server::NODES.map(|node| format!("health = \"127.0.0.1:{}\"", ports.health(node))),
        )
    };
    let written = fs::read_to_string(&config).expect("the configuration");
    let about = format!("balancer {health}");
    let found_with = |text: &str, expected: &[&str]| {
        fs::write(&config, text).expect("the configuration");
        cluster.restart_as(Server::Balancer(2), super::cluster::trine());
        eventually("the doctor finds it", || {
            let (exit, found) = examined(cluster.caller(), &["--balancer", &health]);
            let is = |code: &&str| found.contains(&((*code).into(), about.clone()));
            expected.iter().all(is).then_some(exit)
        })
    };
    let stranger = written.replace("id = 3", "id = 9");
    let expected = ["BALANCER_KNOWS_A_STRANGER", "BALANCER_LACKS_A_NODE"];
    assert_eq!(found_with(&stranger, &expected), 8);

    let swapped = |what: &[String; 3]| {
        let between = written.replace(&what[0], "between").replace(&what[1], &what[0]);
        between.replace("between", &what[1])
    };
    assert_eq!(found_with(&swapped(&clients), &["BALANCER_ADDRESS_DIFFERS"]), 7);

    // A health listener says whose it is.
    assert_eq!(found_with(&swapped(&healths), &["BALANCER_SEES_NO_NODE"]), 8);

    let nowhere = healths.iter().zip(7..).fold(written.clone(), |text, (health, port)| {
        text.replace(health, &format!("health = \"127.0.0.1:{port}\""))
    });
    assert_eq!(found_with(&nowhere, &["BALANCER_NOT_READY", "BALANCER_SEES_NO_NODE"]), 8);
}

/// A balancer that is gone; and one that leads to a cluster of the same CA that
/// is another, as a test cluster beside the production one may be.
#[test]
fn a_way_in_that_is_closed_or_leads_to_another_cluster_is_named() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let door = {
        let mut servers = cluster.servers();
        let balancer = Server::Balancer(1);
        cluster.block_on(servers.kill(balancer)).expect("it is gone");
        format!("127.0.0.1:{}", servers.ports().client(balancer))
    };
    until_found(caller, &[], 8, &[("DOOR_CLOSED", &door)]);

    let dir = tempfile::tempdir().expect("a directory");
    let second = dir.path().join("cluster");
    fs::create_dir(&second).expect("a directory");
    copy(&cluster.servers().layout().pki(), &second.join("pki"));
    let other = Cluster::start(prepared(&second), None);
    let theirs = {
        let servers = other.servers();
        format!("127.0.0.1:{}", servers.ports().client(Server::Balancer(1)))
    };
    let ours = Server::NODES
        .map(|node| format!("127.0.0.1:{}", cluster.servers().ports().client(node)))
        .join(",");
    let both = caller.with("TRINE_HOST", format!("{ours},{theirs}"));
    until_found(&both, &[], 8, &[("DOOR_TO_ANOTHER_CLUSTER", &theirs)]);
}

fn copy(from: &std::path::Path, to: &std::path::Path) {
    fs::create_dir(to).expect("a directory");
    fs::set_permissions(to, fs::metadata(from).expect("it is there").permissions())
        .expect("a mode");
    for file in fs::read_dir(from).expect("a directory") {
        let file = file.expect("a file");
        let name = file.file_name();
        // Its containers are its own.
        let is_container = name.to_string_lossy().ends_with(".container.pem");
        if file.file_type().expect("a kind").is_file() && !is_container {
            fs::copy(file.path(), to.join(name)).expect("copied");
        }
    }
}

/// The vendor, or an operator, took one share away: two serve, and it is told.
#[test]
fn a_withdrawn_share_is_a_warning() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let license = cluster.license("shared-out", 1);
    until_found(caller, &[], 0, &[]);
    let withdraw = |node: &str| {
        let words = ["license", "withdraw-share", &license.license, "--yes", "--node", node];
        caller.json(&words);
    };
    withdraw("2");
    let about = format!("shared-out ({})", license.license);
    until_found(caller, &[], 7, &[("SHARE_MISSING", &about)]);
    withdraw("3");
    until_found(caller, &[], 8, &[("LICENSE_NOT_SERVING", &about)]);
}

/// What the ledger is made of, altered on the disk while the node was down: no
/// node serves it. So `LEDGER_DIFFERS` cannot come from there; what is left is a
/// bit that tips over in memory, or a bug, which only a table of findings plays.
#[test]
fn a_node_whose_ledger_was_altered_on_disk_does_not_start() {
    const NAME: &[u8] = b"altered-on-disk";
    let cluster = Cluster::alone_on("embedded");
    let caller = cluster.caller();
    cluster.license("altered-on-disk", 1);
    until_found(caller, &[], 0, &[]);
    let node = Server::Node(3);
    cluster.stop(node);
    let file = cluster.servers().layout().home(node).join("data/data/trine.redb");
    let sound = fs::read(&file).expect("the engine's file");
    let mut altered = sound.clone();
    let places: Vec<usize> = sound
        .windows(NAME.len())
        .enumerate()
        .filter_map(|(at, bytes)| (bytes == NAME).then_some(at))
        .collect();
    assert!(!places.is_empty(), "the product is not in the node's log");
    places.into_iter().for_each(|at| altered[at] ^= 1);
    fs::write(&file, altered).expect("written");
    cluster.block_on(async { cluster.servers().start(node) }).expect("it starts");
    let death = eventually("the node stops", || {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.deaths().pop() })
    });
    assert_eq!(death.status.code(), Some(1), "{}", death.last_words);
    assert!(death.last_words.contains("checksum"), "{}", death.last_words);
    until_found(caller, &[], 8, &[("NODE_DOWN", "node-3")]);

    // As it was, it is a node again.
    fs::write(&file, sound).expect("written");
    cluster.block_on(async { cluster.servers().start(node) }).expect("it starts");
    until_found(caller, &[], 0, &[]);
}

/// One node on a small disk of its own: told before it is full, and when. On the
/// embedded engine, because RocksDB reserves more than such a disk has to spare.
#[test]
fn a_disk_that_fills_is_told_of_before_it_is_full() {
    let dir = tempfile::tempdir().expect("a directory");
    let servers = prepared_on(Some("embedded"), &dir.path().join("cluster"));
    let data = servers.layout().home(Server::Node(2)).join("data");
    let Some(_disk) = SmallDisk::mount(&data, "200M") else {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    let cluster = Cluster::start(servers, None);
    let caller = cluster.caller();
    until_found(caller, &["--disk-free", "64"], 0, &[]);
    let ballast = |mebibytes: usize| {
        fs::write(data.join("ballast"), vec![0; mebibytes << 20]).expect("room for it");
    };
    ballast(150);
    until_found(caller, &["--disk-free", "64"], 7, &[("DISK_FILLING", "node-2")]);
    ballast(188);
    until_found(caller, &["--disk-free", "64"], 8, &[("DISK_FULL", "node-2")]);
    fs::remove_file(data.join("ballast")).expect("it is there");
    until_found(caller, &["--disk-free", "64"], 0, &[]);
}

/// Before there is a cluster: both say so at once, and how to make one.
#[test]
fn nodes_that_are_not_formed_are_called_so() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut servers = prepared(&dir.path().join("cluster"));
    let context = servers.save_context().expect("a context");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        Server::NODES.iter().for_each(|node| servers.start(*node).expect("it starts"));
        servers.until_healthy(&Server::NODES, "/livez", PATIENCE).await.expect("live nodes");
    });
    let caller = Caller::new(dir.path()).with("TRINE_CONTEXT", context);
    let refusal = caller.refused(3, &["cluster", "status"]);
    assert_eq!(refusal.reason, "NOT_FORMED");
    refusal.says(&["cluster init"]);
    let (exit, found) = examined(&caller, &[]);
    assert_eq!(exit, 8);
    assert!(found.contains(&("NOT_FORMED".into(), "cluster".into())), "{found:?}");
    // A health port speaks plain HTTP.
    let health = format!("127.0.0.1:{}", servers.ports().health(Server::Node(1)));
    let asked = caller.with("TRINE_HOST", &health);
    asked.refused(5, &["cluster", "status"]).says(&["client port"]);
    runtime.block_on(servers.stop_all()).expect("they drain");
}
