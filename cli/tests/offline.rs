//! The verbs that need no cluster, run as the binary that users run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use tempfile::TempDir;

/// `trine`, in `dir`, with nothing of the user's own around it.
fn trine(dir: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trine"));
    command
        .args(words)
        .current_dir(dir)
        .env_clear()
        .env("HOME", dir)
        .env("TRINE_VENDOR_PASSPHRASE", "correct horse")
        .stdin(Stdio::null());
    command
}

fn run(dir: &Path, words: &[&str]) -> Output {
    trine(dir, words).output().expect("the binary runs")
}

fn code(output: &Output) -> Option<i32> {
    output.status.code()
}

/// The result of a command that must succeed, with `--json`.
fn json(dir: &Path, words: &[&str]) -> Value {
    let output = run(dir, &[&["--json"], words].concat());
    assert_eq!(code(&output), Some(0), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("JSON on stdout")
}

/// The error of a command that must fail with `exit`, with `--json`.
fn refused(dir: &Path, exit: i32, words: &[&str]) -> Value {
    let output = run(dir, &[&["--json"], words].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), Some(exit), "{words:?}: {stderr}");
    assert!(output.stdout.is_empty(), "{words:?} printed a result");
    let error: Value = serde_json::from_str(stderr.trim()).expect("JSON on stderr");
    assert_eq!(error["error"]["exit"], exit);
    error["error"].clone()
}

fn dir() -> TempDir {
    tempfile::tempdir().expect("a directory")
}

#[test]
fn help_and_version_are_results() {
    let dir = dir();
    for words in [&["--help"][..], &["--version"], &["vendor", "issue", "--help"], &["help", "run"]]
    {
        let output = run(dir.path(), words);
        assert_eq!(code(&output), Some(0), "{words:?}");
        assert!(!output.stdout.is_empty(), "{words:?} printed nothing");
    }
}

#[test]
fn a_wrong_command_line_is_a_usage_error() {
    let dir = dir();
    for words in [
        &["frobnicate"][..],
        &["acquire"],
        &["pki", "issue", "node", "0"],
        &["renew", "xyz", "--token", "1"],
    ] {
        assert_eq!(code(&run(dir.path(), words)), Some(2), "{words:?}");
        refused(dir.path(), 2, words);
    }
    assert_eq!(code(&run(dir.path(), &[])), Some(2));
}

/// Neither asks for a cluster or a lab: what is wrong is found before.
#[test]
fn a_drill_refuses_what_it_does_not_know_and_what_harms_others() {
    let dir = dir();
    fs::write(dir.path().join("limits.toml"), "[leader-kiled]\nfailed_max = 0\n").expect("written");
    let without_product = run(dir.path(), &["drill", "--cluster", "staging.toml"]);
    assert_eq!(code(&without_product), Some(2));
    let said = String::from_utf8_lossy(&without_product.stderr).into_owned();
    assert!(said.contains("--product"), "{said}");
    assert_eq!(code(&run(dir.path(), &["drill", "--lab", "--product", "cad"])), Some(2));
    let unknown = refused(dir.path(), 2, &["drill", "--lab", "--limits", "limits.toml"]);
    assert!(unknown["message"].as_str().is_some_and(|it| it.contains("leader-kiled")), "{unknown}");
    let gentle = ["drill", "--cluster", "staging.toml", "--product", "cad", "--restart", "true"];
    let rough = ["--scenario", "leader-killed", "--repeat", "2"];
    let rough = refused(dir.path(), 2, &[&gentle[..], &rough].concat());
    assert!(rough["next"].as_str().is_some_and(|next| next.contains("--lab")), "{rough}");
}

#[test]
fn nobody_to_ask_says_how_to_begin() {
    let dir = dir();
    let error = refused(dir.path(), 2, &["acquire", "cad"]);
    assert!(error["next"].as_str().is_some_and(|next| next.contains("trine up")), "{error}");
}

#[test]
fn nobody_there_is_exit_code_4() {
    let dir = dir();
    json(dir.path(), &["pki", "init"]);
    json(dir.path(), &["pki", "issue", "application", "app"]);
    let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr());
    let host = port.expect("a port that is free again").to_string();
    let output = trine(dir.path(), &["--json", "--host", &host, "acquire", "cad"])
        .env("TRINE_CA", "pki/ca.pem")
        .env("TRINE_CERT", "pki/application-app.pem")
        .env("TRINE_KEY", "pki/application-app.key")
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), Some(4), "{stderr}");
    let error: Value = serde_json::from_str(stderr.trim()).expect("JSON on stderr");
    assert_eq!(error["error"]["reason"], "UNREACHABLE");
    // A doctor at a wrong address knows nothing of any node.
    json(dir.path(), &["pki", "issue", "operator", "ana"]);
    let output = trine(dir.path(), &["--json", "--host", &host, "cluster", "doctor"])
        .env("TRINE_CA", "pki/ca.pem")
        .env("TRINE_CERT", "pki/operator-ana.pem")
        .env("TRINE_KEY", "pki/operator-ana.key")
        .output()
        .expect("the binary runs");
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(code(&output), Some(4), "{stderr}");
    assert!(stderr.contains(&host) && stderr.contains("TRINE_HOST"), "{stderr}");
}

#[test]
fn every_shell_completes_every_verb() {
    let dir = dir();
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let output = run(dir.path(), &["completions", shell]);
        assert_eq!(code(&output), Some(0), "{shell}");
        let script = String::from_utf8_lossy(&output.stdout);
        assert!(script.contains("withdraw-share"), "{shell} does not know all verbs");
    }
}

#[test]
fn certificates_are_issued_and_keys_stay_their_owners() {
    let dir = dir();
    json(dir.path(), &["pki", "init"]);
    let node = json(dir.path(), &["pki", "issue", "node", "1", "--san", "node1.example"]);
    assert_eq!(node["identity"], "trine://peer/node-1");
    let operator = json(dir.path(), &["pki", "issue", "operator", "alice"]);
    assert_eq!(operator["identity"], "trine://operator/alice");
    assert_eq!(operator["ca_fingerprint"], node["ca_fingerprint"]);
    let written = node["ca_fingerprint"].as_str().expect("a fingerprint");
    assert_eq!(written.split('-').count(), 8, "as everywhere: {written}");
    for key in ["ca.key", "node-1.key", "operator-alice.key"] {
        let mode = fs::metadata(dir.path().join("pki").join(key)).expect(key).permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{key}");
    }
    let before = fs::read(dir.path().join("pki/ca.key")).expect("the key");
    refused(dir.path(), 2, &["pki", "init"]);
    refused(dir.path(), 2, &["pki", "issue", "node", "1"]);
    assert_eq!(fs::read(dir.path().join("pki/ca.key")).expect("the key"), before);
    json(dir.path(), &["pki", "issue", "node", "1", "--force"]);
    refused(dir.path(), 2, &["pki", "issue", "operator", "no/slash"]);
    refused(dir.path(), 2, &["pki", "issue", "operator", "bob", "--dir", "elsewhere"]);
}

/// A renewal keeps the identity and the names, brings a new key, and keeps the
/// old certificate so that it can be revoked by name.
#[test]
fn certificates_are_listed_and_renewed() {
    let dir = dir();
    let names = |listed: &Value| -> Vec<String> {
        let rows = listed["certificates"].as_array().expect("a list");
        rows.iter().map(|row| row["name"].as_str().expect("a name").to_owned()).collect()
    };
    json(dir.path(), &["pki", "init"]);
    let issue = ["pki", "issue", "node", "1", "--san", "node1.example", "--san", "10.0.0.11"];
    json(dir.path(), &[&issue[..], &["--days", "5"]].concat());
    json(dir.path(), &["pki", "issue", "operator", "alice", "--days", "20"]);
    json(dir.path(), &["pki", "issue", "application", "cad"]);
    let all = json(dir.path(), &["pki", "list"]);
    assert_eq!(names(&all), ["node-1", "operator-alice", "application-cad", "ca"]);
    let soon = run(dir.path(), &["--json", "pki", "list", "--expiring-within", "7d"]);
    assert_eq!(code(&soon), Some(3), "a script is told");
    let soon: Value = serde_json::from_slice(&soon.stdout).expect("JSON");
    assert_eq!(names(&soon), ["node-1"]);

    let file = |name: &str| fs::read(dir.path().join("pki").join(name)).expect(name);
    let (old, old_key) = (file("node-1.pem"), file("node-1.key"));
    let renewed = json(dir.path(), &["pki", "renew", "--expiring-within", "30d"]);
    assert_eq!(renewed["renewed"].as_array().map(Vec::len), Some(2));
    assert_eq!(renewed["renewed"][0]["identity"], "trine://peer/node-1");
    assert_ne!(file("node-1.pem"), old);
    assert_ne!(file("node-1.key"), old_key, "a new key");
    let read = |bytes: &[u8]| pki::Summary::read(pki::Pem::new("node-1.pem", bytes)).expect("one");
    let (before, after) = (read(&old), read(&file("node-1.pem")));
    assert_eq!((after.identity, after.hosts), (before.identity, before.hosts));
    assert!(after.expires > before.expires);

    let left = json(dir.path(), &["pki", "list", "--expiring-within", "30d"]);
    assert!(names(&left).is_empty(), "{left}");
    let all = json(dir.path(), &["pki", "list", "--all"]);
    assert_eq!(names(&all).iter().filter(|name| *name == "node-1").count(), 2);
    refused(dir.path(), 2, &["pki", "renew", "operator-bob"]);
    refused(dir.path(), 2, &["pki", "renew", "ca"]);
    refused(dir.path(), 2, &["pki", "renew"]);
}

#[test]
fn a_vendor_issues_what_inspect_explains() {
    let dir = dir();
    let vendor = json(dir.path(), &["vendor", "init", "--name", "ACME", "--firm", "6000010"]);
    let mode =
        fs::metadata(dir.path().join("vendor/firm.key")).expect("the key").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let root = json(dir.path(), &["vendor", "inspect", "vendor/vendor.root"]);
    assert_eq!(root["contents"]["kind"], "vendor-root");
    assert_eq!(root["contents"]["fingerprint"], vendor["root_fingerprint"]);
    let key = json(dir.path(), &["vendor", "inspect", "vendor/root.key"]);
    assert_eq!(key["contents"]["kind"], "encrypted-key");
    refused(dir.path(), 2, &["vendor", "init", "--name", "ACME", "--firm", "6000010"]);

    let (request, ca) = request();
    fs::write(dir.path().join("cluster.request"), request).expect("the request");
    let issue = ["vendor", "issue", "--request", "cluster.request", "--product", "cad-pro"];
    for malformed in ["", "none", &ca[1..], &format!("{ca}-1f2e"), &ca.replace('-', ":")] {
        let told = ["--ca-fingerprint", malformed, "--seats", "5", "-o", "1.license"];
        refused(dir.path(), 2, &[&issue[..], &told].concat());
    }
    let issue = [&issue[..], &["--ca-fingerprint", &ca]].concat();
    let first = json(
        dir.path(),
        &[&issue[..], &["--seats", "5", "-o", "1.license", "--expiration", "2030-01-01"]].concat(),
    );
    assert_eq!((&first["license"], &first["serial"]), (&"6000010:1:1".into(), &1.into()));
    assert_eq!(first["expiration"], "2030-01-01T00:00:00Z");
    let asked = json(dir.path(), &["vendor", "inspect", "cluster.request"]);
    assert_eq!(asked["contents"]["fingerprint"], first["request_fingerprint"]);
    assert_eq!(asked["contents"]["ca_fingerprint"], first["ca_fingerprint"]);
    let package = json(dir.path(), &["vendor", "inspect", "1.license"]);
    assert_eq!(package["contents"]["seats"], 5);
    assert_eq!(package["contents"]["certificate"]["vendor"], "ACME");

    let torn = fs::read(dir.path().join("1.license")).expect("the package");
    fs::write(dir.path().join("torn.license"), &torn[..torn.len() / 2]).expect("half of it");
    let broken = run(dir.path(), &["vendor", "inspect", "torn.license"]);
    assert_eq!(code(&broken), Some(2), "a script is told");
    assert!(String::from_utf8_lossy(&broken.stdout).contains("cannot be read"));

    let update = json(dir.path(), &[&issue[..], &["--seats", "8", "-o", "2.license"]].concat());
    assert_eq!(
        (&update["license"], &update["serial"]),
        (&first["license"], &2.into()),
        "an update"
    );
    // The end was not named, so it is what it was, and what is different is said.
    assert_eq!(update["expiration"], first["expiration"], "{update}");
    let end = package["contents"]["expiration"].clone();
    let package = json(dir.path(), &["vendor", "inspect", "2.license"]);
    assert_eq!(package["contents"]["expiration"], end, "{package}");
    let seats = serde_json::json!([{ "term": "seats", "before": "5", "now": "8" }]);
    assert_eq!((&update["changed"], &update["previous_serial"]), (&seats, &1.into()));
    let words = [&issue[..], &["--expiration", "none", "-o", "2b.license"]].concat();
    let page = run(dir.path(), &words);
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("2030-01-01T00:00:00Z -> no end"), "{page}");
    // A number from somewhere else, and no word in the book of what was there.
    let tail = ["--tmr-id", "7", "--serial", "4", "--seats", "8", "-o", "2c.license"];
    let unknown = refused(dir.path(), 2, &[&issue[..], &tail].concat());
    assert!(unknown["next"].as_str().is_some_and(|it| it.contains("--from-scratch")), "{unknown}");
    let anew = json(dir.path(), &[&issue[..], &tail, &["--from-scratch"]].concat());
    assert_eq!(anew["expiration"], Value::Null);
    // A line of an older build says which serial it was, and not what was in it.
    let book = dir.path().join("vendor/issued.jsonl");
    let lines = fs::read_to_string(&book).expect("the book");
    let older = lines.lines().map(|line| {
        let mut line: Value = serde_json::from_str(line).expect("a line");
        line.as_object_mut().expect("of the book").remove("sold").expect("what was sold");
        format!("{line}\n")
    });
    fs::write(&book, older.collect::<String>()).expect("the book");
    let again = ["--seats", "8", "--from-scratch", "-o", "2d.license"];
    let page = run(dir.path(), &[&issue[..], &again].concat());
    let page = String::from_utf8_lossy(&page.stdout).into_owned();
    assert!(page.contains("The customer has serial 3; what was in it"), "{page}");
    let other = [
        "vendor",
        "issue",
        "--request",
        "cluster.request",
        "--ca-fingerprint",
        &ca,
        "--product",
        "cam",
        "--counting",
        "unlimited",
        "-o",
        "3.license",
    ];
    assert_eq!(json(dir.path(), &other)["license"], "6000010:2:1", "another product");
}

#[test]
fn a_vendor_refuses_what_cannot_be_sold() {
    let dir = dir();
    json(dir.path(), &["vendor", "init", "--name", "ACME", "--firm", "1"]);
    let (mut altered, ca) = request();
    fs::write(dir.path().join("request"), &altered).expect("the request");
    let issue = ["vendor", "issue", "--request", "request", "--product", "cad", "-o", "x.license"];
    let unsure = refused(dir.path(), 2, &[&issue[..], &["--seats", "1"]].concat());
    assert!(unsure["next"].as_str().is_some_and(|next| next.contains(&ca)), "{unsure}");
    let issue = [&issue[..], &["--ca-fingerprint", &ca]].concat();
    for wrong in [
        &[][..],
        &["--seats", "0"],
        &["--seats", "2000000"],
        &["--seats", "1", "--activation", "2030-01-01", "--expiration", "2029-01-01"],
        &["--seats", "1", "--expiration", "soon"],
        &["--seats", "1", "--version-max", "new"],
        &["--seats", "1", "--feature-map", "0x100000000"],
        &["--seats", "1", "--counting", "unlimited"],
    ] {
        refused(dir.path(), 2, &[&issue[..], wrong].concat());
    }
    assert!(!dir.path().join("x.license").exists());
    let output = trine(dir.path(), &[&issue[..], &["--seats", "1"]].concat())
        .env("TRINE_VENDOR_PASSPHRASE", "wrong horse")
        .output()
        .expect("the binary runs");
    assert_eq!(code(&output), Some(2), "another passphrase");
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    fs::write(dir.path().join("request"), altered).expect("the request");
    refused(dir.path(), 3, &[&issue[..], &["--seats", "1"]].concat());
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let dir = dir();
    for words in [&["completions", "bash"][..], &["--help"], &["--json", "pki", "init"]] {
        let mut child = trine(dir.path(), words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        drop(child.stdout.take());
        let output = child.wait_with_output().expect("it ends");
        assert_eq!(code(&output), Some(0), "{words:?}");
        assert!(output.stderr.is_empty(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn configurations_are_checked_without_being_run() {
    let dir = dir();
    fs::write(dir.path().join("balancer.toml"), include_str!("../../deploy/balancer.example.toml"))
        .expect("the configuration");
    assert_eq!(
        json(dir.path(), &["balancer", "--config", "balancer.toml", "--check"])["valid"],
        true
    );
    fs::write(dir.path().join("node.toml"), "id = 1\n").expect("the configuration");
    refused(dir.path(), 2, &["node", "--config", "node.toml", "--check"]);
    refused(dir.path(), 2, &["node", "--config", "absent.toml"]);
}

/// Copied as it is, the example lacks the files that it names, all of them and
/// nothing else; with them it stands.
#[test]
fn the_example_of_a_node_lacks_nothing_but_its_files() {
    let dir = dir();
    let example = include_str!("../../deploy/node.example.toml");
    fs::write(dir.path().join("node.toml"), example).expect("the configuration");
    let check = ["node", "--config", "node.toml", "--check"];
    let error = refused(dir.path(), 2, &check);
    let said = error["message"].as_str().expect("a message");
    let missing = ["tls.ca", "tls.cert", "tls.key", "trust.vendor_roots[0]"];
    assert_eq!(said.lines().count(), missing.len(), "{said}");
    for (line, key) in said.lines().zip(missing) {
        assert!(
            line.contains(&format!("{key} = ")) && line.contains("put the file there"),
            "{said}"
        );
    }

    let has = |from: &str, to: &str| {
        let to = dir.path().join(to);
        fs::create_dir_all(to.parent().expect("a folder")).expect("a folder");
        fs::copy(dir.path().join(from), to).expect("copied");
    };
    json(dir.path(), &["pki", "init"]);
    json(dir.path(), &["pki", "issue", "node", "1"]);
    json(dir.path(), &["vendor", "init", "--firm", "6000010", "--name", "ACME", "--dir", "vendor"]);
    has("pki/ca.pem", "tls/ca.pem");
    has("pki/node-1.pem", "tls/node.pem");
    has("pki/node-1.key", "tls/node.key");
    has("vendor/vendor.root", "trust/vendor.root");
    let checked = json(dir.path(), &check);
    assert_eq!(checked["valid"], true);
    // It may start so, and is told what it lacks to belong anywhere.
    assert!(checked["not_enrolled"].as_str().is_some_and(|it| it.ends_with("container.pem")));
    let page = String::from_utf8_lossy(&run(dir.path(), &check).stdout).into_owned();
    assert!(page.contains("not enrolled") && page.contains("trine node enroll"), "{page}");
}

/// What keepalived reads when the balancer is silent, and when it is gone.
#[test]
fn the_guard_writes_that_its_balancer_is_away() {
    let dir = dir();
    let weight = dir.path().join("weight");
    let mut guard = trine(dir.path(), &["balancer", "guard", "--track-file", "weight"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("the binary runs");
    let until_away = |what: &str| {
        for _ in 0..600 {
            if fs::read_to_string(&weight).is_ok_and(|text| text == "-100\n") {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("nothing was written: {what}");
    };
    let mut signs = guard.stdin.take().expect("a pipe");
    until_away("the balancer is silent");
    fs::remove_file(&weight).expect("it is there");
    // A sign of life, so that its end is news.
    std::io::Write::write_all(&mut signs, &[0]).expect("the guard reads");
    drop(signs);
    assert!(guard.wait().expect("it ends").success());
    until_away("the balancer is gone");
}

/// What three enrolled nodes would ask for, and their CA's fingerprint.
fn request() -> (Vec<u8>, String) {
    use license::container::Container;
    use license::product::{ActId, ClusterId, NodeId};
    use license::request::{ClusterRequest, ContainerRequest};
    use pki::{Authority, ContainerSubject, Pem, UnixTime, Validity};

    let mut random = trine_cli::vendor_dir::system_randomness();
    let years = |years: u64| Duration::from_secs(years * 365 * 24 * 60 * 60);
    let validity = Validity::starting(UnixTime::since_unix_epoch(years(53)), years(100));
    let authority = Authority::create("the customer's CA", validity).expect("a CA");
    let cluster = ClusterId([7; 16]);
    let requests = [1, 2, 3].map(|node| {
        let container = Container::create(ActId(5), &mut random);
        let identity = container.identity();
        let (serial, key) = (identity.serial().to_string(), identity.key().to_spki_der());
        let subject = ContainerSubject { node, serial: &serial, key: &key };
        let chain = authority.certify_container(&subject, validity).expect("a certificate");
        let chain = pki::container_chain(Pem::new("chain", chain.as_bytes())).expect("PEM");
        ContainerRequest::make(&container, cluster, NodeId(node), [0; 32], chain)
            .expect("a request")
    });
    let digest = authority.ca().digest();
    let request = ClusterRequest::new(cluster, digest, requests).expect("a request");
    (request.encode(), license::key::fingerprint(&digest))
}
