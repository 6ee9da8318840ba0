//! The seal between a node's container and this host.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use license::container::Container;
use license::hostseal::{Opened, OtherHost, SealRefusal, SealedContainer};
use license::traits::{Tolerance, Traits};

use super::{HostError, container, traits};
use crate::config::Config;
use crate::entropy::{Entropy, EntropyRng};

/// What containers are sealed to here, and how tightly.
pub(super) struct Host {
    traits: Traits,
    tolerance: Tolerance,
}

impl Host {
    /// This host, with the key file that `config` names.
    pub(super) fn of(config: &Config) -> Result<Self, HostError> {
        let key =
            config.container_key().map_err(|wrong| HostError::Config { wrong: vec![wrong] })?;
        let traits = traits::gather(Path::new("/"), key.as_deref());
        Ok(Self { traits, tolerance: config.container.tolerance })
    }

    /// Opens the sealed container that was read from `path`.
    pub(super) fn open(&self, path: &Path, file: &[u8]) -> Result<Opened, HostError> {
        let sealed = decode(path, file)?;
        sealed.open(&self.traits).map_err(|refusal| match refusal {
            SealRefusal::OtherHost(other) => HostError::OtherHost { path: path.to_owned(), other },
            damaged @ SealRefusal::Damaged => failed(path, damaged.to_string()),
        })
    }

    /// Seals what was opened to this host as it is today, if it has changed.
    pub(super) fn renew(
        &self,
        path: &Path,
        opened: &Opened,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<(), HostError> {
        let Opened { container, gone, new, tolerance } = opened;
        if !gone.is_empty() {
            tracing::warn!(
                gone = gone.join(", "),
                new = new.join(", "),
                "the host has changed; the container is sealed to it as it is today"
            );
        }
        if gone.is_empty() && new.is_empty() && *tolerance == self.tolerance {
            return Ok(());
        }
        self.seal(path, container, entropy)
    }

    /// Seals `container` to this host, in the place of what was at `path`.
    pub(super) fn seal(
        &self,
        path: &Path,
        container: &Container,
        entropy: &Arc<dyn Entropy>,
    ) -> Result<(), HostError> {
        if self.traits.weight() == 0 {
            tracing::warn!(
                "this host shows nothing that the container could be sealed to, so a copy of the data directory opens anywhere; name a key file in the configuration (container.key_file)"
            );
        }
        let rng = &mut EntropyRng(entropy.clone());
        let sealed = SealedContainer::seal(container, &self.traits, self.tolerance, rng);
        let sealed = sealed.ok_or_else(|| {
            failed(path, "it cannot be sealed: the system's randomness is broken".to_owned())
        })?;
        container::keep(path, &sealed.encode()).map_err(|error| {
            let advice = "see to space and permissions there and start the node again";
            failed(path, format!("cannot write it: {error}; {advice}"))
        })
    }
}

/// What this host shows, and what a node's container is sealed to.
#[derive(Debug)]
pub struct Seal {
    /// What the host shows now.
    pub traits: Traits,
    /// How much of it may change, as configured.
    pub tolerance: Tolerance,
    /// The node's container, if it has one, and how the host stands to it.
    pub container: Option<(SealedContainer, Standing)>,
}

/// How a host stands to a container.
#[derive(Debug)]
pub struct Standing {
    /// Whether it opens here.
    pub opens: bool,
    /// What it was sealed to and is not there.
    pub gone: Vec<String>,
    /// What is there and it was not sealed to.
    pub new: Vec<String>,
}

/// Looks at the host that `config` is for, and changes nothing.
///
/// # Errors
/// [`HostError`] when the key file or the container cannot be read.
pub fn look(config: &Config) -> Result<Seal, HostError> {
    let Host { traits, tolerance } = Host::of(config)?;
    let path = container::file(&config.data);
    let container = match fs::read(&path) {
        Ok(bytes) => {
            let sealed = decode(&path, &bytes)?;
            let standing = match sealed.open(&traits) {
                Ok(Opened { gone, new, .. }) => Standing { opens: true, gone, new },
                Err(SealRefusal::OtherHost(OtherHost { gone, new, .. })) => {
                    Standing { opens: false, gone, new }
                }
                Err(damaged) => return Err(failed(&path, damaged.to_string())),
            };
            Some((sealed, standing))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(failed(&path, error.to_string())),
    };
    Ok(Seal { traits, tolerance, container })
}

fn decode(path: &Path, file: &[u8]) -> Result<SealedContainer, HostError> {
    SealedContainer::decode(file)
        .map_err(|error| failed(path, format!("{error}; restore it from this node's own backup")))
}

fn failed(path: &Path, reason: String) -> HostError {
    HostError::Container { path: PathBuf::from(path), reason }
}
