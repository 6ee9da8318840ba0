//! Whether this build can follow its cluster (S22): above its highest feature
//! level it would not know what it does not know, so it stops.

use std::io;

use ledger::level::{HIGHEST, Level};
use ledger::{CodecError, Ledger};
use tokio::sync::watch;
use tonic::Status;

use crate::node::NodeError;
use crate::store::frame::Damaged;
use crate::store::machine::{SnapshotError, View};

/// The highest feature level that peers have spoken at. Clones share it.
#[derive(Clone)]
pub(crate) struct Reach(watch::Sender<Level>);

impl Reach {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Level::LOWEST))
    }

    /// Takes note of the level a peer's message is at; above this build's the
    /// message is not read.
    pub(crate) fn admit(&self, level: u32) -> Result<(), Status> {
        // 0 where the message does not depend on one.
        let stated = u16::try_from(level).unwrap_or(u16::MAX);
        let Some(level) = Level::new(stated) else { return Ok(()) };
        if level <= HIGHEST {
            return Ok(());
        }
        self.0.send_if_modified(|heard| {
            let higher = level > *heard;
            *heard = level.max(*heard);
            higher
        });
        Err(Status::failed_precondition(too_old(level).to_string()))
    }

    /// Resolves when the cluster is above this build, by a peer's word or by
    /// this node's own ledger.
    pub(crate) async fn exceeded(&self, view: &View) -> NodeError {
        let (mut heard, mut progress) = (self.0.subscribe(), view.progress());
        loop {
            let level = (*heard.borrow_and_update()).max(view.look(Ledger::level));
            if level > HIGHEST {
                return too_old(level);
            }
            // Neither sender goes before the node does.
            tokio::select! {
                _ = heard.changed() => {}
                _ = progress.changed() => {}
            }
        }
    }
}

/// Why Raft stopped: it ends, too, when the ledger leaves this build's reach.
pub(crate) fn raft_stopped(view: &View, reason: String) -> NodeError {
    let level = view.look(Ledger::level);
    if level > HIGHEST { too_old(level) } else { NodeError::Raft(reason) }
}

/// Why the disk was not opened: what lies there may be of a later build.
pub(crate) fn not_opened(error: io::Error) -> NodeError {
    let inner = error.get_ref();
    let damaged = inner.and_then(|inner| inner.downcast_ref::<Damaged>());
    let snapshot = inner.and_then(|inner| inner.downcast_ref::<SnapshotError>());
    match (damaged, snapshot) {
        (Some(Damaged::Level { level, .. }), _)
        | (_, Some(SnapshotError::Undecodable(CodecError::Level { found: level, .. }))) => {
            too_old(*level)
        }
        _ => NodeError::Storage(error),
    }
}

fn too_old(level: Level) -> NodeError {
    NodeError::TooOld { level, build: crate::build::ours() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_of_a_later_level_is_not_read() {
        let reach = Reach::new();
        assert!(reach.admit(0).is_ok());
        assert!(reach.admit(HIGHEST.number().into()).is_ok());
        let refused = reach.admit(u32::from(HIGHEST.number()) + 1).expect_err("too high");
        assert!(refused.message().contains("start the newer build"), "{refused}");
        assert!(reach.admit(u32::MAX).is_err());
    }
}
