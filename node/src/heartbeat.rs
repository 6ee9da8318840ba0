//! A node's signed sign of life, once a second: its wall clock, its boot, its ledger's hash.
//!
//! A share is live while its node is heard (design.md, TMR); the wall floor and
//! the comparison of ledgers (S18) feed on the same message.

use std::sync::Arc;
use std::time::Duration;

use ledger::command::Command;
use license::container::Heartbeat;
use license::product::NodeId;

use crate::clock::Clock;
use crate::service::Service;
use crate::shares::Shares;

/// Three are lost before a share counts as silent.
const INTERVAL: Duration = Duration::from_millis(900);

/// Signs and submits heartbeats. Runs for ever.
pub(crate) async fn run(
    node: NodeId,
    boot: [u8; 16],
    service: Service,
    shares: Shares,
    clock: Arc<dyn Clock>,
) {
    let mut beats = tokio::time::interval(INTERVAL);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        let Some((cluster, (applied, hash))) = service.peek(|ledger| {
            let checkpoint = ledger.checkpoint().unwrap_or_default();
            ledger.genesis().map(|genesis| (genesis.cluster, checkpoint))
        }) else {
            continue;
        };
        let heartbeat = Heartbeat { cluster, node, wall: clock.wall(), boot, applied, hash };
        let signed = shares.container().sign_heartbeat(heartbeat);
        // Unanswered, the next one follows in a second anyway.
        if let Err(reason) = service.submit_lazily(Command::Heartbeat(signed)).await {
            tracing::debug!(%reason, "heartbeat not logged");
        }
    }
}
