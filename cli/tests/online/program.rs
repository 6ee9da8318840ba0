//! `trine run`: a seat is held exactly while a program runs.

use nix::sys::signal::Signal;

use super::caller::{Running, eventually};
use super::cluster::{Cluster, shared, word};

/// The seat is free at once, not when its time to live is over.
#[track_caller]
fn is_free(cluster: &Cluster, product: &str) {
    let held = cluster.held(product);
    assert!(held.is_empty(), "{held:?}");
}

/// Starts a shell script under `trine run`, and waits until it says `ready`.
fn script(cluster: &Cluster, flags: &[&str], script: &str) -> Running {
    let words = [&["run"], flags, &["--", "sh", "-c", script]].concat();
    let mut running = cluster.caller().start(&words);
    running.until_said("ready");
    running
}

#[test]
fn the_exit_code_is_the_programs_and_the_seat_is_given_back() {
    let cluster = shared();
    let license = cluster.license("exit", 1);
    let seen =
        "echo $TRINE_PRODUCT $TRINE_LICENSE seat $TRINE_TOKEN map $TRINE_FEATURE_MAP; exit 7";
    let ended = cluster.caller().start(&["run", "exit", "--", "sh", "-c", seen]).finish();
    assert_eq!(ended.code, 7, "{}", ended.said);
    let expected = format!("exit {} seat ", license.license);
    assert!(ended.said.starts_with(&expected), "{}", ended.said);
    is_free(cluster, "exit");
    cluster.caller().page(&["run", "exit", "--", "true"]);
    is_free(cluster, "exit");
}

#[test]
fn a_program_that_is_killed_gives_its_seat_back() {
    let cluster = shared();
    cluster.license("killed", 1);
    let ended =
        cluster.caller().start(&["run", "killed", "--", "sh", "-c", "kill -KILL $$"]).finish();
    assert_eq!(ended.code, 128 + 9, "{}", ended.said);
    is_free(cluster, "killed");
}

#[test]
fn signals_reach_the_program_and_the_seat_is_given_back() {
    let cluster = shared();
    cluster.license("signals", 1);
    let traps =
        "trap 'exit 9' TERM; trap 'echo usr1' USR1; echo ready; while :; do sleep 0.05; done";
    let mut running = script(cluster, &["signals"], traps);
    assert_eq!(cluster.held("signals").len(), 1);
    running.signal(Signal::SIGUSR1);
    running.until_said("usr1");
    running.signal(Signal::SIGTERM);
    let ended = running.finish();
    assert_eq!(ended.code, 9, "{}", ended.said);
    is_free(cluster, "signals");

    // One that does not catch it ends by it.
    let running = script(cluster, &["signals"], "echo ready; exec sleep 600");
    running.signal(Signal::SIGTERM);
    let ended = running.finish();
    assert_eq!(ended.code, 128 + 15, "{}", ended.said);
    is_free(cluster, "signals");
}

#[test]
fn the_seat_is_renewed_while_the_program_runs() {
    let cluster = shared();
    cluster.license("renewed", 1);
    let running = script(cluster, &["renewed", "--ttl", "1s"], "echo ready; exec sleep 600");
    let deadline = |held: &[serde_json::Value]| held.first()?["until_ms"].as_u64();
    let first = deadline(&cluster.held("renewed")).expect("a seat");
    let seat = word(&cluster.held("renewed")[0], "seat");
    eventually("three lifetimes later", || {
        deadline(&cluster.held("renewed")).filter(|deadline| *deadline > first + 3_000)
    });
    assert_eq!(word(&cluster.held("renewed")[0], "seat"), seat, "still the same");
    running.signal(Signal::SIGTERM);
    running.finish();
    is_free(cluster, "renewed");
}

#[test]
fn a_program_whose_seat_is_revoked_is_asked_to_end_and_then_made_to() {
    let cluster = shared();
    cluster.license("taken-away", 2);
    let flags = ["taken-away", "--ttl", "3s", "--grace", "1s", "--holder"];
    let polite = "trap 'echo saved; exit 0' TERM; echo ready; while :; do sleep 0.05; done";
    let deaf = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
    let polite = script(cluster, &[&flags[..], &["polite"]].concat(), polite);
    let deaf = script(cluster, &[&flags[..], &["deaf"]].concat(), deaf);
    for seat in cluster.held("taken-away") {
        cluster.caller().json(&["seats", "revoke", &word(&seat, "seat")]);
    }
    let polite = polite.finish();
    assert_eq!(polite.code, 3, "{}", polite.said);
    assert!(polite.said.contains("saved") && polite.said.contains("revoked"), "{}", polite.said);
    assert!(!polite.said.contains("killing"), "{}", polite.said);
    let deaf = deaf.finish();
    assert_eq!(deaf.code, 3, "{}", deaf.said);
    assert!(deaf.said.contains("the grace is over; killing the program"), "{}", deaf.said);
    eventually("both seats are free", || cluster.held("taken-away").is_empty().then_some(()));
}

#[test]
fn a_program_that_cannot_start_is_a_usage_error_and_holds_nothing() {
    let cluster = shared();
    cluster.license("absent", 1);
    cluster
        .caller()
        .refused(2, &["run", "absent", "--", "/no/such/program"])
        .says(&["/no/such/program", "check its path"]);
    is_free(cluster, "absent");
}

#[test]
fn without_a_seat_the_program_does_not_run() {
    let cluster = shared();
    cluster.license("none-left", 1);
    cluster.caller().json(&["acquire", "none-left", "--ttl", "10m"]);
    let refusal = cluster.caller().refused(3, &["run", "none-left", "--", "touch", "it-ran"]);
    assert_eq!(refusal.reason, "NO_SEAT_FREE");
    assert!(!cluster.caller().dir().join("it-ran").exists());
}
