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

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use license::product::NodeId;
use tokio::sync::Notify;
use tonic::Status;
use wire::peer::{self, HelloReply, PresentReply, PresentRequest, hello_reply};

use crate::clearance::{Clearance, Denial};
use crate::peers::{Incarnation, Peers};
use crate::store::log::Log;
use crate::store::memory::Memory;
use crate::store::promise::Promise;

/// A node that stands at its address answers within a fraction of this.
const MEET_MAX: Duration = Duration::from_secs(1);

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
    clearance: Clearance,
    known: Mutex<BTreeMap<u64, Known>>,
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
}

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
}

impl From<Unmet> for Status {
    /// The code that makes the other end say hello, and so hear why.
    fn from(unmet: Unmet) -> Self {
        Self::unauthenticated(unmet.to_string())
    }
}

impl Acquaintances {
    pub(crate) fn new(
        node: NodeId,
        incarnation: Incarnation,
        peers: Peers,
        log: Log,
        clearance: Clearance,
    ) -> Self {
        let memory = log.memory();
        let (known, unknown) = (Mutex::default(), Notify::new());
        Self {
            inner: Arc::new(Inner {
                node,
                incarnation,
                peers,
                log,
                memory,
                clearance,
                known,
                unknown,
            }),
        }
    }

    /// Lets `node` be heard as `claimed`, if that is the process that stands at
    /// its address and it has lost nothing.
    pub(crate) async fn meet(&self, node: u64, claimed: Option<Incarnation>) -> Result<(), Unmet> {
        let claimed = claimed.ok_or(Unmet::Nameless)?;
        if self.has_met(node, claimed) {
            return Ok(());
        }
        let meeting = self.known().entry(node).or_default().meeting.clone();
        let _one_at_a_time = meeting.lock().await;
        if self.has_met(node, claimed) {
            return Ok(());
        }
        // Before the look: what it acknowledges meanwhile is not held against it.
        let remembered = self.inner.memory.of(node);
        let (address, there) = self.look(node).await?;
        self.hear(node, promise(there.remembered));
        let found = Incarnation::from_wire(&there.incarnation);
        if found != Some(claimed) {
            return Err(Unmet::Elsewhere { node: NodeId(node), address });
        }
        let kept = promise(there.promise);
        if kept < remembered {
            return Err(Unmet::LostData { node: NodeId(node), remembered, kept });
        }
        self.known().entry(node).or_default().met = found;
        tracing::debug!(node, %address, %kept, "met a node");
        Ok(())
    }

    /// Whether `node` is heard as this process without looking again.
    pub(crate) fn has_met(&self, node: u64, claimed: Incarnation) -> bool {
        self.known().get(&node).is_some_and(|known| known.met == Some(claimed))
    }

    /// Asks whoever stands at a node's address.
    async fn look(&self, node: u64) -> Result<(String, PresentReply), Unmet> {
        let unreached = |address: &str, reason: String| Unmet::Unreached {
            node: NodeId(node),
            address: address.to_owned(),
            reason,
        };
        let Some((mut client, address)) = self.inner.peers.afresh(node) else {
            return Err(unreached(
                "an address",
                "it is not a node of this cluster, as far as is known here".to_owned(),
            ));
        };
        match tokio::time::timeout(MEET_MAX, client.present(PresentRequest {})).await {
            Ok(Ok(reply)) => Ok((address, reply.into_inner())),
            Ok(Err(status)) => Err(unreached(&address, status.message().to_owned())),
            Err(_) => Err(unreached(&address, "no answer in time".to_owned())),
        }
    }

    /// Compares what `witness` remembers of this node with what its disk keeps.
    pub(crate) fn hear(&self, witness: u64, remembered: Promise) {
        let kept = self.inner.log.promise();
        if kept < remembered {
            let (node, witness) = (self.inner.node, NodeId(witness));
            self.inner.clearance.deny(Denial::LostData { node, witness, remembered, kept });
        }
    }

    /// What this node answers who looks for it.
    pub(crate) fn present(&self, caller: u64) -> PresentReply {
        PresentReply {
            incarnation: self.inner.incarnation.to_wire(),
            promise: Some(to_wire(self.inner.log.promise())),
            remembered: Some(to_wire(self.inner.memory.of(caller))),
        }
    }

    /// What this node answers a process that has just started as `node`.
    pub(crate) async fn greet(&self, node: u64, claimed: Option<Incarnation>) -> HelloReply {
        use hello_reply::Verdict;
        let mut reply = HelloReply {
            remembered: Some(to_wire(self.inner.memory.of(node))),
            ..HelloReply::default()
        };
        let verdict = match self.meet(node, claimed).await {
            Ok(()) => Verdict::Welcome,
            Err(Unmet::LostData { .. }) => Verdict::LostData,
            Err(Unmet::Elsewhere { address, .. }) => {
                reply.detail = address;
                Verdict::RunsElsewhere
            }
            Err(unreached) => {
                reply.detail = unreached.to_string();
                Verdict::Unreached
            }
        };
        reply.verdict = verdict.into();
        reply
    }

    /// Takes in a peer's answer to this node's hello. Says why it was not welcome
    /// yet; whether it never will be is the clearance's to know.
    pub(crate) fn answered(&self, witness: u64, reply: HelloReply) -> Result<(), String> {
        use hello_reply::Verdict;
        let (node, by) = (self.inner.node, NodeId(witness));
        let remembered = promise(reply.remembered);
        match reply.verdict() {
            Verdict::Welcome => {
                self.hear(witness, remembered);
                self.known().entry(witness).or_default().answered = true;
                if self.inner.clearance.give() {
                    let kept = self.inner.log.promise();
                    tracing::info!(%by, %remembered, %kept, "a peer knows this node; it takes part");
                }
                Ok(())
            }
            Verdict::RunsElsewhere => {
                let address = reply.detail;
                self.inner.clearance.deny(Denial::RunsElsewhere { node, witness: by, address });
                Ok(())
            }
            Verdict::LostData => {
                // Its own word weighs, even if ours should have told us already.
                let kept = self.inner.log.promise();
                let denial = Denial::LostData { node, witness: by, remembered, kept };
                self.inner.clearance.deny(denial);
                Ok(())
            }
            Verdict::Unreached => Err(reply.detail),
            Verdict::Unspecified => Err("its answer is not understood".to_owned()),
        }
    }

    /// Whether `node` has answered this process's hello.
    pub(crate) fn has_answered(&self, node: u64) -> bool {
        self.known().get(&node).is_some_and(|known| known.answered)
    }

    /// `node` says that it does not know this process: it is to be greeted again.
    pub(crate) fn is_unknown_to(&self, node: u64) {
        self.known().entry(node).or_default().answered = false;
        self.inner.unknown.notify_one();
    }

    /// Resolves when somebody is to be greeted again.
    pub(crate) async fn unknown(&self) {
        self.inner.unknown.notified().await;
    }

    /// What goes with every message of Raft: how far this node's own disk has
    /// promised, and what it remembers of the others.
    ///
    /// The first is how followers know what their leader promised; the second
    /// lets a third node stand witness when the one that saw it is gone.
    pub(crate) fn promises(&self) -> Vec<peer::NodePromise> {
        let own = (self.inner.node.0, self.inner.log.promise());
        std::iter::once(own)
            .chain(self.inner.memory.all())
            .map(|(node, promise)| peer::NodePromise { node, promise: Some(to_wire(promise)) })
            .collect()
    }

    /// Takes in what came with a message of Raft, of the nodes this one knows.
    pub(crate) fn note_all(&self, promises: &[peer::NodePromise]) {
        for told in promises.iter().filter(|told| self.inner.peers.calls(told.node).is_some()) {
            self.note(told.node, promise(told.promise));
        }
    }

    /// Notes what `node` acknowledged to this one.
    pub(crate) fn note(&self, node: u64, promise: Promise) {
        self.inner.memory.note(node, promise);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn promise(told: Option<peer::Promise>) -> Promise {
    told.map_or_else(Promise::default, |told| Promise { term: told.term, held: told.held })
}

fn to_wire(promise: Promise) -> peer::Promise {
    peer::Promise { term: promise.term, held: promise.held }
}
