//! L4: the quorum is back.

use std::time::Duration;

use super::{End, Held, Law};

const LIMIT: Duration = Duration::from_secs(5);

pub(super) struct QuorumBack;

impl Law for QuorumBack {
    fn name(&self) -> &'static str {
        "L4"
    }

    fn sentence(&self) -> &'static str {
        "Service within 5 s of the return of a quorum."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match end.recovery.read_after {
            Some(after) if after <= LIMIT => Ok(()),
            Some(after) => Err(format!("the first read was answered after {after:?}")),
            None => Err("no read was ever answered".to_owned()),
        }
    }
}
