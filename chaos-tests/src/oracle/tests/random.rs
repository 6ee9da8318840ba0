//! Long random histories of a small correct ledger, with calls that overlap,
//! answers that get lost and clients that ask again: no false alarm. Then the
//! same with one fault planted: caught.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

use super::*;

const CLIENTS: usize = 6;
const POOL: usize = 3;
const STEPS: usize = 4_000;
/// A sleep of some 4.5 s: longer than a lease lives.
const SLEEP_STEPS: usize = 300;
const SHORT_TTL_MS: u64 = 3_000;
const NOT_AFTER_AHEAD_MS: u64 = 4_000;

/// What is wrong with the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// `<=` for `<` at capacity.
    OneSeatTooMany,
    /// Request memory gone: a re-send is granted again.
    Amnesia,
    /// The last entries vanish, acknowledged or not.
    LostTail,
    /// A live lease vanishes.
    LostLease,
    /// The token counter starts again.
    TokensReset,
    /// A released seat is not free.
    Leak,
    /// Leases end a second early.
    EarlyExpiry,
    /// A renewal revives.
    Revival,
}

#[derive(Clone)]
struct Lease {
    grant: Grant,
    deadline_ms: u64,
    ended: Option<Standing>,
}

/// A correct ledger, but for the fault.
#[derive(Clone, Default)]
struct Ledger {
    index: u64,
    clock_ms: u64,
    tokens: u64,
    leaked: usize,
    /// `None` when the request was refused or cancelled.
    requests: BTreeMap<RequestId, Option<Lease>>,
}

impl Ledger {
    fn live(&self) -> impl Iterator<Item = &Lease> {
        self.requests.values().flatten().filter(|lease| lease.ended.is_none())
    }

    fn apply(&mut self, op: &Op, now_ms: u64, fault: Fault, strikes: bool) -> Answer {
        // A read is of the state as it stands, and moves nothing.
        if *op != Op::Seats {
            self.index += 1;
            self.clock_ms = self.clock_ms.max(now_ms);
        }
        let log_id = LogId { epoch: 0, index: self.index, position: 0 };
        let at = Place { log_id, stamp_ms: self.clock_ms };
        let early_ms = if fault == Fault::EarlyExpiry { 1_000 } else { 0 };
        for lease in self.requests.values_mut().flatten() {
            if lease.ended.is_none() && lease.deadline_ms <= self.clock_ms + early_ms {
                lease.ended = Some(Standing::Expired);
            }
        }
        match *op {
            Op::Acquire { request, ttl_ms, not_after_ms, .. } => {
                if !self.requests.contains_key(&request) && self.clock_ms > not_after_ms {
                    return Answer::Refused { at, reason: "TOO_LATE".to_owned() };
                }
                if fault == Fault::Amnesia && strikes {
                    self.requests.remove(&request);
                }
                if !self.requests.contains_key(&request) {
                    let lease = self.grant(at, ttl_ms, fault, strikes);
                    self.requests.insert(request, lease);
                }
                match &self.requests[&request] {
                    None => Answer::Refused { at, reason: "NO_SEAT_FREE".to_owned() },
                    Some(lease) => Answer::Granted {
                        at,
                        grant: lease.grant.clone(),
                        standing: lease.ended.unwrap_or(Standing::Live(lease.deadline_ms)),
                    },
                }
            }
            Op::Renew { request, .. } => {
                let revives = fault == Fault::Revival;
                match self.requests.get_mut(&request).and_then(Option::as_mut) {
                    Some(lease) if lease.ended.is_none() || revives => {
                        lease.ended = None;
                        lease.deadline_ms = self.clock_ms + SHORT_TTL_MS;
                        Answer::Renewed { at, deadline_ms: lease.deadline_ms }
                    }
                    Some(_) => Answer::Refused { at, reason: "LEASE_ENDED".to_owned() },
                    None => Answer::Refused { at, reason: "NO_SUCH_LEASE".to_owned() },
                }
            }
            Op::Release { request, .. } => {
                match self.requests.get_mut(&request).and_then(Option::as_mut) {
                    Some(lease) => {
                        let leaks = fault == Fault::Leak && strikes && lease.ended.is_none();
                        lease.ended.get_or_insert(Standing::Released);
                        self.leaked += usize::from(leaks);
                        Answer::Released { at }
                    }
                    None => Answer::Refused { at, reason: "NO_SUCH_LEASE".to_owned() },
                }
            }
            Op::Cancel { request } => {
                if let Some(lease) = self.requests.entry(request).or_insert(None) {
                    lease.ended.get_or_insert(Standing::Released);
                }
                Answer::Cancelled { at }
            }
            Op::Seats => {
                let seat =
                    |lease: &Lease| Seat { token: lease.grant.token, until_ms: lease.deadline_ms };
                Answer::Seats { at, seats: self.live().map(seat).collect() }
            }
        }
    }

    fn grant(&mut self, at: Place, ttl_ms: u64, fault: Fault, strikes: bool) -> Option<Lease> {
        let seats = if fault == Fault::OneSeatTooMany { POOL + 1 } else { POOL };
        if self.live().count() + self.leaked >= seats {
            return None;
        }
        self.tokens = if fault == Fault::TokensReset && strikes { 1 } else { self.tokens + 1 };
        let deadline_ms = at.stamp_ms + ttl_ms;
        let grant = Grant { token: self.tokens, granted: at, deadline_ms, terms: "cad".to_owned() };
        Some(Lease { grant, deadline_ms, ended: None })
    }

    fn lose_a_lease(&mut self) {
        let is_live =
            |lease: &&mut Option<Lease>| lease.as_ref().is_some_and(|one| one.ended.is_none());
        if let Some(lease) = self.requests.values_mut().find(is_live) {
            *lease = None;
        }
    }
}

#[derive(Default)]
struct Client {
    /// The acquire that it was granted, and the token.
    holds: Option<(Op, u64)>,
    /// What to ask again, because no answer came.
    asking: Option<Op>,
    /// The call on its way, and its answer once it is decided.
    call: Option<(AttemptId, Op, Option<Answer>)>,
    /// It sleeps until this step, past its deadline.
    asleep: usize,
}

/// One run: clients call, calls are carried out, answers arrive or get lost, in random order.
fn run(seed: u64, fault: Fault) -> Verdict {
    let mut random = StdRng::seed_from_u64(seed);
    let clock_ms = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&clock_ms);
    let history = History::new(move || Duration::from_millis(clock.load(Ordering::Relaxed)));
    let mut ledger = Ledger::default();
    let mut earlier = ledger.clone();
    let mut clients: Vec<Client> = (0..CLIENTS).map(|_| Client::default()).collect();
    let mut requests = 0;
    for step in 0..STEPS {
        clock_ms.fetch_add(random.random_range(0..30), Ordering::Relaxed);
        let now_ms = clock_ms.load(Ordering::Relaxed);
        let often = if matches!(fault, Fault::LostTail | Fault::LostLease) { 0.02 } else { 0.5 };
        let strikes = step > STEPS / 2 && random.random_bool(often);
        if step % 50 == 0 {
            earlier = ledger.clone();
        }
        if strikes && fault == Fault::LostTail {
            ledger = Ledger { clock_ms: ledger.clock_ms, ..earlier.clone() };
        }
        if strikes && fault == Fault::LostLease {
            ledger.lose_a_lease();
        }
        let nth = random.random_range(0..CLIENTS);
        let client = &mut clients[nth];
        if step < client.asleep {
            continue;
        }
        if random.random_bool(0.005) {
            client.asleep = step + SLEEP_STEPS;
            continue;
        }
        let unknown = || Answer::Unknown { reason: "NO_ANSWER".to_owned() };
        match client.call.take() {
            None => {
                let op = match client.asking.take() {
                    Some(op) => op,
                    None => choose(&mut random, client.holds.as_ref(), now_ms, &mut requests),
                };
                let attempt = history.invoke(&format!("client-{nth}"), op.clone());
                client.call = Some((attempt, op, None));
            }
            // Lost on the way there.
            Some((attempt, op, None)) if random.random_bool(0.05) => {
                history.answer(attempt, unknown());
                client.asking = Some(op);
            }
            Some((attempt, op, None)) => {
                let answer = ledger.apply(&op, now_ms, fault, strikes);
                client.call = Some((attempt, op, Some(answer)));
            }
            // Lost on the way back, and now and then the client with it.
            Some((attempt, op, Some(_))) if random.random_bool(0.1) => {
                history.answer(attempt, unknown());
                client.asking = Some(op);
                if random.random_bool(0.3) {
                    *client = Client::default();
                }
            }
            Some((attempt, op, Some(answer))) => {
                match (&op, &answer) {
                    (
                        Op::Acquire { .. },
                        Answer::Granted { grant, standing: Standing::Live(_), .. },
                    ) => client.holds = Some((op, grant.token)),
                    (Op::Renew { .. }, Answer::Renewed { .. }) | (Op::Seats, _) => {}
                    _ => client.holds = None,
                }
                history.answer(attempt, answer);
            }
        }
    }
    check(&history.events(), POOL)
}

fn choose(random: &mut StdRng, holds: Option<&(Op, u64)>, now_ms: u64, requests: &mut u128) -> Op {
    if random.random_bool(0.05) {
        return Op::Seats;
    }
    match holds {
        Some((acquire @ Op::Acquire { request, .. }, token)) => {
            let (request, token) = (*request, *token);
            match random.random_range(0..10) {
                // To be sure: the answer must tell the same grant.
                0 => acquire.clone(),
                1..5 => Op::Renew { request, token },
                5..9 => Op::Release { request, token },
                _ => Op::Cancel { request },
            }
        }
        _ => {
            *requests += 1;
            Op::Acquire {
                request: RequestId(*requests),
                ttl_ms: SHORT_TTL_MS,
                not_after_ms: now_ms + NOT_AFTER_AHEAD_MS,
                wait_until_ms: 0,
            }
        }
    }
}

#[test]
fn a_correct_ledger_raises_no_alarm() {
    for seed in 0..20 {
        let verdict = run(seed, Fault::None);
        assert!(verdict.violations.is_empty(), "seed {seed}: {:#?}", verdict.violations);
        let figures = &verdict.figures;
        assert!(figures.grants > 50 && figures.full > 20, "seed {seed}: {figures:?}");
        assert!(figures.unknown > 50 && figures.repeats > 0, "seed {seed}: {figures:?}");
        assert!(figures.live_max == POOL, "seed {seed}: {figures:?}");
    }
}

#[test]
fn every_planted_fault_is_caught() {
    for fault in [
        Fault::OneSeatTooMany,
        Fault::Amnesia,
        Fault::LostTail,
        Fault::LostLease,
        Fault::TokensReset,
        Fault::Leak,
        Fault::EarlyExpiry,
        Fault::Revival,
    ] {
        let missed: Vec<u64> =
            (0..12).filter(|seed| run(*seed, fault).violations.is_empty()).collect();
        assert!(missed.is_empty(), "{fault:?} was missed with seeds {missed:?}");
    }
}
