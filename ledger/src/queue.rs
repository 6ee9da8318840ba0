//! Waiting for a seat: places, sessions, and handing freed seats on (S10, L6).
//!
//! Between any two commands nobody waits who could be served. So a newcomer
//! may simply be tried: whatever it is given, nobody ahead of it could use.

use std::sync::Arc;

use license::product::ProductName;
use license::terms::Counting;

use crate::command::{Acquire, Ending, LeaseId, Outcome, Place, Refusal, Standing};
use crate::event::Event;
use crate::history::gave_up;
use crate::ledger::{Entry, Ledger};
use crate::limits::{ENDINGS_PER_ENTRY, FORGETS_PER_ENTRY, QUEUE_MAX, SESSION_MILLIS};
use crate::memory::{Due, Request, RequestState, Waiting, Wanted};
use crate::time::ClusterTime;
use crate::usage::Fact;

impl Ledger {
    /// Queues a request that has just been found unable to get a seat.
    pub(crate) fn enqueue(
        &mut self,
        body: &Acquire,
        wanted: Wanted,
        entry: &mut Entry,
    ) -> Result<Outcome, Refusal> {
        let length = self.index.pools.get(&body.product).map_or(0, |pool| pool.queue.len());
        if length >= QUEUE_MAX as usize {
            let full = Refusal::QueueFull { product: body.product.clone(), limit: QUEUE_MAX };
            return Err(self.remember_refusal(body, full, entry));
        }
        let ask_before = self.clock().plus_millis(SESSION_MILLIS);
        let scalars = &mut self.state.scalars;
        scalars.last_ticket += 1;
        scalars.counters.queued += 1;
        let (ticket, since) = (scalars.last_ticket, scalars.clock);
        let wait_until = body.wait_until.unwrap_or(since);
        let waiting = Waiting { ticket, wanted, since, wait_until, ask_before };
        let request = self.request(body, RequestState::Waiting(Box::new(waiting.clone())));
        self.put(body.lease, request);
        Ok(Outcome::Queued(self.place(&waiting)))
    }

    /// A waiting caller asked again: it keeps its place and its session lives on.
    pub(crate) fn ask_again(&mut self, id: LeaseId) -> Outcome {
        let ask_before = self.clock().plus_millis(SESSION_MILLIS);
        let Some(mut known) = self.take(id) else { return Outcome::Refused(Refusal::NoSuchLease) };
        if let RequestState::Waiting(waiting) = &mut known.state {
            waiting.ask_before = ask_before;
        }
        self.put(id, known);
        match self.state.requests.get(&id).map(|known| &known.state) {
            Some(RequestState::Waiting(waiting)) => Outcome::Queued(self.place(waiting)),
            _ => Outcome::Refused(Refusal::NoSuchLease),
        }
    }

    fn place(&self, waiting: &Waiting) -> Place {
        let pool = self.index.pools.get(&waiting.wanted.product);
        let (ahead, length) = pool.map_or((0, 0), |pool| {
            (pool.queue.partition_point(|(other, _)| *other < waiting.ticket), pool.queue.len())
        });
        Place {
            position: ahead as u32 + 1,
            length: length as u32,
            wait_until: waiting.wait_until,
            ask_before: waiting.ask_before,
        }
    }

    /// Ends what is due, a bounded number per entry (S9).
    pub(crate) fn end_due(&mut self, entry: &mut Entry) {
        for _ in 0..ENDINGS_PER_ENTRY {
            match self.index.ends.first() {
                Some((due, id)) if *due <= self.clock() => self.settle(*id, entry),
                _ => return,
            }
        }
    }

    /// Forgets what is due, a bounded number per entry (S26).
    pub(crate) fn forget_due(&mut self) {
        for _ in 0..FORGETS_PER_ENTRY {
            match self.index.forgets.first() {
                Some((due, id)) if *due <= self.clock() => self.take(*id),
                _ => break,
            };
        }
        self.forget_bearers();
    }

    /// Lets time act on one request, due or overdue (S9: dead at once).
    pub(crate) fn settle(&mut self, id: LeaseId, entry: &mut Entry) {
        let Some(known) = self.state.requests.get(&id) else { return };
        let now = self.clock();
        match (known.due(), &known.state) {
            (Due::Forgotten(due), _) if due <= now => {
                self.take(id);
            }
            (Due::Ends(due), RequestState::Live(_)) if due <= now => {
                self.end(id, Ending::Expired, entry);
            }
            (Due::Ends(due), RequestState::Waiting(waiting)) if due <= now => {
                let refusal = self.given_up(waiting);
                self.end_wait(id, refusal, entry);
            }
            _ => {}
        }
    }

    /// Takes a request out of its queue for good and tells the caller who waits.
    pub(crate) fn end_wait(&mut self, id: LeaseId, refusal: Refusal, entry: &mut Entry) {
        let left = self.state.requests.get(&id).and_then(|known| match &known.state {
            RequestState::Waiting(waiting) => {
                Some(gave_up(waiting, &known.subject, self.clock(), refusal.reason()))
            }
            _ => None,
        });
        self.refuse_known(id, refusal.clone());
        let log_id = entry.log_id();
        left.into_iter().for_each(|fact| entry.note(fact));
        let reply = Box::new(entry.reply(log_id, Outcome::Refused(refusal)));
        entry.events.push(Event::Settled { lease: id, reply });
    }

    /// Settles a known request as refused.
    pub(crate) fn refuse_known(&mut self, id: LeaseId, refusal: Refusal) {
        let Some(mut known) = self.take(id) else { return };
        let forget_at = Request::forget_at(known.not_after, self.clock());
        known.state = RequestState::Refused { refusal: Box::new(refusal), forget_at };
        self.put(id, known);
    }

    /// Whether a free seat goes to who waits: not in the quiet after a restore,
    /// nor under a leader that grants nothing.
    pub fn hands_on(&self) -> bool {
        self.quiet_until().is_none() && !self.withholds()
    }

    /// Whether nothing is granted or renewed, because the leader may not be the one
    /// to grant.
    pub fn withholds(&self) -> bool {
        self.state.scalars.withheld
    }

    /// Once seats are handed on again, who waited meanwhile is served.
    pub(crate) fn hand_on_again(&mut self, entry: &mut Entry) {
        if self.hands_on() {
            entry.freed.extend(self.index.pools.keys().cloned());
        }
    }

    /// Hands seats that came free to who waits for them.
    pub(crate) fn hand_on(&mut self, entry: &mut Entry) {
        while let Some(product) = entry.freed.pop_first() {
            self.hand_on_in(&product, entry);
        }
    }

    /// First come, first served; a request that no free seat suits is passed
    /// over. Costs the requests served, and the whole queue only where a
    /// waiting station may share a seat or licenses of a product differ.
    fn hand_on_in(&mut self, product: &Arc<ProductName>, entry: &mut Entry) {
        let mut place = 0;
        while let Some(id) = self.waiting_at(product, place) {
            match self.serve(id, entry) {
                Served::Settled => {}
                Served::PassedOver if self.is_dry(product) => return,
                Served::PassedOver => place += 1,
            }
        }
    }

    fn waiting_at(&self, product: &ProductName, place: usize) -> Option<LeaseId> {
        self.index.pools.get(product)?.queue.get(place).map(|(_, id)| *id)
    }

    /// S10: grants one waiting request if it is still wanted and can be served.
    fn serve(&mut self, id: LeaseId, entry: &mut Entry) -> Served {
        let Some(known) = self.state.requests.get(&id) else { return Served::PassedOver };
        let RequestState::Waiting(waiting) = &known.state else { return Served::PassedOver };
        if waiting.due() <= self.clock() {
            self.settle(id, entry);
            return Served::Settled;
        }
        if !self.hands_on() {
            return Served::PassedOver;
        }
        let wanted = &waiting.wanted;
        let Ok(license) = self.admit(&wanted.product, &known.subject, wanted.version) else {
            return Served::PassedOver;
        };
        let Some(mut known) = self.take(id) else { return Served::PassedOver };
        let RequestState::Waiting(waiting) = known.state else { return Served::PassedOver };
        let log_id = entry.log_id();
        let waited_ms = Some(self.clock().millis_since(waiting.since));
        let lease = self.new_lease(waiting.wanted, license, log_id);
        let (seat, ttl) = (lease.held(&known.subject), lease.wanted.ttl);
        entry.note(Fact::Granted { seat, ttl, waited_ms });
        let standing = Standing::Live { deadline: lease.deadline };
        let outcome = Outcome::Granted(lease.grant.told(id), standing);
        known.state = RequestState::Live(Box::new(lease));
        self.put(id, known);
        let reply = Box::new(entry.reply(log_id, outcome));
        entry.events.push(Event::Settled { lease: id, reply });
        Served::Settled
    }

    /// Why a request whose time has come no longer waits. In the quiet after a
    /// restore that is why no seat came, however many were free.
    fn given_up(&self, waiting: &Waiting) -> Refusal {
        let silent_since: ClusterTime = waiting.ask_before;
        if waiting.wait_until > silent_since {
            return Refusal::Withdrawn;
        }
        let in_vain =
            Refusal::WaitedInVain { product: ProductName::clone(&waiting.wanted.product) };
        self.check_not_quiet().err().unwrap_or(in_vain)
    }

    /// Whether no request in the queue can be served, whoever asks.
    fn is_dry(&self, product: &ProductName) -> bool {
        if !self.hands_on() {
            return true;
        }
        let Some(pool) = self.index.pools.get(product) else { return true };
        let shared = |id: &_| self.counting(*id) == Some(Counting::PerStation);
        !self.any_serves(&pool.licenses)
            || !self.room(pool).is_free() && !pool.licenses.iter().any(shared)
    }
}

/// What became of a waiting request that was tried.
enum Served {
    /// Granted, or no longer wanted: it has left the queue.
    Settled,
    /// Nothing free suits it.
    PassedOver,
}
