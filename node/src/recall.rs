//! Fetching history: the pages that a snapshot from another node covers and
//! that this node never wrote.
//!
//! The latest first: each page is checked when it arrives, against the hash
//! that the one after it names, so it does not matter which node it comes
//! from. A restart goes on where the last one stopped.

use std::time::Duration;

use tonic::Status;
use wire::peer::HistoryRequest;

use crate::peers::Peers;
use crate::store::history::{History, Missing};

/// Pages asked for at once, and the most that a node gives.
pub(crate) const PAGES_MAX: u64 = 1_024;
/// Bytes of pages in one answer.
pub(crate) const PAGES_BYTES_MAX: usize = 8 << 20;
/// One answer takes no longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// Between two rounds over peers that do not have what is missing.
const PAUSE: Duration = Duration::from_millis(500);

/// Fetches whatever comes to be missing. Never ends.
pub(crate) async fn run(history: History, peers: Peers) {
    let mut changes = history.changes();
    loop {
        changes.mark_unchanged();
        match history.missing() {
            None => {
                // The sender lives as long as `history`.
                let _ = changes.changed().await;
            }
            Some(missing) => {
                tracing::info!(from = missing.from, until = missing.until, "fetching history");
                for peer in peers.ids() {
                    fetch_from(&history, &peers, peer).await;
                }
                if history.missing().is_some() {
                    tokio::time::sleep(PAUSE).await;
                } else {
                    tracing::info!("history is whole");
                }
            }
        }
    }
}

/// Fetches as much as one peer has.
async fn fetch_from(history: &History, peers: &Peers, peer: u64) {
    let mut count = PAGES_MAX;
    while let Some(missing) = history.missing() {
        let from = missing.from.max(missing.until.saturating_sub(count));
        match ask(peers, peer, from, &missing).await {
            // Large pages: not all of them fit into one answer.
            Ok(pages) if (pages.len() as u64) < missing.until - from && count > 1 => count /= 2,
            Ok(pages) => {
                if let Err(unfit) = history.fill(&pages).await {
                    tracing::warn!(peer, %unfit, "this node's history is not taken");
                    return;
                }
            }
            Err(status) => {
                tracing::debug!(peer, %status, "no history from this node");
                return;
            }
        }
    }
}

async fn ask(
    peers: &Peers,
    peer: u64,
    from: u64,
    missing: &Missing,
) -> Result<Vec<Vec<u8>>, Status> {
    let mut client = peers.calls(peer).ok_or_else(|| Status::not_found("no such peer"))?;
    let request = HistoryRequest { from_page: from, until_page: missing.until };
    let answer = tokio::time::timeout(ANSWER_MAX, client.history(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in time"))?;
    Ok(answer?.into_inner().pages)
}
