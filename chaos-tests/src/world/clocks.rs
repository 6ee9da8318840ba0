//! The clocks of one machine: since boot, and on the wall.
//!
//! Both run on true time, which only the world knows, and can be made to
//! jump, to drift and to stand still. A machine's timers are not among them:
//! they run on true time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use license::product::WallTime;
use node::clock::Clock;
use trine_client::clock::Moment;

use super::sources::Now;

/// The clocks of one machine. Clones are the same clocks.
#[derive(Clone)]
pub(super) struct HostClock {
    now: Now,
    hands: Arc<Mutex<Hands>>,
}

#[derive(Debug, Clone, Copy)]
struct Hands {
    /// True time when they were last set.
    set: Duration,
    /// What the boot clock showed then.
    boot: Duration,
    /// What the wall clock showed then, in milliseconds since 1970.
    wall: i64,
    /// How much faster than true time they run, in millionths.
    drift_ppm: i64,
    stopped: bool,
    /// Since when, by true time, the machine is suspended.
    asleep: Option<Duration>,
    /// How often the boot clock jumped.
    jumps: u64,
}

impl Hands {
    /// What they show at `now`.
    fn at(self, now: Duration) -> Self {
        if self.stopped {
            return Self { set: now, ..self };
        }
        let passed = now.saturating_sub(self.set).as_nanos() as i128;
        let ran = passed + passed * i128::from(self.drift_ppm) / 1_000_000;
        let ran = Duration::from_nanos(u64::try_from(ran).unwrap_or(0));
        // The wall clock loses less than a millisecond at each setting.
        let wall = self.wall.saturating_add(i64::try_from(ran.as_millis()).unwrap_or(i64::MAX));
        Self { set: now, boot: self.boot + ran, wall, ..self }
    }
}

impl HostClock {
    /// Clocks of a machine that was up for so long when the world began.
    pub(super) fn new(now: Now, up: Duration, epoch: u64) -> Self {
        let wall = i64::try_from(epoch * 1_000).unwrap_or(i64::MAX);
        let (set, asleep) = (Duration::ZERO, None);
        let hands = Hands { set, boot: up, wall, drift_ppm: 0, stopped: false, asleep, jumps: 0 };
        Self { now, hands: Arc::new(Mutex::new(hands)) }
    }

    fn hands(&self) -> MutexGuard<'_, Hands> {
        self.hands.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, change: impl FnOnce(&mut Hands)) {
        let mut hands = self.hands();
        *hands = hands.at(self.now.get());
        change(&mut hands);
    }

    /// From now on they run so much faster than true time, in millionths.
    pub(super) fn drift(&self, ppm: i64) {
        self.set(|hands| hands.drift_ppm = ppm);
    }

    /// The boot clock jumps, as after a suspend or a bad hypervisor.
    pub(super) fn jump_boot(&self, millis: i64) {
        self.set(|hands| {
            let by = Duration::from_millis(millis.unsigned_abs());
            hands.boot = if millis < 0 { hands.boot.saturating_sub(by) } else { hands.boot + by };
            hands.jumps += 1;
        });
    }

    /// The wall clock jumps.
    pub(super) fn jump_wall(&self, millis: i64) {
        self.set(|hands| hands.wall = hands.wall.saturating_add(millis));
    }

    /// Both stand still, or go on.
    pub(super) fn stop(&self, stopped: bool) {
        self.set(|hands| hands.stopped = stopped);
    }

    /// The machine is suspended: nobody sees them move.
    pub(super) fn suspend(&self) {
        self.set(|hands| (hands.stopped, hands.asleep) = (true, Some(hands.set)));
    }

    /// They go on after a suspend, and tell how long it was.
    pub(super) fn resume(&self) {
        self.set(|hands| {
            let Some(since) = hands.asleep.take() else { return };
            let lasted = hands.set.saturating_sub(since);
            hands.stopped = false;
            hands.boot += lasted;
            let millis = i64::try_from(lasted.as_millis()).unwrap_or(i64::MAX);
            hands.wall = hands.wall.saturating_add(millis);
            hands.jumps += 1;
        });
    }

    /// How often the boot clock jumped so far.
    pub(super) fn jumps(&self) -> u64 {
        self.hands().jumps
    }

    /// They show true time again, from what they show now on.
    pub(super) fn heal(&self) {
        // Healing may end a suspend, and nobody sleeps without waking later.
        self.resume();
        self.set(|hands| (hands.drift_ppm, hands.stopped) = (0, false));
    }
}

impl Clock for HostClock {
    fn boot(&self) -> Duration {
        self.hands().at(self.now.get()).boot
    }

    fn wall(&self) -> WallTime {
        WallTime(self.hands().at(self.now.get()).wall)
    }
}

impl trine_client::clock::Clock for HostClock {
    fn now(&self) -> Moment {
        Moment(self.hands().at(self.now.get()).boot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client on such a machine would use its seat beyond its end (seed 1046).
    #[test]
    fn who_sleeps_when_all_is_healed_wakes_at_the_right_time() {
        let now = Now::default();
        let clock = HostClock::new(now.clone(), Duration::ZERO, 1);
        now.stepped(Duration::from_secs(3));
        clock.suspend();
        now.stepped(Duration::from_secs(11));
        assert_eq!(clock.boot(), Duration::from_secs(3));
        clock.heal();
        assert_eq!((clock.boot(), clock.wall()), (Duration::from_secs(11), WallTime(12_000)));
        clock.heal();
        assert_eq!((clock.boot(), clock.jumps()), (Duration::from_secs(11), 1));
    }
}
