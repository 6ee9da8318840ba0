//! `trine pki renew`: the same identity and names, a new key, a later end.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use pki::{Role, Summary};
use serde::Serialize;

use super::list::ends_within;
use super::shelf::{self, Filed};
use super::{Certificate, Written, issue, open_authority, written};
use crate::console::Tone;
use crate::dates::parse_duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::Existing;
use crate::verb::Call;

/// Renew certificates: the same identity and names, until a later date
///
/// Runs where the CA's key is; no cluster is asked. Each gets a new key: nothing
/// is pinned to the old one, and so a key that leaked unnoticed ends to matter.
/// Copy NAME.pem and NAME.key to where they are used; nodes take them within
/// seconds and applications at their next connection, without a restart. The old
/// certificate is good until it expires: `trine pki revoke NAME --superseded`
/// ends it sooner.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki renew node-1 operator-alice
  trine pki renew --expiring-within 30d --dir /secure/pki
  trine pki renew application-render-farm --days 90")]
pub(super) struct Renew {
    /// Names of certificates, as `trine pki list` shows them
    #[arg(value_name = "NAME", required_unless_present = "expiring_within")]
    names: Vec<String>,
    /// All that expire within this time, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration, conflicts_with = "names")]
    expiring_within: Option<Duration>,
    /// How long they are valid, from now
    #[arg(long, default_value_t = 365, value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: u32,
    /// The CA's directory
    #[arg(long, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
}

/// `trine pki renew --json`
#[derive(Debug, Serialize)]
struct Renewed {
    /// In the order they were renewed.
    renewed: Vec<Written>,
}

impl Renew {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let authority = open_authority(&self.dir)?;
        // All are looked at before the first is touched.
        let chosen: Vec<(Filed, Certificate)> = self
            .chosen(call)?
            .into_iter()
            .map(|old| Ok((certificate_of(&old.certificate, &old.name)?, old)))
            .map(|pair: Result<_, Failure>| pair.map(|(certificate, old)| (old, certificate)))
            .collect::<Result<_, _>>()?;
        let mut renewed = Vec::new();
        for (old, certificate) in chosen {
            shelf::keep(&self.dir, &old)?;
            let anew = Existing::Replace;
            let stem = issue(&authority, &self.dir, &certificate, self.days, anew, &call.world)?;
            let identity = certificate.identity()?;
            renewed.push(written(&self.dir, &stem, identity, self.days, &authority, &call.world)?);
        }
        let renewed = Renewed { renewed };
        call.console.result(&renewed, |page| {
            if renewed.renewed.is_empty() {
                return page.line("No certificate expires within that time.");
            }
            for one in &renewed.renewed {
                let title = format!("Renewed {} until {}", one.identity, one.expires);
                let title = page.tone(Tone::Strong, &title);
                page.line(title);
                page.facts(&[
                    ("certificate", one.certificate.display().to_string()),
                    ("key", format!("{}  (new; keep secret)", one.key.display())),
                ]);
            }
            page.line("Copy both files to where they are used; no restart is needed.");
        })?;
        Ok(Exit::Done)
    }

    fn chosen(&self, call: &Call) -> Result<Vec<Filed>, Failure> {
        let mut filed = shelf::all(&self.dir)?;
        filed.retain(|filed| !filed.superseded);
        if let Some(span) = self.expiring_within {
            let now = call.world.wall_time();
            if let Some(ca) = filed
                .iter()
                .find(|filed| filed.certificate.is_authority && ends_within(filed, now, span))
            {
                call.console.note(format_args!(
                    "The CA {} itself expires within that time; it is not renewed here: see \
                     `Rotate the cluster CA` in the runbook.",
                    ca.path.display()
                ));
            }
            // A container's is answered anew by `trine pki enroll`.
            filed.retain(|one| one.certificate.identity.is_ok() && ends_within(one, now, span));
            return Ok(filed);
        }
        let find = |name: &String| {
            filed.iter().find(|filed| filed.name == *name).cloned().ok_or_else(|| {
                Failure::usage(format!(
                    "there is no certificate {name}.pem in {}",
                    self.dir.display()
                ))
                .next("see `trine pki list` for the names, or issue one with `trine pki issue`")
            })
        };
        self.names.iter().map(find).collect()
    }
}

/// What to issue so that it speaks for the same one under the same names.
fn certificate_of(old: &Summary, name: &str) -> Result<Certificate, Failure> {
    let identity = match &old.identity {
        Ok(identity) => identity,
        Err(_) if old.is_authority => {
            return Err(Failure::usage(format!("{name} is the CA itself, which is not renewed"))
                .next("see `Rotate the cluster CA` in the runbook"));
        }
        Err(error) => return Err(Failure::usage(format!("{name}: {error}"))),
    };
    let certificate = match (identity.role(), identity.node_id()) {
        (Role::Peer, Some(id)) => Certificate::Node { id, hosts: old.hosts.clone() },
        (Role::Operator, _) => Certificate::Operator(identity.name().to_owned()),
        _ => Certificate::Application(identity.name().to_owned()),
    };
    if certificate.file_stem() != name {
        return Err(Failure::usage(format!("{name}.pem holds the certificate of {identity}"))
            .next(format!("call the file {}.pem, as it was issued", certificate.file_stem())));
    }
    Ok(certificate)
}
