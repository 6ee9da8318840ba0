//! The real machine under a node: sockets, TLS, data directory, files.
//!
//! `trine node` calls [`run`]; the simulator calls [`crate::node::run`] with a
//! world of its own.

mod container;
mod dial;
mod reload;
mod seal;
pub mod traits;

use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use license::enrollment::EnrollmentRequest;
use license::hostseal::OtherHost;
use license::trust::VendorRoot;
use pki::{Ca, ClientAuth, Shown, Trust};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use self::seal::Host;
pub use self::seal::{Seal, Standing, look};

use crate::certificates::{Certificates, Refused};
use crate::clock::Clock;
use crate::config::{Checked, Config, ConfigError};
use crate::entropy::Entropy;
use crate::incoming::{Door, PlainIncoming, Slots, TlsIncoming};
use crate::node::{NodeError, Setup, World};
use crate::store;
use crate::telemetry::{Listener, Metrics};
use container::ChainFile;
use dial::TlsDial;
use reload::Reload;

/// How long a node that starts for the first time may take to make its container,
/// on a slow disk.
const FIRST_START_MAX: Duration = Duration::from_secs(10);

/// How often it is looked whether it has.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// What only `main` may make.
pub struct Machine {
    /// The process's one clock.
    pub clock: Arc<dyn Clock>,
    /// The operating system's randomness.
    pub entropy: Arc<dyn Entropy>,
    /// Told when the operator wishes the certificate files read at once.
    pub reload: Arc<Notify>,
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
    /// The container is sealed to a host that this is not.
    #[error(
        "the container file {}: {other}. If the data directory was copied here, this is not where it belongs: start it on its own host. \
         If the host itself has changed, bring back what is gone, or put a new node in its place \
         (see `trine node traits`, and \"A node says its host has changed\" in the runbook)",
        path.display()
    )]
    OtherHost {
        /// The file.
        path: PathBuf,
        /// What is missing.
        other: OtherHost,
    },
    /// Certificates that TLS does not take.
    #[error(transparent)]
    Credentials(#[from] pki::CredentialError),
    /// The data directory.
    #[error(transparent)]
    Store(#[from] store::OpenError),
    /// Another process has the directory, and makes no container.
    #[error(
        "{} is in use by another process, which made no container in {} s: see the log of the node there, \
         and run this again when it is up, or has been stopped",
        path.display(),
        waited.as_secs()
    )]
    NoContainerYet {
        /// The directory.
        path: PathBuf,
        /// For how long it was waited.
        waited: Duration,
    },
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
    let Checked { client: clients, peer: peers, vendor_roots } = check(&config, &*machine.clock)?;
    let setup = setup(&config, clients.ca(), vendor_roots);
    // The lock on the directory comes first: a second process changes nothing.
    let disk = store::open(&config.data, config.engine)?;
    let act = config.act.unwrap_or_else(|| container::first_act(clients.ca()));
    let container =
        container::open(&config.data, act, &*disk, &Host::of(&config)?, &machine.entropy).await?;
    let chain = ChainFile(config.tls.container.clone());
    chain.warn_if_absent(config.id);
    let metrics = Arc::new(Metrics::new(setup.engine));

    let limits = &config.limits;
    let slots = |listener, connections| {
        Slots::new(listener, connections, limits.connections_per_address, metrics.clone())
    };
    let trust = Trust::new(std::slice::from_ref(peers.ca()))?;
    let client_shown = Shown::new(&clients)?;
    let peer_shown = Shown::new(&peers)?;
    let client_door = Door {
        tls: pki::server_config(&trust, &client_shown, ClientAuth::Optional)?,
        proxies: config.proxies.clone().into(),
        handshake: limits.handshake,
        cuts_off: None,
        slots: slots(Listener::Client, limits.connections),
    };
    let peer_door = Door {
        tls: pki::server_config(&trust, &peer_shown, ClientAuth::Required)?,
        // Peers dial one another directly.
        proxies: Arc::new([]),
        handshake: limits.handshake,
        cuts_off: Some(trust.clone()),
        slots: slots(Listener::Peer, limits.connections),
    };
    let dial = TlsDial::new(pki::client_config(&trust, Some(&peer_shown))?, trust.clone());
    let certificates = Certificates {
        trust,
        shown: vec![("client", client_shown.clone()), ("peer", peer_shown.clone())],
        refused: Refused::default(),
    };
    let reload = Reload {
        config: config.clone(),
        certificates: certificates.clone(),
        client: client_shown,
        peer: peer_shown,
        clock: machine.clock.clone(),
        metrics: metrics.clone(),
        wished: machine.reload,
    };
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
        enrolled: Arc::new(chain),
        dial: Arc::new(dial),
        clients: TlsIncoming::new(bind("listen.client", listen.client).await?, client_door),
        peers: TlsIncoming::new(bind("listen.peer", listen.peer).await?, peer_door),
        health: PlainIncoming::new(bind("listen.health", listen.health).await?, health_slots),
        metrics,
        certificates,
        onlooker: Box::new(drop),
    };
    let _reloading = AbortOnDropHandle::new(tokio::spawn(reload.run()));
    crate::raft::seeded(u64::from_le_bytes(seed), crate::node::run(setup, world, shutdown)).await?;
    Ok(())
}

/// Certificates that are out of date by this machine's clock alone stop no
/// start: the clock may be what is wrong, and the others judge them by the
/// cluster's date.
fn check(config: &Config, clock: &dyn Clock) -> Result<Checked, HostError> {
    config.check(clock.wall()).or_else(|wrong| {
        let checked = config.check_undated().map_err(|wrong| HostError::Config { wrong })?;
        let reason = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        tracing::error!(
            reason,
            "by this machine's clock the certificates are out of date; starting all the same, as the clock may be wrong: set it right, or renew them"
        );
        Ok(checked)
    })
}

/// What this node, which need not run, asks of the cluster CA: a certificate of
/// its container, which is made if the node never started.
///
/// # Errors
/// [`HostError`], each with the way out.
pub async fn enroll(
    config: &Config,
    entropy: &Arc<dyn Entropy>,
) -> Result<EnrollmentRequest, HostError> {
    let host = Host::of(config)?;
    let give_up = Instant::now() + FIRST_START_MAX;
    let container = loop {
        if let Some(opened) = container::read(&config.data, &host)? {
            break opened.container;
        }
        let wrong = |wrong| HostError::Config { wrong: vec![wrong] };
        config.data_folder().map_err(wrong)?;
        let ca = config.ca().map_err(wrong)?;
        match store::open(&config.data, config.engine) {
            Ok(disk) => {
                let act = config.act.unwrap_or_else(|| container::first_act(&ca));
                break container::open(&config.data, act, &*disk, &host, entropy).await?;
            }
            // A node that runs has its data directory to itself. One that starts for
            // the first time has that before it has a container.
            Err(store::OpenError::Locked { .. }) if Instant::now() < give_up => {
                tokio::time::sleep(LOOK_INTERVAL).await;
            }
            Err(store::OpenError::Locked { path }) => {
                return Err(HostError::NoContainerYet { path, waited: FIRST_START_MAX });
            }
            Err(error) => return Err(error.into()),
        }
    };
    Ok(EnrollmentRequest::make(&container, config.id))
}

fn setup(config: &Config, ca: &Ca, vendor_roots: Vec<VendorRoot>) -> Setup {
    let members = config.members.iter().map(|member| (member.id, member.endpoints.clone()));
    Setup {
        id: config.id,
        data: Some(config.data.clone()),
        proxies: config.proxies.iter().map(ToString::to_string).collect(),
        members: members.collect(),
        ca: ca.clone(),
        vendor_roots,
        limits: config.limits,
        snapshots: config.snapshots,
        engine: config.engine.name(),
    }
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

#[cfg(test)]
mod tests {
    use std::path::Path;

    use pki::{Authority, UnixTime, Validity};

    use super::*;

    /// Counts.
    struct Counting(std::sync::atomic::AtomicU8);

    impl Entropy for Counting {
        fn fill(&self, bytes: &mut [u8]) {
            let next = || self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            bytes.fill_with(next);
        }
    }

    fn entropy() -> Arc<dyn Entropy> {
        Arc::new(Counting(1.into()))
    }

    /// A node whose directory is to be `dir`'s `name`.
    fn config(dir: &Path, name: &str) -> Config {
        let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
        let validity = Validity::starting(now, Duration::from_secs(3_600));
        let ca = Authority::create("works", validity).expect("a CA");
        fs::write(dir.join("ca.pem"), &ca.pem().certificate_pem).expect("written");
        let example = include_str!("../../deploy/node.example.toml");
        let text = example
            .replace("/var/lib/trine/node", name)
            .replace("ca = \"tls/ca.pem\"", "ca = \"ca.pem\"");
        Config::parse(&text, &dir.join("node.toml")).expect("it holds")
    }

    /// It has its directory before it has a container.
    #[tokio::test(start_paused = true)]
    async fn enrolling_waits_for_a_node_that_starts_for_the_first_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let (config, elsewhere) = (config(dir.path(), "ours"), config(dir.path(), "elsewhere"));
        let made = enroll(&elsewhere, &entropy()).await.expect("nobody is there");
        let starting = store::open(&config.data, config.engine).expect("a new directory");
        let makes_it = async {
            tokio::time::sleep(FIRST_START_MAX / 2).await;
            fs::copy(elsewhere.data.join("container"), config.data.join("container"))
                .expect("copied");
        };
        let entropy = entropy();
        let (asked, ()) = tokio::join!(enroll(&config, &entropy), makes_it);
        let asked = asked.expect("it was waited for");
        assert_eq!(asked.container().serial(), made.container().serial());
        drop(starting);
    }

    #[tokio::test(start_paused = true)]
    async fn enrolling_says_who_made_no_container() {
        let dir = tempfile::tempdir().expect("a directory");
        let config = config(dir.path(), "ours");
        let _stuck = store::open(&config.data, config.engine).expect("a new directory");
        let said = enroll(&config, &entropy()).await.expect_err("it is in use").to_string();
        for part in ["is in use by another process", "no container in 10 s", "log of the node"] {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
    }
}
