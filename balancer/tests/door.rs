//! The balancer on loopback, in front of nodes that are played.

mod stage;

#[path = "door/pair.rs"]
mod pair;

use std::time::Duration;

use stage::{Door, FakeNode, eventually};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Longer than any step takes; what must *not* happen is watched for shorter.
const A_WHILE: Duration = Duration::from_millis(300);

async fn three() -> Vec<FakeNode> {
    vec![FakeNode::start(1).await, FakeNode::start(2).await, FakeNode::start(3).await]
}

fn all_say(nodes: &[FakeNode], term: u64, leader: Option<u64>, ready: bool) {
    nodes.iter().for_each(|node| node.says(term, leader, ready));
}

/// Three nodes led by `leader` in term 7, and a balancer that knows it.
async fn led_by(leader: u64, settings: &str) -> (Vec<FakeNode>, Door) {
    let nodes = three().await;
    all_say(&nodes, 7, Some(leader), true);
    let door = Door::open(&nodes, settings).await;
    door.sees_leader(leader).await;
    (nodes, door)
}

#[tokio::test]
async fn a_connection_goes_to_the_leader() {
    let (_nodes, door) = led_by(2, "").await;
    for _ in 0..4 {
        assert_eq!(door.who_answers().await, 2);
    }
}

#[tokio::test]
async fn the_header_tells_the_node_who_called() {
    let (_nodes, door) = led_by(1, "").await;
    let mut client = door.knock().await;
    let met = client.meet().await.expect("an answer");
    assert_eq!(met.caller, client.address());
    assert_eq!(met.called, door.address());
}

/// Loopback is all of 127/8 on Linux, so a machine has many addresses.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn nodes_are_reached_from_the_configured_address() {
    let (_nodes, door) = led_by(1, "source = \"127.0.0.2\"").await;
    let met = door.knock().await.meet().await.expect("an answer");
    assert_eq!(met.carrier.ip().to_string(), "127.0.0.2");
    assert_eq!(met.caller.ip().to_string(), "127.0.0.1");
}

#[tokio::test]
async fn a_stale_leader_with_a_lower_term_is_not_believed() {
    let (nodes, door) = led_by(2, "").await;
    nodes[2].says(8, Some(3), true);
    door.sees_leader(3).await;
    // Node 2 has not heard of it and keeps claiming.
    assert_eq!(door.who_answers().await, 3);
}

#[tokio::test]
async fn a_connection_stays_when_the_leader_moves() {
    let (nodes, door) = led_by(2, "").await;
    let mut client = door.knock().await;
    assert_eq!(client.meet().await.expect("an answer").node, 2);
    all_say(&nodes, 8, Some(1), true);
    door.sees_leader(1).await;
    assert_eq!(client.echo(b"still here").await.expect("an echo"), b"still here");
    assert_eq!(door.who_answers().await, 1);
}

#[tokio::test]
async fn with_no_leader_somebody_still_answers() {
    let nodes = three().await;
    all_say(&nodes, 7, None, false);
    let door = Door::open(&nodes, "").await;
    assert!((1..=3).contains(&door.who_answers().await));
}

#[tokio::test]
async fn a_ready_follower_answers_before_one_that_is_not() {
    let nodes = three().await;
    all_say(&nodes, 7, None, false);
    nodes[2].says(7, None, true);
    let door = Door::open(&nodes, "").await;
    eventually(async || door.who_answers().await == 3 && door.who_answers().await == 3).await;
}

#[tokio::test]
async fn when_connecting_fails_the_next_node_is_tried() {
    let (mut nodes, door) = led_by(2, "").await;
    nodes[1].close_client_listener().await;
    let other = door.who_answers().await;
    assert_ne!(other, 2);
    assert!(door.metric(r#"connect_failures_total{node="2"}"#).await >= 1.0);
}

/// The machine is gone without a word: its connections stay open on this side.
#[tokio::test]
async fn a_dead_leaders_connections_are_cut() {
    let (nodes, door) = led_by(2, "").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    nodes[1].falls_silent();
    assert!(client.ends().await);
    assert_ne!(door.who_answers().await, 2);
    eventually(async || door.metric(r#"connections_ended_total{how="node_down"}"#).await == 1.0)
        .await;
    assert_eq!(door.metric(r#"node_up{node="2"}"#).await, 0.0);
}

#[tokio::test]
async fn a_node_that_comes_back_is_used_again() {
    let (nodes, door) = led_by(2, "").await;
    nodes[1].falls_silent();
    eventually(async || door.metric(r#"node_up{node="2"}"#).await == 0.0).await;
    nodes[1].says(7, Some(2), true);
    eventually(async || door.metric(r#"node_up{node="2"}"#).await == 1.0).await;
    assert_eq!(door.who_answers().await, 2);
}

#[tokio::test]
async fn a_node_with_another_nodes_id_is_not_used_and_status_says_why() {
    let nodes = three().await;
    all_say(&nodes, 7, Some(1), true);
    nodes[1].answers_raw(r#"{"node":9,"role":"leader","term":99,"leader":9,"ready":true}"#);
    let door = Door::open(&nodes, "").await;
    door.sees_leader(1).await;
    eventually(async || door.get("/status").await.1.contains("it says it is node-9")).await;
}

#[tokio::test]
async fn closing_one_direction_leaves_the_other_open() {
    let (_nodes, door) = led_by(1, "").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    client.stream.write_all(b"last words").await.expect("written");
    client.stream.shutdown().await.expect("half closed");
    let mut rest = Vec::new();
    client.stream.read_to_end(&mut rest).await.expect("the rest");
    assert_eq!(rest, b"last words");
    eventually(async || door.metric("connections_open").await == 0.0).await;
}

#[tokio::test]
async fn many_bytes_arrive_whole_and_are_counted() {
    let (_nodes, door) = led_by(1, "").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    let sent: Vec<u8> = (0..1_000_003u32).map(|n| n as u8).collect();
    assert_eq!(client.echo(&sent).await.expect("an echo"), sent);
    let carried = door.metric(r#"carried_bytes_total{direction="to_node"}"#).await;
    assert_eq!(carried, sent.len() as f64);
}

#[tokio::test]
async fn one_connection_over_the_limit_is_closed_and_counted() {
    let (_nodes, door) = led_by(1, "[limits]\nconnections = 1").await;
    let mut first = door.knock().await;
    first.meet().await.expect("an answer");
    let mut second = door.knock().await;
    assert!(second.ends().await);
    assert_eq!(door.metric(r#"connections_refused_total{reason="limit"}"#).await, 1.0);
    drop(first);
    eventually(async || door.metric("connections_open").await == 0.0).await;
    assert_eq!(door.who_answers().await, 1);
}

#[tokio::test]
async fn a_connection_that_idles_too_long_is_cut() {
    let (_nodes, door) = led_by(1, "[limits]\nidle_ms = 1000").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    assert!(client.ends().await);
}

#[tokio::test]
async fn drain_lets_a_running_answer_finish() {
    let (_nodes, mut door) = led_by(1, "").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    assert_eq!(door.get("/readyz").await.0, 200);
    door.tell_to_leave();
    eventually(async || door.get("/readyz").await.0 == 503).await;
    assert_eq!(client.echo(b"the answer").await.expect("an echo"), b"the answer");
    drop(client);
    door.has_left().await;
}

#[tokio::test]
async fn drain_says_so_before_the_door_closes() {
    let (_nodes, mut door) = led_by(1, "notice_ms = 3000").await;
    door.tell_to_leave();
    eventually(async || door.get("/readyz").await.0 == 503).await;
    assert_eq!(door.who_answers().await, 1);
    assert_eq!(door.get("/livez").await.0, 200);
    door.has_left().await;
}

#[tokio::test]
async fn what_outlives_the_drain_period_is_cut() {
    let (_nodes, mut door) = led_by(1, "drain_ms = 200").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    door.tell_to_leave();
    door.has_left().await;
    assert!(client.ends().await);
}

#[tokio::test]
async fn a_balancer_without_any_node_says_it_is_not_ready() {
    let nodes = three().await;
    nodes.iter().for_each(FakeNode::falls_silent);
    let door = Door::open(&nodes, "").await;
    eventually(async || door.get("/status").await.1.contains(r#""state":"down""#)).await;
    let (status, why) = door.get("/readyz").await;
    assert_eq!(
        (status, why.as_str()),
        (503, "no node answers this balancer's probes: see /status\n")
    );
}

#[tokio::test]
async fn nothing_is_cut_while_all_is_well() {
    let (_nodes, door) = led_by(1, "").await;
    let mut client = door.knock().await;
    client.meet().await.expect("an answer");
    let ended = tokio::time::timeout(A_WHILE, client.ends()).await;
    assert!(ended.is_err(), "the connection ended by itself");
}
