//! A node's data directory: whose it is, and that only one process uses it.
//!
//! ```text
//! DIR/lock     held by the process that has the directory open
//! DIR/engine   "trine 1 embedded": the layout's version and the engine that writes here
//! DIR/data/    the engine's own files
//! ```

use std::fmt;
use std::fs::{File, TryLockError};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::Arc;

use super::embedded::Embedded;
use super::thread::Threaded;
use super::{Disk, DiskError};

/// Version of the layout above. Raised when an older binary must not open it.
const LAYOUT: u32 = 1;

/// Which engine keeps a node's data. The default is the best that the build has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineKind {
    /// Pure Rust, in every build.
    #[cfg_attr(not(feature = "rocksdb"), default)]
    Embedded,
    /// RocksDB, in builds with the feature `rocksdb`.
    #[cfg_attr(feature = "rocksdb", default)]
    RocksDb,
}

impl EngineKind {
    /// Its name, in the configuration, on disk and in metrics.
    pub fn name(self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::RocksDb => "rocksdb",
        }
    }

    /// Whether this build has it.
    pub fn is_built(self) -> bool {
        match self {
            Self::Embedded => true,
            Self::RocksDb => cfg!(feature = "rocksdb"),
        }
    }
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for EngineKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "embedded" => Ok(Self::Embedded),
            "rocksdb" => Ok(Self::RocksDb),
            _ => Err(format!("unknown engine {name:?}: it is \"embedded\" or \"rocksdb\"")),
        }
    }
}

/// A data directory that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Something of the operating system's.
    #[error("cannot {action} {}: {source}{}", path.display(), advice(source))]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
    /// Another process has it.
    #[error(
        "{} is in use by another process; stop that node first, or give this one its own directory",
        path.display()
    )]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// Somebody else's files.
    #[error(
        "{} holds {found:?} and no Trine data; give the node an empty or a new directory",
        path.display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the things in it.
        found: String,
    },
    /// The marker is not one that any Trine wrote.
    #[error(
        "{} does not say which engine wrote this directory; it was changed or damaged: restore the file, or replace this node by a new one (`trine cluster replace`)",
        path.display()
    )]
    Marker {
        /// The marker file.
        path: PathBuf,
    },
    /// A newer layout.
    #[error(
        "{} has layout {found} and this binary knows {LAYOUT}; run the newer Trine that wrote it",
        path.display()
    )]
    Layout {
        /// The directory.
        path: PathBuf,
        /// The version found.
        found: u32,
    },
    /// Written by the other engine.
    #[error(
        "{} was written by the {found} engine and the node is to use {wanted}; set engine = \"{found}\" in its configuration, or replace this node by a new one (`trine cluster replace`)",
        path.display()
    )]
    OtherEngine {
        /// The directory.
        path: PathBuf,
        /// Who wrote it.
        found: EngineKind,
        /// Who was to open it.
        wanted: EngineKind,
    },
    /// The data is gone though the marker is there.
    #[error(
        "{} has lost its data; do not start this node empty under its old id: replace it by a new one (`trine cluster replace`)",
        path.display()
    )]
    Emptied {
        /// The directory.
        path: PathBuf,
    },
    /// This binary was built without it.
    #[error(
        "this binary has no rocksdb engine; use one built with `--features rocksdb`, or set engine = \"embedded\" for a new node"
    )]
    NotBuilt,
    /// The engine could not open its files.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

fn advice(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::PermissionDenied => "; give the node's user read and write access to it",
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "; free some space there and start the node again"
        }
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            "; name a directory, or a path that does not exist yet"
        }
        _ => "",
    }
}

/// Opens the data directory `dir`, making it if it is missing or empty.
///
/// The directory is locked until the last clone of the disk is dropped. Blocks
/// while files are read: after a crash the engine checks them all.
///
/// # Errors
/// [`OpenError`] says what is wrong with the directory and what to do; nothing
/// in it has been changed then.
pub fn open(dir: &Path, engine: EngineKind) -> Result<Arc<dyn Disk>, OpenError> {
    if !engine.is_built() {
        return Err(OpenError::NotBuilt);
    }
    make_directory(dir)?;
    if !dir.join("engine").exists() {
        refuse_foreign(dir)?;
    }
    let lock = lock(dir)?;
    let data = dir.join("data");
    match read_marker(dir)? {
        Some(found) if found != engine => {
            return Err(OpenError::OtherEngine { path: dir.to_owned(), found, wanted: engine });
        }
        Some(_) if !data.is_dir() => return Err(OpenError::Emptied { path: dir.to_owned() }),
        Some(_) => {}
        None => {
            make_directory(&data)?;
            write_marker(dir, engine)?;
        }
    }
    let disk: Arc<dyn Disk> = match engine {
        EngineKind::Embedded => Arc::new(Threaded::start(&data, Embedded::open(&data)?, lock)?),
        #[cfg(feature = "rocksdb")]
        EngineKind::RocksDb => {
            Arc::new(Threaded::start(&data, super::rocks::Rocks::open(&data)?, lock)?)
        }
        #[cfg(not(feature = "rocksdb"))]
        EngineKind::RocksDb => return Err(OpenError::NotBuilt),
    };
    // The engine has made its files; their names must survive as well.
    sync_directory(&data)?;
    Ok(disk)
}

/// Makes `path` and its missing parents, each durable in its own parent.
fn make_directory(path: &Path) -> Result<(), OpenError> {
    let mut missing: Vec<&Path> = path.ancestors().take_while(|path| !path.is_dir()).collect();
    // A relative path ends in the empty one, which is here.
    missing.retain(|path| !path.as_os_str().is_empty());
    while let Some(next) = missing.pop() {
        std::fs::create_dir(next).map_err(io_error("make the directory", next))?;
        let parent = next.parent().filter(|parent| !parent.as_os_str().is_empty());
        sync_directory(parent.unwrap_or(Path::new(".")))?;
    }
    Ok(())
}

/// Refuses a directory without a marker that holds anything but what a first
/// start leaves when it is cut short.
fn refuse_foreign(dir: &Path) -> Result<(), OpenError> {
    for entry in std::fs::read_dir(dir).map_err(io_error("list", dir))? {
        let entry = entry.map_err(io_error("list", dir))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let ours = match name.as_str() {
            "lock" | "engine.part" => true,
            // Made by enrolling before the first start, or put back before a
            // restore, so that the node's shares open again.
            "container" | "container.part" | "container.pem" => true,
            "data" => {
                std::fs::read_dir(entry.path()).is_ok_and(|mut inside| inside.next().is_none())
            }
            _ => false,
        };
        if !ours {
            return Err(OpenError::Foreign { path: dir.to_owned(), found: name });
        }
    }
    Ok(())
}

fn lock(dir: &Path) -> Result<File, OpenError> {
    let path = dir.join("lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(io_error("open", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked { path: dir.to_owned() }),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { action: "lock", path, source }),
    }
}

fn read_marker(dir: &Path) -> Result<Option<EngineKind>, OpenError> {
    let path = dir.join("engine");
    let text = match std::fs::read(&path) {
        Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(source) => return Err(OpenError::Io { action: "read", path, source }),
    };
    let words: Vec<&str> = text.split_whitespace().collect();
    let ["trine", layout, rest @ ..] = words.as_slice() else {
        return Err(OpenError::Marker { path });
    };
    match (layout.parse(), rest) {
        (Ok(LAYOUT), [engine]) => engine.parse().map(Some).map_err(|_| OpenError::Marker { path }),
        (Ok(found), _) if found > LAYOUT => Err(OpenError::Layout { path: dir.to_owned(), found }),
        _ => Err(OpenError::Marker { path }),
    }
}

fn write_marker(dir: &Path, engine: EngineKind) -> Result<(), OpenError> {
    let (part, path) = (dir.join("engine.part"), dir.join("engine"));
    let mut file = File::create(&part).map_err(io_error("write", &part))?;
    file.write_all(format!("trine {LAYOUT} {engine}\n").as_bytes())
        .and_then(|()| file.sync_all())
        .map_err(io_error("write", &part))?;
    std::fs::rename(&part, &path).map_err(io_error("write", &path))?;
    sync_directory(dir)
}

fn sync_directory(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|dir| dir.sync_all()).map_err(io_error("sync the directory", path))
}

fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = path.to_owned();
    move |source| OpenError::Io { action, path, source }
}
