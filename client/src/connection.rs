//! HTTP/2 connections, each shared by many calls.
//!
//! A connection knows whether a request that failed was sent at all; that is the
//! difference between *not done* and *unknown*. It never reconnects: the pool
//! dials a new one, and behind a balancer that may reach another node.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use http::HeaderValue;
use http::header::AUTHORIZATION;
use hyper::body::Incoming;
use hyper::client::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::AlertDescription;
use tonic::body::Body;

use crate::admission::{AtTheDoor, TurnedAway, is_about_identity};
use crate::connect::Connector;
use crate::endpoints::Endpoint;
use crate::error::{Failure, Outcome, Reason, describe, find};
use crate::identity::Bearer;

/// How often an open connection is asked whether it still lives.
const KEEP_ALIVE_EVERY: Duration = Duration::from_secs(2);
/// How long it may take to say so.
const KEEP_ALIVE_WITHIN: Duration = Duration::from_secs(2);

/// Which of the (at most two) connections to one endpoint a call takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Lane {
    /// Calls that are answered at once.
    Short,
    /// Acquires that are held open: they must not use up the streams that
    /// renewals need.
    Waiting,
}

/// Why a connection did not carry a call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    /// The connection was closing; the request stayed here.
    #[error("the connection closed before the request was sent")]
    NotSent,
    /// The server did not let us in; it read nothing of the request.
    #[error("the server sent the alert {0:?}")]
    TurnedAway(AlertDescription),
    /// The request was on its way.
    #[error("the connection broke before the answer came")]
    Broken(#[source] hyper::Error),
}

impl ConnectionError {
    /// What the caller may conclude.
    pub(crate) fn failure(&self) -> Failure {
        match self {
            Self::NotSent => Failure::new(Outcome::NotDone, Reason::Unreachable, self.to_string()),
            Self::TurnedAway(alert) => turned_away(*alert),
            Self::Broken(_) => {
                Failure::new(Outcome::Unknown, Reason::ConnectionLost, describe(self))
            }
        }
    }
}

/// The server judged this client, and read nothing before.
fn turned_away(alert: AlertDescription) -> Failure {
    // The cluster let this client in once, and does no more.
    if alert == AlertDescription::CertificateRevoked {
        let message = "the cluster has revoked this client's certificate (TRINE_CERT): an \
                       operator issues another with `trine pki issue`";
        return Failure::new(Outcome::NotDone, Reason::CertificateRevoked, message);
    }
    let message = format!(
        "the server does not accept this client's certificate (TRINE_CERT): it sent the alert \
         {alert:?}; is it in date, and of the CA of that cluster?"
    );
    Failure::new(Outcome::NotDone, Reason::CertificateRefused, message)
}

/// This client judged the server, or what is there speaks otherwise; nothing was
/// sent or read before.
fn mistrust(verdict: &str) -> Failure {
    let message = format!(
        "this client does not accept the server's certificate: {verdict} (see whether TRINE_CA is \
         the CA of that cluster; behind a balancer, see that every node lists it under \
         [proxy] trusted)"
    );
    Failure::new(Outcome::NotDone, Reason::Untrusted, message)
}

/// One connection, as many calls see it.
#[derive(Clone)]
pub(crate) struct Connection {
    sender: http2::SendRequest<Body>,
    authorization: Option<HeaderValue>,
    /// Answers so far: a connection that answers others is slow, not dead.
    answers: Arc<AtomicU64>,
    turned_away: TurnedAway,
    generation: u64,
}

impl Connection {
    /// How many answers it has brought so far.
    pub(crate) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

impl tower::Service<http::Request<Body>> for Connection {
    type Response = http::Response<Incoming>;
    type Error = ConnectionError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectionError>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ConnectionError>> {
        self.sender.poll_ready(cx).map_err(|_| not_sent(&self.turned_away))
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        if let Some(token) = &self.authorization {
            request.headers_mut().insert(AUTHORIZATION, token.clone());
        }
        let sending = self.sender.try_send_request(request);
        let answers = Arc::clone(&self.answers);
        let turned_away = self.turned_away.clone();
        Box::pin(async move {
            let response = sending.await.map_err(|mut error| match error.take_message() {
                Some(_) => not_sent(&turned_away),
                None => match turned_away.why() {
                    Some(alert) => ConnectionError::TurnedAway(alert),
                    None => ConnectionError::Broken(error.into_error()),
                },
            })?;
            answers.fetch_add(1, Ordering::Relaxed);
            Ok(response)
        })
    }
}

/// The request is still here; perhaps the server has said why.
fn not_sent(turned_away: &TurnedAway) -> ConnectionError {
    turned_away.why().map_or(ConnectionError::NotSent, ConnectionError::TurnedAway)
}

/// All connections of one client.
pub(crate) struct Connections {
    connector: Arc<dyn Connector>,
    bearer: Arc<Bearer>,
    connect_within: Duration,
    slots: Mutex<BTreeMap<(Endpoint, Lane), Slot>>,
    generations: AtomicU64,
}

/// One dials, the others wait for it.
type Slot = Arc<tokio::sync::Mutex<Option<Connection>>>;

/// Slots of endpoints no longer in use are dropped beyond this many: leader
/// hints may name any number of addresses over time.
const SLOTS_MAX: usize = 64;

impl Connections {
    pub(crate) fn new(
        connector: Arc<dyn Connector>,
        bearer: Arc<Bearer>,
        connect_within: Duration,
    ) -> Self {
        Self {
            connector,
            bearer,
            connect_within,
            slots: Mutex::default(),
            generations: AtomicU64::new(0),
        }
    }

    /// An open connection to `endpoint`, dialed if need be. A failure means that
    /// nothing was sent.
    pub(crate) async fn open(
        &self,
        endpoint: &Endpoint,
        lane: Lane,
        within: Duration,
    ) -> Result<Connection, Failure> {
        let slot = self.slot(endpoint, lane);
        let dialing = async {
            let mut current = slot.lock().await;
            match &*current {
                Some(open) if !open.sender.is_closed() => Ok(open.clone()),
                _ => Ok(current.insert(self.dial(endpoint).await?).clone()),
            }
        };
        match tokio::time::timeout(self.connect_within.min(within), dialing).await {
            Ok(connection) => connection,
            Err(_) => Err(unreachable(endpoint, "no answer in time")),
        }
    }

    /// Lets go of a connection that let a call down, unless somebody dialed anew
    /// already. Calls still on it may finish.
    pub(crate) fn discard(&self, endpoint: &Endpoint, lane: Lane, let_down: &Connection) {
        let slot = self.slot(endpoint, lane);
        // Locked means that somebody is dialing: then it is gone already.
        if let Ok(mut current) = slot.try_lock()
            && current.as_ref().is_some_and(|one| one.generation == let_down.generation)
        {
            *current = None;
        }
    }

    fn slot(&self, endpoint: &Endpoint, lane: Lane) -> Slot {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.len() >= SLOTS_MAX {
            slots.retain(|_, slot| Arc::strong_count(slot) > 1);
        }
        Arc::clone(slots.entry((endpoint.clone(), lane)).or_default())
    }

    async fn dial(&self, endpoint: &Endpoint) -> Result<Connection, Failure> {
        let stream = self.connector.connect(endpoint).await.map_err(|error| {
            match find::<rustls::Error>(&error) {
                Some(rustls::Error::InvalidMessage(_)) => speaks_no_tls(endpoint),
                Some(rustls::Error::AlertReceived(alert)) if is_about_identity(*alert) => {
                    turned_away(*alert)
                }
                Some(verdict) => mistrust(&verdict.to_string()),
                None => unreachable(endpoint, &error.to_string()),
            }
        })?;
        let stream = AtTheDoor::new(stream);
        let turned_away = stream.turned_away();
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(KEEP_ALIVE_EVERY)
            .keep_alive_timeout(KEEP_ALIVE_WITHIN)
            // It would remember the calls it gave up by the system's clock, not
            // by ours. A late answer to one is answered with a reset instead.
            .max_concurrent_reset_streams(0)
            .max_local_error_reset_streams(None)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|error| unreachable(endpoint, &describe(&error)))?;
        let to = endpoint.clone();
        // Ends when the connection does, or when the last call on it is over
        // and the connection was let go.
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(endpoint = %to, error = %describe(&error), "connection ended");
            }
        });
        let generation = self.generations.fetch_add(1, Ordering::Relaxed);
        let authorization = self.bearer.refreshed();
        Ok(Connection { sender, authorization, answers: Arc::default(), turned_away, generation })
    }
}

/// Another service, or a node's health listener.
fn speaks_no_tls(endpoint: &Endpoint) -> Failure {
    let message = format!(
        "what answers at {endpoint} does not speak TLS: give the client port \
         (listen.client of a node, listen of a balancer), not the health port"
    );
    Failure::new(Outcome::NotDone, Reason::Untrusted, message)
}

fn unreachable(endpoint: &Endpoint, why: &str) -> Failure {
    let message = format!(
        "{endpoint} cannot be reached: {why} (is the address right, see TRINE_HOST, \
         and does the server run?)"
    );
    Failure::new(Outcome::NotDone, Reason::Unreachable, message)
}
