//! Whom the cluster trusts, changed while it serves: vendors, and its own CAs.
//!
//! The new one stands beside the old until nothing needs the old any more, so a
//! rotation interrupts nobody and can stop, go on or go back at any step.

use license::package::Package;
use license::product::{LicenseId, NodeId};
use license::trust::VendorRoot;

use crate::charter::ca_digest;
use crate::command::{Anchor, AnchorId, Anchors, Distrust, Refusal, Trust, TrustRefusal};
use crate::ledger::Ledger;
use crate::limits::{CA_BYTES_MAX, CLUSTER_CAS_MAX, VENDOR_ROOTS_MAX};
use crate::state::Edition;
use crate::view::{CaView, VendorView};

impl Ledger {
    pub(crate) fn trust(&mut self, body: &Trust) -> Result<(), Refusal> {
        match &body.anchor {
            Anchor::Vendor(root) => self.trust_vendor(root),
            Anchor::ClusterCa(certificate) => self.trust_ca(certificate),
        }
        .map_err(Refusal::Trust)
    }

    fn trust_vendor(&mut self, root: &VendorRoot) -> Result<(), TrustRefusal> {
        let roots = &mut self.charter_mut().vendor_roots;
        // The same key under another name: the vendor renamed itself.
        if let Some(known) = roots.iter_mut().find(|known| known.key == root.key) {
            known.clone_from(root);
            return Ok(());
        }
        check_room(Anchors::Vendors, roots.len(), VENDOR_ROOTS_MAX)?;
        roots.push(root.clone());
        Ok(())
    }

    fn trust_ca(&mut self, certificate: &[u8]) -> Result<(), TrustRefusal> {
        if certificate.len() > CA_BYTES_MAX {
            return Err(TrustRefusal::CaTooLong { length: certificate.len() as u64 });
        }
        let cas = &mut self.charter_mut().cas;
        let digest = ca_digest(certificate);
        if !cas.contains_key(&digest) {
            check_room(Anchors::ClusterCas, cas.len(), CLUSTER_CAS_MAX)?;
            cas.insert(digest, certificate.to_vec());
        }
        Ok(())
    }

    pub(crate) fn distrust(&mut self, body: &Distrust) -> Result<(), Refusal> {
        match &body.anchor {
            AnchorId::Vendor(digest) => self.distrust_vendor(digest),
            AnchorId::ClusterCa(digest) => {
                // Nobody heard yet under which CA a node on its way in is.
                self.require_no_replacement()?;
                self.distrust_ca(digest)
            }
        }
        .map_err(Refusal::Trust)
    }

    fn distrust_vendor(&mut self, digest: &[u8; 32]) -> Result<(), TrustRefusal> {
        let licenses = self.licenses_under(digest);
        if !licenses.is_empty() {
            return Err(TrustRefusal::VendorNeeded { licenses });
        }
        self.charter_mut().vendor_roots.retain(|root| root.key.digest() != *digest);
        Ok(())
    }

    fn distrust_ca(&mut self, digest: &[u8; 32]) -> Result<(), TrustRefusal> {
        let nodes = self.nodes_under(digest);
        let cas = &mut self.charter_mut().cas;
        if !cas.contains_key(digest) {
            return Ok(());
        }
        if cas.len() == 1 {
            return Err(TrustRefusal::LastCa);
        }
        if !nodes.is_empty() {
            return Err(TrustRefusal::CaInUse { nodes });
        }
        cas.remove(digest);
        Ok(())
    }

    /// The licenses that stand on a vendor's root, an update on its way too.
    fn licenses_under(&self, root: &[u8; 32]) -> Vec<LicenseId> {
        let stands_on = |edition: &Edition| {
            // An installed package was read before it was installed.
            Package::decode(&edition.package)
                .is_ok_and(|package| package.claimed_certificate().issuer() == root)
        };
        let licenses = self.state.licenses.iter();
        licenses
            .filter(|(_, installed)| installed.editions().any(stands_on))
            .map(|(id, _)| *id)
            .collect()
    }

    /// The members whose certificates are under a CA: as each said last, and
    /// those that never said.
    fn nodes_under(&self, ca: &[u8; 32]) -> Vec<NodeId> {
        let members = self.charter().into_iter().flat_map(|charter| &charter.members);
        let uses = |node: &NodeId| self.state.vitals.get(node).is_none_or(|said| said.ca == *ca);
        members.map(|member| member.node).filter(uses).collect()
    }

    /// The vendors whose licenses may be installed, and the licenses of each.
    pub fn vendors(&self) -> Vec<VendorView> {
        let roots = self.charter().into_iter().flat_map(|charter| &charter.vendor_roots);
        roots
            .map(|root| VendorView {
                root: root.clone(),
                licenses: self.licenses_under(&root.key.digest()),
            })
            .collect()
    }

    /// The cluster CAs, and whose certificates are under each.
    pub fn cluster_cas(&self) -> Vec<CaView> {
        let cas = self.charter().into_iter().flat_map(|charter| &charter.cas);
        cas.map(|(digest, certificate)| CaView {
            digest: *digest,
            certificate: certificate.clone(),
            nodes: self.nodes_under(digest),
        })
        .collect()
    }
}

fn check_room(what: Anchors, held: usize, limit: u32) -> Result<(), TrustRefusal> {
    if held < limit as usize { Ok(()) } else { Err(TrustRefusal::Full { what, limit }) }
}
