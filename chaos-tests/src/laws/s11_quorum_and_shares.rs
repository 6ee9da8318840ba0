//! S11, quorum and shares.

use std::collections::BTreeMap;

use ledger::command::ShareState;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct QuorumAndShares {
    /// The entry last seen on each node, and the seats granted and renewed by then.
    done: BTreeMap<u64, (u64, u64)>,
}

impl Law for QuorumAndShares {
    fn name(&self) -> &'static str {
        "S11"
    }

    fn sentence(&self) -> &'static str {
        "Grants and renewals need two live shares."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let (done, licenses) = node.window.look(|ledger| {
                let counters = ledger.counters();
                (counters.granted + counters.renewed, ledger.licenses())
            });
            let index = node.applied.map_or(0, |applied| applied.index);
            let before = self.done.insert(node.node, (index, done));
            // After several entries at once it cannot be told which shares each met.
            let Some((_, before)) = before.filter(|(seen, _)| seen + 1 == index) else { continue };
            let live = |state: &ShareState| matches!(state, ShareState::Live);
            let shares = licenses
                .iter()
                .map(|license| license.shares.iter().filter(|share| live(&share.state)).count());
            if done > before && shares.clone().max().unwrap_or(0) < 2 {
                return Err(format!(
                    "node-{} at {:?}: granted or renewed with {:?} shares live",
                    node.node,
                    node.applied,
                    shares.collect::<Vec<_>>()
                ));
            }
        }
        Ok(())
    }
}
