//! S20, durability.

use std::collections::BTreeSet;

use node::raft::Vote;
use node::store::mem::Platter;
use node::store::promise::Promise;
use node::store::{entry, keys};

use super::{Held, Law, Sight};
use crate::history::{Answer, What};

#[derive(Default)]
pub(super) struct Durability {
    /// The last entry that anybody was told of.
    told: u64,
    /// The terms that were led.
    led: BTreeSet<u64>,
}

impl Law for Durability {
    fn name(&self) -> &'static str {
        "S20"
    }

    fn sentence(&self) -> &'static str {
        "When a client is told of an entry, it is on the disks of two nodes and would survive the power going out; so are the votes of two for whoever leads."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.standing.leads) {
            let term = node.standing.term;
            if !self.led.insert(term) {
                continue;
            }
            let votes = sight.disks_that(|disk| vote(disk) >= term);
            if votes < 2 {
                return Err(format!(
                    "node-{} leads term {term} and {votes} disks have a vote for it",
                    node.node
                ));
            }
        }
        for event in sight.events {
            let What::Answer { answer, .. } = &event.what else { continue };
            let Some(place) = answer.place() else { continue };
            // A listing tells of all entries up to it, others of their own.
            let index = place.log_id.index;
            if index <= self.told || matches!(answer, Answer::Seats { .. }) {
                continue;
            }
            self.told = index;
            let durable = sight.disks_that(|disk| holds(disk, index));
            if durable < 2 {
                return Err(format!(
                    "entry {index} was told of and is on {durable} disks: {answer:?}"
                ));
            }
        }
        Ok(())
    }
}

/// The term of the vote on this disk.
fn vote(disk: &Platter) -> u64 {
    let key = keys::vote();
    let vote =
        disk.durable(&key).and_then(|framed| entry::decode_record::<Vote>(&key, &framed).ok());
    vote.map_or(0, |vote| vote.leader_id().term)
}

/// How far this disk has promised.
pub(crate) fn promised(disk: &Platter) -> Promise {
    let last = disk.last_durable(keys::entries(..)).and_then(|key| {
        let index = keys::entry_index(&key)?;
        Some(entry::decode(index, &disk.durable(&key)?).ok()?.log_id)
    });
    let purged = keys::purged();
    let purged =
        disk.durable(&purged).and_then(|framed| entry::decode_record(&purged, &framed).ok());
    Promise::new(vote(disk), last.or(purged))
}

/// Whether this disk has the entry, or a snapshot in its place.
fn holds(disk: &Platter, index: u64) -> bool {
    let first = disk.first_durable(keys::entries(..));
    let first = first.as_deref().and_then(keys::entry_index);
    disk.is_durable(&keys::entry(index))
        || (disk.is_durable(&keys::purged()) && first.is_none_or(|first| first > index))
}
