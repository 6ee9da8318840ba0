//! What was seen of a cluster, before anybody judges it.

use std::collections::BTreeSet;

use serde::Deserialize;
use trine_client::{CallError, Reason};
use wire::v1;

/// Everything that was seen.
#[derive(Debug, Clone)]
pub(super) struct Observations {
    /// The cluster as its leader sees it.
    pub(super) cluster: Result<v1::StatusReply, Problem>,
    /// Every node that anybody named, asked itself.
    pub(super) nodes: Vec<Seen<v1::NodeStatusReply>>,
    /// The ways in that are no nodes, such as balancers: which node answered there.
    pub(super) doors: Vec<Seen<v1::NodeStatusReply>>,
    /// The balancers' health listeners.
    pub(super) balancers: Vec<Seen<BalancerStatus>>,
    /// SHA-256 of the certificates that the cluster refuses, as far as it says so.
    pub(super) revoked: BTreeSet<String>,
}

/// One server, and what it said.
#[derive(Debug, Clone)]
pub(super) struct Seen<T> {
    /// Its number, where the cluster says whose address it is.
    pub(super) id: Option<u64>,
    /// Where it was asked.
    pub(super) address: String,
    /// What it said.
    pub(super) answer: Result<T, Problem>,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Problem {
    pub(super) reason: Reason,
    /// For people.
    pub(super) message: String,
}

/// `/status` of a balancer, as far as it matters here.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BalancerStatus {
    pub(super) ready: bool,
    pub(super) leader: Option<BalancerLeader>,
    pub(super) nodes: Vec<BalancerNode>,
}

/// Whom a balancer leads clients to.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BalancerLeader {
    pub(super) node: u64,
}

/// A node as a balancer sees it.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct BalancerNode {
    pub(super) id: u64,
    pub(super) client: String,
    pub(super) health: String,
    /// Why its last probe failed.
    pub(super) error: Option<String>,
}

impl From<&CallError> for Problem {
    fn from(error: &CallError) -> Self {
        let what = error.failure();
        Self { reason: what.reason, message: what.message.clone() }
    }
}

impl<T> Seen<T> {
    /// Where it was asked.
    pub(super) fn address(&self) -> &str {
        &self.address
    }
}

impl Observations {
    /// Whether nothing at all takes connections where the caller said that the
    /// cluster is: then it may be elsewhere, and nothing is known of its nodes.
    pub(super) fn is_nobody_there(&self) -> bool {
        let is_there = |answer: Result<(), &Problem>| {
            answer.err().is_none_or(|problem| problem.reason != Reason::Unreachable)
        };
        let asked = self.nodes.iter().chain(&self.doors);
        let mut answers = asked.map(|seen| seen.answer.as_ref().map(drop));
        let a_balancer = self.balancers.iter().any(|balancer| balancer.answer.is_ok());
        !a_balancer && self.cluster.is_err() && !answers.any(is_there)
    }

    /// The nodes that answered, with what they said.
    pub(super) fn answering(&self) -> impl Iterator<Item = &v1::NodeStatusReply> {
        self.nodes.iter().filter_map(|node| node.answer.as_ref().ok())
    }

    /// Whether a node still shows a certificate that was revoked: the others hear
    /// it no more, and neither do they let it hear them.
    pub(super) fn shows_revoked(&self, id: u64) -> bool {
        let shown = self.answering().filter(|node| node.id == id);
        let mut shown = shown.flat_map(|node| &node.certificates);
        shown.any(|shown| shown.which != "ca" && self.revoked.contains(&shown.fingerprint))
    }

    /// What was said to us when everybody who said anything judged us: then
    /// nothing else can be told, and it says nothing of the nodes. One that lets
    /// us in, or is not believed by us, may itself be what is at fault.
    pub(super) fn turned_away(&self) -> Option<&Problem> {
        // A node is asked once, and may hang up before it is heard why; the leader
        // is looked for until somebody says.
        let answers = self.nodes.iter().chain(&self.doors).map(|seen| seen.answer.as_ref().err());
        let mut said: Vec<Option<&Problem>> = answers.collect();
        said.push(self.cluster.as_ref().err());
        let is_doubtful = |said: &Option<&Problem>| {
            said.is_none_or(|problem| problem.reason == Reason::Untrusted)
        };
        if said.iter().any(is_doubtful) {
            return None;
        }
        said.into_iter().flatten().find(|problem| problem.reason.is_about_the_caller())
    }

    /// `node-2`, or the address of one whose number nobody knows.
    pub(super) fn name_of(seen: &Seen<v1::NodeStatusReply>) -> String {
        let id = seen.id.or_else(|| Some(seen.answer.as_ref().ok()?.id));
        id.map_or_else(|| seen.address.clone(), name)
    }
}

/// `node-2`.
pub(super) fn name(id: u64) -> String {
    format!("node-{id}")
}
