//! Laws about order alone: real time, places in the log, cluster time.

use std::collections::BTreeMap;

use super::Violation;
use super::attempt::Attempt;
use crate::history::{LogId, Op};

/// Cluster time may run this much faster than true time (S8, S15).
const DRIFT: f64 = 0.005;
/// What S15 allows beyond the drift: stamps are whole milliseconds, and a
/// leader samples its clock by the tick.
const SLACK_MS: f64 = 100.0;

pub(super) fn check(attempts: &[Attempt], jumped_ms: u64, violations: &mut Vec<Violation>) {
    real_time(attempts, violations);
    unique_places(attempts, violations);
    cluster_time(attempts, jumped_ms, violations);
}

/// What was answered before a call was made was decided before it.
fn real_time(attempts: &[Attempt], violations: &mut Vec<Violation>) {
    for attempt in attempts {
        let Some(place) = attempt.place() else { continue };
        // A read decides nothing: several may see the same entry last.
        let in_order = match attempt.op {
            Op::Seats => place.log_id >= attempt.after,
            _ => place.log_id > attempt.after,
        };
        if !in_order {
            let law = if attempt.op == Op::Seats { "S24" } else { "S17" };
            violations.push(Violation::new(
                law,
                place.log_id,
                format!(
                    "{} of {} was decided at {}, but {} had been answered to somebody before the call was made: the log went back",
                    super::name(&attempt.op), attempt.client, place.log_id, attempt.after
                ),
            ));
        }
    }
}

/// One place in the log holds one command.
fn unique_places(attempts: &[Attempt], violations: &mut Vec<Violation>) {
    let mut owners: BTreeMap<LogId, &Attempt> = BTreeMap::new();
    for attempt in attempts.iter().filter(|attempt| attempt.op != Op::Seats) {
        let Some(place) = attempt.place() else { continue };
        let Some(other) = owners.insert(place.log_id, attempt) else { continue };
        // Several calls may wait for the same queued request, and all hear of its settling.
        let both_await =
            matches!((&attempt.op, &other.op), (Op::Acquire { .. }, Op::Acquire { .. }))
                && attempt.op.request() == other.op.request();
        if !both_await {
            violations.push(Violation::new(
                "S17",
                place.log_id,
                format!(
                    "both {} of {} and {} of {} were decided at {}: two histories",
                    super::name(&other.op),
                    other.client,
                    super::name(&attempt.op),
                    attempt.client,
                    place.log_id
                ),
            ));
        }
    }
}

/// S14: cluster time never goes back in log order. S15: nor ahead of true time.
fn cluster_time(attempts: &[Attempt], jumped_ms: u64, violations: &mut Vec<Violation>) {
    let mut placed: Vec<_> =
        attempts.iter().filter_map(|attempt| Some((attempt.place()?, attempt))).collect();
    placed.sort_by_key(|(place, _)| place.log_id);
    for pair in placed.windows(2) {
        let [(before, _), (after, _)] = pair else { continue };
        if after.stamp_ms < before.stamp_ms {
            violations.push(Violation::new(
                "S14",
                after.log_id,
                format!(
                    "cluster time went back: {} ms at {}, then {} ms at {}",
                    before.stamp_ms, before.log_id, after.stamp_ms, after.log_id
                ),
            ));
        }
    }
    // For each pair: the later entry was stamped before its answer came, the
    // earlier one after its call was made, so no more passed between the
    // stamps than between call and answer.
    let mut slowest = f64::INFINITY;
    for (place, attempt) in placed {
        let stamp = place.stamp_ms as f64;
        let answered = (1.0 + DRIFT) * attempt.answered_us as f64 / 1e3;
        if stamp - answered > slowest + SLACK_MS + jumped_ms as f64 {
            violations.push(Violation::new(
                "S15",
                place.log_id,
                format!(
                    "cluster time ran {:.0} ms ahead of true time by {}",
                    stamp - answered - slowest,
                    place.log_id
                ),
            ));
            break;
        }
        // A read may be of a state stamped long before it was asked for.
        if attempt.op != Op::Seats {
            slowest = slowest.min(stamp - (1.0 + DRIFT) * attempt.invoked_us as f64 / 1e3);
        }
    }
}
