//! The balancer and a keepalived that is played: what each tells the other.

use std::io;
use std::sync::{Arc, Mutex};

use balancer::keepalived::AWAY;
use balancer::pair::Pair;
use tokio::io::{AsyncWriteExt, DuplexStream};

use super::stage::{Door, FakeNode, eventually};
use super::{A_WHILE, all_say, three};

const PAIR: &str = r#"
    notice_ms = 60000
    [keepalived]
    virtual_ip = "10.0.0.100/24"
    interface = "eth0"
    router = 51
    address = "10.0.0.11"
    peer = "10.0.0.12"
    priority = 150
"#;

struct Keepalived {
    fifo: DuplexStream,
    told: Arc<Mutex<Vec<i32>>>,
}

impl Keepalived {
    async fn beside(nodes: &[FakeNode]) -> (Self, Door) {
        let (fifo, notices) = tokio::io::duplex(1_024);
        let told = Arc::new(Mutex::new(Vec::new()));
        let track = told.clone();
        let tell = move |weight| {
            track.lock().expect("lock").push(weight);
            io::Result::Ok(())
        };
        let pair = Pair { notices: Box::new(notices), tell: Box::new(tell) };
        let door = Door::open_with(nodes, PAIR, Some(pair)).await;
        (Self { fifo, told }, door)
    }

    async fn says(&mut self, line: &str) {
        self.fifo.write_all(line.as_bytes()).await.expect("an open FIFO");
    }

    async fn is_told(&self, weight: i32) {
        eventually(async || self.told.lock().expect("lock").last() == Some(&weight)).await;
    }
}

#[tokio::test]
async fn keepalived_is_told_how_many_nodes_are_seen() {
    let nodes = three().await;
    let (keepalived, _door) = Keepalived::beside(&nodes).await;
    keepalived.is_told(-60).await;
    all_say(&nodes, 7, Some(1), true);
    keepalived.is_told(0).await;
    nodes[2].answers_raw("no JSON");
    keepalived.is_told(-20).await;
}

#[tokio::test]
async fn a_balancer_says_where_keepalived_put_it() {
    let nodes = three().await;
    all_say(&nodes, 7, Some(1), true);
    let (mut keepalived, door) = Keepalived::beside(&nodes).await;
    assert!(door.get("/status").await.1.contains(r#""standing":"unknown""#));
    // A line may come in two pieces.
    keepalived.says("INSTANCE \"trine\" MAS").await;
    tokio::time::sleep(A_WHILE).await;
    keepalived.says("TER 150\n").await;
    eventually(async || door.metric(r#"vrrp{standing="master"}"#).await == 1.0).await;
    assert!(door.get("/status").await.1.contains(r#""standing":"master""#));
    keepalived.is_told(15).await;
    keepalived.says("nonsense\nINSTANCE \"trine\" BACKUP 150\n").await;
    eventually(async || door.metric(r#"vrrp{standing="master"}"#).await == 0.0).await;
    keepalived.is_told(0).await;
}

#[tokio::test]
async fn a_balancer_without_a_fifo_does_not_know_where_it_stands() {
    let nodes = three().await;
    all_say(&nodes, 7, Some(1), true);
    let (mut keepalived, door) = Keepalived::beside(&nodes).await;
    keepalived.says("INSTANCE \"trine\" MASTER 150\n").await;
    eventually(async || door.metric(r#"vrrp{standing="master"}"#).await == 1.0).await;
    keepalived.fifo.shutdown().await.expect("closed");
    eventually(async || door.metric(r#"vrrp{standing="unknown"}"#).await == 1.0).await;
    // It goes on serving and telling.
    keepalived.is_told(0).await;
    assert_eq!(door.who_answers().await, 1);
}

/// The virtual IP moves away while the door is still open.
#[tokio::test]
async fn a_leaving_balancer_says_so_before_it_closes_the_door() {
    let nodes = three().await;
    all_say(&nodes, 7, Some(1), true);
    let (keepalived, mut door) = Keepalived::beside(&nodes).await;
    keepalived.is_told(0).await;
    door.tell_to_leave();
    keepalived.is_told(AWAY).await;
    assert_eq!(door.who_answers().await, 1);
}

/// keepalived may be restarted, and reads the file only when it changes.
#[tokio::test]
async fn the_weight_is_told_again_and_again() {
    let nodes = three().await;
    let (keepalived, _door) = Keepalived::beside(&nodes).await;
    keepalived.is_told(-60).await;
    let count = || keepalived.told.lock().expect("lock").len();
    let before = count();
    eventually(async || count() > before + 1).await;
}
