//! S2, conservation.

use super::{Held, Law, Sight};

/// Entries between two recounts, which cost a pass over the ledger.
const RECOUNT_EVERY: u64 = 128;

#[derive(Default)]
pub(super) struct Conservation {
    looks: u64,
}

impl Law for Conservation {
    fn name(&self) -> &'static str {
        "S2"
    }

    fn sentence(&self) -> &'static str {
        "granted = released + expired + revoked + live, in every ledger after every entry; now and then the whole ledger is recounted."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let (counters, live) =
                node.window.look(|ledger| (ledger.counters().clone(), ledger.live()));
            let ended = counters.released + counters.expired + counters.revoked;
            if counters.granted != ended + live {
                return Err(format!(
                    "node-{} at {:?}: {} granted, {ended} ended, {live} live",
                    node.node, node.applied, counters.granted
                ));
            }
            self.looks += 1;
            if self.looks.is_multiple_of(RECOUNT_EVERY) {
                node.window
                    .look(|ledger| ledger.check())
                    .map_err(|what| format!("node-{} at {:?}: {what}", node.node, node.applied))?;
            }
        }
        Ok(())
    }
}
