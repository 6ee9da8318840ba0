//! `trine cluster clock-reset`: installing a vendor's clock reset.

use std::path::PathBuf;

use clap::Args;
use license::product::WallTime;
use serde::Serialize;

use super::Call;
use crate::console::Tone;
use crate::context::Target;
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::online::Connection;
use crate::vendor_dir::FILE_BYTES_MAX;

/// Turn back a date that wrong clocks carried ahead, by a vendor's word
///
/// License dates run on the cluster's own date (see `trine cluster status`),
/// which no node's clock turns back. A vendor's reset does, once, for that
/// vendor's licenses. Set the nodes' clocks right first: while they would
/// carry the date ahead again the reset is refused and not spent.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster status                 the cluster's id and the wrong date, for the vendor
  trine cluster doctor                 whose clock is wrong
  trine cluster clock-reset customer.clock-reset")]
pub(super) struct ClockReset {
    /// The reset, made by `trine vendor clock-reset`
    file: PathBuf,
}

/// `trine cluster clock-reset --json`
#[derive(Debug, Serialize)]
struct Reset {
    /// Whose licenses.
    firm: u32,
    /// The date they go on from, RFC 3339.
    to: String,
}

impl ClockReset {
    pub(super) async fn run(self, call: &Call, target: Target) -> Result<Exit, Failure> {
        let file = files::read("clock reset", &self.file, FILE_BYTES_MAX)?;
        let connection = Connection::to(target).await?;
        let done = connection.operator().reset_clock(file).await;
        let done = done.map_err(|error| connection.failed(&error))?;
        let reset = Reset { firm: done.firm, to: show_date(WallTime(done.to_ms)) };
        call.console.result(&reset, |page| {
            let title = format!("Licenses of firm {} go on from {}", reset.firm, reset.to);
            let title = page.tone(Tone::Good, &title);
            page.line(title);
            page.line("The nodes' clocks carry the date on to today; see `trine cluster status`.");
        })?;
        Ok(Exit::Done)
    }
}
