//! `trine usage retain`: how much history is kept.

use clap::Args;
use serde::Serialize;

use crate::context::Purpose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;
use crate::verb::Call;

/// Say how long and in how much space history is kept
///
/// Whichever is reached first. Every node drops the same records, a part of a
/// day or 16 MiB at a time. What is dropped is gone: export it before. Days are
/// days of cluster time, so that a wrong date deletes nothing early.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine usage retain --days 730
  trine usage retain --days 400 --mebibytes 8192")]
pub(super) struct Retain {
    /// Days, 1 to 3650
    #[arg(long, required_unless_present = "mebibytes")]
    days: Option<u32>,
    /// Mebibytes of records on every node, 64 to 65536
    #[arg(long)]
    mebibytes: Option<u32>,
}

/// `trine usage retain --json`
#[derive(Debug, Serialize)]
struct Retained {
    days: u32,
    mebibytes: u32,
}

impl Retain {
    pub(super) async fn run(self, call: &Call) -> Result<Exit, Failure> {
        let connection = Connection::find(&call.global, Purpose::Operator).await?;
        let set = connection.operator().set_usage_retention(self.days, self.mebibytes).await;
        let set = set.map_err(|error| connection.failed(&error))?;
        let retained = Retained { days: set.days, mebibytes: set.mebibytes };
        call.console.result(&retained, |page| {
            page.line(format_args!(
                "History is kept for {} days and in {} MiB, whichever is less",
                retained.days, retained.mebibytes
            ));
        })?;
        Ok(Exit::Done)
    }
}
