//! The balancer's configuration: one TOML file, parsed once, believed after.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use serde::Deserialize;

use crate::keepalived::Keepalived;
use crate::topology::NodeId;

mod keepalived;

/// A balancer's configuration; every value is within its stated range.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// Where health, metrics and status are served.
    pub health: SocketAddr,
    /// The address connections to nodes come from; the system's choice if `None`.
    pub source: Option<IpAddr>,
    /// The nodes behind the door; 1 to 7, each id and address once.
    pub nodes: Vec<Node>,
    /// What one balancer takes on.
    pub limits: Limits,
    /// How nodes are asked how they are.
    pub probe: Probe,
    /// How the balancer leaves.
    pub drain: Drain,
    /// Its part in a pair with a virtual IP, if there is one.
    pub keepalived: Option<Keepalived>,
}

/// One node, as the balancer reaches it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its number in the cluster.
    pub id: NodeId,
    /// Its client listener.
    pub client: HostPort,
    /// Its health listener.
    pub health: HostPort,
}

/// What one balancer takes on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Connections open at once; further ones are closed at once.
    pub connections: usize,
    /// How long connecting to one node may take before the next is tried.
    pub connect: Duration,
    /// Cut a connection after this long without a byte either way; never if `None`.
    pub idle: Option<Duration>,
}

/// How nodes are asked how they are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// From the end of one probe to the start of the next.
    pub interval: Duration,
    /// How long a node may take to answer.
    pub timeout: Duration,
    /// After so many failures in a row a node is down and its connections are cut.
    pub failures: u32,
}

/// How the balancer leaves.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// From `/readyz` answering 503 to closing the door to new connections, so
    /// that keepalived moves the virtual IP before anyone is refused.
    pub notice: Duration,
    /// From closing the door to cutting what is still open.
    pub period: Duration,
}

/// A host name or IP address, and a port.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HostPort {
    host: String,
    port: u16,
}

impl HostPort {
    /// The name or address, an IPv6 address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port, never 0.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.host.contains(':') {
            true => write!(f, "[{}]:{}", self.host, self.port),
            false => write!(f, "{}:{}", self.host, self.port),
        }
    }
}

impl FromStr for HostPort {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (host, port) = text.rsplit_once(':').ok_or(())?;
        let port = port.parse().map_err(|_| ())?;
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
        let known = match bare {
            Some(bare) => bare.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                !host.is_empty()
                    && host.len() <= 253
                    && host.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b))
            }
        };
        if !known || port == 0 {
            return Err(());
        }
        Ok(Self { host: bare.unwrap_or(host).to_owned(), port })
    }
}

/// A configuration that cannot be used: which key, and what to write instead.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Not TOML, or a key that is unknown, missing or of the wrong kind.
    #[error("{0}deploy/balancer.example.toml explains every key")]
    Form(String),
    /// A value that is not allowed.
    #[error("{key} = {value:?} is not allowed: {rule}")]
    Value {
        /// The key, such as `probe.interval_ms`.
        key: String,
        /// What was given.
        value: String,
        /// What to write.
        rule: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    listen: String,
    health: String,
    source: Option<String>,
    notice_ms: Option<u64>,
    drain_ms: Option<u64>,
    nodes: Vec<NodeTable>,
    #[serde(default)]
    limits: LimitsTable,
    #[serde(default)]
    probe: ProbeTable,
    keepalived: Option<keepalived::KeepalivedTable>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NodeTable {
    id: u64,
    client: String,
    health: String,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LimitsTable {
    connections: Option<u64>,
    connect_ms: Option<u64>,
    idle_ms: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ProbeTable {
    interval_ms: Option<u64>,
    timeout_ms: Option<u64>,
    failures: Option<u64>,
}

const HOUR_MS: u64 = 60 * 60 * 1_000;

impl Config {
    /// Reads a configuration file's text.
    ///
    /// # Errors
    /// The first key that is wrong, and what to write there.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let file: ConfigFile =
            toml::from_str(text).map_err(|error| ConfigError::Form(error.to_string()))?;
        let listen = address("listen", &file.listen)?;
        let health = address("health", &file.health)?;
        if listen == health && listen.port() != 0 {
            return Err(value("health", &file.health, "it must differ from listen"));
        }
        let source = file.source.as_deref().map(source).transpose()?;
        let (limits, probe) = (file.limits, file.probe);
        Ok(Self {
            listen,
            health,
            source,
            nodes: nodes(&file.nodes, listen)?,
            limits: Limits {
                connections: count(
                    "limits.connections",
                    limits.connections,
                    10_000,
                    1..=1_000_000,
                )?,
                connect: millis("limits.connect_ms", limits.connect_ms, 1_000, 10..=60_000)?,
                idle: limits
                    .idle_ms
                    .map(|_| millis("limits.idle_ms", limits.idle_ms, 0, 1_000..=24 * HOUR_MS))
                    .transpose()?,
            },
            probe: Probe {
                interval: millis("probe.interval_ms", probe.interval_ms, 200, 10..=60_000)?,
                timeout: millis("probe.timeout_ms", probe.timeout_ms, 500, 10..=60_000)?,
                failures: count("probe.failures", probe.failures, 3, 1..=100)?,
            },
            drain: Drain {
                notice: millis("notice_ms", file.notice_ms, 500, 0..=60_000)?,
                period: millis("drain_ms", file.drain_ms, 10_000, 0..=HOUR_MS)?,
            },
            keepalived: file.keepalived.map(keepalived::KeepalivedTable::parse).transpose()?,
        })
    }
}

fn value(key: &str, value: impl ToString, rule: impl Into<String>) -> ConfigError {
    ConfigError::Value { key: key.to_owned(), value: value.to_string(), rule: rule.into() }
}

fn address(key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
    text.parse().map_err(|_| {
        value(key, text, "write an IP address and a port, such as \"127.0.0.1:22450\"")
    })
}

fn source(text: &str) -> Result<IpAddr, ConfigError> {
    text.parse().map_err(|_| {
        value("source", text, "write one of this machine's IP addresses, or leave the key out")
    })
}

fn nodes(tables: &[NodeTable], listen: SocketAddr) -> Result<Vec<Node>, ConfigError> {
    if !(1..=7).contains(&tables.len()) {
        let rule = "write one [[nodes]] table per node, three for a cluster and never more than 7";
        return Err(value("nodes", format!("{} tables", tables.len()), rule));
    }
    let mut ids = BTreeSet::new();
    let mut addresses = BTreeSet::new();
    let mut nodes = Vec::new();
    for (place, table) in tables.iter().enumerate() {
        let key = |name: &str| format!("nodes[{place}].{name}");
        if table.id == 0 || !ids.insert(table.id) {
            let rule = "node ids count from 1 and each stands here once";
            return Err(value(&key("id"), table.id, rule));
        }
        let mut host_port = |name: &str, text: &str| {
            let rule = "write a host and a port, such as \"10.0.0.1:22450\" or \"[fd00::1]:22450\"";
            let address: HostPort = text.parse().map_err(|()| value(&key(name), text, rule))?;
            if !addresses.insert(address.clone()) {
                return Err(value(&key(name), text, "another listener has this address already"));
            }
            Ok(address)
        };
        let client = host_port("client", &table.client)?;
        if client.to_string() == listen.to_string() {
            let rule = "this is listen, and the balancer would call itself for ever";
            return Err(value(&key("client"), &table.client, rule));
        }
        let health = host_port("health", &table.health)?;
        nodes.push(Node { id: NodeId(table.id), client, health });
    }
    Ok(nodes)
}

fn millis(
    key: &str,
    given: Option<u64>,
    default: u64,
    allowed: RangeInclusive<u64>,
) -> Result<Duration, ConfigError> {
    bounded(key, given.unwrap_or(default), allowed, "milliseconds").map(Duration::from_millis)
}

/// For values whose range fits the target type.
fn count<T: TryFrom<u64>>(
    key: &str,
    given: Option<u64>,
    default: u64,
    allowed: RangeInclusive<u64>,
) -> Result<T, ConfigError> {
    let number = bounded(key, given.unwrap_or(default), allowed, "")?;
    T::try_from(number).map_err(|_| value(key, number, "it is too large for this machine"))
}

fn bounded(
    key: &str,
    number: u64,
    allowed: RangeInclusive<u64>,
    unit: &str,
) -> Result<u64, ConfigError> {
    if allowed.contains(&number) {
        return Ok(number);
    }
    let rule = format!("write {} to {} {unit}", allowed.start(), allowed.end());
    Err(value(key, number, rule.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
        listen = "127.0.0.1:22450"
        health = "127.0.0.1:22453"
        [[nodes]]
        id = 1
        client = "127.0.0.1:1"
        health = "127.0.0.1:2"
    "#;

    #[test]
    fn the_example_names_every_key_and_is_the_default() {
        let example = include_str!("../../deploy/balancer.example.toml");
        let example = Config::parse(example).expect("the example is valid");
        assert_eq!(example.nodes.len(), 3);
        let small = Config::parse(SMALL).expect("a small configuration is valid");
        assert_eq!(example.limits.connections, small.limits.connections);
        assert_eq!(example.limits.connect, small.limits.connect);
        assert_eq!(example.probe, small.probe);
        assert_eq!(example.drain, small.drain);
    }

    /// The table for a pair is there to be uncommented.
    #[test]
    fn the_pair_in_the_example_is_its_default() {
        let example = include_str!("../../deploy/balancer.example.toml");
        let (_, pair) = example.split_once("# [keepalived]\n").expect("the table");
        let keys = pair.lines().filter_map(|line| line.strip_prefix("# ")).collect::<Vec<_>>();
        let full = format!("{SMALL}\n[keepalived]\n{}", keys.join("\n"));
        let needed: Vec<_> = keys
            .iter()
            .filter(|line| {
                ["virtual_ip", "interface", "router", "address", "peer", "priority"]
                    .iter()
                    .any(|key| line.starts_with(&format!("{key} =")))
            })
            .copied()
            .collect();
        let short = format!("{SMALL}\n[keepalived]\n{}", needed.join("\n"));
        let parse = |text: &str| Config::parse(text).expect("a pair").keepalived;
        assert_eq!(parse(&full), parse(&short));
    }

    #[test]
    fn a_wrong_value_is_told_which_key_and_what_to_write() {
        for (from, to, says) in [
            ("127.0.0.1:22450", "localhost", r#"listen = "localhost" is not allowed: write an IP"#),
            ("127.0.0.1:22453", "127.0.0.1:22450", "must differ from listen"),
            ("id = 1", "id = 0", r#"nodes[0].id = "0" is not allowed"#),
            ("127.0.0.1:1", "db", r#"nodes[0].client = "db" is not allowed: write a host"#),
            ("127.0.0.1:1", "db:0", "nodes[0].client"),
            ("127.0.0.1:1", "127.0.0.1:22450", "the balancer would call itself"),
            ("127.0.0.1:1", "127.0.0.1:2", "another listener has this address already"),
            ("[[nodes]]", "[probe]\ninterval_ms = 1\n[[nodes]]", "write 10 to 60000 milliseconds"),
            ("[[nodes]]", "[limits]\nconnections = 0\n[[nodes]]", "write 1 to 1000000"),
            ("[[nodes]]", "[limits]\nidle_ms = 5\n[[nodes]]", "limits.idle_ms"),
            ("[[nodes]]", "source = \"lo\"\n[[nodes]]", "leave the key out"),
            ("[[nodes]]", "color = 1\n[[nodes]]", "unknown field `color`"),
            ("[[nodes]]", "[probe]\nms = 1\n[[nodes]]", "unknown field `ms`"),
            ("id = 1", "", "missing field `id`"),
            ("listen", "lisen", "balancer.example.toml explains every key"),
        ] {
            let refused = Config::parse(&SMALL.replacen(from, to, 1)).expect_err(says).to_string();
            assert!(refused.contains(says), "{refused:?} does not say {says:?}");
        }
    }

    #[test]
    fn a_host_and_port_reads_back_as_it_was_written() {
        for text in ["db-1.example:22450", "10.0.0.1:1", "[fd00::1]:65535"] {
            assert_eq!(text.parse::<HostPort>().expect(text).to_string(), text);
        }
        for text in ["", ":1", "a", "a:", "a:65536", "fd00::1:22450", "[a]:1", "a b:1", "a/b:1"] {
            assert!(text.parse::<HostPort>().is_err(), "{text} was taken");
        }
    }
}
