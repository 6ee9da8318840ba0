//! `trine cluster`: forming a cluster, seeing how it is, backing it up.

mod backup;
mod backup_key;
mod before_restore;
mod clock_reset;
mod doctor;
mod other_cluster;
mod replace;
mod restore;
mod settling;
mod status;
mod transfer_leader;
mod upgrade;

use std::time::Duration;

use clap::{Args, Subcommand};
use serde::Serialize;
use trine_client::{CallError, Endpoint, Outcome, Reason};

use super::Call;
use crate::console::Tone;
use crate::context::{Purpose, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// Form the cluster, see how it is, back it up and restore it
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine --host node1.acme.example cluster init
  trine cluster status
  trine cluster upgrade --check
  trine cluster doctor
  trine cluster replace 3 4 --at node4.acme.example:22451
  trine cluster backup today.backup --recipient ops.pub")]
pub struct Cluster {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Init(Init),
    Status(status::Status),
    ClockReset(clock_reset::ClockReset),
    Doctor(doctor::Doctor),
    TransferLeader(transfer_leader::TransferLeader),
    Upgrade(upgrade::Upgrade),
    Replace(replace::Replace),
    Backup(backup::Backup),
    BackupKey(backup_key::BackupKey),
    Restore(restore::Restore),
}

/// Form the cluster of the configured members, once
///
/// All three nodes must be up. Give any one of them as --host, not a balancer:
/// a cluster that is not formed has no leader to be led to.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine --host node1.acme.example cluster init")]
struct Init {}

/// `trine cluster init --json`
#[derive(Debug, Serialize)]
struct Formed {
    /// 32 hexadecimal digits.
    cluster: String,
    /// The container that users see, 131-…
    virtual_container: String,
}

/// How long forming may take: three containers are asked for, a leader elected.
const FORMING_MAX: Duration = Duration::from_secs(30);

impl Cluster {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            // Not before it is known that there is somebody to ask.
            let target = || Target::resolve(&call.global, Purpose::Operator);
            match self.action {
                Action::Init(Init {}) => init(call, target()?).await,
                Action::Status(status) => status.run(call, target()?).await,
                Action::Backup(backup) if backup.is_offline() => backup.check(call),
                Action::Backup(backup) => backup.run(call, target()?).await,
                Action::BackupKey(key) => key.run(call),
                Action::Restore(restore) => restore.run(call, target()?).await,
                Action::ClockReset(reset) => reset.run(call, target()?).await,
                Action::Doctor(doctor) => doctor.run(call, target()?).await,
                Action::TransferLeader(transfer) => transfer.run(call).await,
                Action::Upgrade(upgrade) => upgrade.run(call, target()?).await,
                Action::Replace(replace) => {
                    replace.run(call, &Connection::to(target()?).await?).await
                }
            }
        })
    }
}

async fn init(call: &Call, target: Target) -> Result<Exit, Failure> {
    let nodes = nodes(&target, call);
    let connection = Connection::patient(target, FORMING_MAX).await?;
    let formed = form(&connection, &nodes).await.map_err(|error| connection.failed(&error))?;
    call.console.result(&formed, |page| {
        let title = page.tone(Tone::Good, "The cluster is formed");
        page.line(title);
        page.facts(&[
            ("cluster", formed.cluster.clone()),
            ("virtual container", formed.virtual_container.clone()),
        ]);
        page.line("Next: trine license request");
    })?;
    Ok(Exit::Done)
}

/// The nodes themselves: what --host names, else the context's nodes.
fn nodes(target: &Target, call: &Call) -> Vec<Endpoint> {
    if call.global.host.is_some() || target.nodes.is_empty() {
        return target.hosts.clone();
    }
    target.nodes.clone()
}

/// Asks the first node that is there: the request is not repeated once one has it.
async fn form(connection: &Connection, nodes: &[Endpoint]) -> Result<Formed, CallError> {
    let mut answer = None;
    for node in nodes {
        match connection.operator().at(node.clone()).init().await {
            Ok(formed) => {
                let (cluster, virtual_container) = (formed.cluster_id, formed.virtual_container);
                return Ok(Formed { cluster, virtual_container });
            }
            Err(error) => {
                let what = error.failure();
                let absent = what.reason == Reason::Unreachable && what.outcome == Outcome::NotDone;
                answer = Some(error.clone());
                if !absent {
                    break;
                }
            }
        }
    }
    Err(answer.unwrap_or_else(|| {
        CallError::NotDone(trine_client::Failure {
            outcome: Outcome::NotDone,
            reason: Reason::Unreachable,
            message: "no server is named".to_owned(),
            at: None,
            leader: None,
        })
    }))
}
