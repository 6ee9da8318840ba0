//! L6: the head of the queue.

use ledger::view::Service;

use super::{Held, Law, Sight};

pub(super) struct HeadOfQueue;

impl Law for HeadOfQueue {
    fn name(&self) -> &'static str {
        "L6"
    }

    fn sentence(&self) -> &'static str {
        "In no ledger does anybody wait while a seat is free, the license serves and seats are handed on."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let (pools, licenses, hands_on) =
                node.window.look(|ledger| (ledger.pools(), ledger.licenses(), ledger.hands_on()));
            let serves =
                hands_on && licenses.iter().all(|license| license.service == Service::Serving);
            for pool in pools {
                if let Some(capacity) = pool.capacity
                    && pool.waiting > 0
                    && pool.seats < capacity
                    && serves
                {
                    return Err(format!(
                        "node-{} at {:?}: {} wait and {} of {capacity} seats are taken",
                        node.node, node.applied, pool.waiting, pool.seats
                    ));
                }
            }
        }
        Ok(())
    }
}
