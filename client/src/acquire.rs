//! Taking a seat: one request id, asked until the answer is definite, in the
//! queue if it must be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wire::v1::{self, acquire_reply, standing};

use crate::clock::Moment;
use crate::connection::Lane;
use crate::core::{Answered, Core, Terms};
use crate::error::{AcquireError, CallError, Failure, Reason};
use crate::hold::Hold;
use crate::lease::{Grant, InvalidRequest, LeaseId, Place};
use crate::observe::{Call, Reply};
use crate::seat::Seat;
use crate::time::millis;

/// How far ahead of cluster time a request's not-after is set. Half of what the
/// ledger allows, so that an estimate may be wrong by as much either way.
const NOT_AFTER_AHEAD_MS: u64 = 30_000;
/// The longest a node holds a queued call open.
const HOLD_OPEN_MAX: Duration = Duration::from_secs(5);
/// How often a waiting request is asked again when it cannot be held open.
const ASK_EVERY: Duration = Duration::from_secs(1);
/// How often the time may turn out wrong before that is the answer.
const BODIES_MAX: u32 = 3;

/// The TTL limits, in milliseconds: 1 s to 24 h.
const TTL_MS: std::ops::RangeInclusive<u64> = 1_000..=86_400_000;
/// The longest wait, in milliseconds: 24 h, less what cluster time may be off.
const WAIT_MS_MAX: u64 = 86_400_000 - NOT_AFTER_AHEAD_MS;

/// A request for a seat, not sent yet. Made by
/// [`Client::acquire`](crate::Client::acquire), sent by [`send`](Self::send).
#[must_use = "nothing is asked before `send`"]
pub struct Acquire {
    core: Arc<Core>,
    product: String,
    holder: String,
    version: String,
    ttl: Duration,
    wait: Duration,
    patience: Duration,
    fail_fast: bool,
    lease: Option<LeaseId>,
    not_after_ms: Option<u64>,
    on_place: Option<Box<dyn Fn(Place) + Send + Sync>>,
}

impl Acquire {
    pub(crate) fn new(core: Arc<Core>, product: &str) -> Self {
        Self {
            product: product.to_owned(),
            holder: core.holder.clone(),
            version: String::new(),
            ttl: Duration::from_secs(30),
            wait: Duration::ZERO,
            patience: core.patience,
            fail_fast: false,
            lease: None,
            not_after_ms: None,
            on_place: None,
            core,
        }
    }

    /// How long the seat stays taken after its holder died: 1 s to 24 h, 30 s
    /// unless set. A living seat renews itself three times in that time.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// What the holder calls itself to operators: at most 128 bytes.
    pub fn holder(mut self, holder: impl Into<String>) -> Self {
        self.holder = holder.into();
        self
    }

    /// The product version that will run: `MAJOR` or `MAJOR.MINOR`.
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Waits so long in a fair queue if all seats are taken; at most a day.
    /// Not at all unless set. Dropping the future leaves the queue.
    pub fn wait(mut self, wait: Duration) -> Self {
        self.wait = wait;
        self
    }

    /// Called with each new place while waiting. Be quick.
    pub fn on_place(mut self, hear: impl Fn(Place) + Send + Sync + 'static) -> Self {
        self.on_place = Some(Box::new(hear));
        self
    }

    /// How long to go on asking when no definite answer comes.
    /// [`Options::patience`](crate::Options::patience) unless set.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Reports a lack of quorum at once instead of bearing with it.
    pub fn fail_fast(mut self) -> Self {
        self.fail_fast = true;
        self
    }

    /// Uses this request id instead of a fresh random one.
    ///
    /// To ask again for the same seat from another process, repeat everything,
    /// [`not_after_ms`](Self::not_after_ms) too: an id with another body is refused.
    pub fn id(mut self, lease: LeaseId) -> Self {
        self.lease = Some(lease);
        self
    }

    /// The cluster time in milliseconds after which the request must have no
    /// effect. Thirty seconds ahead unless set.
    pub fn not_after_ms(mut self, not_after_ms: u64) -> Self {
        self.not_after_ms = Some(not_after_ms);
        self
    }

    /// Asks, with one request id, as often as it takes.
    ///
    /// Returns within the wait plus the patience, whatever happens. Dropping
    /// the future withdraws the request in the background.
    ///
    /// # Errors
    /// No seat is held, except possibly in [`AcquireError::Unknown`].
    pub async fn send(self) -> Result<Seat, AcquireError> {
        self.validate()?;
        let terms = Terms {
            until: self.core.now() + self.patience,
            fail_fast: self.fail_fast,
            repeat: true,
        };
        let mut bodies = 1;
        loop {
            let body = self.body(terms).await?;
            match self.ask(body, terms).await {
                Err(AcquireError::Refused(failure)) if self.is_time_wrong(&failure) => {
                    self.core.forget_time();
                    if bodies == BODIES_MAX || self.core.now() >= terms.until {
                        return Err(AcquireError::Refused(failure));
                    }
                    bodies += 1;
                }
                outcome => return outcome,
            }
        }
    }

    fn validate(&self) -> Result<(), InvalidRequest> {
        let plain =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte);
        let product = self.product.as_str();
        if product.is_empty() || product.len() > 64 || !product.bytes().all(plain) {
            let rule = "use 1 to 64 of a-z, 0-9, '.', '_' and '-'";
            return Err(InvalidRequest::new("product name", product, rule));
        }
        if self.holder.len() > 128 || self.holder.chars().any(char::is_control) {
            let rule = "use at most 128 bytes of text without control characters";
            return Err(InvalidRequest::new("holder name", &self.holder, rule));
        }
        if !TTL_MS.contains(&millis(self.ttl)) {
            return Err(InvalidRequest::new("TTL", &format!("{:?}", self.ttl), "from 1 s to 24 h"));
        }
        if millis(self.wait) > WAIT_MS_MAX {
            return Err(InvalidRequest::new("wait", &format!("{:?}", self.wait), "a day at most"));
        }
        Ok(())
    }

    /// Whether a refusal is the fault of our estimate of cluster time. The
    /// request is over then, and another may be made; not if the caller chose
    /// the time.
    fn is_time_wrong(&self, failure: &Failure) -> bool {
        self.not_after_ms.is_none()
            && matches!(failure.reason, Reason::TooFarAhead | Reason::TooLate)
    }

    async fn body(&self, terms: Terms) -> Result<v1::AcquireRequest, AcquireError> {
        let wait_ms = millis(self.wait);
        let now_ms = match self.not_after_ms {
            Some(not_after_ms) if wait_ms == 0 => not_after_ms,
            _ => self.core.cluster_time(terms).await.map_err(never_asked)?,
        };
        Ok(v1::AcquireRequest {
            lease: self.lease.unwrap_or_else(|| self.core.mint()).to_wire(),
            product: self.product.clone(),
            holder: self.holder.clone(),
            version: self.version.clone(),
            ttl_ms: millis(self.ttl),
            not_after_ms: self.not_after_ms.unwrap_or(now_ms.saturating_add(NOT_AFTER_AHEAD_MS)),
            wait_until_ms: if wait_ms == 0 { 0 } else { now_ms.saturating_add(wait_ms) },
            hold_ms: 0,
        })
    }

    /// Asks with one body until it is granted, refused, or time is up.
    async fn ask(&self, body: v1::AcquireRequest, terms: Terms) -> Result<Seat, AcquireError> {
        let lease = LeaseId::from_wire(&body.lease).unwrap_or(LeaseId(0));
        let mut withdrawal = Withdrawal { core: &self.core, lease, due: true };
        // Cluster time stands still in an outage; the caller's does not.
        let end = terms.until + self.wait;
        let mut terms = terms;
        let mut waiting = Waiting::new(self);
        loop {
            let answered = match waiting.ask(&body, terms).await {
                Ok(answered) => answered,
                Err(error) => {
                    let error = self.failed(lease, error, waiting.place.is_some());
                    withdrawal.due = matches!(error, AcquireError::Unknown { .. });
                    return Err(error);
                }
            };
            let Reply::Acquire(reply) = answered.reply else {
                return Err(self.unknown(lease, Failure::bad_answer("another call's reply")));
            };
            match (reply.outcome, reply.envelope) {
                (Some(acquire_reply::Outcome::Granted(granted)), Some(envelope)) => {
                    let Some(grant) = Grant::from_wire(lease, &granted) else {
                        return Err(self.unknown(lease, Failure::bad_answer("half a grant")));
                    };
                    if let Some(how) = ending(&granted) {
                        withdrawal.due = false;
                        return Err(AcquireError::Ended { how });
                    }
                    let deadline_ms = granted
                        .standing
                        .map_or(granted.deadline_ms, |standing| standing.deadline_ms);
                    let hold = Hold::counted(answered.sent, envelope.stamp_ms, deadline_ms);
                    let seat = Seat::take(Arc::clone(&self.core), grant, hold);
                    withdrawal.due = false;
                    return seat.when_held(end).await;
                }
                (Some(acquire_reply::Outcome::Queued(queued)), Some(envelope)) => {
                    waiting.queued(&queued, envelope.stamp_ms);
                    let now = self.core.now();
                    if now >= end {
                        let message = "no seat came free in time, by this machine's clock";
                        return Err(self.unknown(
                            lease,
                            Failure::new(
                                crate::error::Outcome::Unknown,
                                Reason::WaitedInVain,
                                message,
                            ),
                        ));
                    }
                    // Patience is with silence: an answer renews it.
                    terms.until = (now + self.patience).min(end);
                }
                _ => return Err(self.unknown(lease, Failure::bad_answer("neither seat nor place"))),
            }
        }
    }

    fn failed(&self, lease: LeaseId, error: CallError, queued: bool) -> AcquireError {
        match error {
            CallError::Refused(failure) => AcquireError::Refused(failure),
            // Once queued, only the ledger's word ends it.
            CallError::NotDone(failure) if !queued => AcquireError::NotDone(failure),
            CallError::NotDone(failure) | CallError::Unknown(failure) => {
                self.unknown(lease, failure)
            }
        }
    }

    fn unknown(&self, lease: LeaseId, failure: Failure) -> AcquireError {
        AcquireError::Unknown { lease, failure }
    }
}

impl fmt::Debug for Acquire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acquire")
            .field("product", &self.product)
            .field("holder", &self.holder)
            .field("ttl", &self.ttl)
            .field("wait", &self.wait)
            .finish_non_exhaustive()
    }
}

/// Asking for the time failed: whatever became of that, no seat was asked for.
fn never_asked(error: CallError) -> AcquireError {
    AcquireError::NotDone(error.failure().clone())
}

fn ending(granted: &v1::Granted) -> Option<&'static str> {
    match granted.standing.as_ref()?.state() {
        standing::State::Released => Some("released"),
        standing::State::Expired => Some("expired"),
        standing::State::Revoked => Some("revoked"),
        standing::State::Live | standing::State::Unspecified => None,
    }
}

/// Withdraws the request when dropped while due: the future was dropped, or
/// nobody will ever know what became of it.
struct Withdrawal<'a> {
    core: &'a Arc<Core>,
    lease: LeaseId,
    due: bool,
}

impl Drop for Withdrawal<'_> {
    fn drop(&mut self) {
        if self.due {
            self.core.courtesy(Call::Cancel(v1::CancelRequest { lease: self.lease.to_wire() }));
        }
    }
}

/// How a waiting request is asked again: held open by the node if possible.
struct Waiting<'a> {
    acquire: &'a Acquire,
    place: Option<Place>,
    hold_open: Duration,
    asked: Moment,
}

impl<'a> Waiting<'a> {
    fn new(acquire: &'a Acquire) -> Self {
        // A hold is counted from before the send, so a call held open for long
        // would use up a short lease before it is granted.
        let hold_open = HOLD_OPEN_MAX.min(acquire.ttl / 3);
        Self { acquire, place: None, hold_open, asked: acquire.core.now() }
    }

    async fn ask(
        &mut self,
        body: &v1::AcquireRequest,
        terms: Terms,
    ) -> Result<Answered, CallError> {
        let core = &self.acquire.core;
        // The first answer comes at once: it tells the place.
        let turn = match self.place {
            None => None,
            Some(_) => core.waits.try_acquire().ok(),
        };
        let hold_open = if turn.is_some() { self.hold_open } else { Duration::ZERO };
        if self.place.is_some() {
            // A node that does not hold the call open must not be asked in a spin.
            let early = ASK_EVERY.min(self.hold_open).saturating_sub(core.now().since(self.asked));
            if turn.is_none() || self.answered_early() {
                tokio::time::sleep(early).await;
            }
        }
        self.asked = core.now();
        let lane = if turn.is_some() { Lane::Waiting } else { Lane::Short };
        let hold_ms = u32::try_from(hold_open.as_millis()).unwrap_or(u32::MAX);
        let call = &Call::Acquire(v1::AcquireRequest { hold_ms, ..body.clone() });
        core.persist(terms, |endpoint, within| async move {
            core.send(call, &endpoint, lane, within + hold_open).await
        })
        .await
    }

    fn answered_early(&self) -> bool {
        self.acquire.core.now().since(self.asked) < self.hold_open / 2
    }

    fn queued(&mut self, queued: &v1::Queued, stamp_ms: u64) {
        let place = Place { position: queued.position, length: queued.length };
        if self.place != Some(place) {
            self.place = Some(place);
            if let Some(hear) = &self.acquire.on_place {
                hear(place);
            }
        }
        // Come back well before the place is lost.
        let session = Duration::from_millis(queued.ask_before_ms.saturating_sub(stamp_ms));
        self.hold_open = self.hold_open.min(session / 3);
    }
}
