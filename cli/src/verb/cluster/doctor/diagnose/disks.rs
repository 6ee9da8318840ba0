//! Disks that are nearly full, or slow.

use super::super::finding::Finding;
use super::super::observations::{Observations, name};
use super::Thresholds;

/// Half of the latest syncs took longer: every answer waits for one.
const MEDIAN_MAX_US: u64 = 50_000;
/// One of a hundred took longer: a leader that waits so long may lose its office.
const P99_MAX_US: u64 = 400_000;
/// Fewer syncs say nothing of the median.
const SYNCS_MIN: u64 = 20;
/// Fewer say nothing of one in a hundred: it would be the slowest one or two, and a
/// machine that was busy for a moment is no slow disk. Of so many it is five.
const SYNCS_MIN_OF_P99: u64 = 400;

pub(super) fn findings(seen: &Observations, thresholds: &Thresholds) -> Vec<Finding> {
    let mut findings = Vec::new();
    for node in seen.answering() {
        let Some(checkup) = &node.checkup else { continue };
        let about = name(node.id);
        if let Some(disk) = checkup.disk.as_ref().filter(|d| d.bytes_free < thresholds.disk_free) {
            let what = format!(
                "the disk of {} has {} MiB of {} MiB free",
                disk.path,
                disk.bytes_free >> 20,
                disk.bytes_total >> 20
            );
            let advice = "make room on it or make it larger: a node whose disk is full stops";
            findings.push(if disk.bytes_free < thresholds.disk_free / 4 {
                Finding::error("DISK_FULL", &about, what, advice)
            } else {
                Finding::warning("DISK_FILLING", &about, what, advice)
            });
        }
        let slow = |syncs: &&wire::v1::checkup::Syncs| {
            (syncs.count >= SYNCS_MIN && syncs.median_us > MEDIAN_MAX_US)
                || (syncs.count >= SYNCS_MIN_OF_P99 && syncs.p99_us > P99_MAX_US)
        };
        if let Some(syncs) = checkup.syncs.as_ref().filter(slow) {
            findings.push(Finding::warning(
                "DISK_SLOW",
                &about,
                format!(
                    "of the last {} syncs of its log half took over {} ms and one in a hundred over {} ms",
                    syncs.count,
                    syncs.median_us / 1_000,
                    syncs.p99_us / 1_000
                ),
                "give the data directory a disk of its own, or a faster one; see what else writes to it (iostat -x 1)",
            ));
        }
    }
    findings
}
