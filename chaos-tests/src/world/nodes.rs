//! The nodes of a world: which they are, their power, their disks.

use std::rc::Rc;
use std::time::Duration;

use node::store::mem::{Platter, Survives};
use rand::RngExt as _;

use super::World;
use super::machine::Machine;
use super::run::Order;

impl World {
    pub(super) fn machine(&self, node: u64) -> Rc<Machine> {
        let machines = self.inner.machines.borrow();
        let member = machines.iter().find(|machine| machine.id() == node).cloned();
        let replaced = || Some(self.inner.replacement.borrow().as_ref()?.old());
        member.or_else(replaced).expect("a member, or one that was")
    }

    pub(super) fn machines(&self) -> Vec<Rc<Machine>> {
        self.inner.machines.borrow().clone()
    }

    /// The three members.
    pub(super) fn nodes(&self) -> [u64; 3] {
        let machines = self.inner.machines.borrow();
        [0, 1, 2].map(|place: usize| machines[place].id())
    }

    /// Cuts the power of a node. What was not synced is lost, except what `survives`.
    pub async fn crash(&self, node: u64, survives: Survives) {
        self.note(format_args!("node-{node} crashes"));
        self.order(Order::Crash(node, survives)).await;
    }

    /// Starts a crashed node on what its disk kept.
    pub async fn restart(&self, node: u64) {
        self.note(format_args!("node-{node} starts"));
        self.order(Order::Restart(node)).await;
    }

    /// Crashes a node unless it is down already.
    pub(super) async fn crash_if_up(&self, node: u64, survives: Survives) {
        if self.machine(node).is_up() {
            self.crash(node, survives).await;
        }
    }

    /// Starts a node unless it has power.
    pub(super) async fn restart_if_down(&self, node: u64) {
        if !self.machine(node).is_up() && !self.is_replaced(node) {
            self.restart(node).await;
        }
    }

    /// Whether a node leads, as far as it knows itself.
    pub fn leads(&self, node: u64) -> bool {
        let machine = self.machine(node);
        let window = machine.window();
        window.as_ref().is_some_and(|window| window.standing().leads)
    }

    /// The node that leads the highest term, as the nodes themselves see it.
    pub(super) fn leading(&self) -> Option<u64> {
        let machines = self.machines();
        let standings = machines.iter().filter_map(|machine| {
            let standing = machine.window().as_ref()?.standing();
            Some((standing.leads, standing.term, machine.id()))
        });
        let leader = standings.filter(|(leads, ..)| *leads).max_by_key(|(_, term, _)| *term);
        leader.map(|(_, _, node)| node)
    }

    /// A dead node's disk is not what it was: a bit flips, or a write lies elsewhere.
    pub(super) fn rot(&self, node: u64, rng: &mut impl rand::Rng) {
        let machine = self.machine(node);
        match rng.random_bool(0.5) {
            _ if machine.is_up() => {}
            true => machine.rot(rng),
            false => machine.misdirect(rng),
        }
    }

    /// A copy of what a node's disk would keep now.
    pub fn copy_disk(&self, node: u64) -> Platter {
        self.machine(node).platter().copy()
    }

    /// Puts `copy` in the place of a crashed node's disk.
    pub fn put_back(&self, node: u64, copy: &Platter) {
        self.note(format_args!("node-{node} gets another disk"));
        self.machine(node).platter().restore(copy);
    }

    /// Starts a crashed node that will stop by itself, and says why it did.
    pub async fn restart_until_it_stops(&self, node: u64) -> String {
        self.let_stop(node);
        self.restart(node).await;
        self.until_stopped(node).await
    }

    /// Asks a node to drain and end, as a service manager does.
    pub fn shut_down(&self, node: u64) {
        self.note(format_args!("node-{node} is asked to end"));
        self.machine(node).shut_down();
    }

    /// From now on a node may stop by itself.
    pub fn let_stop(&self, node: u64) {
        self.machine(node).let_stop();
    }

    /// Why a node stopped by itself, if it did.
    pub fn stopped(&self, node: u64) -> Option<String> {
        self.machine(node).stopped()
    }

    /// Why a node stopped by itself, once it has.
    pub async fn until_stopped(&self, node: u64) -> String {
        self.until("the node stops by itself", async || self.stopped(node)).await
    }

    /// Starts a second process of a node, with a copy of its disk as it is now,
    /// on a machine of its own where nobody looks for it.
    pub async fn start_clone(&self, node: u64) -> SecondProcess {
        let name = format!("clone-of-node-{node}");
        self.note(format_args!("{name} starts"));
        let machine = Rc::new(self.machine(node).clone_to(&name, self.copy_disk(node)));
        self.order(Order::Start(machine.clone())).await;
        SecondProcess { machine }
    }

    /// Lets each sync of a node's disk take this long.
    pub fn set_sync_time(&self, node: u64, time: Duration) {
        self.machine(node).platter().set_sync_time(time);
    }

    /// Lets a node's syncs report success without doing anything.
    pub fn set_syncs_lie(&self, node: u64) {
        self.machine(node).platter().set_syncs_lie(true);
    }

    /// How many changes a crash of this node would lose now.
    pub fn unsynced(&self, node: u64) -> usize {
        self.machine(node).platter().unsynced()
    }
}

/// A second process with a node's identity.
pub struct SecondProcess {
    machine: Rc<Machine>,
}

impl SecondProcess {
    /// Why it stopped, if it did.
    pub fn stopped(&self) -> Option<String> {
        self.machine.stopped()
    }
}
