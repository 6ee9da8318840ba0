//! `trine cluster doctor`: what is wrong, with which node, and what to do.

mod diagnose;
mod finding;
mod gather;
mod observations;

use clap::Args;
use serde::Serialize;
use trine_client::Endpoint;

use self::diagnose::{Thresholds, diagnose};
use self::finding::{Finding, Severity};
use self::observations::Seen;
use super::Call;
use crate::console::{Cell, Page, Tone};
use crate::context::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;

/// Say what is wrong, with which node, and what to do about it
///
/// Asks every node, every server the context names, and the balancers' health
/// listeners that are given. Looks at clocks, disks, certificates, builds and
/// the feature level, shares, ledgers, replication, and ways in. Of the ports it
/// tries every node's client port itself, and each node says whose peer port it
/// does not reach; the nodes' health ports only the balancers and your
/// monitoring try. Works with a node or the quorum gone: it says so.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster doctor
  trine cluster doctor --balancer 10.0.0.5:22453 --balancer 10.0.0.6:22453
  trine --host node1.acme.example cluster doctor --json

Exit codes:
  0  healthy
  7  nothing is broken, but there are warnings, or something has only just begun
     and cannot be told yet (verdict not_known_yet): look again in some seconds
  8  something is broken; 2, 4 and 5 when it could not even ask")]
pub(super) struct Doctor {
    /// A balancer's health listener: which nodes does it see
    #[arg(long, value_name = "HOST:PORT", value_parser = parse_endpoint)]
    balancer: Vec<Endpoint>,
    /// Warn when a node may write less than this; a quarter of it is an error
    #[arg(long, value_name = "MIB", default_value_t = 2048)]
    disk_free: u64,
}

/// `trine cluster doctor --json`
#[derive(Debug, Serialize)]
struct Report {
    /// healthy, warnings or errors; not_known_yet when nothing is wrong as far as
    /// can be told, and not all can be.
    verdict: &'static str,
    /// How many nodes answered.
    nodes_answering: usize,
    /// The worst first.
    findings: Vec<Finding>,
}

impl Doctor {
    pub(super) async fn run(self, call: &Call, target: Target) -> Result<Exit, Failure> {
        let seeds = super::nodes(&target, call);
        let connection = Connection::to(target).await?;
        let seen = gather::gather(&connection, &seeds, &self.balancer).await;
        if let Some(refused) = seen.turned_away() {
            return Err(Failure::not_allowed(refused.reason.as_str(), &refused.message)
                .next("this is about who asks, not about the nodes: the doctor needs an operator's identity of this cluster's CA, in date (TRINE_CERT, TRINE_KEY, TRINE_CA)"));
        }
        if seen.is_nobody_there() {
            let asked: Vec<&str> =
                seen.nodes.iter().chain(&seen.doors).map(Seen::address).collect();
            let what = format!("nobody takes connections at {}", asked.join(", "));
            return Err(Failure::unreachable("UNREACHABLE", what)
                .next("see whether that is where the nodes are (--host, TRINE_HOST, the context); if it is, none of them runs, or a firewall is between"));
        }
        let thresholds = Thresholds { disk_free: self.disk_free.saturating_mul(1 << 20) };
        let findings = diagnose(&seen, &thresholds, call.world.wall_time());
        let (verdict, exit) = match findings.first().map(|finding| finding.severity) {
            None => ("healthy", Exit::Done),
            Some(Severity::Warning) => ("warnings", Exit::Warnings),
            Some(Severity::NotKnownYet) => ("not_known_yet", Exit::Warnings),
            Some(Severity::Error) => ("errors", Exit::Broken),
        };
        let report = Report { verdict, nodes_answering: seen.answering().count(), findings };
        call.console.result(&report, |page| report.show(page))?;
        Ok(exit)
    }
}

impl Report {
    fn show(&self, page: &mut Page) {
        let nodes = self.nodes_answering;
        if self.findings.is_empty() {
            let line = page.tone(Tone::Good, &format!("Healthy: {nodes} nodes, nothing to do"));
            return page.line(line);
        }
        for finding in &self.findings {
            let (tone, word) = match finding.severity {
                Severity::Warning => (Tone::Warning, "warning"),
                Severity::Error => (Tone::Bad, "error"),
                Severity::NotKnownYet => (Tone::Warning, "not known yet"),
            };
            let word = page.tone(tone, word);
            page.line(format_args!("{word}  {}: {}", finding.about, finding.what));
            let advice = page.tone(Tone::Quiet, &format!("    -> {}", finding.advice));
            page.line(advice);
        }
        let count = |severity| self.findings.iter().filter(|f| f.severity == severity).count();
        page.line("");
        page.table(
            &["errors", "warnings", "not known yet", "nodes answering"],
            [vec![
                Cell::from(count(Severity::Error).to_string()),
                count(Severity::Warning).to_string().into(),
                count(Severity::NotKnownYet).to_string().into(),
                nodes.to_string().into(),
            ]],
        );
    }
}

fn parse_endpoint(text: &str) -> Result<Endpoint, String> {
    Endpoint::parse(text).map_err(|error| error.to_string())
}
