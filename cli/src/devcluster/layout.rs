//! Where a development cluster keeps what: directories, ports, config files.

use std::fs::{File, TryLockError};
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files::{self, Access, Existing};

/// One of the five servers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Server {
    /// A backend node, 1 to 3.
    Node(u8),
    /// A balancer, 1 or 2.
    Balancer(u8),
}

impl Server {
    /// The three nodes.
    pub const NODES: [Self; 3] = [Self::Node(1), Self::Node(2), Self::Node(3)];
    /// The two balancers.
    pub const BALANCERS: [Self; 2] = [Self::Balancer(1), Self::Balancer(2)];

    /// All five, in the order in which they start.
    pub fn all() -> impl DoubleEndedIterator<Item = Self> {
        Self::NODES.into_iter().chain(Self::BALANCERS)
    }

    /// The verb of `trine` that runs it.
    pub fn verb(self) -> &'static str {
        match self {
            Self::Node(_) => "node",
            Self::Balancer(_) => "balancer",
        }
    }
}

impl std::fmt::Display for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Node(number) | Self::Balancer(number)) = self;
        write!(f, "{}-{number}", self.verb())
    }
}

/// The loopback ports of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodePorts {
    pub client: u16,
    pub peer: u16,
    pub health: u16,
}

/// The loopback ports of one balancer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct BalancerPorts {
    pub client: u16,
    pub health: u16,
}

/// The loopback ports of a development cluster.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ports {
    pub nodes: [NodePorts; 3],
    pub balancers: [BalancerPorts; 2],
}

impl Ports {
    /// How many ports from the base on are taken.
    pub const SPAN: u16 = 33;

    /// The first balancer at `base`, where a bare host finds it when `base` is
    /// [`wire::CLIENT_PORT`]; the nodes at `base` + 10, + 20 and + 30.
    ///
    /// `base` is at most 65535 - [`Ports::SPAN`].
    pub fn from_base(base: u16) -> Self {
        let node =
            |at: u16| NodePorts { client: base + at, peer: base + at + 1, health: base + at + 2 };
        let balancer = |at: u16| BalancerPorts { client: base + at, health: base + at + 2 };
        Self { nodes: [node(10), node(20), node(30)], balancers: [balancer(0), balancer(1)] }
    }

    /// Ports for a cluster that nobody dials by hand: this process's until it
    /// ends, so that no other that asks in this way is given them meanwhile.
    ///
    /// They lie below those that the kernel gives to outgoing connections,
    /// which could otherwise take one between two starts of a server.
    pub fn free() -> Result<Self, Failure> {
        static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
        const FIRST: u16 = 10_240;
        const BLOCK: u16 = 16;
        const BLOCKS: u16 = 1_300;
        let wrong =
            |error: io::Error| Failure::failed(format!("cannot reserve loopback ports: {error}"));
        // A directory of this user's own.
        let uid = std::fs::metadata("/proc/self").map_err(wrong)?.uid();
        let locks = std::env::temp_dir().join(format!("trine-ports-{uid}"));
        files::private_dir("directory", &locks)?;
        let mut held = HELD.lock().unwrap_or_else(PoisonError::into_inner);
        // Not all from the same end: servers that just ended leave ports behind.
        let start = u16::try_from(std::process::id() % u32::from(BLOCKS)).unwrap_or(0);
        for block in (0..BLOCKS).map(|step| (start + step) % BLOCKS) {
            let lock = File::create(locks.join(block.to_string())).map_err(wrong)?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => continue,
                Err(TryLockError::Error(error)) => return Err(wrong(error)),
            }
            let ports = Self::in_block(FIRST + block * BLOCK);
            // Of somebody who does not ask here.
            if ports.taken().is_none() {
                held.push(lock);
                return Ok(ports);
            }
        }
        Err(Failure::failed("no thirteen loopback ports are free from 10240 to 31039"))
    }

    /// Thirteen ports in a row.
    fn in_block(base: u16) -> Self {
        let mut ports = base..;
        let mut next = || ports.next().unwrap_or_default();
        let mut node = || NodePorts { client: next(), peer: next(), health: next() };
        let nodes = [node(), node(), node()];
        let mut balancer = || BalancerPorts { client: next(), health: next() };
        Self { nodes, balancers: [balancer(), balancer()] }
    }

    /// The port of a server's health listener.
    pub fn health(&self, server: Server) -> u16 {
        match server {
            Server::Node(number) => self.node(number).health,
            Server::Balancer(number) => self.balancer(number).health,
        }
    }

    /// The port where a server takes applications and operators.
    pub fn client(&self, server: Server) -> u16 {
        match server {
            Server::Node(number) => self.node(number).client,
            Server::Balancer(number) => self.balancer(number).client,
        }
    }

    /// The first port that somebody else listens on, with what it is for.
    pub fn taken(&self) -> Option<(u16, String)> {
        let nodes = self.nodes.iter().zip(Server::NODES).flat_map(|(ports, server)| {
            [(ports.client, "client"), (ports.peer, "peer"), (ports.health, "health")]
                .map(|(port, what)| (port, format!("{server}'s {what} listener")))
        });
        let balancers = self.balancers.iter().zip(Server::BALANCERS).flat_map(|(ports, server)| {
            [(ports.client, "client"), (ports.health, "health")]
                .map(|(port, what)| (port, format!("{server}'s {what} listener")))
        });
        nodes.chain(balancers).find(|(port, _)| {
            TcpListener::bind(SocketAddrV4::new(Ipv4Addr::LOCALHOST, *port)).is_err()
        })
    }

    fn node(&self, number: u8) -> &NodePorts {
        &self.nodes[usize::from(number).clamp(1, 3) - 1]
    }

    fn balancer(&self, number: u8) -> &BalancerPorts {
        &self.balancers[usize::from(number).clamp(1, 2) - 1]
    }
}

/// What a development cluster's directory remembers of how it was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Made {
    /// The layout of the directory; this build knows [`Made::FORMAT`].
    pub format: u32,
    /// The engine of its nodes' data directories.
    pub engine: String,
    /// Its ports. They stand in its Raft log too, so they stay.
    pub ports: Ports,
}

impl Made {
    /// The layout that this build reads and writes.
    pub const FORMAT: u32 = 1;
}

/// The paths of a development cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layout {
    dir: PathBuf,
}

impl Layout {
    /// A development cluster in `dir`, which is absolute.
    pub fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Everything is below here.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// How the cluster was made.
    pub fn made(&self) -> PathBuf {
        self.dir.join("cluster.toml")
    }

    /// Held while the cluster is up.
    pub fn lock(&self) -> PathBuf {
        self.dir.join("lock")
    }

    /// The cluster CA and all certificates.
    pub fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    /// The development vendor.
    pub fn vendor(&self) -> PathBuf {
        self.dir.join("vendor")
    }

    /// The client context.
    pub fn context(&self) -> PathBuf {
        self.dir.join("context.toml")
    }

    /// One server's own directory.
    pub fn home(&self, server: Server) -> PathBuf {
        self.dir.join(server.to_string())
    }

    /// One server's configuration.
    pub fn config(&self, server: Server) -> PathBuf {
        self.home(server).join(format!("{}.toml", server.verb()))
    }

    /// What one server logs.
    pub fn log(&self, server: Server) -> PathBuf {
        self.home(server).join(format!("{}.log", server.verb()))
    }

    /// Writes the five configuration files.
    pub fn write_configs(&self, made: &Made) -> Result<(), Failure> {
        for server in Server::all() {
            let text = match server {
                Server::Node(number) => node_config(number, made),
                Server::Balancer(number) => balancer_config(number, made),
            };
            files::private_dir("directory", &self.home(server))?;
            let path = self.config(server);
            files::write(
                "configuration",
                &path,
                text.as_bytes(),
                Access::Shared,
                Existing::Replace,
            )?;
        }
        Ok(())
    }
}

const NOT_FOR_PRODUCTION: &str = "# Written by `trine up` at every start. For development only.\n";

fn node_config(number: u8, made: &Made) -> String {
    let own = made.ports.node(number);
    let members: String = (1..=3)
        .map(|id| {
            let NodePorts { client, peer, .. } = made.ports.node(id);
            format!(
                "\n[[members]]\nid = {id}\npeer = \"127.0.0.1:{peer}\"\nclient = \"127.0.0.1:{client}\"\n"
            )
        })
        .collect();
    let balancers: Vec<String> =
        (1..=2).map(|number| format!("\"{}\"", balancer_source(number))).collect();
    format!(
        r#"{NOT_FOR_PRODUCTION}
id = {number}
data = "data"

[listen]
client = "127.0.0.1:{client}"
peer = "127.0.0.1:{peer}"
health = "127.0.0.1:{health}"
{members}
[tls]
ca = "../pki/ca.pem"
cert = "../pki/node-{number}.pem"
key = "../pki/node-{number}.key"
container = "../pki/node-{number}.container.pem"

[proxy]
trusted = [{balancers}]

[storage]
engine = "{engine}"

[container]
tolerance = "loose"

[trust]
vendor_roots = ["../vendor/vendor.root"]
"#,
        client = own.client,
        peer = own.peer,
        health = own.health,
        balancers = balancers.join(", "),
        engine = made.engine,
    )
}

/// The loopback address a balancer dials from: nodes believe the PROXY header
/// from there and take everyone on 127.0.0.1 for a plain client.
fn balancer_source(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 0, 0, number.saturating_add(1))
}

fn balancer_config(number: u8, made: &Made) -> String {
    let own = made.ports.balancer(number);
    let nodes: String = (1..=3)
        .map(|id| {
            let NodePorts { client, health, .. } = made.ports.node(id);
            format!(
                "\n[[nodes]]\nid = {id}\nclient = \"127.0.0.1:{client}\"\nhealth = \"127.0.0.1:{health}\"\n"
            )
        })
        .collect();
    format!(
        r#"{NOT_FOR_PRODUCTION}
listen = "127.0.0.1:{client}"
health = "127.0.0.1:{health}"
source = "{source}"
{nodes}"#,
        client = own.client,
        health = own.health,
        source = balancer_source(number),
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn all(ports: &Ports) -> BTreeSet<u16> {
        let nodes = ports.nodes.iter().flat_map(|node| [node.client, node.peer, node.health]);
        let balancers =
            ports.balancers.iter().flat_map(|balancer| [balancer.client, balancer.health]);
        nodes.chain(balancers).collect()
    }

    /// The five files are what the servers read.
    #[test]
    fn the_servers_take_their_configurations() {
        let made = Made {
            format: Made::FORMAT,
            engine: "embedded".to_owned(),
            ports: Ports::from_base(wire::CLIENT_PORT),
        };
        for number in 1..=3 {
            let config = node_config(number, &made);
            let config = node::config::Config::parse(&config, Path::new("/dev/null/node.toml"));
            assert_eq!(config.expect("a node's configuration").id.0, u64::from(number));
        }
        for number in 1..=2 {
            let config = balancer::config::Config::parse(&balancer_config(number, &made));
            assert_eq!(config.expect("a balancer's configuration").nodes.len(), 3);
        }
    }

    #[test]
    fn no_port_is_given_twice() {
        let base = 22_450;
        let ports = all(&Ports::from_base(base));
        assert_eq!(ports.len(), 13);
        assert!(ports.iter().all(|port| (base..base + Ports::SPAN).contains(port)));
        let two = [Ports::free(), Ports::free()].map(|ports| all(&ports.expect("free ports")));
        assert_eq!(two[0].union(&two[1]).count(), 26, "the first are kept");
        Ports::from_base(u16::MAX - Ports::SPAN);
    }
}
