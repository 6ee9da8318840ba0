//! The second opinion: is there an order of the calls, each between its
//! sending and its answer, in which a pool of so many seats gives these answers?
//!
//! It knows nothing of the log. It searches just in time: a call is put into
//! the order when its answer comes, and another one before it only where that
//! answer needs it. Calls without an answer may be put anywhere after they were
//! sent, or nowhere. A seat may expire once its TTL can have passed.
//!
//! It sees less than the log-order check: a seat too many while a release is on
//! its way has an order. What it refuses is wrong, whatever the other check says.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use serde::Serialize;

use crate::history::{Answer, AttemptId, Event, Op, RequestId, Standing, What};

/// Orders followed at once; beyond it the question stays open.
const ORDERS_MAX: usize = 256;
/// Cluster time may run this much faster than true time (S8).
const DRIFT: f64 = 0.005;
/// Whole milliseconds, and a tick of the leader's clock, in microseconds.
const SLACK_US: u64 = 101_000;

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Opinion {
    /// There is an order.
    Ordered,
    /// There is none: the answer that none can give, and when it came.
    None {
        /// In microseconds.
        at_us: u64,
        /// Which answer.
        what: String,
    },
    /// There were too many to follow, from then on.
    Open {
        /// In microseconds.
        at_us: u64,
    },
}

/// How long it matters when a seat came free, in microseconds: longer than a call takes.
const CALL_MAX_US: u64 = 60_000_000;

/// What an answer demands of the pool at some moment since it was asked for.
#[derive(Debug, Clone, Copy)]
enum Demand {
    /// A seat was free, and is this one's from then on.
    Taken(usize),
    /// None was free, for this call.
    Full(AttemptId),
    /// This one was held, at some moment since then.
    Held(usize, u64),
    /// This one was not, any more.
    Over(usize),
    /// It is not from then on.
    Freed(usize),
}

/// One request.
#[derive(Debug, Clone, Default)]
struct Lease {
    ttl_us: u64,
    /// When it was sent first.
    asked: Option<u64>,
    /// When its end was asked for first.
    end_asked: Option<u64>,
    /// When it can have expired at the earliest, by what was told so far.
    expires: Option<u64>,
    /// Whether it is known to have been granted, and told so by now.
    told: bool,
    /// Whether somebody is told of its grant some time.
    granted: bool,
    /// Whether it was refused for good some time.
    refused: bool,
}

/// One order so far: which seats are held, and which requests have had theirs.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Order {
    held: BTreeSet<usize>,
    /// Granted requests that nobody was told of yet.
    early: BTreeSet<usize>,
    /// Those that had theirs, and when they gave it back.
    over: BTreeMap<usize, u64>,
    /// Calls on their way that have seen a full pool.
    seen_full: BTreeSet<AttemptId>,
}

/// Looks for an order of the calls on a pool empty at first, which has at least
/// and at most so many seats.
/// `jumped_us`: what clocks that jumped may have added to cluster time in all.
pub fn search(events: &[Event], seats: RangeInclusive<usize>, jumped_us: u64) -> Opinion {
    let mut pool = Pool::new(events, *seats.end(), *seats.start(), jumped_us);
    let mut orders = BTreeSet::from([Order::default()]);
    let mut open: BTreeMap<AttemptId, (&Op, u64)> = BTreeMap::new();
    for event in events {
        match &event.what {
            What::Invoke { attempt, op, .. } => {
                pool.sent(op, event.at_us);
                open.insert(*attempt, (op, event.at_us));
                pool.looking.extend(pool.tells_full(op));
            }
            What::Answer { attempt, answer } => {
                let Some((op, sent)) = open.remove(attempt) else { continue };
                for demand in pool.demands(*attempt, op, answer, sent) {
                    orders = orders
                        .iter()
                        .flat_map(|order| pool.meet(order, demand, event.at_us))
                        .collect();
                    if orders.is_empty() {
                        let what = format!("{op:?} was told {answer:?}");
                        return Opinion::None { at_us: event.at_us, what };
                    }
                    if orders.len() > ORDERS_MAX {
                        return Opinion::Open { at_us: event.at_us };
                    }
                }
                if pool.looking.remove(attempt) {
                    pool.to_be_full.retain(|_, telling| telling != attempt);
                }
                pool.told(op, answer, sent);
            }
            What::Note { .. } => {}
        }
    }
    Opinion::Ordered
}

struct Pool {
    seats: usize,
    seats_least: usize,
    jumped_us: u64,
    leases: Vec<Lease>,
    places: BTreeMap<RequestId, usize>,
    /// Requests that are told some time that the pool was full, and the calls that
    /// are told so first.
    to_be_full: BTreeMap<RequestId, AttemptId>,
    /// Those of these calls whose request is on its way, in whatever copy: a copy
    /// that nobody heard of may have been refused, and a later one is told of that.
    looking: BTreeSet<AttemptId>,
}

impl Pool {
    fn new(events: &[Event], seats: usize, seats_least: usize, jumped_us: u64) -> Self {
        let mut pool = Self {
            seats,
            seats_least,
            jumped_us,
            leases: Vec::new(),
            places: BTreeMap::new(),
            to_be_full: BTreeMap::new(),
            looking: BTreeSet::new(),
        };
        let mut open: BTreeMap<AttemptId, &Op> = BTreeMap::new();
        for event in events {
            match &event.what {
                What::Invoke { attempt, op, .. } => {
                    if let Some(request) = op.request() {
                        let place = pool.place(request);
                        if let Op::Acquire { ttl_ms, .. } = op {
                            pool.leases[place].ttl_us = ttl_ms * 1_000;
                        }
                    }
                    open.insert(*attempt, op);
                }
                What::Answer { attempt, answer } => {
                    let Some(Op::Acquire { request, .. }) = open.remove(attempt) else { continue };
                    let place = pool.place(*request);
                    let lease = &mut pool.leases[place];
                    match answer {
                        Answer::Granted { .. } => lease.granted = true,
                        Answer::Refused { reason, .. } if crate::oracle::is_final(reason) => {
                            lease.refused = true;
                            if is_full(answer) {
                                pool.to_be_full.entry(*request).or_insert(*attempt);
                            }
                        }
                        _ => {}
                    }
                }
                What::Note { .. } => {}
            }
        }
        pool
    }

    /// The call that is told first that there was no seat for this request.
    fn tells_full(&self, op: &Op) -> Option<AttemptId> {
        let Op::Acquire { request, .. } = op else { return None };
        self.to_be_full.get(request).copied()
    }

    fn place(&mut self, request: RequestId) -> usize {
        let next = self.leases.len();
        let place = *self.places.entry(request).or_insert(next);
        if place == next {
            self.leases.push(Lease::default());
        }
        place
    }

    fn sent(&mut self, op: &Op, at: u64) {
        let Some(place) = op.request().and_then(|request| self.places.get(&request)) else {
            return;
        };
        let lease = &mut self.leases[*place];
        match op {
            Op::Acquire { .. } => {
                lease.asked.get_or_insert(at);
            }
            Op::Release { .. } | Op::Cancel { .. } => {
                lease.end_asked.get_or_insert(at);
            }
            Op::Renew { .. } | Op::Seats => {}
        }
    }

    /// A seat that was granted or renewed by a call sent at `sent` lives so long at least.
    fn told(&mut self, op: &Op, answer: &Answer, sent: u64) {
        let Some(place) = op.request().and_then(|request| self.places.get(&request)) else {
            return;
        };
        let lease = &mut self.leases[*place];
        let lives = match answer {
            // One that was granted long before this call may have little left.
            Answer::Granted { at, standing: Standing::Live(deadline), .. } => {
                deadline.saturating_sub(at.stamp_ms) * 1_000
            }
            Answer::Renewed { .. } => lease.ttl_us,
            _ => return,
        };
        lease.told = true;
        let lives = (lives as f64 / (1.0 + DRIFT)) as u64;
        let until = (sent + lives).saturating_sub(SLACK_US + self.jumped_us);
        lease.expires = Some(lease.expires.map_or(until, |known| known.max(until)));
    }

    fn demands(&self, attempt: AttemptId, op: &Op, answer: &Answer, sent: u64) -> Vec<Demand> {
        let Some(&place) = op.request().and_then(|request| self.places.get(&request)) else {
            return Vec::new();
        };
        let is_told = self.leases[place].told;
        match (op, answer) {
            (Op::Acquire { .. }, Answer::Granted { standing, .. }) => {
                let taken = (!is_told).then_some(Demand::Taken(place));
                match standing {
                    Standing::Live(_) => {
                        taken.into_iter().chain([Demand::Held(place, sent)]).collect()
                    }
                    // It may have come and gone long before somebody was told of it.
                    Standing::Released | Standing::Expired => vec![Demand::Over(place)],
                }
            }
            (Op::Acquire { .. }, _) if self.tells_full(op) == Some(attempt) => {
                vec![Demand::Full(attempt)]
            }
            (Op::Renew { .. }, Answer::Renewed { .. }) if is_told => {
                vec![Demand::Held(place, sent)]
            }
            (Op::Renew { .. }, Answer::Refused { reason, .. })
                if is_told && reason == "LEASE_ENDED" =>
            {
                vec![Demand::Over(place)]
            }
            (Op::Release { .. }, Answer::Released { .. })
            | (Op::Cancel { .. }, Answer::Cancelled { .. }) => vec![Demand::Freed(place)],
            _ => Vec::new(),
        }
    }

    /// The orders that come of `order` when this is demanded of it by `now`.
    fn meet(&self, order: &Order, demand: Demand, now: u64) -> Vec<Order> {
        match demand {
            Demand::Taken(place) => {
                let mut order = order.clone();
                if order.early.remove(&place) || order.over.contains_key(&place) {
                    return vec![order];
                }
                if order.held.len() < self.seats {
                    order.held.insert(place);
                    return vec![order];
                }
                let freed = order.held.iter().filter(|held| self.may_be_over(**held, now));
                let mut ways = Vec::new();
                for freed in freed {
                    for mut order in self.end(&order, *freed, now) {
                        order.held.insert(place);
                        ways.push(order);
                    }
                }
                ways
            }
            Demand::Full(attempt) if order.seen_full.contains(&attempt) => {
                let mut order = order.clone();
                order.seen_full.remove(&attempt);
                vec![order]
            }
            Demand::Full(_) => self.fill(order, now),
            Demand::Held(place, sent) => {
                let since = order.over.get(&place).is_some_and(|over| *over >= sent);
                let held = order.held.contains(&place) || since;
                held.then(|| order.clone()).into_iter().collect()
            }
            Demand::Over(place) => {
                if order.held.contains(&place) && !self.may_be_over(place, now) {
                    return Vec::new();
                }
                self.end(order, place, now)
            }
            Demand::Freed(place) => self.end(order, place, now),
        }
    }

    /// A request has no seat from now on. Calls on their way may have seen a
    /// full pool before that.
    fn end(&self, order: &Order, place: usize, now: u64) -> Vec<Order> {
        let unseen = self.looking.iter().any(|looking| !order.seen_full.contains(looking));
        let mut ways = vec![order.clone()];
        if unseen && order.held.contains(&place) {
            let full = self.fill(order, now).into_iter().map(|mut order| {
                order.seen_full.extend(&self.looking);
                order
            });
            // As it is it may be full already: then nothing speaks for not having seen it.
            if order.held.len() >= self.seats_least {
                ways.clear();
            }
            ways.extend(full);
        }
        for order in &mut ways {
            order.held.remove(&place);
            order.early.remove(&place);
            order.over.retain(|_, over| *over + CALL_MAX_US > now);
            order.over.insert(place, now);
        }
        ways
    }

    /// Whether a seat can have come free by `now`.
    fn may_be_over(&self, place: usize, now: u64) -> bool {
        let lease = &self.leases[place];
        let expired = match lease.expires {
            Some(expires) => expires <= now,
            // Nobody was told of it yet: it may have come and gone.
            None => lease.asked.is_some_and(|asked| asked + lease.ttl_us / 2 <= now),
        };
        expired || lease.end_asked.is_some()
    }

    /// The ways in which the pool can have been full: by requests that are on their way.
    fn fill(&self, order: &Order, now: u64) -> Vec<Order> {
        let missing = self.seats_least.saturating_sub(order.held.len());
        if missing == 0 {
            return vec![order.clone()];
        }
        let may_take = |(place, lease): (usize, &Lease)| {
            let asked = lease.asked.is_some_and(|asked| asked <= now);
            let new = !order.held.contains(&place) && !order.over.contains_key(&place);
            (asked && new && !lease.told && !lease.refused).then_some(place)
        };
        let takers: Vec<usize> = self.leases.iter().enumerate().filter_map(may_take).collect();
        // Who is never told of a seat may have had one, and its end is its own matter.
        let (known, unknown): (Vec<usize>, Vec<usize>) =
            takers.into_iter().partition(|place| self.leases[*place].granted);
        if unknown.len() >= missing {
            return vec![order.clone()];
        }
        choose(&known, missing - unknown.len())
            .into_iter()
            .map(|chosen| {
                let mut order = order.clone();
                order.held.extend(&chosen);
                order.early.extend(&chosen);
                order
            })
            .collect()
    }
}

fn is_full(answer: &Answer) -> bool {
    matches!(answer, Answer::Refused { reason, .. } if reason == "NO_SEAT_FREE")
}

/// The ways to choose `count` of these; some of them, if there are very many.
fn choose(of: &[usize], count: usize) -> Vec<Vec<usize>> {
    if count == 0 {
        return vec![Vec::new()];
    }
    let Some((first, rest)) = of.split_first() else { return Vec::new() };
    let mut ways: Vec<Vec<usize>> = choose(rest, count - 1);
    ways.iter_mut().for_each(|way| way.push(*first));
    if ways.len() <= ORDERS_MAX {
        ways.extend(choose(rest, count));
    }
    ways
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{Grant, LogId, Place};

    /// What one call asks and is told, and when.
    struct Told(u64, u64, Op, Answer);

    fn acquire(request: u128) -> Op {
        let request = RequestId(request);
        Op::Acquire { request, ttl_ms: 10_000, not_after_ms: 60_000, wait_until_ms: 0 }
    }

    fn place(ms: u64) -> Place {
        Place { log_id: LogId { epoch: 0, index: ms, position: 0 }, stamp_ms: ms }
    }

    fn granted(ms: u64) -> Answer {
        let (at, deadline_ms) = (place(ms), ms + 10_000);
        let grant = Grant { token: ms, granted: at, deadline_ms, terms: String::new() };
        Answer::Granted { at, grant, standing: Standing::Live(deadline_ms) }
    }

    fn full(ms: u64) -> Answer {
        Answer::Refused { at: place(ms), reason: "NO_SEAT_FREE".to_owned() }
    }

    /// Calls with the millisecond in which each is sent and answered.
    fn opinion(seats: usize, calls: Vec<Told>) -> Opinion {
        let mut events = Vec::new();
        for (number, Told(sent, answered, op, answer)) in calls.into_iter().enumerate() {
            let attempt = AttemptId(number as u64);
            let invoke = What::Invoke { attempt, client: "c".to_owned(), via: String::new(), op };
            events.push(Event { at_us: sent * 1_000, what: invoke });
            events.push(Event { at_us: answered * 1_000, what: What::Answer { attempt, answer } });
        }
        events.sort_by_key(|event| event.at_us);
        search(&events, seats..=seats, 0)
    }

    #[test]
    fn a_seat_given_out_twice_has_no_order() {
        let calls = vec![Told(0, 5, acquire(1), granted(3)), Told(10, 15, acquire(2), granted(12))];
        assert!(matches!(opinion(1, calls), Opinion::None { at_us: 15_000, .. }));
    }

    #[test]
    fn a_seat_may_be_given_out_again_when_its_release_was_sent() {
        let release = Op::Release { request: RequestId(1), token: 3 };
        let calls = vec![
            Told(0, 5, acquire(1), granted(3)),
            Told(8, 40, release, Answer::Released { at: place(11) }),
            Told(10, 15, acquire(2), granted(12)),
        ];
        assert_eq!(opinion(1, calls), Opinion::Ordered);
    }

    #[test]
    fn nobody_is_refused_a_seat_of_an_empty_pool() {
        let calls = vec![Told(0, 5, acquire(1), full(3))];
        assert!(matches!(opinion(1, calls), Opinion::None { .. }));
    }

    #[test]
    fn who_is_still_to_be_told_may_have_the_seat_that_another_misses() {
        let calls = vec![Told(0, 50, acquire(1), granted(3)), Told(5, 9, acquire(2), full(7))];
        assert_eq!(opinion(1, calls), Opinion::Ordered);
    }

    #[test]
    fn a_pool_that_was_full_when_asked_may_be_free_when_the_answer_comes() {
        let release = Op::Release { request: RequestId(1), token: 3 };
        let calls = vec![
            Told(0, 5, acquire(1), granted(3)),
            Told(10, 60, acquire(2), full(12)),
            Told(20, 30, release, Answer::Released { at: place(25) }),
        ];
        assert_eq!(opinion(1, calls), Opinion::Ordered);
    }

    #[test]
    fn a_call_without_an_answer_may_have_taken_the_seat() {
        let lost = Answer::Unknown { reason: "NO_ANSWER".to_owned() };
        let calls = vec![Told(0, 3, acquire(1), lost), Told(5, 9, acquire(2), full(7))];
        assert_eq!(opinion(1, calls), Opinion::Ordered);
    }

    /// Seeds 1012 and 1018 came to these two.
    #[test]
    fn a_copy_that_nobody_heard_of_may_have_met_the_full_pool() {
        let lost = Answer::Unknown { reason: "NO_ANSWER".to_owned() };
        let release = Op::Release { request: RequestId(1), token: 3 };
        let unheard = vec![
            Told(0, 5, acquire(1), granted(3)),
            Told(10, 15, acquire(2), lost),
            Told(20, 30, release.clone(), Answer::Released { at: place(25) }),
            Told(40, 45, acquire(2), full(42)),
        ];
        assert_eq!(opinion(1, unheard), Opinion::Ordered);
        let heard = vec![
            Told(0, 5, acquire(1), granted(3)),
            Told(20, 30, release, Answer::Released { at: place(25) }),
            Told(40, 45, acquire(2), full(42)),
        ];
        assert!(matches!(opinion(1, heard), Opinion::None { .. }));
    }

    #[test]
    fn a_seat_that_came_and_went_unheard_of_needs_no_room_now() {
        let Answer::Granted { grant, .. } = granted(3) else { unreachable!() };
        let expired = Answer::Granted { at: place(20_015), grant, standing: Standing::Expired };
        let calls = vec![
            Told(0, 20_020, acquire(1), expired),
            Told(20_000, 20_005, acquire(2), granted(20_003)),
        ];
        assert_eq!(opinion(1, calls), Opinion::Ordered);
    }

    #[test]
    fn a_seat_does_not_end_before_its_ttl() {
        let renew = Op::Renew { request: RequestId(1), token: 3 };
        let ended = |ms| Answer::Refused { at: place(ms), reason: "LEASE_ENDED".to_owned() };
        let early = vec![
            Told(0, 5, acquire(1), granted(3)),
            Told(5_000, 5_005, renew.clone(), ended(5_002)),
        ];
        assert!(matches!(opinion(1, early), Opinion::None { .. }));
        let late =
            vec![Told(0, 5, acquire(1), granted(3)), Told(10_100, 10_105, renew, ended(10_102))];
        assert_eq!(opinion(1, late), Opinion::Ordered);
    }
}
