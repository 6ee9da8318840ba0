//! S1, capacity: in every ledger, and among the applications themselves.

use super::{End, Held, Law, Sight};

#[derive(Default)]
pub(super) struct Capacity {
    most: usize,
}

impl Law for Capacity {
    fn name(&self) -> &'static str {
        "S1"
    }

    fn sentence(&self) -> &'static str {
        "No grant makes the live seats of a pool exceed its count, and no more applications use a seat at one moment than were sold."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let pools = node.window.look(|ledger| ledger.pools());
            for pool in pools {
                // The pool's own capacity is none while its license does not serve.
                if pool.seats > u64::from(sight.seats) {
                    return Err(format!(
                        "node-{} has {} of {} seats of {} taken at {:?}",
                        node.node, pool.seats, sight.seats, pool.product, node.applied
                    ));
                }
            }
        }
        self.most = self.most.max(sight.in_use.len());
        if sight.in_use.len() > sight.seats as usize {
            return Err(format!(
                "{} applications use one of {} seats at {:?}: tokens {:?}",
                sight.in_use.len(),
                sight.seats,
                sight.at,
                sight.in_use
            ));
        }
        Ok(())
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        end.told("S1")
    }
}
