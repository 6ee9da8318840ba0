//! The command line of `trine`: the global flags and one variant per verb.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::exit;
use crate::verb;
use crate::version;

const AFTER_HELP: &str = "\
Examples:
  trine demo                               the main job, played on real processes
  trine up                                 a development cluster, until Ctrl-C
  trine cluster status                     who leads, who lives, which shares are live
  trine run cad-pro -- ./render scene.cad  hold a seat while a program runs
  trine acquire cad-pro --wait 5m          one seat by hand, waiting in the queue
  trine seats cad-pro                      who holds what since when until when

Finding the server: --host, else TRINE_HOST, else CODEMETER_HOST, else the context.
A host list works everywhere: 10.0.0.11,10.0.0.12:22450. A bare host means the
default port.

Identity: TRINE_CA with TRINE_CERT and TRINE_KEY, or with TRINE_TOKEN_FILE; else
the context. The context is the file named by --context or TRINE_CONTEXT, else
trine/context.toml in the user's configuration directory; `trine up` writes one.";

/// Floating licenses that survive: three nodes, one split license, seats that
/// outlive a failover.
#[derive(Debug, Parser)]
#[command(
    name = "trine",
    version,
    long_version = version::TEXT.as_str(),
    subcommand_required = true,
    arg_required_else_help = true,
    after_help = format!("{AFTER_HELP}\n\n{}", exit::HELP),
)]
pub struct Cli {
    #[command(flatten)]
    pub global: Global,
    #[command(subcommand)]
    pub verb: Verb,
}

/// Flags that every verb takes.
#[derive(Debug, Clone, Args)]
pub struct Global {
    /// Servers to ask: HOST[:PORT], several separated by commas
    #[arg(long, global = true, value_name = "HOSTS", help_heading = "Global options")]
    pub host: Option<String>,
    /// Context file with servers and identity [env: TRINE_CONTEXT]
    #[arg(long, global = true, value_name = "FILE", help_heading = "Global options")]
    pub context: Option<PathBuf>,
    /// Print results as JSON on stdout, and errors as JSON on stderr
    #[arg(long, global = true, help_heading = "Global options")]
    pub json: bool,
}

/// What can be asked of `trine`.
#[derive(Debug, Subcommand)]
pub enum Verb {
    Demo(verb::demo::Demo),
    Drill(verb::drill::Drill),
    Up(verb::up::Up),
    Node(verb::node::Node),
    Balancer(verb::balancer::Balancer),
    Pki(verb::pki::Pki),
    Cluster(verb::cluster::Cluster),
    License(verb::license::License),
    Vendor(verb::vendor::Vendor),
    Token(verb::token::Token),
    Trust(verb::trust::Trust),
    Acquire(verb::acquire::Acquire),
    Renew(verb::renew::Renew),
    Release(verb::release::Release),
    Run(verb::run::Run),
    Seats(verb::seats::Seats),
    Usage(verb::usage::Usage),
    Completions(verb::completions::Completions),
}
