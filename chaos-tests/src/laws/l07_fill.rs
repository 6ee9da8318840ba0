//! L7: the fill test.

use super::{End, Held, Law};

pub(super) struct Fill;

impl Law for Fill {
    fn name(&self) -> &'static str {
        "L7"
    }

    fn sentence(&self) -> &'static str {
        "After healing exactly as many seats come out of the empty pool as were sold."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match &end.recovery.filled {
            Some((seats, next)) if *seats == end.seats && next == "NO_SEAT_FREE" => Ok(()),
            other => Err(format!("of {} seats came out {other:?}", end.seats)),
        }
    }
}
