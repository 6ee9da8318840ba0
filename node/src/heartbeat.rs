//! A node's signed sign of life, once a second: its wall clock, its boot, its ledger's hash.
//!
//! A share is live while its node is heard (S11); the wall floor and
//! the comparison of ledgers (S18) feed on the same message.

use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
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
    ca: impl Fn() -> [u8; 32] + Send,
) {
    let mut beats = tokio::time::interval(INTERVAL);
    beats.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut sent = 0;
    let build = crate::build::ours();
    loop {
        beats.tick().await;
        let Some((cluster, logged, checkpoint)) = service.peek(|ledger| {
            let charter = ledger.charter()?;
            // A node on its way in says nothing yet, and one that is gone nothing more.
            charter.member(node)?;
            let cluster = charter.cluster;
            Some((cluster, logged_count(ledger, node), ledger.checkpoint().unwrap_or_default()))
        }) else {
            continue;
        };
        let (count, wall) = (next_count(logged, sent), clock.wall());
        let applied = service.node_status().applied_index;
        let ca = ca();
        let heartbeat =
            Heartbeat { cluster, node, count, wall, boot, applied, checkpoint, build, ca };
        let signed = shares.container().sign_heartbeat(heartbeat);
        sent = count;
        // Unanswered, the next one follows in a second anyway.
        if let Err(reason) = service.submit_lazily(Command::Heartbeat(signed)).await {
            tracing::debug!(%reason, "heartbeat not logged");
        }
    }
}

/// The count of this node's last heartbeat in its own ledger.
fn logged_count(ledger: &Ledger, node: NodeId) -> u64 {
    ledger.members().iter().find(|member| member.node == node).map_or(0, |member| member.count)
}

/// Above all that the log has and all that may still reach it.
///
/// A node that has just started remembers nothing, and its ledger may not have
/// caught up: until it has, its heartbeats are refused as sent before.
fn next_count(logged: u64, sent: u64) -> u64 {
    logged.max(sent).saturating_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_is_above_what_was_sent_and_what_is_logged() {
        assert_eq!(next_count(0, 0), 1);
        assert_eq!(next_count(4, 7), 8, "three are on their way");
        assert_eq!(next_count(7, 0), 8, "after a restart");
    }
}
