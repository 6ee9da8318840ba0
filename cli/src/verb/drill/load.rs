//! The steady load of a drill: applications that hold, renew, take and give back.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use trine_client::clock::{BootClock, Clock as _, Moment};
use trine_client::{AcquireError, CallError, Client, Outcome, Seat, Ticket};

use super::record::{Asked, Kind, Record, Told};
use crate::context::Target;
use crate::failure::Failure;
use crate::online::Connection;

/// Longer than any scenario, so that a seat that ends was lost and not let go.
const TTL: Duration = Duration::from_secs(120);

/// How long one call goes on trying before its caller is told that it failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// Between two renewals of one seat. The library renews once in forty seconds
/// at this TTL; a gap of half a second would not be seen.
const RENEW_EVERY: Duration = Duration::from_millis(50);

/// Between giving a seat back and taking the next.
const TAKE_EVERY: Duration = Duration::from_millis(40);

/// How many applications do what.
#[derive(Debug, Clone, Copy)]
pub(super) struct Crowd {
    /// Hold a seat, which the library renews by itself.
    pub(super) holders: usize,
    /// Hold a seat and renew it all the time.
    pub(super) renewers: usize,
    /// Take a seat and give it back.
    pub(super) takers: usize,
}

/// The applications at work. Dropping it stops them.
pub(super) struct Load {
    pub(super) record: Record,
    product: String,
    target: Target,
    held: Vec<Held>,
    lost: Arc<AtomicUsize>,
    pause: Arc<AtomicBool>,
    takers: usize,
    resting: Arc<AtomicUsize>,
    tasks: JoinSet<()>,
    client: Client,
}

struct Held {
    token: u64,
    seat: Seat,
}

pub(super) fn now() -> Moment {
    BootClock.now()
}

impl Load {
    pub(super) async fn start(
        target: Target,
        product: &str,
        crowd: Crowd,
    ) -> Result<Self, Failure> {
        let record = Record::default();
        let lost = Arc::new(AtomicUsize::new(0));
        let pause = Arc::new(AtomicBool::new(false));
        let resting = Arc::new(AtomicUsize::new(0));
        let mut held = Vec::new();
        let mut tasks = JoinSet::new();
        for number in 0..crowd.holders + crowd.renewers {
            let connection = Connection::to(target.clone()).await?;
            let client = connection.client.clone();
            let seat = take(&client, product, number).await;
            let seat = seat.map_err(|error| connection.not_acquired(&error))?;
            record.granted(seat.token());
            let ticket = Ticket { lease: seat.lease(), token: seat.token() };
            tasks.spawn(mourn(seat.watch(), Arc::clone(&lost)));
            held.push(Held { token: seat.token(), seat });
            if number >= crowd.holders {
                tasks.spawn(renew(client, ticket, record.clone()));
            }
        }
        for number in 0..crowd.takers {
            let client = Connection::to(target.clone()).await?.client;
            let taker = Taker {
                client,
                product: product.to_owned(),
                number,
                record: record.clone(),
                pause: Arc::clone(&pause),
                resting: Arc::clone(&resting),
            };
            tasks.spawn(taker.work());
        }
        let client = Connection::to(target.clone()).await?.client;
        Ok(Self {
            record,
            product: product.to_owned(),
            target,
            held,
            lost,
            pause,
            takers: crowd.takers,
            resting,
            tasks,
            client,
        })
    }

    /// Ends the work and gives every seat back.
    pub(super) async fn stop(mut self) {
        self.tasks.shutdown().await;
        for Held { seat, .. } in self.held {
            // Whoever cannot be told loses the seat by its deadline.
            drop(seat.release().await);
        }
    }

    /// Seats of the steady holders that were lost, as their library said.
    pub(super) fn lost(&self) -> usize {
        self.lost.load(Ordering::Relaxed)
    }

    /// Seats that applications hold and the ledger does not list.
    pub(super) async fn missing(&self, operator: Target) -> Result<usize, Failure> {
        let listed = Connection::to(operator).await?.listed_seats(&self.product).await?;
        Ok(self.held.iter().filter(|held| !listed.contains(&held.token)).count())
    }

    /// Takes seats until one is refused and gives them back: how many came out
    /// beside those that are held. The takers rest meanwhile.
    pub(super) async fn fill(&self, at_most: usize) -> Result<usize, Failure> {
        self.pause.store(true, Ordering::SeqCst);
        let rested = async {
            while self.resting.load(Ordering::SeqCst) < self.takers {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let rest = tokio::time::timeout(PATIENCE * 2, rested).await;
        rest.map_err(|_| {
            Failure::failed("a client did not finish what it had begun")
                .next("see with `trine cluster status` whether the cluster serves")
        })?;
        let mut seats = Vec::new();
        let connection = Connection::to(self.target.clone()).await?;
        while seats.len() < at_most {
            match take(&self.client, &self.product, seats.len()).await {
                Ok(seat) => {
                    self.record.granted(seat.token());
                    seats.push(seat);
                }
                Err(AcquireError::Refused(_)) => break,
                Err(error) => return Err(connection.not_acquired(&error)),
            }
        }
        let came_out = seats.len();
        for seat in seats {
            seat.release().await.map_err(|error| connection.failed(&error))?;
        }
        self.pause.store(false, Ordering::SeqCst);
        Ok(came_out)
    }

    /// How many seats are held all the time.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }
}

struct Taker {
    client: Client,
    product: String,
    number: usize,
    record: Record,
    pause: Arc<AtomicBool>,
    resting: Arc<AtomicUsize>,
}

impl Taker {
    async fn work(self) {
        loop {
            self.rest().await;
            let began = now();
            let taken = take(&self.client, &self.product, self.number).await;
            let taking = match &taken {
                Ok(seat) => {
                    self.record.granted(seat.token());
                    Told::Done
                }
                Err(AcquireError::Unknown { .. }) => Told::Unknown,
                Err(_) => Told::Failed,
            };
            self.record.note(Asked { kind: Kind::Grant, began, ended: now(), told: taking });
            if let Ok(seat) = taken {
                let began = now();
                let told = told(seat.release().await);
                self.record.note(Asked { kind: Kind::Release, began, ended: now(), told });
            }
            tokio::time::sleep(TAKE_EVERY).await;
        }
    }

    async fn rest(&self) {
        if !self.pause.load(Ordering::SeqCst) {
            return;
        }
        self.resting.fetch_add(1, Ordering::SeqCst);
        while self.pause.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        self.resting.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn renew(client: Client, ticket: Ticket, record: Record) {
    loop {
        let began = now();
        let told = told(client.renew(ticket).await);
        record.note(Asked { kind: Kind::Renewal, began, ended: now(), told });
        tokio::time::sleep(RENEW_EVERY).await;
    }
}

/// Counts a seat that is gone, or that its holder must not use any more.
async fn mourn(
    mut standing: tokio::sync::watch::Receiver<trine_client::Standing>,
    lost: Arc<AtomicUsize>,
) {
    let gone = standing.wait_for(|standing| !standing.is_usable()).await.is_ok();
    if gone {
        lost.fetch_add(1, Ordering::Relaxed);
    }
}

async fn take(client: &Client, product: &str, number: usize) -> Result<Seat, AcquireError> {
    let asked = client.acquire(product).ttl(TTL).holder(format!("drill {number}"));
    asked.patience(PATIENCE).send().await
}

fn told<T>(answer: Result<T, CallError>) -> Told {
    match answer {
        Ok(_) => Told::Done,
        Err(error) if error.failure().outcome == Outcome::Unknown => Told::Unknown,
        Err(_) => Told::Failed,
    }
}
