//! Restores that are not as smooth: a container lost, a command line that died,
//! an epoch chosen too low, and one backup restored twice.

use std::fs;
use std::path::Path;

use ledger::backup::Backup;
use serde_json::Value;
use trine_cli::devcluster::Server;
use trine_cli::online::Connection;
use trine_cli::sealed::Key;
use wire::v1::BeginRestoreRequest;

use super::backup::{enroll, enroll_nodes, hosts, lose_everything};
use super::caller::{Caller, PATIENCE, eventually, text};
use super::cluster::{Cluster, issued_anew, prepared, shared, word};
use super::replace::until_live;

const PASSPHRASE: &str = "correct horse";

/// A restore by passphrase, of nodes that are named.
fn restore<'a>(nodes: &'a str, backup: &'a Path, secret: &'a Path) -> Vec<&'a str> {
    let words = ["--host", nodes, "cluster", "restore", text(backup)];
    [&words[..], &["--passphrase-file", text(secret), "--yes"]].concat()
}

/// The command line dies right after its first step.
fn begin_and_die(cluster: &Cluster, backup: &Path, quiet_ms: u64) {
    let key = Key::Passphrase(PASSPHRASE.to_owned().into());
    let opened = key.open(backup, 1 << 24).expect("its passphrase");
    let front = Backup::decode(opened).expect("a backup").header.encode();
    let request = BeginRestoreRequest { front, quiet_ms, epoch: None };
    let (target, node) = {
        let servers = cluster.servers();
        let target = servers.target(trine_cli::context::Purpose::Operator);
        let port = servers.ports().client(Server::NODES[0]);
        (target, trine_client::Endpoint::new("127.0.0.1", port))
    };
    cluster.block_on(async {
        let connection = Connection::patient(target, PATIENCE).await.expect("a connection");
        connection.operator().at(node).begin_restore(request).await.expect("it begins");
    });
}

/// Two wait when everything is lost but the containers, and the backup knows the
/// place of the first. Both go on waiting, past empty nodes and the quiet, and are
/// served by the restored cluster in their order.
#[test]
fn who_waits_when_all_is_lost_is_served_by_the_restored_cluster() {
    let cluster = Cluster::alone();
    let user = cluster.caller().clone();
    cluster.license("press", 1);
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let (secret, backup) = (file("secret.txt"), file("today.backup"));
    fs::write(&secret, PASSPHRASE).expect("the passphrase");
    let held = user.json(&["acquire", "press", "--ttl", "10m"]);
    let wait = ["acquire", "press", "--ttl", "10m", "--wait", "10m"];
    let mut first = user.start(&wait);
    first.until_said("place 1 of 1");
    user.json(&["cluster", "backup", text(&backup), "--passphrase-file", text(&secret)]);
    let mut second = user.start(&wait);
    second.until_said("place 2 of 2");

    lose_everything(&cluster, &[1, 2, 3]);
    let nodes = hosts(&cluster);
    // The clients meet nodes of no cluster for a while.
    std::thread::sleep(std::time::Duration::from_secs(2));
    user.json(&[&restore(&nodes, &backup, &secret)[..], &["--quiet", "2s"]].concat());

    let (lease, token) = (word(&held, "lease"), word(&held, "token"));
    let give_back = |lease: &str, token: &str| {
        let words = ["release", lease, "--token", token];
        eventually("it is given back", || user.run(&words).status.success().then_some(()));
    };
    give_back(&lease, &token);
    for waiter in [first, second] {
        let ended = waiter.finish();
        assert_eq!(ended.code, 0, "{}", ended.said);
        let told = ended.said.lines().find_map(|line| line.strip_prefix("trine release "));
        let (lease, token) = told.and_then(|told| told.split_once(" --token ")).expect("a seat");
        give_back(lease, token);
    }
}

/// Two disks come back and the third is gone for good, with its container. The
/// license serves with the two, and its third share is made again.
#[test]
fn a_cluster_comes_back_with_one_container_lost() {
    let cluster = Cluster::alone();
    let user = cluster.caller().clone();
    let license = cluster.license("cad", 2).license;
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let (secret, backup) = (file("secret.txt"), file("today.backup"));
    fs::write(&secret, PASSPHRASE).expect("the passphrase");
    let held = user.json(&["acquire", "cad", "--ttl", "10m"]);
    user.json(&["cluster", "backup", text(&backup), "--passphrase-file", text(&secret)]);

    lose_everything(&cluster, &[1, 2]);
    let nodes = hosts(&cluster);
    let words = restore(&nodes, &backup, &secret);
    user.refused(3, &words).says(&["node-3", "enroll"]);
    enroll(&cluster, dir.path(), &[3]);
    // A day without grants is not begun unasked.
    let unasked: Vec<&str> = words.iter().copied().filter(|word| *word != "--yes").collect();
    user.refused(2, &unasked).says(&["nothing for 24h", "nothing was done", "--yes", "--quiet"]);
    let wrong = file("wrong.txt");
    fs::write(&wrong, "wrong horse").expect("a passphrase");
    assert_eq!(user.refused(3, &restore(&nodes, &backup, &wrong)).reason, "WRONG_KEY");
    let quiet = [&words[..], &["--quiet", "5s"]].concat();
    let low = user.refused(2, &[&quiet[..], &["--epoch", "7"]].concat());
    low.says(&["epoch 7 is too low", "1048576"]);
    user.refused(2, &[&words[..], &["--quiet", "25h"]].concat()).says(&["24h"]);

    // Begun and cut off: nothing is formed, nothing else can be, and it goes on.
    begin_and_die(&cluster, &backup, 5_000);
    user.refused(3, &["--host", &nodes, "cluster", "init"]).says(&["being restored"]);
    // Who looks is told so; who wants a seat is not told to form another cluster.
    let refusal = user.refused(3, &["--host", &nodes, "cluster", "status"]);
    assert_eq!(refusal.reason, "RESTORING");
    refusal.says(&["same `trine cluster restore` again"]);
    let output = user.run(&["--json", "--host", &nodes, "cluster", "doctor"]);
    assert_eq!(output.status.code(), Some(8));
    let report = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(report.contains("RESTORING") && !report.contains("cluster init"), "{report}");
    let output = user.run(&["--json", "acquire", "cad"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.contains("NOT_FORMED") && !said.contains("init"), "{said}");
    let restored = user.json(&quiet);
    assert_eq!(restored["already"], false, "{restored}");
    assert_eq!(restored["licenses"], Value::from(vec![license.clone()]), "{restored}");
    assert_eq!(restored["with_two_shares"], Value::from(vec![license.clone()]), "{restored}");
    assert_eq!(restored["to_reissue"], Value::Array(Vec::new()));
    assert_eq!(restored["quiet_ms"].as_u64().map(|ms| ms > 0), Some(true), "{restored}");
    // Interrupted after its end: the same command says the same and does nothing.
    let again = user.json(&quiet);
    assert_eq!(again["already"], true, "{again}");
    for what in ["epoch", "cluster", "with_two_shares", "taken", "seats"] {
        assert_eq!(again[what], restored[what], "{what}");
    }

    let renew = ["renew", &word(&held, "lease"), "--token", &word(&held, "token")];
    eventually("two shares serve", || user.run(&renew).status.success().then_some(()));
    user.json(&["license", "repair", &license]);
    until_live(&user, &license, [1, 2, 3]);
    let waited = user.json(&["acquire", "cad", "--wait", "30s"]);
    assert!(waited["token"].as_u64() > held["token"].as_u64(), "{waited}");
    user.refused(3, &["acquire", "cad"]).says(&["taken"]);
}

/// The backup knows what was revoked before it and nothing of what was after. The
/// CA's directory knows both, and has the second revoked once more.
#[test]
fn a_certificate_revoked_before_the_backup_stays_out_and_a_later_one_is_revoked_again() {
    let cluster = Cluster::alone();
    let user = cluster.caller().clone();
    cluster.license("cad", 2);
    let pki = cluster.servers().layout().pki();
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let (secret, backup) = (file("secret.txt"), file("today.backup"));
    fs::write(&secret, PASSPHRASE).expect("the passphrase");
    let stem = |name: &str| format!("application-{name}");
    let revoke = |name: &str| {
        user.json(&["pki", "revoke", &stem(name), "--dir", text(&pki)]);
    };
    for name in ["early", "late"] {
        user.json(&["pki", "issue", "application", name, "--dir", text(&pki)]);
    }
    let asks = |name: &str| {
        let caller = user.with("TRINE_CERT", pki.join(format!("{}.pem", stem(name))));
        let caller = caller.with("TRINE_KEY", pki.join(format!("{}.key", stem(name))));
        let output = caller.run(&["--json", "acquire", "cad", "--ttl", "1s"]);
        output.status.code().expect("it ends")
    };
    revoke("early");
    user.json(&["cluster", "backup", text(&backup), "--passphrase-file", text(&secret)]);
    revoke("late");
    assert_eq!((asks("early"), asks("late")), (5, 5));

    lose_everything(&cluster, &[1, 2, 3]);
    let nodes = hosts(&cluster);
    let restored = [&restore(&nodes, &backup, &secret)[..], &["--quiet", "0s"]].concat();
    let page = user.page(&restored);
    assert!(page.contains("trine pki revoke --again"), "{page}");
    eventually("the restored cluster serves", || {
        user.run(&["acquire", "cad", "--ttl", "1s"]).status.success().then_some(())
    });
    assert_eq!(asks("early"), 5, "the backup knows of it");
    eventually("the later one works again", || (asks("late") == 0).then_some(()));
    let listed = |name: &str| {
        let revoked = user.json(&["pki", "revoked"])["revoked"].to_string();
        revoked.contains(&format!("app:{name}"))
    };
    assert_eq!((listed("early"), listed("late")), (true, false));

    user.refused(2, &["pki", "revoke", "--again", "early", "--dir", text(&pki)]);
    let again = user.json(&["pki", "revoke", "--again", "--dir", text(&pki)]);
    assert_eq!(again["revoked"].as_array().map(Vec::len), Some(2), "{again}");
    assert_eq!((asks("early"), asks("late")), (5, 5));
    assert_eq!((listed("early"), listed("late")), (true, true));
}

/// Whoever has a backup has no second cluster: without its containers no license
/// serves. And a license goes into the cluster that it was issued for alone.
#[test]
fn one_backup_and_one_license_make_one_cluster() {
    let cluster = Cluster::alone();
    let user = cluster.caller();
    let license = cluster.license("cad", 2).license;
    let dir = tempfile::tempdir().expect("a directory");
    let file = |name: &str| dir.path().join(name);
    let (secret, backup) = (file("secret.txt"), file("today.backup"));
    fs::write(&secret, PASSPHRASE).expect("the passphrase");
    user.json(&["cluster", "backup", text(&backup), "--passphrase-file", text(&secret)]);
    let package = issued_anew(&cluster, "cad", &license);

    // Three other nodes, with a CA of their own.
    let mut second = prepared(&dir.path().join("second"));
    cluster.block_on(async {
        for node in Server::NODES {
            second.start(node).expect("a node");
        }
        second.until_healthy(&Server::NODES, "/livez", PATIENCE).await.expect("live nodes");
    });
    let context = second.save_context().expect("a context");
    let thief = Caller::new(second.layout().dir()).with("TRINE_CONTEXT", context);
    let ports = Server::NODES.map(|node| second.ports().client(node));
    let nodes = ports.map(|port| format!("127.0.0.1:{port}")).join(",");
    let at = |words: &[&'static str]| [&["--host", nodes.as_str()][..], words].concat();
    enroll_nodes(&thief, second.layout(), dir.path(), &[1, 2, 3]);
    let restored =
        thief.json(&[&restore(&nodes, &backup, &secret)[..], &["--quiet", "0s"]].concat());
    assert_eq!(restored["to_reissue"], Value::from(vec![license]), "{restored}");
    let refusal = thief.refused(3, &at(&["acquire", "cad"]));
    assert_eq!(refusal.reason, "SHARES_MISSING");
    refusal.says(&["0 of 3 shares", "without a share"]);
    // Nor does the vendor's package help: it is sealed to the first one's containers.
    let install = [&at(&["license", "install"])[..], &[text(&package)]].concat();
    let refusal = thief.refused(3, &install);
    assert_eq!(refusal.reason, "PACKAGE_REFUSED");
    refusal.says(&["sealed to container", "not in this cluster"]);
    // A vendor who is asked for these nodes sees that they are others, and that
    // what was issued before may serve beside.
    let request = file("second.request");
    let ask = [&at(&["license", "request", "-o"])[..], &[text(&request)]].concat();
    let requested = thief.json(&ask);
    let keys = cluster.servers().layout().vendor();
    let vendor = Caller::new(&keys).with("TRINE_VENDOR_PASSPHRASE", "development");
    let ca = word(&requested, "ca_fingerprint");
    let twin = file("second.license");
    let issue = ["vendor", "issue", "--dir", ".", "--request", text(&request), "--product", "cad"];
    let issue = [&issue[..], &["--ca-fingerprint", &ca, "-o", text(&twin)]].concat();
    let refusal = vendor.refused(3, &issue);
    assert_eq!(refusal.reason, "CONTAINERS_EXCHANGED");
    refusal.says(&["3 of the three containers", "serial 9", "--containers-gone"]);
    let issued = vendor.json(&[&issue[..], &["--containers-gone"]].concat());
    assert_eq!(issued["containers_gone"].as_array().map(Vec::len), Some(3), "{issued}");
    assert_eq!(issued["changed"], Value::Array(Vec::new()), "{issued}");

    // Another customer of the same vendor.
    let other = shared().caller();
    let root = cluster.servers().layout().vendor().join("vendor.root");
    let refusal = other.refused(3, &["license", "install", text(&package)]);
    refusal.says(&["does not trust"]);
    other.json(&["trust", "add", text(&root)]);
    let refusal = other.refused(3, &["license", "install", text(&package)]);
    assert_eq!(refusal.reason, "PACKAGE_REFUSED");
    let here = word(&user.json(&["cluster", "status"])["cluster"], "id");
    refusal.says(&["is for cluster", &here]);
    user.json(&["license", "install", text(&package)]);
    cluster.block_on(second.stop_all()).expect("they drain");
}
