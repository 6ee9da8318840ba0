//! The clock a hold is counted on: one that runs on while the machine sleeps.
//!
//! An application whose laptop slept for an hour has not held its seat for that
//! hour. `CLOCK_MONOTONIC` stops in suspend on Linux and would say it had.

use std::ops::Add;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// A point on a [`Clock`]: time since that clock began.
///
/// Comparable only with other moments of the same clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Moment(pub Duration);

impl Moment {
    /// Later than every other: what a clock that cannot be read says, so that
    /// every hold counts as run out.
    pub const NEVER: Self = Self(Duration::MAX);

    /// How long after `earlier` this is; zero when it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, span: Duration) -> Self {
        Self(self.0.saturating_add(span))
    }
}

/// Where this library reads time from. Handed in, so that a simulator brings its own.
///
/// Never goes back, and runs on through suspend.
pub trait Clock: Send + Sync + 'static {
    /// Now.
    fn now(&self) -> Moment;
}

/// The operating system's clock since boot, suspend included.
#[derive(Debug, Clone, Copy, Default)]
pub struct BootClock;

#[cfg(any(target_os = "linux", target_os = "android"))]
const SINCE_BOOT: ClockId = ClockId::CLOCK_BOOTTIME;

// On macOS and the BSDs the monotonic clock is the one that runs on in sleep.
#[cfg(not(any(target_os = "linux", target_os = "android")))]
const SINCE_BOOT: ClockId = ClockId::CLOCK_MONOTONIC;

impl Clock for BootClock {
    fn now(&self) -> Moment {
        clock_gettime(SINCE_BOOT).map_or(Moment::NEVER, |time| Moment(time.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_clock_can_be_read_and_does_not_go_back() {
        let first = BootClock.now();
        assert_ne!(first, Moment::NEVER);
        assert!(BootClock.now() >= first);
    }
}
