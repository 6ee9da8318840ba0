//! Whether the wall clocks of the nodes agree, with one another and with the date.
//!
//! License dates go by the clocks together (the ledger's wall floor), so a
//! wrong one harms nobody and nobody would notice, until there are two. So
//! every node tells its operator of a clock far from its own, and of a date
//! that its own clock does not bear out.

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

/// A heartbeat takes less to be logged and applied, on a busy machine too.
const MOMENT_MILLIS: u64 = 10_000;

/// What the last heartbeat of a live node said, if it was heard in this term.
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

/// How the date that licenses go by stands to this node's own clock.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Floor {
    /// Within five minutes, or not known yet.
    #[default]
    Fits,
    /// The clock shows a time that has been: one of the two is wrong.
    Above,
    /// An outage that the clocks have not made good, or a low clock holds it up.
    Behind,
}

impl Floor {
    /// How `floor` stands to a clock that shows `own`.
    fn stands(floor: WallTime, own: WallTime) -> Self {
        let behind_ms = own.0.saturating_sub(floor.0);
        match behind_ms.unsigned_abs() > WALL_AGREEMENT_MILLIS {
            false => Self::Fits,
            true if behind_ms < 0 => Self::Above,
            true => Self::Behind,
        }
    }
}

/// What is known to be wrong, so that each is told of once.
#[derive(Debug, Default)]
struct Watch {
    differing: BTreeSet<NodeId>,
    floor: Floor,
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

    /// How the date stands, if it has begun not to fit.
    fn compare_floor(&mut self, floor: Option<WallTime>, own: WallTime) -> Option<Floor> {
        let stands = floor.map_or(Floor::Fits, |floor| Floor::stands(floor, own));
        let begun = stands != self.floor && stands != Floor::Fits;
        self.floor = stands;
        begun.then_some(stands)
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
        let own = clock.wall();
        let (beats, floor) = service.peek(|ledger| (beats(ledger), ledger.wall()));
        if !is_up_to_date(&beats, node, own) {
            continue;
        }
        let beats: Vec<Beat> = beats.into_iter().filter(|beat| beat.node != node).collect();
        tell_of_floor(watch.compare_floor(floor, own), floor, own, &metrics);
        for (other, ahead_ms) in watch.compare(&beats, own) {
            metrics.clock_alarm(ClockAlarm::WallDisagreement);
            tracing::warn!(
                node = %other,
                ahead_s = ahead_ms / 1_000,
                "a node's wall clock is more than five minutes from this node's: check NTP on both; license dates go by the lowest clock that may be right"
            );
        }
    }
}

fn tell_of_floor(begun: Option<Floor>, floor: Option<WallTime>, own: WallTime, metrics: &Metrics) {
    let (Some(begun), Some(floor)) = (begun, floor) else { return };
    match begun {
        Floor::Fits => {}
        Floor::Above => {
            metrics.clock_alarm(ClockAlarm::BelowFloor);
            tracing::warn!(
                %own,
                date = %floor,
                "this node's wall clock is before the date that licenses go by: check NTP here; if all clocks are right, the date is ahead and only a vendor's clock reset turns it back"
            );
        }
        Floor::Behind => {
            metrics.clock_alarm(ClockAlarm::FloorBehind);
            tracing::warn!(
                %own,
                date = %floor,
                "the date that licenses go by is behind this node's wall clock: an outage was not made good because another clock is lower or a node has only just gone silent; check NTP on all nodes"
            );
        }
    }
}

/// Whether the ledger is of now: it holds what this node's own clock showed a
/// moment ago. A node that joins, or that was away, reads heartbeats and dates of
/// long ago first, and no clock is wrong for that.
fn is_up_to_date(beats: &[Beat], node: NodeId, own: WallTime) -> bool {
    let heard = beats.iter().find(|beat| beat.node == node);
    heard.is_some_and(|beat| beat.ahead_ms(own).unsigned_abs() <= MOMENT_MILLIS)
}

fn beats(ledger: &Ledger) -> Vec<Beat> {
    let live = ledger.members().into_iter().filter(|member| member.live);
    let beat = |member: ledger::view::MemberView| {
        let heard = member.heard.filter(|heard| ledger.is_of_this_term(*heard))?;
        let age_ms = ledger.clock().millis_since(heard);
        Some(Beat { node: member.node, wall: member.wall?, age_ms })
    };
    live.filter_map(beat).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: WallTime = WallTime(1_700_000_000_000);
    const MINUTE: i64 = 60_000;

    fn beat(node: u64, ahead_ms: i64) -> Beat {
        Beat { node: NodeId(node), wall: OWN.plus_millis(ahead_ms), age_ms: 0 }
    }

    /// While it catches up a node reads heartbeats of others that are as old as
    /// its own, if there is one of it at all.
    #[test]
    fn a_ledger_that_is_not_of_now_says_nothing_of_clocks() {
        let own = NodeId(1);
        assert!(is_up_to_date(&[beat(1, -3_000), beat(2, 60 * MINUTE)], own, OWN));
        assert!(!is_up_to_date(&[beat(2, -60 * MINUTE)], own, OWN), "it is only joining");
        assert!(!is_up_to_date(&[beat(1, -MINUTE)], own, OWN), "it was away");
        assert!(!is_up_to_date(&[], own, OWN));
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
    fn a_date_that_the_own_clock_does_not_bear_out_is_told_of_once() {
        let mut watch = Watch::default();
        assert_eq!(watch.compare_floor(None, OWN), None, "no date is known yet");
        let (fits, above, behind) = (5 * MINUTE, 5 * MINUTE + 1, -5 * MINUTE - 1);
        assert_eq!(watch.compare_floor(Some(OWN.plus_millis(fits)), OWN), None);
        assert_eq!(watch.compare_floor(Some(OWN.plus_millis(above)), OWN), Some(Floor::Above));
        assert_eq!(watch.compare_floor(Some(OWN.plus_millis(above)), OWN), None, "told");
        assert_eq!(watch.compare_floor(Some(OWN.plus_millis(behind)), OWN), Some(Floor::Behind));
        assert_eq!(watch.compare_floor(Some(OWN), OWN), None);
        assert_eq!(watch.compare_floor(Some(OWN.plus_millis(behind)), OWN), Some(Floor::Behind));
        assert_eq!(Floor::stands(WallTime(i64::MIN), WallTime(i64::MAX)), Floor::Behind);
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
