//! L2: two serve for ever.

use std::time::Duration;

use super::{End, Held, Law};

/// Between two calls that are decided, under a load that asks all the time.
const SILENCE_MAX: Duration = Duration::from_secs(4);

pub(super) struct TwoServe;

impl Law for TwoServe {
    fn name(&self) -> &'static str {
        "L2"
    }

    fn sentence(&self) -> &'static str {
        "Two healthy nodes go on deciding while the third is dead, slow, flapping or half-connected, to the end."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match &end.recovery.endured {
            Some(endured) if endured.silence > SILENCE_MAX => Err(format!(
                "nothing was decided for {:?} with {:?}",
                endured.silence, endured.what
            )),
            _ => Ok(()),
        }
    }
}
