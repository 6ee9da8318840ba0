//! `trine node`: one node in the foreground, its enrollment, its host.

mod enroll;
mod traits;

use std::sync::Arc;

use clap::{Args, Subcommand};
use node::clearance::Denial;
use node::clock::SystemClock;
use node::config::{Config, Format};
use node::entropy::Entropy;
use node::host::{HostError, Machine};
use node::node::NodeError;
use rand::TryRng;

use super::Call;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::server::{self, Checked, Ending, LogStyle, ServerArgs};

pub use enroll::ask;

/// Run one node of a cluster in the foreground
///
/// Three nodes make a cluster. Each holds one share of every license and a copy
/// of the ledger; any two are enough. It logs to stderr, as its configuration
/// says. SIGTERM or SIGINT drains: leadership is handed over and what was begun
/// is finished; a second signal ends at once. SIGHUP has the certificate files
/// read at once, which otherwise takes some seconds.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine node --config /etc/trine/node.toml --check
  trine node --config /etc/trine/node.toml
  trine node enroll --config /etc/trine/node.toml
  trine node traits --config /etc/trine/node.toml")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Node {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    server: Option<ServerArgs>,
}

#[derive(Debug, Subcommand)]
enum Action {
    Enroll(enroll::Enroll),
    Traits(traits::ShowTraits),
}

impl Node {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let server = match (self.action, self.server) {
            (Some(Action::Enroll(enroll)), _) => return enroll.run(call),
            (Some(Action::Traits(traits)), _) => return traits.run(call),
            (None, Some(server)) => server,
            (None, None) => return Err(Failure::usage("--config is missing")),
        };
        let config = Config::load(&server.config).map_err(Failure::usage)?;
        if server.check {
            config.check(call.world.wall_time()).map_err(|wrong| {
                let wrong: Vec<String> = wrong.iter().map(ToString::to_string).collect();
                Failure::usage(wrong.join("\n"))
            })?;
            let checked = Checked::of_node(&server.config, &config.tls.container);
            call.console.result(&checked, |page| checked.show(page))?;
            return Ok(Exit::Done);
        }
        let json = config.log.format == Format::Json;
        server::log_to_stderr(LogStyle { level: config.log.level.name(), json })?;
        let runtime = server::runtime()?;
        runtime.block_on(async {
            let ending = Ending::listen(server.while_stdin_open)?;
            let machine = Machine {
                clock: Arc::new(SystemClock),
                entropy: Arc::new(SystemEntropy),
                reload: server::reload_wishes()?,
            };
            node::host::run(config, machine, ending.wanted()).await.map_err(|error| match error {
                // What --check would have said, with its exit code.
                HostError::Config { .. } => Failure::usage(error),
                HostError::Node(NodeError::Denied(
                    Denial::LostData { .. } | Denial::Rewrote { .. },
                )) => Failure::must_not_run("LOST_DATA", error),
                HostError::Node(NodeError::Denied(Denial::BeforeRestore { .. })) => {
                    Failure::must_not_run("BEFORE_RESTORE", error)
                }
                HostError::Node(NodeError::Denied(Denial::RunsElsewhere { .. })) => {
                    Failure::must_not_run("RUNS_ELSEWHERE", error)
                }
                HostError::OtherHost { .. } => Failure::must_not_run("OTHER_HOST", error),
                HostError::Node(NodeError::TooOld { .. }) => {
                    Failure::must_not_run("BUILD_TOO_OLD", error)
                }
                HostError::Node(NodeError::Gone { .. }) => Failure::must_not_run("REPLACED", error),
                _ => Failure::failed(error),
            })
        })?;
        Ok(Exit::Done)
    }
}

/// The operating system's randomness, asked each time.
struct SystemEntropy;

impl Entropy for SystemEntropy {
    fn fill(&self, bytes: &mut [u8]) {
        if let Err(error) = rand::rngs::SysRng.try_fill_bytes(bytes) {
            // A node without randomness would sign with nonces that can be
            // guessed, and so give its share away.
            tracing::error!(%error, "the operating system gives no randomness; ending");
            std::process::exit(1);
        }
    }
}
