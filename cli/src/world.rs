//! What `main` hands in: the process's clocks.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use license::product::WallTime;

/// The clocks of this process. Only `main` makes one.
#[derive(Debug, Clone, Copy)]
pub struct World {
    /// The time of day.
    pub wall: fn() -> SystemTime,
    /// Time that never goes back.
    pub monotonic: fn() -> Instant,
}

impl World {
    /// The time of day, as licenses count it.
    pub fn wall_time(&self) -> WallTime {
        let millis = match (self.wall)().duration_since(UNIX_EPOCH) {
            Ok(after) => i64::try_from(after.as_millis()).unwrap_or(i64::MAX),
            Err(before) => {
                i64::try_from(before.duration().as_millis()).map_or(i64::MIN, |millis| -millis)
            }
        };
        WallTime(millis)
    }
}
