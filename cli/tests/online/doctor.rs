//! `trine cluster doctor` on real processes, well and ill.

use std::fs;

use serde_json::Value;
use trine_cli::devcluster::Server;

use super::caller::{Caller, PATIENCE, eventually};
use super::cluster::{Cluster, prepared, shared};

/// The exit code, and what was found: code and whose. A disk that a busy
/// machine makes slow is no story.
fn examined(caller: &Caller, more: &[&str]) -> (i32, Vec<(String, String)>) {
    let output = caller.run(&[&["--json", "cluster", "doctor", "--disk-free", "1"], more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let all = report["findings"].as_array().expect("findings");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("text").to_owned();
    let found = all.iter().map(|finding| (text(finding, "code"), text(finding, "about")));
    let found: Vec<_> = found.filter(|(code, _)| code != "DISK_SLOW").collect();
    let code = output.status.code().expect("it ends by itself");
    let expected = match report["verdict"].as_str() {
        Some("healthy") => 0,
        Some("warnings") => 7,
        _ => 8,
    };
    assert_eq!(code, expected, "{report}");
    (if found.is_empty() { 0 } else { code }, found)
}

/// Until the doctor finds exactly this: nodes take a moment to be missed.
#[track_caller]
fn until_found(caller: &Caller, more: &[&str], exit: i32, expected: &[(&str, &str)]) {
    let mut last = None;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the doctor finds it", || {
            let (code, found) = examined(caller, more);
            let so = code == exit
                && expected.len() == found.len()
                && expected.iter().all(|(c, a)| found.contains(&((*c).into(), (*a).into())));
            last = Some((code, found));
            so.then_some(())
        });
    }));
    assert!(seen.is_ok(), "{expected:?} expected, last seen {last:?}");
}

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
    eventually("the quorum is missed", || {
        let (exit, found) = examined(caller, &[]);
        let is = |code: &str, about: &str| found.contains(&(code.into(), about.into()));
        let all =
            is("NO_QUORUM", "cluster") && is("NODE_DOWN", "node-2") && is("NODE_DOWN", "node-3");
        (exit == 8 && all).then_some(())
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
