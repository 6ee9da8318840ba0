//! `trine pki enroll`: certificates for nodes' containers.

use std::path::{Path, PathBuf};

use clap::Args;
use license::enrollment::EnrollmentRequest;
use pki::{Authority, ContainerSubject};
use serde::Serialize;

use super::{Call, open_authority, validity};
use crate::console::Tone;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::vendor_dir::FILE_BYTES_MAX;
use crate::world::World;

/// Certify the containers of nodes that ask for it
///
/// Compare each fingerprint with the one that `trine node enroll` showed on the
/// node: the vendor relies on the CA's word that these are the nodes' containers.
/// Writes node-ID.container.pem, which belongs on the node, where its
/// configuration says (tls.container).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki enroll --dir pki node-1.enroll node-2.enroll node-3.enroll")]
pub(super) struct Enroll {
    /// What `trine node enroll` wrote on each node
    #[arg(required = true, value_name = "REQUEST")]
    requests: Vec<PathBuf>,
    /// The CA's directory
    #[arg(long, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
    /// How long the certificates are valid
    #[arg(long, default_value_t = DAYS, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// Replace files that are already there
    #[arg(long)]
    force: bool,
}

/// A container lives as long as its node, and nobody is let in by its certificate.
const DAYS: u32 = 3_650;

/// `trine pki enroll --json`
#[derive(Debug, Serialize)]
struct Enrolled {
    /// In the order of the requests.
    containers: Vec<Certified>,
}

#[derive(Debug, Serialize)]
struct Certified {
    /// The node.
    node: u64,
    /// Its container, 130-…
    container: String,
    /// Of the container's key, to compare with the node.
    fingerprint: String,
    /// The certificate and the CA's, PEM.
    certificate: PathBuf,
}

impl Enroll {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let authority = open_authority(&self.dir)?;
        let requests = self.requests.iter().map(|path| read(path));
        let requests = requests.collect::<Result<Vec<_>, _>>()?;
        let existing = Existing::forced(self.force);
        // None is written unless all can be.
        for request in &requests {
            files::must_be_new("certificate", &file(&self.dir, request), existing)?;
        }
        let certify = |request: &EnrollmentRequest| {
            let path = certify(&authority, &self.dir, request, self.days, existing, &call.world)?;
            Ok(Certified {
                node: request.node().0,
                container: request.container().serial().to_string(),
                fingerprint: request.container().key().fingerprint(),
                certificate: path,
            })
        };
        let containers = requests.iter().map(certify).collect::<Result<Vec<_>, Failure>>()?;
        let enrolled = Enrolled { containers };
        call.console.result(&enrolled, |page| {
            let title = page.tone(Tone::Strong, "Certified; compare with the nodes:");
            page.line(title);
            let row = |one: &Certified| {
                vec![
                    format!("node-{}", one.node),
                    one.container.clone(),
                    one.fingerprint.clone(),
                    one.certificate.display().to_string(),
                ]
            };
            page.table(
                &["node", "container", "fingerprint", "certificate"],
                enrolled.containers.iter().map(row),
            );
        })?;
        Ok(Exit::Done)
    }
}

fn read(path: &Path) -> Result<EnrollmentRequest, Failure> {
    let bytes = files::read("enrollment request", path, FILE_BYTES_MAX)?;
    EnrollmentRequest::decode(&bytes)
        .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

fn file(dir: &Path, request: &EnrollmentRequest) -> PathBuf {
    dir.join(format!("node-{}.container.pem", request.node().0))
}

/// Certifies one container into `dir`; gives the file.
pub fn certify(
    authority: &Authority,
    dir: &Path,
    request: &EnrollmentRequest,
    days: u32,
    existing: Existing,
    world: &World,
) -> Result<PathBuf, Failure> {
    let container = request.container();
    let (serial, key) = (container.serial().to_string(), container.key().to_spki_der());
    let subject = ContainerSubject { node: request.node().0, serial: &serial, key: &key };
    let chain =
        authority.certify_container(&subject, validity(days, world)).map_err(Failure::usage)?;
    let path = file(dir, request);
    files::write("certificate", &path, chain.as_bytes(), Access::Shared, existing)?;
    Ok(path)
}
