//! The nodes: there or not, of one cluster and one ledger, and within reach of
//! one another.

use std::collections::{BTreeMap, BTreeSet};

use trine_client::Reason;
use wire::v1;
use wire::v1::checkup::Member;

use super::super::finding::Finding;
use super::super::observations::{Observations, Problem, Seen, name};
use crate::dates::show_millis;
use crate::verb::cluster::before_restore::FromBefore;
use crate::verb::cluster::other_cluster;
use crate::verb::cluster::settling::is_unheard;

/// Entries a node may be behind: those of a few busy seconds.
const LAG_MAX: u64 = 20_000;

pub(super) fn findings(seen: &Observations) -> Vec<Finding> {
    let mut findings: Vec<Finding> = cluster(seen).into_iter().chain(quiet(seen)).collect();
    let from_before = FromBefore::among(seen.answering());
    findings.extend(before_restore(from_before.as_ref()));
    findings.extend(seen.nodes.iter().filter_map(|node| absent(seen, node)));
    let others = of_other_clusters(seen);
    findings.extend(strangers(others.as_ref(), seen));
    findings.extend(revoked(seen));
    findings.extend(unreached(seen));
    findings.extend(replacement(seen));
    if let Ok(status) = &seen.cluster {
        // Who is of another epoch or cluster is not heard: that is said, and the way out.
        let leader = status.leader;
        let parted = |node: u64| {
            let by_restore = from_before.as_ref().is_some_and(|it| it.part(leader, node));
            by_restore || others.as_ref().is_some_and(|(_, others)| others.contains_key(&node))
        };
        let heard = status.nodes.iter().filter(|node| !parted(node.id));
        findings.extend(heard.flat_map(|node| as_the_leader_sees(seen, status, node)));
    }
    findings
}

/// Nobody leads.
fn cluster(seen: &Observations) -> Option<Finding> {
    let problem = seen.cluster.as_ref().err()?;
    if problem.reason == Reason::Restoring {
        return Some(Finding::error(
            "RESTORING",
            "cluster",
            "a restore has begun and not ended: the cluster is not formed and serves nothing",
            "give the same `trine cluster restore` again: it goes on where it was",
        ));
    }
    let answering: Vec<_> = seen.answering().collect();
    // A node that has a log has been formed, and only has not read it yet; or is
    // being formed, and has a leader that says so.
    let says_so = problem.reason == Reason::NotFormed;
    let is_new =
        |node: &&v1::NodeStatusReply| !node.formed && (says_so || node.last_log_index == 0);
    if !answering.is_empty() && answering.iter().all(is_new) {
        return Some(Finding::error(
            "NOT_FORMED",
            "cluster",
            "the nodes that answer are not formed into a cluster",
            "form it with `trine cluster init`, or restore it with `trine cluster restore`",
        ));
    }
    if answering.is_empty() && problem.reason.is_not_allowed() {
        // Whether there is one nobody says; each node has a finding of its own.
        return None;
    }
    let what = format!("no quorum answers: {}", problem.message);
    Some(Finding::error(
        "NO_QUORUM",
        "cluster",
        what,
        "bring back the nodes below: any two of the three are enough",
    ))
}

/// One that was begun and not ended, which nothing else tells.
fn replacement(seen: &Observations) -> Option<Finding> {
    let pending = seen.cluster.as_ref().ok()?.replacement.as_ref()?;
    let v1::Replacement { old_node, new_node, new_address, detail, .. } = pending;
    Some(Finding::warning(
        "REPLACEMENT_UNDER_WAY",
        "cluster",
        format!(
            "{} is to take the place of {}, at {new_address}; {detail}",
            name(*new_node),
            name(*old_node)
        ),
        format!(
            "if nobody is about it: go on with `trine cluster replace {old_node} {new_node}`, or give it up with --undo, as long as {} has no vote",
            name(*new_node)
        ),
    ))
}

/// Nodes that run under a certificate that the others refuse.
fn revoked(seen: &Observations) -> Vec<Finding> {
    let shown = seen.answering().filter(|node| seen.shows_revoked(node.id));
    let finding = |node: &v1::NodeStatusReply| {
        Finding::error(
            "NODE_REVOKED",
            name(node.id),
            "its certificate was revoked: the other nodes do not hear it, nor does it hear them",
            "if it is to serve, give it a new one (`trine pki renew`; its files are taken without a restart); if its key was in wrong hands, replace it (`trine cluster replace`)",
        )
    };
    shown.map(finding).collect()
}

/// A restored cluster that grants nothing yet.
fn quiet(seen: &Observations) -> Option<Finding> {
    let left = seen.cluster.as_ref().ok()?.quiet_ms.filter(|left| *left > 0)?;
    Some(Finding::warning(
        "RESTORED",
        "cluster",
        format!(
            "it was restored from a backup, and nothing is granted for another {} of cluster time: applications that ask for a seat hear RESTORED, and so does a holder whose own hold had ended; seats are renewed for who held on, and released",
            show_millis(left)
        ),
        "nothing: it ends by itself, and who waits in a queue is served then",
    ))
}

/// A node that does not answer; the others may know more.
fn absent(seen: &Observations, node: &Seen<v1::NodeStatusReply>) -> Option<Finding> {
    let Problem { reason, message } = node.answer.as_ref().err()?;
    let about = Observations::name_of(node);
    let reached = seen.answering().any(|other| {
        let members = other.checkup.iter().flat_map(|checkup| &checkup.members);
        let mut reached = members.filter(|m| Some(m.id) == node.id && m.problem.is_empty());
        reached.next().is_some() && Some(other.id) != node.id
    });
    if reason.is_not_allowed() {
        return Some(Finding::error(
            "NODE_NOT_TRUSTED",
            about,
            format!("it and this doctor do not trust each other at {}: {message}", node.address),
            "one of two: its certificates are over or of another CA (see its log, and `trine pki renew`), or the identity that the doctor uses is (TRINE_CA, TRINE_CERT, TRINE_KEY; then ask from another machine). See also that the address is its client port",
        ));
    }
    let what = format!("it does not answer at {}: {message}", node.address);
    let advice = match reason {
        Reason::NoAnswer => {
            "something takes connections there and says nothing: is the process stopped, or its disk stuck? See `systemctl status trine-node` on it and its log, and restart it"
                .to_owned()
        }
        _ if reached => format!(
            "the other nodes reach it, so it runs: see that {} is its client port and that no firewall is between it and this machine",
            node.address
        ),
        _ => "the other nodes do not reach it either: see whether it runs (systemctl status trine-node) and read its log. A process that ended with exit code 6 is left stopped, and its log says what to do; otherwise start it, or restart it if it is stopped or stuck".to_owned(),
    };
    Some(Finding::error("NODE_DOWN", about, what, advice))
}

/// Nodes that were started with what they had before a restore.
fn before_restore(from_before: Option<&FromBefore>) -> Vec<Finding> {
    let Some(from_before) = from_before else { return Vec::new() };
    let about = |(node, epoch): (&u64, &u64)| {
        Finding::error("BEFORE_RESTORE", name(*node), from_before.of(*epoch), from_before.advice())
    };
    from_before.nodes.iter().map(about).collect()
}

/// This cluster's id, and who is of another one.
fn of_other_clusters(seen: &Observations) -> Option<(String, BTreeMap<u64, String>)> {
    let of = |node: &v1::NodeStatusReply| node.formed.then(|| node.cluster_id.clone());
    let ours = match &seen.cluster {
        Ok(status) => status.cluster_id.clone(),
        Err(_) => seen.answering().find_map(of)?,
    };
    let others = other_cluster::among(seen.answering(), &ours);
    Some((ours, others))
}

/// Nodes of another cluster, or of none.
fn strangers(known: Option<&(String, BTreeMap<u64, String>)>, seen: &Observations) -> Vec<Finding> {
    let Some((ours, others)) = known else { return Vec::new() };
    let of_another = others.iter().map(|(node, theirs)| {
        let what = format!("it is of cluster {theirs}, and this is cluster {ours}");
        Finding::error("OTHER_CLUSTER", name(*node), what, other_cluster::ADVICE)
    });
    let of_none = seen.answering().filter(|node| !node.formed).map(|node| {
        Finding::warning(
            "NOT_CAUGHT_UP",
            name(node.id),
            "it does not know the cluster yet",
            "it learns of it from the others within seconds; if it does not, see that its peer port is reachable",
        )
    });
    of_another.chain(of_none).collect()
}

/// Nodes that run and do not reach one another.
fn unreached(seen: &Observations) -> Vec<Finding> {
    let running: BTreeSet<u64> = seen.answering().map(|node| node.id).collect();
    let mut findings = Vec::new();
    for node in seen.answering() {
        let members = node.checkup.iter().flat_map(|checkup| &checkup.members);
        // Who is revoked has a finding of its own, and no firewall is to blame.
        let is_sound = |id| !seen.shows_revoked(node.id) && !seen.shows_revoked(id);
        let missed =
            |m: &&Member| !m.problem.is_empty() && running.contains(&m.id) && is_sound(m.id);
        for member in members.filter(missed) {
            findings.push(Finding::error(
                "PEER_UNREACHED",
                name(node.id),
                format!(
                    "it does not reach the peer port of {} at {}: {}",
                    name(member.id),
                    member.peer_address,
                    member.problem
                ),
                format!(
                    "let {} through between the nodes, and see that the [[members]] of both configurations agree",
                    member.peer_address
                ),
            ));
        }
    }
    findings
}

/// What only the leader can tell of a node.
fn as_the_leader_sees(
    seen: &Observations,
    status: &v1::StatusReply,
    node: &v1::Node,
) -> Vec<Finding> {
    let answers = seen.answering().any(|answering| answering.id == node.id);
    let mut findings = Vec::new();
    if node.ledger_differs {
        findings.push(Finding::error(
            "LEDGER_DIFFERS",
            name(node.id),
            format!("its ledger is not that of the leader, {}", name(status.leader)),
            "one of the two is damaged: compare versions, check both disks, and replace the one that the third node contradicts (`trine cluster replace`)",
        ));
    }
    if answers && is_unheard(status, node) {
        findings.push(Finding::not_known_yet(
            "NOT_HEARD_YET",
            name(node.id),
            "it answers here, and the leader has not heard it since the cluster was formed or restored, or since it joined: its shares do not count before",
        ));
    } else if answers && !node.alive && !seen.shows_revoked(node.id) {
        findings.push(Finding::error(
            "NODE_SILENT",
            name(node.id),
            "it answers here, but the leader has not heard it for three seconds or more: its shares do not count",
            "see that it reaches the peer port of the others, and that it is not out of memory or disk",
        ));
    }
    let last = status.nodes.iter().filter_map(|node| node.matched_index).max();
    if let (Some(last), Some(matched)) = (last, node.matched_index)
        && answers
        && last.saturating_sub(matched) > LAG_MAX
    {
        findings.push(Finding::warning(
            "LAGGING",
            name(node.id),
            format!("its log is {} entries behind the leader's", last - matched),
            "it catches up by itself; if the distance grows, its disk or its network is too slow",
        ));
    }
    findings
}
