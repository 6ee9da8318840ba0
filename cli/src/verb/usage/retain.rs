//! `trine usage retain`: how much history is kept.

use clap::Args;
use serde::Serialize;

use crate::context::Purpose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;
use crate::usage::source::{Dates, Source};
use crate::verb::Call;

/// Say how long and in how much space history is kept, or show it
///
/// Without --days and --mebibytes it shows what is set and changes nothing.
/// Whichever is reached first. Every node drops the same records, a part of a
/// day or 16 MiB at a time (a quarter of the space where that is less). What is
/// dropped is gone: export it before. Days are days of cluster time, so that a
/// wrong date deletes nothing early.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine usage retain
  trine usage retain --days 730
  trine usage retain --days 400 --mebibytes 8192")]
pub(super) struct Retain {
    /// Days, 1 to 3650
    #[arg(long)]
    days: Option<u32>,
    /// Mebibytes of records on every node, 1 to 65536
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
        let retained = match self {
            Self { days: None, mebibytes: None } => shown(connection).await?,
            Self { days, mebibytes } => {
                let set = connection.operator().set_usage_retention(days, mebibytes).await;
                let set = set.map_err(|error| connection.failed(&error))?;
                Retained { days: set.days, mebibytes: set.mebibytes }
            }
        };
        call.console.result(&retained, |page| {
            page.line(format_args!(
                "History is kept for {} days and in {} MiB, whichever is less",
                retained.days, retained.mebibytes
            ));
        })?;
        Ok(Exit::Done)
    }
}

/// As it is set now.
async fn shown(connection: Connection) -> Result<Retained, Failure> {
    let cluster = Source::Cluster(Box::new(connection));
    let told = cluster.told(Dates::default()).await?;
    let (days, mebibytes) = told
        .retention
        .ok_or_else(|| Failure::failed("the answer does not say how much history is kept"))?;
    Ok(Retained { days, mebibytes })
}
