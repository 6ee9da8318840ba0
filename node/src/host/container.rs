//! The node's container on this machine's disk: made once, kept for ever.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::sync::Arc;

use license::container::Container;
use license::product::ActId;
use pki::Ca;

use super::HostError;
use crate::entropy::{Entropy, EntropyRng};

/// The act id that three containers have in common when their cluster is
/// formed: three nodes that never spoke agree on it, because they have the CA
/// in common. A node that joins later is told it (`act` in the configuration),
/// since the cluster may have rotated its CA by then.
pub(super) fn first_act(ca: &Ca) -> ActId {
    let [a, b, c, d, ..] = ca.digest();
    ActId(u32::from_be_bytes([a, b, c, d]))
}

/// The node's container, made at its first start.
pub(super) fn open(
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
