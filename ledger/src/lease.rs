//! Taking, renewing, giving back and revoking a seat.

use std::sync::Arc;

use license::product::LicenseId;
use license::terms::Counting;

use crate::command::{
    Acquire, Bound, Cancel, Ending, LeaseId, LogId, Outcome, Refusal, Release, Renew, Revoke,
    Standing, Token,
};
use crate::event::Event;
use crate::ledger::{Entry, Ledger};
use crate::limits::{NOT_AFTER_AHEAD_MILLIS, SUBJECT_SEATS_MAX, WAIT_AHEAD_MILLIS};
use crate::memory::{BodyDigest, GrantRecord, Lease, Request, RequestState, Wanted};
use crate::name::Subject;
use crate::pool::uncovered;
use crate::time::{ClusterTime, Ttl};
use crate::usage::{Fact, Held};
use crate::view::Service;

impl Ledger {
    /// S3: the memory of the id answers first, whatever has changed since.
    pub(crate) fn acquire(
        &mut self,
        body: &Acquire,
        log_id: LogId,
        entry: &mut Entry,
    ) -> Result<Outcome, Refusal> {
        self.settle(body.lease, entry);
        if let Some(known) = self.remembered(body)? {
            return Ok(known);
        }
        self.check_times(body)?;
        self.check_room_for_one_more(body.lease)
            .inspect_err(|full| self.note_denial(body, full.reason(), entry))?;
        let wanted = self.wanted(body);
        match self.admit_subject(body) {
            Ok(license) => {
                let lease = self.new_lease(wanted, license, log_id);
                let (seat, ttl) = (lease.held(&body.subject), body.ttl);
                entry.note(Fact::Granted { seat, ttl, waited_ms: None });
                let request = self.request(body, RequestState::Live(Box::new(lease)));
                let told = told(body.lease, &request);
                self.put(body.lease, request);
                Ok(told)
            }
            Err(
                Refusal::TermUnsigned { .. }
                | Refusal::NoSeatFree { .. }
                | Refusal::Restored { .. },
            ) if body.wait_until.is_some_and(|until| until > self.clock()) => {
                self.enqueue(body, wanted, entry)
            }
            Err(unsettled @ Refusal::TermUnsigned { .. }) => {
                let open = self.request(body, RequestState::Open);
                self.put(body.lease, open);
                Err(unsettled)
            }
            Err(refusal) => Err(self.remember_refusal(body, refusal, entry)),
        }
    }

    /// What is remembered of the id, if it settles the matter.
    fn remembered(&mut self, body: &Acquire) -> Result<Option<Outcome>, Refusal> {
        let Some(known) = self.state.requests.get(&body.lease) else { return Ok(None) };
        if known.subject != body.subject {
            return Err(Refusal::IdReused);
        }
        if known.digest.is_some_and(|digest| digest != BodyDigest::of(body)) {
            return Err(Refusal::IdReused);
        }
        match &known.state {
            RequestState::Open => Ok(None),
            RequestState::Waiting(_) => Ok(Some(self.ask_again(body.lease))),
            // Who asks has not used the seat yet. After a restore it may be in
            // use by somebody who got it when this lease had expired unheard.
            RequestState::Live(_) => {
                self.check_not_quiet()?;
                Ok(Some(told(body.lease, known)))
            }
            RequestState::Ended { .. } => Ok(Some(told(body.lease, known))),
            RequestState::Refused { refusal, .. } => Err(Refusal::clone(refusal)),
        }
    }

    fn check_times(&self, body: &Acquire) -> Result<(), Refusal> {
        let now = self.clock();
        if now > body.not_after {
            return Err(Refusal::TooLate { not_after: body.not_after, now });
        }
        let ahead = |asked: ClusterTime, limit_ms: u64| {
            let too_far = asked.millis_since(now) > limit_ms;
            if too_far { Err(Refusal::TooFarAhead { asked, now, limit_ms }) } else { Ok(()) }
        };
        ahead(body.not_after, NOT_AFTER_AHEAD_MILLIS)?;
        ahead(body.wait_until.unwrap_or(now), WAIT_AHEAD_MILLIS)
    }

    /// A full ledger cannot even remember the refusal.
    fn check_room_for_one_more(&self, lease: LeaseId) -> Result<(), Refusal> {
        // Who waits counts too: a seat that comes free is handed on unasked.
        Bound::Leases.check_room(self.index.ends.len() as u64)?;
        self.check_memory(lease)
    }

    fn check_memory(&self, lease: LeaseId) -> Result<(), Refusal> {
        match self.state.requests.get(&lease) {
            Some(_) => Ok(()),
            None => Bound::Memories.check_room(self.state.requests.len()),
        }
    }

    fn admit_subject(&self, body: &Acquire) -> Result<LicenseId, Refusal> {
        let seats = self.index.subjects.get(&body.subject).copied().unwrap_or(0);
        if seats >= SUBJECT_SEATS_MAX {
            let (subject, limit) = (body.subject.clone(), SUBJECT_SEATS_MAX);
            return Err(Refusal::TooManySeats { subject, limit });
        }
        let admitted = self.admit(&body.product, &body.subject, body.version);
        match admitted {
            // A seat, or a matter of waiting for one: then of waiting for the quiet to end.
            Ok(_) | Err(Refusal::NoSeatFree { .. } | Refusal::TermUnsigned { .. }) => {
                self.check_not_quiet().and(admitted)
            }
            Err(never) => Err(never),
        }
    }

    fn wanted(&self, body: &Acquire) -> Wanted {
        Wanted {
            product: self.index.interned(&body.product),
            holder: body.holder.clone(),
            version: body.version,
            ttl: body.ttl,
        }
    }

    /// S5: takes the next token. The caller has been admitted to `license`.
    pub(crate) fn new_lease(&mut self, wanted: Wanted, license: LicenseId, log_id: LogId) -> Lease {
        let feature = self.index.features.get(&license).cloned();
        let scalars = &mut self.state.scalars;
        scalars.last_token += 1;
        scalars.counters.granted += 1;
        let deadline = scalars.clock.plus_millis(wanted.ttl.millis());
        let grant = GrantRecord {
            token: Token(scalars.last_token),
            product: Arc::clone(&wanted.product),
            license,
            log_id,
            granted: scalars.clock,
            deadline,
            feature: feature.expect("admit chooses among installed licenses"),
        };
        Lease { grant, wanted, deadline, charged: license, surplus: false, revoked: None }
    }

    pub(crate) fn remember_refusal(
        &mut self,
        body: &Acquire,
        refusal: Refusal,
        entry: &mut Entry,
    ) -> Refusal {
        self.note_denial(body, refusal.reason(), entry);
        let forget_at = Request::forget_at(body.not_after, self.clock());
        let remembered = RequestState::Refused { refusal: Box::new(refusal.clone()), forget_at };
        let remembered = self.request(body, remembered);
        self.put(body.lease, remembered);
        refusal
    }

    /// S7: never revives, never shortens.
    pub(crate) fn renew(&mut self, body: &Renew, entry: &mut Entry) -> Result<Outcome, Refusal> {
        self.settle(body.lease, entry);
        let lease = match self.own(body.lease, &body.subject, body.token)? {
            RequestState::Live(lease) => lease,
            RequestState::Ended { ending, .. } => {
                return Err(Refusal::LeaseEnded { ending: *ending });
            }
            _ => return Err(Refusal::NoSuchLease),
        };
        let (before, ttl) = (lease.deadline, lease.wanted.ttl);
        if let Some(by) = &lease.revoked {
            return Err(Refusal::SeatRevoked { by: by.clone(), deadline: before });
        }
        // After a restore: a lease whose holder still counts on it was live when
        // all was lost, so its seat is nobody else's. Of others nobody knows.
        if body.hold_ended {
            self.check_not_quiet()?;
        }
        if let Err(why) = self.carried(lease) {
            self.carry_over(body.lease, why, entry)?;
        }
        self.note_late_renewal(body, before, ttl, entry);
        let deadline = before.max(self.clock().plus_millis(ttl.millis()));
        self.index.postpone(body.lease, before, deadline);
        self.update_lease(body.lease, |lease| {
            lease.deadline = deadline;
            lease.surplus = false;
        });
        self.state.scalars.counters.renewed += 1;
        Ok(Outcome::Renewed { deadline })
    }

    /// Less than a third of the TTL was left, where a client renews when two are.
    fn note_late_renewal(&self, body: &Renew, deadline: ClusterTime, ttl: Ttl, entry: &mut Entry) {
        let left_ms = deadline.millis_since(self.clock());
        if left_ms.saturating_mul(3) >= ttl.millis() {
            return;
        }
        if let Some(seat) = self.held(body.lease) {
            let silent_ms = ttl.millis() - left_ms;
            entry.note(Fact::RenewedLate { seat, silent_ms, left_ms });
        }
    }

    /// Whether the license a lease is charged to still carries it (S13).
    fn carried(&self, lease: &Lease) -> Result<(), Refusal> {
        let gone = || Refusal::LicenseGone { deadline: lease.deadline };
        let terms = self.terms(lease.charged).ok_or_else(gone)?;
        if terms.name != *lease.wanted.product || uncovered(terms, lease.wanted.version).is_some() {
            return Err(gone());
        }
        self.serves(lease.charged, terms)?;
        let pool = self.index.pools.get(&lease.wanted.product).ok_or_else(gone)?;
        let charge = pool.charges.get(&lease.charged).ok_or_else(gone)?;
        let over = terms.counting != Counting::Unlimited
            && charge.seats(terms.counting) > u64::from(terms.seats);
        if lease.surplus && over { Err(gone()) } else { Ok(()) }
    }

    /// Charges a lease to another license with room, or says why it must end.
    ///
    /// An unsigned term is a matter of moments, so the lease stays where it is
    /// and its holder asks again.
    fn carry_over(&mut self, id: LeaseId, why: Refusal, entry: &mut Entry) -> Result<(), Refusal> {
        if matches!(why, Refusal::TermUnsigned { .. }) {
            return Err(why);
        }
        let Some(mut request) = self.take(id) else { return Err(Refusal::NoSuchLease) };
        let RequestState::Live(lease) = &mut request.state else {
            self.put(id, request);
            return Err(Refusal::NoSuchLease);
        };
        let product = Arc::clone(&lease.wanted.product);
        // The room on another license may be taken by seats that a restore forgot.
        let moved = self
            .check_not_quiet()
            .and_then(|()| self.admit(&product, &request.subject, lease.wanted.version));
        let deadline = lease.deadline;
        if let Ok(license) = moved {
            entry.note(Fact::Moved { seat: lease.held(&request.subject), to: license });
            lease.charged = license;
            entry.freed.insert(product);
        }
        self.put(id, request);
        match (moved, why) {
            (Ok(_), _) => Ok(()),
            (Err(unsigned @ Refusal::TermUnsigned { .. }), _) => Err(unsigned),
            (Err(_), missing @ Refusal::SharesMissing { .. }) => Err(missing),
            (Err(quiet @ Refusal::Restored { .. }), _) => Err(quiet),
            (Err(_), _) => Err(Refusal::LicenseGone { deadline }),
        }
    }

    /// S6: idempotent; an old token frees nobody's seat.
    pub(crate) fn release(
        &mut self,
        body: &Release,
        entry: &mut Entry,
    ) -> Result<Outcome, Refusal> {
        self.settle(body.lease, entry);
        match self.own(body.lease, &body.subject, body.token)? {
            RequestState::Live(_) => {
                self.end(body.lease, Ending::Released, entry);
                Ok(Outcome::Released)
            }
            // Releasing twice is a retry, not a mistake.
            RequestState::Ended { .. } => Ok(Outcome::Released),
            _ => Err(Refusal::NoSuchLease),
        }
    }

    /// Withdraws a request, whatever became of it.
    pub(crate) fn cancel(&mut self, body: &Cancel, entry: &mut Entry) -> Result<Outcome, Refusal> {
        self.settle(body.lease, entry);
        let Some(known) = self.state.requests.get(&body.lease) else {
            return self.cancel_unseen(body);
        };
        if known.subject != body.subject {
            return Err(Refusal::NoSuchLease);
        }
        match known.state {
            RequestState::Live(_) => self.end(body.lease, Ending::Released, entry),
            RequestState::Waiting(_) => self.end_wait(body.lease, Refusal::Withdrawn, entry),
            RequestState::Open => self.refuse_known(body.lease, Refusal::Withdrawn),
            RequestState::Ended { .. } | RequestState::Refused { .. } => {}
        }
        Ok(Outcome::Cancelled)
    }

    /// The request itself may still be on its way; it must find its id taken.
    fn cancel_unseen(&mut self, body: &Cancel) -> Result<Outcome, Refusal> {
        self.check_memory(body.lease)?;
        let not_after = self.clock().plus_millis(NOT_AFTER_AHEAD_MILLIS);
        let forget_at = Request::forget_at(not_after, self.clock());
        let state = RequestState::Refused { refusal: Box::new(Refusal::Withdrawn), forget_at };
        let subject = body.subject.clone();
        self.put(body.lease, Request { subject, digest: None, not_after, state });
        Ok(Outcome::Cancelled)
    }

    /// S6: ends renewal; the seat stays taken until its holder lets go or its deadline.
    pub(crate) fn revoke(&mut self, body: &Revoke, entry: &mut Entry) -> Result<(), Refusal> {
        let missing = Refusal::NoSuchSeat { seat: body.seat };
        let Some(id) = self.index.seats.get(&body.seat).copied() else { return Err(missing) };
        self.settle(id, entry);
        let first = |lease: &mut Lease| {
            lease.revoked.is_none().then(|| lease.revoked = Some(body.by.clone()))
        };
        match self.update_lease(id, first) {
            None => Err(missing),
            // Revoking twice is a retry; the first operator's name stays.
            Some(None) => Ok(()),
            Some(Some(())) => {
                entry.events.push(Event::Revoked { seat: body.seat, by: body.by.clone() });
                if let Some(seat) = self.held(id) {
                    entry.note(Fact::RevokeOrdered { seat, by: body.by.clone() });
                }
                Ok(())
            }
        }
    }

    /// A live lease as records name it.
    fn held(&self, id: LeaseId) -> Option<Held> {
        let request = self.state.requests.get(&id)?;
        match &request.state {
            RequestState::Live(lease) => Some(lease.held(&request.subject)),
            _ => None,
        }
    }

    /// The state of a request, shown to the subject that knows its token only.
    fn own(&self, id: LeaseId, subject: &Subject, token: Token) -> Result<&RequestState, Refusal> {
        let known = self.state.requests.get(&id).filter(|known| known.subject == *subject);
        let known = &known.ok_or(Refusal::NoSuchLease)?.state;
        let granted = match known {
            RequestState::Live(lease) => lease.grant.token,
            RequestState::Ended { grant, .. } => grant.token,
            _ => return Err(Refusal::NoSuchLease),
        };
        if granted == token { Ok(known) } else { Err(Refusal::NoSuchLease) }
    }

    /// Ends a live lease; a revoked one ends as revoked whatever the occasion.
    pub(crate) fn end(&mut self, id: LeaseId, occasion: Ending, entry: &mut Entry) {
        let Some(mut request) = self.take(id) else { return };
        if let RequestState::Live(lease) = request.state {
            let ending = if lease.revoked.is_some() { Ending::Revoked } else { occasion };
            let counters = &mut self.state.scalars.counters;
            match ending {
                Ending::Released => counters.released += 1,
                Ending::Expired => counters.expired += 1,
                Ending::Revoked => counters.revoked += 1,
            }
            let (seat, since) = (lease.held(&request.subject), lease.grant.granted);
            entry.note(Fact::Ended { seat, ending, since });
            entry.freed.insert(Arc::clone(&lease.wanted.product));
            let forget_at = Request::forget_at(request.not_after, self.clock());
            let grant = Box::new(lease.grant);
            request.state = RequestState::Ended { grant, ending, forget_at };
        }
        self.put(id, request);
    }

    /// Whether the license of a pool serves; waiting makes sense only then.
    pub(crate) fn any_serves(&self, licenses: &[LicenseId]) -> bool {
        licenses
            .iter()
            .filter_map(|id| self.index.standing.get(id))
            .any(|standing| standing.service == Service::Serving)
    }

    /// A request as it begins.
    pub(crate) fn request(&self, body: &Acquire, state: RequestState) -> Request {
        Request {
            subject: self.index.interned_subject(&body.subject),
            digest: Some(BodyDigest::of(body)),
            not_after: body.not_after,
            state,
        }
    }

    /// Changes a live lease in ways no index sees; `None` when it is not live.
    pub(crate) fn update_lease<R>(
        &mut self,
        id: LeaseId,
        change: impl FnOnce(&mut Lease) -> R,
    ) -> Option<R> {
        let live = |request: &mut Request| match &mut request.state {
            RequestState::Live(lease) => Some(change(lease)),
            _ => None,
        };
        self.state.requests.update(&id, live).flatten()
    }

    /// Puts a request in the place of what was known of its id.
    pub(crate) fn put(&mut self, id: LeaseId, request: Request) {
        self.take(id);
        self.index.link(id, &request);
        self.state.requests.insert(id, request);
    }

    /// Takes a request out of the state and every index.
    pub(crate) fn take(&mut self, id: LeaseId) -> Option<Request> {
        let request = self.state.requests.remove(&id)?;
        self.index.unlink(id, &request);
        Some(request)
    }
}

/// The answer to the subject of a granted request: the grant, and how it stands.
fn told(id: LeaseId, request: &Request) -> Outcome {
    match &request.state {
        RequestState::Live(lease) => {
            Outcome::Granted(lease.grant.told(id), Standing::Live { deadline: lease.deadline })
        }
        RequestState::Ended { grant, ending, .. } => {
            Outcome::Granted(grant.told(id), Standing::Ended(*ending))
        }
        _ => Outcome::Refused(Refusal::NoSuchLease),
    }
}
