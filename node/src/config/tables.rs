//! The configuration file as it is written, table by table.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// The file, key by key. An optional key is an `Option`, so that the test over
/// the example file can tell an absent key from a default.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    pub(super) id: u64,
    pub(super) data: PathBuf,
    pub(super) act: Option<u32>,
    pub(super) listen: ListenTable,
    pub(super) members: Vec<MemberTable>,
    pub(super) tls: TlsTable,
    pub(super) proxy: Option<ProxyTable>,
    pub(super) storage: Option<StorageTable>,
    pub(super) container: Option<ContainerTable>,
    pub(super) trust: TrustTable,
    pub(super) limits: Option<LimitsTable>,
    pub(super) log: Option<LogTable>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListenTable {
    pub(super) client: String,
    pub(super) peer: String,
    pub(super) health: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct MemberTable {
    pub(super) id: u64,
    pub(super) peer: String,
    pub(super) client: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TlsTable {
    pub(super) ca: PathBuf,
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
    pub(super) container: Option<PathBuf>,
    pub(super) peer: Option<PairTable>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct PairTable {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProxyTable {
    pub(super) trusted: Vec<String>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StorageTable {
    pub(super) engine: Option<String>,
    pub(super) snapshot_every: Option<u64>,
    pub(super) log_kept: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ContainerTable {
    pub(super) tolerance: Option<String>,
    pub(super) key_file: Option<PathBuf>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct TrustTable {
    pub(super) vendor_roots: Vec<PathBuf>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LimitsTable {
    pub(super) connections: Option<u64>,
    pub(super) connections_per_address: Option<u64>,
    pub(super) streams_per_connection: Option<u64>,
    pub(super) in_flight: Option<u64>,
    pub(super) request_bytes: Option<u64>,
    pub(super) header_bytes: Option<u64>,
    pub(super) handshake_ms: Option<u64>,
    pub(super) header_ms: Option<u64>,
    pub(super) drain_ms: Option<u64>,
    pub(super) health_connections: Option<u64>,
}

#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LogTable {
    pub(super) level: Option<String>,
    pub(super) format: Option<String>,
}
