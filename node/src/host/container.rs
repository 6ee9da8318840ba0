//! The node's container on this machine's disk: made once, kept for ever,
//! sealed to the host.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use license::container::Container;
use license::hostseal::Opened;
use license::product::{ActId, NodeId};
use pki::{Ca, Pem};

use super::HostError;
use super::seal::Host;
use crate::enrollment::Enrolled;
use crate::entropy::{Entropy, EntropyRng};
use crate::store::{Disk, OpenError, keys};

/// The act id that three containers have in common when their cluster is
/// formed: three nodes that never spoke agree on it, because they have the CA
/// in common. A node that joins later is told it (`act` in the configuration),
/// since the cluster may have rotated its CA by then.
pub(super) fn first_act(ca: &Ca) -> ActId {
    let [a, b, c, d, ..] = ca.digest();
    ActId(u32::from_be_bytes([a, b, c, d]))
}

/// The node's container, made at its first start: whoever makes it has the
/// data directory's `disk` open, and so to itself.
pub(super) async fn open(
    data: &Path,
    act: ActId,
    disk: &dyn Disk,
    host: &Host,
    entropy: &Arc<dyn Entropy>,
) -> Result<Container, HostError> {
    let path = file(data);
    if let Some(opened) = read(data, host)? {
        host.renew(&path, &opened, entropy)?;
        return Ok(opened.container);
    }
    let failed = |reason: String| HostError::Container { path: path.clone(), reason };
    let has_voted = disk.get(keys::vote()).await.map_err(OpenError::from)?.is_some();
    // A node that has voted had one, and its shares are sealed to it.
    if has_voted {
        let gone =
            "it is gone, though the log beside it is not; restore it from this node's own backup";
        return Err(failed(gone.to_owned()));
    }
    let container = Container::create(act, &mut EntropyRng(entropy.clone()));
    host.seal(&path, &container, entropy)?;
    Ok(container)
}

/// The node's container, if it was made, as its host opens it.
pub(super) fn read(data: &Path, host: &Host) -> Result<Option<Opened>, HostError> {
    let path = file(data);
    match fs::read(&path) {
        Ok(bytes) => host.open(&path, &bytes).map(Some),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(HostError::Container { path, reason: error.to_string() }),
    }
}

/// Where the container of a data directory lies.
pub(super) fn file(data: &Path) -> PathBuf {
    data.join("container")
}

/// The file with the certificates that vouch for the container.
pub(super) struct ChainFile(pub(super) PathBuf);

impl ChainFile {
    /// Tells the operator, once, of a node that no cluster is formed with.
    pub(super) fn warn_if_absent(&self, node: NodeId) {
        if !self.0.exists() {
            let file = self.0.display();
            tracing::warn!(%node, %file, "this node is not enrolled: run `trine node enroll` here, then `trine pki enroll` where the CA's key is");
        }
    }
}

impl Enrolled for ChainFile {
    fn chain(&self) -> Result<Vec<Vec<u8>>, String> {
        let name = self.0.display().to_string();
        match fs::read(&self.0) {
            Ok(bytes) => pki::container_chain(Pem::new(&name, &bytes)).map_err(|e| e.to_string()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(format!("cannot read {name}: {error}")),
        }
    }
}

/// Writes a secret file so that after a crash it is there whole or not at all.
pub(super) fn keep(path: &Path, bytes: &[u8]) -> io::Result<()> {
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
