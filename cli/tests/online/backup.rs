//! A backup of a live cluster, the loss of all three nodes, and what comes back.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;
use trine_cli::devcluster::Server;
use trine_cli::devcluster::layout::Layout;

use super::caller::{Caller, PATIENCE, eventually, text};
use super::cluster::{Cluster, word};

/// Somebody who asks the nodes themselves: balancers lead to a leader, and a
/// cluster that is to be restored has none.
pub(crate) fn hosts(cluster: &Cluster) -> String {
    let servers = cluster.servers();
    let ports = Server::NODES.map(|node| servers.ports().client(node));
    ports.map(|port| format!("127.0.0.1:{port}")).join(",")
}

/// All three nodes lose everything; those of `containers` find their own again.
pub(crate) fn lose_everything(cluster: &Cluster, containers: &[u8]) {
    let mut servers = cluster.servers();
    let data = |node| servers.layout().home(node).join("data");
    let dirs: Vec<PathBuf> = Server::NODES.into_iter().map(data).collect();
    cluster.block_on(async {
        for node in Server::NODES {
            servers.kill(node).await.expect("a dead node");
        }
        for (dir, node) in dirs.into_iter().zip(1..) {
            let container = fs::read(dir.join("container")).expect("a container");
            fs::remove_dir_all(&dir).expect("a data directory");
            if containers.contains(&node) {
                fs::create_dir(&dir).expect("an empty one");
                fs::write(dir.join("container"), container).expect("the container");
            }
        }
        for node in Server::NODES {
            servers.start(node).expect("a node");
        }
        servers.until_healthy(&Server::NODES, "/livez", PATIENCE).await.expect("live nodes");
    });
}

/// The CA vouches for the containers that these nodes have made anew.
pub(crate) fn enroll(cluster: &Cluster, dir: &Path, nodes: &[u8]) {
    let layout = cluster.servers().layout().clone();
    enroll_nodes(cluster.caller(), &layout, dir, nodes);
}

/// The same of nodes that are no cluster yet.
pub(crate) fn enroll_nodes(user: &Caller, layout: &Layout, dir: &Path, nodes: &[u8]) {
    let pki = layout.pki();
    for node in nodes {
        let config = layout.config(Server::Node(*node));
        let request = dir.join(format!("{node}.enroll"));
        user.json(&["node", "enroll", "--config", text(&config), "-o", text(&request)]);
        user.json(&["pki", "enroll", "--dir", text(&pki), text(&request), "--force"]);
    }
}

fn quiet(caller: &Caller) -> Option<u64> {
    let output = caller.run(&["--json", "cluster", "status"]);
    let status: Value = serde_json::from_slice(&output.stdout).ok()?;
    Some(status["cluster"]["quiet_ms"].as_u64().unwrap_or(0))
}

/// One cluster lives through it all, because each step needs the one before.
#[test]
fn a_cluster_comes_back_from_its_backup() {
    let cluster = Cluster::alone();
    let user = cluster.caller().clone();
    let installed = cluster.license("cad", 3);
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let (key, backup) = (file("backup.key"), file("today.backup"));

    // The key and the backup.
    let made = user.json(&["cluster", "backup-key", "-o", text(&key)]);
    let recipient = word(&made, "recipient");
    assert!(recipient.starts_with("age1"), "{made}");
    let secret = fs::read_to_string(&key).expect("the key");
    assert!(secret.contains("AGE-SECRET-KEY-1") && !made.to_string().contains("SECRET"));
    user.json(&["token", "issue", "robot", "--days", "1"]);
    let held = user.json(&["acquire", "cad", "--ttl", "2m"]);
    let back_up = ["cluster", "backup", text(&backup), "--recipient", &recipient];
    let taken = user.json(&back_up);
    assert_eq!(taken["contents"], Value::Null, "sealed: {taken}");
    user.refused(2, &back_up).says(&["--force"]);
    user.json(&[&back_up[..], &["--force"]].concat());
    assert!(!file("today.backup.part").exists());
    assert!(fs::read(&backup).expect("the backup").starts_with(b"age-encryption.org/v1\n"));

    let inspected = user.json(&["vendor", "inspect", text(&backup)]);
    assert_eq!(inspected["contents"]["kind"], "backup");

    // It opens with its key, and with no other; what was altered is refused.
    let verify = |file: &Path, key: &Path| {
        let words = ["cluster", "backup", "--verify", text(file), "--identity", text(key)];
        words.map(str::to_owned)
    };
    let words = verify(&backup, &key);
    let verified = user.json(&words.each_ref().map(String::as_str));
    assert_eq!(verified["contents"]["licenses"], 1, "{verified}");
    assert_eq!(
        (&verified["contents"]["seats"], &verified["contents"]["tokens"]),
        (&1.into(), &1.into())
    );
    let other = file("other.key");
    user.json(&["cluster", "backup-key", "-o", text(&other)]);
    let refused = |file: &Path, key: &Path| {
        let words = verify(file, key);
        user.refused(3, &words.each_ref().map(String::as_str))
    };
    assert_eq!(refused(&backup, &other).reason, "WRONG_KEY");
    let bytes = fs::read(&backup).expect("the backup");
    let mut flipped = bytes.clone();
    let last = flipped.len() - 40;
    flipped[last] ^= 1;
    for (name, bytes) in [("flipped", flipped), ("cut", bytes[..bytes.len() - 9].to_vec())] {
        fs::write(file(name), bytes).expect("a damaged backup");
        let refusal = refused(&file(name), &key);
        assert_eq!(refusal.reason, "BACKUP_REFUSED");
        refusal.says(&["altered"]);
    }

    // A formed cluster keeps what it has.
    let nodes = hosts(&cluster);
    let restore = |quiet: &str| {
        let words = ["--host", &nodes, "cluster", "restore", text(&backup)];
        let words = [&words[..], &["--identity", text(&key), "--quiet", quiet]].concat();
        words.into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    let words = restore("6s");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let refusal = user.refused(3, &words);
    assert_eq!(refusal.reason, "RESTORE_REFUSED");
    refusal.says(&["formed", "empty"]);

    // A seat that the backup does not know; then all is lost but the containers.
    let lost = user.json(&["acquire", "cad", "--ttl", "2s"]);
    lose_everything(&cluster, &[1, 2, 3]);
    let begun = user.json(&words);
    assert_eq!(begun["licenses"], Value::from(vec![installed.license.clone()]), "{begun}");
    assert_eq!(begun["to_reissue"], Value::Array(Vec::new()));
    assert_eq!(begun["tokens"][0]["name"], "robot");
    assert_eq!(begun["cluster"], verified["cluster"]);
    let epoch = begun["epoch"].as_u64().expect("an epoch");

    // The holder goes on; nobody else gets a seat before the lost one has ended.
    let (lease, token) = (word(&held, "lease"), word(&held, "token"));
    eventually("the shares are proved", || {
        let renew = ["renew", &lease, "--token", &token];
        user.run(&renew).status.success().then_some(())
    });
    let refusal = user.refused(3, &["acquire", "cad"]);
    assert_eq!(refusal.reason, "RESTORED");
    refusal.says(&["restored from a backup", "renewed"]);
    let renew_lost = ["renew", &word(&lost, "lease"), "--token", &word(&lost, "token")];
    assert_eq!(user.refused(3, &renew_lost).reason, "NO_SUCH_LEASE");
    assert!(quiet(&user).is_some_and(|ms| ms > 0), "the quiet was over too soon to be seen");
    assert!(user.page(&["cluster", "status"]).contains("nothing is granted"));
    let waited = user.json(&["acquire", "cad", "--wait", "30s"]);
    assert!(waited["token"].as_u64() > Some(epoch << 20), "{waited} in epoch {epoch}");
    assert_eq!(quiet(&user), Some(0));

    // Nothing at all is left: the same cluster, whose license waits for the vendor.
    lose_everything(&cluster, &[]);
    let refusal = user.refused(3, &words);
    refusal.says(&["enroll"]);
    enroll(&cluster, dir.path(), &[1, 2, 3]);
    let words = restore("0s");
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let again = user.json(&words);
    assert!(again["epoch"].as_u64() > Some(epoch), "{again} after {begun}");
    assert_eq!(again["to_reissue"], Value::from(vec![installed.license]), "{again}");
    let refusal = user.refused(3, &["acquire", "cad"]);
    assert_eq!(refusal.reason, "SHARES_MISSING");
    cluster.license("cad", 2);
    let granted = user.json(&["acquire", "cad"]);
    assert!(granted["token"].as_u64() > waited["token"].as_u64(), "{granted}");
}

#[test]
fn a_backup_may_be_sealed_with_a_passphrase() {
    let cluster = super::cluster::shared();
    let dir = tempfile::tempdir().expect("a directory");
    let backup = dir.path().join("a.backup");
    let user = cluster.caller();
    user.refused(2, &["cluster", "backup", text(&backup)]).says(&["--recipient", "--passphrase"]);
    let knows = user.with("TRINE_BACKUP_PASSPHRASE", "correct horse");
    let page = knows.page(&["cluster", "backup", text(&backup)]);
    // No key opens it, so none is asked for.
    assert!(page.contains("--passphrase") && !page.contains("--identity"), "{page}");
    knows.json(&["cluster", "backup", "--verify", text(&backup)]);
    let guesses = user.with("TRINE_BACKUP_PASSPHRASE", "wrong horse");
    let refusal = guesses.refused(3, &["cluster", "backup", "--verify", text(&backup)]);
    assert_eq!(refusal.reason, "WRONG_KEY");
}
