//! One node's configuration: the TOML file, read once, as values that hold.
//!
//! [`Config::load`] reads a file and refuses what cannot be right; what only
//! the machine can tell (files, certificates) is [`Config::check`]'s.
//! `deploy/node.example.toml` explains every key.

mod check;
mod file;
mod place;
mod tables;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use license::product::{ActId, NodeId};
use license::traits::Tolerance;

use crate::raft::Endpoints;
use crate::store::EngineKind;

pub use check::Checked;
pub use place::place;

/// How one node is set up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file it was read from, for messages.
    pub file: PathBuf,
    /// Which node this is.
    pub id: NodeId,
    /// Where it keeps its log, its snapshots and its container.
    pub data: PathBuf,
    /// The act id to make its container with; `None` derives it from the
    /// cluster CA, as nodes do that form a cluster.
    pub act: Option<ActId>,
    /// Where it listens.
    pub listen: Listen,
    /// The three members, this one among them, by rising id.
    pub members: [MemberConfig; 3],
    /// Its certificates.
    pub tls: Tls,
    /// The networks of the balancers: from there, and only from there, a
    /// connection to the client listener begins with a PROXY protocol header.
    pub proxies: Vec<Network>,
    /// How it stores.
    pub engine: EngineKind,
    /// When it writes its ledger down, and how much of the log it keeps then.
    pub snapshots: Snapshots,
    /// How its container is sealed to its host.
    pub container: ContainerSeal,
    /// Files with the vendors' trust roots, read when the cluster is formed.
    pub vendor_roots: Vec<PathBuf>,
    /// The bounds of its doors.
    pub limits: Limits,
    /// What it logs.
    pub log: Log,
}

/// The three listeners.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// Applications, operators and balancers.
    pub client: SocketAddr,
    /// The two other nodes.
    pub peer: SocketAddr,
    /// Health, leader and metrics, in plain HTTP.
    pub health: SocketAddr,
}

/// One member, and where the others and its clients reach it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberConfig {
    /// Which node.
    pub id: NodeId,
    /// Its addresses, each `host:port`.
    pub endpoints: Endpoints,
}

/// Certificates and keys, all PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tls {
    /// The cluster CA, which signs nodes, applications and operators.
    pub ca: PathBuf,
    /// What the client listener shows.
    pub client: Pair,
    /// What the peer listener shows, and what this node shows when it dials.
    pub peer: Pair,
    /// The certificates that vouch for this node's container; there once the
    /// node is enrolled.
    pub container: PathBuf,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, with intermediates if there are any.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// When a node writes its ledger down, counted in entries of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshots {
    /// From one snapshot to the next: 100 to 1,000,000.
    pub every: u32,
    /// Kept behind a snapshot, so that a node that was away for no longer needs
    /// none: 10 to 1,000,000.
    pub log_kept: u32,
}

impl Default for Snapshots {
    fn default() -> Self {
        Self { every: 20_000, log_kept: 5_000 }
    }
}

/// How the container is sealed to the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContainerSeal {
    /// How much of the host may change.
    pub tolerance: Tolerance,
    /// A key file that counts as a trait of the host.
    pub key_file: Option<PathBuf>,
}

/// The bounds of the doors (S26). `file.rs` holds the range of each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections to the client listener at once.
    pub connections: u32,
    /// Of these, from one client address.
    pub connections_per_address: u32,
    /// Calls at once on one connection.
    pub streams_per_connection: u32,
    /// Calls at once over all connections; more are refused as overload.
    pub in_flight: u32,
    /// Longest request message, in bytes.
    pub request_bytes: u32,
    /// Longest header list of a request, in bytes.
    pub header_bytes: u32,
    /// PROXY header and TLS handshake together.
    pub handshake: Duration,
    /// The headers of a request on an HTTP/1 connection.
    pub header: Duration,
    /// How long a drain waits for calls that have begun.
    pub drain: Duration,
    /// Connections to the health listener at once.
    pub health_connections: u32,
}

/// What is logged, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Log {
    /// The least severe level that is written.
    pub level: Level,
    /// One line of text, or one JSON object, per event.
    pub format: Format,
}

/// A log level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What stops something.
    Error,
    /// What someone should look at.
    Warn,
    /// Transitions: an operator's timeline.
    Info,
    /// Commands.
    Debug,
    /// Everything.
    Trace,
}

impl Level {
    /// Its name in the configuration, and as a `tracing` directive.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// How an event is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// For collectors.
    Json,
}

/// An IP network, such as `10.0.0.0/8`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Parses `ADDRESS/PREFIX`, or one address. Bits behind the prefix must be zero.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address.parse::<IpAddr>().ok()?, Some(prefix)),
            None => (text.parse::<IpAddr>().ok()?, None),
        };
        let width = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(prefix) => prefix.parse::<u8>().ok().filter(|prefix| *prefix <= width)?,
            None => width,
        };
        let network = Self { address, prefix };
        (network.first_bits(address)? == bits(address).0).then_some(network)
    }

    /// Whether `address` belongs to it. An IPv4 address that came in over an
    /// IPv6 socket counts as the IPv4 address it is.
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4()
            && self.first_bits(address) == self.first_bits(self.address)
    }

    fn first_bits(&self, address: IpAddr) -> Option<u128> {
        let (bits, width) = bits(address);
        let behind = width.checked_sub(u32::from(self.prefix))?;
        Some(bits.checked_shr(behind).unwrap_or(0).checked_shl(behind).unwrap_or(0))
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

fn bits(address: IpAddr) -> (u128, u32) {
    match address {
        IpAddr::V4(address) => (u128::from(address.to_bits()), 32),
        IpAddr::V6(address) => (address.to_bits(), 128),
    }
}

/// What is wrong with a configuration: the key, the value, the rule, the way out.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {}: {source}; give the path of a node's TOML file (see deploy/node.example.toml)", file.display())]
    Unreadable {
        /// Which.
        file: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// Not TOML, or with a key that does not exist, is missing or is of another type.
    #[error("{}: {problem}; deploy/node.example.toml explains every key", file.display())]
    Syntax {
        /// Which.
        file: PathBuf,
        /// What the reader stumbled over, with its line.
        problem: String,
    },
    /// A value that breaks its rule.
    #[error("{}: {key} = {value}: {rule}", file.display())]
    Value {
        /// Which.
        file: PathBuf,
        /// The key, with its tables, such as `tls.peer.key`.
        key: String,
        /// The value, as TOML would write it.
        value: String,
        /// The rule it breaks and what to do.
        rule: String,
    },
}

impl Config {
    /// Reads and validates a file. Paths in it are relative to its folder.
    pub fn load(file: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(file)
            .map_err(|source| ConfigError::Unreadable { file: file.to_owned(), source })?;
        Self::parse(&text, &place(file))
    }

    /// Validates `text` as the contents of `file`.
    pub fn parse(text: &str, file: &Path) -> Result<Self, ConfigError> {
        file::parse(text, file)
    }

    /// This node's own entry among the members.
    pub fn own(&self) -> &MemberConfig {
        self.members.iter().find(|member| member.id == self.id).expect("parse requires it")
    }

    fn wrong(&self, key: &str, value: impl fmt::Display, rule: impl Into<String>) -> ConfigError {
        ConfigError::Value {
            file: self.file.clone(),
            key: key.to_owned(),
            value: value.to_string(),
            rule: rule.into(),
        }
    }
}
