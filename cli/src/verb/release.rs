//! `trine release`: one seat, given back by hand.

use clap::Args;
use serde::Serialize;
use trine_client::{LeaseId, Ticket};

use super::Call;
use crate::context::Purpose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// Give back a seat that `trine acquire` took
///
/// Giving it back twice is no mistake.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine release 7f3a09c2d4e1485bb02c6f1e9d8a7b65 --token 42")]
pub struct Release {
    /// The lease id, as `trine acquire` printed it
    lease: LeaseId,
    /// The token, as `trine acquire` printed it
    #[arg(long)]
    token: u64,
}

/// `trine release --json`
#[derive(Debug, Serialize)]
struct Released {
    /// The seat.
    token: u64,
    /// Always true.
    released: bool,
}

impl Release {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Application).await?;
            let ticket = Ticket { lease: self.lease, token: self.token };
            let released = connection.client.release(ticket).await;
            released.map_err(|error| connection.failed(&error))?;
            let released = Released { token: self.token, released: true };
            call.console.result(&released, |page| {
                page.line(format_args!("Seat {} is given back", released.token));
            })?;
            Ok(Exit::Done)
        })
    }
}
