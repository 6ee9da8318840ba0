//! L9: all clients come back at once.

use std::time::Duration;

use super::{End, Held, Law};

const LIMIT: Duration = Duration::from_secs(10);

pub(super) struct AllAtOnce;

impl Law for AllAtOnce {
    fn name(&self) -> &'static str {
        "L9"
    }

    fn sentence(&self) -> &'static str {
        "When all clients reconnect at once, calls are decided at half the rate of before within 10 s."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match end.recovery.endured.as_ref().and_then(|endured| endured.reconnected) {
            Some(after) if after > LIMIT => Err(format!("it took {after:?}")),
            _ => Ok(()),
        }
    }
}
