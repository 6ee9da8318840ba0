//! A lost share made again by the two others, for the node that took over.
//!
//! An operator orders it, per license; the nodes do it among themselves; what
//! comes out is the very share that was lost, in its old place of the split,
//! sealed to the new holder's container and proved by it.

use license::container::ContainerSerial;
use license::product::{Epoch, LicenseId, LicenseSerial, NodeId};

use crate::command::{OrderRepair, ProofKind, Refusal, RepairRefusal, RepairShare};
use crate::ledger::{Entry, Ledger};
use crate::state::{Edition, Installed};
use crate::view::RepairNeed;

impl Ledger {
    pub(crate) fn order_repair(&mut self, body: &OrderRepair) -> Result<(), Refusal> {
        let (license, node) = (body.license, body.node);
        let container = self.member(node)?.container.serial();
        let unknown = Refusal::UnknownLicense { license };
        let installed = self.state.licenses.get(&license).ok_or(unknown)?;
        let lacking =
            installed.editions().filter(|edition| edition.license.signer(container).is_none());
        let judge = |edition: &Edition| {
            (edition.license.terms().serial, self.check_repairable(edition, node))
        };
        let judged: Vec<_> = lacking.map(judge).collect();
        let (may, may_not): (Vec<_>, Vec<_>) =
            judged.into_iter().partition(|(_, judged)| judged.is_ok());
        if may.is_empty() {
            let why = may_not.into_iter().find_map(|(_, judged)| judged.err());
            return Err(Refusal::Repair(why.unwrap_or(RepairRefusal::HasShare { license, node })));
        }
        for (serial, _) in may {
            self.update_edition(license, serial, |edition| {
                edition.repairs.insert(node);
            });
        }
        Ok(())
    }

    pub(crate) fn repair_share(
        &mut self,
        body: &RepairShare,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let RepairShare { license, serial, node, share, proof } = body;
        let (license, serial, node) = (*license, *serial, *node);
        let refuse = |refusal| Err(Refusal::Repair(refusal));
        let charter = self.chartered()?;
        let container = &self.member(node)?.container;
        let edition = self.edition(license, serial)?;
        if edition.license.signer(container.serial()).is_some() {
            return refuse(RepairRefusal::HasShare { license, node });
        }
        if !edition.repairs.contains(&node) {
            return refuse(RepairRefusal::NotOrdered { license, node });
        }
        let is_members = |serial| charter.members.iter().any(|m| m.container.serial() == serial);
        let reseated = (share.recipient() == container.key())
            .then(|| edition.license.reseat(share))
            .flatten()
            .filter(|(_, before)| !is_members(*before));
        let Some((reseated, before)) = reseated else {
            return refuse(RepairRefusal::NoFreePlace { license, node });
        };
        if edition.is_withdrawn(before) {
            return refuse(RepairRefusal::Withdrawn { license, node });
        }
        let epoch = Epoch(self.epoch());
        if !reseated.verify_attestation(&charter.cluster, epoch, node, container.serial(), proof) {
            return Err(Refusal::ProofInvalid { what: ProofKind::Attestation, node });
        }
        self.update_edition(license, serial, |edition| {
            edition.license = reseated;
            edition.repaired.push(share.clone());
            edition.repairs.remove(&node);
            edition.attested.insert(node);
        });
        self.refresh_service(entry);
        Ok(())
    }

    /// Editions whose lost share is to be made again for this node.
    pub fn repair_needs(&self, node: NodeId) -> Vec<RepairNeed> {
        let editions = self.state.licenses.iter().flat_map(|(_, installed)| installed.editions());
        let ordered = editions.filter(|edition| edition.repairs.contains(&node));
        let need = |edition: &Edition| {
            let terms = edition.license.terms();
            let (license, serial) = (terms.license, terms.serial);
            let holder = |container: &ContainerSerial| self.holder(*container);
            let containers = edition.license.containers();
            // Two hold their shares and one place of the split is nobody's.
            let lost = *containers.iter().find(|container| holder(container).is_none())?;
            let helpers: Vec<_> = containers.iter().filter_map(holder).collect();
            Some(RepairNeed { license, serial, node, helpers: helpers.try_into().ok()?, lost })
        };
        ordered.filter_map(need).collect()
    }

    /// The members that came after an edition of this license was issued.
    ///
    /// # Errors
    /// [`Refusal::UnknownLicense`].
    pub fn lacking_share(&self, license: LicenseId) -> Result<Vec<NodeId>, Refusal> {
        let unknown = Refusal::UnknownLicense { license };
        let installed = self.state.licenses.get(&license).ok_or(unknown)?;
        let members = self.charter().into_iter().flat_map(|charter| &charter.members);
        let lacks = |node: &NodeId| {
            installed.editions().any(|edition| !self.state.has_share(edition, *node))
        };
        Ok(members.map(|member| member.node).filter(lacks).collect())
    }

    /// Whether the share that a node lacks may be made again: it was not
    /// withdrawn, or it would be the same share, and two others may make it.
    fn check_repairable(&self, edition: &Edition, node: NodeId) -> Result<(), RepairRefusal> {
        let license = edition.license.terms().license;
        let places = edition.license.containers();
        let places = places.map(|place| (self.holder(place), edition.is_withdrawn(place)));
        if places.contains(&(None, true)) {
            return Err(RepairRefusal::Withdrawn { license, node });
        }
        if places.iter().filter(|(holder, _)| holder.is_none()).count() > 1 {
            return Err(RepairRefusal::TooFewShares { license, node });
        }
        match places.iter().find_map(|(holder, withdrawn)| holder.filter(|_| *withdrawn)) {
            Some(helper) => Err(RepairRefusal::HelperWithdrawn { license, node, helper }),
            None => Ok(()),
        }
    }

    /// The member that has this container.
    fn holder(&self, container: ContainerSerial) -> Option<NodeId> {
        let members = self.charter().map_or(&[][..], |charter| &charter.members);
        let holder = members.iter().find(|member| member.container.serial() == container);
        holder.map(|member| member.node)
    }

    /// How often a share of this edition was made again for another container.
    pub fn repairs_made(&self, license: LicenseId, serial: LicenseSerial) -> usize {
        let mut editions =
            self.state.licenses.get(&license).into_iter().flat_map(Installed::editions);
        let of_serial = editions.find(|edition| edition.license.terms().serial == serial);
        of_serial.map_or(0, |edition| edition.repaired.len())
    }
}
