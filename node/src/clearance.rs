//! Whether this node may take part: vote, acknowledge, lead, speak in its own
//! name (S21).
//!
//! A node that starts may not. It is cleared when another node has said what it
//! remembers of it and has reached it at its member address; it is denied for
//! good when what is remembered is more than its disk holds, or when another
//! process is found at that address. Only a restart lifts a denial.

use std::sync::Arc;
use std::time::Duration;

use license::product::NodeId;
use tokio::sync::watch;

use crate::news::or_never;
use crate::store::promise::Promise;

/// What an operator reads while it is not cleared.
pub(crate) const WAITS: &str = "waits for a peer to say what it remembers of this node";

/// What an operator must know besides who empties all three nodes on purpose: the
/// one that remembers is to be put aside too, unless it is of the restore.
fn if_restoring(witness: NodeId, kept: &Promise, epoch: Option<u64>) -> String {
    match epoch {
        _ if !kept.is_none() => String::new(),
        Some(0) => format!(
            "; if you are restoring the whole cluster from a backup, {witness} is still of before: \
             stop it, put its data directory aside too, and start this one again"
        ),
        Some(epoch) => format!(
            "; if you restored the whole cluster and that made epoch {epoch}, {witness} is of the restored cluster: leave it as it is; \
             only if {epoch} is the epoch of an earlier restore, and all is to be restored once more, stop {witness} and put its data directory aside too"
        ),
        None => format!(
            "; if you are restoring the whole cluster from a backup, this node was emptied after that had begun: \
             leave {witness} as it is, and give the same `trine cluster restore` again"
        ),
    }
}

/// Why a node may never take part again as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denial {
    /// Amnesia.
    #[error(
        "{node} has lost data: {witness} remembers that it acknowledged {remembered}, and its data directory keeps {kept}; \
         the directory was emptied, put back from an older copy, or its disk loses what it said it had synced. \
         It must not vote under this identity again: leave it stopped and put a new node in its place \
         (trine cluster replace {} NEW; see \"A node says it has lost data\" in the runbook){}",
        node.0,
        if_restoring(*witness, kept, *epoch)
    )]
    LostData {
        /// This node.
        node: NodeId,
        /// Who remembers.
        witness: NodeId,
        /// What it saw acknowledged.
        remembered: Promise,
        /// What is left of it.
        kept: Promise,
        /// The restore epoch of who remembers; absent where no cluster is formed.
        epoch: Option<u64>,
    },
    /// It wrote a log id twice.
    #[error(
        "{node} has lost data: {witness} holds another {at} than this node has, and {node} wrote both; \
         its machine was put back to an earlier state while it led. \
         It must not vote under this identity again: leave it stopped and put a new node in its place \
         (trine cluster replace {} NEW; see \"A node says it has lost data\" in the runbook)",
        node.0
    )]
    Rewrote {
        /// This node.
        node: NodeId,
        /// Who holds what it wrote first.
        witness: NodeId,
        /// The entry, in words.
        at: String,
    },
    /// Its data is from before the cluster was restored.
    #[error(
        "{node}'s data directory is from before the cluster was restored: it is of epoch {ours}, and {} and {} are of epoch {theirs}. \
         Nothing in it counts any more. Put it aside and start the directory that this node was restored with; \
         if there is none, wipe this one but for the container and its certificate, and start it; \
         if it then says that it has lost data, put a new node in its place (trine cluster replace {} NEW; \
         see \"A node says its data is from before the restore\" in the runbook)",
        by[0], by[1], node.0
    )]
    BeforeRestore {
        /// This node.
        node: NodeId,
        /// Who told so.
        by: [NodeId; 2],
        /// Of its data.
        ours: u64,
        /// The cluster's.
        theirs: u64,
    },
    /// A clone, or the original of one that took its address over.
    #[error(
        "another process runs as {node} at {address}, where {witness} looked for it: this node's data directory and keys exist twice. \
         Only one of the two may run; leave this one stopped, find out which is the copy and destroy it \
         (see \"A node says it runs twice\" in the runbook)"
    )]
    RunsElsewhere {
        /// This node.
        node: NodeId,
        /// Who looked.
        witness: NodeId,
        /// Where the other process answers.
        address: String,
    },
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Waiting,
    Given,
    Denied(Denial),
}

/// The node's clearance. Clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Clearance(Arc<watch::Sender<State>>);

impl Clearance {
    /// Of a node that has just started.
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(State::Waiting)))
    }

    /// Whether the node may take part now.
    pub(crate) fn is_given(&self) -> bool {
        *self.0.borrow() == State::Given
    }

    /// Resolves once it may.
    pub(crate) async fn given(&self) {
        // The sender is in `self`, so waiting never fails.
        drop(self.0.subscribe().wait_for(|state| *state == State::Given).await);
    }

    /// Whether it may, now or within `patience`.
    pub(crate) async fn given_within(&self, patience: Duration) -> bool {
        tokio::time::timeout(patience, self.given()).await.is_ok()
    }

    /// Why it never will. Resolves when there is a reason.
    pub(crate) async fn denied(&self) -> Denial {
        let mut states = self.0.subscribe();
        loop {
            if let State::Denied(denial) = &*states.borrow_and_update() {
                return denial.clone();
            }
            or_never(states.changed()).await;
        }
    }

    /// Clears the node, unless it is denied. Says whether that is news.
    pub(crate) fn give(&self) -> bool {
        self.0.send_if_modified(|state| {
            let is_news = *state == State::Waiting;
            if is_news {
                *state = State::Given;
            }
            is_news
        })
    }

    /// Denies it for good; the first reason stands.
    pub(crate) fn deny(&self, denial: Denial) {
        self.0.send_if_modified(|state| {
            let is_news = !matches!(state, State::Denied(_));
            if is_news {
                *state = State::Denied(denial);
            }
            is_news
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Followed to the end, the advice for a node from before would take a restored
    /// cluster apart.
    #[test]
    fn an_emptied_node_is_told_to_put_aside_only_who_is_from_before() {
        let told = |kept, epoch| {
            let remembered = Promise { term: 5, held: Some(40) };
            let (node, witness) = (NodeId(2), NodeId(1));
            Denial::LostData { node, witness, remembered, kept, epoch }.to_string()
        };
        let nothing = Promise::default();
        assert!(told(nothing, Some(0)).contains("node-1 is still of before: stop it"));
        let restored = told(nothing, Some(9));
        assert!(restored.contains("epoch 9, node-1 is of the restored cluster: leave it as it is"));
        assert!(restored.contains("only if 9 is the epoch of an earlier restore"), "{restored}");
        assert!(told(nothing, None).contains("leave node-1 as it is"));
        let some = Promise { term: 4, held: Some(12) };
        assert!(!told(some, Some(0)).contains("restoring"));
    }

    #[tokio::test]
    async fn a_denial_stands_for_good() {
        let clearance = Clearance::new();
        assert!(clearance.give() && clearance.is_given());
        assert!(!clearance.give(), "no news");
        let (node, witness) = (NodeId(2), NodeId(1));
        let denial = Denial::RunsElsewhere { node, witness, address: "b:22451".into() };
        clearance.deny(denial.clone());
        assert!(!clearance.give() && !clearance.is_given());
        assert_eq!(clearance.denied().await, denial);
    }
}
