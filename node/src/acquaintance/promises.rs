//! What a node promised: told and compared with every message, and noted.

use std::time::Duration;

use license::product::NodeId;
use openraft::vote::RaftLeaderId as _;
use tokio::time::Instant;
use wire::peer::{self, Packed};

use super::origin::Origin;
use super::{Acquaintances, Unmet};
use crate::clearance::Denial;
use crate::raft::{LogId, Vote};
use crate::store::promise::Promise;

/// A message that came later than this after one that was sent later is not
/// late: its sender has lost something.
pub(super) const OVERTAKEN_MAX: Duration = Duration::from_secs(1);

/// What was remembered of a node a moment ago: between one and two of
/// [`OVERTAKEN_MAX`] if it is asked for all the time, longer ago if not.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Lately {
    since: Option<Instant>,
    before: Promise,
    then: Promise,
}

impl Lately {
    /// What it was, when `remembered` is what is remembered `now`.
    fn at(&mut self, now: Instant, remembered: Promise) -> Promise {
        let is_over = self.since.is_none_or(|since| now - since >= OVERTAKEN_MAX);
        if is_over {
            *self = Self { since: Some(now), before: self.then, then: remembered };
        }
        self.before
    }
}

impl Acquaintances {
    /// What goes with every message of Raft: how far this node's own disk has
    /// promised, and what it remembers of the others.
    ///
    /// The first is how followers know what their leader promised. The second
    /// tells the receiver what is remembered of itself, and lets a third node
    /// stand witness when the one that saw it is gone.
    pub(crate) fn promises(&self) -> Vec<peer::NodePromise> {
        let own = (self.inner.node.0, self.inner.log.promise());
        let peers = self.inner.peers.ids();
        let others = self.inner.memory.all().into_iter().filter(|(node, _)| peers.contains(node));
        std::iter::once(own).chain(others).map(told).collect()
    }

    /// What goes with an answer to `caller`, as of the moment its message came:
    /// what is promised by answering would hide what was lost before.
    pub(crate) fn promises_to(&self, caller: u64) -> Vec<peer::NodePromise> {
        let own = (self.inner.node.0, self.inner.log.promise());
        [own, (caller, self.inner.memory.of(caller))].map(told).into()
    }

    /// What this node remembers of `node`'s promises now.
    pub(crate) fn remembered(&self, node: u64) -> Promise {
        self.inner.memory.of(node)
    }

    /// Compares what `witness`, of this origin, remembers of this node with what its
    /// disk keeps.
    pub(crate) fn hear(&self, witness: u64, remembered: Promise, origin: Option<Origin>) {
        let kept = self.inner.log.promise();
        if kept < remembered {
            let (node, witness) = (self.inner.node, NodeId(witness));
            let epoch = origin.map(|origin| origin.epoch);
            let denial = Denial::LostData { node, witness, remembered, kept, epoch };
            self.inner.clearance.deny(denial);
        }
    }

    /// Compares what came with a message or an answer of `node` as a meeting
    /// would, and refuses it when either side has lost what the other remembers.
    ///
    /// `remembered` is what this node remembered of it when the message came, or
    /// before it sent what is answered. What it shows is then newer than what is
    /// remembered, whatever other answers came first.
    pub(crate) fn compare(
        &self,
        node: u64,
        Packed { promises, origin, .. }: &Packed,
        remembered: Promise,
    ) -> Result<(), Unmet> {
        let origin = Origin::of_wire(origin.as_ref());
        self.take_origin(node, origin)?;
        self.hear(node, told_of(self.inner.node.0, promises), origin);
        self.require_cleared()?;
        let shown = told_of(node, promises);
        if shown < remembered {
            self.known().entry(node).or_default().met = None;
            let unmet = Unmet::ShowsLess { node: NodeId(node), remembered, shown };
            tracing::debug!(%unmet, "a message does not count");
            return Err(unmet);
        }
        Ok(())
    }

    /// The same for a message, which a later one may have overtaken: a heartbeat
    /// travels beside the stream of entries. One that shows what was remembered a
    /// moment ago does not count either, and is no reason to look: a healthy
    /// leader's stream would be cut for it. A node that lost more than a moment's
    /// promises, or goes on showing less for longer than that, is met again.
    pub(crate) fn compare_message(&self, node: u64, message: &Packed) -> Result<(), Unmet> {
        let Packed { promises, origin, .. } = message;
        let origin = Origin::of_wire(origin.as_ref());
        self.take_origin(node, origin)?;
        let remembered = self.remembered(node);
        let shown = told_of(node, promises);
        let lately = self.known().entry(node).or_default().lately.at(Instant::now(), remembered);
        if (lately..remembered).contains(&shown) {
            self.hear(node, told_of(self.inner.node.0, promises), origin);
            self.require_cleared()?;
            tracing::debug!(node, %shown, %remembered, "a message was overtaken and does not count");
            return Err(Unmet::Overtaken { node: NodeId(node) });
        }
        self.compare(node, message, remembered)
    }

    /// Whether this node takes part now; a message that was begun before a
    /// denial ends with it.
    pub(crate) fn require_cleared(&self) -> Result<(), Unmet> {
        if self.inner.clearance.is_given() { Ok(()) } else { Err(Unmet::NotCleared) }
    }

    /// Takes in what came with a message of Raft from `teller`, which shows
    /// `vote`: of the nodes this one knows.
    ///
    /// What a node says of itself is its own affair. What it says of others is
    /// believed within bounds, or one that is broken or hostile could shut out
    /// another for ever by a promise that was never made. A leader is believed
    /// what is of its own term or an earlier one: it was there. Anybody else
    /// only that another voted, in a term that this node has been in itself; of
    /// a later one its leader will tell with its first append.
    pub(crate) fn note_all(&self, teller: u64, vote: &Vote, message: &Packed) {
        if !(self.inner.origin)().may_note(Origin::of_wire(message.origin.as_ref())) {
            return;
        }
        let term = vote.leader_id().term;
        let own = self.inner.log.vote();
        let own_term = own.map_or(0, |own| own.leader_id().term);
        // Of one term there is one leader, and this node may know another.
        let is_possible = own.is_none_or(|own| {
            term > own_term
                || (term == own_term && own.leader_id().node_id() == vote.leader_id().node_id())
        });
        let leads = vote.is_committed() && is_possible;
        for told in
            message.promises.iter().filter(|told| self.inner.peers.calls(told.node).is_some())
        {
            let promise = promise(told.promise);
            if told.node == teller || (leads && promise.term <= term) {
                self.note(told.node, promise);
            } else if promise.term <= own_term {
                self.note(told.node, Promise { held: None, ..promise });
            }
        }
    }

    /// Notes what `node` acknowledged to this one.
    pub(crate) fn note(&self, node: u64, promise: Promise) {
        self.inner.memory.note(node, promise);
    }
}

/// A log id in words.
pub(super) fn entry(at: LogId) -> String {
    format!("log entry {} of term {}", at.index, at.leader_id.term)
}

/// What is told of `node`.
fn told_of(node: u64, promises: &[peer::NodePromise]) -> Promise {
    promise(promises.iter().find(|told| told.node == node).and_then(|told| told.promise))
}

pub(super) fn promise(told: Option<peer::Promise>) -> Promise {
    told.map_or_else(Promise::default, |told| Promise { term: told.term, held: told.held })
}

pub(super) fn told((node, promise): (u64, Promise)) -> peer::NodePromise {
    peer::NodePromise { node, promise: Some(to_wire(promise)) }
}

pub(super) fn to_wire(promise: Promise) -> peer::Promise {
    peer::Promise { term: promise.term, held: promise.held }
}
