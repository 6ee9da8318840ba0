//! Who belongs to the cluster, and where they are found.
//!
//! Who: the ledger's charter. Where: Raft's membership, as everybody has it
//! logged. Until the cluster is formed, and for a node that is still catching
//! up on its history, the configuration says both.

use ledger::charter::{Charter, Departure};
use license::product::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use tonic::Status;

use crate::news::or_never;
use crate::peers::{Peers, send_away};
use crate::raft::{Endpoints, Raft};
use crate::store::machine::View;
use crate::store::memory::Memory;

/// The roster of one node. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Roster {
    configured: Vec<(NodeId, Endpoints)>,
    raft: Raft,
    view: View,
}

impl Roster {
    pub(crate) fn new(configured: Vec<(NodeId, Endpoints)>, raft: Raft, view: View) -> Self {
        Self { configured, raft, view }
    }

    /// The members of the configuration, which the cluster is formed of.
    pub(crate) fn configured(&self) -> &[(NodeId, Endpoints)] {
        &self.configured
    }

    /// Everybody there is, and where they are found.
    pub(crate) fn all(&self) -> Vec<(NodeId, Endpoints)> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        let logged = metrics.membership_config.membership().nodes();
        let logged: Vec<_> = logged.map(|(id, found)| (NodeId(*id), found.clone())).collect();
        if logged.is_empty() { self.configured.clone() } else { logged }
    }

    /// Where a node is found.
    pub(crate) fn endpoints(&self, node: NodeId) -> Option<Endpoints> {
        let configured = self.configured.iter().find(|(id, _)| *id == node);
        self.logged(node.0).or_else(|| configured.map(|(_, endpoints)| endpoints.clone()))
    }

    fn logged(&self, node: u64) -> Option<Endpoints> {
        let metrics = self.raft.server_metrics();
        let metrics = metrics.borrow_watched();
        metrics.membership_config.membership().get_node(&node).cloned()
    }

    /// Whether a node may call this one as a peer.
    ///
    /// A node that is in Raft's log and not yet in this ledger is let in: this
    /// ledger may be behind, and that node may be the one to bring it up to date.
    pub(crate) fn admit(&self, node: NodeId) -> Result<(), Status> {
        let (belongs, departed) = self.view.look(|ledger| {
            let charter = ledger.charter();
            let belongs = charter.is_some_and(|charter| charter.belonging(node).is_some());
            (belongs, charter.and_then(|charter| departure(charter, node)))
        });
        if let Some(departure) = departed {
            return Err(send_away(gone(node, departure)));
        }
        let is_configured = self.configured.iter().any(|(id, _)| *id == node);
        if belongs || is_configured || self.logged(node.0).is_some() {
            return Ok(());
        }
        Err(Status::permission_denied("only this cluster's nodes are served here"))
    }
}

/// How a node left, if it did.
pub(crate) fn departure(charter: &Charter, node: NodeId) -> Option<Departure> {
    charter.retired.get(&node).map(|retired| retired.departure)
}

/// What to say to the operator of a node that is gone.
pub(crate) fn gone(node: NodeId, departure: Departure) -> String {
    format!(
        "{node} {departure}; it belongs to this cluster no more: wipe its data directory, and if \
         the machine is to serve again, give it an id that was never used and let it in with \
         `trine cluster replace`"
    )
}

/// Keeps the connections to those who are in Raft's log. Runs for ever.
pub(crate) async fn follow_membership(raft: Raft, peers: Peers) {
    let mut metrics = raft.server_metrics();
    let mut known = None;
    loop {
        let found = {
            let metrics = metrics.borrow_watched();
            let membership = &metrics.membership_config;
            let nodes = membership.membership().nodes();
            let nodes: Vec<_> = nodes.map(|(id, found)| (*id, found.peer.clone())).collect();
            (*membership.log_id(), nodes)
        };
        // Without members Raft is not formed, and the configuration stands.
        if !found.1.is_empty() && known.as_ref() != Some(&found) {
            peers.know(found.1.clone());
            known = Some(found);
        }
        or_never(metrics.changed()).await;
    }
}

/// Forgets what is remembered of nodes that are gone: their ids are never used
/// again. Runs for ever.
pub(crate) async fn forget_departed(view: View, memory: Memory) {
    let mut progress = view.progress();
    loop {
        let remembered = memory.all();
        let departed: Vec<u64> = view.look(|ledger| {
            let charter = ledger.charter();
            let is_gone = |node: &u64| {
                charter.is_some_and(|charter| departure(charter, NodeId(*node)).is_some())
            };
            remembered.into_iter().map(|(node, _)| node).filter(is_gone).collect()
        });
        departed.into_iter().for_each(|node| memory.forget(node));
        or_never(progress.changed()).await;
    }
}
