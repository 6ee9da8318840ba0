//! S18, same hash.

use std::collections::BTreeMap;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct SameHash {
    /// By index, of whichever node came there first.
    hashes: BTreeMap<u64, (u64, [u8; 32])>,
}

impl Law for SameHash {
    fn name(&self) -> &'static str {
        "S18"
    }

    fn sentence(&self) -> &'static str {
        "Equal applied entry, equal hash of the whole ledger: on every node, after every start."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let Some(applied) = node.applied else { continue };
            let hash = node.window.look(|ledger| ledger.hash());
            let (first, known) = *self.hashes.entry(applied.index).or_insert((node.node, hash));
            if known != hash {
                return Err(format!(
                    "node-{} and node-{first} have different ledgers at entry {}",
                    node.node, applied.index
                ));
            }
        }
        Ok(())
    }
}
