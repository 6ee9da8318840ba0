//! The servers as an operator handles them: signals, certificates that end, and
//! the verbs around a balancer.

use std::fs;

use nix::sys::signal::Signal;
use trine_cli::devcluster::{Server, health};

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, prepared, shared, word};
use super::findings::until_found;

/// What a server has logged so far.
fn log(cluster: &Cluster, server: Server) -> String {
    fs::read_to_string(cluster.servers().layout().log(server)).unwrap_or_default()
}

fn hang_up(cluster: &Cluster, server: Server) {
    let servers = cluster.servers();
    let process = servers.running().find(|process| process.server() == server).expect("it runs");
    process.signal(Signal::SIGHUP).expect("it takes signals");
}

fn until_logged(cluster: &Cluster, server: Server, words: &str) {
    eventually(words, || log(cluster, server).contains(words).then_some(()));
}

/// `systemctl reload`, or a habit: a server goes on, and a node has read its
/// certificates before its next look would have come.
#[test]
fn a_hangup_ends_no_server_and_has_a_node_read_its_certificates() {
    let cluster = Cluster::alone();
    let pki = cluster.servers().layout().pki();
    let pki = pki.to_str().expect("a path in UTF-8");
    let before: Vec<i32> = cluster.servers().running().map(|process| process.pid()).collect();
    cluster.caller().json(&["pki", "renew", "node-3", "--dir", pki]);
    for server in Server::all() {
        hang_up(&cluster, server);
    }
    until_logged(&cluster, Server::Node(3), "read again, as asked for");
    until_logged(&cluster, Server::Node(3), "a new certificate is in use");
    until_logged(&cluster, Server::Node(1), "read again, as asked for");
    until_logged(&cluster, Server::Balancer(1), "a balancer reads nothing again");
    let mut servers = cluster.servers();
    assert!(servers.deaths().is_empty(), "somebody died of it");
    let after: Vec<i32> = servers.running().map(|process| process.pid()).collect();
    assert_eq!(after, before);
    drop(servers);
    until_found(cluster.caller(), &[], 0, &[]);
}

/// A certificate that ends soon is in the node's figures, its log and the
/// doctor's findings, the more urgent the nearer; a renewal ends all that.
#[test]
fn a_certificate_that_ends_is_told_of_everywhere_until_it_is_renewed() {
    let cluster = Cluster::alone();
    let (caller, node) = (cluster.caller(), Server::Node(3));
    let pki = cluster.servers().layout().pki();
    let pki = pki.to_str().expect("a path in UTF-8");
    let figure = |which: &str| {
        let port = cluster.servers().ports().health(node);
        let page = cluster.block_on(health::get(port, "/metrics"))?.body;
        let name = format!("trine_certificate_expiry_timestamp_seconds{{which=\"{which}\"}} ");
        let line = page.lines().find_map(|line| line.strip_prefix(&name).map(str::to_owned));
        line?.parse::<i64>().ok()
    };
    let renew = |days: &str| {
        caller.json(&["pki", "renew", "node-3", "--days", days, "--dir", pki]);
        hang_up(&cluster, node);
        let listed = caller.json(&["pki", "list", "--dir", pki]);
        let all = listed["certificates"].as_array().cloned().unwrap_or_default();
        let own = all.iter().find(|one| one["name"] == "node-3").expect("its certificate");
        let expires: jiff::Timestamp = word(own, "expires").parse().expect("a date");
        for which in ["client", "peer"] {
            eventually("the figure follows", || {
                (figure(which) == Some(expires.as_second())).then_some(())
            });
        }
    };
    // The cluster serves with two nodes, perhaps before the third shows its page.
    let (ca, client) =
        eventually("the figures of the third", || Some((figure("ca")?, figure("client")?)));
    assert!(ca >= client, "the CA ends before what it certified");
    let ending = ("CERTIFICATE_ENDING", "node-3");
    renew("20");
    // One for each listener that shows it.
    until_found(caller, &[], 7, &[ending, ending]);
    until_logged(&cluster, node, "expires within so many days");
    renew("2");
    until_found(caller, &[], 8, &[ending, ending]);
    until_logged(&cluster, node, "days=7");
    renew("365");
    until_found(caller, &[], 0, &[]);
}

/// What keepalived runs, and what it is configured with.
#[test]
fn a_balancer_is_checked_and_configures_keepalived() {
    let cluster = shared();
    let config = cluster.servers().layout().config(Server::Balancer(1));
    let config = config.to_str().expect("a path in UTF-8");
    let checked = cluster.caller().json(&["balancer", "check", "--config", config]);
    assert_eq!(checked["answers"], true);
    let make = ["balancer", "keepalived-config", "--config"];
    cluster.caller().refused(2, &[&make[..], &[config]].concat()).says(&["[keepalived]"]);

    // One that does not run, and has a pair.
    let dir = tempfile::tempdir().expect("a directory");
    let servers = prepared(&dir.path().join("cluster"));
    let config = servers.layout().config(Server::Balancer(2));
    let mut text = fs::read_to_string(&config).expect("the configuration");
    let table = "\n[keepalived]\nvirtual_ip = \"10.0.0.100/24\"\ninterface = \"eth0\"\nrouter = 51\naddress = \"10.0.0.12\"\npeer = \"10.0.0.11\"\npriority = 150\n";
    text.push_str(table);
    fs::write(&config, text).expect("the configuration");
    let config = config.to_str().expect("a path in UTF-8");
    let caller = Caller::new(dir.path());
    let gone = caller.refused(4, &["balancer", "check", "--config", config]);
    gone.says(&["does not answer"]);
    let page = caller.page(&[&make[..], &[config, "--program", "/usr/bin/trine"]].concat());
    let words = ["vrrp_version 3", "10.0.0.100/24", "10.0.0.11", "/usr/bin/trine balancer check"];
    for words in words {
        assert!(page.contains(words), "{words:?} is missing: {page}");
    }
}

/// The latest of one subject's records, of many.
#[test]
fn the_latest_of_one_subjects_history_is_shown() {
    let cluster = shared();
    cluster.license("latest", 5);
    for _ in 0..4 {
        cluster.caller().json(&["acquire", "latest", "--ttl", "1s"]);
    }
    let of = |subject| ["usage", "--product", "latest", "--subject", subject, "--last", "2"];
    let page = cluster.caller().page(&of("app:developer"));
    assert!(page.contains("The last 2 of"), "{page}");
    let nobody = cluster.caller().json(&of("app:nobody"));
    assert_eq!(nobody["matched"], 0, "{nobody}");
}

/// `--context` names the cluster as TRINE_CONTEXT does, and comes before it.
#[test]
fn a_context_is_named_by_its_flag() {
    let cluster = shared();
    let context = cluster.servers().layout().context();
    let context = context.to_str().expect("a path in UTF-8");
    let elsewhere = Caller::new(std::path::Path::new("/")).with("TRINE_CONTEXT", "/no/such/file");
    let status = elsewhere.json(&["--context", context, "cluster", "status"]);
    assert_eq!(status["quorum"], true);
    elsewhere.refused(2, &["cluster", "status"]).says(&["/no/such/file"]);
}

/// No node could follow, and every one is named with what it knows.
#[test]
fn a_level_that_no_build_knows_is_refused() {
    // Right after a start nobody has heard what the nodes run.
    let refusal = eventually("the nodes are heard", || {
        let refusal = shared().caller().refused(3, &["cluster", "upgrade", "--to", "999"]);
        (refusal.reason != "BUILD_UNKNOWN").then_some(refusal)
    });
    assert_eq!(refusal.reason, "BUILD_TOO_OLD", "{refusal:?}");
    refusal.says(&["node-", "upgrade it first"]);
}
