//! `trine usage`: what became of every seat, and whether the records hold.

mod export;
mod list;
mod retain;
mod verify;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};
use ledger::name::{HolderName, Subject};
use license::product::{ProductName, WallTime};

use super::Call;
use crate::context::Purpose;
use crate::dates::{parse_date, parse_duration};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};
use crate::usage::row::Filter;
use crate::usage::source::{Dates, Source};

/// Show what became of every seat, or check that the records hold
///
/// The cluster keeps a record of every grant, denial, wait, late renewal, move,
/// release, expiry and revoke, chained so that none can be altered, left out or
/// added unseen. Every node has the same.
///
/// A denial counts as served later when the same subject and holder were granted
/// a seat within the window: of the same product (same-pool) or of another one
/// (another-pool). What is left are the denials that cost somebody their work.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  trine usage
  trine usage --from 2026-11-01 --to 2026-12-01 --product cad-pro
  trine usage --from 2026-11-01 --summary
  trine usage --holder night-build --csv > usage.csv
  trine usage verify
  trine usage export history.trine
  trine usage retain --days 730

Dates are the cluster's date (UTC), which licenses run on.
Times in queues and of holding are in cluster time, which stands still in an outage."
)]
pub struct Usage {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: List,
}

#[derive(Debug, Subcommand)]
enum Action {
    Verify(verify::Verify),
    Export(export::Export),
    Retain(retain::Retain),
}

#[derive(Debug, Args)]
struct List {
    /// From this date or time on: 2026-11-01, or 2026-11-01T18:00:00Z
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    from: Option<WallTime>,
    /// Up to this date or time, which is not included
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    to: Option<WallTime>,
    /// Only this product
    #[arg(long, value_parser = ProductName::parse)]
    product: Option<ProductName>,
    /// Only whoever calls themselves so
    #[arg(long, value_parser = HolderName::parse)]
    holder: Option<HolderName>,
    /// Only this subject, as `trine seats` shows it
    #[arg(long, value_parser = Subject::parse)]
    subject: Option<Subject>,
    /// Comma-separated values with a header, for spreadsheets
    #[arg(long, conflicts_with = "summary")]
    csv: bool,
    /// What it comes to, product by product: peaks, hours, denials
    #[arg(long)]
    summary: bool,
    /// Within so long a grant makes a denial good
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = parse_duration)]
    window: Duration,
    /// How many of the latest records to show as a page; --csv and --json give all
    #[arg(long, value_name = "N", default_value_t = 200)]
    last: usize,
    /// Read a file of `trine usage export` instead of asking the cluster; one that
    /// was altered is not shown (exit code 9)
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl List {
    fn filter(&self) -> Filter {
        Filter {
            dates: Dates { from: self.from, to: self.to },
            product: self.product.clone(),
            holder: self.holder.clone(),
            subject: self.subject.clone(),
        }
    }
}

impl Usage {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            match self.action {
                Some(Action::Verify(verify)) => verify.run(call).await,
                Some(Action::Export(export)) => export.run(call).await,
                Some(Action::Retain(retain)) => retain.run(call).await,
                None => self.list.run(call).await,
            }
        })
    }
}

/// A file if one is named, else the cluster.
async fn source(call: &Call, file: Option<PathBuf>) -> Result<Source, Failure> {
    Ok(match file {
        Some(file) => Source::File(file),
        None => Source::Cluster(Box::new(Connection::find(&call.global, Purpose::Operator).await?)),
    })
}
