//! Nodes that may not run as they are: data lost, data copied, the host changed.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sys::signal::Signal;
use serde_json::json;
use trine_cli::devcluster::{Death, Server, health};

use super::backup::{hosts, lose_everything};
use super::caller::{PATIENCE, eventually, eventually_or};
use super::cluster::{Cluster, word};
use super::outage::copy;

/// A cluster with one of its followers, and that one's files.
struct Stage {
    cluster: Cluster,
    node: Server,
    home: PathBuf,
}

impl Stage {
    fn new() -> Self {
        let cluster = Cluster::alone();
        cluster.license("line", 5);
        let node = Server::Node(cluster.leader() % 3 + 1);
        let home = cluster.servers().layout().home(node);
        Self { cluster, node, home }
    }

    fn data(&self) -> PathBuf {
        self.home.join("data")
    }

    fn stop(&self) {
        let mut servers = self.cluster.servers();
        self.cluster.block_on(servers.stop(self.node)).expect("the node stops");
    }

    fn start(&self) {
        let mut servers = self.cluster.servers();
        self.cluster.block_on(async { servers.start(self.node) }).expect("the node starts");
    }

    fn until_ready(&self) {
        let (mut servers, node) = (self.cluster.servers(), [self.node]);
        let ready = servers.until_healthy(&node, "/readyz", PATIENCE);
        self.cluster.block_on(ready).expect("it is ready");
    }

    /// The node stops by itself with the exit code of those that may not run.
    fn until_it_must_not_run(&self, words: &[&str]) {
        let log = self.cluster.servers().layout().log(self.node);
        let goes_on = || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            format!("the node stops; it says {said}")
        };
        let Death { server, status, last_words, .. } = eventually_or(goes_on, || {
            let mut servers = self.cluster.servers();
            self.cluster.block_on(async { servers.deaths().pop() })
        });
        assert_eq!((server, status.code()), (self.node, Some(6)), "{last_words}");
        for word in words {
            assert!(last_words.contains(word), "{word:?} is not in {last_words}");
        }
    }

    /// Waits until the node keeps what was logged by now, and the others know it.
    fn until_caught_up(&self) {
        let Server::Node(node) = self.node else { panic!("the stage is a node's") };
        let held = |of: u8| {
            let status = self.cluster.caller().json(&["cluster", "status"]);
            let nodes = status["nodes"].as_array().expect("nodes").clone();
            let it = nodes.into_iter().find(|it| it["id"] == u64::from(of));
            it.and_then(|it| it["log_index"].as_u64())
        };
        let logged = held(self.cluster.leader()).expect("the leader says");
        eventually("it caught up", || held(node).filter(|held| *held >= logged));
    }

    /// The cluster grants a seat, whichever node is away.
    fn serves(&self) {
        self.cluster.caller().json(&["acquire", "line", "--ttl", "1s"]);
    }

    fn configure(&self, from: &str, to: &str) {
        let path = self.home.join("node.toml");
        let text = fs::read_to_string(&path).expect("the configuration");
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(&path, text.replace(from, to)).expect("the configuration");
    }
}

fn replace(data: &Path, by: &Path) {
    fs::remove_dir_all(data).expect("removed");
    copy(by, data);
}

/// A node is put back from a copy of last week, then emptied: both times it
/// stops and says what to do, and the two others serve. With its own data it
/// is welcome again.
#[test]
fn a_node_that_lost_data_stops_and_says_what_to_do() {
    let stage = Stage::new();
    let (old, own) = (stage.home.join("old"), stage.home.join("own"));
    stage.stop();
    copy(&stage.data(), &old);
    stage.start();
    stage.until_ready();
    (0..3).for_each(|_| stage.serves());
    stage.until_caught_up();
    stage.stop();
    copy(&stage.data(), &own);

    replace(&stage.data(), &old);
    stage.start();
    let name = stage.node.to_string();
    let lost = ["has lost data", "remembers that it acknowledged", "trine cluster replace", &name];
    stage.until_it_must_not_run(&lost);
    stage.serves();

    fs::remove_dir_all(stage.data()).expect("removed");
    stage.start();
    stage.until_it_must_not_run(&["has lost data", "keeps nothing"]);
    stage.serves();

    replace(&stage.data(), &own);
    stage.start();
    stage.until_ready();
}

/// After a restore a node is started with its data from before, whose term is
/// higher. It stops and says why, and the two others neither stop nor follow it;
/// with the data that it was restored with it belongs to them.
#[test]
fn a_node_with_data_from_before_a_restore_stops_and_stops_nobody() {
    let stage = Stage::new();
    let (cluster, user) = (&stage.cluster, stage.cluster.caller());
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (secret, backup) = (file("secret.txt"), file("today.backup"));
    fs::write(&secret, "correct horse").expect("a passphrase");
    user.json(&["cluster", "backup", &backup, "--passphrase-file", &secret]);
    // A cluster begins in a low term, and a restored one does so again.
    let high = term(&stage) + 11;
    for _ in 0..100 {
        if term(&stage) >= high {
            break;
        }
        // Somebody else may be elected meanwhile; all that counts is the term.
        user.run(&["cluster", "transfer-leader"]);
    }
    let before = term(&stage);
    assert!(before >= high, "a hundred transfers and still in term {before}");
    let (old, own) = (dir.path().join("old"), dir.path().join("own"));
    stage.stop();
    copy(&stage.data(), &old);

    lose_everything(cluster, &[1, 2, 3]);
    let nodes = hosts(cluster);
    let restore = ["--host", &nodes, "cluster", "restore", &backup, "--quiet", "0s"];
    let restored = user.json(&[&restore[..], &["--passphrase-file", &secret]].concat());
    eventually("the restored cluster serves", || {
        user.run(&["acquire", "line", "--ttl", "1s"]).status.success().then_some(())
    });
    stage.until_caught_up();
    stage.stop();
    copy(&stage.data(), &own);

    replace(&stage.data(), &old);
    stage.start();
    let epoch = format!("of epoch {}", restored["epoch"]);
    let said = ["is from before the cluster was restored", "of epoch 0", &epoch, "wipe this one"];
    stage.until_it_must_not_run(&said);
    stage.serves();
    let now = term(&stage);
    assert!(now < before, "they followed it into its term: {before} before, {now} now");

    // It took part in the restored cluster before, so wiping is not enough.
    wipe(&stage.data());
    stage.start();
    stage.until_it_must_not_run(&["has lost data", "keeps nothing", "trine cluster replace"]);
    stage.serves();

    replace(&stage.data(), &own);
    stage.start();
    stage.until_ready();
    stage.serves();
    let deaths = stage.cluster.block_on(async { stage.cluster.servers().deaths().pop() });
    assert!(deaths.is_none(), "another stopped too: {deaths:?}");
}

/// Two of three nodes are started with what they had before a restore: the old
/// cluster's majority, which knows nothing of the seat that is held since. It
/// gives out nothing, takes back what its holders return, and an operator reads
/// who the two are and what to do. That done, the restored cluster serves.
#[test]
fn two_nodes_with_data_from_before_a_restore_give_out_nothing_and_are_named() {
    let cluster = Cluster::alone();
    let user = cluster.caller().clone();
    cluster.license("line", 1);
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name).display().to_string();
    let (secret, backup) = (file("secret.txt"), file("today.backup"));
    fs::write(&secret, "correct horse").expect("a passphrase");
    user.json(&["cluster", "backup", &backup, "--passphrase-file", &secret]);
    let lost = user.json(&["acquire", "line", "--ttl", "1h"]);
    let data = |node: u8| cluster.servers().layout().home(Server::Node(node)).join("data");
    let kept = |node: u8, what: &str| dir.path().join(format!("{what}-{node}"));
    let set_aside = |node: u8, what: &str| {
        cluster.stop(Server::Node(node));
        copy(&data(node), &kept(node, what));
    };
    (1..=3).for_each(|node| set_aside(node, "old"));

    lose_everything(&cluster, &[1, 2, 3]);
    let nodes = hosts(&cluster);
    let restore = ["--host", &nodes, "cluster", "restore", &backup, "--quiet", "0s"];
    let restored = user.json(&[&restore[..], &["--passphrase-file", &secret]].concat());
    let held = eventually("the restored cluster serves", || {
        let output = user.run(&["--json", "acquire", "line", "--ttl", "1h"]);
        serde_json::from_slice::<serde_json::Value>(&output.stdout).ok()
    });

    let beside = cluster.leader();
    let strays: Vec<u8> = (1..=3).filter(|node| *node != beside).collect();
    let start_with = |what: &str| {
        for node in &strays {
            replace(&data(*node), &kept(*node, what));
        }
        let mut servers = cluster.servers();
        cluster.block_on(async {
            for node in &strays {
                servers.start(Server::Node(*node)).expect("a node");
            }
        });
    };
    // While no restored node is up they are the old cluster, and somebody waits.
    strays.iter().for_each(|node| set_aside(*node, "own"));
    cluster.stop(Server::Node(beside));
    start_with("old");
    let mut waiting = user.start(&["acquire", "line", "--ttl", "1h", "--wait", "5m"]);
    waiting.until_said("Waiting: place 1 of 1");
    cluster.block_on(async { cluster.servers().start(Server::Node(beside)) }).expect("a node");
    eventually("a leader from before says why it grants nothing", || {
        let output = user.run(&["--json", "acquire", "line"]);
        assert!(!output.status.success(), "the seat was given out twice");
        String::from_utf8_lossy(&output.stderr).contains("EPOCHS_DIFFER").then_some(())
    });
    let refusal = user.refused(4, &["acquire", "line"]);
    let epoch = restored["epoch"].to_string();
    refusal.says(&[&format!("node-{beside} was restored"), &epoch, "trine cluster doctor"]);
    let of = |seat: &serde_json::Value| [word(seat, "lease"), word(seat, "token")];
    let [lease, token] = of(&lost);
    user.json(&["release", &lease, "--token", &token]);
    assert_eq!(user.refused(4, &["renew", &lease, "--token", &token]).reason, "EPOCHS_DIFFER");

    let status = eventually("the status names them", || {
        let status = user.json(&["cluster", "status"]);
        (status["before_restore"] == json!(strays)).then_some(status)
    });
    assert_eq!(status["quorum"], true, "{status}");
    let names = format!("node-{} and node-{} are from before the restore", strays[0], strays[1]);
    let page = user.page(&["cluster", "status"]);
    assert!(page.contains(&names) && page.contains("restored on purpose?"), "{page}");
    assert!(
        page.contains("Nothing is granted or renewed now") && page.contains("withheld"),
        "{page}"
    );
    // Longer than a silent caller's place is kept.
    let time = |status: &serde_json::Value| status["cluster"]["cluster_time_ms"].as_u64();
    let begun = time(&status).expect("a time");
    let status = eventually("sixteen seconds pass", || {
        let status = user.json(&["cluster", "status"]);
        (time(&status)? > begun + 16_000).then_some(status)
    });
    let cluster_says = (&status["cluster"]["withheld"], &status["licenses"][0]["waiting"]);
    assert_eq!(cluster_says, (&json!(true), &json!(1)), "{status}");
    let output = user.run(&["--json", "cluster", "doctor"]);
    assert_eq!(output.status.code(), Some(8));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a report");
    let findings = report["findings"].as_array().expect("findings");
    let about = |code: &str| -> Vec<&str> {
        let of = findings.iter().filter(|finding| finding["code"] == code);
        of.filter_map(|finding| finding["about"].as_str()).collect()
    };
    let named: Vec<String> = strays.iter().map(|node| format!("node-{node}")).collect();
    assert_eq!(about("BEFORE_RESTORE"), named, "{report}");
    assert!(about("NODE_SILENT").is_empty(), "that is not what is wrong: {report}");
    // It has waited all the while.
    waiting.signal(Signal::SIGINT);
    let waited = waiting.finish();
    assert_eq!(waited.code, 130, "the seat that came free was given out: {}", waited.said);

    strays.iter().for_each(|node| cluster.stop(Server::Node(*node)));
    start_with("own");
    eventually("the restored cluster says that its seat is held", || {
        let output = user.run(&["--json", "acquire", "line"]);
        assert!(!output.status.success(), "the seat was given out twice");
        (output.status.code() == Some(3)).then_some(())
    });
    user.give_back(&held);
}

/// The term of the cluster's leader.
fn term(stage: &Stage) -> u64 {
    eventually("a leader says its term", || {
        let output = stage.cluster.caller().run(&["--json", "cluster", "status"]);
        let status: serde_json::Value = serde_json::from_slice(&output.stdout).ok()?;
        status["cluster"]["term"].as_u64()
    })
}

/// Nothing is left of the data but the container and what vouches for it.
pub(crate) fn wipe(data: &Path) {
    for entry in fs::read_dir(data).expect("a data directory") {
        let path = entry.expect("an entry").path();
        let is_kept =
            path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("container"));
        if path.is_dir() {
            fs::remove_dir_all(path).expect("removed");
        } else if !is_kept {
            fs::remove_file(path).expect("removed");
        }
    }
}

/// A copy of a running node's data, started at another address: it finds that
/// the others know the original, stops, and nothing else happens.
#[test]
fn a_second_start_of_a_node_elsewhere_stops() {
    let stage = Stage::new();
    let (ports, clone) = (*stage.cluster.servers().ports(), stage.home.join("../clone"));
    stage.stop();
    copy(&stage.home, &clone);
    stage.start();
    stage.until_ready();
    let Server::Node(number) = stage.node else { unreachable!("a node") };
    let own = ports.nodes[usize::from(number) - 1];
    let mut text = fs::read_to_string(clone.join("node.toml")).expect("the configuration");
    for port in [own.client, own.peer, own.health] {
        text = text.replace(&format!("127.0.0.1:{port}"), &format!("127.0.0.9:{port}"));
    }
    fs::write(clone.join("node.toml"), text).expect("the configuration");
    let config = clone.join("node.toml").display().to_string();
    let refusal = stage.cluster.caller().refused(6, &["node", "--config", &config]);
    assert_eq!(refusal.reason, "RUNS_ELSEWHERE");
    let address = format!("127.0.0.1:{}", own.peer);
    refusal.says(&["another process runs as", &address, "destroy it"]);
    stage.until_ready();
    stage.serves();
}

/// One node alone says that it waits, and why it cannot serve; with a second
/// one it takes part.
#[test]
fn a_node_without_a_peer_waits_and_says_so() {
    let stage = Stage::new();
    let mut servers = stage.cluster.servers();
    let health = servers.ports().health(stage.node);
    stage.cluster.block_on(async {
        for node in Server::NODES {
            servers.kill(node).await.expect("killed");
        }
        servers.start(stage.node).expect("started");
        servers.until_healthy(&[stage.node], "/livez", PATIENCE).await.expect("it lives");
        let answer = health::get(health, "/readyz").await.expect("an answer");
        assert_eq!(answer.status, 503);
        assert!(answer.body.contains("waits for a peer to say what it remembers"));
        for node in Server::NODES.into_iter().filter(|node| *node != stage.node).take(1) {
            servers.start(node).expect("started");
        }
        servers.until_healthy(&[stage.node], "/readyz", PATIENCE).await.expect("it is ready");
    });
}

/// A node's key file is exchanged: too little of its host is left, it stops and
/// names what is gone. With the file back it starts.
#[test]
fn a_node_on_another_host_stops_and_names_what_is_gone() {
    let stage = Stage::new();
    let key = stage.home.join("container.key");
    let caller = stage.cluster.caller();
    let config = stage.home.join("node.toml").display().to_string();
    let traits = || caller.json(&["node", "traits", "--config", &config]);
    assert_eq!(traits()["container"]["opens"], true);

    stage.stop();
    write_secret(&key, [7; 32]);
    stage.configure("[container]", "[container]\nkey_file = \"container.key\"");
    assert_eq!(traits()["container"]["new"], json!(["key file"]));
    stage.start();
    stage.until_ready();
    assert_eq!(traits()["container"]["new"], json!([]), "it is sealed to the key file too");

    stage.stop();
    write_secret(&key, [8; 32]);
    stage.start();
    stage.until_it_must_not_run(&[
        "the host has changed too much",
        "gone: key file",
        "new: key file",
    ]);
    let shown = traits();
    assert_eq!(shown["container"]["opens"], false);
    assert_eq!(shown["container"]["gone"], json!(["key file"]));
    caller.page(&["node", "traits", "--config", &config]);
    stage.serves();

    write_secret(&key, [7; 32]);
    stage.start();
    stage.until_ready();
}

fn write_secret(path: &Path, bytes: [u8; 32]) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, bytes).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).expect("a mode");
}
