//! What `trine cluster doctor` asks of one node beside its status: its clock,
//! its disk, and which of the others it reaches.

use std::path::Path;

use futures_util::future::join_all;
use wire::v1;

use crate::formation::Formation;
use crate::telemetry::Metrics;

/// Looks at the node that has this data directory; a simulated one has none.
pub(crate) async fn look(
    formation: &Formation,
    metrics: &Metrics,
    data: Option<&Path>,
) -> v1::Checkup {
    let members = formation.roster.all().into_iter().map(|(node, endpoints)| async move {
        let reached = match node == formation.node {
            true => Ok(()),
            false => formation.peers.reach(node.0).await,
        };
        v1::checkup::Member {
            id: node.0,
            peer_address: endpoints.peer,
            client_address: endpoints.client,
            problem: reached.err().unwrap_or_default(),
        }
    });
    let members = join_all(members).await;
    let floor = formation.service.peek(|ledger| ledger.wall());
    let syncs = metrics.recent_syncs();
    v1::Checkup {
        wall_ms: formation.clock.wall().0,
        wall_floor_ms: floor.map(|floor| floor.0),
        disk: data.and_then(disk),
        syncs: syncs.map(|syncs| v1::checkup::Syncs {
            count: syncs.count as u64,
            median_us: micros(syncs.median),
            p99_us: micros(syncs.p99),
        }),
        members,
        ..Default::default()
    }
}

/// How full the file system of a directory is; `None` when it does not say.
pub(crate) fn disk(data: &Path) -> Option<v1::checkup::Disk> {
    let said = nix::sys::statvfs::statvfs(data).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(said.fragment_size());
    Some(v1::checkup::Disk {
        path: data.display().to_string(),
        bytes_total: bytes(said.blocks()),
        // What a process without privileges may still write.
        bytes_free: bytes(said.blocks_available()),
    })
}

fn micros(duration: std::time::Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_says_how_full_its_disk_is_and_a_missing_one_does_not() {
        let said = disk(Path::new("/")).expect("a file system");
        assert!(said.bytes_free <= said.bytes_total && said.bytes_total > 0, "{said:?}");
        assert_eq!(disk(Path::new("/no/such/directory")), None);
    }
}
