//! `trine cluster transfer-leader`: another node leads, before this one is touched.

use clap::Args;
use serde::Serialize;

use super::Call;
use crate::context::{Purpose, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;

/// Let another node lead, without the pause of an election
///
/// For work on the leader's machine. Nothing is lost and no request fails;
/// clients are led to the new leader. A node that is stopped (SIGTERM) does so
/// by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster transfer-leader              to the voter that answers and holds the most
  trine cluster transfer-leader --to 2")]
pub(super) struct TransferLeader {
    /// The node that is to lead
    #[arg(long, value_name = "NODE", value_parser = clap::value_parser!(u64).range(1..))]
    to: Option<u64>,
}

/// `trine cluster transfer-leader --json`
#[derive(Debug, Serialize)]
struct Transferred {
    /// The node that led.
    from: u64,
    /// The node that leads.
    leader: u64,
}

impl TransferLeader {
    pub(super) async fn run(self, call: &Call) -> Result<Exit, Failure> {
        let target = Target::resolve(&call.global, Purpose::Operator)?;
        let connection = Connection::to(target).await?;
        let answer = connection.operator().transfer_leader(self.to).await;
        let answer = answer.map_err(|error| connection.failed(&error))?;
        let transferred = Transferred { from: answer.from, leader: answer.leader };
        let Transferred { from, leader } = transferred;
        let as_asked = self.to.map_or(leader != from, |to| leader == to);
        if !as_asked {
            let told = match self.to {
                Some(to) if leader != from => {
                    format!("node-{to} did not take over in time, and node-{leader} did")
                }
                _ => format!("nobody took over within two seconds: node-{leader} leads"),
            };
            return Err(Failure::refused("NOT_TAKEN_OVER", told)
                .next("see with `trine cluster status` that the others are alive and not behind"));
        }
        call.console.result(&transferred, |page| {
            page.line(if leader == from {
                format!("node-{leader} leads already")
            } else {
                format!("node-{leader} leads, in place of node-{from}")
            });
        })?;
        Ok(Exit::Done)
    }
}
