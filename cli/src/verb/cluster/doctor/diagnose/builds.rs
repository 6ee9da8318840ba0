//! The builds: one and the same, and none too old for the feature level.

use std::collections::BTreeSet;

use wire::v1;

use super::super::finding::Finding;
use super::super::observations::{Observations, name};

pub(super) fn findings(seen: &Observations) -> Vec<Finding> {
    let mut findings: Vec<Finding> = versions(seen).into_iter().collect();
    if let Ok(status) = &seen.cluster {
        findings.extend(status.nodes.iter().filter_map(|node| too_old(seen, status, node)));
        findings.extend(can_rise(seen, status));
    }
    findings
}

/// More than one build.
fn versions(seen: &Observations) -> Option<Finding> {
    let versions: BTreeSet<&str> = seen.answering().map(|node| node.version.as_str()).collect();
    if versions.len() < 2 {
        return None;
    }
    let each: Vec<String> =
        seen.answering().map(|node| format!("{} {}", name(node.id), node.version)).collect();
    Some(Finding::warning(
        "VERSIONS_DIFFER",
        "cluster",
        format!("the nodes run different builds: {}", each.join(", ")),
        "finish the upgrade; mixed builds serve meanwhile",
    ))
}

/// The highest level that a member's build knows: in its own word, or as it was
/// last heard. `None` where nobody knows.
fn highest_level(seen: &Observations, member: &v1::Node) -> Option<u32> {
    let own = seen.answering().find(|node| node.id == member.id);
    let highest = own.map_or(member.highest_level, |node| node.highest_level);
    Some(highest).filter(|level| *level > 0)
}

/// A build that does not know what the log may hold: it stops, or does not start.
fn too_old(seen: &Observations, status: &v1::StatusReply, member: &v1::Node) -> Option<Finding> {
    let highest = highest_level(seen, member).filter(|highest| *highest < status.level)?;
    Some(Finding::error(
        "BUILD_TOO_OLD",
        name(member.id),
        format!(
            "its build knows feature levels up to {highest}, and the cluster is at level {}",
            status.level
        ),
        "install the build that the other nodes run and start it: the level never falls",
    ))
}

/// Every build knows more than the cluster may use.
fn can_rise(seen: &Observations, status: &v1::StatusReply) -> Option<Finding> {
    let highest: Option<Vec<u32>> =
        status.nodes.iter().map(|member| highest_level(seen, member)).collect();
    let common = highest?.into_iter().min().filter(|common| *common > status.level)?;
    Some(Finding::warning(
        "LEVEL_CAN_RISE",
        "cluster",
        format!("the feature level is {}, and all builds know level {common}", status.level),
        "see what it brings with `trine cluster upgrade --check`, and raise it with `trine cluster upgrade` once no node is to go back to an older build",
    ))
}
