//! `trine pki`: a small cluster CA and the certificates it signs.

mod enroll;
mod list;
mod renew;
mod revoke;
mod shelf;

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand};
use pki::{Authority, Issued, Pem, UnixTime, Validity};
use serde::Serialize;

use super::Call;
use crate::console::Tone;
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::world::World;
use license::product::WallTime;

pub use enroll::certify;

/// Make a cluster CA and its certificates, renew them, revoke them
///
/// Nodes, operators and applications prove who they are by certificates of one
/// cluster CA. This makes a small one in a directory; keys are readable by their
/// owner only. An organization with a CA of its own may issue the same PEM files
/// itself: each certificate carries one URI, trine://peer/node-N,
/// trine://application/NAME or trine://operator/NAME.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki init --dir pki --name \"ACME Trine CA\"
  trine pki issue node 1 --dir pki --san node1.acme.example --san 10.0.0.11
  trine pki issue application render-farm --dir pki
  trine pki issue operator alice --dir pki --days 90
  trine pki list --dir pki --expiring-within 30d
  trine pki renew --dir pki --expiring-within 30d
  trine pki revoke operator-alice --dir pki")]
pub struct Pki {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Init(Init),
    Issue(Issue),
    Enroll(enroll::Enroll),
    List(list::List),
    Renew(renew::Renew),
    Revoke(revoke::Revoke),
    Revoked(revoke::Revoked),
}

/// Make the cluster CA: ca.pem to hand out, ca.key to lock away
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki init
  trine pki init --dir /secure/pki --name \"ACME Trine CA\" --days 3650")]
struct Init {
    #[command(flatten)]
    place: Place,
    /// The CA's name, shown in its certificate
    #[arg(long, default_value = "Trine cluster CA")]
    name: String,
    /// How long the CA is valid
    #[arg(long, default_value_t = 3650, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
}

/// Issue one certificate and its key
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki issue node 1 --san node1.acme.example --san 10.0.0.11
  trine pki issue application render-farm
  trine pki issue operator alice --days 90")]
struct Issue {
    #[command(subcommand)]
    whom: Whom,
}

#[derive(Debug, Subcommand)]
enum Whom {
    /// For a server of the cluster: writes node-ID.pem and node-ID.key
    #[command(after_help = "\
Examples:
  trine pki issue node 1 --san node1.acme.example --san 10.0.0.11")]
    Node {
        /// The node's id, as in its configuration
        #[arg(value_parser = clap::value_parser!(u64).range(1..))]
        id: u64,
        /// A DNS name or IP address it is reached by; may be repeated
        #[arg(long, value_name = "HOST")]
        san: Vec<String>,
        #[command(flatten)]
        terms: IssueTerms,
    },
    /// For a program that takes seats: writes application-NAME.pem and .key
    #[command(after_help = "\
Examples:
  trine pki issue application render-farm --days 365")]
    Application {
        /// Its name: 1 to 120 letters, digits and -._~!$&'()*+,;=:@
        name: String,
        #[command(flatten)]
        terms: IssueTerms,
    },
    /// For a person or tool that runs the cluster: writes operator-NAME.pem and .key
    #[command(after_help = "\
Examples:
  trine pki issue operator alice --days 90")]
    Operator {
        /// Its name: 1 to 120 letters, digits and -._~!$&'()*+,;=:@
        name: String,
        #[command(flatten)]
        terms: IssueTerms,
    },
}

#[derive(Debug, Args)]
struct IssueTerms {
    /// How long it is valid
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
struct Place {
    /// The CA's directory
    #[arg(long, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
    /// Replace files that are already there
    #[arg(long)]
    force: bool,
}

/// `trine pki … --json`
#[derive(Debug, Serialize)]
struct Written {
    /// `authority`, or whom it speaks for: `trine://ROLE/NAME`.
    identity: String,
    /// Path of the certificate, PEM.
    certificate: PathBuf,
    /// Path of the private key, PEM.
    key: PathBuf,
    /// Its last second, RFC 3339.
    expires: String,
    /// Of the CA, as people compare it everywhere.
    ca_fingerprint: String,
}

impl Pki {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let written = match self.action {
            Action::Init(init) => init.run(&call.world)?,
            Action::Issue(issue) => issue.run(&call.world)?,
            Action::Enroll(enroll) => return enroll.run(call),
            Action::List(list) => return list.run(call),
            Action::Renew(renew) => return renew.run(call),
            Action::Revoke(revoke) => return revoke.run(call),
            Action::Revoked(revoked) => return revoked.run(call),
        };
        call.console.result(&written, |page| {
            let title = format!("Issued {} until {}", written.identity, written.expires);
            let title = page.tone(Tone::Strong, &title);
            page.line(title);
            page.facts(&[
                ("certificate", written.certificate.display().to_string()),
                ("key", format!("{}  (keep secret)", written.key.display())),
                ("CA fingerprint", written.ca_fingerprint.clone()),
            ]);
        })?;
        Ok(Exit::Done)
    }
}

impl Init {
    fn run(self, world: &World) -> Result<Written, Failure> {
        let authority = create_authority(
            &self.place.dir,
            &self.name,
            self.days,
            Existing::forced(self.place.force),
            world,
        )?;
        written(&self.place.dir, "ca", "authority".to_owned(), self.days, &authority, world)
    }
}

impl Issue {
    fn run(self, world: &World) -> Result<Written, Failure> {
        let (request, terms) = match self.whom {
            Whom::Node { id, san, terms } => (Certificate::Node { id, hosts: san }, terms),
            Whom::Application { name, terms } => (Certificate::Application(name), terms),
            Whom::Operator { name, terms } => (Certificate::Operator(name), terms),
        };
        let dir = &terms.place.dir;
        let authority = open_authority(dir)?;
        let existing = Existing::forced(terms.place.force);
        let files = issue(&authority, dir, &request, terms.days, existing, world)?;
        written(dir, &files, request.identity()?, terms.days, &authority, world)
    }
}

/// What a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Certificate {
    /// A server of the cluster, and the hosts it is reached by.
    Node {
        /// Its id.
        id: u64,
        /// DNS names and IP addresses.
        hosts: Vec<String>,
    },
    /// A program that takes seats.
    Application(String),
    /// Someone who runs the cluster.
    Operator(String),
}

impl Certificate {
    fn identity(&self) -> Result<String, Failure> {
        let identity = match self {
            Self::Node { id, .. } => pki::Identity::node(*id),
            Self::Application(name) => pki::Identity::new(pki::Role::Application, name),
            Self::Operator(name) => pki::Identity::new(pki::Role::Operator, name),
        };
        identity.map(|identity| identity.to_string()).map_err(Failure::usage)
    }

    /// What its files are called, without the ending.
    pub fn file_stem(&self) -> String {
        match self {
            Self::Node { id, .. } => format!("node-{id}"),
            Self::Application(name) => format!("application-{name}"),
            Self::Operator(name) => format!("operator-{name}"),
        }
    }
}

/// Makes a CA in `dir`: `ca.pem` and `ca.key`.
pub fn create_authority(
    dir: &Path,
    name: &str,
    days: u32,
    existing: Existing,
    world: &World,
) -> Result<Authority, Failure> {
    let authority = Authority::create(name, validity(days, world)).map_err(Failure::usage)?;
    files::private_dir("CA directory", dir)?;
    write_pair(dir, "ca", authority.pem(), existing)?;
    Ok(authority)
}

/// Reads the CA in `dir`.
pub fn open_authority(dir: &Path) -> Result<Authority, Failure> {
    let (certificate_path, key_path) = (dir.join("ca.pem"), dir.join("ca.key"));
    let hint = "make a CA with `trine pki init`, or name its directory with --dir";
    let certificate = files::read("CA certificate", &certificate_path, PEM_BYTES_MAX)
        .map_err(|failure| failure.next(hint))?;
    let key =
        files::read("CA key", &key_path, PEM_BYTES_MAX).map_err(|failure| failure.next(hint))?;
    Authority::from_pem(
        Pem::new(&certificate_path.to_string_lossy(), &certificate),
        Pem::new(&key_path.to_string_lossy(), &key),
    )
    .map_err(Failure::usage)
}

/// Issues a certificate into `dir`; gives the stem of the two files.
pub fn issue(
    authority: &Authority,
    dir: &Path,
    certificate: &Certificate,
    days: u32,
    existing: Existing,
    world: &World,
) -> Result<String, Failure> {
    let validity = validity(days, world);
    let issued = match certificate {
        Certificate::Node { id, hosts } => {
            let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
            authority.issue_node(*id, &hosts, validity)
        }
        Certificate::Application(name) => authority.issue_application(name, validity),
        Certificate::Operator(name) => authority.issue_operator(name, validity),
    }
    .map_err(Failure::usage)?;
    let stem = certificate.file_stem();
    write_pair(dir, &stem, &issued, existing)?;
    Ok(stem)
}

/// Longest PEM file that is read, in bytes.
const PEM_BYTES_MAX: u64 = 1 << 20;

fn validity(days: u32, world: &World) -> Validity {
    Validity::starting(unix_time(world), Duration::from_secs(u64::from(days) * 24 * 60 * 60))
}

fn unix_time(world: &World) -> UnixTime {
    let millis = u64::try_from(world.wall_time().0).unwrap_or(0);
    UnixTime::since_unix_epoch(Duration::from_millis(millis))
}

fn write_pair(dir: &Path, stem: &str, issued: &Issued, existing: Existing) -> Result<(), Failure> {
    let certificate = dir.join(format!("{stem}.pem"));
    // Neither is written unless both can be: half a pair would be in the way.
    files::must_be_new("certificate", &certificate, existing)?;
    let key = dir.join(format!("{stem}.key"));
    files::write("key", &key, issued.key_pem.as_bytes(), Access::Secret, existing)?;
    files::write(
        "certificate",
        &certificate,
        issued.certificate_pem.as_bytes(),
        Access::Shared,
        existing,
    )
}

fn written(
    dir: &Path,
    stem: &str,
    identity: String,
    days: u32,
    authority: &Authority,
    world: &World,
) -> Result<Written, Failure> {
    let until = validity(days, world).not_after.as_secs();
    let until = i64::try_from(until).unwrap_or(i64::MAX).saturating_mul(1_000);
    Ok(Written {
        identity,
        certificate: dir.join(format!("{stem}.pem")),
        key: dir.join(format!("{stem}.key")),
        expires: show_date(WallTime(until)),
        ca_fingerprint: license::key::fingerprint(&authority.ca().digest()),
    })
}
