//! The two balancers, which are the real ones, and the address that moves
//! between them.
//!
//! What moves it is a model of VRRP, not keepalived: the fittest that lives has
//! it, by what the balancers themselves tell (`balancer::pair`), and a holder
//! that is dead loses it after three advertisements.

use std::cell::{Cell, RefCell};
use std::io;
use std::net::Ipv4Addr;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::Duration;

use balancer::config::{Config, HostPort};
use balancer::net::{Accepted, Connector, Incoming};
use balancer::pair::Pair;
use balancer::{Parts, run};
use tokio::io::{AsyncWriteExt as _, DuplexStream};
use tokio::time::sleep;
use turmoil::net::{TcpListener, TcpStream};

use super::net::{BALANCER, CLIENT_PORT, HEALTH_PORT};
use super::sometimes::Sometimes;
use super::{Ending, Order, World};

/// Between two looks of the model of VRRP, and two advertisements.
const ADVERT: Duration = Duration::from_millis(100);
/// Advertisements that a dead holder misses before the other takes over.
const MISSED: u32 = 3;
/// The base priorities; the first is preferred.
const PRIORITIES: [i32; 2] = [150, 145];

/// Where the virtual address is put against all rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Misplaced {
    /// On both.
    Both,
    /// On neither.
    Neither,
    /// On the one that should not have it.
    Other,
}

/// One balancer and its machine.
pub(super) struct Balancer {
    pub(super) name: String,
    number: usize,
    /// The nodes that its configuration names.
    nodes: Cell<[u64; 3]>,
    up: Cell<bool>,
    /// What it tells keepalived.
    weight: Arc<AtomicI32>,
    /// What keepalived tells the process that runs.
    notices: RefCell<Option<DuplexStream>>,
}

impl Balancer {
    fn new(number: usize, nodes: [u64; 3]) -> Self {
        Self {
            name: format!("{BALANCER}{}", number + 1),
            number,
            nodes: Cell::new(nodes),
            up: Cell::new(true),
            weight: Arc::default(),
            notices: RefCell::default(),
        }
    }

    fn config(&self) -> Result<Config, balancer::config::ConfigError> {
        let nodes: String = self
            .nodes
            .get()
            .iter()
            .map(|node| {
                let at = |port| format!("node-{node}:{port}");
                let (client, health) = (at(CLIENT_PORT), at(HEALTH_PORT));
                format!("[[nodes]]\nid = {node}\nclient = \"{client}\"\nhealth = \"{health}\"\n")
            })
            .collect();
        let own = |number: usize| format!("10.0.0.{}", 11 + number);
        let (own, peer) = (own(self.number), own(1 - self.number));
        Config::parse(&format!(
            "listen = \"0.0.0.0:{CLIENT_PORT}\"\nhealth = \"0.0.0.0:{HEALTH_PORT}\"\n{nodes}\
             [keepalived]\nvirtual_ip = \"10.0.0.10/24\"\ninterface = \"eth0\"\nrouter = 7\n\
             address = \"{own}\"\npeer = \"{peer}\"\npriority = {}\n",
            PRIORITIES[self.number]
        ))
    }

    /// The balancer, from its start to its crash.
    pub(super) async fn run(self: Rc<Self>) -> Ending {
        let (notices, told) = tokio::io::duplex(4_096);
        self.notices.replace(Some(notices));
        let weight = self.weight.clone();
        weight.store(balancer::keepalived::AWAY, Ordering::Relaxed);
        let tell = Box::new(move |told| {
            weight.store(told, Ordering::Relaxed);
            Ok(())
        });
        let bind = async |port| TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).await;
        let parts = Parts {
            clients: Door(bind(CLIENT_PORT).await?),
            health: Door(bind(HEALTH_PORT).await?),
            connector: Line,
            pair: Some(Pair { notices: Box::new(told), tell }),
        };
        Ok(run(self.config()?, parts, std::future::pending()).await?)
    }

    fn priority(&self) -> i32 {
        PRIORITIES[self.number] + self.weight.load(Ordering::Relaxed)
    }

    async fn hear(&self, standing: &str) {
        let Some(mut notices) = self.notices.take() else { return };
        let line = format!("INSTANCE \"trine\" {standing} 150\n");
        // One that has crashed hears nothing.
        if notices.write_all(line.as_bytes()).await.is_ok() {
            self.notices.replace(Some(notices));
        }
    }
}

/// A simulated listener.
struct Door(TcpListener);

impl Incoming for Door {
    type Stream = TcpStream;

    async fn accept(&mut self) -> io::Result<Accepted<TcpStream>> {
        let (stream, caller) = self.0.accept().await?;
        let called = stream.local_addr()?;
        Ok(Accepted { stream, caller, called })
    }
}

/// How a balancer reaches the nodes.
struct Line;

impl Connector for Line {
    type Stream = TcpStream;

    async fn connect(&self, address: &HostPort) -> io::Result<TcpStream> {
        TcpStream::connect((address.host(), address.port())).await
    }
}

impl World {
    /// Starts both, and what moves the address between them.
    pub(super) async fn open_doors(&self) {
        for number in 0..PRIORITIES.len() {
            let balancer = Rc::new(Balancer::new(number, self.nodes()));
            self.inner.balancers.borrow_mut().push(balancer.clone());
            self.order(Order::Door(balancer)).await;
        }
        let world = self.clone();
        tokio::task::spawn_local(async move { world.keep_address().await });
        while self.inner.addresses.holders().is_empty() {
            sleep(ADVERT).await;
        }
    }

    /// Moves the address for as long as the world lives.
    async fn keep_address(&self) {
        let mut master: Option<usize> = None;
        let mut missed = 0;
        loop {
            sleep(ADVERT).await;
            let balancers = self.inner.balancers.borrow().clone();
            let fittest = || {
                let alive = balancers.iter().filter(|balancer| balancer.up.get());
                alive.max_by_key(|balancer| balancer.priority()).map(|one| one.number)
            };
            let next = match master {
                Some(holder) if !balancers[holder].up.get() => {
                    missed += 1;
                    if missed >= MISSED { fittest() } else { master }
                }
                _ => {
                    missed = 0;
                    fittest()
                }
            };
            if next != master {
                for balancer in &balancers {
                    let is_it = Some(balancer.number) == next;
                    balancer.hear(if is_it { "MASTER" } else { "BACKUP" }).await;
                }
                master = next;
            }
            let name = |number: usize| balancers[number].name.clone();
            let holders: Vec<String> = match self.inner.misplaced.get() {
                None => master.into_iter().map(name).collect(),
                Some(Misplaced::Both) => balancers.iter().map(|one| one.name.clone()).collect(),
                Some(Misplaced::Neither) => Vec::new(),
                Some(Misplaced::Other) => vec![name(1 - master.unwrap_or(0))],
            };
            if holders != self.inner.addresses.holders() {
                self.note(format_args!("the virtual address is on {holders:?}"));
                let (at, now) = (self.inner.now.get(), holders.join(" and "));
                self.inner.trace.end(at, "address", None);
                self.inner.trace.begin(at, "address", if now.is_empty() { "nobody" } else { &now });
                if holders.len() > 1 {
                    self.saw([Sometimes::BothBalancersActive]);
                }
                self.inner.addresses.hold(holders);
            }
        }
    }

    /// A balancer loses its power, if it has any.
    pub(super) async fn kill_balancer(&self, number: usize) {
        let Some(balancer) = self.balancer(number).filter(|one| one.up.get()) else { return };
        self.note(format_args!("{} crashes", balancer.name));
        balancer.up.set(false);
        self.order(Order::Fell(balancer.name.clone())).await;
    }

    /// The names of the balancers, if there are any.
    pub(super) fn balancer_names(&self) -> Vec<String> {
        self.inner.balancers.borrow().iter().map(|balancer| balancer.name.clone()).collect()
    }

    /// And starts again.
    pub(super) async fn revive_balancer(&self, number: usize) {
        let Some(balancer) = self.balancer(number).filter(|one| !one.up.get()) else { return };
        self.note(format_args!("{} starts", balancer.name));
        balancer.nodes.set(self.nodes());
        balancer.up.set(true);
        self.order(Order::Raise(balancer.name.clone())).await;
    }

    pub(super) fn balancer(&self, number: usize) -> Option<Rc<Balancer>> {
        self.inner.balancers.borrow().get(number).cloned()
    }

    /// Puts the address where it should not be; `None` lets it go where it should.
    pub(super) fn misplace(&self, where_to: Option<Misplaced>) {
        self.inner.misplaced.set(where_to);
    }
}
