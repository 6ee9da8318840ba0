//! The demo's clients: the real library, through both balancers.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use trine_client::clock::{BootClock, Clock as _, Moment};
use trine_client::{AcquireError, CallError, Client, LeaseId, Seat, Ticket};

use super::record::{Granted, Record};
use crate::context::Target;
use crate::failure::Failure;
use crate::online::Connection;
use crate::verb::up::PRODUCT;

/// How long a seat of the demo outlives its holder.
const TTL: Duration = Duration::from_secs(60);

/// How long a client bears with a failover before it gives up. A run that
/// gives up has lost a seat and fails.
const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than a node takes to say that it does not know (LAWS.md, L4).
const ATTEMPT_MAX: Duration = Duration::from_secs(3);

/// Some clients, each with its own connection.
pub(super) struct Crowd {
    clients: Vec<Client>,
    pub(super) record: Record,
}

/// A crowd at work, until it is told to hold.
pub(super) struct Working {
    workers: JoinSet<Result<Seat, Failure>>,
    hold: Arc<AtomicBool>,
}

pub(super) fn now() -> Moment {
    BootClock.now()
}

impl Crowd {
    pub(super) async fn gather(target: &Target, count: usize) -> Result<Self, Failure> {
        let record = Record::default();
        let mut clients = Vec::new();
        for number in 0..count {
            let connection = Connection::observed(target.clone(), record.of(number)).await?;
            clients.push(connection.client);
        }
        Ok(Self { clients, record })
    }

    pub(super) fn len(&self) -> usize {
        self.clients.len()
    }

    /// Every client takes, renews and releases a seat, again and again.
    pub(super) fn work(&self) -> Working {
        let hold = Arc::new(AtomicBool::new(false));
        let mut workers = JoinSet::new();
        for (number, client) in self.clients.iter().enumerate() {
            let (client, hold) = (client.clone(), hold.clone());
            workers.spawn(async move {
                loop {
                    let seat = take(&client, number).await.map_err(refused)?;
                    let ticket = Ticket { lease: seat.lease(), token: seat.token() };
                    client.renew(ticket).await.map_err(broken)?;
                    // The last one is kept, so that it can be looked for in the ledger.
                    if hold.load(Ordering::Relaxed) {
                        return Ok(seat);
                    }
                    seat.release().await.map_err(broken)?;
                }
            });
        }
        Working { workers, hold }
    }

    /// Sends requests again that were granted before, and counts how many
    /// bring another grant.
    pub(super) async fn ask_again(&self, earlier: &[Granted]) -> Result<usize, Failure> {
        let mut asked = JoinSet::new();
        for (granted, client) in earlier.iter().zip(self.clients.iter().cycle()) {
            let request = granted.request.clone();
            let again = client
                .acquire(&request.product)
                .holder(request.holder)
                .ttl(Duration::from_millis(request.ttl_ms))
                .id(LeaseId::from_wire(&request.lease).unwrap_or(LeaseId(0)))
                .not_after_ms(request.not_after_ms)
                .patience(PATIENCE);
            asked.spawn(async move {
                match again.send().await {
                    // Its first holder still holds it, and will give it back.
                    Ok(seat) => {
                        seat.detach();
                        Ok(())
                    }
                    // The same grant, which has ended since.
                    Err(AcquireError::Ended { .. }) => Ok(()),
                    Err(error) => Err(refused(error)),
                }
            });
        }
        let mut failed = 0;
        while let Some(outcome) = asked.join_next().await {
            failed += usize::from(!matches!(outcome, Ok(Ok(()))));
        }
        Ok(failed)
    }

    /// Takes seats until one is refused. Gives the seats and the refusal.
    pub(super) async fn fill(&self, at_most: usize) -> Result<(Vec<Seat>, String), Failure> {
        let mut seats = Vec::new();
        for (number, client) in self.clients.iter().enumerate().cycle().take(at_most) {
            match take(client, number).await {
                Ok(seat) => seats.push(seat),
                Err(AcquireError::Refused(why)) => return Ok((seats, why.message)),
                Err(error) => return Err(refused(error)),
            }
        }
        Ok((seats, "nothing was refused".to_owned()))
    }

    /// One seat, or the refusal.
    pub(super) async fn take_one(&self) -> Result<Seat, AcquireError> {
        take(&self.clients[0], 0).await
    }

    /// Every client asks for a seat without patience, until it is dropped.
    pub(super) fn press(&self) -> JoinSet<()> {
        let mut askers = JoinSet::new();
        for client in &self.clients {
            let client = client.clone();
            askers.spawn(async move {
                loop {
                    let asked = client.acquire(PRODUCT).ttl(TTL).fail_fast();
                    // The record keeps what each attempt heard.
                    drop(asked.patience(ATTEMPT_MAX).send().await);
                }
            });
        }
        askers
    }
}

impl Working {
    /// Lets each client finish its round and keep its last seat.
    pub(super) async fn hold(mut self) -> Result<Vec<Seat>, Failure> {
        self.hold.store(true, Ordering::Relaxed);
        let mut seats = Vec::new();
        while let Some(worker) = self.workers.join_next().await {
            seats.push(worker.map_err(Failure::failed)??);
        }
        Ok(seats)
    }

    /// The first client that failed, if one has.
    pub(super) fn check(&mut self) -> Result<(), Failure> {
        match self.workers.try_join_next() {
            Some(Ok(Err(failure))) => Err(failure),
            Some(Err(error)) => Err(Failure::failed(error)),
            Some(Ok(Ok(_))) | None => Ok(()),
        }
    }
}

async fn take(client: &Client, number: usize) -> Result<Seat, AcquireError> {
    let asked = client.acquire(PRODUCT).ttl(TTL).holder(format!("demo client {number}"));
    asked.patience(PATIENCE).send().await
}

fn refused(error: AcquireError) -> Failure {
    Failure::failed(format!("a client did not get its seat: {error}"))
}

fn broken(error: CallError) -> Failure {
    Failure::failed(format!("a client could not keep or give back its seat: {error}"))
}
