//! Keeps whom a node believes up with the cluster CAs in the ledger.

use std::collections::BTreeSet;
use std::convert::Infallible;

use ledger::Ledger;
use license::product::NodeId;
use pki::Ca;

use crate::certificates::Certificates;
use crate::news::or_never;
use crate::serve::Closer;
use crate::store::machine::View;

/// Tells the node's trust of every change, and asks those who came in under a
/// CA that is trusted no more to come in anew. Never ends.
///
/// A node that joined later believes what its configuration names until it has
/// read how it was let in: the CAs of the history before that may be gone since.
pub(crate) async fn follow(
    node: NodeId,
    view: &View,
    certificates: &Certificates,
    closers: [&Closer; 2],
) -> Infallible {
    let mut progress = view.progress();
    let mut told = BTreeSet::new();
    loop {
        if let Some(cas) = view.look(|ledger| changed(ledger, node, &told)) {
            let now: BTreeSet<_> = cas.iter().map(Ca::digest).collect();
            match certificates.trust.believe(&cas) {
                Ok(()) => {
                    tracing::info!(cas = cas.len(), "the cluster CAs in the ledger are trusted")
                }
                Err(error) => {
                    tracing::error!(%error, "a cluster CA in the ledger cannot be used; the CAs trusted so far stay")
                }
            }
            if !told.is_subset(&now) {
                closers.iter().for_each(|closer| closer.move_on());
            }
            told = now;
        }
        or_never(progress.changed()).await;
    }
}

/// The CAs in the ledger, if they are others than these and `node` belongs to
/// the cluster already.
fn changed(ledger: &Ledger, node: NodeId, told: &BTreeSet<[u8; 32]>) -> Option<Vec<Ca>> {
    let charter = ledger.charter()?;
    charter.belonging(node)?;
    let cas = &charter.cas;
    let is_news = !cas.keys().eq(told);
    is_news.then(|| cas.values().map(|certificate| Ca::of_der(certificate.clone())).collect())
}
