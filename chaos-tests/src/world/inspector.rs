//! Holds the laws against the world after every step.

use std::collections::BTreeMap;
use std::time::Duration;

use node::raft::LogId;

use super::Inner;
use super::replacement::Replacement;
use super::sometimes::Watcher;
use crate::laws::{Broken, Laws, NodeSight, Sight};

/// How often the applications' own view is looked at when nothing moves.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// The laws of one run, and what they have seen.
#[derive(Default)]
pub(super) struct Inspector {
    pub(super) laws: Laws,
    pub(super) watcher: Watcher,
    /// Events of the history that were looked at.
    events: usize,
    applied: BTreeMap<u64, Option<LogId>>,
    looked: Duration,
    /// What was found broken.
    pub(super) broken: Option<Broken>,
}

impl Inspector {
    /// Looks at the world as it is after a step.
    pub(super) fn look(&mut self, world: &Inner, at: Duration) -> Result<(), String> {
        let machines = world.machines.borrow();
        let windows: Vec<_> = machines.iter().map(|machine| machine.window()).collect();
        let mut nodes = Vec::with_capacity(3);
        for (place, machine) in machines.iter().enumerate() {
            let Some(window) = windows[place].as_ref() else { continue };
            let applied = window.applied();
            let moved = applied != self.applied.insert(machine.id(), applied).flatten();
            nodes.push(NodeSight {
                node: machine.id(),
                start: machine.starts(),
                standing: window.standing(),
                applied,
                moved,
                window,
            });
        }
        let events = world.history.since(self.events);
        self.events += events.len();
        let moved = nodes.iter().any(|node| node.moved);
        if !moved && events.is_empty() && at < self.looked + LOOK_EVERY {
            return Ok(());
        }
        self.looked = at;
        let in_use: Vec<u64> =
            world.floors.borrow().iter().flat_map(|floor| floor.in_use()).collect();
        let replaced = world.replacement.borrow();
        let replaced = replaced.as_ref().and_then(Replacement::pending);
        let disks: Vec<_> = machines
            .iter()
            .map(|machine| {
                let goes = replaced.filter(|(_, new)| *new == machine.id()).map(|(old, _)| old);
                let both = [machine].into_iter().chain(goes);
                both.map(|machine| (machine.id(), machine.platter())).collect()
            })
            .collect();
        let sight = Sight {
            at,
            nodes: &nodes,
            disks: &disks,
            events: &events,
            in_use: &in_use,
            seats: world.sold.get().unwrap_or(0),
            jumps: machines.iter().map(|machine| machine.clock().jumps()).sum(),
        };
        self.watcher.look(&sight);
        self.laws.step(&sight).map_err(|broken| {
            let why = format!("{} broken: {}", broken.law, broken.how);
            self.broken = Some(broken);
            why
        })
    }
}
