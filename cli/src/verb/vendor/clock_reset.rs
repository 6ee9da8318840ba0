//! `trine vendor clock-reset`: the vendor's word that a cluster's date is wrong.

use std::path::PathBuf;

use clap::Args;
use license::product::{ClusterId, WallTime};
use license::reset::ResetTerms;
use serde::Serialize;

use super::{Call, Place};
use crate::console::Tone;
use crate::dates::{parse_date, show_date};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::passphrase::{self, Typing};
use crate::vendor_dir::VendorDir;

/// Turn back a cluster's date that wrong clocks carried ahead
///
/// License dates in a cluster never go back by themselves, so that nobody
/// prolongs a license by setting a clock back. When wrong clocks carried the
/// date ahead the customer asks for a reset. It is good for one cluster and
/// for this firm's licenses, counts once, and counts only while the cluster's
/// date is at or after --from, so one that is kept for later is worth nothing.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine vendor clock-reset --cluster 9f2c41d07be84a6693d1c05a7f3e8b12 \\
      --from 2036-11-20 -o customer.clock-reset
  trine vendor clock-reset --cluster 9f2c41d07be84a6693d1c05a7f3e8b12 \\
      --from 2036-11-20 --to 2026-11-01 -o customer.clock-reset

The customer reads the cluster's id and the wrong date from
`trine cluster status`, and installs the file with `trine cluster clock-reset`.")]
pub(super) struct ClockReset {
    #[command(flatten)]
    place: Place,
    /// The cluster's id: 32 hexadecimal digits
    #[arg(long, value_name = "ID", value_parser = parse_cluster)]
    cluster: ClusterId,
    /// The wrong date: a moment the cluster's date has passed and the real date has not
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    from: WallTime,
    /// The date to go on from; the nodes' clocks carry it on to today [default: now]
    #[arg(long, value_name = "DATE", value_parser = parse_date)]
    to: Option<WallTime>,
    /// Which reset for this cluster this is; must rise [default: from the book]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    serial: Option<u64>,
    /// Where to write the reset
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output file
    #[arg(long)]
    force: bool,
}

/// `trine vendor clock-reset --json`
#[derive(Debug, Serialize)]
struct Made {
    /// The firm code.
    firm: u32,
    /// The cluster it is for.
    cluster: String,
    /// Each counts once.
    serial: u64,
    /// The wrong date, RFC 3339.
    from: String,
    /// The date to go on from, RFC 3339.
    to: String,
    /// The file written.
    reset: PathBuf,
}

impl ClockReset {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let dir = VendorDir::new(&self.place.dir);
        let existing = Existing::forced(self.force);
        files::must_be_new("clock reset", &self.output, existing)?;
        let now = call.world.wall_time();
        let cluster = self.cluster;
        let serial = match self.serial {
            Some(serial) => serial,
            None => dir.next_reset(&cluster)?,
        };
        let (from, to) = (self.from, self.to.unwrap_or(now));
        let terms = ResetTerms { cluster, serial, from, to, issued: now };
        terms.validate().map_err(|error| {
            Failure::usage(error)
                .next("--from is the wrong, later date that the cluster shows; --to the right one")
        })?;
        let passphrase = passphrase::find(self.place.passphrase_file.as_deref(), Typing::Once)?;
        let vendor = dir.open(&passphrase)?;
        let reset = dir.reset_clock(&vendor, terms)?;
        files::write("clock reset", &self.output, &reset.encode(), Access::Shared, existing)?;
        let made = Made {
            firm: vendor.certificate().firm().0,
            cluster: cluster.to_string(),
            serial,
            from: show_date(from),
            to: show_date(to),
            reset: self.output,
        };
        call.console.result(&made, |page| {
            let title = format!("Clock reset {} of firm {}", made.serial, made.firm);
            let title = page.tone(Tone::Strong, &title);
            page.line(title);
            page.facts(&[
                ("for cluster", made.cluster.clone()),
                ("wrong date", format!("{} or later", made.from)),
                ("goes on from", made.to.clone()),
                ("reset", made.reset.display().to_string()),
            ]);
            page.line("The customer installs it with `trine cluster clock-reset`; it counts once.");
        })?;
        Ok(Exit::Done)
    }
}

fn parse_cluster(text: &str) -> Result<ClusterId, String> {
    ClusterId::parse(text).map_err(|invalid| invalid.to_string())
}
