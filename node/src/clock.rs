//! The clock a node is handed: time since boot for leases, the wall for dates.

use std::time::Duration;

use license::product::WallTime;

/// What a node may know of time. `main` hands in the machine's, the simulator its own.
pub trait Clock: Send + Sync + 'static {
    /// Time since boot, running through suspend (`CLOCK_BOOTTIME`).
    fn boot(&self) -> Duration;

    /// The wall clock. License dates use it, and only after two nodes agree.
    fn wall(&self) -> WallTime;
}

/// The machine's own clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn boot(&self) -> Duration {
        // CLOCK_BOOTTIME cannot fail on a kernel that Rust's own runtime supports.
        nix::time::clock_gettime(nix::time::ClockId::CLOCK_BOOTTIME)
            .map(Duration::from)
            .unwrap_or_default()
    }

    #[expect(clippy::disallowed_methods, reason = "the process's one clock; all else is handed it")]
    fn wall(&self) -> WallTime {
        let since_1970 =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        WallTime(i64::try_from(since_1970.as_millis()).unwrap_or(i64::MAX))
    }
}
