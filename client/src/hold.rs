//! How long a lease is safely held, by the holder's own clock.
//!
//! A reply says when it was decided (its stamp) and until when the lease lives
//! (the deadline), both in cluster time. Their difference, counted from before
//! the send that the reply answers, cannot end later than the lease does: the
//! entry was stamped after the send, and cluster time never runs ahead of true
//! time. A tenth is kept back for clocks that run at different rates.

use std::time::Duration;

use crate::clock::Moment;

/// A stretch of time in which a seat may be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hold {
    counted_from: Moment,
    whole: Duration,
}

impl Hold {
    /// The hold that a reply to a send at `sent` gives. Stamp and deadline are
    /// cluster time in milliseconds.
    pub fn counted(sent: Moment, stamp_ms: u64, deadline_ms: u64) -> Self {
        let whole = Duration::from_millis(deadline_ms.saturating_sub(stamp_ms));
        Self { counted_from: sent, whole }
    }

    /// When the application must have stopped: at 90 % of the hold.
    pub fn until(&self) -> Moment {
        self.counted_from + self.whole.mul_f64(0.9)
    }

    /// Whether the seat may be used at `now`.
    pub fn is_safe(&self, now: Moment) -> bool {
        now < self.until()
    }

    /// When to renew: a third of the way, less up to a tenth of that by `jitter`,
    /// so that seats taken together are not renewed together for ever.
    pub fn renew_at(&self, jitter: u64) -> Moment {
        let spread = (jitter % 1_000) as f64 / 1_000.0;
        self.counted_from + self.whole.mul_f64((1.0 - 0.1 * spread) / 3.0)
    }

    /// Whichever of the two lasts longer: a renewal never shortens.
    pub fn or_later(self, other: Self) -> Self {
        if other.until() > self.until() { other } else { self }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn at(millis: u64) -> Moment {
        Moment(Duration::from_millis(millis))
    }

    #[test]
    fn the_hold_is_counted_from_before_the_send_and_ends_at_nine_tenths() {
        let hold = Hold::counted(at(100), 7_000, 17_000);
        assert_eq!(hold.until(), at(9_100));
        assert!(hold.is_safe(at(9_099)));
        assert!(!hold.is_safe(at(9_100)));
    }

    #[test]
    fn a_deadline_behind_its_stamp_holds_nothing() {
        let hold = Hold::counted(at(100), 7_000, 6_000);
        assert!(!hold.is_safe(at(100)));
    }

    #[test]
    fn a_later_hold_is_kept() {
        let (early, late) = (Hold::counted(at(0), 0, 1_000), Hold::counted(at(0), 0, 2_000));
        assert_eq!(early.or_later(late), late);
        assert_eq!(late.or_later(early), late);
    }

    proptest! {
        /// The entry is stamped some time after the send. From then on cluster
        /// time runs at most 0.5 % fast and our own clock at most 0.5 % slow:
        /// the application still stops before the ledger may give the seat away.
        #[test]
        fn the_application_stops_before_the_lease_ends(
            delay in 0u64..10_000,
            ttl in 1_000u64..86_400_000,
            cluster_fast in 0.0f64..0.005,
            own_slow in 0.0f64..0.005,
        ) {
            let hold = Hold::counted(at(0), 50_000, 50_000 + ttl);
            let stops = hold.until().0.as_secs_f64() / (1.0 - own_slow);
            let ends = delay as f64 / 1e3 + ttl as f64 / 1e3 / (1.0 + cluster_fast);
            prop_assert!(stops < ends);
        }

        #[test]
        fn there_is_time_to_renew_more_than_once(ttl in 1_000u64..86_400_000, jitter: u64) {
            let hold = Hold::counted(at(0), 0, ttl);
            let due = hold.renew_at(jitter);
            prop_assert!(due <= at(ttl / 3 + 1));
            prop_assert!(due.0 + due.0 < hold.until().0);
        }
    }
}
