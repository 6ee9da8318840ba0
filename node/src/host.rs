//! The real machine under a node: sockets, TLS, data directory, files.
//!
//! `trine node` calls [`run`]; the simulator calls [`crate::node::run`] with a
//! world of its own.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use license::container::Container;
use license::product::ActId;
use license::trust::VendorRoot;
use pki::{Ca, ClientAuth};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsConnector;

use crate::clock::Clock;
use crate::config::{Checked, Config, ConfigError};
use crate::entropy::{Entropy, EntropyRng};
use crate::incoming::{Door, PlainIncoming, Slots, TlsIncoming};
use crate::node::{NodeError, Setup, World};
use crate::peers::{Dial, Dialing, Stream};
use crate::store::{self, keys};
use crate::telemetry::{Listener, Metrics};

/// What only `main` may make.
pub struct Machine {
    /// The process's one clock.
    pub clock: Arc<dyn Clock>,
    /// The operating system's randomness.
    pub entropy: Arc<dyn Entropy>,
}

/// Why a node did not start on this machine, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// What the configuration names does not hold, as `--check` says too.
    #[error("{}", wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Config {
        /// Everything that is wrong.
        wrong: Vec<ConfigError>,
    },
    /// The container, which a node must never lose or share.
    #[error("the container file {}: {reason}", path.display())]
    Container {
        /// The file.
        path: PathBuf,
        /// What is wrong, and the way out.
        reason: String,
    },
    /// Certificates that TLS does not take.
    #[error(transparent)]
    Credentials(#[from] pki::CredentialError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// An address.
    #[error(
        "cannot listen on {address} ({key}): {source}; another process may have the port, or the address is not this machine's"
    )]
    Listen {
        /// The key.
        key: &'static str,
        /// The address.
        address: std::net::SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The node itself.
    #[error(transparent)]
    Node(#[from] NodeError),
}

/// Runs the node that `config` describes on this machine until `shutdown`.
///
/// # Errors
/// [`HostError`], each with the way out.
pub async fn run(
    config: Config,
    machine: Machine,
    shutdown: impl Future<Output = ()>,
) -> Result<(), HostError> {
    let checked =
        config.check(machine.clock.wall()).map_err(|wrong| HostError::Config { wrong })?;
    let Checked { client: clients, peer: peers, vendor_roots } = checked;
    let setup = setup(&config, clients.ca(), vendor_roots);
    // The lock on the directory comes first: a second process changes nothing.
    let disk = store::open(&config.data, config.engine)?;
    let is_new = disk.get(keys::vote()).await.map_err(store::OpenError::from)?.is_none();
    let container = container(&config.data, act_id(&setup), is_new, &machine.entropy)?;
    let metrics = Arc::new(Metrics::new(setup.engine));

    let limits = &config.limits;
    let slots = |listener, connections| {
        Slots::new(listener, connections, limits.connections_per_address, metrics.clone())
    };
    let client_door = Door {
        tls: pki::server_config(&clients, ClientAuth::Optional)?,
        proxies: config.proxies.clone().into(),
        handshake: limits.handshake,
        slots: slots(Listener::Client, limits.connections),
    };
    let peer_door = Door {
        tls: pki::server_config(&peers, ClientAuth::Required)?,
        // Peers dial one another directly.
        proxies: Arc::new([]),
        handshake: limits.handshake,
        slots: slots(Listener::Peer, limits.connections),
    };
    let dial = TlsDial { tls: TlsConnector::from(pki::client_config(peers.ca(), Some(&peers))?) };
    let health_slots = slots(Listener::Health, limits.health_connections);
    let listen = &config.listen;
    let mut seed = [0; 8];
    machine.entropy.fill(&mut seed);
    let world = World {
        clock: machine.clock,
        entropy: machine.entropy,
        boot: boot_id(),
        disk,
        container,
        dial: Arc::new(dial),
        clients: TlsIncoming::new(bind("listen.client", listen.client).await?, client_door),
        peers: TlsIncoming::new(bind("listen.peer", listen.peer).await?, peer_door),
        health: PlainIncoming::new(bind("listen.health", listen.health).await?, health_slots),
        metrics,
    };
    crate::raft::seeded(u64::from_le_bytes(seed), crate::node::run(setup, world, shutdown)).await?;
    Ok(())
}

fn setup(config: &Config, ca: &Ca, vendor_roots: Vec<VendorRoot>) -> Setup {
    let members = config.members.iter().map(|member| (member.id, member.endpoints.clone()));
    Setup {
        id: config.id,
        members: members.collect(),
        ca_digest: ca.digest(),
        vendor_roots,
        limits: config.limits,
        engine: config.engine.name(),
    }
}

/// The act id that the three containers have in common: three nodes that never
/// spoke agree on it, because they have the CA and the member list in common.
fn act_id(setup: &Setup) -> ActId {
    let mut digest = Sha256::new_with_prefix(setup.ca_digest);
    for (node, endpoints) in &setup.members {
        digest.update(node.0.to_be_bytes());
        digest.update(endpoints.peer.as_bytes());
        digest.update([0]);
    }
    let digest: [u8; 32] = digest.finalize().into();
    ActId(u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]))
}

/// The node's container, made at its first start.
fn container(
    data: &Path,
    act: ActId,
    is_new: bool,
    entropy: &Arc<dyn Entropy>,
) -> Result<Container, HostError> {
    let path = data.join("container");
    let failed = |reason: String| HostError::Container { path: path.clone(), reason };
    match fs::read(&path) {
        Ok(bytes) => Container::decode(&bytes)
            .map_err(|error| failed(format!("{error}; restore it from this node's own backup"))),
        // A node that has voted had one, and its shares are sealed to it.
        Err(error) if error.kind() == io::ErrorKind::NotFound && !is_new => Err(failed(
            "it is gone, though the log beside it is not; restore it from this node's own backup"
                .into(),
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let container = Container::create(act, &mut EntropyRng(entropy.clone()));
            keep(&path, &container.encode()).map_err(|error| {
                failed(format!(
                    "cannot write it: {error}; see to space and permissions there and start the node again"
                ))
            })?;
            Ok(container)
        }
        Err(error) => Err(failed(error.to_string())),
    }
}

/// Writes a secret file so that after a crash it is there whole or not at all.
fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let unfinished = path.with_extension("part");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory)?.sync_all()
}

/// Which boot of the machine this is, as its kernel says; zeros where it does not.
fn boot_id() -> [u8; 16] {
    let text = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
    let mut boot = [0; 16];
    for (byte, pair) in boot.iter_mut().zip(digits.chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).unwrap_or_default();
        *byte = u8::from_str_radix(pair, 16).unwrap_or_default();
    }
    boot
}

async fn bind(key: &'static str, address: std::net::SocketAddr) -> Result<TcpListener, HostError> {
    TcpListener::bind(address).await.map_err(|source| HostError::Listen { key, address, source })
}

/// Dials a peer by TCP and makes sure by TLS that it is that very node.
struct TlsDial {
    tls: TlsConnector,
}

/// Connecting and shaking hands with a node that is up takes a fraction of this.
const DIAL_MAX: Duration = Duration::from_secs(1);

impl Dial for TlsDial {
    fn dial(&self, id: u64, address: &str) -> Dialing {
        let (tls, address) = (self.tls.clone(), address.to_owned());
        Box::pin(async move {
            let dialing = async {
                let stream = TcpStream::connect(&address).await?;
                stream.set_nodelay(true)?;
                let stream = tls.connect(pki::node_server_name(id), stream).await?;
                Ok(Box::new(stream) as Box<dyn Stream>)
            };
            tokio::time::timeout(DIAL_MAX, dialing).await.unwrap_or_else(|_| {
                let what = format!("{address} did not finish a handshake in time");
                Err(io::Error::new(io::ErrorKind::TimedOut, what))
            })
        })
    }
}
