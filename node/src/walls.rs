//! Whether the wall clocks of the nodes agree.
//!
//! License dates move only when two clocks agree (the ledger's wall floor), so
//! one wrong clock harms nobody and nobody would notice; a second one would
//! hold the date. So every node tells its operator of a clock far from its own.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
use ledger::limits::WALL_AGREEMENT_MILLIS;
use license::product::{NodeId, WallTime};

use crate::clock::Clock;
use crate::service::Service;
use crate::telemetry::{ClockAlarm, Metrics};

/// How often the clocks are compared: as often as heartbeats come.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);

/// What the last heartbeat of another live node said.
#[derive(Debug, Clone, Copy)]
struct Beat {
    node: NodeId,
    /// Its wall clock then.
    wall: WallTime,
    /// How long ago it was logged, in milliseconds of cluster time.
    age_ms: u64,
}

impl Beat {
    /// By how many milliseconds its clock was ahead of ours, which shows `own` now.
    fn ahead_ms(&self, own: WallTime) -> i64 {
        let age_ms = i64::try_from(self.age_ms).unwrap_or(i64::MAX);
        self.wall.plus_millis(age_ms).0.saturating_sub(own.0)
    }
}

/// Whose clocks are known to differ, so that each is told of once.
#[derive(Debug, Default)]
struct Watch {
    differing: BTreeSet<NodeId>,
}

impl Watch {
    /// The nodes whose clocks have begun to differ, and by how many
    /// milliseconds they are ahead. Who has gone silent stays as it was.
    fn compare(&mut self, beats: &[Beat], own: WallTime) -> Vec<(NodeId, i64)> {
        let mut begun = Vec::new();
        for beat in beats {
            let ahead_ms = beat.ahead_ms(own);
            if ahead_ms.unsigned_abs() <= WALL_AGREEMENT_MILLIS {
                self.differing.remove(&beat.node);
            } else if self.differing.insert(beat.node) {
                begun.push((beat.node, ahead_ms));
            }
        }
        begun
    }
}

/// Tells of every wall clock that differs from this node's. Never ends.
pub(crate) async fn run(
    node: NodeId,
    service: Service,
    clock: Arc<dyn Clock>,
    metrics: Arc<Metrics>,
) {
    let mut watch = Watch::default();
    loop {
        tokio::time::sleep(COMPARE_INTERVAL).await;
        let beats = service.peek(|ledger| beats_of_others(ledger, node));
        for (other, ahead_ms) in watch.compare(&beats, clock.wall()) {
            metrics.clock_alarm(ClockAlarm::WallDisagreement);
            tracing::warn!(
                node = %other,
                ahead_s = ahead_ms / 1_000,
                "a node's wall clock is more than five minutes from this node's: check NTP on both; license dates wait until two clocks agree"
            );
        }
    }
}

fn beats_of_others(ledger: &Ledger, node: NodeId) -> Vec<Beat> {
    let others = ledger.members().into_iter().filter(|member| member.live && member.node != node);
    let beat = |member: ledger::view::MemberView| {
        let age_ms = ledger.clock().millis_since(member.heard?);
        Some(Beat { node: member.node, wall: member.wall?, age_ms })
    };
    others.filter_map(beat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: WallTime = WallTime(1_700_000_000_000);
    const MINUTE: i64 = 60_000;

    fn beat(node: u64, ahead_ms: i64) -> Beat {
        Beat { node: NodeId(node), wall: OWN.plus_millis(ahead_ms), age_ms: 0 }
    }

    #[test]
    fn a_clock_is_wrong_beyond_five_minutes_either_way() {
        let beats = [beat(2, 5 * MINUTE), beat(3, -5 * MINUTE)];
        assert_eq!(Watch::default().compare(&beats, OWN), []);
        let beats = [beat(2, 5 * MINUTE + 1), beat(3, -5 * MINUTE - 1)];
        assert_eq!(
            Watch::default().compare(&beats, OWN),
            [(NodeId(2), 5 * MINUTE + 1), (NodeId(3), -5 * MINUTE - 1)]
        );
    }

    #[test]
    fn it_is_told_once_until_it_agrees_again() {
        let mut watch = Watch::default();
        let (wrong, right) = ([beat(2, 60 * MINUTE)], [beat(2, 0)]);
        assert_eq!(watch.compare(&wrong, OWN).len(), 1);
        assert_eq!(watch.compare(&wrong, OWN), []);
        assert_eq!(watch.compare(&[], OWN), [], "silent for a while");
        assert_eq!(watch.compare(&wrong, OWN), []);
        assert_eq!(watch.compare(&right, OWN), []);
        assert_eq!(watch.compare(&wrong, OWN).len(), 1);
    }

    #[test]
    fn clocks_are_compared_at_the_time_of_the_heartbeat() {
        let old = Beat { age_ms: 2_000, ..beat(2, -5 * MINUTE - 2_000) };
        assert_eq!(Watch::default().compare(&[old], OWN), []);
    }

    #[test]
    fn a_clock_of_another_age_overflows_nothing() {
        let begun = Watch::default().compare(
            &[
                Beat { node: NodeId(2), wall: WallTime(i64::MIN), age_ms: 0 },
                Beat { node: NodeId(3), wall: WallTime(i64::MAX), age_ms: u64::MAX },
            ],
            OWN,
        );
        assert_eq!(begun.len(), 2);
    }
}
