//! The leader's clock: cluster time, from the moment a node may lead.
//!
//! Pure. Samples of the boot clock go in, stamps come out (ARCHITECTURE.md, Time).

use std::time::Duration;

use ledger::time::{ClusterTime, Stamp};
use tokio::time::Instant;

/// How often the leader samples its clock.
pub(crate) const TICK: Duration = Duration::from_millis(100);

/// One step of the clock is at most two ticks, so a resumed machine makes
/// expiry late, never early (S8, S15).
const STEP_MAX: Duration = Duration::from_millis(200);

/// Which history an office keeps the time of. With another, time starts anew
/// from the ledger's clock: a restored backup brings its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Reign {
    /// The leader's.
    pub(crate) term: u64,
    /// The ledger's restore epoch.
    pub(crate) epoch: u64,
    /// Cluster time begins with the cluster. Were it to run before, it could
    /// have run beyond a backup that is restored, and end its leases.
    pub(crate) formed: bool,
}

/// One term of leadership, from when an entry of its own term was applied.
#[derive(Debug)]
pub(crate) struct Office {
    reign: Reign,
    time: ClusterTime,
    /// What has elapsed beyond whole milliseconds.
    rest: Duration,
    sampled: Duration,
    /// When that was, on a clock that does not jump but stands still in a suspend.
    sampled_at: Instant,
}

impl Office {
    /// Takes office, with the ledger's clock as it stands there.
    pub(crate) fn take(reign: Reign, ledger: ClusterTime, boot: Duration, now: Instant) -> Self {
        let rest = Duration::ZERO;
        Self { reign, time: ledger, rest, sampled: boot, sampled_at: now }
    }

    /// What it keeps the time of.
    pub(crate) fn reign(&self) -> Reign {
        self.reign
    }

    /// Whether the boot clock has moved further than a step may since it was
    /// sampled, or backward.
    pub(crate) fn sees_jump(&self, boot: Duration) -> bool {
        boot < self.sampled || boot - self.sampled > STEP_MAX
    }

    /// Samples the boot clock and stamps.
    ///
    /// A clock that went backward adds nothing and is followed from there. One
    /// that jumped forward adds a tick at most, however often it is sampled:
    /// `now` tells how long it can have been (S8).
    pub(crate) fn stamp(&mut self, boot: Duration, now: Instant) -> Stamp {
        let most = (now.saturating_duration_since(self.sampled_at) + TICK).min(STEP_MAX);
        let elapsed = boot.saturating_sub(self.sampled).min(most) + self.rest;
        (self.sampled, self.sampled_at) = (boot, now);
        if !self.reign.formed {
            return Stamp { time: self.time, term: self.reign.term, withheld: false };
        }
        let millis = elapsed.as_millis();
        self.rest = elapsed - Duration::from_millis(millis as u64);
        self.time = self.time.plus_millis(millis as u64);
        Stamp { time: self.time, term: self.reign.term, withheld: false }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn formed(term: u64) -> Reign {
        Reign { term, epoch: 0, formed: true }
    }

    /// An office, and the moment in which it was taken.
    fn taken(reign: Reign, ledger: u64, boot: u64) -> (Office, Instant) {
        let now = Instant::now();
        (Office::take(reign, ClusterTime(ledger), ms(boot), now), now)
    }

    #[test]
    fn before_the_cluster_is_formed_it_has_no_time() {
        let (mut office, now) = taken(Reign { formed: false, ..formed(1) }, 0, 70_000);
        let none = Stamp { time: ClusterTime(0), term: 1, withheld: false };
        assert_eq!(office.stamp(ms(70_100), now + ms(100)), none);
        assert_eq!(office.stamp(ms(70_200), now + ms(200)), none);
    }

    #[test]
    fn time_starts_from_the_ledger_and_adds_what_elapsed() {
        let (mut office, now) = taken(formed(3), 5_000, 70_000);
        let stamp = Stamp { time: ClusterTime(5_100), term: 3, withheld: false };
        assert_eq!(office.stamp(ms(70_100), now + ms(100)), stamp);
        assert_eq!(office.stamp(ms(70_150), now + ms(150)).time, ClusterTime(5_150));
    }

    /// In a suspend the other clock stands still.
    #[test]
    fn a_resumed_machine_adds_a_tick_not_an_hour() {
        let (mut office, now) = taken(formed(1), 0, 0);
        assert!(office.sees_jump(ms(3_600_000)));
        assert_eq!(office.stamp(ms(3_600_000), now).time, ClusterTime(100));
        assert_eq!(office.stamp(ms(3_600_100), now + ms(100)).time, ClusterTime(200));
    }

    /// However soon after the last sample a jump is met, it adds one tick.
    #[test]
    fn a_jump_between_two_proposals_adds_one_tick() {
        let (mut office, now) = taken(formed(1), 0, 0);
        assert_eq!(office.stamp(ms(1), now + ms(1)).time, ClusterTime(1));
        assert_eq!(office.stamp(ms(60_002), now + ms(2)).time, ClusterTime(102));
        assert_eq!(office.stamp(ms(60_003), now + ms(3)).time, ClusterTime(103));
    }

    #[test]
    fn a_tick_that_comes_late_is_counted_whole() {
        let (mut office, now) = taken(formed(1), 0, 0);
        assert_eq!(office.stamp(ms(180), now + ms(180)).time, ClusterTime(180));
    }

    #[test]
    fn a_clock_that_jumps_back_never_turns_time_back() {
        let (mut office, now) = taken(formed(1), 900, 1_000);
        assert_eq!(office.stamp(ms(10), now + ms(50)).time, ClusterTime(900));
        assert_eq!(office.stamp(ms(60), now + ms(100)).time, ClusterTime(950));
    }

    #[test]
    fn fractions_of_a_millisecond_are_not_lost() {
        let (mut office, now) = taken(formed(1), 0, 0);
        for i in 1..=10_000u64 {
            let passed = Duration::from_micros(i * 100);
            office.stamp(passed, now + passed);
        }
        assert_eq!(office.stamp(ms(1_000), now + ms(1_000)).time, ClusterTime(1_000));
    }
}
