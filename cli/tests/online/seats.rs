//! Seats by hand: taken, renewed, given back, waited for, listed, revoked.

use nix::sys::signal::Signal;
use serde_json::Value;

use super::caller::eventually;
use super::cluster::{Cluster, shared, word};

#[test]
fn a_seat_is_taken_renewed_and_given_back_by_hand() {
    let cluster = shared();
    let license = cluster.license("by-hand", 2);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "by-hand", "--ttl", "10m", "--holder", "night build"]);
    assert_eq!(
        (word(&seat, "product"), seat["ttl_ms"].as_u64()),
        ("by-hand".into(), Some(600_000))
    );
    assert_eq!(word(&seat, "license"), license.license);
    let (lease, token) = (word(&seat, "lease"), word(&seat, "token"));
    assert_eq!(lease.len(), 32, "{lease}");
    let renewed = caller.json(&["renew", &lease, "--token", &token]);
    assert!(renewed["deadline_ms"].as_u64() >= seat["deadline_ms"].as_u64(), "{renewed}");
    assert_eq!(renewed["lasts_ms"], 600_000);
    let page = caller.page(&["renew", &lease, "--token", &token]);
    assert_eq!(page, format!("Seat {token} lives another 10m\n"));
    caller.give_back(&seat);
    caller.give_back(&seat);
    assert!(cluster.held("by-hand").is_empty());
    caller.refused(3, &["renew", &lease, "--token", &token]);
}

/// Everybody's seat but its own holder's is safe from a wrong token.
#[test]
fn a_seat_is_renewed_and_given_back_only_with_its_token() {
    let cluster = shared();
    cluster.license("tokens", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "tokens"]);
    let lease = word(&seat, "lease");
    caller.refused(3, &["renew", &lease, "--token", "999999"]);
    caller.refused(3, &["release", &lease, "--token", "999999"]);
    assert_eq!(cluster.held("tokens").len(), 1);
    caller.give_back(&seat);
}

#[test]
fn the_page_of_a_seat_shows_how_to_go_on() {
    let cluster = shared();
    cluster.license("page", 1);
    let page = cluster.caller().page(&["acquire", "page"]);
    let line = |verb: &str| {
        let line = page.lines().find_map(|line| line.strip_prefix(&format!("trine {verb} ")));
        line.unwrap_or_else(|| panic!("no {verb} in {page}")).to_owned()
    };
    for verb in ["renew", "release"] {
        let line = line(verb);
        let words: Vec<&str> = [verb].into_iter().chain(line.split(' ')).collect();
        cluster.caller().page(&words);
    }
}

/// As a script does that never saw the answer.
#[test]
fn a_request_sent_again_with_its_id_gets_the_same_grant() {
    let cluster = shared();
    cluster.license("again", 3);
    let caller = cluster.caller();
    let other = caller.json(&["acquire", "again"]);
    let number = |key: &str| other[key].as_u64().expect("a number");
    let not_after = (number("deadline_ms") - number("ttl_ms") + 30_000).to_string();
    let id = "00112233445566778899aabbccddeeff";
    let words = ["acquire", "again", "--id", id, "--not-after", &not_after, "--holder", "me"];
    let first = caller.json(&words);
    assert_eq!(word(&first, "lease"), id);
    assert_eq!(caller.json(&words), first);
    assert_ne!(word(&other, "lease"), id);
    assert_eq!(cluster.held("again").len(), 2);

    // Another request under the same id, and one whose time is over.
    caller.refused(3, &[&words[..], &["--ttl", "5m"]].concat());
    let late = id.replace("00", "ff");
    caller.refused(3, &["acquire", "again", "--id", &late, "--not-after", "1"]);
    assert_eq!(cluster.held("again").len(), 2);
}

#[test]
fn a_full_pool_refuses_and_names_the_way_out() {
    let cluster = shared();
    cluster.license("full", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "full"]);
    let refusal = caller.refused(3, &["acquire", "full"]);
    assert_eq!(refusal.reason, "NO_SEAT_FREE");
    refusal.says(&["the one seat of full is taken", "--wait", "trine seats"]);
    caller.give_back(&seat);
    caller.give_back(&caller.json(&["acquire", "full"]));
}

#[test]
fn an_unknown_product_is_refused_by_name() {
    let refusal = shared().caller().refused(3, &["acquire", "no-such-product"]);
    assert_eq!(refusal.reason, "UNKNOWN_PRODUCT");
    refusal.says(&["no-such-product", "trine license list"]);
}

#[test]
fn what_no_request_may_ask_is_a_usage_error() {
    let cluster = shared();
    cluster.license("limits", 1);
    for wrong in [&["--ttl", "1ms"][..], &["--ttl", "100d"], &["--version", "new"]] {
        cluster.caller().refused(2, &[&["acquire", "limits"], wrong].concat());
    }
    cluster.caller().refused(2, &["acquire", "Not A Product"]);
    assert!(cluster.held("limits").is_empty());
}

fn places(cluster: &Cluster, product: &str) -> Vec<(u64, String)> {
    let waiting = cluster.waiting(product);
    let place =
        |waiter: &Value| (waiter["position"].as_u64().expect("a position"), word(waiter, "holder"));
    waiting.iter().map(place).collect()
}

/// One has the seat, two wait; one of these loses patience, the other is served.
#[test]
fn who_waits_sees_the_place_and_is_served_when_a_seat_comes_free() {
    let cluster = shared();
    cluster.license("queue", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "queue", "--ttl", "10m"]);
    let wait = |holder| caller.start(&["acquire", "queue", "--wait", "10m", "--holder", holder]);
    let mut patient = wait("patient");
    patient.until_said("Waiting: place 1 of 1");
    let mut hasty = wait("hasty");
    hasty.until_said("Waiting: place 2 of 2");
    assert_eq!(places(cluster, "queue"), [(1, "patient".into()), (2, "hasty".into())]);

    hasty.signal(Signal::SIGINT);
    let hasty = hasty.finish();
    assert_eq!(hasty.code, 130, "{}", hasty.said);
    assert!(hasty.said.contains("withdrawn and no seat is held"), "{}", hasty.said);
    assert_eq!(places(cluster, "queue"), [(1, "patient".into())]);

    caller.give_back(&seat);
    let patient = patient.finish();
    assert_eq!(patient.code, 0, "{}", patient.said);
    assert!(patient.said.contains(" of queue"), "{}", patient.said);
    assert!(cluster.waiting("queue").is_empty());
    assert_eq!(word(&cluster.held("queue")[0], "holder"), "patient");
}

#[test]
fn who_waits_in_vain_is_refused_at_the_end() {
    let cluster = shared();
    cluster.license("in-vain", 1);
    cluster.caller().json(&["acquire", "in-vain", "--ttl", "10m"]);
    let output = cluster.caller().run(&["--json", "acquire", "in-vain", "--wait", "1s"]);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    assert!(stderr.contains(r#"{"waiting":{"length":1,"position":1}}"#), "{stderr}");
    eventually("the queue is empty", || cluster.waiting("in-vain").is_empty().then_some(()));
}

#[test]
fn operators_see_who_where_and_since_when_but_no_lease_id() {
    let cluster = shared();
    cluster.license("listed", 2);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "listed", "--ttl", "10m", "--holder", "render-7"]);
    let listed = &cluster.held("listed")[0];
    assert_eq!(word(listed, "holder"), "render-7");
    assert!(word(listed, "subject").contains("developer"), "{listed}");
    assert_eq!(listed["seat"], seat["token"]);
    assert_eq!(listed["until_ms"], seat["deadline_ms"]);
    assert!(listed["since_ms"].as_u64() < listed["until_ms"].as_u64(), "{listed}");
    assert_eq!(listed["revoked_by"], Value::Null);
    let page = caller.page(&["seats"]);
    assert!(page.contains("render-7") && page.contains("since"), "{page}");
    for shown in [page, caller.page(&["--json", "seats"])] {
        assert!(!shown.contains(&word(&seat, "lease")), "{shown}");
        assert!(!shown.contains("\"lease\""), "{shown}");
    }
    caller.give_back(&seat);
}

#[test]
fn a_revoked_seat_is_not_renewed_and_says_who_did_it() {
    let cluster = shared();
    cluster.license("revoked", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "revoked", "--ttl", "10m"]);
    let (lease, token) = (word(&seat, "lease"), word(&seat, "token"));
    let revoked = caller.json(&["seats", "revoke", &token]);
    assert_eq!((&revoked["seat"], &revoked["revoked"]), (&seat["token"], &true.into()));
    assert!(word(&cluster.held("revoked")[0], "revoked_by").contains("developer"));
    let refusal = caller.refused(3, &["renew", &lease, "--token", &token]);
    assert_eq!(refusal.reason, "SEAT_REVOKED");
    // Still its holder's, until they let go.
    caller.refused(3, &["acquire", "revoked"]);
    caller.give_back(&seat);
    caller.give_back(&caller.json(&["acquire", "revoked"]));
    let refusal = caller.refused(3, &["seats", "revoke", "999999"]);
    assert_eq!(refusal.reason, "NO_SUCH_SEAT");
}
