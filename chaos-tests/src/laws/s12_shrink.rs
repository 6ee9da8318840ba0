//! S12, shrink.

use std::collections::BTreeMap;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct Shrink {
    /// The entry last seen on each node, the seats granted by then, and the count.
    seen: BTreeMap<u64, (u64, u64, u64)>,
}

impl Law for Shrink {
    fn name(&self) -> &'static str {
        "S12"
    }

    fn sentence(&self) -> &'static str {
        "Lowering a count drains: no entry grants a seat and leaves more seats taken than its license counts."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let (granted, pools) =
                node.window.look(|ledger| (ledger.counters().granted, ledger.pools()));
            let Some(pool) = pools.first() else { continue };
            let index = node.applied.map_or(0, |applied| applied.index);
            let count = pool.capacity.unwrap_or(0);
            let before = self.seen.insert(node.node, (index, granted, count));
            // After several entries at once it cannot be told which count each met.
            let Some((_, granted_then, count_then)) = before.filter(|(seen, ..)| seen + 1 == index)
            else {
                continue;
            };
            if granted > granted_then && pool.seats > count.max(count_then) {
                return Err(format!(
                    "node-{} at {:?} granted a seat with {} of {count} taken",
                    node.node, node.applied, pool.seats
                ));
            }
        }
        Ok(())
    }
}
