//! A node that lost data, or exists twice, never takes part under its old
//! identity (S21), and those who only crashed always do.

use std::time::Duration;

use chaos_tests::world::{NODES, PRODUCT, Platter, Snapshots, Survives, World, play, play_with};
use node::raft::{Entry, EntryPayload, Vote, log_id};
use tokio::time::sleep;
use tonic::Request;
use tonic::metadata::MetadataValue;
use wire::peer::hello_reply::Verdict;
use wire::peer::{HelloRequest, NodePromise, Packed, PresentReply, PresentRequest, Promise};

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

async fn follower(world: &World) -> u64 {
    let leader = world.leader().await;
    NODES.into_iter().find(|node| *node != leader).expect("two follow")
}

fn third(one: u64, other: u64) -> u64 {
    NODES.into_iter().find(|node| *node != one && *node != other).expect("three nodes")
}

/// A call that shows this incarnation.
fn by<T>(incarnation: &[u8], message: T) -> Request<T> {
    let mut request = Request::new(message);
    let shown = MetadataValue::from_bytes(incarnation);
    request.metadata_mut().insert_bin("trine-incarnation-bin", shown);
    request
}

/// A message of Raft with one promise and nothing else in it.
fn promising(node: u64, promise: Promise) -> Packed {
    let promises = vec![NodePromise { node, promise: Some(promise) }];
    Packed { promises, ..Packed::default() }
}

/// What a node says of itself.
async fn presence(world: &World, node: u64) -> PresentReply {
    let mut line = world.peer(node, node % 3 + 1).await;
    line.present(PresentRequest {}).await.expect("the node is up").into_inner()
}

/// The cluster grants and takes back a few seats.
async fn work(world: &World) -> Result<(), Box<dyn std::error::Error>> {
    let app = world.application("line-1");
    for _ in 0..5 {
        app.acquire(PRODUCT).send().await?.release().await?;
    }
    Ok(())
}

#[track_caller]
fn says_lost(said: &str, node: u64) {
    for part in [&format!("node-{node} has lost data"), "remembers that it acknowledged", "replace"]
    {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// A follower is put back from a copy that is a few seats old. It is refused,
/// and the two others serve on.
#[test]
fn a_follower_from_an_older_copy_is_refused() {
    play(31, async |world| {
        world.serve_license(2).await;
        let node = follower(&world).await;
        let copy = world.copy_disk(node);
        work(&world).await?;
        world.crash(node, Survives::Everything).await;
        world.put_back(node, &copy);
        says_lost(&world.restart_until_it_stops(node).await, node);
        work(&world).await
    });
}

/// The same with nothing at all left of its data.
#[test]
fn an_emptied_node_is_refused() {
    play(32, async |world| {
        world.serve_license(2).await;
        let node = follower(&world).await;
        world.crash(node, Survives::Everything).await;
        world.put_back(node, &Platter::new());
        let said = world.restart_until_it_stops(node).await;
        says_lost(&said, node);
        assert!(said.contains("keeps nothing"), "{said}");
        work(&world).await
    });
}

/// A disk says that it synced and did not, and then the power goes. The node is
/// refused before it can tell its leader of a shorter log than it acknowledged.
#[test]
fn a_node_whose_disk_lied_is_refused_and_its_leader_serves_on() {
    play(39, async |world| {
        world.serve_license(2).await;
        let (leader, node) = (world.leader().await, follower(&world).await);
        world.set_syncs_lie(node);
        work(&world).await?;
        world.crash(node, Survives::Nothing).await;
        says_lost(&world.restart_until_it_stops(node).await, node);
        assert_eq!(world.leader().await, leader, "the leader never stopped");
        work(&world).await
    });
}

/// The leader is put back from a copy of its own term: its vote is there, and
/// only its followers know how far its own log had come.
#[test]
fn a_leader_from_a_copy_of_the_same_term_is_refused() {
    play(33, async |world| {
        world.serve_license(2).await;
        let leader = world.leader().await;
        let copy = world.copy_disk(leader);
        work(&world).await?;
        // Its followers hear with the next heartbeat what it has on its disk.
        sleep(Duration::from_millis(200)).await;
        world.crash(leader, Survives::Everything).await;
        world.put_back(leader, &copy);
        says_lost(&world.restart_until_it_stops(leader).await, leader);
        work(&world).await
    });
}

/// The leader that saw the follower's acknowledgements is dead, and the third
/// node has restarted since: it remembers all the same what the leader told it.
#[test]
fn a_third_node_stands_witness_after_a_restart() {
    play(34, async |world| {
        world.serve_license(2).await;
        let leader = world.leader().await;
        let node = follower(&world).await;
        let witness = third(leader, node);
        let copy = world.copy_disk(node);
        work(&world).await?;
        sleep(secs(3)).await;
        for node in NODES {
            world.crash(node, Survives::Nothing).await;
        }
        world.put_back(node, &copy);
        world.restart(witness).await;
        let said = world.restart_until_it_stops(node).await;
        says_lost(&said, node);
        assert!(said.contains(&format!("node-{witness} remembers")), "{said}");
        world.restart(leader).await;
        work(&world).await
    });
}

/// Alone after a power cut, a node takes no vote and no entry, whatever its disk
/// holds; it does say who stands there, so that the others can start too.
#[test]
fn a_node_that_nobody_has_answered_does_nothing() {
    play(40, async |world| {
        world.serve_license(2).await;
        let node = follower(&world).await;
        for node in NODES {
            world.crash(node, Survives::Nothing).await;
        }
        world.restart(node).await;
        sleep(secs(3)).await;
        let mut line = world.peer(node, third(node, node % 3 + 1)).await;
        let packed = Packed::default;
        for answer in [
            line.vote(packed()).await,
            line.pre_vote(packed()).await,
            line.append_entries(packed()).await,
        ] {
            let refused = answer.unwrap_err();
            assert!(refused.message().contains("waits for a peer"), "{refused}");
        }
        assert_eq!(line.present(PresentRequest {}).await?.into_inner().incarnation.len(), 16);
        for other in NODES.into_iter().filter(|other| *other != node) {
            world.restart(other).await;
        }
        work(&world).await
    });
}

/// Power cuts under load that lose everything not synced, on every node in turn
/// and on all at once: nobody is ever taken for one that lost data.
#[test]
fn who_only_lost_what_was_not_synced_is_always_welcome() {
    play(35, async |world| {
        world.serve_license(2).await;
        for node in NODES {
            world.set_sync_time(node, Duration::from_millis(5));
        }
        let app = world.application("line-1");
        let load = tokio::spawn(async move {
            loop {
                if let Ok(seat) = app.acquire(PRODUCT).send().await {
                    drop(seat.release().await);
                }
            }
        });
        for round in 0..9_usize {
            let victims = if round % 4 == 3 { &NODES[..] } else { &NODES[round % 3..][..1] };
            sleep(Duration::from_millis(600 + 70 * round as u64)).await;
            for node in victims {
                world.crash(*node, Survives::Changes(round % 5)).await;
            }
            for node in victims {
                world.restart(*node).await;
            }
            world.until_serving().await;
        }
        load.abort();
        world.until_same().await;
        Ok(())
    });
}

/// A clone of a running node finds that the others know the original: it stops
/// and says where that is, and the original notices nothing.
#[test]
fn a_clone_of_a_running_node_is_refused() {
    play(36, async |world| {
        world.serve_license(2).await;
        for node in [follower(&world).await, world.leader().await] {
            let (_, before) = (node, world.leader().await);
            let clone = world.start_clone(node).await;
            let said = world.until("the clone stops", async || clone.stopped()).await;
            let address = format!("another process runs as node-{node} at node-{node}:");
            assert!(said.contains(&address), "{said}");
            assert_eq!(world.leader().await, before, "the original goes on");
            work(&world).await?;
            world.until_same().await;
        }
        Ok(())
    });
}

/// A clone somewhere else waits while its original is down, because nobody
/// reaches it where the member should be; when the original is back it stops.
#[test]
fn a_clone_does_not_take_the_place_of_a_node_that_is_down() {
    play(37, async |world| {
        world.serve_license(2).await;
        let node = follower(&world).await;
        world.crash(node, Survives::Everything).await;
        let clone = world.start_clone(node).await;
        sleep(secs(5)).await;
        assert_eq!(clone.stopped(), None, "it waits");
        let waits = format!("node-{node} is not reached at node-{node}:");
        assert!(world.journal().iter().any(|line| line.contains(&waits)));
        world.restart(node).await;
        let said = world.until("the clone stops", async || clone.stopped()).await;
        assert!(said.contains("another process runs as"), "{said}");
        world.until_same().await;
        Ok(())
    });
}

/// Only the process that stands at the address is heard: an older one of the
/// same node is told that it runs elsewhere, and its messages go nowhere.
#[test]
fn an_older_process_is_not_heard_once_a_newer_one_is() {
    play(38, async |world| {
        world.serve_license(2).await;
        let (asked, node) = (world.leader().await, follower(&world).await);
        let mut line = world.peer(asked, node).await;
        let reply = line.hello(by(&[7; 16], HelloRequest::default())).await?.into_inner();
        assert_eq!(reply.verdict(), Verdict::RunsElsewhere);
        assert!(reply.detail.starts_with(&format!("node-{node}:")), "{}", reply.detail);

        let nameless = line.vote(Packed::default()).await.unwrap_err();
        assert_eq!(nameless.code(), tonic::Code::Unauthenticated, "{nameless}");

        // What stands there says so itself, and what the leader remembers of it.
        let there = line.present(PresentRequest {}).await?.into_inner();
        assert_eq!(there.incarnation.len(), 16);
        assert!(there.remembered.is_some_and(|remembered| remembered.term > 0));
        work(&world).await
    });
}

/// A machine is put back to a snapshot of its memory and disk: the same process
/// goes on, cleared and known to all, and has forgotten what it acknowledged
/// since. It stops before it votes or acknowledges, and the two others serve on.
#[test]
fn a_follower_rolled_back_while_it_runs_is_refused() {
    play(41, async |world| {
        world.serve_license(2).await;
        let node = follower(&world).await;
        let snapshot = world.take_live_snapshot(node).await;
        world.until_same().await;
        work(&world).await?;
        world.until_same().await;
        world.roll_back(snapshot).await;
        says_lost(&world.until_stopped(node).await, node);
        work(&world).await
    });
}

/// The same of a machine whose node led when the snapshot was taken: it goes on
/// leading a term that is over.
#[test]
fn a_leader_rolled_back_while_it_runs_is_refused() {
    play(42, async |world| {
        world.serve_license(2).await;
        let node = world.leader().await;
        let snapshot = world.take_live_snapshot(node).await;
        world.until_same().await;
        work(&world).await?;
        world.until_same().await;
        world.roll_back(snapshot).await;
        says_lost(&world.until_stopped(node).await, node);
        work(&world).await
    });
}

/// A leader that was put back within its own term would write other entries in
/// the place of those that its followers hold. What it promised is less than it
/// told them, so they do not even read what it sends; the leader that forgot
/// nothing is met again and goes on. What it forgot is more than what a message
/// that was overtaken on its way may lack.
#[test]
fn a_message_of_a_leader_that_forgot_is_not_read() {
    play(43, async |world| {
        world.serve_license(2).await;
        let (leader, node) = (world.leader().await, follower(&world).await);
        work(&world).await?;
        sleep(Duration::from_secs(3)).await;
        let PresentReply { incarnation, promise, .. } = presence(&world, leader).await;
        let whole = promise.expect("it has voted");
        let forgotten = Promise { held: whole.held.map(|held| held / 2), ..whole };
        let mut line = world.peer(node, leader).await;
        let sent = by(&incarnation, promising(leader, forgotten));
        let refused = line.append_entries(sent).await.unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
        assert!(refused.message().contains("it is to be met again"), "{refused}");

        let sent = by(&incarnation, promising(leader, Promise { held: Some(u64::MAX), ..whole }));
        let refused = line.append_entries(sent).await.unwrap_err();
        assert!(refused.message().contains("format"), "it is met, and read: {refused}");
        work(&world).await?;
        world.until_same().await;
        Ok(())
    });
}

/// A leader hears in a message of Raft that it promised more than it keeps. It
/// takes no part from that moment on, and the others have another leader.
#[test]
fn a_leader_that_is_told_it_forgot_leads_no_more() {
    play(44, async |world| {
        world.serve_license(1).await;
        let (leader, teller) = (world.leader().await, follower(&world).await);
        world.let_stop(leader);
        let PresentReply { incarnation, .. } = presence(&world, teller).await;
        let more = Promise { term: 1_000, held: None };
        let sent = by(&incarnation, promising(leader, more));
        let refused = world.peer(leader, teller).await.append_entries(sent).await.unwrap_err();
        assert!(refused.message().contains("takes no part"), "{refused}");
        says_lost(&world.until_stopped(leader).await, leader);
        assert_ne!(world.leader().await, leader);
        work(&world).await
    });
}

/// A leader that was put back by a moment sends something else as an entry that
/// its follower holds. It is not taken, the leader is told and stops, and the
/// two others serve on.
#[test]
fn a_leader_that_writes_an_entry_twice_is_refused() {
    play(46, async |world| {
        world.serve_license(2).await;
        work(&world).await?;
        world.until_same().await;
        let (leader, node) = (world.leader().await, follower(&world).await);
        world.let_stop(leader);
        let refused = world
            .until("the follower compares", async || {
                let PresentReply { incarnation, promise, .. } = presence(&world, leader).await;
                let promise = promise?;
                // One that every follower has had for a while.
                let at = promise.held?.checked_sub(3)?;
                let other =
                    Entry { log_id: log_id(promise.term, at), payload: EntryPayload::Blank };
                let before = Some(log_id(promise.term, at - 1));
                // As an append is encoded: its fields, in order.
                let append =
                    (Vote::new_committed(promise.term, leader), before, [other].to_vec(), before);
                let body = postcard::to_allocvec(&append).expect("it encodes");
                let sent = Packed { format: 1, body, ..promising(leader, promise) };
                let answer =
                    world.peer(node, leader).await.append_entries(by(&incarnation, sent)).await;
                answer.err().filter(|refused| refused.message().contains("sends another log entry"))
            })
            .await;
        assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused}");
        let said = world.until_stopped(leader).await;
        assert!(said.contains("has lost data") && said.contains("wrote both"), "{said}");
        assert_ne!(world.leader().await, leader);
        work(&world).await
    });
}

/// A node that was away is sent a snapshot, and its power goes again and again
/// while it takes it in: whatever it acknowledged by then is on its disk, and
/// nobody takes it for one that lost data.
#[test]
fn a_node_that_takes_in_a_snapshot_is_always_welcome() {
    const OFTEN: Snapshots = Snapshots { every: 100, log_kept: 10 };
    play_with(45, OFTEN, async |world| {
        world.serve_license(2).await;
        let node = follower(&world).await;
        world.set_sync_time(node, Duration::from_millis(5));
        world.crash(node, Survives::Nothing).await;
        for _ in 0..30 {
            work(&world).await?;
        }
        for round in 0..12 {
            world.restart(node).await;
            sleep(Duration::from_millis(20 + 15 * round)).await;
            world.crash(node, Survives::Nothing).await;
        }
        world.restart(node).await;
        world.until_same().await;
        Ok(())
    });
}
