//! A machine full of clients: the real library, many times, and applications on it.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pki::Role;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use tokio_util::sync::CancellationToken;
use trine_client::Endpoint;

use super::callers::endpoint;
use super::clocks::HostClock;
use super::net::{CLIENT_PORT, VIRTUAL};
use super::swarm::{Door, Options};
use super::{EPOCH, Ending, NODES, World};
use crate::workload::{Habits, InUse, Onlooker, Workload};

/// Machines full of clients.
pub(super) const FLOORS: u32 = 3;

/// How long a client goes on asking.
const PATIENCE: Duration = Duration::from_secs(10);

pub(super) fn floor_name(number: u32) -> String {
    format!("floor-{number}")
}

/// A machine full of clients.
pub(super) struct Floor {
    pub(super) name: String,
    number: u32,
    pub(super) clock: HostClock,
    in_use: Arc<InUse>,
    clients: u32,
    applications: usize,
    habits: Habits,
    door: Door,
    starts: Cell<u64>,
    up: Cell<bool>,
    /// When its applications are to give back what they have and end.
    stop: CancellationToken,
    ended: Cell<bool>,
}

impl Floor {
    pub(super) fn new(world: &World, number: u32, options: &Options) -> Self {
        let up = Duration::from_secs(77 * u64::from(number));
        let clock = HostClock::new(world.inner.now.clone(), up, EPOCH);
        let in_use = Arc::new(InUse::new(Arc::new(clock.clone())));
        Self {
            name: floor_name(number),
            number,
            clients: options.clients,
            applications: options.applications as usize,
            habits: Habits { in_use: Some(in_use.clone()), ..options.habits() },
            clock,
            in_use,
            door: options.door,
            starts: Cell::new(0),
            up: Cell::new(true),
            stop: CancellationToken::new(),
            ended: Cell::new(false),
        }
    }

    /// From its start until its applications have ended.
    pub(super) async fn run(self: Rc<Self>, world: World) -> Ending {
        self.up.set(true);
        let start = self.starts.replace(self.starts.get() + 1);
        let clients: Vec<_> = (0..self.clients)
            .map(|client| {
                let name = format!("{}-{client}", self.name);
                world.client_of(&self.clock, Role::Application, &name, self.doors(), PATIENCE)
            })
            .collect();
        let ana = format!("{}-operator", self.name);
        let operator =
            world.client_of(&self.clock, Role::Operator, &ana, self.doors(), PATIENCE).operator();
        let operator = Some(Arc::new(Onlooker::new(operator, world.inner.history.clone())));
        let habits = Habits { operator, ..self.habits.clone() };
        let number = u64::from(self.number) << 32 | start;
        let mut random = StdRng::seed_from_u64(world.inner.seed.stream("load", number).next_u64());
        let load = Workload::with_habits(&clients, self.applications, &habits, &mut random);
        self.stop.cancelled().await;
        load.finish().await;
        for client in &clients {
            client.settle(Duration::from_secs(60)).await;
        }
        self.ended.set(true);
        Ok(())
    }

    /// Where its clients ask.
    fn doors(&self) -> Vec<Endpoint> {
        let virtual_ip = [Endpoint::new(VIRTUAL, CLIENT_PORT)];
        let nodes = NODES.map(endpoint);
        match self.door {
            Door::Balancers => virtual_ip.to_vec(),
            Door::Nodes => nodes.to_vec(),
            Door::Any => virtual_ip.into_iter().chain(nodes).collect(),
        }
    }

    /// Its machine is suspended, or goes on.
    pub(super) fn suspend(&self, suspended: bool) {
        self.in_use.suspend(suspended);
    }

    pub(super) fn died(&self) {
        self.up.set(false);
        self.in_use.clear();
    }

    pub(super) fn is_up(&self) -> bool {
        self.up.get()
    }

    /// Asks its applications to end.
    pub(super) fn stop(&self) {
        self.stop.cancel();
    }

    /// Whether they have ended.
    pub(super) fn has_ended(&self) -> bool {
        self.ended.get()
    }

    /// Tokens of the seats that are in use there.
    pub(super) fn in_use(&self) -> Vec<u64> {
        self.in_use.now()
    }
}
