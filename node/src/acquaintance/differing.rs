//! What becomes of a member whose data is of another epoch than this node's.

use license::product::NodeId;
use tokio::time::Instant;

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
    /// What others are told of this node's epoch.
    pub(crate) fn epoch(&self) -> Option<u64> {
        (self.inner.epoch)().told()
    }

    /// Takes in the epoch that `node` told, and refuses it when a restore lies
    /// between its data and this node's.
    ///
    /// Only of a process that was found at the node's address: anybody with a
    /// copy of its keys can call, and is neither a witness nor a reason not to
    /// hear the node itself. Whose data is the older stops, by two [`Witnesses`].
    pub(super) fn take_epoch(&self, node: u64, told: Option<u64>) -> Result<(), Unmet> {
        let is_news = self.witnesses().take(node, told, Instant::now());
        let same = self.require_same_epoch(node, told);
        if let Err(unmet) = &same {
            self.known().entry(node).or_default().met = None;
            match unmet {
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

    /// Refuses the epoch that a caller who may be anybody told as `node`.
    pub(super) fn require_same_epoch(&self, node: u64, told: Option<u64>) -> Result<(), Unmet> {
        let Some(theirs) = told else { return Ok(()) };
        let (ours, node) = ((self.inner.epoch)(), NodeId(node));
        if ours.outdates(told) {
            return Err(Unmet::BeforeRestore { node, theirs });
        }
        if ours.is_outdated_by(told) {
            return Err(Unmet::AfterRestore { node, theirs });
        }
        Ok(())
    }

    /// Stops this node when two others say that the cluster was restored since.
    fn hear_witnesses(&self) {
        let ours = (self.inner.epoch)();
        let (members, now) = (self.inner.peers.ids(), Instant::now());
        let agreed = self.witnesses().agree(&members, now, |told| ours.is_outdated_by(Some(told)));
        if let (Some(ours), Some((by, theirs))) = (ours.told(), agreed) {
            let node = self.inner.node;
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
        let known = (self.inner.epoch)();
        let Some(ours) = known.told() else { return Vec::new() };
        let others = self.of_other_epochs().into_iter();
        let later = others.filter(|(_, theirs)| known.is_outdated_by(Some(*theirs)));
        later.map(|(by, theirs)| Outdated { by, ours, theirs }).collect()
    }

    /// The members that are there and of another restore epoch than this node's
    /// data, and that epoch.
    pub(crate) fn of_other_epochs(&self) -> Vec<(NodeId, u64)> {
        let Some(ours) = self.epoch() else { return Vec::new() };
        let (members, now) = (self.inner.peers.ids(), Instant::now());
        self.witnesses().of_others(&members, now, ours)
    }
}
