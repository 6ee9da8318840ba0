//! The wall floor: the earliest that the real date can be.
//!
//! License dates run on it. It moves on with cluster time, so dates come
//! whatever the clocks say; it jumps forward only to a date that no clock
//! contradicts, so they come no earlier than the date is; it never moves back
//! but by a vendor's reset. ARCHITECTURE.md, Time, has the cases.

use license::product::WallTime;
use serde::{Deserialize, Serialize};

use crate::limits::WALL_DISPROOF_MILLIS;
use crate::time::ClusterTime;

/// A date, and the cluster time at which it was learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WallFloor {
    floor: WallTime,
    learned: ClusterTime,
}

impl WallFloor {
    /// The floor that is `floor` at `clock`.
    pub(crate) fn new(floor: WallTime, clock: ClusterTime) -> Self {
        Self { floor, learned: clock }
    }

    /// The floor at `clock`.
    pub(crate) fn at(self, clock: ClusterTime) -> WallTime {
        moved_on(self.floor, clock.millis_since(self.learned))
    }

    /// The higher of what is known and `candidate`.
    pub(crate) fn raised(known: Option<Self>, candidate: WallTime, clock: ClusterTime) -> Self {
        match known {
            Some(known) if known.at(clock) >= candidate => known,
            _ => Self::new(candidate, clock),
        }
    }
}

/// The latest date that no clock contradicts: the lowest of those that may be
/// right, if there are two or more.
///
/// The real date is not before the floor, so a clock far below it is wrong and
/// has no say: one clock at 1970 holds no date up. The lowest of the others is
/// late if one of them is low, and early only if every one of them is ahead.
pub(crate) fn uncontradicted(clocks: &[WallTime], floor: Option<WallTime>) -> Option<WallTime> {
    let mut low_to_high: Vec<WallTime> =
        clocks.iter().copied().filter(|clock| !is_disproved(*clock, floor)).collect();
    low_to_high.sort_unstable();
    match low_to_high[..] {
        [lowest, _, ..] => Some(lowest),
        _ => None,
    }
}

/// Whether a clock is so far below the floor that it must be wrong.
pub(crate) fn is_disproved(clock: WallTime, floor: Option<WallTime>) -> bool {
    floor.is_some_and(|floor| moved_on(clock, WALL_DISPROOF_MILLIS) < floor)
}

/// `date` after `millis` more of cluster time.
pub(crate) fn moved_on(date: WallTime, millis: u64) -> WallTime {
    date.plus_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}
