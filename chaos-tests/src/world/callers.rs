//! Who asks: clients of every role, and the machines full of them.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use pki::{Identity, Role};
use trine_client::{Client, Endpoint, Options};
use wire::peer::peer_client::PeerClient;

use super::clocks::HostClock;
use super::floor::{Floor, floor_name};
use super::run::Order;
use super::{World, net};

impl World {
    pub(super) fn floor(&self, number: u32) -> Rc<Floor> {
        self.inner.floors.borrow()[number as usize - 1].clone()
    }

    /// Machine `number` full of clients loses its power.
    pub(super) async fn kill_floor(&self, number: u32) {
        self.note(format_args!("{} crashes", floor_name(number)));
        self.order(Order::Kill(self.floor(number))).await;
    }

    /// And starts again.
    pub(super) async fn revive_floor(&self, number: u32) {
        if !self.floor(number).is_up() {
            self.note(format_args!("{} starts", floor_name(number)));
            self.order(Order::Revive(self.floor(number))).await;
        }
    }

    /// A client of the whole cluster: the real library, seeing all three nodes.
    pub fn client(&self, role: Role, name: &str) -> Client {
        self.client_at(role, name, &self.nodes(), Duration::from_secs(10))
    }

    /// A client that sees only some nodes and gives up after `patience`.
    pub fn client_at(&self, role: Role, name: &str, nodes: &[u64], patience: Duration) -> Client {
        self.client_on(&self.inner.clock, role, name, nodes, patience)
    }

    pub(super) fn client_on(
        &self,
        clock: &HostClock,
        role: Role,
        name: &str,
        nodes: &[u64],
        patience: Duration,
    ) -> Client {
        let endpoints = nodes.iter().map(|node| endpoint(*node)).collect();
        self.client_of(clock, role, name, endpoints, patience)
    }

    pub(super) fn client_of(
        &self,
        clock: &HostClock,
        role: Role,
        name: &str,
        endpoints: Vec<Endpoint>,
        patience: Duration,
    ) -> Client {
        let number = self.inner.clients.replace(self.inner.clients.get() + 1);
        let identity = Identity::new(role, name).expect("a valid name");
        let caller = net::Caller::new(identity, self.inner.addresses.clone(), number as usize);
        let options = Options::new(endpoints, Arc::new(caller))
            .clock(Arc::new(clock.clone()))
            .random(Arc::new(self.inner.seed.random("client", number)))
            .observer(self.inner.trace.observer(name, &self.inner.history))
            .patience(patience)
            .holder(name);
        // Nothing in `connect` waits.
        futures_util::FutureExt::now_or_never(Client::connect(options))
            .expect("connecting does not wait")
            .expect("valid options")
    }

    /// An application.
    pub fn application(&self, name: &str) -> Client {
        self.client(Role::Application, name)
    }

    /// An operator.
    pub fn operator(&self) -> Client {
        self.client(Role::Operator, "ana")
    }

    /// A direct line to a node's peer listener, as another node has it.
    pub async fn peer(&self, node: u64, as_node: u64) -> PeerClient<tonic::transport::Channel> {
        net::peer(node, as_node).await.expect("the node is up")
    }
}

pub(super) fn endpoint(node: u64) -> Endpoint {
    Endpoint::new(format!("node-{node}"), net::CLIENT_PORT)
}
