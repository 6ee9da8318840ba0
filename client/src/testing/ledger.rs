//! The fake cluster's memory: one effect per request id, one queue per product.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use tonic::{Code, Status};
use wire::v1::{self, acquire_reply, standing};

use super::status;
use crate::clock::{BootClock, Clock, Moment};
use crate::error::Outcome;
use crate::time::millis;

pub(super) type Answer<T> = Result<T, Status>;

/// How long a waiting request may stay silent, in milliseconds.
const SESSION_MS: u64 = 15_000;
/// How far ahead a not-after may be, in milliseconds.
const NOT_AFTER_AHEAD_MS: u64 = 60_000;

pub(super) struct FakeLedger {
    started: Moment,
    skipped: Duration,
    pools: BTreeMap<String, Pool>,
    requests: BTreeMap<Vec<u8>, Asked>,
    index: u64,
    tokens: u64,
}

#[derive(Default)]
struct Pool {
    seats: usize,
    queue: VecDeque<Vec<u8>>,
}

struct Asked {
    body: v1::AcquireRequest,
    state: State,
    revoked: bool,
}

enum State {
    Waiting { ask_before_ms: u64 },
    Live { granted: v1::Granted, deadline_ms: u64 },
    Ended { granted: v1::Granted, how: standing::State },
    Withdrawn,
    Refused,
}

impl FakeLedger {
    pub(super) fn new() -> Self {
        Self {
            started: BootClock.now(),
            skipped: Duration::from_secs(1),
            pools: BTreeMap::new(),
            requests: BTreeMap::new(),
            index: 0,
            tokens: 0,
        }
    }

    pub(super) fn sell(&mut self, product: &str, seats: usize) {
        self.pools.entry(product.to_owned()).or_default().seats = seats;
        self.advance();
    }

    pub(super) fn skip(&mut self, span: Duration) {
        self.skipped += span;
    }

    pub(super) fn restore(&mut self, ago: Duration) {
        self.skipped -= ago;
        self.pools.values_mut().for_each(|pool| pool.queue.clear());
        self.requests.retain(|_, asked| !matches!(asked.state, State::Waiting { .. }));
    }

    pub(super) fn grants(&self) -> u64 {
        self.tokens
    }

    pub(super) fn seats_held(&mut self, product: &str) -> usize {
        self.advance();
        self.held(product)
    }

    pub(super) fn waiting(&mut self, product: &str) -> usize {
        self.advance();
        self.pools.get(product).map_or(0, |pool| pool.queue.len())
    }

    pub(super) fn revoke(&mut self, token: u64) {
        for asked in self.requests.values_mut() {
            if matches!(&asked.state, State::Live { granted, .. } if granted.token == token) {
                asked.revoked = true;
            }
        }
    }

    pub(super) fn clock(&self, subject: String) -> v1::ClockReply {
        v1::ClockReply { cluster_time_ms: self.now_ms(), subject }
    }

    pub(super) fn acquire(&mut self, request: &v1::AcquireRequest) -> Answer<v1::AcquireReply> {
        let envelope = self.advance();
        let body = v1::AcquireRequest { hold_open_ms: 0, ..request.clone() };
        let now_ms = envelope.stamp_ms;
        match self.requests.get_mut(&body.lease) {
            Some(asked) if asked.body != body => {
                return Err(refused(Code::InvalidArgument, "ID_REUSED", "another body"));
            }
            Some(Asked { state: State::Waiting { ask_before_ms }, .. }) => {
                *ask_before_ms = now_ms + SESSION_MS;
            }
            Some(_) => {}
            None => {
                if body.not_after_ms < now_ms {
                    return Err(refused(Code::DeadlineExceeded, "TOO_LATE", "too late"));
                }
                if body.not_after_ms > now_ms + NOT_AFTER_AHEAD_MS {
                    return Err(refused(Code::InvalidArgument, "TOO_FAR_AHEAD", "too far ahead"));
                }
                self.admit(body.clone(), now_ms)?;
            }
        }
        self.serve_queues(envelope);
        self.answer(&body.lease, envelope)
    }

    fn admit(&mut self, body: v1::AcquireRequest, now_ms: u64) -> Answer<()> {
        let Some(pool) = self.pools.get_mut(&body.product) else {
            return Err(refused(Code::NotFound, "UNKNOWN_PRODUCT", "no license for this product"));
        };
        pool.queue.push_back(body.lease.clone());
        let state = State::Waiting { ask_before_ms: now_ms + SESSION_MS };
        self.requests.insert(body.lease.clone(), Asked { body, state, revoked: false });
        Ok(())
    }

    fn answer(&mut self, lease: &[u8], envelope: v1::Envelope) -> Answer<v1::AcquireReply> {
        let Some(asked) = self.requests.get_mut(lease) else {
            return Err(Status::internal("admitted and not found"));
        };
        let live = |state, deadline_ms| Some(v1::Standing { state: i32::from(state), deadline_ms });
        let outcome = match &asked.state {
            State::Waiting { ask_before_ms } => {
                let (ask_before_ms, wait_until_ms) = (*ask_before_ms, asked.body.wait_until_ms);
                if wait_until_ms == 0 {
                    asked.state = State::Refused;
                    let product = asked.body.product.clone();
                    self.leave(&product, lease);
                    return Err(no_seat_free());
                }
                let queue = self.pools.get(&asked.body.product).map(|pool| &pool.queue);
                let place = queue.and_then(|queue| queue.iter().position(|one| one == lease));
                acquire_reply::Outcome::Queued(v1::Queued {
                    position: place.map_or(0, |place| place as u32 + 1),
                    length: queue.map_or(0, |queue| queue.len() as u32),
                    wait_until_ms,
                    ask_before_ms,
                })
            }
            State::Live { granted, deadline_ms } => {
                let standing = live(standing::State::Live, *deadline_ms);
                acquire_reply::Outcome::Granted(v1::Granted { standing, ..granted.clone() })
            }
            State::Ended { granted, how } => acquire_reply::Outcome::Granted(v1::Granted {
                standing: live(*how, 0),
                ..granted.clone()
            }),
            State::Withdrawn if asked.body.wait_until_ms < envelope.stamp_ms => {
                return Err(refused(Code::DeadlineExceeded, "WAITED_IN_VAIN", "none came free"));
            }
            State::Withdrawn => return Err(refused(Code::Aborted, "WITHDRAWN", "withdrawn")),
            State::Refused => return Err(no_seat_free()),
        };
        Ok(v1::AcquireReply { envelope: Some(envelope), outcome: Some(outcome) })
    }

    pub(super) fn renew(&mut self, request: &v1::RenewRequest) -> Answer<v1::RenewReply> {
        let envelope = self.advance();
        let Some(asked) = self.requests.get_mut(&request.lease) else {
            return Err(no_such_lease());
        };
        match &mut asked.state {
            State::Live { granted, .. } if granted.token != request.token => Err(no_such_lease()),
            State::Live { .. } if asked.revoked => {
                Err(refused(Code::FailedPrecondition, "SEAT_REVOKED", "revoked by an operator"))
            }
            State::Live { deadline_ms, .. } => {
                *deadline_ms = (*deadline_ms).max(envelope.stamp_ms + asked.body.ttl_ms);
                Ok(v1::RenewReply { envelope: Some(envelope), deadline_ms: *deadline_ms })
            }
            State::Ended { .. } => {
                Err(refused(Code::FailedPrecondition, "LEASE_ENDED", "the lease ended"))
            }
            _ => Err(no_such_lease()),
        }
    }

    pub(super) fn release(&mut self, request: &v1::ReleaseRequest) -> Answer<v1::ReleaseReply> {
        let envelope = self.advance();
        match self.requests.get_mut(&request.lease) {
            Some(asked) => match &asked.state {
                State::Live { granted, .. } if granted.token == request.token => {
                    let (granted, how) = (granted.clone(), standing::State::Released);
                    asked.state = State::Ended { granted, how };
                }
                State::Ended { granted, .. } if granted.token == request.token => {}
                _ => return Err(no_such_lease()),
            },
            None => return Err(no_such_lease()),
        }
        self.serve_queues(envelope);
        Ok(v1::ReleaseReply { envelope: Some(envelope) })
    }

    pub(super) fn cancel(&mut self, request: &v1::CancelRequest) -> Answer<v1::CancelReply> {
        let envelope = self.advance();
        let asked = self.requests.entry(request.lease.clone()).or_insert_with(|| Asked {
            body: v1::AcquireRequest::default(),
            state: State::Withdrawn,
            revoked: false,
        });
        let product = asked.body.product.clone();
        match &asked.state {
            State::Live { granted, .. } => {
                let (granted, how) = (granted.clone(), standing::State::Released);
                asked.state = State::Ended { granted, how };
            }
            State::Waiting { .. } => asked.state = State::Withdrawn,
            _ => {}
        }
        self.leave(&product, &request.lease);
        self.serve_queues(envelope);
        Ok(v1::CancelReply { envelope: Some(envelope) })
    }

    fn now_ms(&self) -> u64 {
        millis(BootClock.now().since(self.started) + self.skipped)
    }

    /// The next log entry: ends what is due, then serves the queues.
    fn advance(&mut self) -> v1::Envelope {
        self.index += 1;
        let stamp_ms = self.now_ms();
        let envelope = v1::Envelope { epoch: 0, index: self.index, position: 0, stamp_ms };
        let mut left = Vec::new();
        for (lease, asked) in &mut self.requests {
            match &asked.state {
                State::Live { granted, deadline_ms } if *deadline_ms <= stamp_ms => {
                    let (granted, how) = (granted.clone(), standing::State::Expired);
                    asked.state = State::Ended { granted, how };
                }
                State::Waiting { ask_before_ms }
                    if *ask_before_ms < stamp_ms
                        || (1..stamp_ms).contains(&asked.body.wait_until_ms) =>
                {
                    asked.state = State::Withdrawn;
                    left.push((asked.body.product.clone(), lease.clone()));
                }
                _ => {}
            }
        }
        left.iter().for_each(|(product, lease)| self.leave(product, lease));
        self.serve_queues(envelope);
        envelope
    }

    fn serve_queues(&mut self, envelope: v1::Envelope) {
        let products: Vec<String> = self.pools.keys().cloned().collect();
        for product in products {
            while let Some(lease) = self.next_to_serve(&product) {
                self.grant(&lease, envelope);
            }
        }
    }

    fn next_to_serve(&mut self, product: &str) -> Option<Vec<u8>> {
        let held = self.held(product);
        let pool = self.pools.get_mut(product)?;
        if held < pool.seats { pool.queue.pop_front() } else { None }
    }

    fn grant(&mut self, lease: &[u8], envelope: v1::Envelope) {
        let Some(asked) = self.requests.get_mut(lease) else { return };
        self.tokens += 1;
        let deadline_ms = envelope.stamp_ms + asked.body.ttl_ms;
        let granted = v1::Granted {
            token: self.tokens,
            product: asked.body.product.clone(),
            license: "1:1:1".to_owned(),
            granted: Some(envelope),
            deadline_ms,
            feature_map: 0b101,
            feature_text: "test".to_owned(),
            standing: None,
        };
        asked.state = State::Live { granted, deadline_ms };
    }

    fn held(&self, product: &str) -> usize {
        let live = |asked: &&Asked| {
            asked.body.product == product && matches!(asked.state, State::Live { .. })
        };
        self.requests.values().filter(live).count()
    }

    fn leave(&mut self, product: &str, lease: &[u8]) {
        if let Some(pool) = self.pools.get_mut(product) {
            pool.queue.retain(|one| one != lease);
        }
    }
}

fn refused(code: Code, reason: &str, message: &str) -> Status {
    status(code, reason, Outcome::Refused, message, None)
}

fn no_seat_free() -> Status {
    refused(Code::ResourceExhausted, "NO_SEAT_FREE", "all seats are taken")
}

fn no_such_lease() -> Status {
    refused(Code::NotFound, "NO_SUCH_LEASE", "no such lease for this caller")
}
