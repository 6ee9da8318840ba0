//! Which process of each other node this one listens to (S21).
//!
//! A process has an incarnation, drawn when it starts and shown with every
//! call. Another node hears it only after *meeting* it: it dials the member
//! address itself, on a connection of its own, and finds that very incarnation
//! there. So of two processes with one identity, a node and its clone, only the
//! one that stands where the members' addresses point is heard; and once a
//! newer process stands there, the older one is not.
//!
//! At each meeting the two also compare what they remember of one another with
//! what their disks hold. So nobody hears a node that lost what this one saw it
//! acknowledge, and this node acknowledges nothing to anybody who remembers
//! more of it than it does itself. That is more than S21 asks: every node that
//! is talked to is a witness, not the first alone.
//!
//! A machine that is put back to a snapshot of its memory and disk goes on as
//! the process that was met. So every message of Raft and every answer is a
//! meeting in small ([`Acquaintances::compare`]): each carries what its sender
//! promised and what it remembers of the receiver, and both sides compare
//! before the message is acted on or the answer counts.
//!
//! All this holds within one cluster and one epoch of it: what was promised in
//! another, or before a restore, is not compared at all ([`origin`]).

mod differing;
mod hello;
mod meeting;
pub(crate) mod origin;
mod promises;
mod unmet;
mod witness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use license::product::NodeId;
use tokio::sync::Notify;
use tokio::time::Instant;

pub(crate) use self::differing::Outdated;
use self::origin::KnownOrigin;
use self::promises::Lately;
pub(crate) use self::unmet::Unmet;
use self::witness::Witnesses;
use crate::clearance::Clearance;
use crate::peers::{Incarnation, Peers};
use crate::raft::LogId;
use crate::store::log::Log;
use crate::store::memory::Memory;

/// The other nodes as this one has met them. Clones share it.
#[derive(Clone)]
pub(crate) struct Acquaintances {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    incarnation: Incarnation,
    peers: Peers,
    log: Log,
    memory: Memory,
    origin: Box<dyn Fn() -> KnownOrigin + Send + Sync>,
    clearance: Clearance,
    known: Mutex<BTreeMap<u64, Known>>,
    witnesses: Mutex<Witnesses>,
    /// When this process began to ask the others, if it has.
    began: OnceLock<Instant>,
    /// Wakes whoever says hello: a peer does not know this node.
    unknown: Notify,
}

/// What is known of one other node.
#[derive(Clone, Default)]
struct Known {
    /// The process that was met last.
    met: Option<Incarnation>,
    /// Meetings with one node follow one another: each begins after the call
    /// it decides on had arrived, so what it finds is newer than that call.
    meeting: Arc<tokio::sync::Mutex<()>>,
    /// Whether it has answered this process's hello.
    answered: bool,
    /// Whether nothing more of it is waited for: it had its say, or is not there.
    settled: bool,
    /// Since when it says that another process stands at this node's address.
    objects: Option<Instant>,
    /// The process that wrote something else under a log id, and where.
    rewrote: Option<(Incarnation, LogId)>,
    /// What was remembered of it a moment ago.
    lately: Lately,
}

impl Acquaintances {
    pub(crate) fn new(
        node: NodeId,
        incarnation: Incarnation,
        peers: Peers,
        log: Log,
        origin: impl Fn() -> KnownOrigin + Send + Sync + 'static,
        clearance: Clearance,
    ) -> Self {
        let origin = Box::new(origin);
        let memory = log.memory();
        let (known, witnesses, unknown) = (Mutex::default(), Mutex::default(), Notify::new());
        Self {
            inner: Arc::new(Inner {
                node,
                incarnation,
                peers,
                log,
                memory,
                origin,
                clearance,
                known,
                witnesses,
                began: OnceLock::new(),
                unknown,
            }),
        }
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn witnesses(&self) -> MutexGuard<'_, Witnesses> {
        self.inner.witnesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
