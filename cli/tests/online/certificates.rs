//! Certificates that change under a running cluster: renewed while clients
//! work, revoked while connections stand.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use trine_client::{Client, Options, Reason};

use super::caller::{Caller, PATIENCE, eventually};
use super::cluster::{Cluster, word};
use super::findings::examined;

fn pki(cluster: &Cluster) -> PathBuf {
    cluster.servers().layout().pki()
}

/// Somebody with this certificate of the development CA.
fn with_certificate(cluster: &Cluster, dir: &Path, stem: &str) -> Caller {
    let caller = cluster.caller().with("TRINE_CERT", dir.join(format!("{stem}.pem")));
    caller.with("TRINE_KEY", dir.join(format!("{stem}.key")))
}

/// A client of the library that shows this certificate to all three nodes.
fn options(cluster: &Cluster, dir: &Path, stem: &str) -> Options {
    let context = cluster.caller().dir().join("context.toml");
    let context = trine_cli::context::load(&context).expect("the context");
    let file = |name: String| dir.join(name).to_string_lossy().into_owned();
    Options::from_vars(|name| match name {
        "TRINE_HOST" => Some(context.nodes.join(",")),
        "TRINE_CA" => Some(file("ca.pem".to_owned())),
        "TRINE_CERT" => Some(file(format!("{stem}.pem"))),
        "TRINE_KEY" => Some(file(format!("{stem}.key"))),
        _ => None,
    })
    .expect("options")
}

/// What every node shows now: (node, which) and fingerprint.
fn in_use(cluster: &Cluster) -> Vec<(String, String)> {
    let status = cluster.caller().json(&["cluster", "status"]);
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let certificates = |node: &Value| {
        let id = word(node, "id");
        let listed = node["certificates"].as_array().cloned().unwrap_or_default();
        listed
            .into_iter()
            .filter(|one| one["which"] != "ca")
            .map(move |one| (format!("{id} {}", word(&one, "which")), word(&one, "fingerprint")))
    };
    nodes.iter().flat_map(certificates).collect()
}

/// An application holds a seat and takes others without a pause, while the
/// certificates of all three nodes and its own are renewed under it.
#[test]
fn no_call_fails_while_certificates_are_renewed() {
    let cluster = Cluster::alone();
    cluster.license("renewed", 3);
    let dir = pki(&cluster);
    let stem = "application-developer";
    let options = options(&cluster, &dir, stem);
    let (taken, done) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (counted, ended) = (taken.clone(), done.clone());
    let working = cluster.spawn(async move {
        let client = Client::connect(options.clone()).await.expect("a client");
        let held = client.acquire("renewed").ttl(Duration::from_secs(3)).send().await;
        let held = held.expect("a seat to hold");
        while !ended.load(Ordering::Relaxed) {
            // One over connections that stand, one over a new one.
            for client in
                [client.clone(), Client::connect(options.clone()).await.expect("a client")]
            {
                let seat = client.acquire("renewed").send().await.expect("no call fails");
                seat.release().await.expect("no call fails");
            }
            counted.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        held.release().await.expect("the seat was held throughout");
    });

    let before = in_use(&cluster);
    assert_eq!(before.len(), 6, "{before:?}");
    let renewed = cluster.caller().json(&[
        "pki",
        "renew",
        "node-1",
        "node-2",
        "node-3",
        stem,
        "--days",
        "30",
        "--dir",
        &dir.to_string_lossy(),
    ]);
    assert_eq!(renewed["renewed"].as_array().map(Vec::len), Some(4));
    eventually("every node to show its new certificate", || {
        let now = in_use(&cluster);
        let all_new = now.len() == before.len() && before.iter().all(|old| !now.contains(old));
        all_new.then_some(())
    });
    let page = cluster.caller().page(&["cluster", "status"]);
    assert!(page.contains("trine pki renew"), "30 days are told of: {page}");

    // Half a pair changes nothing: the old certificate stays in use.
    let now = in_use(&cluster);
    let key = fs::read(dir.join("node-3.key")).expect("the key");
    fs::copy(dir.join("node-2.key"), dir.join("node-3.key")).expect("another's key");
    eventually("the refusal to be counted", || {
        let port = cluster.servers().ports().health(trine_cli::devcluster::Server::Node(3));
        let figures = cluster.block_on(trine_cli::devcluster::health::get(port, "/metrics"))?;
        let refused = "trine_certificate_reloads_total{result=\"refused\"} 1";
        figures.body.contains(refused).then_some(())
    });
    assert_eq!(in_use(&cluster), now);
    // It serves, and would not start again: nobody sees that but the doctor.
    let is_refused = || {
        let (_, found) = examined(cluster.caller(), &[]);
        found.contains(&("CERTIFICATE_REFUSED".into(), "node-3".into()))
    };
    assert!(is_refused());
    fs::write(dir.join("node-3.key"), key).expect("the key");
    eventually("the files to be taken again", || (!is_refused()).then_some(()));

    let so_far = taken.load(Ordering::Relaxed);
    eventually("some more seats", || (taken.load(Ordering::Relaxed) > so_far + 3).then_some(()));
    done.store(true, Ordering::Relaxed);
    cluster
        .block_on(async { tokio::time::timeout(PATIENCE, working).await })
        .expect("the client ends")
        .expect("no call failed");
}

#[test]
fn a_revoked_operator_is_refused_on_a_connection_that_stands() {
    let cluster = Cluster::alone();
    let dir = pki(&cluster);
    let place = dir.to_string_lossy().into_owned();
    cluster.caller().json(&["pki", "issue", "operator", "eve", "--dir", &place]);
    let options = options(&cluster, &dir, "operator-eve");
    let client = cluster.block_on(Client::connect(options)).expect("a client");
    let ask = || cluster.block_on(client.operator().status()).map(drop);
    ask().expect("eve runs the cluster");

    // Another operator is there, so nobody is asked twice.
    let revoked = cluster.caller().json(&["pki", "revoke", "operator-eve", "--dir", &place]);
    assert_eq!(revoked["revoked"][0]["subject"], "op:eve");
    let refused = ask().expect_err("eve was shut out");
    let reason = refused.failure().reason;
    assert!(
        [Reason::CertificateRevoked, Reason::CertificateRefused].contains(&reason),
        "{refused}"
    );
    let eve = with_certificate(&cluster, &dir, "operator-eve");
    assert!(!eve.run(&["cluster", "status"]).status.success());
    let listed = cluster.caller().json(&["pki", "revoked"]);
    assert_eq!(listed["revoked"][0]["fingerprint"], revoked["revoked"][0]["fingerprint"]);

    // One's own, and a node's that is in use, are not revoked by mistake.
    let own =
        cluster.caller().refused(2, &["pki", "revoke", "operator-developer", "--dir", &place]);
    own.says(&["nothing was done", "--yes"]);
    let node = cluster.caller().refused(2, &["pki", "revoke", "node-3", "--dir", &place]);
    node.says(&["node-3 shows this certificate now", "--superseded"]);

    // A node's whose owner lost it: renewed and revoked, it is heard again; and
    // revoked for good, the two others go on without it.
    cluster.caller().json(&["pki", "renew", "node-3", "--dir", &place]);
    cluster.license("revoked", 1);
    let alive = |wanted: bool| {
        eventually("node-3 to be heard, or not", || {
            let status = cluster.caller().json(&["cluster", "status"]);
            (status["nodes"][2]["alive"] == wanted).then_some(())
        });
    };
    alive(true);
    cluster.caller().json(&["pki", "revoke", "node-3", "--dir", &place, "--yes"]);
    alive(false);
    cluster.caller().json(&["acquire", "revoked"]);
    // A new certificate is let in without a restart.
    cluster.caller().json(&["pki", "renew", "node-3", "--dir", &place]);
    alive(true);
}

/// The one in a file that was found somewhere; and, after a renewal, those it
/// replaced, while the new one goes on.
#[test]
fn one_certificate_is_revoked_and_others_of_that_name_go_on() {
    let cluster = Cluster::alone();
    let operator = cluster.caller();
    cluster.license("shut-out", 9);
    let dir = pki(&cluster);
    let place = dir.to_str().expect("a path in UTF-8");
    let found = tempfile::tempdir().expect("a directory");
    let keep = |stem: &str| {
        for ending in ["pem", "key"] {
            let name = format!("{stem}.{ending}");
            fs::copy(dir.join(&name), found.path().join(&name)).expect("copied");
        }
        fs::copy(dir.join("ca.pem"), found.path().join("ca.pem")).expect("copied");
    };
    let may = |place: &Path| {
        let caller = with_certificate(&cluster, place, "application-robot");
        caller.run(&["acquire", "shut-out", "--ttl", "1s"]).status.code() == Some(0)
    };
    operator.json(&["pki", "issue", "application", "robot", "--dir", place]);
    keep("application-robot");
    assert!(may(found.path()));
    operator.refused(2, &["pki", "revoke", "application-robot", "--superseded", "--dir", place]);
    operator.json(&["pki", "renew", "application-robot", "--dir", place]);
    let revoked =
        operator.json(&["pki", "revoke", "application-robot", "--superseded", "--dir", place]);
    assert_eq!(revoked["revoked"].as_array().map(Vec::len), Some(1), "{revoked}");
    assert!(may(&dir), "the new one was not meant");
    let robot = with_certificate(&cluster, found.path(), "application-robot");
    let refusal = robot.refused(5, &["acquire", "shut-out"]);
    assert_eq!(refusal.reason, "CERTIFICATE_REVOKED", "{refusal:?}");
    refusal.says(&["revoked this client's certificate", "trine pki issue"]);
    let listed = operator.json(&["pki", "list", "--all", "--dir", place]);
    let robots = listed["certificates"].as_array().expect("certificates").iter();
    let robots = robots.filter(|one| one["name"] == "application-robot");
    let mut robots: Vec<_> =
        robots.map(|one| (one["superseded"] == true, one["revoked"] == true)).collect();
    robots.sort_unstable();
    assert_eq!(robots, [(false, false), (true, true)], "{listed}");
    let page = operator.page(&["pki", "list", "--all", "--dir", place]);
    assert!(page.lines().any(|line| line.contains("robot (replaced)") && line.contains("revoked")));

    keep("application-robot");
    operator.json(&["pki", "issue", "application", "robot", "--force", "--dir", place]);
    let file = found.path().join("application-robot.pem");
    let revoked = operator.json(&["pki", "revoke", file.to_str().expect("UTF-8")]);
    assert_eq!(revoked["revoked"][0]["subject"], "app:robot");
    assert!(may(&dir) && !may(found.path()));
    let key = found.path().join("application-robot.key");
    operator.refused(2, &["pki", "revoke", key.to_str().expect("UTF-8")]);
}

/// At every node, on connections that stand.
#[test]
fn a_revoked_token_works_nowhere() {
    let cluster = Cluster::alone();
    let issued = cluster.caller().json(&["token", "issue", "robot"]);
    let context = cluster.caller().dir().join("context.toml");
    let context = trine_cli::context::load(&context).expect("the context");
    let dir = pki(&cluster);
    let file = cluster.caller().dir().join("robot.token");
    fs::write(&file, word(&issued, "token")).expect("the token");
    let clients: Vec<Client> = context
        .nodes
        .iter()
        .map(|node| {
            let options = Options::from_vars(|name| match name {
                "TRINE_HOST" => Some(node.clone()),
                "TRINE_CA" => Some(dir.join("ca.pem").to_string_lossy().into_owned()),
                "TRINE_TOKEN_FILE" => Some(file.to_string_lossy().into_owned()),
                _ => None,
            });
            cluster.block_on(Client::connect(options.expect("options"))).expect("a client")
        })
        .collect();
    for client in &clients {
        let whoami = cluster.block_on(client.whoami()).expect("the token works");
        assert_eq!(whoami.subject, "app:robot");
    }
    cluster.caller().json(&["token", "revoke", "robot"]);
    for client in &clients {
        eventually("the node to refuse the token", || {
            let error = cluster.block_on(client.whoami()).err()?;
            assert_eq!(error.failure().reason, Reason::NoIdentity, "{error}");
            Some(())
        });
    }
}
