//! L8: one node is slow or dead.

use std::time::Duration;

use super::{End, Held, Law};

/// Asked for is three times; one call more or less makes the 99th of few hundred.
const TIMES: u32 = 3;
/// Below this a factor says nothing: some messages' time.
const FLOOR: Duration = Duration::from_millis(150);

pub(super) struct OneSlow;

impl Law for OneSlow {
    fn name(&self) -> &'static str {
        "L8"
    }

    fn sentence(&self) -> &'static str {
        "With a follower slow or dead 99 of 100 calls are answered within three times what they take in health."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        let Some(endured) = &end.recovery.endured else { return Ok(()) };
        let (Some(healthy), Some(now)) = (endured.p99_before, endured.p99) else { return Ok(()) };
        let limit = (healthy * TIMES).max(FLOOR);
        if now > limit {
            return Err(format!("p99 went from {healthy:?} to {now:?} with {:?}", endured.what));
        }
        Ok(())
    }
}
