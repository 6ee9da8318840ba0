//! S16 and, at the same entries, S22: what an entry says of itself.

use node::raft::Entry;
use node::store::{entry, keys};
use openraft::EntryPayload;

use super::{Held, Law, Sight};

/// Every entry that a ledger has seen, read back from a disk.
fn newly_applied(
    seen: &mut u64,
    sight: &Sight<'_>,
    mut look: impl FnMut(usize, Entry) -> Held,
) -> Held {
    for (place, node) in sight.nodes.iter().enumerate().filter(|(_, node)| node.moved) {
        let applied = node.applied.map_or(0, |applied| applied.index);
        for index in *seen + 1..=applied {
            let key = keys::entry(index);
            let framed = sight.disks.iter().flatten().find_map(|(_, disk)| disk.durable(&key));
            // It may be in a snapshot only by now.
            let Some(entry) = framed.and_then(|framed| entry::decode(index, &framed).ok()) else {
                continue;
            };
            look(place, entry)?;
        }
        *seen = applied.max(*seen);
    }
    Ok(())
}

#[derive(Default)]
pub(super) struct StaleStamp {
    seen: u64,
}

impl Law for StaleStamp {
    fn name(&self) -> &'static str {
        "S16"
    }

    fn sentence(&self) -> &'static str {
        "A batch whose stamp carries another term than its entry leaves the ledger where it was."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        newly_applied(&mut self.seen, sight, |place, entry| {
            let EntryPayload::Normal(proposal) = &entry.payload else { return Ok(()) };
            let (stamped, term) = (proposal.0.stamp.term, entry.log_id.leader_id.term);
            let node = &sight.nodes[place];
            // The ledger notes the last entry that had an effect.
            let had_effect = node.window.look(|ledger| ledger.applied()) == entry.log_id.index;
            if stamped != term && had_effect {
                return Err(format!(
                    "entry {} of term {term} is stamped in term {stamped} and had its effect on node-{}",
                    entry.log_id.index, node.node
                ));
            }
            Ok(())
        })
    }
}

#[derive(Default)]
pub(super) struct Versions {
    seen: u64,
    /// The highest feature level that a ledger was at.
    level: ledger::level::Level,
}

impl Law for Versions {
    fn name(&self) -> &'static str {
        "S22"
    }

    fn sentence(&self) -> &'static str {
        "No entry carries what the ledger's feature level does not know, and the level never falls."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        let level = &mut self.level;
        newly_applied(&mut self.seen, sight, |place, entry| {
            let node = &sight.nodes[place];
            let now = node.window.look(|ledger| ledger.level());
            if now < *level {
                return Err(format!("node-{} is at level {now} after {level}", node.node));
            }
            *level = now;
            let EntryPayload::Normal(proposal) = &entry.payload else { return Ok(()) };
            match proposal.0.commands.iter().map(|command| command.level()).max() {
                Some(needs) if needs > now => Err(format!(
                    "entry {} needs level {needs} and the ledger is at {now}",
                    entry.log_id.index
                )),
                _ => Ok(()),
            }
        })
    }
}
