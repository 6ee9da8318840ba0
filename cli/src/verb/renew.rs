//! `trine renew`: one lease's deadline, moved on by hand.

use clap::Args;
use serde::Serialize;
use trine_client::{LeaseId, Ticket};

use super::Call;
use crate::context::Purpose;
use crate::dates::show_millis;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// Renew a seat that `trine acquire` took
///
/// Moves its deadline on by its own time to live. A seat that has ended is not
/// revived: exit code 3 says to take a new one.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine renew 7f3a09c2d4e1485bb02c6f1e9d8a7b65 --token 42")]
pub struct Renew {
    /// The lease id, as `trine acquire` printed it
    lease: LeaseId,
    /// The token, as `trine acquire` printed it
    #[arg(long)]
    token: u64,
}

/// `trine renew --json`
#[derive(Debug, Serialize)]
struct Renewed {
    /// The seat.
    token: u64,
    /// Until when, in cluster time (milliseconds).
    deadline_ms: u64,
    /// How long that was when it was decided, in milliseconds.
    lasts_ms: u64,
    /// Where in history it was renewed: EPOCH.INDEX.POSITION
    log_id: String,
}

impl Renew {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Application).await?;
            let ticket = Ticket { lease: self.lease, token: self.token };
            let renewal = connection.client.renew(ticket).await;
            let renewal = renewal.map_err(|error| connection.failed(&error))?;
            let renewed = Renewed {
                token: self.token,
                deadline_ms: renewal.deadline_ms,
                lasts_ms: u64::try_from(renewal.lasts.as_millis()).unwrap_or(u64::MAX),
                log_id: renewal.at.to_string(),
            };
            call.console.result(&renewed, |page| {
                page.line(format_args!(
                    "Seat {} lives another {}",
                    renewed.token,
                    show_millis(renewed.lasts_ms)
                ));
            })?;
            Ok(Exit::Done)
        })
    }
}
