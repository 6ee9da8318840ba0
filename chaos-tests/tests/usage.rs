//! The usage history is the same on every node, whatever happens to them, and
//! an auditor who knows nothing but the records finds the laws kept.

use std::time::Duration;

use chaos_tests::world::{NODES, PRODUCT, Snapshots, Survives, World, play, play_with};
use ledger::command::{LogId, Token};
use ledger::name::Subject;
use ledger::time::ClusterTime;
use ledger::usage::audit::{Auditor, Charged, Ends, Report};
use license::product::{ClusterId, FirmCode, LicenseId, ProductCode, ProductName, TmrId};
use pki::Role;
use tokio::time::sleep;
use trine_client::{AtNode, CallError, Endpoint, Reason};
use wire::v1::{UsagePagesReply, UsagePagesRequest};

const CLIENT_PORT: u16 = 22450;

/// An operator who asks one node and no other.
fn operator_at(world: &World, node: u64) -> AtNode {
    let client = world.client_at(Role::Operator, "ana", &[node], Duration::from_secs(2));
    client.operator().at(Endpoint::new(format!("node-{node}"), CLIENT_PORT))
}

/// All pages that one node has.
async fn pages(world: &World, node: u64) -> Option<(UsagePagesReply, Vec<Vec<u8>>)> {
    let operator = operator_at(world, node);
    let asked = UsagePagesRequest { from_page: Some(0), seats: true, ..Default::default() };
    let first = operator.usage_pages(asked).await.ok()?;
    let mut all = first.pages.clone();
    while (all.len() as u64) < first.until_page {
        let more = UsagePagesRequest {
            from_page: Some(all.len() as u64),
            until_page: Some(first.until_page),
            ..Default::default()
        };
        let more = operator.usage_pages(more).await.ok()?.pages;
        if more.is_empty() {
            return None;
        }
        all.extend(more);
    }
    Some((first, all))
}

fn ends(reply: &UsagePagesReply) -> Ends {
    let reach = reply.reach.as_ref().expect("it says how far it reaches");
    let live = reply.seats.iter().map(|seat| {
        let numbers: Vec<u32> =
            seat.license.split(':').map(|part| part.parse().expect("a number")).collect();
        let license = LicenseId {
            firm: FirmCode(numbers[0]),
            product: ProductCode(numbers[1]),
            tmr: TmrId(numbers[2]),
        };
        let product = ProductName::parse(&seat.product).expect("a name");
        let subject = Subject::parse(&seat.subject).expect("a name");
        (Token(seat.seat), Charged { product, license, subject })
    });
    let cluster = u128::from_str_radix(&reach.cluster_id, 16).expect("hexadecimal");
    Ends {
        cluster: ClusterId(cluster.to_be_bytes()),
        log_id: LogId { epoch: 0, index: 0, position: 0 },
        time: ClusterTime(0),
        first: reach.kept,
        previous: reach.kept_previous.as_slice().try_into().expect("32 bytes"),
        pages: reach.pages,
        head: reach.head.as_slice().try_into().expect("32 bytes"),
        live: live.collect(),
    }
}

/// Waits until all three have the same pages, and audits them.
async fn audit(world: &World) -> Report {
    let (reply, pages) = world
        .until("three nodes have the same history", async || {
            let mut told = Vec::new();
            for node in NODES {
                told.push(pages(world, node).await?);
            }
            let same = told.iter().all(|(_, pages)| *pages == told[0].1);
            same.then(|| told.swap_remove(0))
        })
        .await;
    let mut auditor = Auditor::new(ends(&reply), Default::default());
    for page in &pages {
        auditor.read(page).expect("the history holds");
    }
    auditor.finish().expect("it comes to the live seats")
}

/// Grants, denials and waits while the leader crashes and a follower comes back
/// with less than it had: three equal histories, and every seat in them.
#[test]
fn three_nodes_have_one_history_after_crashes() {
    play(31, async |world| {
        world.serve_license(2).await;
        let app = world.application("line-1");
        let held = app.acquire(PRODUCT).send().await?;
        let mut crashed = 0;
        for round in 0..12 {
            app.acquire(PRODUCT).send().await?.release().await?;
            match round {
                3 => {
                    crashed = world.leader().await;
                    world.crash(crashed, Survives::Nothing).await;
                }
                6 => world.restart(crashed).await,
                _ => {}
            }
        }
        let full = app.acquire(PRODUCT).send().await?;
        let denied = world.application("line-2").acquire(PRODUCT).send().await;
        assert!(denied.is_err(), "both seats are taken");
        let waiter =
            tokio::spawn(world.application("line-3").acquire(PRODUCT).wait(secs(60)).send());
        sleep(secs(1)).await;
        full.release().await?;
        let waited = waiter.await??;
        world.until_same().await;
        let report = audit(&world).await;
        assert_eq!(report.granted, 15, "{report:?}");
        assert_eq!((report.released, report.expired), (13, 0), "{report:?}");
        assert_eq!(report.products.values().map(|peak| peak.seats).max(), Some(2));
        assert_eq!(report.denied, 1, "{report:?}");
        waited.release().await?;
        held.release().await?;
        Ok(())
    });
}

/// One snapshot a hundred entries, and next to no log behind it.
const OFTEN: Snapshots = Snapshots { every: 100, log_kept: 10 };

/// So many grants and releases, each an entry of its own.
async fn work(world: &World, rounds: u32) -> Result<(), Box<dyn std::error::Error>> {
    let app = world.application("line-1");
    for _ in 0..rounds {
        app.acquire(PRODUCT).send().await?.release().await?;
    }
    Ok(())
}

/// Asks a node for its pages until it says that it is still fetching them.
async fn until_incomplete(operator: &AtNode) {
    let asked = UsagePagesRequest { from_page: Some(0), ..Default::default() };
    for _ in 0..20_000 {
        match operator.usage_pages(asked).await {
            Err(CallError::NotDone(no)) if no.reason == Reason::HistoryIncomplete => return,
            _ => sleep(Duration::from_millis(1)).await,
        }
    }
    panic!("it never said that its history is incomplete");
}

/// A node is away for so long that the others have let its log go. It is given
/// a snapshot, says that its history is incomplete, crashes in the midst of
/// fetching it, and has the same pages as the others in the end.
#[test]
fn a_node_that_was_given_a_snapshot_fetches_the_history_it_missed() {
    play_with(32, OFTEN, async |world| {
        world.serve_license(2).await;
        let leader = world.leader().await;
        let away = NODES.into_iter().find(|node| *node != leader).expect("two follow");
        world.crash(away, Survives::Everything).await;
        work(&world, 150).await?;
        let held = world.application("line-2").acquire(PRODUCT).send().await?;

        let operator = operator_at(&world, away);
        // So far from the others that there is time to ask while it fetches.
        world.set_distance(away, Duration::from_millis(200)).await;
        world.restart(away).await;
        until_incomplete(&operator).await;
        world.crash(away, Survives::Nothing).await;
        world.restart(away).await;
        work(&world, 5).await?;
        let report = audit(&world).await;
        assert_eq!((report.granted, report.released), (156, 155), "{report:?}");
        let journal = world.journal().join("\n");
        assert!(journal.contains("fetching history"), "{journal}");
        assert!(journal.contains("history is whole"), "{journal}");
        held.release().await?;
        Ok(())
    });
}

/// Two nodes in turn are given snapshots, and the second fetches pages from the
/// first, which had fetched some of them itself: the third is away by then.
#[test]
fn fetched_history_is_handed_on() {
    play_with(33, OFTEN, async |world| {
        world.serve_license(2).await;
        let third = world.leader().await;
        let mut others = NODES.into_iter().filter(|node| *node != third);
        let (first, second) = others.next().zip(others.next()).expect("two follow");
        world.crash(first, Survives::Everything).await;
        work(&world, 120).await?;
        world.restart(first).await;
        audit(&world).await;
        world.crash(second, Survives::Everything).await;
        work(&world, 120).await?;
        world.crash(third, Survives::Everything).await;
        world.restart(second).await;
        let operator = operator_at(&world, second);
        until_incomplete(&operator).await;
        world.until("the history is fetched", async || pages(&world, second).await).await;
        world.restart(third).await;
        let report = audit(&world).await;
        assert_eq!((report.granted, report.released), (240, 240), "{report:?}");
        Ok(())
    });
}

/// One question at one moment of the log: three answers, equal to the last byte.
#[test]
fn the_same_question_has_the_same_answer_at_every_node() {
    play(34, async |world| {
        world.serve_license(3).await;
        work(&world, 10).await?;
        let held = world.application("line-2").acquire(PRODUCT).send().await?;
        let ms = |seconds: i64| Some((1_800_000_000 + seconds) * 1_000);
        let questions = [
            UsagePagesRequest { seats: true, ..Default::default() },
            UsagePagesRequest { from_page: Some(3), until_page: Some(7), ..Default::default() },
            UsagePagesRequest { from_ms: ms(-3_600), to_ms: ms(3_600), ..Default::default() },
            UsagePagesRequest { from_ms: ms(86_400), ..Default::default() },
            UsagePagesRequest { from_page: Some(1_000), ..Default::default() },
        ];
        for question in questions {
            let answer = world
                .until("three nodes answer as of one entry", async || {
                    let mut answers = Vec::new();
                    for node in NODES {
                        let operator = operator_at(&world, node);
                        answers.push(operator.usage_pages(question).await.ok()?);
                    }
                    let index = |reply: &UsagePagesReply| Some(reply.as_of.as_ref()?.index);
                    let same = answers.iter().all(|reply| index(reply) == index(&answers[0]));
                    same.then_some(answers)
                })
                .await;
            assert!(answer.iter().all(|other| *other == answer[0]), "{question:?}: {answer:?}");
        }
        held.release().await?;
        Ok(())
    });
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
