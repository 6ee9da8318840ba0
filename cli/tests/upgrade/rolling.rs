//! A rolling upgrade, the level raised, and the way back that is closed.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::LazyLock;

use trine_cli::devcluster::Server;
use trine_client::Endpoint;

use crate::caller::{PATIENCE, eventually};
use crate::cluster::{Cluster, word};
use crate::findings::until_found;
use crate::load::Load;
use crate::next;

/// The binary of the next build.
fn next_build() -> PathBuf {
    static NEXT: LazyLock<PathBuf> = LazyLock::new(next::build);
    NEXT.clone()
}

/// Drains a node and starts it again with another build.
fn replace_build(cluster: &Cluster, node: u8, program: PathBuf) {
    let node = Server::Node(node);
    let mut servers = cluster.servers();
    cluster.block_on(async {
        servers.stop(node).await.expect("the node drains");
        servers.use_program(program);
        servers.start(node).expect("the node starts");
        servers.until_healthy(&[node], "/readyz", PATIENCE).await.expect("it is ready");
    });
}

/// Followers first, the leader last, as the runbook says.
fn rolling_order(cluster: &Cluster) -> [u8; 3] {
    let leader = cluster.leader();
    let [a, b] = match leader {
        1 => [2, 3],
        2 => [1, 3],
        _ => [1, 2],
    };
    [a, b, leader]
}

/// Looks at all three nodes until every two of them have been seen at two or
/// more equal places of the log, and at each of those with equal hashes.
fn same_hashes(cluster: &Cluster) {
    let (connection, nodes) = {
        let servers = cluster.servers();
        let connection = cluster.block_on(servers.operate()).expect("a connection");
        let at = |node| Endpoint::new("127.0.0.1", servers.ports().client(Server::Node(node)));
        (connection, [1, 2, 3].map(at))
    };
    let mut seen: BTreeMap<u64, BTreeMap<usize, String>> = BTreeMap::new();
    eventually("equal places in the log", || {
        for (number, endpoint) in nodes.iter().enumerate() {
            let node = connection.operator().at(endpoint.clone());
            let status = cluster.block_on(node.node_status()).ok()?;
            seen.entry(status.state_index).or_default().insert(number, status.state_hash);
        }
        for (index, hashes) in &seen {
            let mut hashes = hashes.values();
            let first = hashes.next();
            assert!(hashes.all(|hash| Some(hash) == first), "at {index}: {:?}", seen[index]);
        }
        let common = |one, other| {
            let both = |hashes: &&BTreeMap<usize, String>| {
                hashes.contains_key(&one) && hashes.contains_key(&other)
            };
            seen.values().filter(both).count() >= 2
        };
        (common(0, 1) && common(1, 2) && common(0, 2)).then_some(())
    });
}

/// What `trine cluster status` says a node runs.
fn version_of(cluster: &Cluster, node: u8) -> String {
    let status = cluster.caller().json(&["cluster", "status"]);
    let nodes = status["nodes"].as_array().expect("nodes").clone();
    let of = nodes.iter().find(|seen| seen["id"] == node);
    word(of.expect("the node"), "version")
}

/// A seat that was granted and has ended, by its number.
fn ended_seat(cluster: &Cluster, product: &str) -> String {
    let seat = cluster.caller().json(&["acquire", product, "--ttl", "10m"]);
    let (lease, token) = (word(&seat, "lease"), word(&seat, "token"));
    cluster.caller().json(&["release", &lease, "--token", &token]);
    token
}

/// Node after node gets the next build while applications work; then the level
/// is raised and what the build brings works; then nobody can go back.
#[test]
fn a_rolling_upgrade_is_noticed_by_nobody_and_only_then_can_the_level_rise() {
    let next = next_build();
    let this = PathBuf::from(env!("CARGO_BIN_EXE_trine"));
    let cluster = Cluster::alone_on("embedded");
    cluster.license("work", Load::SEATS + 1);
    let caller = cluster.caller();
    let level = next::level();
    let ended = ended_seat(&cluster, "work");
    let load = Load::start(&cluster, "work");
    load.go_on("work on this build");
    let plan = caller.json(&["cluster", "upgrade"]);
    assert_eq!((&plan["level"], &plan["raised"]), (&(level - 1).into(), &false.into()), "{plan}");

    for (upgraded, node) in rolling_order(&cluster).into_iter().enumerate() {
        replace_build(&cluster, node, next.clone());
        load.go_on("work on mixed builds");
        assert_eq!(version_of(&cluster, node), next::VERSION);
        same_hashes(&cluster);
        if upgraded == 2 {
            until_found(caller, &[], 7, &[("LEVEL_CAN_RISE", "cluster")]);
            break;
        }
        until_found(caller, &[], 7, &[("VERSIONS_DIFFER", "cluster")]);
        // Somebody still runs this build, and is named.
        let blocked = eventually("the newer build is heard", || {
            let output = caller.run(&["--json", "cluster", "upgrade", "--check"]);
            let plan: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
            (plan["to"] == level).then_some((output.status.code(), plan))
        });
        assert_eq!(blocked.0, Some(3), "{}", blocked.1);
        let refusal = caller.refused(3, &["cluster", "upgrade"]);
        assert_eq!(refusal.reason, "BUILD_TOO_OLD", "{refusal:?}");
        refusal.says(&["node-", env!("CARGO_PKG_VERSION"), "upgrade it first"]);
    }

    // Going back is still open.
    let first = rolling_order(&cluster)[0];
    replace_build(&cluster, first, this.clone());
    load.go_on("work with a node gone back");
    same_hashes(&cluster);
    replace_build(&cluster, first, next.clone());

    // The builds know the new rule and may not write it yet.
    let refusal = caller.refused(3, &["seats", "revoke", &ended]);
    assert_eq!(refusal.reason, "LEVEL_TOO_LOW", "{refusal:?}");
    refusal.says(&[&format!("level {level}"), "trine cluster upgrade"]);

    eventually("every node is heard with the next build", || {
        let output = caller.run(&["cluster", "upgrade", "--check"]);
        (output.status.code() == Some(0)).then_some(())
    });
    let raised = caller.json(&["cluster", "upgrade", "--to", &level.to_string()]);
    assert_eq!((&raised["level"], &raised["raised"]), (&level.into(), &true.into()), "{raised}");
    assert!(raised["changes"].to_string().contains("revoking a seat that has ended"), "{raised}");
    load.go_on("work on the new level");
    until_found(caller, &[], 0, &[]);
    let again = caller.json(&["cluster", "upgrade"]);
    assert_eq!((&again["level"], &again["raised"]), (&level.into(), &false.into()), "{again}");
    let status = caller.json(&["cluster", "status"]);
    assert_eq!(status["cluster"]["level"], level, "{status}");
    caller.json(&["seats", "revoke", &ended]);
    same_hashes(&cluster);

    // The way back is closed, and who takes it harms nobody.
    let back = rolling_order(&cluster)[0];
    let death = {
        let mut servers = cluster.servers();
        let node = Server::Node(back);
        cluster.block_on(async {
            servers.stop(node).await.expect("the node drains");
            servers.use_program(this);
            servers.start(node).expect("the node starts");
        });
        drop(servers);
        eventually("the older build stops", || {
            let mut servers = cluster.servers();
            cluster.block_on(async { servers.deaths().pop() })
        })
    };
    assert_eq!(death.status.code(), Some(6), "{}", death.last_words);
    for words in [&format!("feature level {level}"), "start the newer build"] {
        assert!(death.last_words.contains(words), "{words:?}: {}", death.last_words);
    }
    until_found(caller, &[], 8, &[("NODE_DOWN", &format!("node-{back}"))]);
    load.go_on("work while one node is away");
    {
        let mut servers = cluster.servers();
        let node = Server::Node(back);
        servers.use_program(next);
        cluster.block_on(async {
            servers.start(node).expect("the node starts");
            servers.until_healthy(&[node], "/readyz", PATIENCE).await.expect("it is ready");
        });
    }
    load.go_on("work with all three again");
    same_hashes(&cluster);
    load.finish(&cluster);
    for node in [1, 2, 3] {
        let log = cluster.servers().layout().log(Server::Node(node));
        let log = std::fs::read_to_string(log).expect("its log");
        assert!(!log.contains("panicked"), "node-{node}: {log}");
    }
}
