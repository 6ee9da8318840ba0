//! A seat: renews itself, says how it stands, and is given back when dropped.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::task::AbortOnDropHandle;
use wire::v1;

use crate::clock::Moment;
use crate::core::Core;
use crate::error::{AcquireError, CallError, Failure, Reason};
use crate::hold::Hold;
use crate::lease::{Grant, LeaseId};
use crate::observe::{Call, Reply};
use crate::patience::Patience;
use crate::retry;

/// The longest sleep of a keeper. A sleep stands still while the machine does;
/// the clock does not, and has to be looked at soon after waking.
const NAP_MAX: Duration = Duration::from_secs(1);
/// The pause between renewals that failed, once the usual retries have.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How a seat stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// Use it. Safe until then by the client's clock, and renewed long before.
    Held {
        /// 90 % of the counted hold.
        until: Moment,
    },
    /// Use it until then at most: its renewal does not get through, or was
    /// refused. Renewals are still tried unless the seat was revoked.
    AtRisk {
        /// 90 % of the counted hold.
        until: Moment,
        /// What the last renewal met.
        why: Failure,
    },
    /// Stop using it now: the counted hold ran out. The cluster may still keep
    /// the seat (its clock stands still in an outage), so renewals go on; after
    /// one succeeds it is [`Held`](Self::Held) again.
    Overdue {
        /// What the last renewal met, if any was answered.
        why: Option<Failure>,
    },
    /// Stop using it now: it is gone for good.
    Lost(Loss),
}

impl Standing {
    /// Whether the application may use the seat.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Held { .. } | Self::AtRisk { .. })
    }
}

/// How a seat was lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Loss {
    /// The ledger says that the lease is over.
    Ended(Failure),
    /// An operator revoked it, and its time is up.
    Revoked(Failure),
    /// It was given back.
    Released,
}

impl fmt::Display for Loss {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ended(failure) | Self::Revoked(failure) => failure.fmt(f),
            Self::Released => f.write_str("the seat was given back"),
        }
    }
}

/// Names a seat to whoever is to renew or release it by hand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ticket {
    /// The lease.
    pub lease: LeaseId,
    /// The fencing token.
    pub token: u64,
}

impl Ticket {
    fn to_release(self) -> v1::ReleaseRequest {
        v1::ReleaseRequest { lease: self.lease.to_wire(), token: self.token }
    }
}

/// A seat that is held. Dropping it gives it back in the background;
/// [`release`](Self::release) does so for certain.
#[must_use = "a seat is given back when it is dropped"]
pub struct Seat {
    core: Arc<Core>,
    grant: Grant,
    standing: watch::Receiver<Standing>,
    keeper: Option<AbortOnDropHandle<()>>,
    /// Whether dropping it gives it back.
    owed: bool,
}

impl Seat {
    pub(crate) fn take(core: Arc<Core>, grant: Grant, hold: Hold) -> Self {
        let (tell, standing) = watch::channel(Standing::Held { until: hold.until() });
        let ticket = Ticket { lease: grant.lease, token: grant.token };
        let keeper = Keeper { core: Arc::clone(&core), ticket, hold, why: None, tell };
        let keeper = Some(core.spawn(keeper.keep()));
        Self { core, grant, standing, keeper, owed: true }
    }

    /// Returns at once if the hold is good. An answer that took longer than the
    /// seat is held for has to be renewed before anybody may use it.
    pub(crate) async fn when_held(mut self, end: Moment) -> Result<Self, AcquireError> {
        while !self.standing().is_usable() {
            if let Standing::Lost(Loss::Ended(failure) | Loss::Revoked(failure)) = self.standing() {
                return Err(AcquireError::Refused(failure));
            }
            let left = end.since(self.core.now());
            let change = tokio::time::timeout(left, self.standing.changed()).await;
            if !matches!(change, Ok(Ok(()))) {
                let failure = Failure::bad_answer("it came after the seat had run out");
                return Err(AcquireError::Unknown { lease: self.grant.lease, failure });
            }
        }
        Ok(self)
    }

    /// The grant: token, license and what the license switches on.
    pub fn grant(&self) -> &Grant {
        &self.grant
    }

    /// The lease id. Whoever knows it and is the same subject may release the seat.
    pub fn lease(&self) -> LeaseId {
        self.grant.lease
    }

    /// The fencing token: rises with every grant, names the seat to operators.
    pub fn token(&self) -> u64 {
        self.grant.token
    }

    /// How the seat stands at this moment.
    pub fn standing(&self) -> Standing {
        let told = self.standing.borrow().clone();
        // Exact even right after a suspend, when the keeper still sleeps.
        let now = self.core.now();
        match told {
            Standing::Held { until } if now >= until => Standing::Overdue { why: None },
            Standing::AtRisk { until, why } if now >= until => Standing::Overdue { why: Some(why) },
            told => told,
        }
    }

    /// Every change of standing, for an application that wants to follow it.
    pub fn watch(&self) -> watch::Receiver<Standing> {
        self.standing.clone()
    }

    /// Resolves when the application must stop using the seat: it is overdue or
    /// lost. In time: a tenth of the hold is left then.
    pub async fn must_stop(&self) -> Standing {
        self.until(|standing| !standing.is_usable()).await
    }

    /// Resolves when the seat is gone for good.
    pub async fn lost(&self) -> Loss {
        match self.until(|standing| matches!(standing, Standing::Lost(_))).await {
            Standing::Lost(loss) => loss,
            // The keeper ended without a word: the runtime is shutting down.
            _ => Loss::Released,
        }
    }

    async fn until(&self, wanted: impl Fn(&Standing) -> bool) -> Standing {
        let mut standing = self.standing.clone();
        loop {
            // Seen before it is read, so that no change slips between.
            standing.borrow_and_update();
            let now = self.standing();
            if wanted(&now) || standing.changed().await.is_err() {
                return now;
            }
        }
    }

    /// Gives the seat back and waits until the ledger says so.
    ///
    /// # Errors
    /// It is not known to be back within the client's patience. Giving it back
    /// goes on in the background; failing that, its TTL ends it.
    pub async fn release(mut self) -> Result<(), CallError> {
        self.keeper = None;
        let outcome = release(&self.core, self.ticket(), self.core.patiently()).await;
        // Any word of the ledger settles it.
        self.owed = !matches!(outcome, Ok(()) | Err(CallError::Refused(_)));
        outcome
    }

    /// Lets the seat live on without this process: it is neither renewed nor
    /// released any more, and ends by its TTL unless somebody does.
    pub fn detach(mut self) -> Ticket {
        self.keeper = None;
        self.owed = false;
        self.ticket()
    }

    fn ticket(&self) -> Ticket {
        Ticket { lease: self.grant.lease, token: self.grant.token }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let gone = matches!(*self.standing.borrow(), Standing::Lost(_));
        if self.owed && !gone {
            self.core.courtesy(Call::Release(self.ticket().to_release()));
        }
    }
}

impl fmt::Debug for Seat {
    /// Not the lease id: logs are read by others.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seat")
            .field("product", &self.grant.product)
            .field("token", &self.grant.token)
            .field("standing", &self.standing())
            .finish_non_exhaustive()
    }
}

/// Releases a seat; that it is over already is as good.
pub(crate) async fn release(
    core: &Core,
    ticket: Ticket,
    patience: Patience,
) -> Result<(), CallError> {
    match core.ask(&Call::Release(ticket.to_release()), patience).await {
        Ok(_) => Ok(()),
        Err(CallError::Refused(failure)) if failure.reason == Reason::LeaseEnded => Ok(()),
        Err(error) => Err(error),
    }
}

/// Renews one lease until it is lost.
struct Keeper {
    core: Arc<Core>,
    ticket: Ticket,
    hold: Hold,
    /// What the last renewal met, until one succeeds.
    why: Option<Failure>,
    tell: watch::Sender<Standing>,
}

impl Keeper {
    async fn keep(mut self) {
        let mut due = self.hold.renew_at(self.core.bits());
        let mut failures = 0;
        loop {
            self.sleep_until(due).await;
            match self.renew().await {
                Ok(()) => {
                    failures = 0;
                    due = self.hold.renew_at(self.core.bits());
                }
                Err(failure) => {
                    if self.is_final(failure).await {
                        return;
                    }
                    let pause = retry::pause(failures, self.core.bits()).min(RETRY_EVERY);
                    failures = failures.saturating_add(1);
                    due = self.core.now() + pause;
                }
            }
        }
    }

    /// Naps until `due`, telling the standing as time goes by.
    async fn sleep_until(&self, due: Moment) {
        loop {
            self.tell_standing();
            let now = self.core.now();
            if now >= due {
                return;
            }
            let mut nap = due.since(now).min(NAP_MAX);
            if self.hold.is_safe(now) {
                nap = nap.min(self.hold.until().since(now));
            }
            tokio::time::sleep(nap.max(Duration::from_millis(1))).await;
        }
    }

    /// One renewal: two tries, but never past the moment when the application
    /// has to be told.
    async fn renew(&mut self) -> Result<(), Failure> {
        let now = self.core.now();
        let tries = now + 2 * self.core.answer_within;
        let until = if self.hold.is_safe(now) { tries.min(self.hold.until()) } else { tries };
        // Said of every send, because none is sent after the hold unless this is.
        let hold_ended = !self.hold.is_safe(now);
        let Ticket { lease, token } = self.ticket;
        let request = v1::RenewRequest { lease: lease.to_wire(), token, hold_ended };
        let patience = Patience::until(until).fail_fast(true);
        let answered = self
            .core
            .ask(&Call::Renew(request), patience)
            .await
            .map_err(|e| e.failure().clone())?;
        let Reply::Renew(v1::RenewReply { envelope: Some(envelope), deadline_ms }) = answered.reply
        else {
            return Err(Failure::bad_answer("another call's reply"));
        };
        let hold = Hold::counted(answered.sent, envelope.stamp_ms, deadline_ms);
        self.hold = self.hold.or_later(hold);
        self.why = None;
        Ok(())
    }

    /// Notes a failed renewal. True when there is nothing left to keep.
    async fn is_final(&mut self, failure: Failure) -> bool {
        match failure.reason {
            Reason::LeaseEnded | Reason::NoSuchLease => {
                self.tell.send_replace(Standing::Lost(Loss::Ended(failure)));
                true
            }
            Reason::SeatRevoked => {
                self.why = Some(failure.clone());
                self.sleep_until(self.hold.until()).await;
                self.core.courtesy(Call::Release(self.ticket.to_release()));
                self.tell.send_replace(Standing::Lost(Loss::Revoked(failure)));
                true
            }
            _ => {
                tracing::debug!(seat = self.ticket.token, %failure, "renewal failed");
                self.why = Some(failure);
                false
            }
        }
    }

    fn tell_standing(&self) {
        let until = self.hold.until();
        let standing = match (self.hold.is_safe(self.core.now()), &self.why) {
            (true, None) => Standing::Held { until },
            (true, Some(why)) => Standing::AtRisk { until, why: why.clone() },
            (false, why) => Standing::Overdue { why: why.clone() },
        };
        self.tell.send_if_modified(|told| {
            let changed = *told != standing;
            *told = standing;
            changed
        });
    }
}
