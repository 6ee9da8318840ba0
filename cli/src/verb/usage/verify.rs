//! `trine usage verify`: whether the records hold, on the cluster or in a file.

mod nodes;

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use ledger::usage::Page as Records;
use ledger::usage::audit::{Auditor, Report, Survey};
use serde::Serialize;

use self::nodes::{Asked, Node};
use super::source;
use crate::console::{Page, Tone};
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report::{self, hex};
use crate::usage::source::{Dates, Source, Told};
use crate::verb::Call;

/// Check that the records hold: the chain, the order, and that no grant made
/// more seats than were licensed
///
/// Reads all records that are kept and counts anew, with none of the server's
/// counting: every page must be the one the next page names, the last the one
/// the ledger names; log ids, times and tokens must rise; every seat that ended
/// must have been granted; no grant may make more seats than were licensed then;
/// and the seats that come out must be those that are live. The heads of all
/// members that answer are compared; --every-node reads all pages of each, from
/// the node itself and not through a balancer. Ends with exit code 9 if anything
/// does not hold, and names the first page or record that is wrong; with
/// --every-node and exit code 4 if a node was not read, and names it.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine usage verify
  trine usage verify --every-node
  trine usage verify --file history.trine")]
pub(super) struct Verify {
    /// A file of `trine usage export`, without asking the cluster
    #[arg(long, value_name = "FILE", conflicts_with = "every_node")]
    file: Option<PathBuf>,
    /// Read all records of every member, not of the leader alone
    #[arg(long)]
    every_node: bool,
}

/// `trine usage verify --json`
#[derive(Debug, Serialize)]
struct Verified {
    /// Always true; else the command fails.
    holds: bool,
    /// 32 hexadecimal digits.
    cluster: String,
    /// The place in the log up to which it was checked.
    as_of: String,
    /// The first page that is kept.
    first_page: u64,
    pages: u64,
    records: u64,
    /// SHA-256 of the last page.
    head: String,
    /// RFC 3339; of the first and last record that has a date.
    from: Option<String>,
    to: Option<String>,
    granted: u64,
    released: u64,
    expired: u64,
    revoked: u64,
    denied: u64,
    live: u64,
    /// The most seats taken at once, by product.
    peaks: BTreeMap<String, Peak>,
    /// Every member, asked itself; empty for a file.
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Peak {
    seats: u64,
    /// Licensed at that moment; null is without limit.
    licensed: Option<u64>,
}

impl Verify {
    pub(super) async fn run(self, call: &Call) -> Result<Exit, Failure> {
        let source = source(call, self.file.clone()).await?;
        let asked = match &source {
            Source::Cluster(connection) => nodes::ask(connection).await?,
            _ => Vec::new(),
        };
        let told = source.told(Dates::default()).await?;
        let (report, heads) = audit(&source, &told, &asked).await?;
        let mut nodes = Vec::new();
        for asked in asked {
            let mut node = asked.compare(&heads)?;
            if self.every_node && node.same == Some(true) {
                node.read(call).await?;
            }
            nodes.push(node);
        }
        let verified = verified(&told, report, nodes);
        call.console.result(&verified, |page| verified.show(page))?;
        if self.every_node {
            nodes::require_all_read(&verified.nodes)?
        }
        Ok(Exit::Done)
    }
}

/// Nothing is shown of a file that does not hold.
pub(super) async fn require_sound(file: &Source, told: &Told) -> Result<(), Failure> {
    audit(file, told, &[]).await.map(drop)
}

/// Audits all that is kept; gives the heads at the lengths the nodes named.
async fn audit(
    source: &Source,
    told: &Told,
    asked: &[Asked],
) -> Result<(Report, BTreeMap<u64, [u8; 32]>), Failure> {
    let ends = &told.ends;
    let range = ends.first..ends.pages;
    let mut survey = Survey::default();
    if ends.first > 0 {
        source
            .each(range.clone(), |bytes| {
                // What does not decode is named in the second reading.
                if let Ok(page) = Records::decode(bytes) {
                    survey.read(&page);
                }
                Ok(())
            })
            .await?;
    }
    let lengths: Vec<u64> = asked.iter().filter_map(Asked::pages).collect();
    let mut heads = BTreeMap::from([(ends.first, ends.previous), (ends.pages, ends.head)]);
    let mut auditor = Auditor::new(ends.clone(), survey.opening(&ends.live));
    let mut next = ends.first;
    source
        .each(range, |bytes| {
            auditor.read(bytes).map_err(|fault| Failure::unsound("HISTORY_UNSOUND", fault))?;
            next = next.saturating_add(1);
            if lengths.contains(&next) {
                heads.insert(next, auditor.head());
            }
            Ok(())
        })
        .await?;
    let report = auditor.finish().map_err(|fault| Failure::unsound("HISTORY_UNSOUND", fault))?;
    Ok((report, heads))
}

fn verified(told: &Told, report: Report, nodes: Vec<Node>) -> Verified {
    let ends = &told.ends;
    let peaks = report.products.iter().map(|(product, peak)| {
        (product.to_string(), Peak { seats: peak.seats, licensed: peak.licensed })
    });
    Verified {
        holds: true,
        cluster: ends.cluster.to_string(),
        as_of: ends.log_id.to_string(),
        first_page: ends.first,
        pages: report.pages,
        records: report.records,
        head: hex(&ends.head),
        from: report.dates.map(|(from, _)| show_date(from)),
        to: report.dates.map(|(_, to)| show_date(to)),
        granted: report.granted,
        released: report.released,
        expired: report.expired,
        revoked: report.revoked,
        denied: report.denied,
        live: ends.live.len() as u64,
        peaks: peaks.collect(),
        nodes,
    }
}

impl Verified {
    fn show(&self, page: &mut Page) {
        let holds = page.tone(Tone::Good, "The history holds.");
        page.line(holds);
        let dates = match (&self.from, &self.to) {
            (Some(from), Some(to)) => format!("{from} to {to}"),
            _ => "none".to_owned(),
        };
        page.facts(&[
            ("cluster", self.cluster.clone()),
            ("checked up to", format!("log id {}", self.as_of)),
            ("pages", format!("{} from page {}", self.pages, self.first_page)),
            ("records", self.records.to_string()),
            ("dates", dates),
            ("granted", self.granted.to_string()),
            ("ended", {
                let (released, expired, revoked) = (self.released, self.expired, self.revoked);
                format!("{released} released, {expired} expired, {revoked} revoked")
            }),
            ("live", self.live.to_string()),
            ("denied", self.denied.to_string()),
            ("head", self.head.clone()),
        ]);
        for (product, peak) in &self.peaks {
            let licensed = peak.licensed.map_or("no limit".to_owned(), |seats| seats.to_string());
            page.line(format_args!(
                "{product}: at most {} of {licensed}",
                report::seats(peak.seats)
            ));
        }
        for node in &self.nodes {
            page.line(format_args!("{}: {}", node.node, node.told()));
        }
    }
}
