//! What makes a running node stop by itself.
//!
//! Each function resolves when it has found a reason; a node without one runs on.

use std::convert::Infallible;
use std::time::Duration;

use license::container::ContainerIdentity;
use license::product::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use tokio::task::{JoinError, JoinSet};

use crate::agreement::{self, Agreement};
use crate::clearance::Clearance;
use crate::news::or_never;
use crate::node::NodeError;
use crate::peers::Peers;
use crate::raft::Raft;
use crate::roster;
use crate::store::machine::View;

/// How often the others' state hashes are compared with ours.
const COMPARE_INTERVAL: Duration = Duration::from_secs(1);

/// Lets Raft stand for election once the node is cleared (S21). Never resolves.
pub(crate) async fn stand_for_election(raft: &Raft, clearance: &Clearance) -> Infallible {
    clearance.given().await;
    raft.runtime_config().elect(true);
    std::future::pending().await
}

/// Resolves when a part ends that should not: better to stop than to limp on.
pub(crate) async fn part_ended(background: &mut JoinSet<Result<(), JoinError>>) -> NodeError {
    let reason = match background.join_next().await {
        Some(Ok(Err(error)) | Err(error)) => error.to_string(),
        Some(Ok(Ok(()))) | None => "it returned".to_owned(),
    };
    NodeError::Part(reason)
}

pub(crate) async fn raft_stopped(raft: &Raft) -> String {
    let mut metrics = raft.metrics();
    loop {
        if let Err(fatal) = &metrics.borrow_watched().running_state {
            return fatal.to_string();
        }
        if metrics.changed().await.is_err() {
            return "its core is gone".into();
        }
    }
}

/// Resolves when the ledger turns out to be of a cluster this node is not part of.
pub(crate) async fn stranger(
    view: &View,
    ca_digest: [u8; 32],
    node: NodeId,
    ours: &ContainerIdentity,
) -> NodeError {
    let mut progress = view.progress();
    loop {
        let found = view.look(|ledger| {
            let charter = ledger.charter()?;
            let known = charter.belonging(node);
            let trusted = charter.trusts_ca(&ca_digest);
            Some((trusted, known.map(|member| member.container == *ours)))
        });
        match found {
            Some((false, Some(_))) => return NodeError::OtherCa,
            Some((_, Some(false))) => return NodeError::OtherContainer { node },
            Some((_, Some(true))) => return std::future::pending().await,
            // A node that joined later reads the history before its time first,
            // whose CAs may be gone since.
            Some((_, None)) | None => or_never(progress.changed()).await,
        }
    }
}

/// Resolves when this node belongs to the cluster no more: as its own ledger
/// says, or as another node does that it calls.
pub(crate) async fn gone(view: &View, node: NodeId, peers: &Peers) -> NodeError {
    let (mut progress, mut sent_away) = (view.progress(), peers.sent_away());
    loop {
        let departure = view.look(|ledger| roster::departure(ledger.charter()?, node));
        if let Some(departure) = departure {
            return NodeError::Gone { told: roster::gone(node, departure) };
        }
        if let Some(told) = sent_away.borrow_and_update().clone() {
            return NodeError::Gone { told };
        }
        or_never(async {
            tokio::select! {
                changed = progress.changed() => changed,
                changed = sent_away.changed() => changed,
            }
        })
        .await;
    }
}

/// Resolves when two others agree that this node's ledger is wrong (S18).
pub(crate) async fn contradicted(view: &View, node: NodeId) -> NodeError {
    loop {
        tokio::time::sleep(COMPARE_INTERVAL).await;
        match view.look(|ledger| agreement::of(ledger, node)) {
            Agreement::Contradicted { index } => return NodeError::Contradicted { node, index },
            Agreement::Confirmed { wrong } => {
                tracing::error!(%wrong, "a node's ledger differs from the two others'; it should have stopped");
            }
            Agreement::Undecided { with, index } => {
                tracing::error!(%with, index, "two ledgers differ and no third is heard: nothing is granted");
            }
            Agreement::Whole => {}
        }
    }
}
