//! The simulation itself: one step after another, and what can only be done
//! to it between two of them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use node::store::mem::Survives;

use super::floor::Floor;
use super::machine::Machine;
use super::pair::Balancer;
use super::{DESK, EPOCH, Ending, STORY_MAX, World, sometimes};

/// What only the world outside the simulation can do, between two steps.
pub(super) enum Order {
    Crash(u64, Survives),
    Restart(u64),
    Start(Rc<Machine>),
    Destroy(Rc<Machine>),
    Open(Rc<Floor>, World),
    Kill(Rc<Floor>),
    Revive(Rc<Floor>),
    Latency(String, String, Duration),
    Distance(u64, u64, Duration),
    Door(Rc<Balancer>),
    Fell(String),
    Raise(String),
}

impl World {
    /// Plays `story` to its end; why it did not get there, if it did not.
    pub(super) fn run(
        &self,
        story: impl AsyncFnOnce(Self) -> Ending + 'static,
    ) -> Result<(), String> {
        let mut sim = turmoil::Builder::new()
            .rng_seed(self.inner.seed.number())
            .epoch(UNIX_EPOCH + Duration::from_secs(EPOCH))
            .simulation_duration(STORY_MAX)
            .tick_duration(Duration::from_millis(1))
            .min_message_latency(Duration::from_millis(1))
            .max_message_latency(self.inner.latency_max)
            .tcp_capacity(65_536)
            .build();
        for machine in self.machines() {
            sim.host(machine.name().to_owned(), move || {
                let machine = machine.clone();
                async move { machine.run().await }
            });
        }
        let told = self.clone();
        sim.client(DESK, async move { story(told).await });
        loop {
            // A panic of a node or of the story is one of its host's runtime.
            let stepped = catch_unwind(AssertUnwindSafe(|| sim.step()));
            let at = sim.elapsed();
            self.inner.now.stepped(at);
            let ended = stepped
                .map_err(|panic| format!("a panic after {at:?}: {}", panicked(&*panic)))?
                .map_err(|error| format!("the world ended after {at:?}: {error}"))?;
            self.inspect(at)?;
            if let Some(why) = self.inner.failed.take() {
                return Err(why);
            }
            if ended {
                return Ok(());
            }
            if self.inner.supervised.get() {
                self.supervise(&mut sim)?;
            }
            self.obey(&mut sim);
        }
    }

    pub(super) fn inspect(&self, at: Duration) -> Result<(), String> {
        match &mut *self.inner.inspector.borrow_mut() {
            Some(inspector) => inspector.look(&self.inner, at),
            None => Ok(()),
        }
    }

    pub(super) fn obey(&self, sim: &mut turmoil::Sim<'_>) {
        for machine in &self.machines() {
            if let Some((subject, point, survives)) = machine.traps().sprung() {
                self.note(format_args!("{} crashes at {subject:?} {point:?}", machine.name()));
                self.saw(sometimes::of_trap(subject, point, survives));
                sim.crash(machine.name());
                machine.lose_power(survives);
                self.inner.trace.begin(self.inner.now.get(), machine.name(), "down");
            }
        }
        for order in self.inner.orders.take() {
            match order {
                Order::Crash(node, survives) => {
                    let machine = self.machine(node);
                    self.saw(sometimes::of_crash(machine.platter().unsynced(), survives));
                    sim.crash(machine.name());
                    machine.lose_power(survives);
                    self.inner.trace.begin(self.inner.now.get(), machine.name(), "down");
                }
                Order::Destroy(machine) => sim.crash(machine.name()),
                Order::Restart(node) => {
                    self.machine(node).power_on();
                    self.inner.trace.end(self.inner.now.get(), self.machine(node).name(), None);
                    sim.bounce(self.machine(node).name());
                }
                Order::Open(floor, world) => {
                    sim.host(floor.name.clone(), move || floor.clone().run(world.clone()));
                }
                Order::Kill(floor) => {
                    sim.crash(floor.name.as_str());
                    floor.died();
                }
                Order::Revive(floor) => sim.bounce(floor.name.as_str()),
                Order::Distance(one, other, way) => {
                    sim.set_link_latency(format!("node-{one}"), format!("node-{other}"), way);
                }
                Order::Door(balancer) => {
                    sim.host(balancer.name.clone(), move || balancer.clone().run());
                }
                Order::Fell(name) => sim.crash(name),
                Order::Raise(name) => sim.bounce(name),
                Order::Latency(one, other, most) => {
                    sim.set_link_max_message_latency(one, other, most);
                }
                Order::Start(machine) => {
                    sim.host(machine.name().to_owned(), move || {
                        let machine = machine.clone();
                        async move { machine.run().await }
                    });
                }
            }
        }
    }

    pub(super) async fn order(&self, order: Order) {
        self.inner.orders.borrow_mut().push(order);
        // Carried out before the next step.
        tokio::time::sleep(Duration::from_millis(1)).await;
    }

    /// The run has failed, and ends with the next step.
    pub(super) fn fail(&self, why: String) {
        self.inner.failed.borrow_mut().get_or_insert(why);
    }
}

/// What a panic said.
fn panicked(payload: &(dyn std::any::Any + Send)) -> String {
    let text = payload.downcast_ref::<String>().cloned();
    text.or_else(|| payload.downcast_ref::<&str>().map(ToString::to_string)).unwrap_or_default()
}
