//! S20, durability.

use node::store::keys;
use node::store::mem::Platter;

use super::{Held, Law, Sight};
use crate::history::{Answer, What};

#[derive(Default)]
pub(super) struct Durability {
    /// The last entry that anybody was told of.
    told: u64,
}

impl Law for Durability {
    fn name(&self) -> &'static str {
        "S20"
    }

    fn sentence(&self) -> &'static str {
        "When a client is told of an entry, it is on the disks of two nodes and would survive the power going out."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for event in sight.events {
            let What::Answer { answer, .. } = &event.what else { continue };
            let Some(place) = answer.place() else { continue };
            // A listing tells of all entries up to it, others of their own.
            let index = place.log_id.index;
            if index <= self.told || matches!(answer, Answer::Seats { .. }) {
                continue;
            }
            self.told = index;
            let durable = sight.disks.iter().filter(|disk| holds(disk, index)).count();
            if durable < 2 {
                return Err(format!(
                    "entry {index} was told of and is on {durable} disks: {answer:?}"
                ));
            }
        }
        Ok(())
    }
}

/// Whether this disk has the entry, or a snapshot in its place.
fn holds(disk: &Platter, index: u64) -> bool {
    let first = disk.first_durable(keys::entries(..));
    let first = first.as_deref().and_then(keys::entry_index);
    disk.is_durable(&keys::entry(index))
        || (disk.is_durable(&keys::purged()) && first.is_none_or(|first| first > index))
}
