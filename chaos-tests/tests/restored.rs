//! A data directory from before a restore, started again in the restored
//! cluster: it stops, and nobody else notices (S21). Two of them are the old
//! cluster's majority: they give out nothing.

use std::time::Duration;

use chaos_tests::world::{NODES, PRODUCT, Platter, Snapshots, Survives, World, play, play_with};
use trine_client::{AcquireError, Reason};
use wire::peer::{PresentReply, PresentRequest};

/// How old data compares with the restored cluster's.
#[derive(Clone, Copy, PartialEq)]
enum Term {
    /// Its Raft has come further than the new one.
    Above,
    /// It has not come as far.
    Below,
}

/// What a node says of itself.
async fn presence(world: &World, node: u64) -> PresentReply {
    let mut line = world.peer(node, node % 3 + 1).await;
    line.present(PresentRequest {}).await.expect("the node is up").into_inner()
}

async fn term(world: &World) -> u64 {
    let leader = world.leader().await;
    presence(world, leader).await.promise.expect("it has voted").term
}

/// Has the cluster elect leaders until its term is `above`.
async fn elect_beyond(world: &World, above: u64) {
    while term(world).await <= above {
        let leader = world.leader().await;
        world.crash(leader, Survives::Everything).await;
        world.until("another leads", async || (world.leader().await != leader).then_some(())).await;
        world.restart(leader).await;
        world.until_same().await;
    }
}

async fn work(world: &World) -> Result<(), Box<dyn std::error::Error>> {
    let app = world.application("line-1");
    for _ in 0..5 {
        app.acquire(PRODUCT).send().await?.release().await?;
    }
    Ok(())
}

/// A cluster is restored: what its nodes had on their disks before, and its epoch.
async fn restored(world: &World, old: Term) -> (Vec<Platter>, u64) {
    restored_after(world, old, 1).await
}

/// The same after so much work.
async fn restored_after(world: &World, old: Term, work_done: usize) -> (Vec<Platter>, u64) {
    world.serve_license(2).await;
    for _ in 0..work_done {
        work(world).await.expect("it serves");
    }
    let backup = world.back_up().await;
    if old == Term::Above {
        elect_beyond(world, 3).await;
    }
    let disks = NODES.map(|node| world.copy_disk(node)).into();
    let before = term(world).await;
    let epoch = world.lose_all_and_restore(&backup).await;
    world.until_serving().await;
    if old == Term::Below {
        elect_beyond(world, before).await;
    }
    assert_eq!(term(world).await > before, old == Term::Below, "the story is told wrongly");
    (disks, epoch)
}

#[track_caller]
fn says_old(said: &str, node: u64, epoch: u64) {
    for part in [
        &format!("node-{node}'s data directory is from before the cluster was restored"),
        &format!("epoch {epoch}"),
        "wipe",
    ] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// The old data is found out whichever term it shows. The two others go on under
/// the leader and in the term they had, nothing of theirs is taken for lost, and
/// the node comes back with its restored data.
fn an_old_disk_stops(seed: u64, old: Term) {
    play(seed, async move |world| {
        let (disks, epoch) = restored(&world, old).await;
        let leader = world.leader().await;
        for node in [leader, leader % 3 + 1] {
            let disk = &disks[node as usize - 1];
            world.crash(node, Survives::Everything).await;
            let own = world.copy_disk(node);
            world.until("two serve", async || work(&world).await.ok()).await;
            let (leader, term_before) = (world.leader().await, term(&world).await);
            world.put_back(node, disk);
            says_old(&world.restart_until_it_stops(node).await, node, epoch);
            work(&world).await?;
            assert_eq!((world.leader().await, term(&world).await), (leader, term_before));
            world.put_back(node, &own);
            world.restart(node).await;
            world.until_same().await;
        }
        work(&world).await
    });
}

#[test]
fn a_disk_of_a_higher_term_from_before_the_restore_disturbs_nobody() {
    an_old_disk_stops(61, Term::Above);
}

#[test]
fn a_disk_of_a_lower_term_from_before_the_restore_is_not_taken_along() {
    an_old_disk_stops(62, Term::Below);
}

/// With only one other node up the old disk neither serves nor counts: it waits,
/// and one node alone elects nobody. When the third is back it stops.
#[test]
fn a_disk_from_before_the_restore_makes_no_quorum_with_a_single_node() {
    play(63, async |world| {
        let (disks, epoch) = restored(&world, Term::Above).await;
        let leader = world.leader().await;
        let [node, absent] = [leader % 3 + 1, (leader + 1) % 3 + 1];
        let own = {
            world.crash(node, Survives::Everything).await;
            world.copy_disk(node)
        };
        world.crash(absent, Survives::Everything).await;
        world.put_back(node, &disks[node as usize - 1]);
        world.let_stop(node);
        world.restart(node).await;
        let before = presence(&world, leader).await.promise;
        tokio::time::sleep(Duration::from_secs(5)).await;
        assert_eq!(world.stopped(node), None, "it waits for a second witness");
        let app = world.client_at(
            pki::Role::Application,
            "line-2",
            &[leader, node],
            Duration::from_secs(3),
        );
        app.acquire(PRODUCT).send().await.expect_err("one node is no quorum");
        let now = presence(&world, leader).await.promise;
        assert_eq!(
            now.map(|now| now.term),
            before.map(|before| before.term),
            "it voted for nobody"
        );

        world.restart(absent).await;
        says_old(&world.until_stopped(node).await, node, epoch);
        world.until("two serve", async || work(&world).await.ok()).await;
        world.put_back(node, &own);
        world.restart(node).await;
        world.until_same().await;
        Ok(())
    });
}

/// A node that was down while the backup came holds none of it yet: it belongs to
/// the restored cluster all the same.
#[test]
fn a_node_that_missed_the_restore_joins_it() {
    play(64, async |world| {
        world.serve_license(2).await;
        let backup = world.back_up().await;
        let begun = world.lose_all_and_begin(&backup).await;
        let node = 3;
        world.crash(node, Survives::Nothing).await;
        world.hand_over(&backup, &begun).await;
        world.until_serving().await;
        world.restart(node).await;
        world.until_same().await;
        work(&world).await
    });
}

/// Why the node that leads, if one does, gives out no seat. It is asked as soon as
/// it says that it leads, and itself: an answer to a request that another node
/// forwarded may be lost, and withdrawing it is a deed of the old cluster.
async fn refused(world: &World, nodes: &[u64]) -> Option<(u64, Reason)> {
    let Some(leader) = nodes.iter().copied().find(|node| world.leads(*node)) else {
        tokio::time::sleep(Duration::from_millis(1)).await;
        return None;
    };
    let patience = Duration::from_millis(2_500);
    let app = world.client_at(pki::Role::Application, "line-3", &[leader], patience);
    match app.acquire(PRODUCT).fail_fast().send().await {
        Ok(seat) => panic!("node-{leader} gave out {seat:?}, and all seats are held"),
        Err(AcquireError::Refused(why) | AcquireError::NotDone(why)) => Some((leader, why.reason)),
        Err(other) => panic!("{other}"),
    }
}

/// Two nodes are started with what they had before the restore, beside one that
/// was restored: a majority of the old cluster, in whose ledger all seats are
/// free. In the restored one all are held. The old ones elect a leader, which
/// hears of the restore before its first grant and gives out nothing, whoever of
/// them leads and for as long as the restored node is up.
fn two_old_disks_give_out_nothing(seed: u64, away: Duration, goes_on: Duration) {
    play(seed, async move |world| {
        let (disks, epoch) = restored(&world, Term::Above).await;
        let long = Duration::from_secs(600);
        let mut held = Vec::new();
        for holder in ["line-1", "line-2"] {
            held.push(world.application(holder).acquire(PRODUCT).ttl(long).send().await?);
        }
        let beside = world.leader().await;
        let strays = NODES.into_iter().filter(|node| *node != beside).collect::<Vec<_>>();
        let mut own = Vec::new();
        for node in &strays {
            world.crash(*node, Survives::Everything).await;
            own.push(world.copy_disk(*node));
            world.put_back(*node, &disks[*node as usize - 1]);
        }
        world.set_distance(beside, away).await;
        for node in &strays {
            world.restart(*node).await;
        }
        let refused_by = async |who: &mut dyn FnMut(u64) -> bool| {
            for _ in 0..10_000 {
                match refused(&world, &strays).await {
                    Some((leader, Reason::EpochsDiffer)) if who(leader) => return leader,
                    _ => {}
                }
            }
            panic!("no leader from before said why it grants nothing");
        };
        let first = refused_by(&mut |_| true).await;
        world.operator().operator().transfer_leader(None).await.expect("the other one leads");
        refused_by(&mut |leader| leader != first).await;
        let until = tokio::time::Instant::now() + goes_on;
        while tokio::time::Instant::now() < until {
            tokio::time::sleep(Duration::from_secs(5)).await;
            refused_by(&mut |_| true).await;
        }
        let says = format!(
            "nothing is granted or renewed while it is up node=node-{beside} epoch={epoch}"
        );
        let said = world.journal().iter().filter(|line| line.contains(&says)).count();
        assert_eq!(said, strays.len(), "each says so once: {:#?}", world.journal());

        world.set_distance(beside, Duration::from_millis(4)).await;
        for (node, own) in strays.iter().zip(&own) {
            world.crash(*node, Survives::Everything).await;
            world.put_back(*node, own);
            world.restart(*node).await;
        }
        world.until_serving().await;
        world
            .until("a leader says that all seats are held", async || {
                let (_, reason) = refused(&world, &NODES).await?;
                (reason == Reason::NoSeatFree).then_some(())
            })
            .await;
        for seat in held {
            seat.release().await?;
        }
        work(&world).await
    });
}

/// All three are started with what they had before the restore, and have welcomed
/// one another, when one is started again with what it was restored with. Its
/// hello is refused by both, and its follower has nothing to say to it: still
/// each of the two, leading, grants nothing for as long as it is there. With
/// `behind`, the leader has purged all that its log could agree with, so that
/// nothing but a snapshot would go to it.
fn one_of_three_old_disks_is_swapped_for_its_restored_one(seed: u64, behind: bool) {
    const OFTEN: Snapshots = Snapshots { every: 100, log_kept: 10 };
    let snapshots = if behind { OFTEN } else { Snapshots::default() };
    play_with(seed, snapshots, async move |world| {
        let work_done = if behind { 30 } else { 1 };
        let (disks, _) = restored_after(&world, Term::Above, work_done).await;
        let long = Duration::from_secs(600);
        for holder in ["line-1", "line-2"] {
            let held = world.application(holder).acquire(PRODUCT).ttl(long).send().await?;
            held.detach();
        }
        let mut own = Vec::new();
        for node in NODES {
            world.crash(node, Survives::Everything).await;
            own.push(world.copy_disk(node));
            world.put_back(node, &disks[node as usize - 1]);
        }
        for node in NODES {
            world.restart(node).await;
        }
        world.until_serving().await;
        let leader = world.leader().await;
        let back = leader % 3 + 1;
        world.crash(back, Survives::Everything).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
        world.put_back(back, &own[back as usize - 1]);
        world.restart(back).await;
        let strays = NODES.into_iter().filter(|node| *node != back).collect::<Vec<_>>();
        tokio::time::sleep(Duration::from_secs(5)).await;
        for turn in 0..2 {
            let leads = world
                .until("a leader from before", async || {
                    strays.iter().copied().find(|node| world.leads(*node))
                })
                .await;
            for _ in 0..30 {
                if let Some((by, reason)) = refused(&world, &strays).await {
                    let is_known = matches!(
                        reason,
                        Reason::EpochsDiffer | Reason::EpochsUnknown | Reason::NoQuorum
                    );
                    assert!(is_known, "node-{by} says {reason}");
                }
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
            if turn == 0 {
                world.operator().operator().transfer_leader(None).await.expect("the other one");
                world.until("the other leads", async || (!world.leads(leads)).then_some(())).await;
            }
        }
        Ok(())
    });
}

#[test]
fn a_member_that_comes_back_restored_is_noticed_by_the_leader_and_by_its_follower() {
    for seed in 70..73 {
        one_of_three_old_disks_is_swapped_for_its_restored_one(seed, false);
    }
}

#[test]
fn a_member_that_comes_back_restored_and_lacks_what_was_purged_is_noticed() {
    one_of_three_old_disks_is_swapped_for_its_restored_one(73, true);
}

#[test]
fn two_disks_from_before_the_restore_give_out_no_seat_beside_a_restored_node() {
    let a_minute_and_more = Duration::from_secs(70);
    two_old_disks_give_out_nothing(65, Duration::from_millis(4), a_minute_and_more);
}

/// A message to it takes longer than their election.
#[test]
fn two_disks_from_before_the_restore_hear_a_far_restored_node_before_they_grant() {
    for seed in 66..70 {
        two_old_disks_give_out_nothing(seed, Duration::from_millis(450), Duration::ZERO);
    }
}

/// Two nodes from before a restore lead beside a restored one. A seat that its
/// holder gives back there goes to nobody, though somebody waits for it.
#[test]
fn who_waits_gets_no_seat_of_a_leader_from_before_the_restore() {
    play(71, async |world| {
        world.serve_license(1).await;
        let long = Duration::from_secs(600);
        let seat = world.application("line-1").acquire(PRODUCT).ttl(long).send().await?;
        let backup = world.back_up().await;
        let app = world.application("line-2");
        let waits =
            tokio::task::spawn_local(async move { app.acquire(PRODUCT).wait(long).send().await });
        let is_full = |nodes: &[u64]| {
            nodes.iter().all(|node| world.taken_and_waiting(*node) == Some((1, 1))).then_some(())
        };
        world.until("one waits", async || is_full(&NODES)).await;
        let disks = NODES.map(|node| world.copy_disk(node));
        world.lose_all_and_restore(&backup).await;
        world.until_serving().await;
        let beside = world.leader().await;
        let strays = NODES.into_iter().filter(|node| *node != beside).collect::<Vec<_>>();
        for node in &strays {
            world.crash(*node, Survives::Everything).await;
            world.put_back(*node, &disks[*node as usize - 1]);
        }
        for node in &strays {
            world.restart(*node).await;
        }
        world
            .until("a leader from before grants nothing", async || {
                let (_, reason) = refused(&world, &strays).await?;
                (reason == Reason::EpochsDiffer).then_some(())
            })
            .await;
        assert!(is_full(&strays).is_some(), "the story is told wrongly");
        seat.release().await?;
        for _ in 0..10 {
            let [one, other] = [strays[0], strays[1]].map(|node| world.taken_and_waiting(node));
            assert_eq!((one, other), (Some((0, 1)), Some((0, 1))));
            tokio::time::sleep(Duration::from_millis(300)).await;
        }
        waits.abort();
        Ok(())
    });
}
