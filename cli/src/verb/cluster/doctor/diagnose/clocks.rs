//! Wall clocks: against one another, and against the date that licenses go by.

use ledger::limits::WALL_AGREEMENT_MILLIS;
use license::product::WallTime;

use super::super::finding::Finding;
use super::super::observations::{Observations, name};
use crate::dates::{show_date, show_millis};

/// One node's clock.
#[derive(Debug, Clone, Copy)]
struct Clock {
    node: u64,
    shows: i64,
    /// The date that licenses go by, in the node's ledger.
    floor: Option<i64>,
}

impl Clock {
    fn agrees(self, other: Self) -> bool {
        self.shows.abs_diff(other.shows) <= WALL_AGREEMENT_MILLIS
    }

    /// How far it is ahead of the date; below zero behind it.
    fn ahead(self) -> Option<i64> {
        Some(self.shows.saturating_sub(self.floor?))
    }
}

pub(super) fn findings(seen: &Observations, now: WallTime) -> Vec<Finding> {
    let clock = |node: &wire::v1::NodeStatusReply| {
        let checkup = node.checkup.as_ref()?;
        Some(Clock { node: node.id, shows: checkup.wall_ms, floor: checkup.wall_floor_ms })
    };
    let clocks: Vec<Clock> = seen.answering().filter_map(clock).collect();
    let mut findings = disagreement(&clocks, now);
    findings.extend(date(&clocks));
    findings
}

/// Clocks that no other bears out.
fn disagreement(clocks: &[Clock], now: WallTime) -> Vec<Finding> {
    let alone = |clock: &&Clock| {
        let mut others = clocks.iter().filter(|other| other.node != clock.node);
        others.clone().next().is_some() && !others.any(|other| clock.agrees(*other))
    };
    let alone: Vec<Clock> = clocks.iter().filter(alone).copied().collect();
    let all = alone.len() == clocks.len();
    let wrong = |clock: Clock| {
        let (off, which) = match clocks.iter().find(|other| !all && other.node != clock.node) {
            Some(right) => (clock.shows.saturating_sub(right.shows), "the other nodes'"),
            // Nobody to go by but this machine.
            None => (clock.shows.saturating_sub(now.0), "this machine's"),
        };
        let what = format!(
            "its wall clock shows {}, {} {which}",
            show_date(WallTime(clock.shows)),
            apart(off)
        );
        let advice = format!(
            "set the clock of {} right and run NTP there (timedatectl, chronyc tracking)",
            name(clock.node)
        );
        if all {
            Finding::error("CLOCKS_DISAGREE", name(clock.node), what, advice)
        } else {
            Finding::warning("CLOCK_WRONG", name(clock.node), what, advice)
        }
    };
    alone.into_iter().map(wrong).collect()
}

/// The date that licenses go by, where the clocks agree.
fn date(clocks: &[Clock]) -> Option<Finding> {
    let (first, others) = clocks.split_first()?;
    if others.is_empty() || !others.iter().all(|other| first.agrees(*other)) {
        return None;
    }
    let ahead = first.ahead()?;
    if ahead.unsigned_abs() <= WALL_AGREEMENT_MILLIS {
        return None;
    }
    let what = format!(
        "license dates go by {}, and the nodes' clocks agree on {}, {} it",
        show_date(WallTime(first.floor?)),
        show_date(WallTime(first.shows)),
        apart(ahead)
    );
    Some(if ahead < 0 {
        Finding::error(
            "DATE_AHEAD",
            "cluster",
            what,
            "if the clocks are right, wrong ones carried the date ahead: ask each vendor for a clock reset and install it with `trine cluster clock-reset`",
        )
    } else {
        Finding::warning(
            "DATE_LATE",
            "cluster",
            what,
            "after an outage the date waits for all three nodes, or ten minutes for one that is down; if it stays, see whether a third node's clock is behind",
        )
    })
}

fn apart(millis: i64) -> String {
    let length = show_millis(millis.unsigned_abs());
    if millis < 0 { format!("{length} behind") } else { format!("{length} ahead of") }
}
