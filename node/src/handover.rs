//! Handing leadership to another node, without the pause of an election.

use std::time::Duration;

use openraft::async_runtime::WatchReceiver as _;

use crate::raft::Raft;
use crate::service::Service;
use crate::status::RaftRole;

/// How long another node may take to lead. It takes one round trip.
const HANDOVER_WAIT_MAX: Duration = Duration::from_secs(2);

/// If this node leads, lets `to` lead instead, or the follower that is furthest.
///
/// Gives who leads when it is over, this node itself if nobody took over in time.
pub(crate) async fn hand_over(raft: &Raft, service: &Service, to: Option<u64>) -> u64 {
    let status = service.node_status();
    if status.role != RaftRole::Leader || to == Some(status.id) {
        return status.leader.map_or(status.id, |leader| leader.node);
    }
    let furthest = || {
        let others = status.matched.iter().filter(|(node, _)| **node != status.id);
        others.max_by_key(|(_, index)| **index).map(|(node, _)| *node)
    };
    let Some(next) = to.or_else(furthest) else { return status.id };
    tracing::info!(to = next, "handing leadership over");
    if raft.trigger().transfer_leader(next).await.is_err() {
        return status.id;
    }
    let mut metrics = raft.server_metrics();
    let taken_over = async {
        loop {
            let leader = metrics.borrow_watched().current_leader;
            if let Some(leader) = leader.filter(|leader| *leader != status.id) {
                return leader;
            }
            if metrics.changed().await.is_err() {
                return status.id;
            }
        }
    };
    tokio::time::timeout(HANDOVER_WAIT_MAX, taken_over).await.unwrap_or_else(|_| {
        tracing::info!("nobody took the lead in time");
        status.id
    })
}
