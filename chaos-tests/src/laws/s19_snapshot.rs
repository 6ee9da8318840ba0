//! S19, snapshot.

use std::time::Duration;

use ledger::Ledger;

use super::{Held, Law, Sight};

/// Between two checks, which cost several passes over the ledger.
const EVERY: Duration = Duration::from_secs(5);

#[derive(Default)]
pub(super) struct Snapshots {
    due: Duration,
}

impl Law for Snapshots {
    fn name(&self) -> &'static str {
        "S19"
    }

    fn sentence(&self) -> &'static str {
        "Restoring a snapshot gives the ledger it was taken of, and taking it again the same bytes; checked every few seconds."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        if sight.at < self.due {
            return Ok(());
        }
        let Some(node) = sight.nodes.iter().find(|node| node.moved) else { return Ok(()) };
        self.due = sight.at + EVERY;
        node.window.look(|ledger| {
            let bytes = ledger.snapshot();
            let restored = Ledger::restore(&bytes).map_err(|error| error.to_string())?;
            if restored.hash() != ledger.hash() || restored.snapshot() != bytes {
                return Err(format!("node-{} is not restored from its snapshot", node.node));
            }
            Ok(())
        })
    }
}
