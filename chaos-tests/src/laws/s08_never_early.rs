//! S8, never early: by the log, and by true time.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct NeverEarly {
    /// Seats in use, each since when nobody's ledger has it any more.
    gone: BTreeMap<u64, Duration>,
}

impl Law for NeverEarly {
    fn name(&self) -> &'static str {
        "S8"
    }

    fn sentence(&self) -> &'static str {
        "A lease does not expire before its TTL has passed: no application uses a seat that the leading ledger has given up."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        if sight.in_use.is_empty() {
            self.gone.clear();
            return Ok(());
        }
        // The ledger that knows most; one behind it may not know the seat yet.
        let furthest = sight.nodes.iter().max_by_key(|node| node.applied);
        let Some(furthest) = furthest.filter(|node| node.moved || !self.gone.is_empty()) else {
            return Ok(());
        };
        let (newest, live): (u64, Vec<u64>) = furthest.window.look(|ledger| {
            let live = ledger.seats(None);
            (ledger.counters().granted, live.iter().map(|seat| seat.token.0).collect())
        });
        let missing = |token: &&u64| **token <= newest && live.binary_search(token).is_err();
        let missing: Vec<u64> = sight.in_use.iter().filter(missing).copied().collect();
        self.gone.retain(|token, _| missing.contains(token));
        for token in missing {
            let since = *self.gone.entry(token).or_insert(sight.at);
            // A release is sent when the application has stopped; what it stops
            // within one step counts as one moment.
            if sight.at - since > Duration::from_millis(5) {
                return Err(format!(
                    "seat {token} is in use at {:?} and node-{} gave it up at {since:?}",
                    sight.at, furthest.node
                ));
            }
        }
        Ok(())
    }
}
