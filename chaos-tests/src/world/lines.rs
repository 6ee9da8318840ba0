//! The lines between the hosts: cut, slow, held up.

use std::time::Duration;

use super::run::Order;
use super::{DESK, NODES, World};

impl World {
    /// From now on nothing that `from` sends reaches `to`.
    pub(super) fn cut(&self, from: &str, to: &str) {
        *self.inner.cuts.borrow_mut().entry((from.to_owned(), to.to_owned())).or_default() += 1;
        turmoil::partition_oneway(from, to);
        let at = self.inner.now.get();
        self.inner.trace.begin(at, &format!("cut {from}"), format_args!("to {to}"));
    }

    /// Takes one [`cut`](Self::cut) back.
    pub(super) fn mend(&self, from: &str, to: &str) {
        let mut cuts = self.inner.cuts.borrow_mut();
        let line = (from.to_owned(), to.to_owned());
        let Some(count) = cuts.get_mut(&line) else { return };
        *count -= 1;
        let at = self.inner.now.get();
        self.inner.trace.end(at, &format!("cut {from}"), Some(&format!("to {to}")));
        if *count == 0 {
            cuts.remove(&line);
            turmoil::repair_oneway(from, to);
        }
    }

    /// Holds up what the two send one another.
    pub(super) fn stall(&self, one: &str, other: &str) {
        turmoil::hold(one, other);
    }

    /// Lets it all arrive.
    pub(super) fn unstall(&self, one: &str, other: &str) {
        turmoil::release(one, other);
        for (from, to) in self.inner.cuts.borrow().keys() {
            turmoil::partition_oneway(from.as_str(), to.as_str());
        }
    }

    pub(super) async fn set_latency(&self, one: &str, other: &str, most: Duration) {
        self.order(Order::Latency(one.to_owned(), other.to_owned(), most)).await;
    }

    /// Puts the nodes so far apart: a message there and its answer take just so long.
    pub async fn set_round_trips(&self, round_trip: Duration) {
        for (one, other) in [(1, 2), (2, 3), (1, 3)] {
            self.order(Order::Distance(one, other, round_trip / 2)).await;
        }
    }

    /// Lets each message between a node and the two others take up to so long.
    pub async fn set_distance(&self, node: u64, most: Duration) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            self.set_latency(&format!("node-{node}"), &format!("node-{other}"), most).await;
        }
    }

    /// What a node sends, the clients of this story no longer hear.
    pub fn mute(&self, node: u64) {
        turmoil::partition_oneway(self.machine(node).name(), DESK);
    }

    /// Cuts a node off from the other two; clients still reach it.
    pub fn isolate(&self, node: u64) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            turmoil::partition(self.machine(node).name(), self.machine(other).name());
        }
    }

    /// Heals what [`isolate`](Self::isolate) cut.
    pub fn rejoin(&self, node: u64) {
        for other in NODES.into_iter().filter(|other| *other != node) {
            turmoil::repair(self.machine(node).name(), self.machine(other).name());
        }
    }
}
