//! S14: cluster time never decreases in log order.

use std::collections::BTreeMap;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct TimeRises {
    /// By index, on whichever node.
    clocks: BTreeMap<u64, u64>,
}

impl Law for TimeRises {
    fn name(&self) -> &'static str {
        "S14"
    }

    fn sentence(&self) -> &'static str {
        "Cluster time never decreases in log order, across restarts, snapshots and leaders."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let Some(applied) = node.applied else { continue };
            let clock = node.window.look(|ledger| ledger.clock()).0;
            let before = self.clocks.range(..=applied.index).next_back();
            let after = self.clocks.range(applied.index..).next();
            if before.is_some_and(|(_, before)| *before > clock)
                || after.is_some_and(|(_, after)| *after < clock)
            {
                return Err(format!(
                    "node-{} shows {clock} ms at {}, between {before:?} and {after:?}",
                    node.node, applied.index
                ));
            }
            self.clocks.insert(applied.index, clock);
        }
        Ok(())
    }
}
