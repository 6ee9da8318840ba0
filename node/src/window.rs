//! What may be seen of a node from outside while it runs, without asking it.

use ledger::Ledger;
use openraft::ServerState;
use openraft::async_runtime::WatchReceiver as _;

use crate::raft::{LogId, Raft};
use crate::store::machine::View;

/// A window on a running node. It changes nothing, and is to be dropped with the node.
#[derive(Clone)]
pub struct Window {
    raft: Raft,
    view: View,
}

/// Where a node stands in its log, at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Whether it believes that it leads.
    pub leads: bool,
    /// Its term.
    pub term: u64,
    /// The last entry of its log.
    pub last_log: Option<u64>,
    /// The last entry that it knows to be committed.
    pub committed: Option<LogId>,
    /// The last entry that Raft knows to be applied.
    pub applied: Option<LogId>,
    /// The last entry that its snapshot covers.
    pub snapshot: Option<LogId>,
    /// The last entry that its log has let go of.
    pub purged: Option<LogId>,
}

impl Window {
    pub(crate) fn new(raft: Raft, view: View) -> Self {
        Self { raft, view }
    }

    /// Where Raft stands.
    pub fn standing(&self) -> Standing {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        Standing {
            leads: metrics.state == ServerState::Leader,
            term: metrics.current_term,
            last_log: metrics.last_log_index,
            committed: metrics.local_committed,
            applied: metrics.last_applied,
            snapshot: metrics.snapshot,
            purged: metrics.purged,
        }
    }

    /// The last entry that the ledger has seen.
    pub fn applied(&self) -> Option<LogId> {
        self.view.read(|applied| applied.last)
    }

    /// Looks at the ledger. Entries wait meanwhile.
    pub fn look<T>(&self, look: impl FnOnce(&Ledger) -> T) -> T {
        self.view.look(look)
    }
}
