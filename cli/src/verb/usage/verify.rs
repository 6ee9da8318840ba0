//! `trine usage verify`: whether the records hold, on the cluster or in a file.

use std::collections::BTreeMap;
use std::path::PathBuf;

use clap::Args;
use ledger::usage::audit::{Auditor, Report, Survey};
use ledger::usage::{Page as Records, hash};
use serde::Serialize;
use trine_client::Endpoint;
use wire::v1;

use super::source;
use crate::console::{Page, Tone};
use crate::context::Purpose;
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;
use crate::report::hex;
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
/// nodes that answer are compared. Ends with exit code 9 if anything does not
/// hold, and names the first page or record that is wrong.
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
    /// Read all records of every node, not of the leader alone
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
    /// What each node's ledger says; empty for a file.
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Peak {
    seats: u64,
    /// Licensed at that moment; null is without limit.
    licensed: Option<u64>,
}

#[derive(Debug, Clone, Serialize)]
struct Node {
    /// Where it was asked.
    node: String,
    /// Pages it had.
    pages: Option<u64>,
    /// Whether they are the leader's; null when it did not answer.
    same: Option<bool>,
    /// Why there is no answer.
    problem: Option<String>,
}

/// A node's reach, asked for before the leader's: it is never further.
struct Reached {
    node: Endpoint,
    reach: Result<v1::UsageReach, String>,
}

impl Verify {
    pub(super) async fn run(self, call: &Call) -> Result<Exit, Failure> {
        let source = source(call, self.file.clone()).await?;
        let reached = match &source {
            Source::Cluster(connection) => ask_nodes(connection).await,
            _ => Vec::new(),
        };
        let told = source.told(Dates::default()).await?;
        let (report, heads) = audit(&source, &told, &reached).await?;
        let mut nodes = Vec::new();
        for reached in reached {
            nodes.push(compare(reached, &heads)?);
        }
        if self.every_node {
            for node in nodes.iter().filter(|node| node.same == Some(true)) {
                read_all(call, node).await?;
            }
        }
        let verified = verified(&told, report, nodes);
        call.console.result(&verified, |page| verified.show(page))?;
        Ok(Exit::Done)
    }
}

async fn ask_nodes(connection: &Connection) -> Vec<Reached> {
    let mut reached = Vec::new();
    for node in &connection.target.nodes {
        let nothing =
            v1::UsagePagesRequest { from_page: Some(0), until_page: Some(0), ..Default::default() };
        let reply = connection.operator().at(node.clone()).usage_pages(nothing).await;
        let reach = match reply {
            Ok(reply) => reply.reach.ok_or_else(|| "it does not say how far it reaches".to_owned()),
            Err(error) => Err(error.failure().message.clone()),
        };
        reached.push(Reached { node: node.clone(), reach });
    }
    reached
}

/// Audits all that is kept; gives the heads at the lengths the nodes named.
async fn audit(
    source: &Source,
    told: &Told,
    reached: &[Reached],
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
    let lengths: Vec<u64> =
        reached.iter().filter_map(|node| node.reach.as_ref().ok()).map(|r| r.pages).collect();
    let mut heads = BTreeMap::from([(ends.first, ends.previous), (ends.pages, ends.head)]);
    let mut auditor = Auditor::new(ends.clone(), survey.opening(&ends.live));
    let mut next = ends.first;
    source
        .each(range, |bytes| {
            auditor.read(bytes).map_err(|fault| Failure::unsound("HISTORY_UNSOUND", fault))?;
            next += 1;
            if lengths.contains(&next) {
                heads.insert(next, auditor.head());
            }
            Ok(())
        })
        .await?;
    let report = auditor.finish().map_err(|fault| Failure::unsound("HISTORY_UNSOUND", fault))?;
    Ok((report, heads))
}

fn compare(reached: Reached, heads: &BTreeMap<u64, [u8; 32]>) -> Result<Node, Failure> {
    let node = reached.node.to_string();
    let reach = match reached.reach {
        Ok(reach) => reach,
        Err(problem) => {
            return Ok(Node { node, pages: None, same: None, problem: Some(problem) });
        }
    };
    match heads.get(&reach.pages) {
        Some(head) if reach.head == head => {
            Ok(Node { node, pages: Some(reach.pages), same: Some(true), problem: None })
        }
        Some(_) => Err(Failure::unsound(
            "HISTORIES_DIFFER",
            format!("{node} knows another history than the leader up to page {}", reach.pages),
        )
        .next("leave it stopped and see `trine cluster status`; its ledger differs too")),
        None => {
            let problem = "it is further behind than what is kept".to_owned();
            Ok(Node { node, pages: Some(reach.pages), same: None, problem: Some(problem) })
        }
    }
}

/// Reads all pages of one node, each of which the next one must name.
async fn read_all(call: &Call, node: &Node) -> Result<(), Failure> {
    let connection = Connection::find(&call.global, Purpose::Operator).await?;
    let nodes = connection.target.nodes.iter();
    let Some(endpoint) = nodes.clone().find(|known| known.to_string() == node.node).cloned() else {
        return Ok(());
    };
    let source = Source::Node(Box::new(connection), endpoint);
    let ends = source.told(Dates::default()).await?.ends;
    let (mut head, mut number) = (ends.previous, ends.first);
    let altered = |number: u64| {
        Failure::unsound(
            "HISTORY_UNSOUND",
            format!("page {number} of {} was altered on its disk", node.node),
        )
        .next("check that disk; the other nodes have the page")
    };
    source
        .each(ends.first..ends.pages, |bytes| {
            let page = Records::decode(bytes).map_err(|_| altered(number))?;
            if page.previous != head {
                return Err(altered(number.saturating_sub(1)));
            }
            head = hash(bytes);
            number += 1;
            Ok(())
        })
        .await?;
    if head == ends.head { Ok(()) } else { Err(altered(number.saturating_sub(1))) }
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
            page.line(format_args!("{product}: at most {} seats of {licensed}", peak.seats));
        }
        for node in &self.nodes {
            let words = match (node.same, node.pages, &node.problem) {
                (Some(true), Some(pages), _) => format!("the same {pages} pages"),
                (_, _, Some(problem)) => format!("not compared: {problem}"),
                _ => "not compared".to_owned(),
            };
            page.line(format_args!("{}: {words}", node.node));
        }
    }
}
