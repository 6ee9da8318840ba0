//! L1: healing.

use std::time::Duration;

use super::{End, Held, Law};

const LIMIT: Duration = Duration::from_secs(10);

pub(super) struct Healing;

impl Law for Healing {
    fn name(&self) -> &'static str {
        "L1"
    }

    fn sentence(&self) -> &'static str {
        "After healing there is one leader and three equal ledgers within 10 s."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match end.recovery.same_after {
            Some(after) if after <= LIMIT => Ok(()),
            Some(after) => Err(format!("it took {after:?}")),
            None => Err("it never came to that".to_owned()),
        }
    }
}
