//! What `trine --version` says: the build, its feature level, its engines, its formats.

use std::sync::LazyLock;

/// The first line is what `-V` says.
pub static TEXT: LazyLock<String> = LazyLock::new(|| {
    let build = node::build::ours();
    let formats = node::build::formats().map(|(name, version)| format!("{name} {version}"));
    let mut engines = vec!["embedded"];
    if cfg!(feature = "rocksdb") {
        engines.push("rocksdb");
    }
    format!(
        "{}\nfeature levels: 1 to {} (a cluster's level: trine cluster status)\nengines: {}\nformats: {}",
        env!("CARGO_PKG_VERSION"),
        build.highest,
        engines.join(", "),
        formats.join(", ")
    )
});
