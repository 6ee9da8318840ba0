//! Seats survive what happens to nodes.
//!
//! Each story plays in a world of real nodes and clients that one seed makes
//! (`chaos_tests::world`); a failure prints the seed.

use std::time::Duration;

use chaos_tests::world::{Ending, NODES, PRODUCT, Survives, World, play};
use node::raft::timing::SILENCE_MIN;
use pki::Role;
use tokio::time::sleep;
use trine_client::{AcquireError, Client, Grant, LeaseId, Outcome, Reason};

const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

/// The three nodes, `first` first: a client asks them in this order.
fn beginning_with(first: u64) -> Vec<u64> {
    std::iter::once(first).chain(others(first)).collect()
}

fn others(node: u64) -> impl Iterator<Item = u64> {
    NODES.into_iter().filter(move |other| *other != node)
}

async fn seats_held(world: &World) -> usize {
    let operator = world.operator().operator();
    world.until("the seats are listed", async || operator.seats(None).await.ok()).await.seats.len()
}

/// Waits until so many requests stand in the product's queue.
async fn until_waiting(world: &World, count: u64) {
    let operator = world.operator().operator();
    world
        .until("the queue has its length", async || {
            let listed = operator.list_licenses().await.ok()?;
            (listed.licenses.first()?.waiting == count).then_some(())
        })
        .await;
}

/// A request that can be sent again with the very same body.
struct Request {
    lease: LeaseId,
    not_after_ms: u64,
}

impl Request {
    async fn mint(client: &Client) -> Result<Self, Box<dyn std::error::Error>> {
        let not_after_ms = client.whoami().await?.cluster_time_ms + 50_000;
        Ok(Self { lease: client.mint(), not_after_ms })
    }

    /// Sends it, and lets the seat live on with nobody to renew or release it.
    async fn send(&self, client: &Client) -> Result<Grant, AcquireError> {
        let acquire = client.acquire(PRODUCT).ttl(secs(300));
        let seat = acquire.id(self.lease).not_after_ms(self.not_after_ms).send().await?;
        let grant = seat.grant().clone();
        let _ = seat.detach();
        Ok(grant)
    }
}

/// Three new nodes form a cluster, the vendor's license is installed, its
/// three shares are proved, and an application takes its seat.
#[test]
fn three_nodes_form_and_a_license_serves() {
    play(1, async |world| {
        let container = world.form().await;
        assert!(container.starts_with("131-"), "{container}");
        let request = world.request().await;
        let terms = world.terms(&request, 2);
        let package =
            world.issue(|vendor, rng| vendor.issue(&request, terms, rng).expect("valid terms"));
        world.install(&package).await;
        world.until_serving().await;

        let seat = world.application("line-1").acquire(PRODUCT).send().await?;
        assert_eq!(seat.grant().feature_text, "meshing");
        assert_eq!(seats_held(&world).await, 1);
        seat.release().await?;
        assert_eq!(seats_held(&world).await, 0);
        world.until_same().await;
        Ok(())
    });
}

/// The leader grants, its answer is lost on the way, and it crashes. The
/// client asks again through the new leader: the grant it gets is the one from
/// before the crash. One seat, not two.
#[test]
fn a_retry_across_failover_takes_one_seat() {
    play(2, async |world| {
        world.serve_license(2).await;
        let leader = world.leader().await;
        let nodes = beginning_with(leader);
        let app = world.client_at(Role::Application, "line-1", &nodes, secs(10));
        app.whoami().await?;
        world.mute(leader);
        let crashing = async {
            sleep(ms(300)).await;
            let (applied, _) = world.state(nodes[1]).await.expect("this node is up");
            world.crash(leader, Survives::Nothing).await;
            applied
        };
        let (seat, applied) = tokio::join!(app.acquire(PRODUCT).send(), crashing);
        let seat = seat?;
        assert!(seat.grant().at.index <= applied, "the grant is from before the crash");
        assert_eq!(seats_held(&world).await, 1);
        seat.release().await?;
        assert_eq!(seats_held(&world).await, 0);
        Ok(())
    });
}

/// The leader takes an acquire in, can tell nobody of it, and crashes. The
/// client asks again: the seat is granted by the new leader, once, and the
/// old one, back from its disk, does not bring a second.
#[test]
fn an_acquire_that_died_with_its_leader_is_granted_by_the_next() {
    play(3, async |world| {
        world.serve_license(2).await;
        let leader = world.leader().await;
        let nodes = beginning_with(leader);
        let app = world.client_at(Role::Application, "line-1", &nodes, secs(10));
        app.whoami().await?;
        world.isolate(leader);
        let crashing = async {
            sleep(ms(300)).await;
            let (applied, _) = world.state(nodes[1]).await.expect("this node is up");
            world.crash(leader, Survives::Everything).await;
            applied
        };
        let (seat, applied) = tokio::join!(app.acquire(PRODUCT).send(), crashing);
        let seat = seat?;
        assert!(seat.grant().at.index > applied, "the grant is from after the crash");
        world.rejoin(leader);
        world.restart(leader).await;
        world.until_same().await;
        assert_eq!(seats_held(&world).await, 1);
        seat.release().await?;
        Ok(())
    });
}

/// One request, sent to the first leader, to the next, and to a cluster that
/// lost its power and came back from what its disks had synced: one grant,
/// the same to the last field.
#[test]
fn the_same_request_has_the_same_grant_for_ever() {
    play(4, async |world| {
        world.serve_license(2).await;
        let app = world.application("line-1");
        let request = Request::mint(&app).await?;
        let first = request.send(&app).await?;
        assert_eq!(request.send(&app).await?, first, "asked twice");

        let leader = world.leader().await;
        world.crash(leader, Survives::Nothing).await;
        assert_eq!(request.send(&app).await?, first, "after a failover");

        for node in others(leader) {
            world.crash(node, Survives::Nothing).await;
        }
        for node in NODES {
            world.restart(node).await;
        }
        assert_eq!(request.send(&app).await?, first, "after all three restarted");
        assert_eq!(seats_held(&world).await, 1);
        world.until_same().await;
        Ok(())
    });
}

/// The same power cut over disks that say they synced and did not: the grant
/// is gone. So the story before this one is told by the disks, and not by luck.
#[test]
fn disks_that_do_not_sync_lose_the_grant() {
    play(17, async |world| {
        NODES.into_iter().for_each(|node| world.set_syncs_lie(node));
        world.serve_license(2).await;
        let app = world.client_at(Role::Application, "line-1", &NODES, secs(5));
        let request = Request::mint(&app).await?;
        request.send(&app).await?;
        for node in NODES {
            world.crash(node, Survives::Nothing).await;
        }
        for node in NODES {
            world.restart(node).await;
        }
        let lost = request.send(&app).await.unwrap_err();
        assert!(matches!(lost, AcquireError::NotDone(_)), "{lost}");
        for node in NODES {
            let (applied, _) = world.state(node).await.expect("this node is up");
            assert_eq!(applied, 0, "node-{node} remembers something");
        }
        Ok(())
    });
}

/// One seat, two who wait for it in turn, and a leader that crashes meanwhile.
/// Each gets the seat when it is theirs, in the order in which they came.
#[test]
fn a_wait_queue_survives_failover() {
    play(5, async |world| {
        world.serve_license(1).await;
        let held = world.application("line-1").acquire(PRODUCT).send().await?;
        let wait = |name| {
            let acquire = world.application(name).acquire(PRODUCT).wait(secs(60));
            tokio::spawn(acquire.send())
        };
        let second = wait("line-2");
        until_waiting(&world, 1).await;
        let third = wait("line-3");
        until_waiting(&world, 2).await;

        world.crash(world.leader().await, Survives::Nothing).await;
        sleep(secs(3)).await;
        assert!(!second.is_finished() && !third.is_finished(), "the seat is still held");
        until_waiting(&world, 2).await;

        held.release().await?;
        let second = second.await??;
        sleep(secs(3)).await;
        assert!(!third.is_finished(), "the one seat is held by the second");
        second.release().await?;
        third.await??.release().await?;
        assert_eq!(seats_held(&world).await, 0);
        Ok(())
    });
}

/// Two nodes crash. What the leader had taken in ends as *unknown* within two
/// seconds, what comes later is refused as definitely not done, and when the
/// two are back no seat has leaked (L4).
#[test]
fn without_a_quorum_nothing_is_promised() {
    play(6, async |world| {
        world.serve_license(1).await;
        let leader = world.leader().await;
        let app = world.client_at(Role::Application, "line-1", &[leader], secs(3));
        app.whoami().await?;
        for node in others(leader) {
            world.crash(node, Survives::Nothing).await;
        }
        let asked = turmoil::sim_elapsed();
        let in_flight = app.acquire(PRODUCT).send().await.map(drop).unwrap_err();
        assert!(matches!(in_flight, AcquireError::Unknown { .. }), "{in_flight}");
        let answer = world.trace().into_iter().find(|line| line.contains("OutcomeUnknown"));
        let answer = answer.expect("the node says itself that it does not know");
        let answered = answer.split(' ').next().and_then(|micros| micros.parse().ok());
        let took = answered.map(Duration::from_micros).zip(asked).map(|(end, begin)| end - begin);
        assert!(took.is_some_and(|took| took <= secs(2)), "it took {took:?}");

        let late = world.client_at(Role::Application, "line-2", &[leader], secs(3));
        let refused = late.acquire(PRODUCT).fail_fast().send().await.map(drop).unwrap_err();
        assert!(matches!(refused, AcquireError::NotDone(_)), "{refused}");
        assert_eq!(refused.reason(), Reason::NoQuorum, "{refused}");

        for node in others(leader) {
            world.restart(node).await;
        }
        // The unknown one is withdrawn in the background, so the one seat is free.
        let seat = world.application("line-3").acquire(PRODUCT).wait(secs(20)).send().await?;
        assert_eq!(seats_held(&world).await, 1);
        seat.release().await?;
        world.until_same().await;
        Ok(())
    });
}

/// A follower loses its power in the midst of a write, and with it all it had
/// not synced. It comes back, catches up, and its ledger is the others' (S18).
#[test]
fn a_node_that_lost_its_unsynced_writes_catches_up() {
    play(7, async |world| {
        world.serve_license(5).await;
        let follower = others(world.leader().await).next().expect("two follow");
        let app = world.application("line-1");
        let held = app.acquire(PRODUCT).send().await?;
        world.set_sync_time(follower, ms(20));
        while world.unsynced(follower) == 0 {
            sleep(ms(1)).await;
        }
        world.crash(follower, Survives::Nothing).await;
        for _ in 0..10 {
            app.acquire(PRODUCT).send().await?.release().await?;
        }
        world.set_sync_time(follower, Duration::ZERO);
        world.restart(follower).await;
        let (index, hash) = world.until_same().await;
        world.note(format_args!("all at {index} with {hash}"));
        assert_eq!(seats_held(&world).await, 1);
        held.release().await?;
        Ok(())
    });
}

/// A client dies holding the only seat, and another waits for it. The seat
/// comes back after its TTL of cluster time and not a moment before (S8),
/// soon after in true time (L5).
#[test]
fn a_dead_clients_seat_comes_back_after_its_ttl_and_not_before() {
    play(8, async |world| {
        world.serve_license(1).await;
        outlive(&world, async || {}).await
    });
}

/// The same, and the leader that granted the seat crashes meanwhile: its
/// successor neither shortens nor renews what it finds.
#[test]
fn a_dead_clients_seat_comes_back_in_time_although_the_leader_crashes() {
    play(9, async |world| {
        world.serve_license(1).await;
        outlive(&world, async || {
            world.crash(world.leader().await, Survives::Nothing).await;
        })
        .await
    });
}

async fn outlive(world: &World, meanwhile: impl AsyncFnOnce()) -> Ending {
    const TTL: Duration = secs(5);
    const FAILOVER_MAX: Duration = secs(2);
    let taken = turmoil::sim_elapsed().unwrap_or_default();
    let dead = world.application("line-1").acquire(PRODUCT).ttl(TTL).send().await?;
    let grant = dead.grant().clone();
    let _ = dead.detach();
    let heir = world.application("line-2");
    let (next, ()) = tokio::join!(heir.acquire(PRODUCT).wait(secs(30)).send(), meanwhile());
    let next = next?;
    let back = next.grant().at.stamp_ms;
    assert!(back >= grant.deadline_ms, "back at {back}, not due before {}", grant.deadline_ms);
    let took = turmoil::sim_elapsed().unwrap_or_default() - taken;
    assert!(took <= TTL + TTL / 10 + FAILOVER_MAX, "it took {took:?}");
    next.release().await?;
    Ok(())
}

/// Leadership goes round a dozen times under load. From asking for it to the next
/// grant it takes less time each time than a silent leader would be given, so
/// nobody had to wait for an election.
#[test]
fn leadership_is_handed_over_without_an_election() {
    play(18, async |world| {
        world.serve_license(20).await;
        let operator = world.operator().operator();
        let work = busily(&world, 8);
        for _ in 0..12 {
            let app = world.application("line-0");
            let from = world.leader().await;
            app.whoami().await?;
            let asked = turmoil::sim_elapsed().unwrap_or_default();
            let moved = operator.transfer_leader(None).await?;
            let seat = app.acquire(PRODUCT).send().await?;
            let took = turmoil::sim_elapsed().unwrap_or_default() - asked;
            assert_ne!(moved.leader, from, "nobody took over");
            assert!(took < SILENCE_MIN, "from node-{from} to node-{}: {took:?}", moved.leader);
            seat.release().await?;
        }
        drop(work);
        Ok(())
    });
}

/// The node that is to lead is cut off the moment it is asked. The third is asked
/// in its place, and leads before anybody has missed a leader.
#[test]
fn who_does_not_take_over_is_followed_by_the_next() {
    play(19, async |world| {
        world.serve_license(2).await;
        let from = world.leader().await;
        let [chosen, next] = others(from).collect::<Vec<_>>()[..] else { panic!("two follow") };
        let operator = world.client_at(Role::Operator, "ana", &[from], secs(10)).operator();
        operator.status().await?;
        world.isolate(chosen);
        let asked = turmoil::sim_elapsed().unwrap_or_default();
        let moved = operator.transfer_leader(Some(chosen)).await?;
        let took = turmoil::sim_elapsed().unwrap_or_default() - asked;
        assert_eq!(moved.leader, next);
        assert!(took < SILENCE_MIN, "{took:?}");
        world.rejoin(chosen);
        Ok(())
    });
}

/// So many applications take a seat and give it back, until this is dropped.
fn busily(world: &World, count: usize) -> tokio::task::JoinSet<()> {
    let mut work = tokio::task::JoinSet::new();
    for number in 1..=count {
        let app = world.application(&format!("line-{number}"));
        work.spawn(async move {
            loop {
                if let Ok(seat) = app.acquire(PRODUCT).send().await {
                    drop(seat.release().await);
                }
                sleep(ms(5)).await;
            }
        });
    }
    work
}

/// A refusal of the ledger is told as one, wherever it is asked for.
#[test]
fn a_full_pool_refuses_at_every_node() {
    play(10, async |world| {
        world.serve_license(1).await;
        let held = world.application("line-1").acquire(PRODUCT).send().await?;
        for node in NODES {
            let app = world.client_at(Role::Application, "line-2", &[node], secs(5));
            let refused = app.acquire(PRODUCT).send().await.map(drop).unwrap_err();
            let failure = refused.failure().expect("a failure");
            assert_eq!((failure.outcome, failure.reason), (Outcome::Refused, Reason::NoSeatFree));
        }
        held.release().await?;
        Ok(())
    });
}
