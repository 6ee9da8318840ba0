//! What was seen of a cluster, before anybody judges it.

use serde::Deserialize;
use trine_client::CallError;
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
    /// The protocol's stable reason.
    pub(super) reason: String,
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
        Self { reason: what.reason.as_str().to_owned(), message: what.message.clone() }
    }
}

/// What is said to an identity that does not do: the protocol's reasons.
const REFUSALS: [&str; 4] = ["WRONG_ROLE", "NO_IDENTITY", "CERTIFICATE_REVOKED", "UNTRUSTED"];

impl Observations {
    /// The nodes that answered, with what they said.
    pub(super) fn answering(&self) -> impl Iterator<Item = &v1::NodeStatusReply> {
        self.nodes.iter().filter_map(|node| node.answer.as_ref().ok())
    }

    /// What a node said when nobody let us in, or was believed by us: then
    /// nothing else can be told, and it says nothing of the nodes.
    pub(super) fn not_allowed(&self) -> Option<&Problem> {
        // A node is asked once, and may hang up before it is heard why; the leader
        // is looked for until somebody says.
        let nodes = self.nodes.iter().filter_map(|node| node.answer.as_ref().err());
        let mut problems = nodes.chain(self.cluster.as_ref().err());
        let refused = |problem: &&Problem| REFUSALS.contains(&problem.reason.as_str());
        if self.answering().next().is_some() { None } else { problems.find(refused) }
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
