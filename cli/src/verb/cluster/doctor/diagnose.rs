//! From what was seen to what is wrong. Pure; a file for each subject.

mod builds;
mod certificates;
mod clocks;
mod disks;
mod doors;
mod licenses;
mod nodes;
#[cfg(test)]
mod tests;

use license::product::WallTime;

use super::finding::Finding;
use super::observations::Observations;

/// What counts as too little.
#[derive(Debug, Clone, Copy)]
pub(super) struct Thresholds {
    /// Warn below so many bytes free; a quarter of it is an error.
    pub(super) disk_free: u64,
}

/// Everything that is wrong, the worst first. `now` is this machine's clock.
pub(super) fn diagnose(
    seen: &Observations,
    thresholds: &Thresholds,
    now: WallTime,
) -> Vec<Finding> {
    let mut findings = nodes::findings(seen);
    findings.extend(builds::findings(seen));
    findings.extend(licenses::findings(seen));
    findings.extend(clocks::findings(seen, now));
    findings.extend(certificates::findings(seen, now));
    findings.extend(disks::findings(seen, thresholds));
    findings.extend(doors::findings(seen));
    // Stable: within a severity, what explains most stays first.
    findings.sort_by_key(|finding| finding.severity);
    findings
}
