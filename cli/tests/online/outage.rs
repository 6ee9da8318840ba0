//! Nodes that go away: drained, killed, one too many, and back.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use trine_cli::context::Purpose;
use trine_cli::devcluster::Server;
use trine_cli::online::Connection;

use super::caller::{PATIENCE, eventually};
use super::cluster::{Cluster, word};
use super::disk::SmallDisk;

/// Takes and gives back seats until told to stop; the number of times, or the
/// first error that an application would have seen.
async fn work(
    connection: Connection,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let seat = connection.client.acquire("work").ttl(Duration::from_secs(60)).send().await;
        let seat = seat.map_err(|error| format!("acquire: {error}"))?;
        seat.release().await.map_err(|error| format!("release: {error}"))?;
        done.fetch_add(1, Ordering::Relaxed);
    }
    Ok(())
}

/// SIGTERM to the leader while an application works: nothing it asks fails.
#[test]
fn a_node_that_is_stopped_hands_over_and_no_request_fails() {
    let cluster = Cluster::alone();
    cluster.license("work", 2);
    let leader = cluster.leader();
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let target = cluster.servers().target(Purpose::Application);
    let connection = cluster.block_on(Connection::to(target)).expect("a connection");
    let working = cluster.spawn(work(connection, stop.clone(), done.clone()));
    let more = |what: &str, by: u32| {
        let enough = done.load(Ordering::Relaxed) + by;
        eventually(what, || {
            let stopped = working.is_finished();
            (stopped || done.load(Ordering::Relaxed) >= enough).then_some(())
        });
    };
    more("work before the drain", 5);
    let node = Server::Node(leader);
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.stop(node)).expect("the node drains");
    }
    more("work after the drain", 5);
    assert_ne!(cluster.leader(), leader);
    {
        let mut servers = cluster.servers();
        cluster.block_on(async {
            servers.start(node).expect("the node starts");
            servers.until_healthy(&[node], "/readyz", PATIENCE).await.expect("it is ready");
        });
    }
    more("work after its return", 5);
    stop.store(true, Ordering::Relaxed);
    cluster.block_on(working).expect("the task ends").expect("no request failed");
    let log = std::fs::read_to_string(cluster.servers().layout().log(node)).expect("its log");
    assert!(!log.contains("panicked"), "{log}");
}

/// The disk of one node runs full: it stops and says why, the two others serve,
/// and with room again it goes on with its data.
#[test]
fn a_full_disk_stops_one_node_and_loses_nothing() {
    // RocksDB takes room for its log in advance and would go on for hours.
    let cluster = Cluster::alone_on("embedded");
    cluster.license("full-disk", 50);
    let node = Server::Node(cluster.leader() % 3 + 1);
    let (data, log) = {
        let mut servers = cluster.servers();
        cluster.block_on(servers.stop(node)).expect("the node stops");
        (servers.layout().home(node).join("data"), servers.layout().log(node))
    };
    let aside = data.with_extension("aside");
    std::fs::rename(&data, &aside).expect("the data can be moved");
    let Some(disk) = SmallDisk::mount(&data, "64M") else {
        eprintln!("skipped: mounting a small disk needs root");
        return;
    };
    copy(&aside, &data);
    let start = || {
        let mut servers = cluster.servers();
        cluster.block_on(async {
            servers.start(node).expect("the node starts");
            servers.until_healthy(&[node], "/readyz", PATIENCE).await.expect("it is ready");
        });
    };
    start();
    disk.fill();
    let death = eventually("the node stops", || {
        cluster.caller().json(&["acquire", "full-disk", "--ttl", "10m"]);
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.deaths().pop() })
    });
    assert_eq!(death.server, node);
    assert_eq!(death.status.code(), Some(1), "{}", death.last_words);
    assert!(death.last_words.contains("No space left on device"), "{}", death.last_words);
    let held = cluster.held("full-disk").len();
    disk.empty();
    start();
    cluster.caller().json(&["acquire", "full-disk", "--ttl", "10m"]);
    assert_eq!(cluster.held("full-disk").len(), held + 1);
    let log = std::fs::read_to_string(log).expect("its log");
    assert!(!log.contains("panicked"), "{log}");
    let mut servers = cluster.servers();
    cluster.block_on(servers.stop_all()).expect("all stop");
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the directory") {
        let entry = entry.expect("an entry");
        let to = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &to);
        } else {
            std::fs::copy(entry.path(), to).expect("a copy");
        }
    }
}

fn kill(cluster: &Cluster, node: u8) {
    let mut servers = cluster.servers();
    cluster.block_on(servers.kill(Server::Node(node))).expect("the node is killed");
}

/// One node dies: who holds and who waits lose nothing. Then another: nothing
/// is granted, everyone is told why, and what each node knows can be seen. Both
/// come back: all is as it was.
#[test]
fn seats_and_queue_survive_what_nodes_do_not() {
    let cluster = Cluster::alone();
    cluster.license("line", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "line", "--ttl", "10m"]);
    let mut waiting = caller.start(&["acquire", "line", "--wait", "10m"]);
    waiting.until_said("Waiting: place 1 of 1");

    let first = cluster.leader();
    kill(&cluster, first);
    let second = cluster.leader();
    assert_ne!(second, first);
    assert_eq!(cluster.waiting("line").len(), 1);
    let (lease, token) = (word(&seat, "lease"), word(&seat, "token"));
    caller.json(&["renew", &lease, "--token", &token]);
    caller.json(&["release", &lease, "--token", &token]);
    let served = waiting.finish();
    assert_eq!(served.code, 0, "{}", served.said);
    let held = cluster.held("line");
    assert_eq!(held.len(), 1);

    // The leader last seen: the survivor is a follower and finds itself alone.
    kill(&cluster, second);
    let refusal = caller.refused(4, &["acquire", "line"]);
    assert!(
        ["NO_QUORUM", "NO_ANSWER", "NOT_LEADER"].contains(&refusal.reason.as_str()),
        "{refusal:?}"
    );
    let refusal = eventually("a definite answer", || {
        Some(caller.refused(4, &["acquire", "line"])).filter(|no| no.reason == "NO_QUORUM")
    });
    refusal.says(&["quorum", "trine cluster status"]);
    caller.refused(4, &["seats"]);

    let output = caller.run(&["--json", "cluster", "status"]);
    assert_eq!(output.status.code(), Some(4));
    let status: Value = serde_json::from_slice(&output.stdout).expect("a result all the same");
    assert_eq!((&status["quorum"], &status["cluster"]), (&false.into(), &Value::Null));
    let nodes = status["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3, "{status}");
    let unreachable = nodes.iter().filter(|node| node["role"] == "unreachable").count();
    assert_eq!(unreachable, 2, "{status}");
    let page = caller.run(&["cluster", "status"]);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("No quorum answers") && page.contains("unreachable"), "{page}");

    {
        let mut servers = cluster.servers();
        let both = [Server::Node(first), Server::Node(second)];
        cluster.block_on(async {
            both.iter().try_for_each(|node| servers.start(*node)).expect("both start");
            servers.until_healthy(&both, "/readyz", PATIENCE).await.expect("both are ready");
        });
    }
    cluster.leader();
    assert_eq!(cluster.held("line")[0]["seat"], held[0]["seat"]);

    for node in [1, 2, 3] {
        kill(&cluster, node);
    }
    let refusal = caller.refused(4, &["cluster", "status"]);
    assert!(!refusal.text.trim().is_empty());
}
