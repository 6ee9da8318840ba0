//! What every call passes before anything reads its body: is there such a call,
//! who makes it, may they, and is there room.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::header::AUTHORIZATION;
use http::request::Parts;
use ledger::name::Subject;
use pki::Fingerprint;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout};
use tonic::{Code, Status};

use super::Answers;
use super::error::{self, No};
use super::roles::Call;
use super::room::{Place, Room};
use crate::answer::NotAnswered;
use crate::config::Limits;
use crate::identity::{Caller, NoCaller, Peer, caller_of};
use crate::serve::Admission;
use crate::telemetry::Metrics;

/// A call that takes longer is ended. The longest that is meant to be so long
/// holds a queued acquire open for 5 s; this ends those whose body never comes.
const CALL_MAX: Duration = Duration::from_secs(30);

/// A token that this node does not know may have been issued a moment ago, on a
/// leader whose log it has not applied so far: it looks again for this long.
const TOKEN_LAG_MAX: Duration = Duration::from_millis(500);

/// Between two looks for a token.
const TOKEN_PAUSE: Duration = Duration::from_millis(25);

/// Calls that may have their token looked for again at once; beyond these an
/// unknown token is refused at the first look.
const TOKENS_SOUGHT_MAX: usize = 256;

type FindToken = dyn Fn(&[u8; 32]) -> Option<Subject> + Send + Sync;

/// The gate of the client listener.
pub struct Gate {
    find_token: Box<FindToken>,
    /// Whether a certificate was revoked.
    is_revoked: Box<dyn Fn(&Fingerprint) -> bool + Send + Sync>,
    /// Whether a token may be there that `find_token` does not find yet.
    may_lag: Box<dyn Fn() -> bool + Send + Sync>,
    tokens_sought: Semaphore,
    room: Room,
    request_bytes: u32,
    metrics: Arc<Metrics>,
    answers: Answers,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Gate({:?})", self.room)
    }
}

impl Gate {
    /// A gate that asks `find_token` whose bearer token has this digest.
    pub fn new(
        limits: &Limits,
        metrics: Arc<Metrics>,
        find_token: impl Fn(&[u8; 32]) -> Option<Subject> + Send + Sync + 'static,
    ) -> Self {
        Self {
            find_token: Box::new(find_token),
            is_revoked: Box::new(|_| false),
            may_lag: Box::new(|| false),
            tokens_sought: Semaphore::new(TOKENS_SOUGHT_MAX),
            room: Room::new(limits),
            request_bytes: limits.request_bytes,
            answers: Answers { metrics: metrics.clone() },
            metrics,
        }
    }

    /// Refuses every call of a certificate that `is_revoked`, over whatever
    /// connection it comes.
    pub fn refusing(
        mut self,
        is_revoked: impl Fn(&Fingerprint) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.is_revoked = Box::new(is_revoked);
        self
    }

    /// Has an unknown token looked for again, for a moment, while `may_lag`.
    pub fn waiting_while(mut self, may_lag: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        self.may_lag = Box::new(may_lag);
        self
    }

    /// Puts the gate before `routes`. What passes carries its
    /// [`Caller`](crate::identity::Caller) and its [`Place`] in its extensions.
    pub fn guard(self, routes: Router) -> Router {
        routes.layer(middleware::from_fn_with_state(Arc::new(self), pass))
    }

    /// Lets the request in, with its caller, or says why not.
    async fn admit(&self, call: &Call, request: &mut Parts) -> Result<Place, No> {
        let caller = self.caller(request).await.map_err(|why| error::no_caller(&why))?;
        if !call.allows(caller.role) {
            return Err(error::wrong_role(caller.role, call.name));
        }
        let overloaded = || error::not_answered(&NotAnswered::Overloaded);
        let place = self.room.enter().ok_or_else(overloaded)?;
        if let Some(admission) = request.extensions.get::<Admission>() {
            admission.note();
        }
        // A secret that was used is kept no longer.
        request.headers.remove(AUTHORIZATION);
        request.extensions.insert(caller);
        request.extensions.insert(place.clone());
        Ok(place)
    }

    /// Who asks. Waits a moment for a token that may be on its way to this node.
    async fn caller(&self, request: &Parts) -> Result<Caller, NoCaller> {
        let peer = request.extensions.get::<Peer>().ok_or(NoCaller::Nobody)?;
        if let (Some(certificate), Some(identity)) = (&peer.certificate, &peer.identity)
            && (self.is_revoked)(certificate)
        {
            return Err(NoCaller::Revoked(identity.clone()));
        }
        let look = || caller_of(peer, &request.headers, |digest| (self.find_token)(digest));
        let mut found = look();
        let first = Instant::now();
        let mut turn = None;
        while matches!(found, Err(NoCaller::UnknownToken))
            && (self.may_lag)()
            && first.elapsed() < TOKEN_LAG_MAX
        {
            if turn.is_none() {
                let Ok(permit) = self.tokens_sought.try_acquire() else { break };
                turn = Some(permit);
            }
            sleep(TOKEN_PAUSE).await;
            found = look();
        }
        found
    }

    fn say(&self, no: No) -> Response {
        self.answers.tell(no).into_http()
    }

    /// Puts what tonic says of an unreadable message into this protocol's words.
    fn reworded(&self, response: Response) -> Response {
        if response.headers().contains_key("grpc-status-details-bin") {
            return response;
        }
        match Status::from_header_map(response.headers()) {
            Some(status) if status.code() == Code::OutOfRange => self.say(error::invalid(format!(
                "the request is longer than {} bytes, the limit",
                self.request_bytes
            ))),
            Some(status) if status.code() == Code::Internal => {
                self.say(error::invalid("the request cannot be read as its message"))
            }
            _ => response,
        }
    }
}

async fn pass(State(gate): State<Arc<Gate>>, request: Request, next: Next) -> Response {
    let Some(call) = Call::of_path(request.uri().path()) else {
        let _counted = Counted::begin("unknown", &gate.metrics, Code::Unimplemented);
        return gate.say(error::no_such_call(request.uri().path()));
    };
    // Until it is answered, a call that ends was canceled by its caller.
    let mut counted = Counted::begin(call.name, &gate.metrics, Code::Cancelled);
    let (mut parts, body) = request.into_parts();
    let response = match gate.admit(call, &mut parts).await {
        Ok(_place) => match timeout(CALL_MAX, next.run(Request::from_parts(parts, body))).await {
            Ok(response) => gate.reworded(response),
            Err(_) => {
                let detail = format!("no answer within {} s", CALL_MAX.as_secs());
                gate.say(error::not_answered(&NotAnswered::Unknown { detail }))
            }
        },
        Err(no) => gate.say(no),
    };
    // A success carries its status behind its body, where it is always OK.
    counted.code = Status::from_header_map(response.headers()).map_or(Code::Ok, |s| s.code());
    response
}

/// A call under way; counted as ended however it ends.
struct Counted {
    call: &'static str,
    began: Instant,
    metrics: Arc<Metrics>,
    code: Code,
}

impl Counted {
    fn begin(call: &'static str, metrics: &Arc<Metrics>, code: Code) -> Self {
        metrics.request_began();
        Self { call, began: Instant::now(), metrics: metrics.clone(), code }
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.metrics.request_ended(self.call, code_name(self.code), self.began.elapsed());
    }
}

/// A gRPC code as its specification writes it.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
