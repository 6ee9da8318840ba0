//! What a scenario may cost: a table in a file, and the verdict against it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::report::Judged;
use super::scenario::Scenario;
use crate::failure::Failure;
use crate::files;
use crate::report::seats;

/// The limits of the lab.
const LAB: &str = include_str!("../../../../deploy/lab/limits.toml");

/// A file of limits is small.
const BYTES_MAX: u64 = 64 * 1024;

/// Limits by scenario. Seats lost or doubled are never allowed, and not listed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(super) struct Limits(BTreeMap<Scenario, Limit>);

/// What one scenario may cost; what is left out is not limited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Limit {
    /// The longest time without a new grant, in milliseconds, at p99 of the repeats.
    pub(super) grant_gap_p99_ms: Option<u64>,
    /// The same for renewals.
    pub(super) renewal_gap_p99_ms: Option<u64>,
    /// Requests that failed or ended unknown, over all repeats.
    pub(super) failed_max: Option<usize>,
}

impl Limits {
    /// Reads `file`, or those of the lab.
    pub(super) fn read(file: Option<&Path>) -> Result<Self, Failure> {
        match file {
            None => Self::parse(LAB),
            Some(file) => {
                let bytes = files::read("limits", file, BYTES_MAX)?;
                let text = String::from_utf8(bytes).map_err(Failure::usage)?;
                Self::parse(&text)
                    .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
            }
        }
    }

    fn parse(text: &str) -> Result<Self, Failure> {
        toml::from_str(text).map_err(Failure::usage)
    }

    pub(super) fn of(&self, scenario: Scenario) -> Limit {
        self.0.get(&scenario).copied().unwrap_or_default()
    }
}

impl Limit {
    /// What of `outcome` is over a limit, in words.
    pub(super) fn broken_by(&self, outcome: &Judged) -> Vec<String> {
        let mut broken = Vec::new();
        let mut gap = |what: &str, seen: u64, limit: Option<u64>| {
            if let Some(limit) = limit.filter(|limit| seen > *limit) {
                broken.push(format!("{what} {seen} ms at p99, {limit} allowed"));
            }
        };
        gap("gap of new grants", outcome.grant_gap_ms.p99, self.grant_gap_p99_ms);
        gap("gap of renewals", outcome.renewal_gap_ms.p99, self.renewal_gap_p99_ms);
        let failed = outcome.failed + outcome.unknown;
        if let Some(limit) = self.failed_max.filter(|limit| failed > *limit) {
            broken.push(format!("{failed} requests failed or are unknown, {limit} allowed"));
        }
        for (what, count) in [("lost", outcome.lost), ("doubled", outcome.doubled)] {
            if count > 0 {
                broken.push(format!("{} {what}", seats(count as u64)));
            }
        }
        broken.extend(outcome.wrong.iter().cloned());
        broken
    }
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum as _;

    use super::super::record::Spread;
    use super::*;

    #[test]
    fn the_lab_has_limits_for_every_scenario() {
        let limits = Limits::parse(LAB).expect("the lab's limits");
        for scenario in Scenario::value_variants() {
            assert_ne!(limits.of(*scenario), Limit::default(), "{}", scenario.name());
        }
    }

    #[test]
    fn a_limit_for_an_unknown_scenario_is_a_typing_error() {
        assert!(Limits::parse("[leader-kiled]\nfailed_max = 0").is_err());
        assert!(Limits::parse("[leader-killed]\nfailed = 0").is_err());
    }

    #[test]
    fn a_lost_seat_breaks_a_limit_that_nobody_wrote() {
        let outcome = Judged { lost: 1, ..Judged::default() };
        assert_eq!(Limit::default().broken_by(&outcome), ["1 seat lost"]);
    }

    #[test]
    fn a_gap_is_judged_at_p99() {
        let limit = Limit { grant_gap_p99_ms: Some(1_000), ..Limit::default() };
        let of =
            |p99| Judged { grant_gap_ms: Spread { p50: 1, p99, max: 5_000 }, ..Judged::default() };
        assert!(limit.broken_by(&of(1_000)).is_empty());
        assert_eq!(limit.broken_by(&of(1_001)), ["gap of new grants 1001 ms at p99, 1000 allowed"]);
    }
}
