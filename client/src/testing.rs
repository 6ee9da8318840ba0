//! A cluster to test against: in memory, on loopback, with faults on demand.
//!
//! For the tests of applications ("what do we do when all seats are taken, when
//! a seat is revoked, when the cluster is gone?") and of this crate. It keeps
//! the promises of the protocol (one effect per request id, a fair queue) and
//! nothing else: no disk, no second copy.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;
use tonic::{Code, Request, Response, Status};
use tonic_types::{ErrorDetails, StatusExt as _};
use wire::v1;
use wire::v1::licensing_server::{Licensing, LicensingServer};

use crate::connect::{Connecting, Connector, Stream};
use crate::endpoints::Endpoint;
use crate::error::Outcome;
use crate::options::Options;

mod ledger;

use ledger::{Answer, FakeLedger};

/// What goes wrong with a call at one door.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is carried out and the reply is lost: the connection breaks.
    LoseReply,
    /// It is not carried out and never answered.
    Hang,
    /// It is carried out and never answered.
    HangAfter,
    /// It is carried out, and answered after so long.
    Slow(Duration),
    /// It is answered with this code, reason and outcome, and not carried out.
    Fail(Code, &'static str, Outcome),
    /// It is not carried out; the door with this number is said to lead.
    NotLeader(usize),
}

/// The answer of a node that reaches no other.
pub const NO_QUORUM: Fault = Fault::Fail(Code::Unavailable, "NO_QUORUM", Outcome::NotDone);
/// The answer of a node that lost its quorum over the request.
pub const OUTCOME_UNKNOWN: Fault =
    Fault::Fail(Code::DeadlineExceeded, "OUTCOME_UNKNOWN", Outcome::Unknown);
/// The answer of a leader whose license is not signed for its term yet.
pub const TERM_UNSIGNED: Fault = Fault::Fail(Code::Unavailable, "TERM_UNSIGNED", Outcome::Refused);

/// The answer of a ledger that has no room, not even to remember the request.
pub const LEDGER_FULL: Fault =
    Fault::Fail(Code::ResourceExhausted, "LEDGER_FULL", Outcome::Refused);
/// The answer to a request whose not-after is too far ahead; not remembered.
pub const TOO_FAR_AHEAD: Fault =
    Fault::Fail(Code::InvalidArgument, "TOO_FAR_AHEAD", Outcome::Refused);

/// The answer of nodes that have a leader and no cluster yet.
pub const NOT_FORMED: Fault = Fault::Fail(Code::FailedPrecondition, "NOT_FORMED", Outcome::Refused);

/// The answer of a ledger that no share was proved to yet; remembered.
pub const SHARES_MISSING: Fault =
    Fault::Fail(Code::FailedPrecondition, "SHARES_MISSING", Outcome::Refused);

/// A cluster in memory behind any number of loopback addresses.
pub struct FakeCluster {
    shared: Arc<Shared>,
    doors: Vec<Arc<Door>>,
    accepting: Vec<tokio::task::JoinHandle<()>>,
}

struct Shared {
    ledger: Mutex<FakeLedger>,
    changed: Notify,
    /// Whether queued calls are held open as the protocol allows.
    holds_open: AtomicBool,
    /// Where each door is, for leader hints.
    addresses: Mutex<Vec<Endpoint>>,
}

struct Door {
    shared: Arc<Shared>,
    endpoint: Endpoint,
    faults: Mutex<Faults>,
    /// Rises to make every open connection say GOAWAY.
    goaway: watch::Sender<u32>,
    /// Rises to break every open connection.
    broken: watch::Sender<u32>,
}

#[derive(Default)]
struct Faults {
    once: VecDeque<Fault>,
    always: Option<Fault>,
    calls: u64,
}

impl FakeCluster {
    /// Starts a cluster with so many doors (addresses) on 127.0.0.1.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start(doors: usize) -> io::Result<Self> {
        Self::start_with(doors, None).await
    }

    /// The same behind TLS. [`options`](Self::options) do not reach it.
    ///
    /// # Errors
    /// No port can be had.
    pub async fn start_tls(doors: usize, tls: Arc<rustls::ServerConfig>) -> io::Result<Self> {
        Self::start_with(doors, Some(tls.into())).await
    }

    async fn start_with(doors: usize, tls: Option<TlsAcceptor>) -> io::Result<Self> {
        let shared = Arc::new(Shared {
            ledger: Mutex::new(FakeLedger::new()),
            changed: Notify::new(),
            holds_open: AtomicBool::new(true),
            addresses: Mutex::default(),
        });
        let mut cluster = Self { shared, doors: Vec::new(), accepting: Vec::new() };
        for _ in 0..doors {
            let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
            let endpoint = Endpoint::new("127.0.0.1", listener.local_addr()?.port());
            lock(&cluster.shared.addresses).push(endpoint.clone());
            let door = Arc::new(Door {
                shared: Arc::clone(&cluster.shared),
                endpoint,
                faults: Mutex::default(),
                goaway: watch::Sender::new(0),
                broken: watch::Sender::new(0),
            });
            cluster.doors.push(Arc::clone(&door));
            cluster.accepting.push(tokio::spawn(accept(listener, door, tls.clone())));
        }
        Ok(cluster)
    }

    /// Sells so many seats of a product.
    pub fn sell(&self, product: &str, seats: usize) {
        self.ledger().sell(product, seats);
        self.shared.changed.notify_waiters();
    }

    /// The addresses, in order.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        self.doors.iter().map(|door| door.endpoint.clone()).collect()
    }

    /// Options that reach all doors, without TLS.
    pub fn options(&self) -> Options {
        Options::new(self.endpoints(), Arc::new(Plaintext))
    }

    /// The next call at this door meets this fault; more than one queue up.
    pub fn once(&self, door: usize, fault: Fault) {
        self.at(door, |door| lock(&door.faults).once.push_back(fault));
    }

    /// Every call at this door meets this fault until told otherwise.
    pub fn always(&self, door: usize, fault: Option<Fault>) {
        self.at(door, |door| lock(&door.faults).always = fault);
    }

    /// Every call at every door meets this fault until told otherwise.
    pub fn everywhere(&self, fault: Option<Fault>) {
        (0..self.doors.len()).for_each(|door| self.always(door, fault));
    }

    /// Tells every connection at this door to go away (and finish first).
    pub fn go_away(&self, door: usize) {
        self.at(door, |door| door.goaway.send_modify(|count| *count += 1));
    }

    /// Whether queued calls are held open, as they are unless told otherwise.
    pub fn hold_open(&self, holds: bool) {
        self.shared.holds_open.store(holds, Ordering::Relaxed);
    }

    /// How many calls this door has met, well or badly.
    pub fn calls(&self, door: usize) -> u64 {
        self.doors.get(door).map_or(0, |door| lock(&door.faults).calls)
    }

    /// Seats of a product that are held now.
    pub fn seats_held(&self, product: &str) -> usize {
        self.ledger().seats_held(product)
    }

    /// Requests that wait for a product now.
    pub fn waiting(&self, product: &str) -> usize {
        self.ledger().waiting(product)
    }

    /// Grants since the start.
    pub fn grants(&self) -> u64 {
        self.ledger().grants()
    }

    /// Revokes the seat with this token: it cannot be renewed any more.
    pub fn revoke(&self, token: u64) {
        self.ledger().revoke(token);
    }

    /// Moves cluster time on, as if so long had passed.
    pub fn skip(&self, span: Duration) {
        self.ledger().skip(span);
    }

    /// Restores what was so long ago: nobody waited yet.
    pub fn restore(&self, ago: Duration) {
        self.ledger().restore(ago);
    }

    fn ledger(&self) -> MutexGuard<'_, FakeLedger> {
        lock(&self.shared.ledger)
    }

    fn at(&self, door: usize, act: impl FnOnce(&Door)) {
        if let Some(door) = self.doors.get(door) {
            act(door);
        }
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        self.accepting.iter().for_each(tokio::task::JoinHandle::abort);
        self.doors.iter().for_each(|door| door.broken.send_modify(|count| *count += 1));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, door: Arc<Door>, tls: Option<TlsAcceptor>) {
    while let Ok((stream, _)) = listener.accept().await {
        let (door, tls) = (Arc::clone(&door), tls.clone());
        tokio::spawn(async move {
            match tls {
                None => serve(stream, door).await,
                // A caller that is not let in hears of it from TLS.
                Some(tls) => {
                    if let Ok(stream) = tls.accept(stream).await {
                        serve(stream, door).await;
                    }
                }
            }
        });
    }
}

async fn serve(stream: impl Stream, door: Arc<Door>) {
    let (mut goaway, mut broken) = (door.goaway.subscribe(), door.broken.subscribe());
    let service = TowerToHyperService::new(LicensingServer::from_arc(door));
    let connection = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let mut going = false;
    loop {
        tokio::select! {
            _ = &mut connection => return,
            _ = broken.changed() => return,
            _ = goaway.changed(), if !going => {
                going = true;
                connection.as_mut().graceful_shutdown();
            }
        }
    }
}

impl Door {
    /// Carries a call out, unless a fault is due.
    async fn meet<T>(&self, apply: impl FnOnce(&mut FakeLedger) -> Answer<T>) -> Answer<T> {
        let fault = {
            let mut faults = lock(&self.faults);
            faults.calls += 1;
            faults.once.pop_front().or(faults.always)
        };
        match fault {
            None => self.apply(apply),
            Some(Fault::LoseReply) => {
                let _ = self.apply(apply);
                self.broken.send_modify(|count| *count += 1);
                std::future::pending().await
            }
            Some(Fault::Hang) => std::future::pending().await,
            Some(Fault::HangAfter) => {
                let _ = self.apply(apply);
                std::future::pending().await
            }
            Some(Fault::Slow(span)) => {
                let answer = self.apply(apply);
                tokio::time::sleep(span).await;
                answer
            }
            Some(Fault::Fail(code, reason, outcome)) => {
                Err(status(code, reason, outcome, "a fault of the test", None))
            }
            Some(Fault::NotLeader(leader)) => {
                let leader = lock(&self.shared.addresses).get(leader).map(Endpoint::to_string);
                let message = "another node leads";
                Err(status(Code::Unavailable, "NOT_LEADER", Outcome::NotDone, message, leader))
            }
        }
    }

    fn apply<T>(&self, apply: impl FnOnce(&mut FakeLedger) -> Answer<T>) -> Answer<T> {
        let answer = apply(&mut lock(&self.shared.ledger));
        self.shared.changed.notify_waiters();
        answer
    }
}

#[tonic::async_trait]
impl Licensing for Door {
    async fn clock(
        &self,
        request: Request<v1::ClockRequest>,
    ) -> Result<Response<v1::ClockReply>, Status> {
        // Whom the caller is taken for: the bearer of its token.
        let bearer = request.metadata().get("authorization").and_then(|value| value.to_str().ok());
        let subject = bearer.unwrap_or("tester").to_owned();
        self.meet(|ledger| Ok(ledger.clock(subject))).await.map(Response::new)
    }

    async fn acquire(
        &self,
        request: Request<v1::AcquireRequest>,
    ) -> Result<Response<v1::AcquireReply>, Status> {
        let request = request.into_inner();
        let hold = Duration::from_millis(request.hold_open_ms.into());
        let open = tokio::time::sleep(hold);
        tokio::pin!(open);
        let mut reply = self.meet(|ledger| ledger.acquire(&request)).await?;
        let holds = self.shared.holds_open.load(Ordering::Relaxed);
        while holds && matches!(reply.outcome, Some(v1::acquire_reply::Outcome::Queued(_))) {
            tokio::select! {
                () = &mut open => break,
                () = self.shared.changed.notified() => {}
                // Time alone may free a seat.
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
            reply = lock(&self.shared.ledger).acquire(&request)?;
        }
        Ok(Response::new(reply))
    }

    async fn renew(
        &self,
        request: Request<v1::RenewRequest>,
    ) -> Result<Response<v1::RenewReply>, Status> {
        let request = request.into_inner();
        self.meet(|ledger| ledger.renew(&request)).await.map(Response::new)
    }

    async fn release(
        &self,
        request: Request<v1::ReleaseRequest>,
    ) -> Result<Response<v1::ReleaseReply>, Status> {
        let request = request.into_inner();
        self.meet(|ledger| ledger.release(&request)).await.map(Response::new)
    }

    async fn cancel(
        &self,
        request: Request<v1::CancelRequest>,
    ) -> Result<Response<v1::CancelReply>, Status> {
        let request = request.into_inner();
        self.meet(|ledger| ledger.cancel(&request)).await.map(Response::new)
    }
}

/// A status as `licensing.proto` documents it.
fn status(
    code: Code,
    reason: &str,
    outcome: Outcome,
    message: &str,
    leader: Option<String>,
) -> Status {
    let outcome = match outcome {
        Outcome::Refused => "refused",
        Outcome::NotDone => "not-done",
        Outcome::Unknown => "unknown",
    };
    let metadata = [
        ("outcome".to_owned(), outcome.to_owned()),
        ("leader".to_owned(), leader.unwrap_or_default()),
    ];
    let details = ErrorDetails::with_error_info(reason, wire::ERROR_DOMAIN, metadata);
    Status::with_error_details(code, message, details)
}

/// Dials without TLS.
#[derive(Debug, Clone, Copy)]
pub struct Plaintext;

impl Connector for Plaintext {
    fn connect<'a>(&'a self, endpoint: &'a Endpoint) -> Connecting<'a> {
        Box::pin(async move {
            let stream = TcpStream::connect((endpoint.host(), endpoint.port())).await?;
            stream.set_nodelay(true)?;
            Ok(Box::new(stream) as Box<dyn Stream>)
        })
    }
}
