//! The balancer as a whole: probes, door and health listener, until it is told
//! to leave and has drained.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::board::Board;
use crate::config::Config;
use crate::net::{Accepted, Connector, Incoming};
use crate::pair::{self, Pair};
use crate::telemetry::RefusalReason;
use crate::{health, probe, proxy};

/// Health connections at once; more wait in the listener's backlog.
const HEALTH_CONNECTIONS_MAX: usize = 64;

/// Pause after a failed accept, which is most often a lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The world a balancer runs in.
#[derive(Debug)]
pub struct Parts<I, H, C> {
    /// Where clients connect, at [`Config::listen`].
    pub clients: I,
    /// Where health is asked, at [`Config::health`].
    pub health: H,
    /// How nodes are reached, from [`Config::source`].
    pub connector: C,
    /// How keepalived is told and heard, for [`Config::keepalived`].
    pub pair: Option<Pair>,
}

/// What stops a balancer before it is told to.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// A listener is closed or was never one.
    #[error("the {listener} listener no longer accepts connections; start the balancer again")]
    Listener {
        /// `client` or `health`.
        listener: &'static str,
        /// The system's words.
        #[source]
        source: io::Error,
    },
}

/// Serves until `shutdown` resolves and what was open has drained.
///
/// On `shutdown`: `/readyz` says 503; after [`notice`](crate::config::Drain::notice)
/// the door closes; connections get [`period`](crate::config::Drain::period) to
/// end and are then cut. The health listener answers to the last.
///
/// # Errors
/// [`ServeError::Listener`] if a listener breaks for good.
pub async fn run<I: Incoming, H: Incoming, C: Connector>(
    config: Config,
    parts: Parts<I, H, C>,
    shutdown: impl Future<Output = ()> + Send,
) -> Result<(), ServeError> {
    let Parts { mut clients, health, connector, pair } = parts;
    let board = Arc::new(Board::new(&config));
    let connector = Arc::new(connector);
    // Dropped, and so aborted, on every way out of here.
    let mut helpers = JoinSet::new();
    for node in config.nodes.clone() {
        let (board, connector, probe) = (board.clone(), connector.clone(), config.probe.clone());
        helpers.spawn(async move {
            probe::watch(&board, &*connector, &node, &probe).await;
            Ok(())
        });
    }
    helpers.spawn(serve_health(health, board.clone()));
    if let (Some(pair), Some(config)) = (pair, config.keepalived.clone()) {
        let board = board.clone();
        helpers.spawn(async move {
            pair::keep(&board, &config, pair).await;
            Ok(())
        });
    }

    let connections = TaskTracker::new();
    let leave = CancellationToken::new();
    // Whatever way this function ends, no connection outlives it.
    let _cut = leave.clone().drop_guard();
    let door = Door {
        board: board.clone(),
        connector,
        room: Arc::new(Semaphore::new(config.limits.connections)),
        config: Arc::new(config),
        connections: connections.clone(),
        leave: leave.clone(),
    };

    let notice = async {
        shutdown.await;
        info!(connections = board.telemetry.connections(), "draining");
        board.drain();
        tokio::time::sleep(door.config.drain.notice).await;
    };
    tokio::select! {
        biased;
        () = notice => {}
        Some(Ok(Err(error))) = helpers.join_next() => return Err(error),
        Err(error) = door.keep(&mut clients) => return Err(error),
    }

    drop(clients);
    connections.close();
    if tokio::time::timeout(door.config.drain.period, connections.wait()).await.is_err() {
        warn!(connections = board.telemetry.connections(), "drain period over: cutting");
        leave.cancel();
        connections.wait().await;
    }
    info!("drained");
    Ok(())
}

/// Takes connections in and hands each to a task of its own.
struct Door<C> {
    board: Arc<Board>,
    connector: Arc<C>,
    config: Arc<Config>,
    room: Arc<Semaphore>,
    connections: TaskTracker,
    leave: CancellationToken,
}

impl<C: Connector> Door<C> {
    async fn keep<I: Incoming>(&self, clients: &mut I) -> Result<(), ServeError> {
        loop {
            let accepted = accept(clients, "client").await?;
            let open = self.board.telemetry.accepted();
            let Ok(room) = self.room.clone().try_acquire_owned() else {
                self.board.telemetry.refused(RefusalReason::Limit);
                continue;
            };
            let (board, connector) = (self.board.clone(), self.connector.clone());
            let (config, leave) = (self.config.clone(), self.leave.clone());
            self.connections.spawn(async move {
                proxy::carry(&board, &*connector, &config.limits, accepted, &leave).await;
                drop((open, room));
            });
        }
    }
}

async fn serve_health<H: Incoming>(mut incoming: H, board: Arc<Board>) -> Result<(), ServeError> {
    let router = health::router(board);
    let room = Arc::new(Semaphore::new(HEALTH_CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accepted = accept(&mut incoming, "health").await?;
        let room = room.clone().acquire_owned().await;
        let router = router.clone();
        connections.spawn(async move {
            health::serve(router, accepted.stream).await;
            drop(room);
        });
        while connections.try_join_next().is_some() {}
    }
}

/// The next connection. Passing failures are waited out; only a listener that
/// cannot come back is an error.
async fn accept<I: Incoming>(
    incoming: &mut I,
    listener: &'static str,
) -> Result<Accepted<I::Stream>, ServeError> {
    loop {
        match incoming.accept().await {
            Ok(accepted) => return Ok(accepted),
            Err(source)
                if matches!(
                    source.kind(),
                    io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported
                ) =>
            {
                return Err(ServeError::Listener { listener, source });
            }
            Err(error) => {
                warn!(listener, %error, "accepting a connection failed");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}
