//! S11, quorum and shares.

use std::collections::BTreeMap;

use ledger::command::ShareState;
use ledger::view::LicenseView;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct QuorumAndShares {
    /// The entry last seen on each node, what was granted and renewed by then, and
    /// how many shares were withdrawn.
    done: BTreeMap<u64, (u64, u64, usize)>,
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
            let count = |license: &LicenseView, state: ShareState| {
                license.shares.iter().filter(|share| share.state == state).count()
            };
            let withdrawn =
                licenses.iter().map(|license| count(license, ShareState::Withdrawn)).sum();
            let before = self.done.insert(node.node, (index, done, withdrawn));
            // After several entries at once it cannot be told which shares each met,
            // nor in one that withdraws a share what it did before it.
            let before = before.filter(|(seen, _, then)| seen + 1 == index && *then == withdrawn);
            let Some((_, before, _)) = before else { continue };
            let shares = licenses.iter().map(|license| count(license, ShareState::Live));
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
