//! Who leads, who does not lead any more, and how far apart nodes may be.
//!
//! Each story plays in a world of real nodes and clients that one seed makes
//! (`chaos_tests::world`); a failure prints the seed.

use std::time::Duration;

use chaos_tests::world::{Ending, NODES, PRODUCT, Survives, World, play};
use futures_util::{StreamExt as _, stream};
use node::raft::timing::SILENCE_MIN;
use node::raft::{SnapshotMeta, Vote};
use openraft::raft::SnapshotResponse;
use pki::Role;
use tonic::Request;
use tonic::metadata::MetadataValue;
use trine_client::{AcquireError, CallError};
use wire::peer::{NodePromise, Packed, PresentRequest};

async fn followers(world: &World) -> [u64; 2] {
    let leader = world.leader().await;
    let others: Vec<_> = NODES.into_iter().filter(|node| *node != leader).collect();
    others.try_into().expect("two follow")
}

/// A node that led once sends a snapshot, and has not heard yet that its term is
/// over. Its header is enough to refuse it: what its successor sends meanwhile is
/// not touched, and nothing of it is read.
#[test]
fn a_snapshot_of_a_leader_of_the_past_is_refused_by_its_header() {
    play(61, async |world| {
        world.serve_license(1).await;
        let [node, past] = followers(&world).await;
        let mut line = world.peer(past, node).await;
        let there = line.present(PresentRequest {}).await?.into_inner();
        let promise = there.promise.expect("it has voted");
        let ends_after = |chunks: usize, vote: Vote| {
            let header = (vote, SnapshotMeta::default(), 1_000_u64);
            let header = Packed {
                format: 1,
                body: postcard::to_allocvec(&header).expect("it encodes"),
                promises: vec![NodePromise { node: past, promise: Some(promise) }],
                ..Packed::default()
            };
            let chunk = Packed { format: 1, body: vec![7; 10], ..Packed::default() };
            let messages = std::iter::once(header).chain(std::iter::repeat_n(chunk, chunks));
            let mut request = Request::new(stream::iter(messages).chain(stream::pending()));
            let shown = MetadataValue::from_bytes(&there.incarnation);
            request.metadata_mut().insert_bin("trine-incarnation-bin", shown);
            request
        };
        let mut line = world.peer(node, past).await;
        let old = Vote::new_committed(promise.term - 1, past);
        let asked = line.install_snapshot(ends_after(3, old));
        let answer = tokio::time::timeout(Duration::from_secs(1), asked).await??.into_inner();
        let answer: SnapshotResponse<node::raft::TypeConfig> = postcard::from_bytes(&answer.body)?;
        assert!(answer.vote > old, "it hears who leads now: {answer}");
        assert_eq!(answer.vote.leader_id.term, promise.term);
        Ok(())
    });
}

/// Three sites, so far apart. The cluster forms and grants, nobody stands for
/// election while the leader is there, leadership moves when it is asked to, and
/// a leader that dies is followed by one that stays.
async fn stands_apart(world: World, round_trip: Duration) -> Ending {
    const LONG: Duration = Duration::from_secs(20);
    world.set_round_trips(round_trip).await;
    world.serve_license(4).await;
    let operator = world.operator().operator();
    let term =
        async || world.until("a term", async || Some(operator.status().await.ok()?.term)).await;
    let app = world.application("line-1");
    let stays = async |under: &str| {
        app.acquire(PRODUCT).send().await?.release().await?;
        let (before, until) = (term().await, turmoil::sim_elapsed().unwrap_or_default() + LONG);
        while turmoil::sim_elapsed().unwrap_or_default() < until {
            app.acquire(PRODUCT).send().await?.release().await?;
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        assert_eq!(term().await, before, "an election without a cause, {under}");
        Ok::<_, Box<dyn std::error::Error>>(before)
    };
    let first = stays("at first").await?;

    let from = world.leader().await;
    let moved = operator.transfer_leader(None).await?;
    assert_ne!(moved.leader, from, "nobody took over");
    assert_eq!(stays("after a handover").await?, first + 1, "one election, for the asking");

    let dies = world.leader().await;
    world.crash(dies, Survives::Nothing).await;
    stays("with two nodes").await?;
    world.restart(dies).await;
    stays("with three again").await?;
    world.until_same().await;
    Ok(())
}

#[test]
fn three_nodes_40_ms_apart_keep_their_leader_and_replace_a_dead_one() {
    play(62, async |world| stands_apart(world, Duration::from_millis(40)).await);
}

#[test]
fn three_nodes_60_ms_apart_keep_their_leader_and_replace_a_dead_one() {
    play(63, async |world| stands_apart(world, Duration::from_millis(60)).await);
}

/// A leader is asked to end while an application that knows no other node sends
/// it one request after the other. Leadership is with another node before
/// anybody misses a leader, and what the leader took in it answers, itself or by
/// way of its successor.
#[test]
fn a_leader_that_is_asked_to_end_leaves_nobody_in_doubt() {
    play(64, async |world| {
        world.serve_license(50).await;
        let ends = world.leader().await;
        let others: Vec<_> = NODES.into_iter().filter(|node| *node != ends).collect();
        let patience = Duration::from_secs(3);
        let mut work = tokio::task::JoinSet::new();
        for number in 0..8 {
            let name = format!("line-{number}");
            let app = world.client_at(Role::Application, &name, &[ends], patience);
            app.whoami().await?;
            work.spawn(async move {
                loop {
                    let seat = match app.acquire(PRODUCT).fail_fast().send().await {
                        Ok(seat) => seat,
                        Err(AcquireError::NotDone(_)) => return None,
                        Err(in_doubt) => return Some(in_doubt.to_string()),
                    };
                    match seat.release().await {
                        Ok(_) => {}
                        Err(CallError::NotDone(_)) => return None,
                        Err(in_doubt) => return Some(in_doubt.to_string()),
                    }
                }
            });
        }
        let elsewhere = world.client_at(Role::Application, "elsewhere", &others, patience);
        elsewhere.whoami().await?;
        tokio::time::sleep(Duration::from_millis(50)).await;
        let asked = turmoil::sim_elapsed().unwrap_or_default();
        world.shut_down(ends);
        tokio::time::sleep(Duration::from_millis(30)).await;
        elsewhere.acquire(PRODUCT).send().await?.release().await?;
        let took = turmoil::sim_elapsed().unwrap_or_default() - asked;
        assert!(took < SILENCE_MIN, "{took:?}");
        while let Some(ended) = work.join_next().await {
            assert_eq!(ended?, None, "somebody is left in doubt");
        }
        world
            .until("the node has ended", async || {
                world.journal().iter().any(|line| line.contains("node has stopped")).then_some(())
            })
            .await;
        Ok(())
    });
}

/// The same with an application that is held open at the node, waiting for a
/// seat. Showing it out takes its time; leadership is elsewhere long before.
#[test]
fn who_waits_for_a_seat_at_a_node_that_ends_does_not_hold_up_the_handover() {
    play(65, async |world| {
        world.serve_license(1).await;
        let ends = world.leader().await;
        let others: Vec<_> = NODES.into_iter().filter(|node| *node != ends).collect();
        let held = world.application("line-1").acquire(PRODUCT).send().await?;
        let waits = world.client_at(Role::Application, "line-2", &[ends], Duration::from_secs(3));
        waits.whoami().await?;
        let waiting = tokio::spawn(waits.acquire(PRODUCT).wait(Duration::from_secs(60)).send());
        let operator = world.client_at(Role::Operator, "ana", &others, Duration::from_secs(3));
        let operator = operator.operator();
        operator.status().await?;
        tokio::time::sleep(Duration::from_millis(200)).await;
        let asked = turmoil::sim_elapsed().unwrap_or_default();
        world.shut_down(ends);
        world
            .until("another leads", async || {
                operator.status().await.ok().filter(|status| status.leader != ends)
            })
            .await;
        let took = turmoil::sim_elapsed().unwrap_or_default() - asked;
        assert!(took < SILENCE_MIN, "{took:?}");
        waiting.abort();
        held.release().await?;
        Ok(())
    });
}
