//! `trine node enroll`: what a node asks of the cluster CA.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use license::enrollment::EnrollmentRequest;
use node::config::Config;
use node::entropy::Entropy;
use node::host::{self, HostError};
use serde::Serialize;

use super::{Call, SystemEntropy};
use crate::console::Tone;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};

/// Ask the cluster CA to certify this node's container
///
/// Run it on the node, before its first start or any time later, as the user
/// that the node's service runs as: what is made in the data directory has to be
/// that user's. The container holds the node's secret identity, which shares of
/// licenses are sealed to; it is made if it is not there. What is written is not secret: carry it to where
/// the CA's key is, answer it there with `trine pki enroll`, and put the answer
/// where the configuration says (tls.container).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine node enroll --config node.toml
  trine node enroll --config /etc/trine/node.toml -o /tmp/node-1.enroll

Under systemd: sudo -u trine trine node enroll ...")]
pub(super) struct Enroll {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// Where to write the request [default: node-ID.enroll]
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// `trine node enroll --json`
#[derive(Debug, Serialize)]
struct Asked {
    /// The node.
    node: u64,
    /// Its container, 130-…
    container: String,
    /// What the containers of its cluster have in common.
    activation_id: u32,
    /// Of the container's key, to compare where the request is answered.
    fingerprint: String,
    /// The file written.
    request: PathBuf,
    /// Where the answer belongs.
    certificate: PathBuf,
}

impl Enroll {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let config = Config::load(&self.config).map_err(Failure::usage)?;
        let existing = Existing::forced(self.force);
        let output = self.output.unwrap_or_else(|| format!("node-{}.enroll", config.id.0).into());
        files::must_be_new("enrollment request", &output, existing)?;
        let request = crate::online::runtime()?.block_on(ask(&config))?;
        let bytes = request.encode();
        files::write("enrollment request", &output, &bytes, Access::Shared, existing)?;
        let foreign_owner = foreign_owner(&config);
        let asked = Asked {
            node: request.node().0,
            container: request.container().serial().to_string(),
            activation_id: request.container().act().0,
            fingerprint: request.container().key().fingerprint(),
            request: output,
            certificate: config.tls.container.clone(),
        };
        call.console.result(&asked, |page| {
            let title = format!("node-{} asks for a certificate of its container", asked.node);
            let title = page.tone(Tone::Strong, &title);
            page.line(title);
            page.facts(&[
                ("container", asked.container.clone()),
                ("activation id", asked.activation_id.to_string()),
                ("fingerprint", format!("{}  (compare it there)", asked.fingerprint)),
                ("request", format!("{}  (not secret)", asked.request.display())),
            ]);
            page.line(format_args!(
                "Answer it where the CA's key is with `trine pki enroll`, and put the answer at {}",
                asked.certificate.display()
            ));
        })?;
        if let Some((what, user)) = foreign_owner {
            call.console.note(format_args!(
                "warning: the container is root's, and {} is user {user}'s. If the node's service \
                 runs as that user, it cannot open it: `chown -R {user}: {}`, and run this as that \
                 user from now on: `sudo -u '#{user}' trine node enroll --config {}`",
                what.display(),
                config.data.display(),
                self.config.display()
            ));
        }
        Ok(Exit::Done)
    }
}

/// What of the node's files is another user's than root's, and whose, if the
/// container is root's: the service will hardly run as root then.
fn foreign_owner(config: &Config) -> Option<(PathBuf, u32)> {
    let owner = |path: &Path| fs::metadata(path).ok().map(|file| file.uid());
    if owner(&config.data.join("container"))? != 0 {
        return None;
    }
    let files = [Some(&*config.data), config.data.parent(), Some(&*config.tls.client.key)];
    let mut files = files.into_iter().flatten();
    files.find_map(|path| owner(path).filter(|user| *user != 0).map(|user| (path.to_owned(), user)))
}

/// The request of the node that `config` describes.
pub async fn ask(config: &Config) -> Result<EnrollmentRequest, Failure> {
    let entropy: Arc<dyn Entropy> = Arc::new(SystemEntropy);
    host::enroll(config, &entropy).await.map_err(|error| match error {
        HostError::Config { .. } => Failure::usage(error),
        _ => Failure::failed(error),
    })
}
