//! Cluster time as far as this client knows it: learned from replies, moved on
//! by its own clock in between.
//!
//! Only a request's not-after and wait are counted from it, both generous, so
//! a rough estimate does; a bad one is refused by name and then learned anew.

use std::time::Duration;

use crate::clock::Moment;

/// The age at which an estimate is learned anew: two clocks may drift apart by
/// 1 % in all, which is 6 s by then.
const AGE_MAX: Duration = Duration::from_secs(600);

/// What the last reply said, and when it came.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct ClusterTime {
    known: Option<(u64, Moment)>,
}

impl ClusterTime {
    /// Notes the stamp of a reply that arrived at `at`.
    pub(crate) fn learn(&mut self, cluster_ms: u64, at: Moment) {
        self.known = Some((cluster_ms, at));
    }

    /// Drops what is known: a reply showed it to be wrong.
    pub(crate) fn forget(&mut self) {
        self.known = None;
    }

    /// Cluster time at `now` in milliseconds, unless unknown or too old to trust.
    pub(crate) fn estimate(&self, now: Moment) -> Option<u64> {
        let (cluster_ms, at) = self.known?;
        let age = now.since(at);
        (age <= AGE_MAX).then(|| cluster_ms.saturating_add(millis(age)))
    }
}

/// Whole milliseconds, saturating.
pub(crate) fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_moves_on_with_the_own_clock_until_it_is_too_old() {
        let mut time = ClusterTime::default();
        let heard = Moment(Duration::from_secs(5));
        assert_eq!(time.estimate(heard), None);
        time.learn(1_000, heard);
        assert_eq!(time.estimate(heard + Duration::from_secs(2)), Some(3_000));
        assert_eq!(time.estimate(heard + AGE_MAX + Duration::from_millis(1)), None);
        time.forget();
        assert_eq!(time.estimate(heard), None);
    }
}
