//! L5: the seats of the dead come back.

use super::{End, Held, Law};

pub(super) struct DeadClients;

impl Law for DeadClients {
    fn name(&self) -> &'static str {
        "L5"
    }

    fn sentence(&self) -> &'static str {
        "When every lease has had its time and a tenth, no seat is left."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match end.recovery.left_over.as_slice() {
            [] => Ok(()),
            seats => Err(format!("seats {seats:?} never came back")),
        }
    }
}
