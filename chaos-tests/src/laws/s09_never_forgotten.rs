//! S9, never forgotten.

use super::{Held, Law, Sight};

pub(super) struct NeverForgotten;

impl Law for NeverForgotten {
    fn name(&self) -> &'static str {
        "S9"
    }

    fn sentence(&self) -> &'static str {
        "After every entry nothing is left over whose time is behind the ledger's clock."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let (overdue, clock) = node.window.look(|ledger| (ledger.overdue(), ledger.clock()));
            // These worlds are far below what one entry ends at most.
            if overdue {
                return Err(format!(
                    "node-{} at {:?}: something due is left over at {clock}",
                    node.node, node.applied
                ));
            }
        }
        Ok(())
    }
}
