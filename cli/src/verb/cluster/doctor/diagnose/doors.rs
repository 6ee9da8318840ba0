//! The ways in: balancers, and whatever else clients are told to ask.

use std::collections::BTreeMap;

use trine_client::Reason;
use wire::v1;

use super::super::finding::Finding;
use super::super::observations::{BalancerStatus, Observations, Seen, name};

pub(super) fn findings(seen: &Observations) -> Vec<Finding> {
    let mut findings: Vec<Finding> =
        seen.doors.iter().filter_map(|door| of_door(seen, door)).collect();
    findings.extend(proxies(seen));
    findings.extend(seen.balancers.iter().flat_map(|balancer| of_balancer(seen, balancer)));
    findings
}

/// The code of a way in where certificates, or what takes itself for them, are the matter.
const NOT_TRUSTED: &str = "DOOR_NOT_TRUSTED";

/// A way in that does not lead to this cluster.
fn of_door(seen: &Observations, door: &Seen<v1::NodeStatusReply>) -> Option<Finding> {
    let nodes_answer = seen.answering().next().is_some();
    match &door.answer {
        Ok(behind) => {
            let ours = seen.cluster.as_ref().ok().map(|status| &status.cluster_id)?;
            let theirs = &behind.cluster_id;
            if !behind.formed {
                return None;
            }
            if theirs != ours {
                return Some(Finding::error(
                    "DOOR_TO_ANOTHER_CLUSTER",
                    &door.address,
                    format!("it leads to cluster {theirs}, and this is cluster {ours}"),
                    "correct the addresses under [[nodes]] in that balancer's configuration, or the host list",
                ));
            }
            let as_of = seen.cluster.as_ref().ok()?.as_of?.epoch;
            let epoch = behind.epoch.filter(|epoch| *epoch != as_of)?;
            // A member that came back from before a restore has a finding of its own.
            if seen.answering().any(|node| node.id == behind.id && node.epoch == behind.epoch) {
                return None;
            }
            Some(Finding::error(
                "DOOR_TO_ANOTHER_CLUSTER",
                &door.address,
                format!(
                    "it leads to {} of this cluster with the restore epoch {epoch}, and here it is {as_of}: a node from before a restore, or another set of nodes restored from a backup of this cluster",
                    name(behind.id)
                ),
                "decide first which of the two is meant (the runbook's *A node says its data is from before the restore*); where a license serves in both, its seats are held twice",
            ))
        }
        Err(problem) if nodes_answer && breaks_in_tls(problem.reason) => Some(Finding::error(
            NOT_TRUSTED,
            &door.address,
            format!(
                "no TLS connection comes about there, though nodes answer: {}",
                problem.message
            ),
            "if it is a balancer, list the address it dials from under [proxy] trusted in every node's configuration, and see that its [[nodes]] name client ports; else it is another service's port",
        )),
        Err(problem) if problem.reason.is_not_allowed() => Some(Finding::error(
            NOT_TRUSTED,
            &door.address,
            format!(
                "what answers there and this doctor do not trust each other: {}",
                problem.message
            ),
            "if no node is trusted either, this is one matter with theirs: see to the nodes first",
        )),
        Err(problem) => Some(Finding::error(
            "DOOR_CLOSED",
            &door.address,
            format!("no node is reached through it: {}", problem.message),
            "if it is a balancer, start it and read its log (systemctl status trine-balancer), and see its /status with --balancer HOST:PORT; if it was a node that was replaced, take it out of the host list or the context",
        )),
    }
}

/// Nodes that would not all let the same balancers speak for clients: one that
/// lacks them refuses every application behind them, from when it leads.
fn proxies(seen: &Observations) -> Option<Finding> {
    let status = seen.cluster.as_ref().ok()?;
    let trusted = |node: &v1::NodeStatusReply| {
        let mut proxies = node.checkup.as_ref()?.trusted_proxies.clone();
        proxies.sort();
        proxies.dedup();
        Some((name(node.id), proxies))
    };
    let is_ours = |node: &&v1::NodeStatusReply| {
        node.cluster_id == status.cluster_id && status.nodes.iter().any(|one| one.id == node.id)
    };
    let by_node: Vec<_> = seen.answering().filter(is_ours).filter_map(trusted).collect();
    let (_, first) = by_node.first()?;
    if by_node.iter().all(|(_, proxies)| proxies == first) {
        return None;
    }
    let list = |(node, proxies): &(String, Vec<String>)| match &proxies[..] {
        [] => format!("{node}: none"),
        some => format!("{node}: {}", some.join(" ")),
    };
    let lists: Vec<_> = by_node.iter().map(list).collect();
    Some(Finding::warning(
        "PROXIES_DIFFER",
        "cluster",
        format!("the nodes trust different balancers ({})", lists.join("; ")),
        "make [proxy] trusted the same in every node's configuration, and restart that node: one that lacks a balancer refuses the applications behind it as soon as it leads",
    ))
}

/// How a node that takes a balancer for a client ends: its header is no TLS.
fn breaks_in_tls(reason: Reason) -> bool {
    reason.is_not_allowed() || matches!(reason, Reason::ConnectionLost | Reason::NoAnswer)
}

/// A balancer that looks for nodes where they are not.
fn of_balancer(seen: &Observations, balancer: &Seen<BalancerStatus>) -> Vec<Finding> {
    let about = format!("balancer {}", balancer.address);
    let status = match &balancer.answer {
        Ok(status) => status,
        Err(problem) => {
            return vec![Finding::error(
                "BALANCER_DOWN",
                about,
                &problem.message,
                "start it, and give the address of its health listener (health in its configuration)",
            )];
        }
    };
    let members = addresses(seen);
    let answers = |id: u64| seen.answering().any(|node| node.id == id);
    let mut findings = Vec::new();
    for node in &status.nodes {
        match members.get(&node.id) {
            None if members.is_empty() => {}
            None => findings.push(Finding::error(
                "BALANCER_KNOWS_A_STRANGER",
                &about,
                format!("it names {}, which is no member", name(node.id)),
                "correct the [[nodes]] in its configuration and restart it",
            )),
            Some(address) if *address != node.client => findings.push(Finding::warning(
                "BALANCER_ADDRESS_DIFFERS",
                &about,
                format!(
                    "it dials {} at {}, and the members say {address}",
                    name(node.id),
                    node.client
                ),
                "if that is not the same place, correct [[nodes]] in its configuration",
            )),
            Some(_) => {}
        }
        if let Some(error) = node.error.as_ref().filter(|_| answers(node.id)) {
            findings.push(Finding::error(
                "BALANCER_SEES_NO_NODE",
                &about,
                format!("its probe of {} at {} fails, though the node answers here: {error}", name(node.id), node.health),
                "see that it is the node's health listener (listen.health) and that the balancer may reach it",
            ));
        }
    }
    for id in members.keys().filter(|id| !status.nodes.iter().any(|node| node.id == **id)) {
        findings.push(Finding::warning(
            "BALANCER_LACKS_A_NODE",
            &about,
            format!("it does not know {}", name(*id)),
            "add it to the [[nodes]] in its configuration and restart it",
        ));
    }
    if !status.ready && seen.cluster.is_ok() {
        findings.push(Finding::error(
            "BALANCER_NOT_READY",
            &about,
            "it is not ready, though the cluster has a leader",
            "see the findings about it above, its /readyz and its log",
        ));
    }
    let theirs = status.leader.as_ref().map(|leader| leader.node);
    if let (Some(theirs), Ok(cluster)) = (theirs, &seen.cluster)
        && theirs != cluster.leader
    {
        findings.push(Finding::warning(
            "BALANCER_OTHER_LEADER",
            &about,
            format!("it leads clients to {}, and {} leads", name(theirs), name(cluster.leader)),
            "right after an election it follows within a second; if it stays, see that it reaches the health listener of the node that leads",
        ));
    }
    findings
}

/// The members' client addresses.
fn addresses(seen: &Observations) -> BTreeMap<u64, String> {
    let from_leader = seen.cluster.iter().flat_map(|status| &status.nodes);
    let mut addresses: BTreeMap<u64, String> =
        from_leader.map(|node| (node.id, node.client_address.clone())).collect();
    if addresses.is_empty() {
        let checkups = seen.answering().filter_map(|node| node.checkup.as_ref());
        let members = checkups.flat_map(|checkup| &checkup.members);
        addresses.extend(members.map(|member| (member.id, member.client_address.clone())));
    }
    addresses
}
