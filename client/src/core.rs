//! What every call goes through: a connection, a deadline, an observer, and
//! asking again until the answer is definite or patience ends.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tonic::Status;
use wire::v1::licensing_client::LicensingClient;

use crate::clock::{Clock, Moment};
use crate::connection::{Connection, Connections, Lane};
use crate::endpoints::{Endpoint, Endpoints};
use crate::error::{CallError, Failure, Outcome, Reason};
use crate::lease::LeaseId;
use crate::observe::{Attempt, Call, Observer, Reply};
use crate::options::{Options, OptionsError};
use crate::patience::Patience;
use crate::random::Random;
use crate::retry::{self, Next};
use crate::time::ClusterTime;

/// Acquires held open at a time; further ones ask at intervals instead.
const WAITS_MAX: usize = 100;
/// Courtesies in the background at a time: releases and cancels that nobody
/// waits for. Beyond it they are left out, and the seats end by their TTL.
const COURTESIES_MAX: usize = 4_096;
/// How long a courtesy is tried.
const COURTESY_PATIENCE: Duration = Duration::from_secs(60);

/// Shared by a client, its seats and its operators.
pub(crate) struct Core {
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) patience: Duration,
    pub(crate) answer_within: Duration,
    pub(crate) holder: String,
    pub(crate) waits: Semaphore,
    random: Arc<dyn Random>,
    observer: Arc<dyn Observer>,
    connections: Connections,
    endpoints: Mutex<Endpoints>,
    time: Mutex<ClusterTime>,
    attempts: AtomicU64,
    courtesies: Arc<Semaphore>,
    background: TaskTracker,
    runtime: tokio::runtime::Handle,
}

/// A reply and when the send that it answers was begun.
#[derive(Debug)]
pub(crate) struct Answered {
    pub(crate) reply: Reply,
    pub(crate) sent: Moment,
}

impl Core {
    pub(crate) fn new(options: Options) -> Result<Self, OptionsError> {
        if options.endpoints.is_empty() {
            return Err(OptionsError::NoHost);
        }
        let random = options.random_or_system()?;
        Ok(Self {
            clock: options.clock,
            patience: options.patience,
            answer_within: options.answer_within,
            holder: options.holder,
            waits: Semaphore::new(WAITS_MAX),
            random,
            observer: options.observer,
            connections: Connections::new(
                options.connector,
                options.bearer,
                options.connect_within,
            ),
            endpoints: Mutex::new(Endpoints::new(options.endpoints)),
            time: Mutex::default(),
            attempts: AtomicU64::new(0),
            courtesies: Arc::new(Semaphore::new(COURTESIES_MAX)),
            background: TaskTracker::new(),
            runtime: tokio::runtime::Handle::try_current().map_err(|_| OptionsError::NoRuntime)?,
        })
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    pub(crate) fn bits(&self) -> u64 {
        self.random.bits()
    }

    /// A fresh request id.
    pub(crate) fn mint(&self) -> LeaseId {
        LeaseId((u128::from(self.random.bits()) << 64) | u128::from(self.random.bits()))
    }

    /// The usual patience, counted from now.
    pub(crate) fn patiently(&self) -> Patience {
        Patience::until(self.now() + self.patience)
    }

    /// Sends one call until its answer is definite or patience ends.
    pub(crate) async fn ask(&self, call: &Call, patience: Patience) -> Result<Answered, CallError> {
        self.persist(patience, |endpoint, within| async move {
            self.send(call, &endpoint, Lane::Short, within).await
        })
        .await
    }

    /// Tries `once` at one endpoint after another, with pauses, until it gives
    /// a definite answer or patience ends.
    pub(crate) async fn persist<T, F>(
        &self,
        patience: Patience,
        once: impl Fn(Endpoint, Duration) -> F,
    ) -> Result<T, CallError>
    where
        F: Future<Output = Result<T, Failure>>,
    {
        let mut failures = 0;
        let mut doubt = false;
        let mut avoid: Option<Endpoint> = None;
        let mut told = None;
        loop {
            let picked = self.endpoints().pick(self.now(), avoid.as_ref());
            let Some(endpoint) = picked else {
                return Err(CallError::NotDone(no_endpoint()));
            };
            let within = self.answer_within.min(patience.left(self.now()));
            let failure = match once(endpoint.clone(), within).await {
                Ok(answer) => {
                    self.endpoints().answered(&endpoint);
                    return Ok(answer);
                }
                Err(failure) => failure,
            };
            doubt |= failure.outcome == Outcome::Unknown;
            let next = retry::after(&failure, failures, self.bits());
            let most = retry::most_telling(told.take(), failure.clone());
            let pause = match next {
                Next::Stop => return Err(retry::verdict(failure, doubt)),
                Next::Again(pause) => pause,
                Next::Elsewhere(pause) => {
                    self.turn_away(&endpoint, &failure);
                    avoid = Some(endpoint);
                    pause
                }
            };
            if !patience.bears(&failure, doubt, self.now() + pause) {
                return Err(retry::verdict(most, doubt));
            }
            told = Some(most);
            failures = failures.saturating_add(1);
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends one call once.
    pub(crate) async fn send(
        &self,
        call: &Call,
        endpoint: &Endpoint,
        lane: Lane,
        within: Duration,
    ) -> Result<Answered, Failure> {
        let begun = self.now();
        let opened = self.connections.open(endpoint, lane, within).await;
        let sent = self.now();
        // The machine slept: what was true when the call was made may not be now.
        if within.is_zero() || sent.since(begun) > within {
            let message = format!("there was no time left to ask {endpoint}");
            return Err(Failure::new(Outcome::NotDone, Reason::Unreachable, message));
        }
        let attempt = Attempt {
            number: self.attempts.fetch_add(1, Ordering::Relaxed),
            endpoint: endpoint.clone(),
            call: call.clone(),
            sent,
        };
        self.observer.sent(&attempt);
        let answer = match opened {
            Ok(connection) => {
                self.on_connection(connection, endpoint, lane, within, |connection| {
                    transmit(connection, call.clone())
                })
                .await
            }
            Err(failure) => Err(failure),
        };
        let now = self.now();
        self.observer.answered(&attempt, answer.as_ref(), now);
        let reply = answer?;
        match (&reply, reply.envelope()) {
            (Reply::Clock(clock), _) => self.time().learn(clock.cluster_time_ms, now),
            (_, Some(envelope)) => self.time().learn(envelope.stamp_ms, now),
            (_, None) => return Err(Failure::bad_answer("it has no envelope")),
        }
        Ok(Answered { reply, sent })
    }

    /// Makes one call, of any service, at one endpoint.
    pub(crate) async fn exchange<T, F>(
        &self,
        endpoint: &Endpoint,
        within: Duration,
        call: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let connection = self.connections.open(endpoint, Lane::Short, within).await?;
        self.on_connection(connection, endpoint, Lane::Short, within, call).await
    }

    async fn on_connection<T, F>(
        &self,
        connection: Connection,
        endpoint: &Endpoint,
        lane: Lane,
        within: Duration,
        call: impl FnOnce(Connection) -> F,
    ) -> Result<T, Failure>
    where
        F: Future<Output = Result<T, Status>>,
    {
        let answers = connection.answers();
        let failure = match tokio::time::timeout(within, call(connection.clone())).await {
            Ok(Ok(reply)) => return Ok(reply),
            Ok(Err(status)) => Failure::from_status(&status),
            Err(_) => {
                // A connection that answered others meanwhile is slow, not dead.
                if connection.answers() == answers {
                    self.connections.discard(endpoint, lane, &connection);
                }
                let message = format!("{endpoint} did not answer within {} ms", within.as_millis());
                return Err(Failure::new(Outcome::Unknown, Reason::NoAnswer, message));
            }
        };
        if matches!(retry::after(&failure, 0, 0), Next::Elsewhere(_)) {
            self.connections.discard(endpoint, lane, &connection);
        }
        Err(failure)
    }

    fn turn_away(&self, endpoint: &Endpoint, failure: &Failure) {
        tracing::debug!(%endpoint, %failure, "asking elsewhere");
        let mut endpoints = self.endpoints();
        endpoints.failed(endpoint, self.clock.now());
        let hint = failure.leader.as_deref().map(Endpoint::parse);
        if let Some(Ok(leader)) = hint
            && leader != *endpoint
        {
            endpoints.hint(leader);
        }
    }

    /// Cluster time in milliseconds, asked for if it is not known well enough.
    pub(crate) async fn cluster_time(&self, patience: Patience) -> Result<u64, CallError> {
        let known = self.time().estimate(self.now());
        if let Some(known) = known {
            return Ok(known);
        }
        match self.ask(&Call::Clock(wire::v1::ClockRequest {}), patience).await?.reply {
            Reply::Clock(clock) => Ok(clock.cluster_time_ms),
            _ => Err(Failure::bad_answer("another call's reply").into()),
        }
    }

    /// The estimate of cluster time turned out wrong.
    pub(crate) fn forget_time(&self) {
        self.time().forget();
    }

    /// Sends a call that nobody waits for, until its answer is definite.
    pub(crate) fn courtesy(self: &Arc<Self>, call: Call) {
        let Ok(permit) = Arc::clone(&self.courtesies).try_acquire_owned() else {
            tracing::warn!("too many releases in the background; a seat is left to its TTL");
            return;
        };
        let core = Arc::clone(self);
        let task = async move {
            let patience = Patience::until(core.now() + COURTESY_PATIENCE);
            if let Err(error) = core.ask(&call, patience).await {
                tracing::debug!(%error, "a seat is left to its TTL");
            }
            drop(permit);
        };
        self.background.spawn_on(task, &self.runtime);
    }

    /// Waits until no courtesy is under way, at most so long. Whether none is.
    pub(crate) async fn settle(&self, limit: Duration) -> bool {
        self.background.close();
        let settled = tokio::time::timeout(limit, self.background.wait()).await.is_ok();
        self.background.reopen();
        settled
    }

    /// Starts a task that ends with its owner.
    pub(crate) fn spawn(
        &self,
        task: impl Future<Output = ()> + Send + 'static,
    ) -> AbortOnDropHandle<()> {
        AbortOnDropHandle::new(self.runtime.spawn(task))
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.endpoints.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn time(&self) -> MutexGuard<'_, ClusterTime> {
        self.time.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn no_endpoint() -> Failure {
    Failure::new(Outcome::NotDone, Reason::Unreachable, "no server is named (see TRINE_HOST)")
}

async fn transmit(connection: Connection, call: Call) -> Result<Reply, Status> {
    let mut licensing = LicensingClient::with_origin(connection, origin());
    Ok(match call {
        Call::Clock(request) => Reply::Clock(licensing.clock(request).await?.into_inner()),
        Call::Acquire(request) => Reply::Acquire(licensing.acquire(request).await?.into_inner()),
        Call::Renew(request) => Reply::Renew(licensing.renew(request).await?.into_inner()),
        Call::Release(request) => Reply::Release(licensing.release(request).await?.into_inner()),
        Call::Cancel(request) => Reply::Cancel(licensing.cancel(request).await?.into_inner()),
    })
}

/// The authority that every request names, whatever address was dialed.
pub(crate) fn origin() -> http::Uri {
    http::Uri::from_static("https://trine")
}
