//! Applications that take, hold, renew and give back seats without pause.
//!
//! They want more seats than there are, so that the pool is saturated, and
//! hold some of them for long, so that a crash finds seats to lose (LAWS.md,
//! How to check). What they do and how often are their [`Habits`].

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use trine_client::clock::Clock;
use trine_client::{Client, LeaseId, Operator, Seat, Standing, Ticket};

use crate::history::{History, Op};
use crate::record;

/// The product they want.
pub const PRODUCT: &str = "crash";
/// The longest that a seat stays taken after its holder vanished.
pub const TTL_MAX: Duration = Duration::from_secs(6);

/// What applications do, and how often, relative to the rest.
#[derive(Debug, Clone)]
pub struct Habits {
    /// Take a seat if there is one, use it, give it back.
    pub take: u32,
    /// Join the queue and hold what they get.
    pub queue: u32,
    /// Join the queue and go away.
    pub give_up: u32,
    /// Ask again with the same request while they hold its seat.
    pub ask_twice: u32,
    /// Ask again with the same request when its seat is given back.
    pub ask_late: u32,
    /// Take a seat and never be heard of again.
    pub vanish: u32,
    /// Take a seat, and renew and give it back under another's token first.
    pub meddle: u32,
    /// Take a seat and let a copy of the request arrive when nobody remembers it any more.
    pub ask_much_later: u32,
    /// List all seats, as an operator does.
    pub look: u32,
    /// By whom, for `look`.
    pub operator: Option<Arc<Onlooker>>,
    /// TTLs they ask for.
    pub ttl: Range<Duration>,
    /// A long hold, at most. It should span several faults.
    pub long_hold: Duration,
    /// How many holds are long, 0 to 1.
    pub long_holds: f64,
    /// A short hold, at most.
    pub short_hold: Duration,
    /// How long they queue, at most.
    pub wait_max: Duration,
    /// From one thing to the next, at most.
    pub pause_max: Duration,
    /// Where it is noted that a seat is in use.
    pub in_use: Option<Arc<InUse>>,
}

impl Default for Habits {
    fn default() -> Self {
        Self {
            take: 4,
            queue: 3,
            give_up: 1,
            ask_twice: 1,
            ask_late: 0,
            vanish: 1,
            meddle: 0,
            ask_much_later: 0,
            look: 0,
            operator: None,
            ttl: Duration::from_secs(2)..TTL_MAX,
            long_hold: Duration::from_secs(12),
            long_holds: 0.4,
            short_hold: Duration::from_millis(400),
            wait_max: Duration::from_secs(5),
            pause_max: Duration::from_millis(150),
            in_use: None,
        }
    }
}

/// An operator who lists seats and writes down what is told.
pub struct Onlooker {
    operator: Operator,
    history: Arc<History>,
}

impl std::fmt::Debug for Onlooker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Onlooker(..)")
    }
}

impl Onlooker {
    /// Asks through `operator`, writes into `history`.
    pub fn new(operator: Operator, history: Arc<History>) -> Self {
        Self { operator, history }
    }

    /// One listing; the tokens in it, if there was an answer.
    pub async fn look(&self) -> Option<Vec<u64>> {
        let attempt = self.history.invoke("operator", Op::Seats);
        match self.operator.seats(Some(PRODUCT)).await {
            Ok(reply) => {
                self.history.answer(attempt, record::listed(&reply));
                Some(reply.seats.iter().map(|seat| seat.seat).collect())
            }
            Err(error) => {
                self.history.answer(attempt, record::not_listed(error.failure()));
                None
            }
        }
    }
}

/// The seats that applications on one machine use at a moment, each as its
/// own client library tells it.
pub struct InUse {
    clock: Arc<dyn Clock>,
    seats: Mutex<Vec<(u64, watch::Receiver<Standing>)>>,
    suspended: AtomicBool,
}

impl std::fmt::Debug for InUse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("InUse(..)")
    }
}

impl InUse {
    /// Nothing is in use; times are told on this clock, the applications' own.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, seats: Mutex::default(), suspended: AtomicBool::new(false) }
    }

    /// The tokens of the seats that may be used now.
    pub fn now(&self) -> Vec<u64> {
        if self.suspended.load(Ordering::Relaxed) {
            return Vec::new();
        }
        let now = self.clock.now();
        let usable = |standing: &watch::Receiver<Standing>| match &*standing.borrow() {
            Standing::Held { until } | Standing::AtRisk { until, .. } => now < *until,
            Standing::Overdue { .. } | Standing::Lost(_) => false,
        };
        let seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.iter().filter(|(_, standing)| usable(standing)).map(|(token, _)| *token).collect()
    }

    /// The machine is suspended, and nobody uses anything, or it goes on.
    pub fn suspend(&self, suspended: bool) {
        self.suspended.store(suspended, Ordering::Relaxed);
    }

    /// Everybody has died.
    pub fn clear(&self) {
        self.seats.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn begin(&self, seat: &Seat) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.push((seat.token(), seat.watch()));
    }

    fn end(&self, token: u64) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        seats.retain(|(used, _)| *used != token);
    }
}

/// Running applications.
pub struct Workload {
    applications: JoinSet<()>,
    stop: CancellationToken,
}

impl Workload {
    /// Starts `per_client` applications on each client.
    pub fn start(clients: &[Client], per_client: usize, random: &mut StdRng) -> Self {
        Self::with_habits(clients, per_client, &Habits::default(), random)
    }

    /// The same, with other habits.
    pub fn with_habits(
        clients: &[Client],
        per_client: usize,
        habits: &Habits,
        random: &mut StdRng,
    ) -> Self {
        let stop = CancellationToken::new();
        let mut applications = JoinSet::new();
        for client in clients {
            for _ in 0..per_client {
                let application = Application {
                    client: client.clone(),
                    habits: habits.clone(),
                    random: StdRng::seed_from_u64(random.random()),
                    stop: stop.clone(),
                    copies: VecDeque::new(),
                };
                applications.spawn(application.run());
            }
        }
        Self { applications, stop }
    }

    /// Lets every application finish what it does and give its seat back.
    ///
    /// # Panics
    /// When an application panicked.
    pub async fn finish(mut self) {
        self.stop.cancel();
        while let Some(ended) = self.applications.join_next().await {
            ended.expect("an application panicked");
        }
    }
}

/// One thing that an application does.
#[derive(Debug, Clone, Copy)]
enum Deed {
    Take,
    Queue,
    GiveUp,
    AskTwice,
    AskLate,
    Vanish,
    Meddle,
    AskMuchLater,
    Look,
}

/// How long after its end a request is surely forgotten, and a copy of it too
/// late, in milliseconds of cluster time.
const FORGOTTEN_AFTER_MS: u64 = 61_000;
/// Between two looks at whether that has come.
const LOOK_AGAIN: Duration = Duration::from_secs(2);
/// How long a request of which a copy comes is good for, in milliseconds.
const GOOD_FOR_MS: u64 = 20_000;

/// A copy of a request that is still on its way.
struct Copy {
    look_at: Instant,
    /// In cluster time.
    arrives_ms: u64,
    lease: LeaseId,
    ttl: Duration,
    not_after_ms: u64,
}

struct Application {
    client: Client,
    habits: Habits,
    random: StdRng,
    stop: CancellationToken,
    copies: VecDeque<Copy>,
}

impl Application {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let pause = self.up_to(self.habits.pause_max);
            tokio::time::sleep(pause).await;
            self.let_copies_arrive().await;
            match self.next() {
                Deed::Take => self.take_and_hold().await,
                Deed::Queue => self.wait_in_line().await,
                Deed::GiveUp => self.give_up_waiting().await,
                Deed::AskTwice => self.ask_twice(false).await,
                Deed::AskLate => self.ask_twice(true).await,
                Deed::Vanish => self.vanish().await,
                Deed::Meddle => self.meddle().await,
                Deed::AskMuchLater => self.ask_much_later().await,
                Deed::Look => self.look().await,
            }
        }
    }

    fn next(&mut self) -> Deed {
        let Habits { take, queue, give_up, ask_twice, ask_late, vanish, .. } = self.habits;
        let Habits { meddle, ask_much_later, look, .. } = self.habits;
        let deeds = [
            (Deed::Take, take),
            (Deed::Queue, queue),
            (Deed::GiveUp, give_up),
            (Deed::AskTwice, ask_twice),
            (Deed::AskLate, ask_late),
            (Deed::Vanish, vanish),
            (Deed::Meddle, meddle),
            (Deed::AskMuchLater, ask_much_later),
            (Deed::Look, look),
        ];
        let all: u32 = deeds.iter().map(|(_, often)| often).sum();
        let mut drawn = self.random.random_range(0..all.max(1));
        for (deed, often) in deeds {
            if drawn < often {
                return deed;
            }
            drawn -= often;
        }
        Deed::Take
    }

    /// Takes a seat if there is one, uses it, gives it back.
    async fn take_and_hold(&mut self) {
        let ttl = self.ttl();
        if let Ok(seat) = self.client.acquire(PRODUCT).ttl(ttl).send().await {
            self.hold(seat).await;
        }
    }

    /// Joins the queue and holds what it gets.
    async fn wait_in_line(&mut self) {
        let (ttl, wait) = (self.ttl(), self.up_to(self.habits.wait_max));
        if let Ok(seat) = self.client.acquire(PRODUCT).ttl(ttl).wait(wait).send().await {
            self.hold(seat).await;
        }
    }

    /// Joins the queue and goes away, at a moment when it may just have been served.
    async fn give_up_waiting(&mut self) {
        let (ttl, patience) = (self.ttl(), self.up_to(self.habits.short_hold));
        let asked = self.client.acquire(PRODUCT).ttl(ttl).wait(self.habits.wait_max).send();
        if let Ok(Ok(seat)) = tokio::time::timeout(patience, asked).await {
            self.hold(seat).await;
        }
    }

    /// Asks again with the same request, as one that lost its memory of the answer would.
    async fn ask_twice(&mut self, late: bool) {
        let Ok(clock) = self.client.whoami().await else { return };
        let (ttl, lease) = (self.ttl(), self.client.mint());
        let not_after_ms = clock.cluster_time_ms + 30_000;
        let client = self.client.clone();
        let ask = || client.acquire(PRODUCT).ttl(ttl).id(lease).not_after_ms(not_after_ms).send();
        let Ok(first) = ask().await else { return };
        // S3: whatever was sent again, it is the request that the caller named.
        assert_eq!(first.lease(), lease, "a seat under another id than was asked with");
        if late {
            self.hold(first).await;
            let _ = ask().await;
            return;
        }
        if let Ok(second) = ask().await {
            // Both are the same seat; one of them keeps it.
            let _ = second.detach();
        }
        self.hold(first).await;
    }

    /// Takes a seat and is never heard of again: it ends by its TTL.
    async fn vanish(&mut self) {
        let ttl = self.ttl();
        if let Ok(seat) = self.client.acquire(PRODUCT).ttl(ttl).send().await {
            let _ = seat.detach();
        }
    }

    /// Somebody with a stale token of this lease tries it (S6): nothing may come of it.
    async fn meddle(&mut self) {
        let ttl = self.ttl();
        let Ok(seat) = self.client.acquire(PRODUCT).ttl(ttl).send().await else { return };
        for token in [seat.token() + 1, seat.token().saturating_sub(1)] {
            let stale = Ticket { lease: seat.lease(), token };
            if self.random.random_bool(0.5) {
                let _ = self.client.renew(stale).await;
            }
            let _ = self.client.release(stale).await;
        }
        self.hold(seat).await;
    }

    /// Takes a seat; a copy of the request arrives when its id is forgotten (S3).
    async fn ask_much_later(&mut self) {
        let Ok(clock) = self.client.whoami().await else { return };
        let (ttl, lease) = (self.ttl(), self.client.mint());
        let not_after_ms = clock.cluster_time_ms + GOOD_FOR_MS;
        let asked = self.client.acquire(PRODUCT).ttl(ttl).id(lease).not_after_ms(not_after_ms);
        if let Ok(seat) = asked.send().await {
            self.hold(seat).await;
        }
        let Ok(clock) = self.client.whoami().await else { return };
        let arrives_ms = clock.cluster_time_ms + ttl.as_millis() as u64 + FORGOTTEN_AFTER_MS;
        let look_at = Instant::now() + Duration::from_millis(FORGOTTEN_AFTER_MS);
        self.copies.push_back(Copy { look_at, arrives_ms, lease, ttl, not_after_ms });
    }

    async fn let_copies_arrive(&mut self) {
        let Some(copy) = self.copies.front_mut().filter(|copy| copy.look_at <= Instant::now())
        else {
            return;
        };
        copy.look_at = Instant::now() + LOOK_AGAIN;
        let arrives_ms = copy.arrives_ms;
        // Outages stop cluster time.
        if self.client.whoami().await.is_ok_and(|clock| clock.cluster_time_ms >= arrives_ms)
            && let Some(Copy { lease, ttl, not_after_ms, .. }) = self.copies.pop_front()
        {
            let asked = self.client.acquire(PRODUCT).ttl(ttl).id(lease);
            let _ = asked.not_after_ms(not_after_ms).send().await;
        }
    }

    /// Lists all seats (S24).
    async fn look(&mut self) {
        if let Some(operator) = self.habits.operator.clone() {
            operator.look().await;
        }
    }

    async fn hold(&mut self, seat: Seat) {
        let long = self.random.random_bool(self.habits.long_holds);
        let time = self.up_to(if long { self.habits.long_hold } else { self.habits.short_hold });
        let (in_use, token) = (self.habits.in_use.clone(), seat.token());
        in_use.iter().for_each(|in_use| in_use.begin(&seat));
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = seat.must_stop() => {}
            () = self.stop.cancelled() => {}
        }
        in_use.iter().for_each(|in_use| in_use.end(token));
        if self.random.random_bool(0.7) {
            // Failing that the library goes on in the background.
            let _ = seat.release().await;
        }
    }

    fn ttl(&mut self) -> Duration {
        self.random.random_range(self.habits.ttl.clone())
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        self.random.random_range(Duration::ZERO..longest)
    }
}
