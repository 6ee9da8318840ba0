//! What becomes of a member whose data is of another cluster or epoch than this
//! node's.

use license::product::NodeId;
use tokio::time::Instant;
use wire::peer;

use super::origin::Origin;
use super::{Acquaintances, Unmet};
use crate::clearance::Denial;

/// A member that is present tells a later restore epoch than this node's data is
/// of: the cluster was restored since, or that node strayed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outdated {
    /// Who tells.
    pub(crate) by: NodeId,
    /// Of this node's data.
    pub(crate) ours: u64,
    /// What it tells.
    pub(crate) theirs: u64,
}

impl Acquaintances {
    /// What others are told of this node's origin.
    pub(crate) fn origin(&self) -> Option<peer::Origin> {
        (self.inner.origin)().told().map(Origin::to_wire)
    }

    /// Takes in the origin that `node` told, and refuses it when its data is of
    /// another cluster, or a restore lies between its data and this node's.
    ///
    /// Only of a process that was found at the node's address: anybody with a
    /// copy of its keys can call, and is neither a witness nor a reason not to
    /// hear the node itself. Whose data is the older stops, by two [`Witnesses`].
    pub(super) fn take_origin(&self, node: u64, told: Option<Origin>) -> Result<(), Unmet> {
        let is_news = self.witnesses().take(node, told, Instant::now());
        let same = self.require_same_origin(node, told);
        if let Err(unmet) = &same {
            self.known().entry(node).or_default().met = None;
            match unmet {
                Unmet::OtherCluster { .. } if is_news => {
                    tracing::warn!(%unmet, "a member is of another cluster");
                }
                Unmet::BeforeRestore { node, theirs } if is_news => {
                    tracing::warn!(%node, epoch = theirs, "a node's data is from before the cluster was restored; it is not heard");
                }
                Unmet::AfterRestore { node: by, theirs } => {
                    if is_news {
                        tracing::warn!(node = %by, epoch = theirs, "the cluster was restored since this node's data was written, as that member says; nothing is granted or renewed while it is up");
                    }
                    self.hear_witnesses();
                    self.ask_again(node);
                }
                _ => {}
            }
        }
        same
    }

    /// Has a node that tells a later epoch, and had welcomed this one, asked at its
    /// own address, once a second and for as long as it tells it: what it told
    /// counts only while it is there ([`Self::outdated`]).
    pub(super) fn ask_again(&self, node: u64) {
        if self.has_answered(node) {
            self.is_unknown_to(node);
        }
    }

    /// Refuses the origin that a caller who may be anybody told as `node`.
    pub(super) fn require_same_origin(&self, node: u64, told: Option<Origin>) -> Result<(), Unmet> {
        let Some(told) = told else { return Ok(()) };
        let (known, node) = ((self.inner.origin)(), NodeId(node));
        if let Some(ours) = known.differs_from(told) {
            return Err(Unmet::OtherCluster { node, ours, theirs: told.cluster });
        }
        if known.outdates(told) {
            return Err(Unmet::BeforeRestore { node, theirs: told.epoch });
        }
        if known.is_outdated_by(told) {
            return Err(Unmet::AfterRestore { node, theirs: told.epoch });
        }
        Ok(())
    }

    /// Stops this node when two others say that the cluster was restored since.
    fn hear_witnesses(&self) {
        let known = (self.inner.origin)();
        let (members, now) = (self.inner.peers.ids(), Instant::now());
        let agreed = self.witnesses().agree(&members, now, |told| known.is_outdated_by(told));
        if let (Some(ours), Some((by, theirs))) = (known.told(), agreed) {
            let (node, ours, theirs) = (self.inner.node, ours.epoch, theirs.epoch);
            self.inner.clearance.deny(Denial::BeforeRestore { node, by, ours, theirs });
        }
    }

    /// Who says that the cluster was restored since this node's data was written,
    /// if anybody does. One is enough not to grant, because two of an earlier epoch
    /// are a majority; to stop the process takes two.
    pub(crate) fn outdated(&self) -> Option<Outdated> {
        self.of_later_epochs().into_iter().max_by_key(|outdated| outdated.theirs)
    }

    /// All who say so now.
    pub(crate) fn of_later_epochs(&self) -> Vec<Outdated> {
        let known = (self.inner.origin)();
        let Some(Origin { epoch: ours, .. }) = known.told() else { return Vec::new() };
        let others = self.of_other_origins().into_iter();
        let later = others.filter(|(_, told)| known.is_outdated_by(*told));
        later.map(|(by, told)| Outdated { by, ours, theirs: told.epoch }).collect()
    }

    /// The members that are there with data of another cluster or restore epoch than
    /// this node's, and what that is.
    pub(crate) fn of_other_origins(&self) -> Vec<(NodeId, Origin)> {
        let Some(ours) = (self.inner.origin)().told() else { return Vec::new() };
        let (members, now) = (self.inner.peers.ids(), Instant::now());
        self.witnesses().of_others(&members, now, ours)
    }
}
