//! Reading the ledger: what the node needs to act, and what operators see.

use license::container::ContainerSerial;
use license::product::{Epoch, FirmCode, LicenseId, LicenseSerial, NodeId, ProductName, WallTime};

use crate::charter::Charter;
use crate::command::{LeaseId, RestorePlan};
use crate::counters::Counters;
use crate::ledger::Ledger;
use crate::memory::RequestState;
use crate::name::Subject;
use crate::pool::Pool;
use crate::state::{Bearer, Edition, Installed, Revoked};
use crate::time::ClusterTime;
use crate::view::{
    AttestationNeed, BearerView, Comparison, FirmDateView, LicenseView, MemberView, PackageView,
    PoolView, RevokedMark, RevokedView, SeatView, Service, ShareView, SignatureNeed, WaiterView,
};

impl Ledger {
    /// Cluster time: of the last batch that had an effect.
    pub fn clock(&self) -> ClusterTime {
        self.state.scalars.clock
    }

    /// The common wall floor now: tokens run on it. `None` before a license or
    /// the nodes' clocks set it.
    pub fn wall(&self) -> Option<WallTime> {
        self.state.wall()
    }

    /// The wall floor that a firm's licenses run on: its own once a license of
    /// it was installed, else the common one.
    pub fn date_of(&self, firm: FirmCode) -> Option<WallTime> {
        self.state.wall_of(firm)
    }

    /// The wall floor of every firm that has had a license here.
    pub fn firm_dates(&self) -> Vec<FirmDateView> {
        let firms = self.state.scalars.calendar.firms(self.clock());
        let view = |(firm, date, last_reset)| FirmDateView { firm, date, last_reset };
        firms.map(view).collect()
    }

    /// The term of the last batch that had an effect.
    pub fn term(&self) -> u64 {
        self.state.scalars.term
    }

    /// The log index of the last batch that had an effect.
    pub fn applied(&self) -> u64 {
        self.state.scalars.applied
    }

    /// The restore epoch: the first part of every log id given out now. It rises
    /// when a restore begins, and stays when that is given up.
    pub fn epoch(&self) -> u64 {
        self.state.scalars.epoch
    }

    /// The last fencing token that was given out (S5).
    pub fn last_token(&self) -> u64 {
        self.state.scalars.last_token
    }

    /// The restore under way, and the first of its parts that has not arrived.
    pub fn restoring(&self) -> Option<(&RestorePlan, u32)> {
        let plan = self.state.scalars.restoring.as_ref()?;
        let missing =
            self.state.parts.iter().zip(0..).find(|((held, _), number)| **held != *number);
        let held = u32::try_from(self.state.parts.len()).unwrap_or(u32::MAX);
        Some((plan, missing.map_or(held, |(_, number)| number)))
    }

    /// Who belongs to the cluster and whom it trusts; `None` before genesis.
    pub fn charter(&self) -> Option<&Charter> {
        self.state.scalars.charter.as_ref()
    }

    /// What has happened so far.
    pub fn counters(&self) -> &Counters {
        &self.state.scalars.counters
    }

    /// Live leases, all products together.
    pub fn live(&self) -> u64 {
        self.index.seats.len() as u64
    }

    /// The latest checkpoint, (log index, hash), for this node's heartbeat.
    pub fn checkpoint(&self) -> Option<(u64, [u8; 32])> {
        self.state.scalars.checkpoints.last().copied()
    }

    /// The earliest time at which a lease, a wait or a memory is due.
    ///
    /// The leader logs a stamp then. The end of the quiet after a restore is
    /// such a time too. A share's silence and license dates are
    /// not in it: the stamp of every second finds those.
    pub fn next_deadline(&self) -> Option<ClusterTime> {
        let firsts = [self.index.ends.first(), self.index.forgets.first()];
        let firsts = firsts.into_iter().flatten().map(|(time, _)| *time);
        firsts.chain(self.quiet_until()).min()
    }

    /// Whether something was due and is left over: the next entry goes on with
    /// it, so the leader should log one soon.
    pub fn overdue(&self) -> bool {
        self.next_deadline().is_some_and(|due| due <= self.clock())
    }

    /// The members.
    pub fn members(&self) -> Vec<MemberView> {
        let members = self.charter().into_iter().flat_map(|charter| &charter.members);
        let view = |member: &crate::command::Member| {
            let vitals = self.state.vitals.get(&member.node);
            MemberView {
                node: member.node,
                container: member.container.clone(),
                // A restore puts it back to the beginning (`forget_vitals`).
                heard: vitals.map(|v| v.heard).filter(|heard| *heard > ClusterTime(0)),
                count: vitals.map_or(0, |vitals| vitals.count),
                wall: vitals.map(|vitals| vitals.wall),
                applied: vitals.map(|vitals| vitals.applied),
                live: self.state.is_heard(member.node),
                build: vitals.map(|vitals| vitals.build),
            }
        };
        members.map(view).collect()
    }

    /// How long the members have been those they are, in milliseconds: since the
    /// cluster was formed or restored, or since a member was last replaced.
    pub fn members_for(&self) -> u64 {
        self.clock().millis_since(self.state.scalars.members_since)
    }

    /// How long the present leader's term has lasted, in milliseconds.
    pub fn term_for(&self) -> u64 {
        self.clock().millis_since(self.state.scalars.term_since)
    }

    /// Whether what was heard `then` was heard in the present term. Between two
    /// terms cluster time stands still for as long as nobody leads, so a clock that
    /// was heard before does not compare with one that is heard now.
    pub fn is_of_this_term(&self, then: ClusterTime) -> bool {
        then >= self.state.scalars.term_since
    }

    /// Whom a bearer token stands for, unless it has expired on the wall floor.
    pub fn find_token(&self, digest: &[u8; 32]) -> Option<Subject> {
        let bearer = self.state.bearers.get(digest)?;
        self.is_valid(bearer).then(|| bearer.subject.clone())
    }

    /// The live seats of one product, or of all, by token.
    pub fn seats(&self, product: Option<&ProductName>) -> Vec<SeatView> {
        let of_product = |seat: &SeatView| product.is_none_or(|product| seat.product == *product);
        self.index.seats.values().filter_map(|id| self.seat(*id)).filter(of_product).collect()
    }

    fn seat(&self, id: LeaseId) -> Option<SeatView> {
        let request = self.state.requests.get(&id)?;
        let RequestState::Live(lease) = &request.state else { return None };
        Some(SeatView {
            token: lease.grant.token,
            product: ProductName::clone(&lease.wanted.product),
            license: lease.charged,
            subject: request.subject.clone(),
            holder: lease.wanted.holder.clone(),
            granted: lease.grant.granted,
            deadline: lease.deadline,
            ttl: lease.wanted.ttl,
            revoked_by: lease.revoked.clone(),
            surplus: lease.surplus,
        })
    }

    /// Who waits for one product, or for any: by product, the head first.
    pub fn waiters(&self, product: Option<&ProductName>) -> Vec<WaiterView> {
        let pools = self.index.pools.iter();
        let pools = pools.filter(|(name, _)| product.is_none_or(|product| ***name == *product));
        let queued = pools.flat_map(|(_, pool)| pool.queue.iter().zip(1..));
        queued.filter_map(|((_, id), position)| self.waiter(*id, position)).collect()
    }

    /// Whether this request has a place in a queue. Asked again it only says that it
    /// is still wanted.
    pub fn is_waiting(&self, id: LeaseId) -> bool {
        let request = self.state.requests.get(&id);
        request.is_some_and(|request| matches!(request.state, RequestState::Waiting(_)))
    }

    fn waiter(&self, id: LeaseId, position: u32) -> Option<WaiterView> {
        let request = self.state.requests.get(&id)?;
        let RequestState::Waiting(waiting) = &request.state else { return None };
        Some(WaiterView {
            product: ProductName::clone(&waiting.wanted.product),
            position,
            subject: request.subject.clone(),
            holder: waiting.wanted.holder.clone(),
            since: waiting.since,
            until: waiting.wait_until,
        })
    }

    /// The bearer tokens that work, by subject and end.
    pub fn bearer_tokens(&self) -> Vec<BearerView> {
        let mut tokens: Vec<_> = self
            .state
            .bearers
            .iter()
            .filter(|(_, bearer)| self.is_valid(bearer))
            .map(|(_, bearer)| BearerView {
                subject: bearer.subject.clone(),
                expires: bearer.expires,
            })
            .collect();
        tokens.sort();
        tokens
    }

    fn is_valid(&self, bearer: &Bearer) -> bool {
        self.wall().is_none_or(|date| date < bearer.expires)
    }

    /// Whether the certificate of this fingerprint is shut out.
    pub fn is_revoked(&self, fingerprint: &[u8; 32]) -> bool {
        self.state.revoked.get(fingerprint).is_some()
    }

    /// The certificates that are shut out, by fingerprint.
    pub fn revoked_certificates(&self) -> Vec<RevokedView> {
        let view = |(fingerprint, revoked): (&[u8; 32], &Revoked)| RevokedView {
            fingerprint: *fingerprint,
            subject: revoked.subject.clone(),
            expires: revoked.expires,
            by: revoked.by.clone(),
        };
        self.state.revoked.iter().map(view).collect()
    }

    /// Changes whenever [`revoked_certificates`](Self::revoked_certificates)
    /// does. Cheap, for those who look after every entry.
    pub fn revoked_mark(&self) -> RevokedMark {
        RevokedMark(self.state.revoked.sum())
    }

    /// All pools, by product. Does not look at single leases.
    pub fn pools(&self) -> Vec<PoolView> {
        let view = |(product, pool): (&std::sync::Arc<ProductName>, &Pool)| PoolView {
            product: ProductName::clone(product),
            capacity: self.room(pool).capacity,
            seats: self.seats_taken(pool),
            leases: pool.charges.values().map(|charge| charge.leases).sum(),
            waiting: pool.queue.len() as u32,
            licenses: pool.licenses.clone(),
        };
        self.index.pools.iter().map(view).collect()
    }

    /// All licenses.
    pub fn licenses(&self) -> Vec<LicenseView> {
        self.state.licenses.iter().map(|(id, installed)| self.license(*id, installed)).collect()
    }

    fn license(&self, id: LicenseId, installed: &Installed) -> LicenseView {
        let terms = installed.current.license.terms();
        let charge = self.index.pools.get(&terms.name).and_then(|pool| pool.charges.get(&id));
        let standing = self.index.standing.get(&id);
        let shares = standing.into_iter().flat_map(|standing| &standing.shares);
        LicenseView {
            terms: terms.clone(),
            service: standing.map_or(Service::SharesMissing, |standing| standing.service),
            shares: shares.map(|(node, state)| ShareView { node: *node, state: *state }).collect(),
            seats: charge.map_or(0, |charge| charge.seats(terms.counting)),
            update: installed.next.as_ref().map(|next| next.license.terms().serial),
        }
    }

    /// The packages of a license as the vendor wrote them, from which a node
    /// takes its share: the one in force, then the update on its way.
    pub fn packages(&self, license: LicenseId) -> Vec<PackageView<'_>> {
        let installed = self.state.licenses.get(&license).into_iter();
        installed.flat_map(Installed::editions).map(Edition::view).collect()
    }

    /// The containers that the shares of a license are in, those that were made
    /// again too, and whether each share was withdrawn: of the edition in force,
    /// then of the update on its way.
    pub fn share_containers(&self, license: LicenseId) -> Vec<[(ContainerSerial, bool); 3]> {
        let installed = self.state.licenses.get(&license).into_iter();
        let places = |edition: &Edition| {
            edition.license.containers().map(|place| (place, edition.is_withdrawn(place)))
        };
        installed.flat_map(Installed::editions).map(places).collect()
    }

    /// Editions that two shares have not yet signed for `term`: the ledger's own,
    /// or one that has begun and of which it has heard nothing yet.
    pub fn signature_needs(&self, term: u64) -> Vec<SignatureNeed> {
        let epoch = Epoch(self.epoch());
        let editions = self.state.licenses.iter().flat_map(|(_, installed)| installed.editions());
        let unsigned = editions.filter(|edition| edition.signed_term != Some(term));
        let need = |terms: &license::terms::Terms| SignatureNeed {
            license: terms.license,
            serial: terms.serial,
            epoch,
            term,
        };
        unsigned.map(|edition| need(edition.license.terms())).collect()
    }

    /// Editions whose share this node holds and has neither proved nor had withdrawn.
    pub fn attestation_needs(&self, node: NodeId) -> Vec<AttestationNeed> {
        let editions = self.state.licenses.iter().flat_map(|(_, installed)| installed.editions());
        let member = self.charter().and_then(|charter| charter.member(node));
        let missing = editions.filter(|edition| {
            let container = member.map(|member| member.container.serial());
            !edition.attested.contains(&node)
                && self.state.has_share(edition, node)
                && !container.is_some_and(|container| edition.is_withdrawn(container))
        });
        let epoch = Epoch(self.epoch());
        let need = |terms: &license::terms::Terms| AttestationNeed {
            license: terms.license,
            serial: terms.serial,
            epoch,
        };
        missing.map(|edition| need(edition.license.terms())).collect()
    }

    /// The members whose share of an edition is proved and not withdrawn, heard
    /// or not, each with the container that it is in: who may sign a term.
    pub fn signers(
        &self,
        license: LicenseId,
        serial: LicenseSerial,
    ) -> Vec<(NodeId, ContainerSerial)> {
        let Ok(edition) = self.edition(license, serial) else { return Vec::new() };
        let members = self.charter().into_iter().flat_map(|charter| &charter.members);
        let signing = members.filter(|member| self.may_sign(edition, member.node));
        signing.map(|member| (member.node, member.container.serial())).collect()
    }

    /// Whether this edition of a license, in force or on its way, had the
    /// node's share withdrawn. An unknown edition had nothing withdrawn.
    pub fn is_withdrawn(&self, license: LicenseId, serial: LicenseSerial, node: NodeId) -> bool {
        let editions = self.state.licenses.get(&license).into_iter().flat_map(Installed::editions);
        let mut of_serial = editions.filter(|edition| edition.license.terms().serial == serial);
        let member = self.charter().and_then(|charter| charter.member(node));
        let container = member.map(|member| member.container.serial());
        of_serial.any(|edition| container.is_some_and(|ours| edition.is_withdrawn(ours)))
    }

    /// How the last checkpoint of every member but `asking` compares with this
    /// ledger's own last checkpoints (S18), by node.
    pub fn comparisons(&self, asking: NodeId) -> Vec<(NodeId, Comparison)> {
        let members = self.charter().into_iter().flat_map(|charter| &charter.members);
        let others = members.map(|member| member.node).filter(|node| *node != asking);
        others.map(|node| (node, self.compare(node))).collect()
    }

    fn compare(&self, node: NodeId) -> Comparison {
        let reported = self.state.vitals.get(&node).map(|vitals| vitals.checkpoint);
        let Some((index, theirs)) = reported else { return Comparison::NotComparable };
        let mut known = self.state.scalars.checkpoints.iter();
        match known.find(|(known, _)| *known == index) {
            None => Comparison::NotComparable,
            Some((_, ours)) if *ours == theirs => Comparison::Equal { index },
            Some((_, ours)) => Comparison::Differs { index, theirs, ours: *ours },
        }
    }
}
