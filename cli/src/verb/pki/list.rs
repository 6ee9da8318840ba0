//! `trine pki list`: what the CA issued, and until when it holds.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use license::product::WallTime;
use serde::Serialize;

use super::shelf::{self, Filed, Row};
use crate::console::{Cell, Tone};
use crate::dates::parse_duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::verb::Call;

/// List the certificates in the CA's directory, the soonest to expire first
///
/// Those that were revoked from this directory are shown as such; what the
/// cluster refuses is listed by `trine pki revoked`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine pki list
  trine pki list --dir /secure/pki --expiring-within 30d
  trine --json pki list | jq '.certificates[] | {name, days_left}'

With --expiring-within the exit code is 3 when there is such a certificate, for scripts.")]
pub(super) struct List {
    /// The CA's directory
    #[arg(long, default_value = "pki", value_name = "DIR")]
    dir: PathBuf,
    /// Only those that expire within this time, such as 30d
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    expiring_within: Option<Duration>,
    /// Also those that a renewal replaced
    #[arg(long)]
    all: bool,
}

/// `trine pki list --json`
#[derive(Debug, Serialize)]
struct Listed {
    /// The soonest to expire first.
    certificates: Vec<Row>,
}

/// Whether it ends within `span` of now, or has ended, and was not revoked
/// before.
pub(super) fn ends_within(filed: &Filed, now: WallTime, span: Duration) -> bool {
    let span = i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
    !filed.revoked && filed.expires() <= now.plus_millis(span)
}

impl List {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let now = call.world.wall_time();
        let mut found = shelf::all(&self.dir)?;
        found.retain(|filed| self.all || !filed.superseded);
        if let Some(span) = self.expiring_within {
            found.retain(|filed| ends_within(filed, now, span));
        }
        found.sort_by_key(Filed::expires);
        let certificates: Vec<Row> = found.iter().map(|filed| filed.row(now)).collect();
        let listed = Listed { certificates };
        call.console.result(&listed, |page| {
            if listed.certificates.is_empty() {
                return page.line("No certificate expires within that time.");
            }
            let row = |row: &Row| -> Vec<Cell> {
                let tone = match row.days_left {
                    ..0 => Tone::Bad,
                    0..30 => Tone::Warning,
                    _ => Tone::Good,
                };
                let name = if row.superseded {
                    format!("{} (replaced)", row.name)
                } else {
                    row.name.clone()
                };
                let left = if row.revoked {
                    Cell::toned(Tone::Bad, "revoked")
                } else {
                    Cell::toned(tone, row.days_left.to_string())
                };
                vec![
                    name.into(),
                    row.identity.clone().into(),
                    row.expires.clone().into(),
                    left,
                    row.fingerprint[..16].to_owned().into(),
                ]
            };
            page.table(
                &["name", "identity", "expires", "days left", "fingerprint"],
                listed.certificates.iter().map(row),
            );
        })?;
        let found_some = self.expiring_within.is_some() && !listed.certificates.is_empty();
        Ok(if found_some { Exit::Refused } else { Exit::Done })
    }
}
