//! Applications that take, hold, renew and give back seats without pause.
//!
//! They want half as many seats again as there are, so that the pool is
//! saturated, and hold some of them for long, so that a crash finds seats to
//! lose (laws.md, How to check).

use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trine_client::{Client, Seat};

/// The product they want.
pub const PRODUCT: &str = "crash";
/// The longest that a seat stays taken after its holder vanished.
pub const TTL_MAX: Duration = Duration::from_secs(6);
const TTL_MIN: Duration = Duration::from_secs(2);
/// Long holds span several crashes.
const LONG_HOLD: Duration = Duration::from_secs(12);
const SHORT_HOLD: Duration = Duration::from_millis(400);
const WAIT_MAX: Duration = Duration::from_secs(5);
const PAUSE_MAX: Duration = Duration::from_millis(150);

/// Running applications.
pub struct Workload {
    applications: JoinSet<()>,
    stop: CancellationToken,
}

impl Workload {
    /// Starts `per_client` applications on each client.
    pub fn start(clients: &[Client], per_client: usize, random: &mut StdRng) -> Self {
        let stop = CancellationToken::new();
        let mut applications = JoinSet::new();
        for client in clients {
            for _ in 0..per_client {
                let application = Application {
                    client: client.clone(),
                    random: StdRng::seed_from_u64(random.random()),
                    stop: stop.clone(),
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

struct Application {
    client: Client,
    random: StdRng,
    stop: CancellationToken,
}

impl Application {
    async fn run(mut self) {
        while !self.stop.is_cancelled() {
            let pause = self.up_to(PAUSE_MAX);
            tokio::time::sleep(pause).await;
            match self.random.random_range(0..10) {
                0..4 => self.take_and_hold().await,
                4..7 => self.wait_in_line().await,
                7 => self.give_up_waiting().await,
                8 => self.ask_twice().await,
                _ => self.vanish().await,
            }
        }
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
        let (ttl, wait) = (self.ttl(), self.up_to(WAIT_MAX));
        if let Ok(seat) = self.client.acquire(PRODUCT).ttl(ttl).wait(wait).send().await {
            self.hold(seat).await;
        }
    }

    /// Joins the queue and goes away, at a moment when it may just have been served.
    async fn give_up_waiting(&mut self) {
        let (ttl, patience) = (self.ttl(), self.up_to(SHORT_HOLD));
        let asked = self.client.acquire(PRODUCT).ttl(ttl).wait(WAIT_MAX).send();
        if let Ok(Ok(seat)) = tokio::time::timeout(patience, asked).await {
            self.hold(seat).await;
        }
    }

    /// Asks again with the same request, as one that lost its memory of the answer would.
    async fn ask_twice(&mut self) {
        let Ok(clock) = self.client.whoami().await else { return };
        let (ttl, lease) = (self.ttl(), self.client.mint());
        let not_after_ms = clock.cluster_time_ms + 30_000;
        let ask =
            || self.client.acquire(PRODUCT).ttl(ttl).id(lease).not_after_ms(not_after_ms).send();
        let Ok(first) = ask().await else { return };
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

    async fn hold(&mut self, seat: Seat) {
        let long = self.random.random_bool(0.4);
        let time = self.up_to(if long { LONG_HOLD } else { SHORT_HOLD });
        tokio::select! {
            () = tokio::time::sleep(time) => {}
            _ = seat.must_stop() => {}
            () = self.stop.cancelled() => {}
        }
        if self.random.random_bool(0.7) {
            // Failing that the library goes on in the background.
            let _ = seat.release().await;
        }
    }

    fn ttl(&mut self) -> Duration {
        self.random.random_range(TTL_MIN..TTL_MAX)
    }

    fn up_to(&mut self, longest: Duration) -> Duration {
        self.random.random_range(Duration::ZERO..longest)
    }
}
