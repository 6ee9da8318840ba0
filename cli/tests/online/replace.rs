//! A node that is lost, and a new one in its place.

use std::time::Duration;

use serde_json::Value;
use trine_cli::devcluster::{Server, health};

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, word};
use super::findings::{examined, until_found};
use super::newcomer::{Newcomer, fill};

pub(crate) fn shares(caller: &Caller, license: &str) -> Vec<(u64, String)> {
    let shown = caller.json(&["license", "show", license])["licenses"][0].clone();
    let shares = shown["shares"].as_array().expect("three shares").iter();
    shares.map(|share| (share["node"].as_u64().expect("a node"), word(share, "state"))).collect()
}

pub(crate) fn until_live(caller: &Caller, license: &str, nodes: [u64; 3]) {
    let wanted: Vec<(u64, String)> = nodes.map(|node| (node, "live".to_owned())).into();
    eventually("three shares are live", || (shares(caller, license) == wanted).then_some(()));
}

pub(crate) fn members(status: &Value) -> Vec<u64> {
    let nodes = status["nodes"].as_array().expect("nodes").iter();
    nodes.filter_map(|node| node["id"].as_u64()).collect()
}

/// Until the leader has heard everybody: of a young cluster it has not.
pub(crate) fn until_heard(caller: &Caller) {
    eventually("all are heard", || {
        let output = caller.run(&["--json", "cluster", "status"]);
        let status: Value = serde_json::from_slice(&output.stdout).ok()?;
        status["nodes"].as_array()?.iter().all(|node| node["alive"] == true).then_some(())
    });
}

/// The whole story: the pool is full and its holders renew all the while; a node
/// dies; a new one takes its place, the command line cut off half way and run
/// again; the share comes back by repair, and later by the vendor's next issue;
/// the old node is sent away.
#[test]
fn a_dead_node_is_replaced_while_the_pool_is_full() {
    let cluster = Cluster::alone();
    let license = cluster.license("press", 3).license;
    let caller = cluster.caller();
    let holders = fill(&cluster, Duration::from_secs(10));
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");

    let old = cluster.leader();
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(old))).expect("it is gone");
    }
    let (gone, stay) = (u64::from(old), (1..=3).filter(|node| *node != u64::from(old)));
    let now: Vec<u64> = stay.chain([4]).collect();
    let leaderless = || caller.run(&["--json", "cluster", "status"]).status.success();
    eventually("another leads", || leaderless().then_some(()));
    let newcomer = Newcomer::start(&cluster, 4, old);
    let (old_word, at) = (gone.to_string(), newcomer.peer.clone());
    let replace = ["cluster", "replace", &old_word, "4"];

    // It must be said where the new node is, and the id must be new.
    caller.refused(3, &replace).says(&["--at"]);
    let survivor = now[0].to_string();
    caller.refused(3, &["cluster", "replace", &old_word, &survivor, "--at", &at]).says(&["id"]);

    // Cut off after the first step, and run again without the address.
    let mut cut_off = caller.start(&[&replace[..], &["--at", &at]].concat());
    cut_off.until_said("begun");
    drop(cut_off);
    let replaced = caller.json(&replace);
    assert_eq!(replaced["stage"], "done", "{replaced}");
    assert_eq!(replaced["without_share"][0], license.as_str(), "{replaced}");
    let status = caller.json(&["cluster", "status"]);
    assert_eq!(members(&status), now, "{status}");
    // Done twice is done, and says what is left to people.
    let page = caller.page(&replace);
    let share = format!("trine license withdraw-share {license} --node {old}");
    let disk = format!("destroy the disk of node-{old}");
    let certificate = format!("trine pki revoke node-{old}");
    for words in ["trine license repair", &share, "into the configurations", &disk, &certificate] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
    assert_eq!(caller.json(&[&replace[..], &["--status"]].concat())["stage"], "done");

    // The license serves with two shares, to those who hold seats and to nobody else.
    assert!(shares(caller, &license).contains(&(4, "without a share".to_owned())));
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");

    // The old node comes back and is sent away, with what to do: as it is, and
    // when its certificate was revoked as well.
    is_sent_away(&cluster, old);
    let (name, pki) = (format!("node-{old}"), cluster.servers().layout().pki());
    let pki = pki.to_str().expect("a path in UTF-8").to_owned();
    caller.json(&["pki", "revoke", &name, "--dir", &pki, "--yes"]);
    is_sent_away(&cluster, old);

    // The third share, made again by the other two.
    let repaired = caller.json(&["license", "repair", &license]);
    assert_eq!(repaired["nodes"][0], 4, "{repaired}");
    let three = [now[0], now[1], now[2]];
    until_live(caller, &license, three);
    // It is as good as any: one of the old two may go.
    let other = u8::try_from(now[1]).expect("1 to 3");
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(other))).expect("it is gone");
    }
    eventually("two shares serve", || {
        let shown = caller.run(&["--json", "license", "show", &license]);
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        let license = &shown["licenses"][0];
        let silent = license["shares"].as_array()?.iter().any(|share| share["state"] == "silent");
        (silent && license["serving"] == true).then_some(())
    });
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");
    {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.start(Server::Node(other)) }).expect("it starts");
    }
    until_live(caller, &license, three);

    // And the vendor's next issue is split for the three there are now.
    {
        let servers = cluster.servers();
        cluster.block_on(servers.ensure_license("press", Some(4), 4)).expect("an update");
    }
    until_live(caller, &license, three);
    caller.json(&["acquire", "press"]);
    holders.end(&cluster);
}

/// A node that node-4 replaced is started again: it ends with what to do.
fn is_sent_away(cluster: &Cluster, old: u8) {
    let mut servers = cluster.servers();
    cluster.block_on(async { servers.start(Server::Node(old)) }).expect("it starts");
    drop(servers);
    let death = eventually("the old node ends", || {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.deaths().pop() })
    });
    let said = death.last_words;
    assert_eq!((death.server, death.status.code()), (Server::Node(old), Some(6)), "{said}");
    assert!(said.contains("was replaced by node-4") && said.contains("wipe"), "{said}");
}

/// A living node, the leader even, is replaced, after one try was given up.
#[test]
fn a_replacement_is_given_up_and_another_made() {
    let cluster = Cluster::alone();
    let license = cluster.license("mill", 2).license;
    let caller = cluster.caller();
    let old = cluster.leader();
    let old_word = old.to_string();
    let first = ["cluster", "replace", &old_word, "4"];
    // Nobody is there, so it is refused, and the leader leads on.
    until_heard(caller);
    let nobody = caller.run(&[&first[..], &["--at", "127.0.0.1:1"]].concat());
    let said = String::from_utf8_lossy(&nobody.stderr);
    assert_eq!(nobody.status.code(), Some(3), "{said}");
    assert!(said.contains("node-4 at 127.0.0.1:1 did not show its container"), "{said}");
    assert!(!said.contains("handing-over") && !said.contains("go on"), "{said}");

    let refused = Newcomer::start(&cluster, 4, old);
    let mut cut_off = caller.start(&[&first[..], &["--at", &refused.peer]].concat());
    // The new node is sent the log already.
    cut_off.until_said("joining");
    drop(cut_off);
    let undone = caller.json(&[&first[..], &["--undo"]].concat());
    assert_eq!(undone["stage"], "undone", "{undone}");
    assert_eq!(members(&caller.json(&["cluster", "status"])), [1, 2, 3]);
    // Its id is spent.
    caller.refused(3, &[&first[..], &["--at", &refused.peer]].concat()).says(&["was used before"]);
    drop(refused);

    let newcomer = Newcomer::start(&cluster, 5, old);
    let second = ["--json", "cluster", "replace", &old_word, "5", "--at", &newcomer.peer];
    let output = caller.run(&[&second[..], &["--repair-shares"]].concat());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.is_empty(), "a script that reads errors as JSON would stumble over {said}");
    let replaced: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(replaced["without_share"].as_array().map(Vec::len), Some(0), "{replaced}");
    let now: Vec<u64> = (1..=3).filter(|node| *node != u64::from(old)).chain([5]).collect();
    assert_eq!(members(&caller.json(&["cluster", "status"])), now);
    until_live(caller, &license, [now[0], now[1], now[2]]);
    // The old node still ran: it is told, and ends.
    eventually("the old node ends", || (!cluster.servers().deaths().is_empty()).then_some(()));
    caller.json(&["acquire", "mill"]);
    let late = ["cluster", "replace", &old_word, "5", "--undo"];
    let too_late = caller.refused(3, &late);
    too_late.says(&["too late to undo: node-5 has the place of"]);
    assert!(!too_late.text.contains("trine cluster replace"), "{}", too_late.text);
}

/// The new node is stopped on its way in, and the operator is told so, not that
/// it is behind. It comes back and catches up; then it is given up after all.
#[test]
fn a_new_node_that_is_stopped_is_said_to_be_and_is_given_up_after_it_caught_up() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let mut newcomer = Newcomer::start(&cluster, 4, 3);
    until_heard(caller);
    let replace = ["cluster", "replace", "3", "4"];
    let first = |words: &[&'static str]| [words, &["--at"]].concat();
    let swapped = first(&["cluster", "replace", "4", "3"]);
    let hint = "the member that goes comes first: `trine cluster replace 3 4`";
    caller.refused(3, &[&swapped[..], &[&newcomer.peer]].concat()).says(&[hint]);

    let mut driving = caller.start(&[&first(&replace)[..], &[&newcomer.peer]].concat());
    driving.until_said("begun");
    newcomer.kill();
    driving.until_said("node-4 does not answer (is it started?)");
    drop(driving);
    let stands = caller.json(&[&replace[..], &["--status"]].concat());
    assert_eq!(stands["stage"], "catching-up", "{stands}");
    assert!(word(&stands, "detail").contains("does not answer"), "{stands}");
    newcomer.run();
    let applied = |health: u16| {
        let page = cluster.block_on(health::get(health, "/metrics"))?.body;
        let figure = page.lines().find_map(|line| line.strip_prefix("trine_raft_applied_index "));
        figure?.parse::<u64>().ok()
    };
    let (_, port) = newcomer.health.rsplit_once(':').expect("a port");
    let (port, of_a_member) =
        (port.parse().expect("a port"), cluster.servers().ports().health(Server::Node(1)));
    let there = eventually("a member's figures", || applied(of_a_member));
    eventually("it catches up", || (applied(port)? >= there).then_some(()));
    // Whoever did not begin it sees it too.
    let pending = caller.json(&["cluster", "status"])["cluster"]["replacement"].clone();
    assert_eq!((&pending["old"], &pending["new"]), (&3.into(), &4.into()), "{pending}");
    assert!(caller.page(&["cluster", "status"]).contains("A replacement is under way: node-4"));
    let (_, found) = examined(caller, &[]);
    assert!(found.contains(&("REPLACEMENT_UNDER_WAY".into(), "cluster".into())), "{found:?}");

    let undone = caller.json(&[&replace[..], &["--undo"]].concat());
    assert_eq!(undone["stage"], "undone", "{undone}");
    assert_eq!(members(&caller.json(&["cluster", "status"])), [1, 2, 3]);
    caller.refused(3, &[&first(&replace)[..], &[&newcomer.peer]].concat()).says(&["used before"]);
    // Node 3 is a member as before, and nobody misses the other.
    until_found(caller, &[], 0, &[]);
}

/// The leader dies between two steps. Without it one node would be left, so the
/// replacement waits for it, and goes on when it is back.
#[test]
fn a_replacement_goes_on_after_its_leader_died() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let leader = cluster.leader();
    let old = leader % 3 + 1;
    let old_word = old.to_string();
    let newcomer = Newcomer::start(&cluster, 4, old);
    until_heard(caller);
    let replace = ["cluster", "replace", &old_word, "4"];
    let mut cut_off = caller.start(&[&replace[..], &["--at", &newcomer.peer]].concat());
    cut_off.until_said("begun");
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(leader))).expect("it is gone");
    }
    drop(cut_off);
    caller.refused(3, &replace).says(&["silent", &format!("node-{leader}")]);
    let stands = caller.json(&[&replace[..], &["--status"]].concat());
    assert_eq!(stands["stage"], "waiting", "{stands}");
    {
        let mut servers = cluster.servers();
        cluster.block_on(async { servers.start(Server::Node(leader)) }).expect("it starts");
    }
    let replaced = eventually("it goes on", || {
        let output = caller.run(&[&["--json"], &replace[..]].concat());
        output.status.success().then(|| serde_json::from_slice::<Value>(&output.stdout).ok())?
    });
    assert_eq!(replaced["stage"], "done", "{replaced}");
    let now: Vec<u64> = (1..=3).filter(|node| *node != u64::from(old)).chain([4]).collect();
    assert_eq!(members(&caller.json(&["cluster", "status"])), now);
}
