//! S13, terms.

use std::collections::BTreeMap;

use super::{Held, Law, Sight};

#[derive(Default)]
pub(super) struct SignedTerms {
    /// The entry last seen on each node, the seats granted and renewed by then,
    /// and whether all was over.
    done: BTreeMap<u64, (u64, u64, bool)>,
}

impl Law for SignedTerms {
    fn name(&self) -> &'static str {
        "S13"
    }

    fn sentence(&self) -> &'static str {
        "No entry grants or renews when the date of the ledger is past every license's last day."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let (done, over) = node.window.look(|ledger| {
                let counters = ledger.counters();
                let over = |license: &ledger::view::LicenseView| {
                    let date = ledger.date_of(license.terms.license.firm);
                    license.terms.expiration.is_some_and(|end| date.is_some_and(|date| date >= end))
                };
                let licenses = ledger.licenses();
                let over = !licenses.is_empty() && licenses.iter().all(over);
                (counters.granted + counters.renewed, over)
            });
            let index = node.applied.map_or(0, |applied| applied.index);
            let before = self.done.insert(node.node, (index, done, over));
            // A date that an entry brings counts from the next one on.
            let Some((_, before, true)) = before.filter(|(seen, ..)| seen + 1 == index) else {
                continue;
            };
            if over && done > before {
                return Err(format!(
                    "node-{} at {:?} granted or renewed on a license that has ended",
                    node.node, node.applied
                ));
            }
        }
        Ok(())
    }
}
