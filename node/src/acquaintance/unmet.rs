//! Why a process is not heard, in words.

use license::product::{ClusterId, NodeId};
use tonic::Status;

use super::promises::entry;
use crate::raft::LogId;
use crate::store::promise::Promise;

/// Why a process is not heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unmet {
    /// It shows no incarnation.
    #[error("the caller does not say which process it is; run matching versions")]
    Nameless,
    /// Nobody answers where it should be.
    #[error(
        "{node} is not reached at {address}: {reason}; a node takes part only if the others reach it at its member address"
    )]
    Unreached {
        /// Who.
        node: NodeId,
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Another process answers there.
    #[error("another process runs as {node} at {address}")]
    Elsewhere {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
    },
    /// Another process answers there, and has lost data: it displaces nobody.
    #[error(
        "the process that answers as {node} at {address} acknowledged {remembered} and keeps {kept}"
    )]
    LostDataThere {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
        /// What this node saw it acknowledge.
        remembered: Promise,
        /// What the process there says it keeps.
        kept: Promise,
    },
    /// It has lost data.
    #[error("{node} acknowledged {remembered} and keeps {kept}")]
    LostData {
        /// Who.
        node: NodeId,
        /// What this node saw it acknowledge.
        remembered: Promise,
        /// What it says it keeps.
        kept: Promise,
    },
    /// What came from it shows less than it promised. A message that was
    /// overtaken does too, so this is a reason to look and no more.
    #[error("{node} shows {shown} and promised {remembered}; it is to be met again")]
    ShowsLess {
        /// Who.
        node: NodeId,
        /// What this node saw it acknowledge.
        remembered: Promise,
        /// What came with its message or answer.
        shown: Promise,
    },
    /// A later message of it came first.
    #[error("a later message of {node} came before this one")]
    Overtaken {
        /// Who.
        node: NodeId,
    },
    /// Its data is from before a restore.
    #[error(
        "{node}'s data is from before the cluster was restored: it is of epoch {theirs}, and a later one is known here"
    )]
    BeforeRestore {
        /// Who.
        node: NodeId,
        /// What it told.
        theirs: u64,
    },
    /// It says that this node's data is.
    #[error(
        "this node's data is of an earlier epoch than {node}'s, {theirs}: the cluster was restored since"
    )]
    AfterRestore {
        /// Who.
        node: NodeId,
        /// What it told.
        theirs: u64,
    },
    /// Its data is of another cluster. Neither is to hear the other, and which of
    /// the two is in the wrong place is not known here.
    #[error(
        "{node} is of cluster {theirs}, and this node's data is of cluster {ours}; neither hears the other. \
         Correct the address of {node} in [[members]], or give the one that is in the wrong place the data directory of its own cluster"
    )]
    OtherCluster {
        /// Who.
        node: NodeId,
        /// Of this node's data.
        ours: ClusterId,
        /// What it told.
        theirs: ClusterId,
    },
    /// It wrote a log id twice, so it has forgotten what it wrote first.
    #[error("{node} sends another {} than it sent before", entry(*at))]
    Rewrote {
        /// Who.
        node: NodeId,
        /// Which entry.
        at: LogId,
    },
    /// It was not cleared, or no longer is.
    #[error("this node takes no part")]
    NotCleared,
}

impl From<Unmet> for Status {
    /// The code that makes the other end say hello, and so hear why; but for a
    /// message that only came late.
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::Overtaken { .. } => Self::aborted(unmet.to_string()),
            _ => Self::unauthenticated(unmet.to_string()),
        }
    }
}
