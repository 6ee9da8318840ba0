//! Leadership that an operator moves, while applications work; and a node that
//! is frozen for a while.

use nix::sys::signal::Signal;
use serde_json::Value;
use trine_cli::devcluster::Server;

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, shared};
use super::findings::until_found;
use super::load::Load;

/// Asks until somebody took over: on a busy machine a follower may be late, and
/// then the answer is that nobody did.
fn transferred(caller: &Caller, more: &[&str]) -> Value {
    let words = [&["--json", "cluster", "transfer-leader"], more].concat();
    eventually("somebody takes over", || {
        let output = caller.run(&words);
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    })
}

/// Round all three nodes, each named; then to whomever; and no application notices.
#[test]
fn leadership_moves_to_the_node_that_is_named_and_no_request_fails() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    cluster.license("work", Load::SEATS);
    let load = Load::start(&cluster, "work");
    load.go_on("work before");
    let first = cluster.leader();
    for step in 0..3 {
        let to = (first + step) % 3 + 1;
        let number = to.to_string();
        let moved = transferred(caller, &["--to", &number]);
        assert_eq!(moved["leader"], to, "{moved}");
        load.go_on("work under the next leader");
        // Asked again, by somebody who was not sure.
        eventually("it is told that it leads", || {
            let said = caller.page(&["cluster", "transfer-leader", "--to", &number]);
            (said == format!("node-{to} leads already\n")).then_some(())
        });
    }
    let moved = transferred(caller, &[]);
    assert_ne!(moved["from"], moved["leader"], "{moved}");
    load.go_on("work under whoever leads");
    load.finish(&cluster);
}

#[test]
fn leadership_goes_to_members_only() {
    let cluster = shared();
    let refusal = cluster.caller().refused(2, &["cluster", "transfer-leader", "--to", "9"]);
    refusal.says(&["node-9"]);
    let application = cluster.caller().with("TRINE_CONTEXT", "/no/such/file");
    application.refused(2, &["cluster", "transfer-leader"]);
}

/// SIGSTOP: its connections stand and nothing comes over them. It is named, the
/// others serve, and when it goes on nothing is wrong with it.
#[test]
fn a_node_that_is_frozen_is_named_and_wakes_with_nothing_wrong() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    cluster.license("work", Load::SEATS);
    let load = Load::start(&cluster, "work");
    load.go_on("work before");
    let follower = cluster.leader() % 3 + 1;
    let signal = |signal| {
        let servers = cluster.servers();
        let mut running = servers.running();
        let process = running.find(|process| process.server() == Server::Node(follower));
        process.expect("it runs").signal(signal).expect("it takes signals");
    };
    signal(Signal::SIGSTOP);
    until_found(caller, &[], 8, &[("NODE_DOWN", &format!("node-{follower}"))]);
    let page = caller.run(&["cluster", "doctor", "--disk-free", "1"]).stdout;
    let page = String::from_utf8_lossy(&page).into_owned();
    assert!(page.contains("stopped or stuck"), "{page}");
    load.go_on("work without it");
    signal(Signal::SIGCONT);
    until_found(caller, &[], 0, &[]);
    load.go_on("work with it again");
    load.finish(&cluster);
}
