//! Whom the cluster trusts, as operators say and see it.

use ledger::Ledger;
use ledger::command::{Anchor, AnchorId};
use ledger::view::{CaView, VendorView};
use license::product::LicenseId;
use license::trust::VendorRoot;
use pki::{Ca, Pem};
use wire::v1;

use crate::api::convert::hex;
use crate::certificates::wall;

/// Reads what an operator wants trusted: a vendor's root file, or a CA's PEM.
pub(super) fn read(file: &[u8]) -> Result<Anchor, String> {
    if file.starts_with(b"TRINE") {
        return VendorRoot::decode(file).map(Anchor::Vendor).map_err(|refusal| refusal.to_string());
    }
    let ca = Ca::parse(Pem::new("the file", file)).map_err(|error| error.to_string())?;
    Ok(Anchor::ClusterCa(ca.der().to_vec()))
}

/// Reads which anchor is meant: its kind, and its digest in hexadecimal.
pub(super) fn read_id(kind: &str, digest: &str) -> Result<AnchorId, String> {
    let digest = unhex(digest).ok_or("the digest is not of 64 hexadecimal digits")?;
    match kind {
        VENDOR => Ok(AnchorId::Vendor(digest)),
        CA => Ok(AnchorId::ClusterCa(digest)),
        other => Err(format!("{other:?} is no kind of trust: it is {VENDOR:?} or {CA:?}")),
    }
}

/// The kinds, on the wire.
const VENDOR: &str = "vendor";
const CA: &str = "ca";

/// The name of an anchor for the log: kind and digest.
pub(super) fn named(anchor: &Anchor) -> (&'static str, String) {
    match anchor {
        Anchor::Vendor(root) => (VENDOR, hex(&root.key.digest())),
        Anchor::ClusterCa(certificate) => (CA, hex(&ledger::charter::ca_digest(certificate))),
    }
}

/// Everything that is trusted: vendors, then CAs.
pub(super) fn list(ledger: &Ledger) -> Vec<v1::TrustAnchor> {
    let vendors = ledger.vendors().into_iter().map(vendor);
    vendors.chain(ledger.cluster_cas().into_iter().map(ca)).collect()
}

fn vendor(vendor: VendorView) -> v1::TrustAnchor {
    v1::TrustAnchor {
        kind: VENDOR.to_owned(),
        digest: hex(&vendor.root.key.digest()),
        name: vendor.root.name,
        licenses: vendor.licenses.iter().map(LicenseId::to_string).collect(),
        ..v1::TrustAnchor::default()
    }
}

fn ca(ca: CaView) -> v1::TrustAnchor {
    let certificate = Ca::of_der(ca.certificate);
    v1::TrustAnchor {
        kind: CA.to_owned(),
        digest: hex(&ca.digest),
        name: certificate.name().unwrap_or_default(),
        nodes: ca.nodes.iter().map(|node| node.0).collect(),
        expires_ms: certificate.expires().map(|expires| wall(expires).0),
        ..v1::TrustAnchor::default()
    }
}

fn unhex(text: &str) -> Option<[u8; 32]> {
    let mut bytes = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        *byte = u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok()?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_nothing_to_trust_is_refused_in_words() {
        assert!(read(b"").is_err_and(|why| why.contains("BEGIN CERTIFICATE")));
        assert!(read(b"TRINEX").is_err_and(|why| why.contains("not a Trine file")));
        assert!(read_id("vendor", "12").is_err_and(|why| why.contains("64")));
        assert!(read_id("ca", &"+f".repeat(32)).is_err());
        assert!(read_id("king", &"0f".repeat(32)).is_err_and(|why| why.contains("\"ca\"")));
        assert_eq!(read_id("ca", &"0f".repeat(32)), Ok(AnchorId::ClusterCa([15; 32])));
    }
}
