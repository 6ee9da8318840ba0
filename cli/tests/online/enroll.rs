//! Enrollment: which containers a cluster is formed of, and licensed for.

use std::fs;
use std::path::PathBuf;

use super::caller::{Caller, PATIENCE};
use super::cluster::{Cluster, prepared, word};
use trine_cli::devcluster::Server;

/// Node 2 shows a container that another CA vouches for, then one that nobody
/// does; no cluster is formed of it. Enrolled while it runs, it is taken.
#[test]
fn a_cluster_is_formed_of_enrolled_containers_only() {
    let dir = tempfile::tempdir().expect("a directory");
    let mut servers = prepared(dir.path());
    let layout = servers.layout().clone();
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let target = servers.target(trine_cli::context::Purpose::Operator);
    let node = |number: usize| target.nodes[number - 1].to_string();
    let operator = Caller::new(dir.path())
        .with("TRINE_CONTEXT", servers.save_context().expect("a context"))
        .with("TRINE_HOST", node(1));

    let text = |path: PathBuf| path.to_str().expect("a path in UTF-8").to_owned();
    let ours = text(layout.pki());
    for number in [1, 3] {
        let config = text(layout.config(Server::Node(number)));
        let file = format!("node-{number}.enroll");
        let asked = operator.json(&["node", "enroll", "--config", &config]);
        assert_eq!(word(&asked, "request"), file);
        operator.json(&["pki", "enroll", "--dir", &ours, &file]);
    }
    let config = &text(layout.config(Server::Node(2)));
    let asked = operator.json(&["node", "enroll", "--config", config, "-o", "two.enroll"]);
    assert!(word(&asked, "container").starts_with("130-"), "{asked}");
    let inspected = operator.json(&["vendor", "inspect", "two.enroll"]);
    assert_eq!(inspected["contents"]["kind"], "enrollment");
    assert_eq!(inspected["contents"]["container"]["fingerprint"], asked["fingerprint"]);
    operator.refused(2, &["node", "enroll", "--config", config, "-o", "two.enroll"]);

    // A CA of somebody's own vouches for node 2's very container.
    operator.json(&["pki", "init", "--dir", "theirs"]);
    operator.json(&["pki", "enroll", "--dir", "theirs", "two.enroll"]);
    let chain = layout.pki().join("node-2.container.pem");
    fs::copy(dir.path().join("theirs/node-2.container.pem"), &chain).expect("copied");
    runtime.block_on(async {
        servers.start_all().expect("five servers");
        servers.until_healthy(&Server::NODES, "/livez", PATIENCE).await.expect("three nodes");
    });
    let refusal = operator.refused(3, &["cluster", "init"]);
    assert_eq!(refusal.reason, "NOT_ENROLLED");
    refusal.says(&["node-2", "another CA", "trine pki enroll"]);
    fs::remove_file(&chain).expect("it was there");
    operator.refused(3, &["cluster", "init"]).says(&["node-2", "no certificate"]);

    // The node runs: what it asks for is the same.
    let again = operator.json(&["node", "enroll", "--config", config, "-o", "again.enroll"]);
    assert_eq!(again["fingerprint"], asked["fingerprint"]);
    let certified = operator.json(&["pki", "enroll", "--dir", &ours, "again.enroll"]);
    assert_eq!(certified["containers"][0]["fingerprint"], asked["fingerprint"]);
    operator.json(&["cluster", "init"]);
    runtime.block_on(servers.stop_all()).expect("a drain");
}

/// A request is made only while all three chains hold.
#[test]
fn a_license_is_requested_for_enrolled_containers_only() {
    let cluster = Cluster::alone();
    let layout = cluster.servers().layout().clone();
    let chain = layout.pki().join("node-3.container.pem");
    let kept = fs::read(&chain).expect("node 3 is enrolled");
    fs::remove_file(&chain).expect("it was there");
    let refusal = cluster.caller().refused(3, &["license", "request", "-o", "a.request"]);
    assert_eq!(refusal.reason, "NOT_ENROLLED");
    refusal.says(&["node-3", "trine node enroll"]);
    fs::write(&chain, kept).expect("written");
    cluster.caller().json(&["license", "request", "-o", "a.request"]);
}
