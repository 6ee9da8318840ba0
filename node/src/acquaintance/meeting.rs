//! Meeting a node: the process that calls in its name is looked for at its address.

use std::time::Duration;

use license::product::NodeId;
use wire::peer::{PresentReply, PresentRequest};

use super::origin::Origin;
use super::promises::{promise, to_wire};
use super::{Acquaintances, Unmet};
use crate::peers::Incarnation;
use crate::raft::Entry;
use crate::store::promise::Promise;

/// A node that stands at its address answers within a fraction of this.
const MEET_MAX: Duration = Duration::from_secs(1);

impl Acquaintances {
    /// Lets `node` be heard as `claimed`, if that is the process that stands at
    /// its address and it has lost nothing.
    pub(crate) async fn meet(&self, node: u64, claimed: Option<Incarnation>) -> Result<(), Unmet> {
        let claimed = claimed.ok_or(Unmet::Nameless)?;
        if self.has_met(node, claimed) {
            return Ok(());
        }
        let rewrote = self.known().get(&node).and_then(|known| known.rewrote);
        if let Some((_, at)) = rewrote.filter(|(process, _)| *process == claimed) {
            return Err(Unmet::Rewrote { node: NodeId(node), at });
        }
        let meeting = self.known().entry(node).or_default().meeting.clone();
        let _one_at_a_time = meeting.lock().await;
        if self.has_met(node, claimed) {
            return Ok(());
        }
        // Before the look: what it acknowledges meanwhile is not held against it.
        let remembered = self.inner.memory.of(node);
        let (address, there) = self.look(node).await?;
        let origin = Origin::of_wire(there.origin.as_ref());
        self.take_origin(node, origin)?;
        self.hear(node, promise(there.remembered), origin);
        let kept = promise(there.promise);
        let is_claimed = Incarnation::from_wire(&there.incarnation) == Some(claimed);
        judge(NodeId(node), is_claimed, &address, remembered, kept)?;
        self.known().entry(node).or_default().met = Some(claimed);
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

    /// What this node answers who looks for it.
    pub(crate) fn present(&self, caller: u64) -> PresentReply {
        PresentReply {
            incarnation: self.inner.incarnation.to_wire(),
            promise: Some(to_wire(self.inner.log.promise())),
            remembered: Some(to_wire(self.inner.memory.of(caller))),
            origin: self.origin(),
        }
    }

    /// Refuses entries of a leader that wrote others under the same log ids
    /// before. Its process is heard no more, and told when it says hello.
    pub(crate) fn require_same_entries(
        &self,
        node: u64,
        process: Incarnation,
        entries: &[Entry],
    ) -> Result<(), Unmet> {
        let Some(at) = self.inner.log.contradicts(entries) else { return Ok(()) };
        let mut known = self.known();
        let it = known.entry(node).or_default();
        (it.met, it.rewrote) = (None, Some((process, at)));
        let unmet = Unmet::Rewrote { node: NodeId(node), at };
        tracing::error!(%unmet, "a leader has forgotten what it wrote; it is told to stop");
        Err(unmet)
    }
}

/// Whether the process that claims to be `node` is heard, after a look at the
/// node's address: is it the one that is there, and what does that one keep of
/// what is remembered?
///
/// A process that is there and has lost data takes nobody's place: it is to
/// stop itself, and which of the two is the copy is not in doubt.
pub(super) fn judge(
    node: NodeId,
    is_claimed: bool,
    address: &str,
    remembered: Promise,
    kept: Promise,
) -> Result<(), Unmet> {
    let address = address.to_owned();
    match (is_claimed, kept < remembered) {
        (true, false) => Ok(()),
        (true, true) => Err(Unmet::LostData { node, remembered, kept }),
        (false, false) => Err(Unmet::Elsewhere { node, address }),
        (false, true) => Err(Unmet::LostDataThere { node, address, remembered, kept }),
    }
}
