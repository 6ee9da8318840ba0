//! The usage history is the same on every node, whatever happens to them, and
//! an auditor who knows nothing but the records finds the laws kept.

use std::time::Duration;

use chaos_tests::world::{NODES, PRODUCT, Survives, World, play};
use ledger::command::{LogId, Token};
use ledger::name::Subject;
use ledger::time::ClusterTime;
use ledger::usage::audit::{Auditor, Charged, Ends, Report};
use license::product::{ClusterId, FirmCode, LicenseId, ProductCode, ProductName, TmrId};
use pki::Role;
use tokio::time::sleep;
use trine_client::Endpoint;
use wire::v1::{UsagePagesReply, UsagePagesRequest};

const CLIENT_PORT: u16 = 22450;

/// All pages that one node has.
async fn pages(world: &World, node: u64) -> Option<(UsagePagesReply, Vec<Vec<u8>>)> {
    let client = world.client_at(Role::Operator, "ana", &[node], Duration::from_secs(2));
    let operator = client.operator().at(Endpoint::new(format!("node-{node}"), CLIENT_PORT));
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

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
