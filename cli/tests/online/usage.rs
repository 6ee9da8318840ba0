//! The usage history: listed, added up, exported, verified, and caught lying.

use std::path::Path;

use serde_json::Value;

use super::caller::eventually;
use super::cluster::{Cluster, shared, word};
use super::history::until_all_have_it;

fn whats(records: &[Value]) -> Vec<String> {
    records.iter().map(|record| word(record, "what")).collect()
}

#[test]
fn the_history_tells_what_became_of_every_seat() {
    let cluster = shared();
    cluster.license("told", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "told", "--ttl", "10m", "--holder", "night build"]);
    caller.refused(3, &["acquire", "told", "--holder", "day build"]);
    caller.give_back(&seat);
    let again = caller.json(&["acquire", "told", "--holder", "day build"]);
    caller.json(&["seats", "revoke", &word(&again, "token")]);
    caller.give_back(&again);

    let records = caller.told(&["--product", "told"]);
    let expected =
        ["licensed", "granted", "denied", "released", "granted", "revoke-ordered", "revoked"];
    assert_eq!(whats(&records), expected);
    assert_eq!(records[1]["seat"], seat["token"]);
    assert_eq!(word(&records[1], "holder"), "night build");
    let denied = &records[2];
    assert_eq!(word(denied, "reason"), "no_seat_free");
    assert_eq!(word(denied, "served_later"), "same-pool");
    assert_eq!(word(denied, "later_product"), "told");
    assert!(word(&records[5], "by").contains("developer"), "{}", records[5]);

    let nights = caller.told(&["--product", "told", "--holder", "night build"]);
    assert_eq!(whats(&nights), ["granted", "released"]);
    assert_eq!(caller.told(&["--product", "told", "--from", "2099-01-01"]).len(), 0);
    assert_eq!(caller.told(&["--product", "told", "--to", "2001-01-01"]).len(), 0);
    assert_eq!(caller.told(&["--product", "told", "--from", "2001-01-01"]).len(), 7);

    let page = caller.page(&["usage", "--product", "told"]);
    assert!(page.contains("night build") && page.contains("served from told"), "{page}");
    let csv = caller.page(&["usage", "--product", "told", "--csv"]);
    assert_eq!(csv.lines().count(), 8, "{csv}");
    assert!(csv.starts_with("record,log_id,time_ms,date,what,seat,product,"), "{csv}");
    let columns = csv.lines().map(|line| line.split(',').count()).max();
    assert_eq!(columns, Some(20), "{csv}");
    let summed = caller.json(&["usage", "--product", "told", "--summary"]);
    let used = &summed["products"][0];
    assert_eq!(
        (&used["granted"], &used["peak"], &used["revoked"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert_eq!((&used["denied"], &used["served_later"]), (&0.into(), &1.into()), "{used}");
    // No lease id anywhere.
    for lease in [word(&seat, "lease"), word(&again, "lease")] {
        assert!(!page.contains(&lease) && !csv.contains(&lease));
    }
}

/// A denial in one pool, made good by another product's: it cost nobody anything.
#[test]
fn a_denial_served_from_another_pool_is_told_apart() {
    let cluster = shared();
    cluster.license("dear", 1);
    cluster.license("cheap", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "dear", "--holder", "somebody"]);
    caller.refused(3, &["acquire", "dear", "--holder", "else"]);
    let other = caller.json(&["acquire", "cheap", "--holder", "else"]);
    let denied = caller.told(&["--product", "dear", "--holder", "else"]);
    assert_eq!(word(&denied[0], "served_later"), "another-pool");
    assert_eq!(word(&denied[0], "later_product"), "cheap");
    caller.give_back(&seat);
    caller.give_back(&other);
}

/// Flips one bit of a file.
fn flip(from: &Path, to: &Path, place: usize) {
    let mut bytes = std::fs::read(from).expect("the export");
    bytes[place] ^= 1;
    std::fs::write(to, bytes).expect("the altered export");
}

#[test]
fn the_history_is_verified_on_the_cluster_and_in_a_file() {
    let cluster = Cluster::alone();
    cluster.license("audited", 2);
    let caller = cluster.caller();
    for _ in 0..5 {
        let seat = caller.json(&["acquire", "audited"]);
        caller.give_back(&seat);
    }
    let held = caller.json(&["acquire", "audited"]);
    let verified = caller.json(&["usage", "verify", "--every-node"]);
    assert_eq!(verified["holds"], true);
    assert_eq!((&verified["granted"], &verified["live"]), (&6.into(), &1.into()), "{verified}");
    assert_eq!(verified["peaks"]["audited"]["seats"], 1);
    assert_eq!(verified["peaks"]["audited"]["licensed"], 2);
    let nodes = verified["nodes"].as_array().expect("nodes");
    assert_eq!(nodes.len(), 3);
    let whole = |node: &Value| node["same"] == true && node["read"] == true;
    assert!(nodes.iter().all(whole), "{verified}");

    let file = caller.dir().join("history.trine");
    let name = file.to_string_lossy().into_owned();
    let exported = caller.json(&["usage", "export", &name]);
    caller.refused(2, &["usage", "export", &name]);
    let inspected = caller.json(&["vendor", "inspect", &name]);
    assert_eq!(inspected["contents"]["kind"], "usage-export");
    assert!(caller.page(&["vendor", "inspect", &name]).contains("trine usage verify --file"));
    let offline = caller.json(&["usage", "verify", "--file", &name]);
    assert_eq!(offline["head"], exported["head"]);
    assert_eq!(whats(&caller.told(&["--file", &name, "--product", "audited"])).len(), 12);

    let altered = caller.dir().join("altered.trine");
    let length = std::fs::metadata(&file).expect("the export").len() as usize;
    for place in [length - 5, length / 2, length * 3 / 4] {
        flip(&file, &altered, place);
        let refusal = caller.refused(9, &["usage", "verify", "--file", &altered.to_string_lossy()]);
        assert!(["HISTORY_UNSOUND", "ALTERED"].contains(&refusal.reason.as_str()), "{refusal:?}");
        // Nor is it shown as if it did.
        caller.refused(9, &["usage", "--file", &altered.to_string_lossy(), "--last", "1"]);
    }
    let refusal = caller.refused(2, &["usage", "verify", "--file", "context.toml"]);
    refusal.says(&["trine usage export"]);
    caller.give_back(&held);
}

/// A reading that began at one leader goes on at the next, and a node that was
/// away has the same history when it is back.
#[test]
fn the_history_survives_the_leader() {
    let cluster = Cluster::alone();
    cluster.license("lasting", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "lasting", "--ttl", "10m"]);
    let before = caller.told(&["--product", "lasting"]);
    let leader = cluster.leader();
    let victim = trine_cli::devcluster::Server::NODES[usize::from(leader) - 1];
    cluster.block_on(cluster.servers().kill(victim)).expect("killed");
    eventually("another leads", || (cluster.leader() != leader).then_some(()));
    assert_eq!(caller.told(&["--product", "lasting"]), before);
    eventually("the seat is given back", || {
        let (lease, token) = (word(&seat, "lease"), word(&seat, "token"));
        let output = caller.run(&["release", &lease, "--token", &token]);
        output.status.success().then_some(())
    });
    cluster.block_on(async { cluster.servers().start(victim) }).expect("started");
    until_all_have_it(caller);
}

#[test]
fn what_is_kept_is_set_by_an_operator_and_is_in_the_history() {
    let cluster = shared();
    let caller = cluster.caller();
    let kept = caller.json(&["usage", "retain", "--days", "500"]);
    assert_eq!((&kept["days"], &kept["mebibytes"]), (&500.into(), &4096.into()));
    caller.refused(2, &["usage", "retain", "--days", "0"]).says(&["1 to 3650 days"]);
    caller.refused(2, &["usage", "retain", "--mebibytes", "0"]).says(&["1 to 65536 MiB"]);
    let backwards = ["usage", "--from", "2027-02-01", "--to", "2027-01-01"];
    caller.refused(2, &backwards).says(&["later than --to"]);
    let records = caller.told(&[]);
    let set = records.iter().rev().find(|record| record["what"] == "retention");
    assert!(word(set.expect("it is told"), "reason").contains("500 days"));
}
