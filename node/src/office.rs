//! The leader's clock: cluster time, from the moment a node may lead.
//!
//! Pure. Samples of the boot clock go in, stamps come out (ARCHITECTURE.md, Time).

use std::time::Duration;

use ledger::time::{ClusterTime, Stamp};

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
}

impl Office {
    /// Takes office, with the ledger's clock as it stands there.
    pub(crate) fn take(reign: Reign, ledger: ClusterTime, boot: Duration) -> Self {
        Self { reign, time: ledger, rest: Duration::ZERO, sampled: boot }
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
    /// A clock that went backward adds nothing and is followed from there.
    pub(crate) fn stamp(&mut self, boot: Duration) -> Stamp {
        let elapsed = boot.saturating_sub(self.sampled).min(STEP_MAX) + self.rest;
        self.sampled = boot;
        if !self.reign.formed {
            return Stamp { time: self.time, term: self.reign.term };
        }
        let millis = elapsed.as_millis();
        self.rest = elapsed - Duration::from_millis(millis as u64);
        self.time = self.time.plus_millis(millis as u64);
        Stamp { time: self.time, term: self.reign.term }
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

    #[test]
    fn before_the_cluster_is_formed_it_has_no_time() {
        let unformed = Reign { formed: false, ..formed(1) };
        let mut office = Office::take(unformed, ClusterTime(0), ms(70_000));
        assert_eq!(office.stamp(ms(70_100)), Stamp { time: ClusterTime(0), term: 1 });
        assert_eq!(office.stamp(ms(70_200)).time, ClusterTime(0));
    }

    #[test]
    fn time_starts_from_the_ledger_and_adds_what_elapsed() {
        let mut office = Office::take(formed(3), ClusterTime(5_000), ms(70_000));
        assert_eq!(office.stamp(ms(70_100)), Stamp { time: ClusterTime(5_100), term: 3 });
        assert_eq!(office.stamp(ms(70_150)).time, ClusterTime(5_150));
    }

    #[test]
    fn a_resumed_machine_adds_two_ticks_not_an_hour() {
        let mut office = Office::take(formed(1), ClusterTime(0), ms(0));
        assert!(office.sees_jump(ms(3_600_000)));
        assert_eq!(office.stamp(ms(3_600_000)).time, ClusterTime(200));
        assert_eq!(office.stamp(ms(3_600_100)).time, ClusterTime(300));
    }

    #[test]
    fn a_clock_that_jumps_back_never_turns_time_back() {
        let mut office = Office::take(formed(1), ClusterTime(900), ms(1_000));
        assert_eq!(office.stamp(ms(10)).time, ClusterTime(900));
        assert_eq!(office.stamp(ms(60)).time, ClusterTime(950));
    }

    #[test]
    fn fractions_of_a_millisecond_are_not_lost() {
        let mut office = Office::take(formed(1), ClusterTime(0), Duration::ZERO);
        for i in 1..=10_000u64 {
            office.stamp(Duration::from_micros(i * 100));
        }
        assert_eq!(office.stamp(ms(1_000)).time, ClusterTime(1_000));
    }
}
