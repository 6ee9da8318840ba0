//! S15: cluster time does not run ahead of true time.

use std::time::Duration;

use super::{Held, Law, Sight};

/// How much faster than true time it may run.
const DRIFT: f64 = 0.005;

/// What one jump of a boot clock may add: a tick (S8).
pub(crate) const JUMP: Duration = Duration::from_millis(100);

pub(super) struct TimeIsNotAhead;

impl Law for TimeIsNotAhead {
    fn name(&self) -> &'static str {
        "S15"
    }

    fn sentence(&self) -> &'static str {
        "Cluster time never runs ahead of true time beyond 0.5 % and one tick per jump of a boot clock."
    }

    /// Against the whole age of the world; from call to answer it is checked by the oracle.
    fn step(&mut self, sight: &Sight<'_>) -> Held {
        let jumps = JUMP.as_secs_f64() * sight.jumps as f64;
        let most = sight.at.as_secs_f64() * (1.0 + DRIFT) + jumps;
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let clock = node.window.look(|ledger| ledger.clock());
            if clock.0 as f64 > most * 1e3 {
                return Err(format!(
                    "node-{} shows {clock} when the world is {:?} old",
                    node.node, sight.at
                ));
            }
        }
        Ok(())
    }
}
