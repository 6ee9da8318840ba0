//! A machine that is put back to a snapshot of its disk *and memory*.
//!
//! A process in the simulator cannot be copied. What comes to the same: when the
//! snapshot is taken the process is cut off from everything, so that its memory
//! and disk stay as they are, and the machine goes on as another process of the
//! same incarnation, on a copy of the disk, at the same address. To put the
//! machine back, that process is destroyed and the first one is let out again:
//! cleared, met by all, and with the memory and disk of back then. Only its
//! clock has gone on, and if it led, it has written a few entries that nobody
//! saw.

use std::rc::Rc;

use super::machine::Machine;
use super::{DESK, Order, World};

/// A snapshot of a running machine.
pub struct LiveSnapshot {
    node: u64,
    went_on: Rc<Machine>,
}

impl World {
    /// Takes a snapshot of a node's machine, memory and disk; it goes on running.
    pub async fn take_live_snapshot(&self, node: u64) -> LiveSnapshot {
        self.note(format_args!("node-{node} goes on after a live snapshot"));
        let machine = self.machine(node);
        let name = format!("{}-later", machine.name());
        let went_on = Rc::new(machine.later_self(&name, self.copy_disk(node)));
        self.isolate(node);
        turmoil::partition(machine.name(), DESK);
        self.order(Order::Start(went_on.clone())).await;
        self.inner.addresses.set(machine.name(), &name);
        LiveSnapshot { node, went_on }
    }

    /// Puts the machine back to the snapshot. The node may stop by itself now.
    pub async fn roll_back(&self, snapshot: LiveSnapshot) {
        let LiveSnapshot { node, went_on } = snapshot;
        self.note(format_args!("node-{node} is put back to its live snapshot"));
        self.order(Order::Destroy(went_on)).await;
        let machine = self.machine(node);
        self.let_stop(node);
        self.inner.addresses.set(machine.name(), machine.name());
        self.rejoin(node);
        turmoil::repair(machine.name(), DESK);
    }
}
