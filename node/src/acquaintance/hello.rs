//! Saying hello: what a process that starts hears from the others, and what it
//! makes of that.

use std::time::Duration;

use license::product::NodeId;
use tokio::time::Instant;
use wire::peer::hello_reply::Verdict;
use wire::peer::{HelloReply, HelloRequest};

use super::origin::Origin;
use super::promises::{entry, promise, to_wire};
use super::{Acquaintances, Known, Unmet};
use crate::clearance::Denial;
use crate::peers::Incarnation;

/// Another process that is found at this node's address may be on its way out.
/// One that is still there after so long is there to stay.
pub(super) const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How long a process that has just started puts off its first grant to hear from
/// every other member whether the cluster was restored since. One that is there
/// answers within a fraction of this, and one whose host is up and that is not
/// there is known to be away at once.
pub(super) const FIRST_WORD_MAX: Duration = Duration::from_secs(2);

impl Acquaintances {
    /// What this node answers a process that has just started as `node`.
    pub(crate) async fn greet(
        &self,
        node: u64,
        claimed: Option<Incarnation>,
        request: HelloRequest,
    ) -> HelloReply {
        let mut reply = HelloReply {
            remembered: Some(to_wire(self.inner.memory.of(node))),
            origin: self.origin(),
            ..HelloReply::default()
        };
        // Not taken in: who calls has not been looked for yet.
        let met = match self.require_same_origin(node, Origin::of_wire(request.origin.as_ref())) {
            Ok(()) => self.meet(node, claimed).await,
            Err(unmet) => {
                // But it may be the member itself, which was restored since it
                // welcomed this process. Nothing else of it may ever come here.
                if matches!(unmet, Unmet::AfterRestore { .. }) {
                    self.ask_again(node);
                }
                Err(unmet)
            }
        };
        let verdict = match met {
            Ok(()) => Verdict::Welcome,
            // While the restore is on its way nobody is told to stop for it.
            Err(Unmet::BeforeRestore { .. }) if reply.origin.is_some() => Verdict::BeforeRestore,
            Err(lost @ Unmet::LostData { .. }) => {
                tracing::warn!(%lost, "a node has lost data and is told to stop");
                Verdict::LostData
            }
            Err(Unmet::Elsewhere { address, .. }) => {
                reply.detail = address;
                Verdict::RunsElsewhere
            }
            Err(Unmet::Rewrote { at, .. }) => {
                reply.detail = entry(at);
                Verdict::Rewrote
            }
            Err(other @ Unmet::OtherCluster { .. }) => {
                reply.detail = other.to_string();
                Verdict::OtherCluster
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
        let (node, by) = (self.inner.node, NodeId(witness));
        let remembered = promise(reply.remembered);
        let origin = Origin::of_wire(reply.origin.as_ref());
        if let Err(unmet) = self.take_origin(witness, origin) {
            self.objects_no_more(witness);
            return Err(unmet.to_string());
        }
        if reply.verdict() != Verdict::RunsElsewhere {
            self.objects_no_more(witness);
        }
        match reply.verdict() {
            Verdict::Welcome => {
                self.hear(witness, remembered, origin);
                self.known().entry(witness).or_default().answered = true;
                self.give_clearance();
                Ok(())
            }
            Verdict::RunsElsewhere => {
                let address = reply.detail;
                let now = Instant::now();
                let since = *self.known().entry(witness).or_default().objects.get_or_insert(now);
                if since == now {
                    tracing::warn!(%by, %address, "another process answers as this node; it is looked for once more");
                }
                let told = format!("another process runs as {node} at {address}");
                if since.elapsed() >= SECOND_LOOK {
                    self.inner.clearance.deny(Denial::RunsElsewhere { node, witness: by, address });
                }
                Err(told)
            }
            Verdict::LostData => {
                // Its own word weighs, even if ours should have told us already.
                let kept = self.inner.log.promise();
                let epoch = origin.map(|origin| origin.epoch);
                let denial = Denial::LostData { node, witness: by, remembered, kept, epoch };
                self.inner.clearance.deny(denial);
                Ok(())
            }
            Verdict::Rewrote => {
                let at = reply.detail;
                self.inner.clearance.deny(Denial::Rewrote { node, witness: by, at });
                Ok(())
            }
            Verdict::BeforeRestore | Verdict::OtherCluster | Verdict::Unreached => {
                Err(reply.detail)
            }
            Verdict::Unspecified => Err("its answer is not understood".to_owned()),
        }
    }

    /// `witness` found no other process at this node's address when it looked
    /// last, or looks no more.
    pub(crate) fn objects_no_more(&self, witness: u64) {
        let objected = self.known().entry(witness).or_default().objects.take().is_some();
        if objected {
            self.give_clearance();
        }
    }

    /// One welcome is enough, while nobody sees another process in this one's place.
    fn give_clearance(&self) {
        let (is_welcome, is_disputed) = {
            let known = self.known();
            let is = |what: fn(&Known) -> bool| known.values().any(what);
            (is(|known| known.answered), is(|known| known.objects.is_some()))
        };
        if is_welcome && !is_disputed && self.inner.clearance.give() {
            let kept = self.inner.log.promise();
            tracing::info!(%kept, "a peer knows this node; it takes part");
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

    /// The others are asked from now on.
    pub(crate) fn begin(&self) {
        self.inner.began.get_or_init(Instant::now);
    }

    /// Whether every other member has said of which epoch it is, could not, or had
    /// time to. A process that has just started grants nothing before.
    pub(crate) fn has_asked_around(&self) -> bool {
        let had_time = |began: &Instant| began.elapsed() >= FIRST_WORD_MAX;
        if (self.inner.origin)().told().is_none() || self.inner.began.get().is_some_and(had_time) {
            return true;
        }
        let (members, known) = (self.inner.peers.ids(), self.known());
        members
            .iter()
            .all(|member| known.get(member).is_some_and(|known| known.answered || known.settled))
    }

    /// `node` was asked for what it remembers: it did not say that all is well, or
    /// nobody is there to say anything.
    pub(crate) fn settle(&self, node: u64) {
        self.known().entry(node).or_default().settled = true;
    }
}
