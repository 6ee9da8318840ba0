//! Taking a seat: one request id, asked until the answer is definite, in the
//! queue if it must be.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use wire::v1::{self, acquire_reply, standing};

use crate::clock::Moment;
use crate::core::Core;
use crate::error::{AcquireError, CallError, Failure, Outcome, Reason};
use crate::hold::Hold;
use crate::lease::{Grant, InvalidRequest, LeaseId, Place};
use crate::observe::Reply;
use crate::patience::Patience;
use crate::retry::leaves_id_open;
use crate::seat::Seat;
use crate::time::millis;

mod waiting;
mod withdrawal;

use waiting::Waiting;
use withdrawal::Withdrawal;

/// How far ahead of cluster time a request's not-after is set. Half of what the
/// ledger allows, so that an estimate may be wrong by as much either way.
const NOT_AFTER_AHEAD_MS: u64 = 30_000;
/// How often the time may turn out wrong before that is the answer.
const WRONG_TIMES_MAX: u32 = 3;
/// How long a cluster that comes back from a backup is left alone before it is
/// asked again, at first; doubles up to [`ASK_ANEW_MAX`].
const ASK_ANEW: Duration = Duration::from_secs(1);
/// Its licenses may have to be issued anew, which takes people hours.
const ASK_ANEW_MAX: Duration = Duration::from_secs(32);

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

    /// How long to go on asking when no definite answer comes; who has a place in
    /// the queue goes on for as long as it waits.
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

    /// Asks, with one request id, as often as it takes. If our idea of cluster
    /// time was wrong, a new request takes its place, once it can have no effect; so
    /// it is where the cluster was restored from a backup that does not know of the
    /// place that the request had.
    ///
    /// Returns within the wait plus the patience, whatever happens. Dropping
    /// the future withdraws the request in the background.
    ///
    /// # Errors
    /// No seat is held, except possibly in [`AcquireError::Unknown`].
    pub async fn send(self) -> Result<Seat, AcquireError> {
        self.validate()?;
        let patience = Patience::until(self.core.now() + self.patience);
        let mut patience = patience.fail_fast(self.fail_fast);
        // Cluster time stands still in an outage; the caller's does not.
        let end = patience.end() + self.wait;
        let unplaced = patience.end();
        let (mut wrong_times, mut unproved) = (0, 0);
        loop {
            let (lease, body) = self.body(patience, end).await?;
            let mut withdrawal = Withdrawal::due(&self.core, lease);
            let error = match self.ask(lease, &body, &mut patience, end).await {
                Ok(seat) => {
                    withdrawal.waive();
                    return seat.when_held(end).await;
                }
                Err(error) => error,
            };
            let in_doubt = matches!(error, AcquireError::Unknown { .. });
            if !in_doubt {
                withdrawal.waive();
            }
            // Who chose the time, or the id, has one request.
            let may_ask_anew = self.not_after_ms.is_none();
            match error.reason() {
                Reason::TooFarAhead | Reason::TooLate if may_ask_anew => {
                    self.core.forget_time();
                    wrong_times += 1;
                }
                // A restored cluster proves its shares first.
                Reason::SharesMissing
                    if may_ask_anew && self.lease.is_none() && patience.end() > unplaced =>
                {
                    self.pause(unproved, end).await;
                    unproved += 1;
                }
                _ => return Err(error),
            }
            let over = wrong_times == WRONG_TIMES_MAX || self.core.now() >= patience.end();
            // An id of the caller's own is spent once it is withdrawn.
            let id_is_spent = in_doubt && self.lease.is_some();
            // A copy of this request may still be on its way; it must find its
            // id taken before another asks for a seat. The ledger remembers that for
            // a minute, longer than a copy is under way.
            if over || id_is_spent || withdrawal.carry_out(patience).await.is_err() {
                return Err(error);
            }
        }
    }

    /// Between half and the whole of a span that doubles with the times that it
    /// was waited; not beyond `end`.
    async fn pause(&self, times: u32, end: Moment) {
        let span = ASK_ANEW.saturating_mul(1 << times.min(8)).min(ASK_ANEW_MAX);
        let jitter = Duration::from_millis(self.core.bits() % millis(span / 2));
        tokio::time::sleep((span / 2 + jitter).min(end.since(self.core.now()))).await;
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

    async fn body(
        &self,
        patience: Patience,
        end: Moment,
    ) -> Result<(LeaseId, v1::AcquireRequest), AcquireError> {
        let (not_after_ms, wait_until_ms) = self.times(patience, end).await.map_err(never_asked)?;
        let lease = self.lease.unwrap_or_else(|| self.core.mint());
        let body = v1::AcquireRequest {
            lease: lease.to_wire(),
            product: self.product.clone(),
            holder: self.holder.clone(),
            version: self.version.clone(),
            ttl_ms: millis(self.ttl),
            not_after_ms,
            wait_until_ms,
            hold_open_ms: 0,
        };
        Ok((lease, body))
    }

    /// Not-after and the end of the wait (0 for none), in milliseconds of
    /// cluster time; that is asked for only if one of them depends on it.
    async fn times(&self, patience: Patience, end: Moment) -> Result<(u64, u64), CallError> {
        // Another request waits for what is left of the wait.
        let wait_ms = millis(self.wait.min(end.since(self.core.now())));
        if let (Some(chosen), 0) = (self.not_after_ms, wait_ms) {
            return Ok((chosen, 0));
        }
        let now_ms = self.core.cluster_time(patience).await?;
        let not_after_ms = self.not_after_ms.unwrap_or(now_ms.saturating_add(NOT_AFTER_AHEAD_MS));
        let wait_until_ms = if wait_ms == 0 { 0 } else { now_ms.saturating_add(wait_ms) };
        Ok((not_after_ms, wait_until_ms))
    }

    /// Asks with one body until it is granted, refused, or time is up.
    async fn ask(
        &self,
        lease: LeaseId,
        body: &v1::AcquireRequest,
        patience: &mut Patience,
        end: Moment,
    ) -> Result<Seat, AcquireError> {
        let unknown = |failure| AcquireError::Unknown { lease, failure };
        let mut waiting = Waiting::new(self);
        loop {
            let answered = match waiting.ask(body, *patience).await {
                Ok(answered) => answered,
                // Empty nodes on their way back to the cluster where it has a place.
                Err(error)
                    if waiting.is_queued()
                        && error.reason() == Reason::NotFormed
                        && self.core.now() < end =>
                {
                    self.pause(0, end).await;
                    continue;
                }
                Err(error) => return Err(failed(lease, error, waiting.is_queued())),
            };
            let Reply::Acquire(reply) = answered.reply else {
                return Err(unknown(Failure::bad_answer("another call's reply")));
            };
            match (reply.outcome, reply.envelope) {
                (Some(acquire_reply::Outcome::Granted(granted)), Some(envelope)) => {
                    return self.granted(lease, &granted, envelope.stamp_ms, answered.sent);
                }
                (Some(acquire_reply::Outcome::Queued(queued)), Some(envelope)) => {
                    waiting.queued(&queued, envelope.stamp_ms);
                    let now = self.core.now();
                    if now >= end {
                        return Err(unknown(waited_in_vain()));
                    }
                    // Whoever has a place asks for as long as it waits, whatever becomes
                    // of the cluster meanwhile: its clock may stand still, and the place lasts.
                    *patience = patience.extended(end);
                }
                _ => return Err(unknown(Failure::bad_answer("neither seat nor place"))),
            }
        }
    }

    /// The seat of a grant, unless its lease is over already.
    fn granted(
        &self,
        lease: LeaseId,
        granted: &v1::Granted,
        stamp_ms: u64,
        sent: Moment,
    ) -> Result<Seat, AcquireError> {
        let Some(grant) = Grant::from_wire(lease, granted) else {
            let failure = Failure::bad_answer("half a grant");
            return Err(AcquireError::Unknown { lease, failure });
        };
        if let Some(how) = ending(granted) {
            return Err(AcquireError::Ended { how });
        }
        let standing = granted.standing.as_ref();
        let deadline_ms = standing.map_or(granted.deadline_ms, |standing| standing.deadline_ms);
        let hold = Hold::counted(sent, stamp_ms, deadline_ms);
        Ok(Seat::take(Arc::clone(&self.core), grant, hold))
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

fn failed(lease: LeaseId, error: CallError, queued: bool) -> AcquireError {
    match error {
        CallError::Refused(failure) if !(queued && leaves_id_open(failure.reason)) => {
            AcquireError::Refused(failure)
        }
        // Once queued, only the ledger's word ends it.
        CallError::NotDone(failure) if !queued => AcquireError::NotDone(failure),
        CallError::Refused(failure) | CallError::NotDone(failure) | CallError::Unknown(failure) => {
            AcquireError::Unknown { lease, failure }
        }
    }
}

fn waited_in_vain() -> Failure {
    let message = "no seat came free in time, by this machine's clock";
    Failure::new(Outcome::Unknown, Reason::WaitedInVain, message)
}

fn ending(granted: &v1::Granted) -> Option<&'static str> {
    match granted.standing.as_ref()?.state() {
        standing::State::Released => Some("released"),
        standing::State::Expired => Some("expired"),
        standing::State::Revoked => Some("revoked"),
        standing::State::Live | standing::State::Unspecified => None,
    }
}
