//! `trine pki revoke` and `trine pki revoked`: shutting certificates out.

use std::path::{Path, PathBuf};

use clap::Args;
use license::product::WallTime;
use pki::{Fingerprint, Role};
use serde::Serialize;
use trine_client::Endpoint;
use wire::v1;

use super::shelf::{self, Filed};
use crate::context::{Credential, Purpose};
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};
use crate::verb::Call;

/// Revoke certificates, at once and on all nodes
///
/// The cluster refuses them from now on: new connections, and the next call on
/// those that stand. A NAME means every certificate of that name in the CA's
/// directory, with those that renewals replaced and those that have expired: a
/// node whose clock is behind would let these in still. A FILE means the one in
/// it. Seats that a revoked application holds end at their deadline. There is no
/// way back but a new certificate.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki revoke operator-alice
  trine pki revoke application-render-farm --superseded    after `trine pki renew`
  trine pki revoke --again --dir pki                       after `trine cluster restore`
  trine pki revoke found-on-a-laptop.pem --yes")]
pub(super) struct Revoke {
    /// A name, as `trine pki list` shows it, or a certificate file (PEM)
    #[arg(value_name = "NAME|FILE", required_unless_present = "again", conflicts_with = "again")]
    which: Option<PathBuf>,
    /// All that were revoked from the directory before: a restored cluster does not
    /// know what was revoked after its backup was taken
    #[arg(long, conflicts_with = "superseded")]
    again: bool,
    /// Only those that a renewal replaced
    #[arg(long)]
    superseded: bool,
    /// The CA's directory
    #[arg(long, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
    /// Do not ask, though a node or the last operator may be cut off
    #[arg(long)]
    yes: bool,
}

/// List the certificates that the cluster refuses
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki revoked
  trine --json pki revoked")]
pub(super) struct Revoked {}

/// `trine pki revoke --json` and `trine pki revoked --json`
#[derive(Debug, Serialize)]
struct Report {
    /// By fingerprint, or in the order they were revoked.
    revoked: Vec<Row>,
}

#[derive(Debug, Serialize)]
struct Row {
    /// Whom it speaks for: app:NAME, op:NAME or node-N.
    subject: String,
    /// RFC 3339.
    expires: String,
    /// The operator, as op:NAME.
    revoked_by: String,
    /// SHA-256 of the certificate (DER).
    fingerprint: String,
}

impl From<v1::RevokedCertificate> for Row {
    fn from(revoked: v1::RevokedCertificate) -> Self {
        Self {
            subject: revoked.subject,
            expires: show_date(WallTime(revoked.expires_ms)),
            revoked_by: revoked.revoked_by,
            fingerprint: revoked.fingerprint,
        }
    }
}

impl Revoked {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Operator).await?;
            let listed = connection.operator().list_revoked().await;
            let listed = listed.map_err(|error| connection.unread(&error))?;
            let revoked = listed.certificates.into_iter().map(Row::from).collect();
            show(call, Report { revoked }, "No certificate is revoked.")
        })
    }
}

impl Revoke {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let mut chosen = self.chosen()?;
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Operator).await?;
            let own = own_certificate(&connection);
            // One's own last: nothing can be revoked with it afterwards.
            chosen.sort_by_key(|filed| Some(filed.certificate.fingerprint) == own);
            if self.again {
                self.tell_missing(call, &chosen)?;
            }
            if !self.yes {
                let mut consequences = Vec::new();
                for filed in &chosen {
                    consequences.extend(self.consequence(filed, &chosen, own, &connection).await?);
                }
                if !consequences.is_empty() {
                    confirm(call, &consequences)?;
                }
            }
            let mut revoked = Vec::new();
            for filed in chosen {
                let der = filed.certificate.der.to_vec();
                let reply = connection.operator().revoke_certificate(der).await;
                let reply = reply.map_err(|error| connection.failed(&error))?;
                revoked.extend(reply.revoked.map(Row::from));
                if self.dir.is_dir()
                    && let Err(failure) = shelf::note_revoked(&self.dir, &filed)
                {
                    call.console.note(format_args!("it is revoked, and not noted here: {failure}"));
                }
            }
            show(call, Report { revoked }, "Nothing was revoked.")
        })
    }

    /// Some were revoked by their file, and that was not in the directory.
    fn tell_missing(&self, call: &Call, chosen: &[Filed]) -> Result<(), Failure> {
        let mut missing = shelf::revoked(&self.dir)?;
        for filed in chosen {
            missing.remove(&filed.certificate.fingerprint.to_string());
        }
        for fingerprint in missing {
            call.console.note(format_args!(
                "{fingerprint} was revoked by its file, which is not here: give that once more"
            ));
        }
        Ok(())
    }

    fn chosen(&self) -> Result<Vec<Filed>, Failure> {
        let Some(which) = &self.which else {
            let mut filed = shelf::all(&self.dir)?;
            filed.retain(|filed| filed.revoked);
            return Ok(filed);
        };
        if which.is_file() && !self.superseded {
            let name = which.display().to_string();
            return Ok(vec![shelf::read(which, name, false)?]);
        }
        let name = which.to_string_lossy();
        let mut filed = shelf::all(&self.dir)?;
        filed.retain(|filed| filed.name == name && (filed.superseded || !self.superseded));
        if filed.is_empty() {
            let what = if self.superseded { "replaced certificate of" } else { "certificate" };
            return Err(Failure::usage(format!(
                "there is no {what} {name} in {}",
                self.dir.display()
            ))
            .next("see `trine pki list --all` for the names, or give the certificate's file"));
        }
        Ok(filed)
    }

    /// What revoking this one would cut off, if that is more than its holder.
    async fn consequence(
        &self,
        filed: &Filed,
        chosen: &[Filed],
        own: Option<Fingerprint>,
        connection: &Connection,
    ) -> Result<Option<String>, Failure> {
        let fingerprint = filed.certificate.fingerprint;
        let Ok(identity) = &filed.certificate.identity else { return Ok(None) };
        match identity.role() {
            Role::Application => Ok(None),
            Role::Operator if own == Some(fingerprint) => Ok(Some(format!(
                "{identity} is whom this command speaks for: nothing more can be done with this certificate"
            ))),
            Role::Operator => {
                let known = self.dir.is_dir() && {
                    let others = shelf::all(&self.dir)?;
                    others.iter().any(|other| {
                        let is_operator = other
                            .certificate
                            .identity
                            .as_ref()
                            .is_ok_and(|identity| identity.role() == Role::Operator);
                        is_operator
                            && !chosen.iter().any(|one| one.certificate == other.certificate)
                    })
                };
                let is_last = own.is_none() && !known;
                Ok(is_last.then(|| {
                    format!(
                        "no other operator's certificate is known here: if {identity} is the last, nobody can run the cluster until another is issued"
                    )
                }))
            }
            Role::Peer => {
                let shows = shown_by(identity, fingerprint, connection).await?;
                let what = match shows {
                    Some(false) => return Ok(None),
                    Some(true) => "shows this certificate now",
                    None => "could not be asked whether it shows this certificate",
                };
                Ok(Some(format!(
                    "{} {what}: the others hear it no more, and the cluster runs on those that are left (renew it first and put the files in place, then revoke with --superseded)",
                    identity.name()
                )))
            }
        }
    }
}

/// Whether that node shows that certificate; `None` if it cannot be asked.
async fn shown_by(
    identity: &pki::Identity,
    fingerprint: Fingerprint,
    connection: &Connection,
) -> Result<Option<bool>, Failure> {
    let status = connection.operator().status().await;
    let status = status.map_err(|error| connection.unread(&error))?;
    let Some(node) = status.nodes.into_iter().find(|node| Some(node.id) == identity.node_id())
    else {
        return Ok(Some(false));
    };
    let Ok(endpoint) = Endpoint::parse(&node.client_address) else { return Ok(None) };
    let said = connection.operator().at(endpoint).node_status().await.ok();
    let fingerprint = fingerprint.to_string();
    Ok(said.map(|said| said.certificates.iter().any(|one| one.fingerprint == fingerprint)))
}

/// The certificate that this command itself shows.
fn own_certificate(connection: &Connection) -> Option<Fingerprint> {
    let Credential::Certificate(pair) = &connection.target.credential else { return None };
    let own = shelf::read(Path::new(&pair.cert), String::new(), false).ok()?;
    Some(own.certificate.fingerprint)
}

fn confirm(call: &Call, consequences: &[String]) -> Result<(), Failure> {
    let question = format!("{}.\nRevoke all the same?", consequences.join("; "));
    call.console.confirm(&question, "add --yes if that is meant")
}

fn show(call: &Call, report: Report, none: &str) -> Result<Exit, Failure> {
    call.console.result(&report, |page| {
        if report.revoked.is_empty() {
            return page.line(none);
        }
        let row = |row: &Row| {
            vec![
                row.subject.clone(),
                row.expires.clone(),
                row.revoked_by.clone(),
                row.fingerprint[..row.fingerprint.len().min(16)].to_owned(),
            ]
        };
        page.table(
            &["revoked", "would expire", "revoked by", "fingerprint"],
            report.revoked.iter().map(row),
        );
    })?;
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pki::{Authority, UnixTime, Validity};

    use super::*;

    /// A node goes by its own clock or the cluster's date, and either may be behind.
    #[test]
    fn a_name_means_its_expired_certificates_too() {
        let dir = tempfile::tempdir().expect("a directory");
        let long_ago = UnixTime::since_unix_epoch(Duration::from_secs(1_000_000));
        let validity = Validity::starting(long_ago, Duration::from_secs(60));
        let authority = Authority::create("Acme", validity).expect("an authority");
        let issued = authority.issue_application("robot", validity).expect("issued");
        let file = dir.path().join("application-robot.pem");
        std::fs::write(file, issued.certificate_pem).expect("written");
        let chosen = |which: &str| {
            let (which, dir) = (Some(which.into()), dir.path().to_owned());
            Revoke { which, superseded: false, again: false, dir, yes: false }.chosen()
        };
        let names = chosen("application-robot").expect("something to revoke").into_iter();
        assert_eq!(names.map(|filed| filed.name).collect::<Vec<_>>(), ["application-robot"]);
        assert!(chosen("application-press").is_err());
    }
}
