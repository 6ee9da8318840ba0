//! Asking everybody at once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use futures_util::future::{join, join_all};
use trine_client::{Endpoint, Reason};
use wire::v1;

use super::observations::{BalancerStatus, Observations, Problem, Seen};
use crate::devcluster::health;
use crate::online::Connection;

/// How long a leader is looked for: a cluster that has one finds it in less.
const CLUSTER_MAX: Duration = Duration::from_secs(4);

/// Asks the leader, every node that `seeds` or the cluster name, every other
/// host of the target, and the balancers' health listeners.
pub(super) async fn gather(
    connection: &Connection,
    seeds: &[Endpoint],
    balancers: &[Endpoint],
) -> Observations {
    let (cluster, first) = join(status(connection), checkups(connection, seeds)).await;
    // Without a leader there is nobody to ask.
    let revoked = match &cluster {
        Ok(_) => revoked(connection).await,
        Err(_) => BTreeSet::new(),
    };
    let members = members(cluster.as_ref().ok(), &first);
    let is_member = |address: &Endpoint| members.is_empty() || members.contains_key(address);
    // With no member known, who was named as a node is taken for one.
    let (mut nodes, _): (Vec<_>, Vec<_>) =
        first.into_iter().partition(|(address, _)| is_member(address));
    let missing: Vec<Endpoint> = members
        .keys()
        .filter(|address| !nodes.iter().any(|(asked, _)| asked == *address))
        .cloned()
        .collect();
    let hosts = &connection.target.hosts;
    let doors: Vec<Endpoint> = hosts
        .iter()
        .filter(|host| !is_member(host) || (members.is_empty() && !seeds.contains(host)))
        .cloned()
        .collect();
    let (more, (doors, balancers)) = join(
        checkups(connection, &missing),
        join(ways_in(connection, &doors), join_all(balancers.iter().map(balancer))),
    )
    .await;
    nodes.extend(more);
    let seen = |(address, answer): (Endpoint, Result<v1::NodeStatusReply, Problem>)| Seen {
        id: members.get(&address).copied(),
        address: address.to_string(),
        answer,
    };
    let mut nodes: Vec<_> = nodes.into_iter().map(seen).collect();
    nodes.sort_by_key(|node| (node.id, node.address.clone()));
    let doors = doors.into_iter().map(seen).collect();
    Observations { cluster, nodes, doors, balancers, revoked }
}

async fn revoked(connection: &Connection) -> BTreeSet<String> {
    let operator = connection.operator();
    match tokio::time::timeout(CLUSTER_MAX, operator.list_revoked()).await {
        Ok(Ok(listed)) => listed.certificates.into_iter().map(|it| it.fingerprint).collect(),
        Ok(Err(_)) | Err(_) => BTreeSet::new(),
    }
}

async fn status(connection: &Connection) -> Result<v1::StatusReply, Problem> {
    let operator = connection.operator();
    match tokio::time::timeout(CLUSTER_MAX, operator.status()).await {
        Ok(status) => status.map_err(|error| Problem::from(&error)),
        Err(_) => Err(Problem {
            reason: Reason::NoQuorum,
            message: "no leader answered in time".to_owned(),
        }),
    }
}

type Answers = Vec<(Endpoint, Result<v1::NodeStatusReply, Problem>)>;

async fn checkups(connection: &Connection, nodes: &[Endpoint]) -> Answers {
    let ask = |node: &Endpoint| {
        let (operator, node) = (connection.operator(), node.clone());
        async move {
            let answer = operator.at(node.clone()).checkup().await;
            (node, answer.map_err(|error| Problem::from(&error)))
        }
    };
    join_all(nodes.iter().map(ask)).await
}

async fn ways_in(connection: &Connection, doors: &[Endpoint]) -> Answers {
    let ask = |door: &Endpoint| {
        let (operator, door) = (connection.operator(), door.clone());
        async move {
            let answer = operator.at(door.clone()).node_status().await;
            (door, answer.map_err(|error| Problem::from(&error)))
        }
    };
    join_all(doors.iter().map(ask)).await
}

/// Where the members are, in the leader's words, or else in any node's.
fn members(cluster: Option<&v1::StatusReply>, first: &Answers) -> BTreeMap<Endpoint, u64> {
    let from_leader = cluster.into_iter().flat_map(|status| &status.nodes);
    let from_leader = from_leader.map(|node| (node.client_address.as_str(), node.id));
    let words = first.iter().filter_map(|(_, answer)| answer.as_ref().ok()?.checkup.as_ref());
    let from_nodes = words.flat_map(|checkup| &checkup.members);
    let from_nodes = from_nodes.map(|member| (member.client_address.as_str(), member.id));
    let known: Vec<_> = from_leader.collect();
    let chosen = if known.is_empty() { from_nodes.collect() } else { known };
    chosen.into_iter().filter_map(|(text, id)| Some((Endpoint::parse(text).ok()?, id))).collect()
}

async fn balancer(endpoint: &Endpoint) -> Seen<BalancerStatus> {
    let answer = match health::get_from(endpoint.host(), endpoint.port(), "/status").await {
        None => Err("nobody answers there".to_owned()),
        Some(answer) => serde_json::from_str(&answer.body)
            .map_err(|_| "what answers there is no balancer's health listener".to_owned()),
    };
    let problem = |message| Problem { reason: Reason::Unreachable, message };
    Seen { id: None, address: endpoint.to_string(), answer: answer.map_err(problem) }
}
