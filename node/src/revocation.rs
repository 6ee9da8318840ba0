//! Keeps a node's handshakes up with the ledger: its revoked certificates, and
//! its date.
//!
//! Calls are checked against the ledger itself, at the gate and at the peer
//! door. What is told on here refuses new connections, and ends those that this
//! node dialed. Nodes that are gone are told on as well: one whose certificate
//! was revoked hears at the peer door by whom it was replaced, and stops.

use std::collections::BTreeSet;

use ledger::Ledger;
use pki::Fingerprint;

use crate::certificates::{Certificates, unix};
use crate::news::or_never;
use crate::store::machine::View;

/// Tells the node's trust of every change. Never ends.
///
/// The date moves on with cluster time, which entries carry: at least one a second.
pub(crate) async fn run(view: View, certificates: Certificates) {
    let mut progress = view.progress();
    let mut told = view.look(Ledger::revoked_mark);
    let mut own_told = BTreeSet::new();
    certificates.trust.refuse(view.look(fingerprints));
    loop {
        certificates.trust.tell(view.look(gone));
        if let Some(date) = view.look(Ledger::wall) {
            certificates.trust.date_is(unix(date));
        }
        for one in certificates.in_use() {
            if certificates.trust.is_revoked(&one.fingerprint) && own_told.insert(one) {
                tracing::error!(
                    which = one.which, fingerprint = %one.fingerprint,
                    "the certificate of this node was revoked: the others let it in no more; issue another with `trine pki renew` and put the files in place"
                );
            }
        }
        or_never(progress.changed()).await;
        let mark = view.look(Ledger::revoked_mark);
        if mark != told {
            told = mark;
            certificates.trust.refuse(view.look(fingerprints));
        }
    }
}

fn gone(ledger: &Ledger) -> BTreeSet<u64> {
    let retired = ledger.charter().into_iter().flat_map(|charter| charter.retired.keys());
    retired.map(|node| node.0).collect()
}

fn fingerprints(ledger: &Ledger) -> BTreeSet<Fingerprint> {
    let revoked = ledger.revoked_certificates().into_iter();
    revoked.map(|revoked| Fingerprint(revoked.fingerprint)).collect()
}
