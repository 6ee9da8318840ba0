//! Licenses and their shares: installing, proving, signing, withdrawing, and
//! whether each license serves.
//!
//! An update takes over only when it would serve itself, so it interrupts
//! nobody: until then the license in force goes on.

use std::collections::BTreeSet;

use license::container::ContainerIdentity;
use license::package::{License, Package, PackageRefusal};
use license::product::{Epoch, LicenseId, LicenseSerial, NodeId, ProductName};
use license::terms::Counting;

use crate::command::{
    Attest, Bound, Install, LeaseId, ProofKind, Refusal, RepairRefusal, ShareState, SignTerm,
    WithdrawShare,
};
use crate::event::Event;
use crate::index::LicenseStanding;
use crate::ledger::{Entry, Ledger};
use crate::limits::SILENCE_MILLIS;
use crate::memory::RequestState;
use crate::name::Subject;
use crate::state::{Edition, Installed, State};
use crate::usage::Fact;
use crate::view::Service;

/// Shares that must be live for a license to serve.
const SHARES_NEEDED: usize = 2;

impl Ledger {
    pub(crate) fn install(&mut self, body: &Install, entry: &mut Entry) -> Result<(), Refusal> {
        let license = self.believed(&body.package)?;
        let (id, serial) = (license.terms().license, license.terms().serial);
        let issued = license.terms().issued;
        let edition = Edition {
            package: body.package.clone(),
            license,
            repaired: Vec::new(),
            repairs: BTreeSet::new(),
            attested: BTreeSet::new(),
            withdrawn: BTreeSet::new(),
            signed_term: None,
        };
        match self.state.licenses.get(&id).map(Installed::newest) {
            None => {
                self.check_name_is_the_firms(id, &edition.license.terms().name)?;
                Bound::Licenses.check_room(self.state.licenses.len())?;
                self.state.licenses.insert(id, Installed { current: edition, next: None });
                self.come_into_force(id, entry);
            }
            // Installing the same package twice is a retry.
            Some(newest) if newest.package == edition.package => return Ok(()),
            Some(newest) if newest.license.terms().serial >= serial => {
                let installed = newest.license.terms().serial;
                let not_newer = PackageRefusal::NotNewer { installed, offered: serial };
                return Err(Refusal::Package(not_newer));
            }
            // Seats and queues are the product's: under another name they would be nobody's.
            Some(newest) if newest.license.terms().name != edition.license.terms().name => {
                return Err(Refusal::Package(PackageRefusal::OtherProduct {
                    license: id,
                    installed: newest.license.terms().name.clone(),
                    offered: edition.license.terms().name.clone(),
                }));
            }
            Some(_) => {
                self.state.licenses.update(&id, |installed| installed.next = Some(edition));
            }
        }
        let clock = self.clock();
        self.state.scalars.calendar.issued(id.firm, issued, clock);
        self.refresh_service(entry);
        Ok(())
    }

    /// A pool is one product's: a license of another firm would add its seats to it.
    fn check_name_is_the_firms(
        &self,
        offered: LicenseId,
        product: &ProductName,
    ) -> Result<(), Refusal> {
        let mut licenses = self.state.licenses.iter();
        let anothers = licenses.find(|(id, installed)| {
            id.firm != offered.firm && installed.current.license.terms().name == *product
        });
        match anothers {
            None => Ok(()),
            Some((installed, _)) => Err(Refusal::Package(PackageRefusal::NameOfAnotherFirm {
                product: product.clone(),
                installed: *installed,
                offered,
            })),
        }
    }

    fn believed(&self, package: &[u8]) -> Result<License, Refusal> {
        let charter = self.chartered()?;
        let containers: Vec<_> = charter.members.iter().map(|m| m.container.clone()).collect();
        Package::decode(package)
            .and_then(|package| {
                package.verify(&charter.vendor_roots, &charter.cluster, &containers)
            })
            .map_err(Refusal::Package)
    }

    pub(crate) fn attest(&mut self, body: &Attest, entry: &mut Entry) -> Result<(), Refusal> {
        let cluster = self.chartered()?.cluster;
        let container = self.member(body.node)?.container.serial();
        let edition = self.edition(body.license, body.serial)?;
        let holds = edition.license.verify_attestation(
            &cluster,
            Epoch(self.epoch()),
            body.node,
            container,
            &body.proof,
        );
        if !holds {
            return Err(Refusal::ProofInvalid { what: ProofKind::Attestation, node: body.node });
        }
        self.update_edition(body.license, body.serial, |edition| {
            edition.attested.insert(body.node);
        });
        self.refresh_service(entry);
        Ok(())
    }

    /// Who signs, and the leader who asks, may both be behind a withdrawal when a
    /// term begins. This ledger is not: what the shares are at this place in the log counts.
    pub(crate) fn sign_term(&mut self, body: &SignTerm, entry: &mut Entry) -> Result<(), Refusal> {
        let cluster = self.chartered()?.cluster;
        let edition = self.edition(body.license, body.serial)?;
        let holds = body.term == self.term()
            && edition.license.verify_term(
                &cluster,
                Epoch(self.epoch()),
                body.term,
                &body.signature,
            );
        if !holds {
            let (license, term) = (body.license, body.term);
            return Err(Refusal::TermSignatureInvalid { license, term });
        }
        if let Some(node) = body.signers.into_iter().find(|node| !self.may_sign(edition, *node)) {
            let (license, state) = (body.license, self.state.share(edition, node));
            return Err(Refusal::SignerNotInService { license, node, state });
        }
        self.update_edition(body.license, body.serial, |edition| {
            edition.signed_term = Some(body.term);
        });
        self.refresh_service(entry);
        Ok(())
    }

    /// Whether a node's share is proved and not withdrawn, heard or not.
    pub(crate) fn may_sign(&self, edition: &Edition, node: NodeId) -> bool {
        matches!(self.state.share(edition, node), ShareState::Live | ShareState::Silent)
    }

    /// Stays withdrawn until an update of the license with a higher serial,
    /// whoever has its place by then. The share of a node that is gone can be
    /// withdrawn too, and the one in a container that its node has no more, so
    /// that nobody makes it again; and where it was made again already, the same
    /// share is withdrawn from who has it now.
    pub(crate) fn withdraw_share(
        &mut self,
        body: &WithdrawShare,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let (license, node) = (body.license, body.node);
        let charter = self.chartered()?;
        let containers: Vec<_> =
            charter.containers_of(node).map(ContainerIdentity::serial).collect();
        if containers.is_empty() {
            return Err(Refusal::UnknownNode { node });
        }
        let has_one = |edition: &Edition| !edition.places_of(&containers).is_empty();
        let unknown = Refusal::UnknownLicense { license };
        let installed = self.state.licenses.get(&license).ok_or(unknown)?;
        if !installed.editions().any(has_one) {
            return Err(Refusal::Repair(RepairRefusal::NoShare { license, node }));
        }
        self.state.licenses.update(&license, |installed| {
            installed.each_edition(|edition| {
                let places = edition.places_of(&containers);
                // It is the one to be made again, or one of the two that would make it.
                if !places.is_empty() {
                    edition.repairs.clear();
                }
                edition.withdrawn.extend(places);
            });
        });
        self.refresh_service(entry);
        Ok(())
    }

    pub(crate) fn edition(
        &self,
        license: LicenseId,
        serial: LicenseSerial,
    ) -> Result<&Edition, Refusal> {
        let unknown = Refusal::UnknownLicense { license };
        let installed = self.state.licenses.get(&license).ok_or(unknown)?;
        let of_serial = |edition: &&Edition| edition.license.terms().serial == serial;
        installed.editions().find(of_serial).ok_or_else(|| {
            let newest = installed.newest().license.terms().serial;
            Refusal::OtherSerial { license, installed: newest, asked: serial }
        })
    }

    pub(crate) fn update_edition(
        &mut self,
        license: LicenseId,
        serial: LicenseSerial,
        change: impl FnOnce(&mut Edition),
    ) {
        self.state.licenses.update(&license, |installed| {
            installed.edition_mut(serial).map(change);
        });
    }

    /// Looks at every license anew: after time has passed, and after any
    /// command that could change how one stands.
    pub(crate) fn refresh_service(&mut self, entry: &mut Entry) {
        let ids: Vec<LicenseId> = self.state.licenses.iter().map(|(id, _)| *id).collect();
        for id in ids {
            self.promote(id, entry);
            let Some(installed) = self.state.licenses.get(&id) else { continue };
            let standing = self.state.standing(&installed.current);
            self.note_standing(id, standing, entry);
        }
    }

    fn note_standing(&mut self, id: LicenseId, standing: LicenseStanding, entry: &mut Entry) {
        let known = self.index.standing.get(&id);
        if known == Some(&standing) {
            return;
        }
        let before = known.map_or(&[][..], |known| &known.shares);
        for (node, state) in standing.shares.iter().filter(|share| !before.contains(share)) {
            entry.events.push(Event::ShareChanged { license: id, node: *node, state: *state });
        }
        let service = standing.service;
        if known.map(|known| known.service) != Some(service) {
            entry.events.push(Event::ServiceChanged { license: id, service });
            entry.note(Fact::ServiceChanged { license: id, service });
            self.mark_freed(id, entry);
        }
        self.index.standing.insert(id, standing);
    }

    /// An update that could serve takes over.
    fn promote(&mut self, id: LicenseId, entry: &mut Entry) {
        let ready = self.state.licenses.get(&id).and_then(|installed| installed.next.as_ref());
        if ready.is_none_or(|next| self.state.standing(next).service != Service::Serving) {
            return;
        }
        self.mark_freed(id, entry);
        self.state.licenses.update(&id, |installed| {
            if let Some(next) = installed.next.take() {
                installed.current = next;
            }
        });
        self.come_into_force(id, entry);
    }

    fn come_into_force(&mut self, id: LicenseId, entry: &mut Entry) {
        self.index.arrange_licenses(&self.state);
        self.mark_surplus(id);
        self.mark_freed(id, entry);
        if let Some(terms) = self.terms(id) {
            let (serial, product) = (terms.serial, terms.name.clone());
            entry.events.push(Event::LicenseInForce { license: id, serial, product });
        }
        if let Some(fact) = self.licensed(id, false) {
            entry.note(fact);
        }
    }

    /// More may fit into the license's pool now.
    fn mark_freed(&self, id: LicenseId, entry: &mut Entry) {
        if let Some(terms) = self.terms(id) {
            entry.freed.insert(self.index.interned(&terms.name));
        }
    }

    /// S12: of the seats charged to a license that shrank, the newest give way.
    ///
    /// They live until their deadlines and are renewed only on another license
    /// with room. One pass over all seats, for a command that is rare.
    fn mark_surplus(&mut self, id: LicenseId) {
        let Some(terms) = self.terms(id) else { return };
        let (counting, seats) = (terms.counting, u64::from(terms.seats));
        let mut stations: BTreeSet<Subject> = BTreeSet::new();
        let mut taken = 0;
        let mut changes: Vec<(LeaseId, bool)> = Vec::new();
        for lease_id in self.index.seats.values() {
            let Some(request) = self.state.requests.get(lease_id) else { continue };
            let RequestState::Live(lease) = &request.state else { continue };
            if lease.charged != id {
                continue;
            }
            taken = match counting {
                Counting::PerStation => {
                    if taken < seats {
                        stations.insert(request.subject.clone());
                    }
                    stations.len() as u64
                }
                _ => taken + 1,
            };
            let surplus = match counting {
                Counting::Unlimited => false,
                Counting::PerStation => !stations.contains(&request.subject),
                Counting::PerInstance | Counting::ExclusivePerStation => taken > seats,
            };
            if surplus != lease.surplus {
                changes.push((*lease_id, surplus));
            }
        }
        for (lease_id, surplus) in changes {
            self.update_lease(lease_id, |lease| lease.surplus = surplus);
        }
    }
}

impl State {
    /// How an edition stands at the ledger's clock, in its term.
    pub(crate) fn standing(&self, edition: &Edition) -> LicenseStanding {
        let members = self.scalars.charter.iter().flat_map(|charter| &charter.members);
        let shares: Vec<_> =
            members.map(|member| (member.node, self.share(edition, member.node))).collect();
        let live = shares.iter().filter(|(_, state)| *state == ShareState::Live).count();
        let terms = edition.license.terms();
        let wall = self.wall_of(terms.license.firm);
        let service = if wall.is_some_and(|now| terms.expiration.is_some_and(|end| now >= end)) {
            Service::Expired
        } else if terms.activation.is_some_and(|from| wall.is_none_or(|now| now < from)) {
            Service::NotYetActive
        } else if live < SHARES_NEEDED {
            Service::SharesMissing
        } else if edition.signed_term != Some(self.scalars.term) {
            Service::TermUnsigned
        } else {
            Service::Serving
        };
        LicenseStanding { service, shares }
    }

    pub(crate) fn share(&self, edition: &Edition, node: NodeId) -> ShareState {
        let member = self.scalars.charter.as_ref().and_then(|charter| charter.member(node));
        let container = member.map(|member| member.container.serial());
        let Some(container) = container.filter(|c| edition.license.signer(*c).is_some()) else {
            return ShareState::Missing;
        };
        if edition.is_withdrawn(container) {
            return ShareState::Withdrawn;
        }
        if !edition.attested.contains(&node) {
            return ShareState::Unattested;
        }
        if self.is_heard(node) { ShareState::Live } else { ShareState::Silent }
    }

    /// Whether a node has a place in the split of this edition: one that came
    /// after it was issued has none.
    pub(crate) fn has_share(&self, edition: &Edition, node: NodeId) -> bool {
        let member = self.scalars.charter.as_ref().and_then(|charter| charter.member(node));
        member.is_some_and(|member| edition.license.signer(member.container.serial()).is_some())
    }

    /// Whether a node was heard within three seconds.
    pub(crate) fn is_heard(&self, node: NodeId) -> bool {
        let vitals = self.vitals.get(&node);
        vitals.is_some_and(|v| self.scalars.clock.millis_since(v.heard) <= SILENCE_MILLIS)
    }
}
