//! Serving accepted streams: HTTP/1 and HTTP/2, TLS or not, real or simulated.
//!
//! The caller owns the source of connections, the routes and the ending
//! ([`Closing`]); nothing here knows what is served.

mod admission;
mod counted;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use crate::config::Limits;
use crate::incoming::{Connection, Incoming, Slot};
pub(crate) use admission::Admission;
use counted::Counted;

/// How often an HTTP/2 connection is asked for a sign of life.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// How long it may take to give one. Half-open connections end by it.
const KEEP_ALIVE_ANSWER: Duration = Duration::from_secs(5);

/// From accepted to the first call that is let in, for a caller without a
/// certificate. Until then it could be anyone, and holds a place of the few.
const ANONYMOUS_MAX: Duration = Duration::from_secs(10);

/// From accepted to closed, for a node that is gone: it is told so, once.
const GONE_MAX: Duration = Duration::from_secs(2);

/// Bytes after which a connection has said which HTTP it speaks.
const PREFACE_BYTES: u64 = 24;

/// The bounds of one served connection.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Calls at once.
    pub streams: u32,
    /// Longest header list of a request, in bytes.
    pub header_bytes: u32,
    /// From accepted to speaking HTTP, and for the headers of an HTTP/1 request.
    pub header: Duration,
    /// From accepted to the first call that is let in, for a caller that showed
    /// no certificate; `None` where nobody need say who they are.
    pub anonymous: Option<Duration>,
    /// How long a drain waits for calls that have begun.
    pub drain: Duration,
}

impl From<&Limits> for Bounds {
    fn from(limits: &Limits) -> Self {
        Self {
            streams: limits.streams_per_connection,
            header_bytes: limits.header_bytes,
            header: limits.header,
            anonymous: Some(ANONYMOUS_MAX),
            drain: limits.drain,
        }
    }
}

/// Tells the connections of a node to close. Dropping it closes nothing.
#[derive(Debug)]
pub struct Closer(watch::Sender<Wish>);

/// The other end of a [`Closer`].
#[derive(Debug, Clone)]
pub struct Closing(watch::Receiver<Wish>);

#[derive(Debug, Clone, Copy, Default)]
struct Wish {
    /// How often the connections of the time were asked to go elsewhere.
    moves: u64,
    draining: bool,
}

/// A closer and what it closes.
pub fn closing() -> (Closer, Closing) {
    let (sender, receiver) = watch::channel(Wish::default());
    (Closer(sender), Closing(receiver))
}

impl Closer {
    /// Asks those who are connected now to connect anew, for example to the
    /// new leader: they get a GOAWAY and finish what they began. New
    /// connections are welcome.
    pub fn move_on(&self) {
        self.0.send_modify(|wish| wish.moves += 1);
    }

    /// Closes for good: no new connection, a GOAWAY for the others.
    pub fn drain(&self) {
        self.0.send_modify(|wish| wish.draining = true);
    }
}

impl Closing {
    /// Resolves when the node drains.
    pub async fn draining(&mut self) {
        self.until(|wish| wish.draining).await;
    }

    async fn until(&mut self, wished: impl FnMut(&Wish) -> bool) {
        if self.0.wait_for(wished).await.is_err() {
            // Nobody is left who could wish it.
            std::future::pending::<()>().await;
        }
    }
}

/// Serves `routes` on all that comes in, until a drain is wished and done.
///
/// Every request carries the connection's [`Peer`](crate::identity::Peer) in
/// its extensions. After the wish the source is dropped, which closes its
/// socket, and calls that have begun get [`Bounds::drain`] to end.
pub async fn serve<I: Incoming>(
    mut incoming: I,
    routes: Router,
    bounds: Bounds,
    mut closing: Closing,
) {
    let open = TaskTracker::new();
    loop {
        let connection = tokio::select! {
            biased;
            () = closing.draining() => break,
            connection = incoming.accept() => connection,
        };
        let served = serve_connection(connection, routes.clone(), bounds, closing.clone());
        crate::raft::spawn(open.track_future(served));
    }
    drop(incoming);
    open.close();
    // Each connection cuts itself off in time.
    open.wait().await;
}

async fn serve_connection<S>(
    connection: Connection<S>,
    routes: Router,
    bounds: Bounds,
    mut closing: Closing,
) where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let (stream, peer, mut slot) = connection.into_parts();
    let address = peer.address;
    let leaves_by = slot.as_ref().filter(|slot| slot.is_of_gone());
    let leaves_by = leaves_by.map(|_| Instant::now() + GONE_MAX);
    let answered = Arc::new(Notify::new());
    let is_told = is_told(leaves_by, answered.clone());
    tokio::pin!(is_told);
    let anonymous = bounds.anonymous.filter(|_| peer.identity.is_none());
    let admission = Admission::default();
    let stays_a_stranger = stays_a_stranger(anonymous, admission.clone(), &mut slot);
    tokio::pin!(stays_a_stranger);
    let read = Arc::new(AtomicU64::new(0));
    let stream = TokioIo::new(Counted::new(stream, read.clone()));
    let service = hyper::service::service_fn(move |mut request: Request<_>| {
        request.extensions_mut().insert(peer.clone());
        request.extensions_mut().insert(admission.clone());
        let (answering, answered) = (routes.clone().oneshot(request), answered.clone());
        async move {
            let answer = answering.await;
            answered.notify_one();
            answer
        }
    });
    let http = http(bounds);
    let serving = http.serve_connection(stream, service);
    tokio::pin!(serving);

    let spoke_in_time = async {
        sleep(bounds.header).await;
        if read.load(Ordering::Relaxed) >= PREFACE_BYTES {
            std::future::pending::<()>().await;
        }
    };
    tokio::pin!(spoke_in_time);
    let moves = closing.0.borrow().moves;
    tokio::select! {
        result = &mut serving => return log_end(address, result),
        () = &mut spoke_in_time => {
            tracing::debug!(%address, "connection closed: it never spoke HTTP");
            return;
        }
        () = &mut stays_a_stranger => {
            tracing::debug!(%address, "connection closed: its caller never said who it is");
            // With a GOAWAY, so that a call just sent is sent again elsewhere.
            serving.as_mut().graceful_shutdown();
            drop(timeout(bounds.header, serving).await);
            return;
        }
        deadline = &mut is_told => {
            serving.as_mut().graceful_shutdown();
            drop(timeout_at(deadline, serving).await);
            return;
        }
        () = closing.until(|wish| wish.draining || wish.moves != moves) => {}
    }
    serving.as_mut().graceful_shutdown();
    // One that moves on takes its time; one that drains does not hold up the process.
    tokio::select! {
        result = &mut serving => return log_end(address, result),
        () = &mut stays_a_stranger => return,
        () = closing.draining() => {}
    }
    match timeout(bounds.drain, serving).await {
        Ok(result) => log_end(address, result),
        Err(_) => tracing::info!(%address, "connection cut: its calls outlasted the drain"),
    }
}

/// Resolves when a caller without a certificate has had its time and no call of
/// it was let in.
async fn stays_a_stranger(limit: Option<Duration>, admission: Admission, slot: &mut Option<Slot>) {
    if let Some(limit) = limit {
        let was_let_in = timeout(limit, admission.noted()).await.is_ok();
        match slot {
            Some(slot) if was_let_in => slot.identified(),
            Some(slot) => slot.refused("anonymous"),
            None => {}
        }
        if !was_let_in {
            return;
        }
    }
    std::future::pending().await
}

/// Resolves when a node that is gone has had its one answer, or its time; gives
/// the moment by which it has left.
async fn is_told(leaves_by: Option<Instant>, answered: Arc<Notify>) -> Instant {
    let Some(deadline) = leaves_by else { return std::future::pending().await };
    drop(timeout_at(deadline, answered.notified()).await);
    deadline
}

fn http(bounds: Bounds) -> auto::Builder<Executor> {
    let mut http = auto::Builder::new(Executor);
    // No `Date`: it would be the system's clock, and a node's is handed in.
    http.http1()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .header_read_timeout(bounds.header)
        .max_buf_size(usize::try_from(bounds.header_bytes).unwrap_or(usize::MAX).max(8_192));
    http.http2()
        .timer(TokioTimer::new())
        .auto_date_header(false)
        .max_concurrent_streams(bounds.streams)
        .max_header_list_size(bounds.header_bytes)
        .keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE_ANSWER);
    http
}

/// A connection that breaks is its client's affair, so nobody is woken for it.
fn log_end<E: std::fmt::Display>(address: std::net::IpAddr, result: Result<(), E>) {
    if let Err(error) = result {
        tracing::debug!(%address, %error, "connection broke");
    }
}

/// Starts what hyper starts as tasks that may touch Raft.
#[derive(Debug, Clone, Copy)]
struct Executor;

impl<F> hyper::rt::Executor<F> for Executor
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        crate::raft::spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_gone_leaves_after_its_first_answer_or_when_its_time_is_up() {
        let start = Instant::now();
        let by = Some(start + GONE_MAX);
        let answered = Arc::new(Notify::new());
        answered.notify_one();
        is_told(by, answered.clone()).await;
        assert_eq!(start.elapsed(), Duration::ZERO, "it was answered");
        is_told(by, answered.clone()).await;
        assert_eq!(start.elapsed(), GONE_MAX, "it never asked");
        answered.notify_one();
        let stays = timeout(Duration::from_secs(3_600), is_told(None, answered)).await;
        assert!(stays.is_err(), "whoever is not gone stays");
    }
}
