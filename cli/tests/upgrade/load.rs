//! Applications that work and must notice nothing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use trine_cli::context::Purpose;
use trine_cli::online::Connection;
use trine_client::{CallError, Standing, Ticket};

use crate::caller::eventually;
use crate::cluster::Cluster;

/// How many take and give back.
const WORKERS: u32 = 3;
/// How many hold a seat all the time.
const HOLDERS: u32 = 2;

/// Applications at work on a product.
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
    tasks: Vec<JoinHandle<Result<(), String>>>,
}

impl Load {
    /// Seats that it takes at most at once.
    pub(crate) const SEATS: u32 = WORKERS + HOLDERS;

    pub(crate) fn start(cluster: &Cluster, product: &'static str) -> Self {
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut tasks = Vec::new();
        for number in 0..WORKERS + HOLDERS {
            let target = cluster.servers().target(Purpose::Application);
            let connection = cluster.block_on(Connection::to(target)).expect("a connection");
            let (stop, done) = (stop.clone(), done.clone());
            tasks.push(if number < HOLDERS {
                cluster.spawn(hold(connection, product, stop))
            } else {
                cluster.spawn(work(connection, product, stop, done))
            });
        }
        Self { stop, done, tasks }
    }

    /// Waits until some more has been done, or somebody has failed.
    #[track_caller]
    pub(crate) fn go_on(&self, what: &str) {
        let enough = self.done.load(Ordering::Relaxed) + 10;
        eventually(what, || {
            let failed = self.tasks.iter().any(JoinHandle::is_finished);
            (failed || self.done.load(Ordering::Relaxed) >= enough).then_some(())
        });
    }

    /// Ends it; no request may have failed and no seat been lost.
    #[track_caller]
    pub(crate) fn finish(self, cluster: &Cluster) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            cluster.block_on(task).expect("the task ends").expect("no application noticed");
        }
    }
}

/// Between two seats of one worker.
const PAUSE: Duration = Duration::from_millis(20);

async fn work(
    connection: Connection,
    product: &str,
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU32>,
) -> Result<(), String> {
    while !stop.load(Ordering::Relaxed) {
        let seat = connection.client.acquire(product).ttl(Duration::from_secs(60)).send().await;
        let seat = seat.map_err(|error| format!("acquire: {error}"))?;
        give_back(&connection, seat.detach()).await?;
        done.fetch_add(1, Ordering::Relaxed);
        tokio::time::sleep(PAUSE).await;
    }
    Ok(())
}

/// Whoever is left in doubt about a seat asks once more, which is harmless; a
/// machine that compiles something else may answer nobody for a client's patience.
async fn give_back(connection: &Connection, seat: Ticket) -> Result<(), String> {
    let released = match connection.client.release(seat).await {
        Err(CallError::Unknown(_)) => connection.client.release(seat).await,
        released => released,
    };
    released.map_err(|error| format!("release: {error}"))
}

/// Holds one seat, which the library renews again and again.
async fn hold(connection: Connection, product: &str, stop: Arc<AtomicBool>) -> Result<(), String> {
    let seat = connection.client.acquire(product).ttl(Duration::from_secs(15)).send().await;
    let seat = seat.map_err(|error| format!("acquire: {error}"))?;
    while !stop.load(Ordering::Relaxed) {
        if let lost @ Standing::Lost(_) = seat.standing() {
            return Err(format!("a held seat: {lost:?}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
    seat.release().await.map_err(|error| format!("release: {error}"))
}
