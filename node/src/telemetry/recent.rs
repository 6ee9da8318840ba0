//! The latest few durations of something, for a doctor who asks how it is now:
//! a histogram of weeks does not tell of a disk that became slow today.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How many are kept.
const KEPT: usize = 512;

/// The latest durations.
#[derive(Debug, Default)]
pub(super) struct Recent(Mutex<VecDeque<Duration>>);

/// A few of the latest durations, as people judge them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Quantiles {
    /// Of how many.
    pub(crate) count: usize,
    /// Half took no longer.
    pub(crate) median: Duration,
    /// Of a hundred, 99 took no longer.
    pub(crate) p99: Duration,
}

impl Recent {
    pub(super) fn observe(&self, took: Duration) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(took);
    }

    /// `None` before the first.
    pub(super) fn quantiles(&self) -> Option<Quantiles> {
        let mut sorted: Vec<Duration> =
            self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect();
        sorted.sort_unstable();
        let at = |percent: usize| sorted.get((sorted.len() * percent / 100).min(sorted.len() - 1));
        let count = sorted.len();
        (count > 0).then(|| Some(Quantiles { count, median: *at(50)?, p99: *at(99)? }))?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_latest_count() {
        let recent = Recent::default();
        assert_eq!(recent.quantiles(), None);
        let millis = Duration::from_millis;
        recent.observe(millis(7));
        assert_eq!(
            recent.quantiles(),
            Some(Quantiles { count: 1, median: millis(7), p99: millis(7) })
        );
        (0..KEPT).for_each(|_| recent.observe(millis(1)));
        recent.observe(millis(9));
        let now = recent.quantiles().expect("some");
        assert_eq!((now.count, now.median, now.p99), (KEPT, millis(1), millis(1)));
        (0..10).for_each(|_| recent.observe(millis(9)));
        assert_eq!(recent.quantiles().expect("some").p99, millis(9));
    }
}
