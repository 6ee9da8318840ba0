//! Whom a cluster trusts, changed while it serves.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use serde_json::Value;
use trine_cli::context::{Credential, Pair, Purpose};
use trine_cli::devcluster::Server;
use trine_cli::online::Connection;

use super::caller::{Caller, eventually, text};
use super::cluster::{Cluster, word};
use super::newcomer::Newcomer;

/// What is trusted, of one kind.
fn trusted(operator: &Caller, kind: &str) -> Vec<Value> {
    let listed = operator.json(&["trust", "list"]);
    let anchors = listed["anchors"].as_array().cloned().unwrap_or_default();
    anchors.into_iter().filter(|anchor| anchor["kind"] == kind).collect()
}

/// A vendor that nobody had heard of when the cluster was formed sells to it,
/// and then changes its root.
#[test]
fn a_second_vendor_is_trusted_and_its_root_rotated() {
    let cluster = Cluster::alone();
    let operator = cluster.caller();
    let dir = tempfile::tempdir().expect("a directory");
    let vendor = Caller::new(dir.path()).with("TRINE_VENDOR_PASSPHRASE", "another vendor");
    let request = dir.path().join("request");
    let asked = operator.json(&["license", "request", "-o", text(&request)]);
    let ca = word(&asked, "ca_fingerprint");
    for keys in ["old", "new"] {
        vendor.json(&["vendor", "init", "--dir", keys, "--name", "Beta", "--firm", "6000011"]);
    }
    let issue = |keys: &str, serial: &str| {
        let package = format!("{keys}.license");
        let book = ["--product", "cam", "--seats", "3", "--product-code", "9", "--serial", serial];
        let issue = ["vendor", "issue", "--dir", keys, "--request", "request"];
        let rest = ["--ca-fingerprint", &ca, "-o", &package];
        vendor.json(&[&issue[..], &book, &rest].concat());
        dir.path().join(package)
    };
    let root = |keys: &str| dir.path().join(keys).join("vendor.root");

    let first = issue("old", "1");
    let refusal = operator.refused(3, &["license", "install", text(&first)]);
    assert_eq!(refusal.reason, "PACKAGE_REFUSED");
    let added = operator.json(&["trust", "add", text(&root("old"))]);
    let inspected = vendor.json(&["vendor", "inspect", "old/vendor.root"]);
    assert_eq!(added["fingerprint"], inspected["contents"]["fingerprint"]);
    let license = word(&operator.json(&["license", "install", text(&first)]), "license");
    operator.json(&["acquire", "cam"]);
    let certificate = cluster.servers().layout().pki().join("ca.pem");
    operator.refused(2, &["trust", "add", text(&certificate)]).says(&["trine trust rotate"]);

    // The books go along, so that the customer's terms are kept.
    let book = |keys: &str| dir.path().join(keys).join("issued.jsonl");
    fs::copy(book("old"), book("new")).expect("copied");
    let rotate = ["trust", "rotate", text(&root("new"))].map(str::to_owned);
    let rotate: Vec<&str> = rotate.iter().map(String::as_str).collect();
    let waiting = operator.json(&rotate);
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    assert_eq!(waiting["old"][0]["licenses"][0], license);
    let too_soon = operator.refused(3, &[&rotate[..], &["--finish"]].concat());
    too_soon.says(&[&license, "ask the vendor"]);
    let old = word(&waiting["old"][0], "fingerprint");
    operator.refused(3, &["trust", "remove", &old]).says(&[&license]);

    operator.json(&["license", "install", text(&issue("new", "2"))]);
    eventually("the old root is needed no more", || {
        (operator.json(&rotate)["state"] == "ready").then_some(())
    });
    assert_eq!(operator.json(&[&rotate[..], &["--finish"]].concat())["state"], "done");
    assert_eq!(operator.json(&[&rotate[..], &["--finish"]].concat())["state"], "done", "a retry");
    assert!(trusted(operator, "vendor").iter().all(|vendor| vendor["fingerprint"] != old));
    operator.json(&["acquire", "cam"]);
    operator.refused(3, &["trust", "remove", &old]).says(&["trine trust list"]);
}

/// Which of two roots is the old one only the operator knows, when the vendor's
/// name changed with it.
#[test]
fn a_vendors_old_root_of_another_name_is_named() {
    let cluster = Cluster::alone();
    let operator = cluster.caller();
    let dir = tempfile::tempdir().expect("a directory");
    let vendor = Caller::new(dir.path()).with("TRINE_VENDOR_PASSPHRASE", "another vendor");
    for name in ["Beta", "Gamma"] {
        vendor.json(&["vendor", "init", "--dir", name, "--name", name, "--firm", "6000011"]);
    }
    let root = |name: &str| dir.path().join(name).join("vendor.root");
    let old = word(&operator.json(&["trust", "add", text(&root("Beta"))]), "fingerprint");
    let gamma = root("Gamma");
    let rotate = ["trust", "rotate", text(&gamma)];
    // Nothing of that name is there to go.
    assert_eq!(operator.json(&rotate)["state"], "done");
    assert_eq!(trusted(operator, "vendor").len(), 3);
    let named = [&rotate[..], &["--old", &old]].concat();
    let ready = operator.json(&named);
    assert_eq!(ready["state"], "ready", "{ready}");
    assert_eq!(ready["old"][0]["fingerprint"], old);
    assert_eq!(operator.json(&[&named[..], &["--finish"]].concat())["state"], "done");
    let left = trusted(operator, "vendor");
    assert_eq!(left.len(), 2);
    assert!(left.iter().all(|vendor| vendor["fingerprint"] != old), "{left:?}");
}

/// Renews a seat again and again until told to stop; or the first error that an
/// application would have seen.
async fn hold(
    connection: Connection,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let seat = connection.client.acquire("hold").ttl(Duration::from_secs(60)).send().await;
        let seat = seat.map_err(|error| format!("acquire: {error}"))?;
        let ticket = seat.detach();
        for _ in 0..10 {
            let renewed = connection.client.renew(ticket).await;
            renewed.map_err(|error| format!("renew: {error}"))?;
            done.fetch_add(1, Ordering::Relaxed);
        }
        let released = connection.client.release(ticket).await;
        released.map_err(|error| format!("release: {error}"))?;
    }
    Ok(())
}

/// The new CA beside the old, the nodes under it one after the other, the old
/// one gone: an application that holds both renews throughout.
#[test]
fn the_cluster_ca_is_rotated_while_a_client_renews() {
    let cluster = Cluster::alone();
    cluster.license("hold", 2);
    let operator = cluster.caller();
    let pki = cluster.servers().layout().pki();
    let new = pki.join("new");
    operator.json(&["pki", "init", "--dir", text(&new), "--name", "the new CA"]);
    for whom in [["application", "line-7"], ["operator", "ana"]] {
        operator.json(&["pki", "issue", whom[0], whom[1], "--dir", text(&new)]);
    }
    let [old_ca, new_ca, both] = [pki.join("ca.pem"), new.join("ca.pem"), pki.join("both.pem")];
    let bundle = [&old_ca, &new_ca].map(|ca| fs::read_to_string(ca).expect("a CA")).concat();
    fs::write(&both, &bundle).expect("both CAs");
    let dropped = pki.join("dropped.pem");
    fs::copy(&old_ca, &dropped).expect("the old CA's certificate");

    let start = |credential: Option<Credential>| {
        let mut target = cluster.servers().target(Purpose::Application);
        target.ca.clone_from(&both);
        target.credential = credential.unwrap_or(target.credential);
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let connection = cluster.block_on(Connection::to(target)).expect("a connection");
        (cluster.spawn(hold(connection, stop.clone(), done.clone())), stop, done)
    };
    let more =
        |what: &str, (holding, _, done): &(tokio::task::JoinHandle<_>, _, Arc<AtomicU32>)| {
            let enough = done.load(Ordering::Relaxed) + 10;
            eventually(what, || {
                (holding.is_finished() || done.load(Ordering::Relaxed) >= enough).then_some(())
            });
        };
    let before = start(None);
    more("renewals before", &before);

    let rotate = ["trust", "rotate", text(&new_ca)];
    let waiting = operator.json(&rotate);
    assert_eq!(waiting["state"], "waiting", "{waiting}");
    assert_eq!(waiting["old"][0]["nodes"], serde_json::json!([1, 2, 3]));
    operator.refused(3, &[&rotate[..], &["--finish"]].concat()).says(&["node-1", "new CA"]);
    // Going back while nobody has moved, and on again.
    operator.json(&["trust", "remove", &word(&waiting["new"], "fingerprint")]);
    assert_eq!(trusted(operator, "ca").len(), 1);
    operator.json(&rotate);

    fs::write(&old_ca, &bundle).expect("the nodes' CA file has both");
    for node in 1..=3_u64 {
        operator.json(&["pki", "issue", "node", &node.to_string(), "--dir", text(&new)]);
        for ending in ["key", "pem"] {
            let file = format!("node-{node}.{ending}");
            fs::rename(new.join(&file), pki.join(&file)).expect("put in place");
        }
        eventually("the node is under the new CA", || {
            let nodes = trusted(operator, "ca").into_iter();
            let mut under = nodes.filter(|ca| ca["name"] == "the new CA");
            let nodes = under.next()?["nodes"].as_array()?.clone();
            nodes.contains(&node.into()).then_some(())
        });
        more("renewals while nodes move", &before);
    }
    assert_eq!(operator.json(&rotate)["state"], "ready");

    let pair = |stem: &str| Pair {
        cert: new.join(format!("{stem}.pem")),
        key: new.join(format!("{stem}.key")),
    };
    let after = start(Some(Credential::Certificate(pair("application-line-7"))));
    more("renewals under the new CA", &after);
    let (holding, stop, _) = before;
    stop.store(true, Ordering::Relaxed);
    cluster.block_on(holding).expect("the task ends").expect("no request failed");

    assert_eq!(operator.json(&[&rotate[..], &["--finish"]].concat())["state"], "done");
    more("renewals after", &after);
    let (holding, stop, _) = after;
    stop.store(true, Ordering::Relaxed);
    cluster.block_on(holding).expect("the task ends").expect("no request failed");

    // The old CA's people are shut out, the new one's are let in.
    eventually("the old operator is shut out", || {
        (operator.run(&["trust", "list"]).status.code() != Some(0)).then_some(())
    });
    let ana = pair("operator-ana");
    let ana = operator
        .with("TRINE_CA", text(&new_ca))
        .with("TRINE_CERT", text(&ana.cert))
        .with("TRINE_KEY", text(&ana.key));
    assert_eq!(trusted(&ana, "ca").len(), 1);

    // The old one does not come back by a slip, and goes again when it was meant.
    let back = ["trust", "rotate", text(&dropped)];
    ana.refused(2, &back).says(&["dropped", "--yes"]);
    assert_eq!(trusted(&ana, "ca").len(), 1);
    let taken = ana.json(&[&back[..], &["--yes"]].concat());
    ana.json(&["trust", "remove", &word(&taken["new"], "fingerprint")]);
    assert_eq!(trusted(&ana, "ca").len(), 1);

    // And a dead node is replaced under it, though the newcomer first reads a
    // history in which the old one alone was trusted.
    ana.json(&["pki", "issue", "operator", "developer", "--dir", text(&new)]);
    for file in ["ca.pem", "ca.key", "operator-developer.pem", "operator-developer.key"] {
        fs::rename(new.join(file), pki.join(file)).expect("put in place");
    }
    cluster.stop(Server::Node(3));
    let newcomer = Newcomer::start(&cluster, 4, 3);
    let replaced = operator.json(&["cluster", "replace", "3", "4", "--at", &newcomer.peer]);
    assert_eq!(replaced["stage"], "done", "{replaced}");
}
