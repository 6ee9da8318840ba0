//! A replacement that is cut off at every step, and goes on.

use std::fs;
use std::time::Duration;

use serde_json::Value;
use trine_cli::devcluster::Server;

use super::caller::{Caller, eventually, text};
use super::cluster::{Cluster, issued_anew, word};
use super::newcomer::{Newcomer, fill};
use super::replace::{members, shares, until_heard, until_live};

fn status(caller: &Caller) -> Option<Value> {
    let output = caller.run(&["--json", "cluster", "status"]);
    serde_json::from_slice(&output.stdout).ok()
}

/// Kills the leader and starts it again: an outage, because one node is dead already.
fn leader_dies_and_comes_back(cluster: &Cluster) {
    let leader = Server::Node(cluster.leader());
    let mut servers = cluster.servers();
    cluster.block_on(async {
        servers.kill(leader).await.expect("it is gone");
        servers.start(leader).expect("it starts");
    });
}

/// Node 3 is dead and the pool full. The command line is killed at every step,
/// and with it the leader, the new node, and the leader again. From the vote on
/// nobody asks any more. Then the lost share comes from the vendor, because the
/// old disk is in others' hands; and the balancers learn where the new node is.
#[test]
fn a_replacement_cut_off_at_every_step_goes_on_and_ends_unasked() {
    let cluster = Cluster::alone();
    let license = cluster.license("press", 3).license;
    let caller = cluster.caller();
    // Longer than the outages of this story.
    let holders = fill(&cluster, Duration::from_secs(60));
    until_heard(caller);
    {
        let mut servers = cluster.servers();
        cluster.block_on(servers.kill(Server::Node(3))).expect("it is gone");
    }
    cluster.leader();
    let mut newcomer = Newcomer::start(&cluster, 4, 3);
    let replace = ["cluster", "replace", "3", "4"];

    let mut cut_off = caller.start(&[&replace[..], &["--at", &newcomer.peer]].concat());
    cut_off.until_said("begun");
    drop(cut_off);
    leader_dies_and_comes_back(&cluster);

    let mut cut_off = until_started(caller, &replace);
    cut_off.until_said("joining");
    drop(cut_off);
    // A node that died on its way in gets no vote before it is back.
    newcomer.kill();
    let mut waiting = caller.start(&replace);
    waiting.until_said("catching-up");
    leader_dies_and_comes_back(&cluster);
    newcomer.run();
    waiting.until_said("switching");
    drop(waiting);

    // Nobody asks any more, and the leader that was asked dies too.
    leader_dies_and_comes_back(&cluster);
    eventually("it ends unasked", || {
        status(caller).filter(|status| members(status) == [1, 2, 4]).map(drop)
    });
    holders.still_hold();
    assert_eq!(caller.json(&replace)["stage"], "done");

    // The share on the old disk is not to be made again by anybody.
    caller.json(&["license", "withdraw-share", &license, "--node", "3", "--yes"]);
    caller.refused(3, &["license", "repair", &license]).says(&["withdrawn", "license request"]);
    assert!(shares(caller, &license).contains(&(4, "without a share".to_owned())));
    let shown = caller.json(&["license", "show", &license])["licenses"][0]["withdrawn"].clone();
    assert_eq!(shown[0]["node"], 3, "{shown}");
    for words in [&["cluster", "status"][..], &["license", "list"], &["license", "show", "press"]] {
        let page = caller.page(words);
        assert!(page.contains("the share of node-3 ("), "{page}");
        assert!(page.contains("was withdrawn"), "{page}");
    }
    // Nor does the new node need one to lead: the two others sign.
    let lead = ["cluster", "transfer-leader", "--to", "4"];
    eventually("the new node leads", || caller.run(&lead).status.success().then_some(()));
    eventually("the license serves under it", || {
        let shown = caller.run(&["--json", "license", "show", &license]);
        let shown: Value = serde_json::from_slice(&shown.stdout).ok()?;
        (shown["licenses"][0]["serving"] == true).then_some(())
    });
    assert_eq!(caller.refused(3, &["acquire", "press"]).reason, "NO_SEAT_FREE");
    let package = issued_anew(&cluster, "press", &license);
    caller.json(&["license", "install", text(&package)]);
    until_live(caller, &license, [1, 2, 4]);

    balancers_learn(&cluster, &newcomer);
    holders.end(&cluster);
    caller.json(&["acquire", "press"]);
}

/// A replacement is cut off when the new node is sent the log and has no vote.
/// The leader is stopped for work on its machine: a voter leads, not the new node.
#[test]
fn a_leader_that_drains_hands_over_to_a_voter_though_a_newcomer_has_caught_up() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let leader = cluster.leader();
    let old = leader % 3 + 1;
    let newcomer = Newcomer::start(&cluster, 4, old);
    eventually("all are heard", || {
        let status = status(caller)?;
        status["nodes"].as_array()?.iter().all(|node| node["alive"] == true).then_some(())
    });
    let old = old.to_string();
    let mut cut_off = caller.start(&["cluster", "replace", &old, "4", "--at", &newcomer.peer]);
    cut_off.until_said("joining");
    drop(cut_off);
    let stands = caller.json(&["cluster", "replace", &old, "4", "--status"]);
    assert!(!["none", "done"].contains(&&*word(&stands, "stage")), "{stands}");
    let refused = caller.refused(2, &["cluster", "transfer-leader", "--to", "4"]);
    refused.says(&["node-4 is not a member"]);
    // A second of heartbeats: it holds all there is.
    std::thread::sleep(Duration::from_secs(1));

    cluster.stop(Server::Node(leader));
    let next = cluster.leader();
    assert!(next != leader && next <= 3, "node-{next} leads");
    let log = cluster.servers().layout().log(Server::Node(leader));
    let said = fs::read_to_string(log).expect("its log");
    let asked = said.contains("handing leadership over");
    assert!(asked && !said.contains("handing leadership over to=4"), "{said}");
}

/// The command, once there is a leader to take its steps.
fn until_started(caller: &Caller, words: &[&str]) -> super::caller::Running {
    eventually("somebody leads", || {
        status(caller).filter(|status| status["cluster"]["leader"].is_u64())
    });
    caller.start(words)
}

/// Runbook: the new node for the old one in both balancers, one after the other.
fn balancers_learn(cluster: &Cluster, newcomer: &Newcomer) {
    for balancer in Server::BALANCERS {
        let mut servers = cluster.servers();
        let config = servers.layout().config(balancer);
        let written = fs::read_to_string(&config).expect("its configuration");
        let old = Server::Node(3);
        let (client, health) = (servers.ports().client(old), servers.ports().health(old));
        let told = written
            .replace("id = 3\n", "id = 4\n")
            .replace(&format!("127.0.0.1:{client}"), &newcomer.client)
            .replace(&format!("127.0.0.1:{health}"), &newcomer.health);
        assert_ne!(told, written);
        fs::write(&config, told).expect("its configuration");
        let port = servers.ports().health(balancer);
        cluster.block_on(async {
            servers.stop(balancer).await.expect("it drains");
            servers.start(balancer).expect("it starts");
        });
        drop(servers);
        eventually("it sees the new node", || {
            let answer = cluster.block_on(trine_cli::devcluster::health::get(port, "/status"))?;
            let status: Value = serde_json::from_str(&answer.body).ok()?;
            let nodes = status["nodes"].as_array()?;
            nodes.iter().find(|node| node["id"] == 4 && !node["report"].is_null()).map(drop)
        });
    }
}
