//! `trine license repair`: a lost share made again, without the vendor.

use std::time::Duration;

use clap::Args;
use license::product::LicenseId;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use wire::v1;

use super::Call;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;

/// How a member stands that came after the license was issued.
pub(crate) const WITHOUT_SHARE: &str = "without a share";

/// Three nodes settle it among themselves in well under a second.
const REPAIR_MAX: Duration = Duration::from_secs(20);

/// The place of the split whose share no member has any more, if there is one.
pub(crate) fn lost_place<'a>(
    status: &v1::StatusReply,
    license: &'a v1::License,
) -> Option<&'a v1::Place> {
    let is_lost =
        |place: &&v1::Place| !status.nodes.iter().any(|it| it.container == place.container);
    license.places.iter().find(is_lost)
}

/// Have a lost share made again by the other two nodes
///
/// For a node that took the place of another (`trine cluster replace`) and has no
/// share of the license yet. Both other nodes must be up. What comes out is the
/// very share that was lost: if the old node's disk may be in others' hands, have
/// the vendor issue the license anew instead.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license repair 6000010:1:1")]
pub(super) struct Repair {
    /// License id: FIRM:PRODUCT:TMR
    #[arg(value_parser = super::parse_license)]
    license: LicenseId,
}

/// `trine license repair --json`
#[derive(Debug, Serialize)]
struct Repaired {
    license: String,
    /// Whose share was made again.
    nodes: Vec<u64>,
}

impl Repair {
    pub(super) async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let license = self.license.to_string();
        let nodes = repair(call, connection, &license).await?;
        let repaired = Repaired { license, nodes };
        call.console.result(&repaired, |page| match &repaired.nodes[..] {
            [] => page.line(format_args!("No share of {} is lost", repaired.license)),
            nodes => {
                let nodes: Vec<String> = nodes.iter().map(|node| format!("node-{node}")).collect();
                page.line(format_args!(
                    "{} has its share of {}",
                    nodes.join(", "),
                    repaired.license
                ));
            }
        })?;
        Ok(Exit::Done)
    }
}

/// Orders it and waits until it is done. Gives whose share it was.
pub(crate) async fn repair(
    call: &Call,
    connection: &Connection,
    license: &str,
) -> Result<Vec<u64>, Failure> {
    let ordered = connection.operator().repair_license(license).await;
    let nodes = ordered.map_err(|error| connection.failed(&error))?.nodes;
    let deadline = Instant::now() + REPAIR_MAX;
    for node in &nodes {
        call.console.progress(format_args!("repairing: node-{node}'s share of {license}"));
    }
    loop {
        let status = connection.operator().status().await;
        let licenses = status.map_err(|error| connection.unread(&error))?.licenses;
        let shares = licenses.iter().filter(|found| found.id == license);
        let mut shares = shares.flat_map(|license| &license.shares);
        if !shares.any(|share| nodes.contains(&share.node) && share.state == WITHOUT_SHARE) {
            return Ok(nodes);
        }
        if Instant::now() >= deadline {
            return Err(Failure::unreachable(
                "NOT_REPAIRED",
                format!("the lost share of {license} is ordered and was not made again in time"),
            )
            .next(
                "both other nodes must be up (see `trine cluster status`); the order stands and \
                 is carried out as soon as they are",
            ));
        }
        sleep(Duration::from_millis(100)).await;
    }
}
