//! What this binary is: its version, the highest feature level it knows, and
//! the formats it writes.

use std::sync::LazyLock;

use ledger::level::HIGHEST;
use license::build::{Build, BuildVersion};

/// This build, as heartbeats show it.
pub fn ours() -> Build {
    static VERSION: LazyLock<BuildVersion> = LazyLock::new(|| {
        BuildVersion::parse(env!("CARGO_PKG_VERSION")).expect("cargo's versions have three numbers")
    });
    Build { version: *VERSION, highest: HIGHEST }
}

/// Every format that builds in one cluster, or after one another on one disk,
/// have in common: its name and the version this build writes.
pub fn formats() -> [(&'static str, u32); 4] {
    [
        ("log batch", ledger::codec::BATCH_FORMAT.into()),
        ("ledger snapshot", ledger::codec::SNAPSHOT_FORMAT.into()),
        ("disk record", crate::store::frame::VERSION.into()),
        ("peer message", crate::raft::message::FORMAT),
    ]
}
