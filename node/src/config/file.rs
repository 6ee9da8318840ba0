//! The rule of every key of the configuration file.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ledger::limits::VENDOR_ROOTS_MAX;
use license::product::{ActId, NodeId};
use license::traits::Tolerance;

use super::place;
use super::tables::{
    ContainerTable, File, LimitsTable, ListenTable, LogTable, ProxyTable, StorageTable, TlsTable,
    TrustTable,
};
use super::{
    Config, ConfigError, ContainerSeal, Format, Level, Limits, Listen, Log, MemberConfig, Network,
    Pair, Snapshots, Tls,
};
use crate::raft::Endpoints;
use crate::store::EngineKind;

pub(super) fn parse(text: &str, file: &Path) -> Result<Config, ConfigError> {
    let read: File = toml::from_str(text).map_err(|error| ConfigError::Syntax {
        file: file.to_owned(),
        problem: one_line(&error, text),
    })?;
    Reader { file }.config(read)
}

/// The parser's message and place, without its drawing of the line.
fn one_line(error: &toml::de::Error, text: &str) -> String {
    let message = error.message().trim().replace('\n', ", ");
    match error.span().and_then(|span| text.get(..span.start)) {
        Some(before) => format!("line {}: {message}", before.matches('\n').count() + 1),
        None => message,
    }
}

struct Reader<'a> {
    file: &'a Path,
}

impl Reader<'_> {
    fn config(&self, file: File) -> Result<Config, ConfigError> {
        let members = self.members(&file)?;
        let listen = self.listen(&file.listen)?;
        let data = self.path("data", file.data)?;
        let tls = self.tls(file.tls, &data)?;
        let storage = file.storage.unwrap_or_default();
        let config = Config {
            file: self.file.to_owned(),
            id: NodeId(file.id),
            data,
            act: file.act.map(ActId),
            listen,
            members,
            tls,
            proxies: self.proxies(file.proxy)?,
            snapshots: self.snapshots(&storage)?,
            engine: self.engine(storage)?,
            container: self.container(file.container.unwrap_or_default())?,
            vendor_roots: self.vendor_roots(file.trust)?,
            limits: self.limits(file.limits.unwrap_or_default())?,
            log: self.log(file.log.unwrap_or_default())?,
        };
        self.own_entry_agrees(&config)?;
        Ok(config)
    }

    fn listen(&self, table: &ListenTable) -> Result<Listen, ConfigError> {
        let health = table.health.clone().unwrap_or(format!("127.0.0.1:{}", wire::HEALTH_PORT));
        let listen = Listen {
            client: self.socket("listen.client", &table.client)?,
            peer: self.socket("listen.peer", &table.peer)?,
            health: self.socket("listen.health", &health)?,
        };
        let named = [
            ("listen.client", listen.client),
            ("listen.peer", listen.peer),
            ("listen.health", listen.health),
        ];
        for (at, (key, address)) in named.iter().enumerate() {
            for (earlier_key, earlier) in &named[..at] {
                if address.port() != 0 && address.port() == earlier.port() {
                    let rule = format!(
                        "{earlier_key} has the same port; give each of the three listeners its own"
                    );
                    return Err(self.wrong(key, quoted(address), rule));
                }
            }
        }
        Ok(listen)
    }

    fn members(&self, file: &File) -> Result<[MemberConfig; 3], ConfigError> {
        let mut members = Vec::new();
        let mut taken: Vec<(String, String)> = Vec::new();
        for (at, member) in file.members.iter().enumerate() {
            let key = |name: &str| format!("members[{at}].{name}");
            if member.id == 0 {
                return Err(self.wrong(&key("id"), 0, "node ids begin with 1"));
            }
            if members.iter().any(|earlier: &MemberConfig| earlier.id.0 == member.id) {
                let rule = "another member has this id; every node has its own, never reused";
                return Err(self.wrong(&key("id"), member.id, rule));
            }
            for (name, address) in [("peer", &member.peer), ("client", &member.client)] {
                self.endpoint(&key(name), address)?;
                if let Some((other, _)) = taken.iter().find(|(_, earlier)| earlier == address) {
                    let rule = format!("{other} is the same address; each listener has its own");
                    return Err(self.wrong(&key(name), quoted(address), rule));
                }
                taken.push((key(name), address.clone()));
            }
            members.push(MemberConfig {
                id: NodeId(member.id),
                endpoints: Endpoints { peer: member.peer.clone(), client: member.client.clone() },
            });
        }
        members.sort_by_key(|member| member.id);
        let count = members.len();
        let members = <[MemberConfig; 3]>::try_from(members).map_err(|_| {
            let rule = "a cluster has exactly three nodes; \
                        write three [[members]] tables, the same on every node";
            self.wrong("members", format!("{count} tables"), rule)
        })?;
        if !members.iter().any(|member| member.id.0 == file.id) {
            let ids = members.each_ref().map(|member| member.id.0.to_string()).join(", ");
            let rule =
                format!("no [[members]] table has this id (there are {ids}); use one of them");
            return Err(self.wrong("id", file.id, rule));
        }
        Ok(members)
    }

    /// Where the file says both what a node listens on and what it is reached
    /// by, the two must be able to meet.
    fn own_entry_agrees(&self, config: &Config) -> Result<(), ConfigError> {
        let own = &config.own().endpoints;
        let pairs = [
            ("peer", &own.peer, config.listen.peer),
            ("client", &own.client, config.listen.client),
        ];
        for (name, reached, listens) in pairs {
            let Ok(reached_by) = reached.parse::<SocketAddr>() else { continue };
            if listens.ip().is_loopback() && !reached_by.ip().is_loopback() {
                let rule = format!(
                    "nobody reaches {reached} there, which is this node's {name} address in \
                     [[members]]; listen on {} or on 0.0.0.0",
                    reached_by.ip()
                );
                return Err(self.wrong(&format!("listen.{name}"), quoted(listens), rule));
            }
            let same_machine = listens.ip() == reached_by.ip();
            if same_machine && listens.port() != 0 && listens.port() != reached_by.port() {
                let rule = format!(
                    "this node's {name} address in [[members]] is {reached}, another port of the \
                     same address; make the two agree"
                );
                return Err(self.wrong(&format!("listen.{name}"), quoted(listens), rule));
            }
        }
        Ok(())
    }

    fn tls(&self, table: TlsTable, data: &Path) -> Result<Tls, ConfigError> {
        let client = Pair {
            cert: self.path("tls.cert", table.cert)?,
            key: self.path("tls.key", table.key)?,
        };
        let peer = match table.peer {
            Some(pair) => Pair {
                cert: self.path("tls.peer.cert", pair.cert)?,
                key: self.path("tls.peer.key", pair.key)?,
            },
            None => client.clone(),
        };
        let container = match table.container {
            Some(path) => self.path("tls.container", path)?,
            None => data.join("container.pem"),
        };
        Ok(Tls { ca: self.path("tls.ca", table.ca)?, client, peer, container })
    }

    fn proxies(&self, table: Option<ProxyTable>) -> Result<Vec<Network>, ConfigError> {
        let trusted = table.map(|table| table.trusted).unwrap_or_default();
        let parse = |(at, text): (usize, &String)| {
            Network::parse(text).ok_or_else(|| {
                let rule = "write a network as ADDRESS/PREFIX with zeros behind the prefix, \
                            such as 10.0.0.0/8, or one address";
                self.wrong(&format!("proxy.trusted[{at}]"), quoted(text), rule)
            })
        };
        trusted.iter().enumerate().map(parse).collect()
    }

    fn snapshots(&self, table: &StorageTable) -> Result<Snapshots, ConfigError> {
        let Snapshots { every, log_kept } = Snapshots::default();
        let (most, kept) = (table.snapshot_every, table.log_kept);
        Ok(Snapshots {
            every: self.number("storage.snapshot_every", most, every, 100..=1_000_000)?,
            log_kept: self.number("storage.log_kept", kept, log_kept, 10..=1_000_000)?,
        })
    }

    fn engine(&self, table: StorageTable) -> Result<EngineKind, ConfigError> {
        let Some(name) = table.engine else { return Ok(EngineKind::default()) };
        let wrong = |rule: &str| self.wrong("storage.engine", quoted(&name), rule);
        let engine: EngineKind =
            name.parse().map_err(|_| wrong("use \"embedded\" or \"rocksdb\""))?;
        if !engine.is_built() {
            let rule = "this build has no RocksDB; use one made with --features rocksdb, or \
                        \"embedded\"";
            return Err(wrong(rule));
        }
        Ok(engine)
    }

    fn container(&self, table: ContainerTable) -> Result<ContainerSeal, ConfigError> {
        let tolerance = match table.tolerance {
            None => Tolerance::default(),
            Some(name) => Tolerance::ALL
                .into_iter()
                .find(|tolerance| tolerance.name() == name)
                .ok_or_else(|| {
                    let rule = "use \"loose\", \"medium\" or \"tight\"";
                    self.wrong("container.tolerance", quoted(&name), rule)
                })?,
        };
        let key_file =
            table.key_file.map(|path| self.path("container.key_file", path)).transpose()?;
        Ok(ContainerSeal { tolerance, key_file })
    }

    fn vendor_roots(&self, table: TrustTable) -> Result<Vec<PathBuf>, ConfigError> {
        if table.vendor_roots.is_empty() {
            let rule = "name the trust root of at least one vendor; \
                        its file comes from whoever sells you licenses";
            return Err(self.wrong("trust.vendor_roots", "[]", rule));
        }
        let count = table.vendor_roots.len();
        if count > VENDOR_ROOTS_MAX as usize {
            let rule = format!("a cluster trusts at most {VENDOR_ROOTS_MAX} vendors; name fewer");
            return Err(self.wrong("trust.vendor_roots", format!("{count} files"), rule));
        }
        let named = table.vendor_roots.into_iter().enumerate();
        named.map(|(at, path)| self.path(&format!("trust.vendor_roots[{at}]"), path)).collect()
    }

    fn limits(&self, table: LimitsTable) -> Result<Limits, ConfigError> {
        let limits = Limits {
            connections: self.count("connections", table.connections, 4_096, 1..=1_000_000)?,
            connections_per_address: self.count(
                "connections_per_address",
                table.connections_per_address,
                1_024,
                1..=1_000_000,
            )?,
            streams_per_connection: self.count(
                "streams_per_connection",
                table.streams_per_connection,
                256,
                1..=10_000,
            )?,
            in_flight: self.count("in_flight", table.in_flight, 16_384, 1..=1_000_000)?,
            request_bytes: self.count(
                "request_bytes",
                table.request_bytes,
                262_144,
                65_536..=4_194_304,
            )?,
            header_bytes: self.count("header_bytes", table.header_bytes, 16_384, 4_096..=65_536)?,
            handshake: self.millis("handshake_ms", table.handshake_ms, 5_000, 100..=60_000)?,
            header: self.millis("header_ms", table.header_ms, 5_000, 100..=60_000)?,
            drain: self.millis("drain_ms", table.drain_ms, 10_000, 0..=300_000)?,
            health_connections: self.count(
                "health_connections",
                table.health_connections,
                64,
                4..=10_000,
            )?,
        };
        if limits.connections_per_address > limits.connections
            && table.connections_per_address.is_some()
        {
            let rule = format!(
                "more than limits.connections = {}; one address cannot have more than all",
                limits.connections
            );
            let value = limits.connections_per_address;
            return Err(self.wrong("limits.connections_per_address", value, rule));
        }
        Ok(limits)
    }

    fn log(&self, table: LogTable) -> Result<Log, ConfigError> {
        let level = match table.level.as_deref() {
            None | Some("info") => Level::Info,
            Some("error") => Level::Error,
            Some("warn") => Level::Warn,
            Some("debug") => Level::Debug,
            Some("trace") => Level::Trace,
            Some(other) => {
                let rule = "use \"error\", \"warn\", \"info\", \"debug\" or \"trace\"";
                return Err(self.wrong("log.level", quoted(other), rule));
            }
        };
        let format = match table.format.as_deref() {
            None | Some("text") => Format::Text,
            Some("json") => Format::Json,
            Some(other) => {
                return Err(self.wrong("log.format", quoted(other), "use \"text\" or \"json\""));
            }
        };
        Ok(Log { level, format })
    }

    fn count(
        &self,
        name: &str,
        given: Option<u64>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        self.number(&format!("limits.{name}"), given, default, range)
    }

    fn number(
        &self,
        key: &str,
        given: Option<u64>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<u32, ConfigError> {
        let Some(given) = given else { return Ok(default) };
        u32::try_from(given).ok().filter(|value| range.contains(value)).ok_or_else(|| {
            let rule = format!("use {} to {} (default {default})", range.start(), range.end());
            self.wrong(key, given, rule)
        })
    }

    fn millis(
        &self,
        name: &str,
        given: Option<u64>,
        default: u32,
        range: RangeInclusive<u32>,
    ) -> Result<Duration, ConfigError> {
        self.count(name, given, default, range).map(|ms| Duration::from_millis(u64::from(ms)))
    }

    fn socket(&self, key: &str, text: &str) -> Result<SocketAddr, ConfigError> {
        text.parse().map_err(|_| {
            let rule = "write the IP address to listen on and a port, such as 0.0.0.0:22450";
            self.wrong(key, quoted(text), rule)
        })
    }

    fn endpoint(&self, key: &str, text: &str) -> Result<(), ConfigError> {
        let host_and_port = text.rsplit_once(':');
        let well_formed = host_and_port.is_some_and(|(host, port)| {
            let plain = host
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
            let bracketed = text.parse::<std::net::SocketAddrV6>().is_ok();
            let named = !host.is_empty() && plain;
            (named || bracketed) && port.parse::<u16>().is_ok_and(|port| port != 0)
        });
        if !well_formed {
            let rule = "write the name or address that others reach this member by, and the \
                        port, such as node1.example.net:22450 or [fd00::1]:22450";
            return Err(self.wrong(key, quoted(text), rule));
        }
        let host = host_and_port.map(|(host, _)| host).unwrap_or_default();
        if host
            .trim_matches(['[', ']'])
            .parse()
            .is_ok_and(|ip: std::net::IpAddr| ip.is_unspecified())
        {
            let rule = "that is an address to listen on, not one that others can reach";
            return Err(self.wrong(key, quoted(text), rule));
        }
        Ok(())
    }

    fn path(&self, key: &str, path: PathBuf) -> Result<PathBuf, ConfigError> {
        if path.as_os_str().is_empty() {
            return Err(self.wrong(key, "\"\"", "name a path; a relative one starts at this file"));
        }
        Ok(place(&self.file.parent().unwrap_or(Path::new("")).join(path)))
    }

    fn wrong(
        &self,
        key: &str,
        value: impl std::fmt::Display,
        rule: impl Into<String>,
    ) -> ConfigError {
        ConfigError::Value {
            file: self.file.to_owned(),
            key: key.to_owned(),
            value: value.to_string(),
            rule: rule.into(),
        }
    }
}

fn quoted(value: impl std::fmt::Display) -> String {
    format!("{:?}", value.to_string().chars().take(120).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXAMPLE: &str = include_str!("../../../deploy/node.example.toml");

    /// Every key there is stands in the example file, with a comment above it.
    #[test]
    fn the_example_explains_every_key() {
        parse(EXAMPLE, Path::new("/etc/trine/node.toml")).expect("the example holds");
        // What is not for everybody stands there as a comment.
        let all = EXAMPLE.replace("\n# act = ", "\nact = ");
        let all = all.replace("\n# key_file = ", "\nkey_file = ");
        let file: File = toml::from_str(&all).expect("the example parses");
        parse(&all, Path::new("/etc/trine/node.toml")).expect("the whole example holds");
        let mut keys = Vec::new();
        leaves(&serde_json::to_value(&file).expect("plain values"), "", &mut keys);
        assert!(keys.len() >= 30, "{keys:?}");
        for key in keys {
            let lines: Vec<&str> = all.lines().collect();
            let explained = lines.windows(2).any(|pair| {
                let is_comment = |line: &str| line.trim_start().starts_with('#');
                let sets = pair[1].split('=').next().is_some_and(|left| left.trim() == key);
                sets && is_comment(pair[0])
            });
            assert!(explained, "deploy/node.example.toml does not explain `{key}`");
        }
    }

    /// The last names of all keys; an absent optional key shows as null.
    fn leaves(value: &serde_json::Value, key: &str, keys: &mut Vec<String>) {
        match value {
            serde_json::Value::Null => panic!("the example leaves `{key}` out"),
            serde_json::Value::Object(table) => {
                table.iter().for_each(|(key, value)| leaves(value, key, keys));
            }
            serde_json::Value::Array(values) if values.iter().all(|value| value.is_object()) => {
                values.iter().for_each(|value| leaves(value, key, keys));
            }
            _ => keys.push(key.to_owned()),
        }
    }
}
