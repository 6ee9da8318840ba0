//! What a caller hears when there is no reply of the ledger, and how two nodes
//! tell one another.

use ledger::command::Refusal;
use ledger::level::Level;
use license::product::NodeId;
use wire::peer::{NotDone, not_done};

/// Why there is no reply of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnswered {
    /// Definitely not done.
    #[error(
        "no quorum: {detail}; nothing was done, ask again when two of the three nodes are up (see `trine cluster status`)"
    )]
    NoQuorum {
        /// What is missing.
        detail: String,
    },
    /// Definitely not done: the leadership moved while the request was on its way.
    #[error("the leader changed while the request was on its way; nothing was done, ask again")]
    LeaderChanged,
    /// Definitely not done: only the leader answers this.
    #[error("this node does not lead{}", leader.as_ref().map(|l| format!("; node-{} at {} does", l.node, l.client_address)).unwrap_or_default())]
    NotLeader {
        /// Who does, if known.
        leader: Option<LeaderHint>,
    },
    /// Definitely not done: nobody can tell which of two ledgers is right (S18).
    #[error(
        "the ledger of {with} differs from the leader's and no third node is heard to decide; nothing is granted until it is (see `trine cluster status`)"
    )]
    LedgersDiffer {
        /// The other node.
        with: NodeId,
    },
    /// Definitely not done: the leader's data is from before a restore, or a member
    /// strayed in from another one (S21).
    #[error(
        "{by} was restored from a backup, in epoch {theirs}, and the leader's data is of epoch {ours}; nothing is granted or renewed while both are up, because a seat could be held in both (see `trine cluster doctor`)"
    )]
    EpochsDiffer {
        /// Who tells the later epoch.
        by: NodeId,
        /// The leader's.
        ours: u64,
        /// The later one.
        theirs: u64,
    },
    /// Definitely not done: the leader has just started, and a member has yet to say
    /// whether the cluster was restored since the leader's data was written (S21).
    #[error(
        "the leader has just started and is asking the other nodes whether the cluster was restored meanwhile; nothing was done, ask again in a moment"
    )]
    EpochsUnknown,
    /// Definitely not done.
    #[error("more requests are waiting than are taken in; nothing was done, ask again in a moment")]
    Overloaded,
    /// Definitely not done.
    #[error("this node is shutting down; nothing was done, ask another")]
    Draining,
    /// Definitely not done.
    #[error(
        "the cluster is not formed yet, and nothing was done; whoever runs it forms it, or restores it from a backup"
    )]
    NotFormed,
    /// Definitely not done: the cluster is below the feature level that this needs.
    #[error("{}", Refusal::LevelTooLow { needs: *needs, level: *level })]
    LevelTooLow {
        /// What this needs.
        needs: Level,
        /// Where the cluster is.
        level: Level,
    },
    /// It may or may not have been done; asking again with the same id is safe.
    #[error("the outcome is unknown: {detail}; ask again with the same request id")]
    Unknown {
        /// What broke.
        detail: String,
    },
}

/// Who leads, and where applications and operators reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaderHint {
    /// The node.
    pub node: u64,
    /// Its client address.
    pub client_address: String,
}

impl NotAnswered {
    /// As the leader tells it to the node that forwarded; `None` if unknown.
    pub(crate) fn to_wire(&self) -> Option<NotDone> {
        use not_done::Why;
        let told = |why: Why| NotDone { why: why.into(), ..NotDone::default() };
        Some(match self {
            Self::NoQuorum { detail } => NotDone { detail: detail.clone(), ..told(Why::NoQuorum) },
            // To the node that forwarded, both mean: look for the leader afresh.
            Self::LeaderChanged | Self::NotLeader { .. } => told(Why::LeaderChanged),
            Self::LedgersDiffer { with } => NotDone { node: with.0, ..told(Why::LedgersDiffer) },
            Self::EpochsDiffer { by, ours, theirs } => {
                let (epoch, later_epoch) = (*ours, *theirs);
                NotDone { node: by.0, epoch, later_epoch, ..told(Why::EpochsDiffer) }
            }
            Self::EpochsUnknown => told(Why::EpochsUnknown),
            Self::Overloaded => told(Why::Overloaded),
            Self::Draining => told(Why::Draining),
            Self::NotFormed => told(Why::NotFormed),
            Self::LevelTooLow { needs, level } => {
                let (needs, level) = (needs.number().into(), level.number().into());
                NotDone { needs, level, ..told(Why::LevelTooLow) }
            }
            Self::Unknown { .. } => return None,
        })
    }

    /// As the node that forwarded tells it to its caller.
    pub(crate) fn from_wire(told: NotDone) -> Self {
        use not_done::Why;
        match told.why() {
            Why::NoQuorum | Why::Unspecified => Self::NoQuorum { detail: told.detail },
            // The leader that goes hands over first: another will take it.
            Why::LeaderChanged | Why::Draining => Self::LeaderChanged,
            Why::LedgersDiffer => Self::LedgersDiffer { with: NodeId(told.node) },
            Why::EpochsDiffer => Self::EpochsDiffer {
                by: NodeId(told.node),
                ours: told.epoch,
                theirs: told.later_epoch,
            },
            Why::EpochsUnknown => Self::EpochsUnknown,
            Why::Overloaded => Self::Overloaded,
            Why::NotFormed => Self::NotFormed,
            Why::LevelTooLow => {
                let level = |number: u32| u16::try_from(number).ok().and_then(Level::new);
                let (needs, level) = (level(told.needs), level(told.level));
                Self::LevelTooLow {
                    needs: needs.unwrap_or_default(),
                    level: level.unwrap_or_default(),
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_overloaded_leader_is_called_that_through_a_follower() {
        let told = NotAnswered::Overloaded.to_wire().expect("it is definite");
        assert_eq!(NotAnswered::from_wire(told), NotAnswered::Overloaded);
    }

    #[test]
    fn a_leader_from_before_a_restore_is_called_that_through_a_follower() {
        let why = NotAnswered::EpochsDiffer { by: NodeId(3), ours: 0, theirs: 9 };
        let told = why.to_wire().expect("it is definite");
        assert_eq!(NotAnswered::from_wire(told), why);
        let told = NotAnswered::EpochsUnknown.to_wire().expect("it is definite");
        assert_eq!(NotAnswered::from_wire(told), NotAnswered::EpochsUnknown);
    }

    #[test]
    fn a_leader_that_goes_is_not_the_last_word() {
        let told = NotAnswered::Draining.to_wire().expect("it is definite");
        assert_eq!(NotAnswered::from_wire(told), NotAnswered::LeaderChanged);
    }

    #[test]
    fn what_the_level_forbids_is_told_with_the_way_out() {
        let level = |number| Level::new(number).expect("a level");
        let why = NotAnswered::LevelTooLow { needs: level(3), level: level(2) };
        let told = why.to_wire().expect("it is definite");
        assert_eq!(NotAnswered::from_wire(told), why);
        assert!(why.to_string().contains("trine cluster upgrade"), "{why}");
    }

    #[test]
    fn what_is_unknown_is_never_told_as_not_done() {
        assert_eq!(NotAnswered::Unknown { detail: String::new() }.to_wire(), None);
    }
}
