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
    // The leader's first: a node on its way in reads dates of long ago.
    let told = seen.cluster.as_ref().ok().and_then(|status| status.wall_floor_ms);
    let clock = |node: &wire::v1::NodeStatusReply| {
        let checkup = node.checkup.as_ref()?;
        let floor = told.or(checkup.wall_floor_ms);
        Some(Clock { node: node.id, shows: checkup.wall_ms, floor })
    };
    let clocks: Vec<Clock> = seen.answering().filter_map(clock).collect();
    let mut findings = disagreement(&clocks, now);
    findings.extend(date(&clocks));
    findings.extend(here(&clocks, now));
    findings
}

/// All clocks agree, and this machine's does not with them: one side is wrong,
/// and the date cannot tell which, since it follows the nodes' clocks.
fn here(clocks: &[Clock], now: WallTime) -> Option<Finding> {
    let (first, others) = clocks.split_first()?;
    let here = Clock { node: 0, shows: now.0, floor: None };
    let floor = first.floor.unwrap_or(first.shows);
    let is_borne_out = floor.abs_diff(now.0) <= WALL_AGREEMENT_MILLIS;
    if first.agrees(here) || is_borne_out || !others.iter().all(|other| first.agrees(*other)) {
        return None;
    }
    let what = format!(
        "the nodes' clocks show {}, {} this machine's, which shows {}",
        show_date(WallTime(first.shows)),
        apart(first.shows.saturating_sub(now.0)),
        show_date(now)
    );
    Some(Finding::warning(
        "CLOCK_HERE_DIFFERS",
        "cluster",
        what,
        "one of the two is wrong. If it is this machine's, set it right and ask again; if it is the nodes', licenses begin and end by wrong dates: set all three right, and if the date is ahead then (DATE_AHEAD), ask each vendor for a clock reset",
    ))
}

/// Clocks that are wrong, and how that is known.
fn disagreement(clocks: &[Clock], now: WallTime) -> Vec<Finding> {
    // Where the date bears this machine's clock out, both are right: two nodes
    // that agree with one another may share a bad time server.
    let is_borne_out = clocks.iter().any(|clock| {
        let floor = clock.floor.map(|floor| floor.abs_diff(now.0));
        floor.is_some_and(|apart| apart <= WALL_AGREEMENT_MILLIS)
    });
    if is_borne_out {
        let right = Clock { node: 0, shows: now.0, floor: None };
        let wrong: Vec<Clock> =
            clocks.iter().filter(|clock| !clock.agrees(right)).copied().collect();
        let which = "this machine's and the cluster's date";
        let named = |clock: &Clock| (*clock, clock.shows.saturating_sub(now.0), which);
        return match wrong[..] {
            [one] => vec![wrong_clock(Finding::warning, "CLOCK_WRONG", named(&one))],
            // With the right one gone nobody would contradict them.
            _ => {
                let each = wrong.iter().map(named);
                each.map(|clock| wrong_clock(Finding::error, "CLOCK_WRONG", clock)).collect()
            }
        };
    }
    let alone = |clock: &&Clock| {
        let mut others = clocks.iter().filter(|other| other.node != clock.node);
        others.clone().next().is_some() && !others.any(|other| clock.agrees(*other))
    };
    let alone: Vec<Clock> = clocks.iter().filter(alone).copied().collect();
    let all = alone.len() == clocks.len();
    let finding = |clock: Clock| match clocks.iter().find(|other| other.node != clock.node) {
        Some(right) if !all => {
            let off = clock.shows.saturating_sub(right.shows);
            wrong_clock(Finding::warning, "CLOCK_WRONG", (clock, off, "the other nodes'"))
        }
        // Nobody to go by but this machine.
        _ => {
            let off = clock.shows.saturating_sub(now.0);
            wrong_clock(Finding::error, "CLOCKS_DISAGREE", (clock, off, "this machine's"))
        }
    };
    alone.into_iter().map(finding).collect()
}

type Make = fn(&'static str, String, String, String) -> Finding;

/// Whose clock, how far it is off, and from what.
fn wrong_clock(make: Make, code: &'static str, (clock, off, which): (Clock, i64, &str)) -> Finding {
    let what = format!(
        "its wall clock shows {}, {} {which}",
        show_date(WallTime(clock.shows)),
        apart(off)
    );
    let advice = format!(
        "set the clock of {} right and run NTP there (timedatectl, chronyc tracking)",
        name(clock.node)
    );
    make(code, name(clock.node), what, advice)
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
