//! A dead member's place is given to a new node, while everything else goes on.

use std::rc::Rc;
use std::time::Duration;

use tokio::time::sleep;
use trine_client::CallError;
use wire::v1::ReplaceNodeRequest;

use super::machine::Machine;
use super::net::PEER_PORT;
use super::sometimes::Sometimes;
use super::{NODES, Order, Survives, World};

/// How often the operator asks for the next step.
const ASK_EVERY: Duration = Duration::from_millis(200);

/// A replacement that has begun.
pub(super) struct Replacement {
    old: Rc<Machine>,
    new: u64,
    /// Whether the new node has the place.
    done: bool,
}

impl Replacement {
    /// The machine whose place is given away.
    pub(super) fn old(&self) -> Rc<Machine> {
        self.old.clone()
    }

    /// Who goes and who comes, if that is not done.
    pub(super) fn pending(&self) -> Option<(&Rc<Machine>, u64)> {
        (!self.done).then_some((&self.old, self.new))
    }
}

impl World {
    /// A member dies for good, a machine with a new node is started, and the
    /// operator gives it the place. Once in a world.
    pub(super) async fn replace(&self, old: u64) {
        if self.inner.replacement.borrow().is_some() || self.inner.halved.get() {
            return;
        }
        let new = NODES.len() as u64 + 1;
        let name = format!("node-{new}");
        self.note(format_args!("{name} is to replace node-{old}"));
        let members = self.nodes().map(|node| if node == old { new } else { node });
        let inner = &self.inner;
        let machine =
            Machine::new(new, members, &inner.seed, inner.snapshots, &inner.addresses, &inner.now);
        machine.let_stop();
        machine.trust(inner.vendor.borrow().root());
        let (machine, gone) = (Rc::new(machine), self.machine(old));
        // From here on nothing starts the old one again.
        inner.replacement.replace(Some(Replacement { old: gone.clone(), new, done: false }));
        if gone.is_up() {
            self.order(Order::Crash(old, Survives::Everything)).await;
        }
        // The new node has no share before an update.
        inner.amended.set(true);
        gone.set_restart_at(None);
        for member in inner.machines.borrow_mut().iter_mut().filter(|one| one.id() == old) {
            *member = machine.clone();
        }
        self.order(Order::Start(machine)).await;
        self.finish_replacement().await;
    }

    /// Goes on with a replacement until the new node has the place, its shares
    /// and the balancers' attention; then starts the old one again.
    pub(super) async fn finish_replacement(&self) {
        let Some((old, new)) = self.pending_replacement() else { return };
        let operator = self.operator().operator();
        let step = ReplaceNodeRequest {
            old_node: old.id(),
            new_node: new,
            new_address: format!("node-{new}:{PEER_PORT}"),
            undo: false,
        };
        let mut was_full = false;
        loop {
            let step = operator.replace_node(step.clone()).await;
            was_full |= self.is_full();
            match step {
                Ok(progress) if progress.ended => break,
                Ok(progress) => self.note(format_args!("replacing: {}", progress.stage)),
                Err(CallError::Refused(failure)) => {
                    self.note(format_args!("not replaced yet: {failure}"));
                }
                Err(_) => {}
            }
            sleep(ASK_EVERY).await;
        }
        self.note(format_args!("node-{new} has the place of node-{}", old.id()));
        if let Some(replacement) = &mut *self.inner.replacement.borrow_mut() {
            replacement.done = true;
        }
        if was_full {
            self.saw([Sometimes::ReplacedWhileFull]);
        }
        self.update_license().await;
        for number in 0..self.balancer_names().len() {
            self.kill_balancer(number).await;
            sleep(Duration::from_secs(1)).await;
            self.revive_balancer(number).await;
        }
        // Somebody switches it on again.
        old.let_stop();
        old.power_on();
        self.note(format_args!("{} starts although it was replaced", old.name()));
        self.order(Order::Raise(old.name().to_owned())).await;
    }

    /// Waits until the old node, if it was started again, has stopped by itself.
    pub(super) async fn until_replaced_is_gone(&self) {
        let old = {
            let replacement = self.inner.replacement.borrow();
            replacement.as_ref().filter(|one| one.done).map(|one| one.old.clone())
        };
        let Some(old) = old.filter(|old| old.is_up()) else { return };
        let why = self.until("the replaced node stops by itself", async || old.stopped()).await;
        self.note(format_args!("{} stopped: {why}", old.name()));
    }

    /// Whether this node's place was, or is being, given to another.
    pub(super) fn is_replaced(&self, node: u64) -> bool {
        self.inner.replacement.borrow().as_ref().is_some_and(|one| one.old.id() == node)
    }

    /// The machine that goes and the node that comes, if that is not done.
    fn pending_replacement(&self) -> Option<(Rc<Machine>, u64)> {
        let replacement = self.inner.replacement.borrow();
        let (old, new) = replacement.as_ref()?.pending()?;
        Some((old.clone(), new))
    }

    /// Whether every seat that was sold is taken, as some node's ledger has it.
    fn is_full(&self) -> bool {
        let sold = u64::from(self.inner.sold.get().unwrap_or(0));
        self.machines().iter().any(|machine| {
            let window = machine.window();
            let pools = window.as_ref().map(|window| window.look(|ledger| ledger.pools()));
            pools.is_some_and(|pools| pools.iter().any(|pool| pool.seats >= sold))
        })
    }
}
