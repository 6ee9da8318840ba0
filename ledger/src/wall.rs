//! The wall floor: the earliest that the real date can be.
//!
//! License dates run on it. It moves on with cluster time and jumps forward
//! only to a date that two nodes' clocks agree on within five minutes, so one
//! wrong clock neither starts nor ends a license; it never moves back. The
//! clock of the node that formed the cluster is one clock, so it does not
//! count: the floor starts at the issue time of the first license.

use license::product::WallTime;
use serde::{Deserialize, Serialize};

use crate::limits::WALL_AGREEMENT_MILLIS;
use crate::time::ClusterTime;

/// A date, and the cluster time at which it was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WallFloor {
    floor: WallTime,
    learned: ClusterTime,
}

impl WallFloor {
    /// The floor at `clock`.
    pub(crate) fn at(self, clock: ClusterTime) -> WallTime {
        moved_on(self.floor, clock.millis_since(self.learned))
    }

    /// The higher of what is known and `candidate`.
    pub(crate) fn raised(known: Option<Self>, candidate: WallTime, clock: ClusterTime) -> Self {
        match known {
            Some(known) if known.at(clock) >= candidate => known,
            _ => Self { floor: candidate, learned: clock },
        }
    }
}

/// The lower of two clocks, if they agree.
pub(crate) fn agreed(one: WallTime, other: WallTime) -> Option<WallTime> {
    (one.0.abs_diff(other.0) <= WALL_AGREEMENT_MILLIS).then_some(one.min(other))
}

/// `date` after `millis` more of cluster time.
pub(crate) fn moved_on(date: WallTime, millis: u64) -> WallTime {
    date.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
