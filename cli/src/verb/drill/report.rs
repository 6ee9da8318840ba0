//! What a drill found: as a table, and as JSON.

use serde::Serialize;

use super::limits::{Limit, Limits};
use super::record::{Felt, Mark, Spread};
use super::scenario::Scenario;
use crate::console::{Cell, Page, Tone};

/// The table's headings, on the terminal and on the page.
pub(super) const COLUMNS: [&str; 10] = [
    "scenario",
    "no new grant",
    "no renewal",
    "slowest call",
    "calls",
    "failed",
    "unknown",
    "lost",
    "doubled",
    "limits",
];

/// `trine drill --json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// `lab`, or the context that was drilled.
    pub(super) installation: String,
    /// What `trine --version` says.
    pub(super) version: &'static str,
    /// The engine of the nodes.
    pub(super) engine: String,
    pub(super) repeats: usize,
    pub(super) scenarios: Vec<Judged>,
    /// Why the usage history, counted anew, does not hold; absent if it does.
    pub(super) history_broken: Option<String>,
    pub(super) seconds: u64,
}

/// One scenario, over its repeats.
#[derive(Debug, Default, Serialize)]
pub(super) struct Judged {
    pub(super) scenario: &'static str,
    /// The longest time without a new grant, in milliseconds.
    pub(super) grant_gap_ms: Spread,
    /// The longest time without an answered renewal.
    pub(super) renewal_gap_ms: Spread,
    /// The slowest call, its retries included.
    pub(super) slowest_ms: Spread,
    pub(super) calls: usize,
    pub(super) failed: usize,
    pub(super) unknown: usize,
    pub(super) lost: usize,
    pub(super) doubled: usize,
    /// What else was not as it must be.
    pub(super) wrong: Vec<String>,
    /// What is over its limit; empty when the scenario passed.
    pub(super) broken: Vec<String>,
    pub(super) limit: Limit,
    pub(super) repeats: Vec<Repeat>,
}

/// One repeat, with its picture.
#[derive(Debug, Default, Serialize)]
pub(super) struct Repeat {
    #[serde(flatten)]
    pub(super) felt: Felt,
    pub(super) marks: Vec<Mark>,
    /// How long the picture is, and one bar of it, in milliseconds.
    pub(super) span_ms: u64,
    pub(super) step_ms: u64,
    /// Grants and renewals in each step.
    pub(super) grants: Vec<u32>,
    pub(super) renewals: Vec<u32>,
}

impl Judged {
    /// Adds up `repeats` and judges them.
    pub(super) fn judge(
        scenario: Scenario,
        repeats: Vec<Repeat>,
        seats: Seats,
        limits: &Limits,
    ) -> Self {
        let spread = |figure: fn(&Felt) -> u64| {
            Spread::of(repeats.iter().map(|repeat| figure(&repeat.felt)))
        };
        let sum = |count: fn(&Felt) -> usize| {
            repeats.iter().map(|repeat| count(&repeat.felt)).sum::<usize>()
        };
        let mut outcome = Self {
            scenario: scenario.name(),
            grant_gap_ms: spread(|felt| felt.grant_gap_ms),
            renewal_gap_ms: spread(|felt| felt.renewal_gap_ms),
            slowest_ms: spread(|felt| felt.slowest_ms),
            calls: sum(|felt| felt.calls),
            failed: sum(|felt| felt.failed),
            unknown: sum(|felt| felt.unknown),
            lost: seats.lost,
            doubled: seats.doubled,
            wrong: seats.wrong,
            broken: Vec::new(),
            limit: limits.of(scenario),
            repeats,
        };
        outcome.broken = outcome.limit.broken_by(&outcome);
        outcome
    }
}

/// What became of seats during a scenario.
#[derive(Debug, Default)]
pub(super) struct Seats {
    pub(super) lost: usize,
    pub(super) doubled: usize,
    pub(super) wrong: Vec<String>,
}

impl Report {
    /// Whether no limit is broken.
    pub(super) fn holds(&self) -> bool {
        self.history_broken.is_none()
            && self.scenarios.iter().all(|outcome| outcome.broken.is_empty())
    }

    pub(super) fn show(&self, page: &mut Page) {
        let title = format!(
            "{} · {} · {} repeats · {} s",
            self.installation, self.engine, self.repeats, self.seconds
        );
        let title = page.tone(Tone::Strong, &title);
        page.line(title);
        page.line("gaps in milliseconds: median / p99 / worst of the repeats");
        let rows = self.scenarios.iter().map(|outcome| {
            let verdict = match outcome.broken.is_empty() {
                true => Cell::toned(Tone::Good, "kept"),
                false => Cell::toned(Tone::Bad, "BROKEN"),
            };
            let text = |text: String| Cell::from(text);
            vec![
                text(outcome.scenario.to_owned()),
                text(show(outcome.grant_gap_ms)),
                text(show(outcome.renewal_gap_ms)),
                text(show(outcome.slowest_ms)),
                text(outcome.calls.to_string()),
                text(outcome.failed.to_string()),
                text(outcome.unknown.to_string()),
                text(outcome.lost.to_string()),
                text(outcome.doubled.to_string()),
                verdict,
            ]
        });
        page.table(&COLUMNS, rows);
        for outcome in &self.scenarios {
            for broken in &outcome.broken {
                page.line(format_args!("{}: {broken}", outcome.scenario));
            }
        }
        match &self.history_broken {
            None => page.line("history: no moment had more seats than were licensed"),
            Some(why) => page.line(format_args!("history: {why}")),
        }
    }
}

fn show(spread: Spread) -> String {
    format!("{} / {} / {}", spread.p50, spread.p99, spread.max)
}
