//! `trine up`: a cluster for development, from the first start to the second.

use std::path::Path;

use nix::sys::signal::Signal;
use trine_cli::devcluster::Ports;

use super::caller::{Caller, Running};
use super::cluster::word;

/// A base with nobody on its ports now.
fn free_base() -> u16 {
    let own = u16::try_from(std::process::id() % 300).expect("less than 300");
    let bases = (0..300).map(|step| 24_000 + (own + step) % 300 * 50);
    bases.into_iter().find(|base| Ports::from_base(*base).taken().is_none()).expect("free ports")
}

fn up(caller: &Caller, port: &str) -> Running {
    let words = ["up", "--dir", "dev", "--port", port, "--seats", "3", "--engine", "embedded"];
    let mut up = caller.start(&words);
    up.until_said("Ctrl-C stops it");
    up
}

#[track_caller]
fn stop(up: Running) {
    up.signal(Signal::SIGINT);
    let ended = up.finish();
    assert_eq!(ended.code, 0, "{}", ended.said);
}

/// A second terminal finds it at once; Ctrl-C stops it; started again, it goes
/// on with its data. Nobody else gets its directory or its ports meanwhile.
#[test]
fn a_development_cluster_goes_on_where_it_stopped() {
    let dir = tempfile::tempdir().expect("a directory");
    let caller = Caller::new(dir.path());
    let base = free_base();
    let port = base.to_string();
    let first = up(&caller, &port);
    let seat = caller.json(&["acquire", "demo", "--ttl", "10m", "--holder", "me"]);
    assert!(caller.page(&["cluster", "status"]).contains("demo"));

    let again = caller.refused(1, &["up", "--dir", "dev"]);
    again.says(&["already up", &first.pid().to_string(), "--dir"]);
    let elsewhere = caller.refused(1, &["up", "--dir", "other", "--port", &port]);
    elsewhere.says(&[&(base + 10).to_string(), "node-1's client", "in use", "--port"]);
    caller.refused(2, &["up", "--dir", "third", "--port", "65535"]);
    stop(first);
    let down = caller.refused(4, &["acquire", "demo"]);
    down.says(&["trine up"]);

    caller.refused(2, &["up", "--dir", "dev", "--port", "22450"]).says(&["ports", &port]);
    let second = up(&caller, &port);
    let held = &caller.json(&["seats", "demo"])["seats"];
    assert_eq!((&held[0]["seat"], word(&held[0], "holder")), (&seat["token"], "me".into()));
    caller.json(&["release", &word(&seat, "lease"), "--token", &word(&seat, "token")]);
    stop(second);
    no_server_says_panicked(&dir.path().join("dev"));
}

fn no_server_says_panicked(dir: &Path) {
    for server in ["node-1/node", "node-2/node", "node-3/node", "balancer-1/balancer"] {
        let log = std::fs::read_to_string(dir.join(format!("{server}.log"))).expect("a log");
        assert!(!log.contains("panicked"), "{server}: {log}");
    }
}
