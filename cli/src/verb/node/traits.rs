//! `trine node traits`: what a node's container is sealed to, and what of it is there.

use std::path::PathBuf;

use clap::Args;
use license::traits::{Trait, TraitKind};
use node::config::Config;
use node::host::{self, Seal};
use serde::Serialize;

use super::Call;
use crate::console::Page;
use crate::exit::Exit;
use crate::failure::Failure;

/// Show what this host is known by, and whether the node's container opens on it
///
/// A container is sealed to the traits of its host, each with a weight; enough
/// weight opens it. Nothing is changed, and the node may be running. Run it as
/// the node's user: some traits are readable by root alone.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine node traits --config /etc/trine/node.toml
  trine node traits --config /etc/trine/node.toml --json")]
pub(super) struct ShowTraits {
    /// The node's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// `trine node traits --json`
#[derive(Debug, Serialize)]
struct Report {
    /// What this host shows.
    traits: Vec<Shown>,
    /// What that weighs.
    weight: u16,
    /// As configured.
    tolerance: &'static str,
    /// The weight that opens a container sealed to this host now.
    needed: u16,
    /// The container that is there; absent before the first start.
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerReport>,
}

#[derive(Debug, Serialize)]
struct Shown {
    name: String,
    kind: TraitKind,
    weight: u8,
}

#[derive(Debug, Serialize)]
struct ContainerReport {
    serial: String,
    /// Whether it opens here.
    opens: bool,
    /// The weight that opens it, as it was sealed.
    needed: u16,
    /// What it was sealed to and is not there.
    gone: Vec<String>,
    /// What is there and it was not sealed to.
    new: Vec<String>,
}

impl ShowTraits {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let config = Config::load(&self.config).map_err(Failure::usage)?;
        let report = report(host::look(&config).map_err(Failure::failed)?);
        call.console.result(&report, |page| show(&report, page))?;
        Ok(Exit::Done)
    }
}

fn report(seal: Seal) -> Report {
    let shown = |shown: &Trait| Shown {
        name: shown.label().to_owned(),
        kind: shown.kind(),
        weight: shown.kind().weight(),
    };
    let container = seal.container.map(|(sealed, found)| {
        let (_, needed) = sealed.threshold();
        ContainerReport {
            serial: sealed.identity().serial().to_string(),
            opens: found.opens,
            needed,
            gone: found.gone,
            new: found.new,
        }
    });
    let weight = seal.traits.weight();
    Report {
        traits: seal.traits.iter().map(shown).collect(),
        weight,
        tolerance: seal.tolerance.name(),
        needed: seal.tolerance.threshold(weight),
        container,
    }
}

fn show(report: &Report, page: &mut Page) {
    if report.traits.is_empty() {
        page.line("this host shows nothing that a container could be sealed to");
    }
    for shown in &report.traits {
        page.line(format_args!("{:<32} weight {}", shown.name, shown.weight));
    }
    page.line(format_args!(
        "together {}; with tolerance {}, {} of it opens a container sealed here",
        report.weight, report.tolerance, report.needed
    ));
    let Some(container) = &report.container else {
        page.line("there is no container yet; the node makes it at its first start");
        return;
    };
    let opens = if container.opens { "opens" } else { "does not open" };
    page.line(format_args!(
        "container {} {opens} on this host ({} is needed)",
        container.serial, container.needed
    ));
    for (what, names) in [("gone", &container.gone), ("new", &container.new)] {
        if !names.is_empty() {
            page.line(format_args!("{what}: {}", names.join(", ")));
        }
    }
}
