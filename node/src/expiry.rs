//! Certificates that are about to expire: told of in time, and once.
//!
//! A certificate that expires takes its node out of the cluster, and all three
//! are often issued on one day.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use license::product::WallTime;
use pki::Fingerprint;

use crate::certificates::{Certificates, InUse};
use crate::clock::Clock;
use crate::telemetry::Metrics;

/// Days before its end at which a certificate is told of, the nearest first;
/// 0 is when it has expired.
const NOTICES: [i64; 4] = [0, 1, 7, 30];

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// How often the certificates are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(5);

/// The nearest notice that is due; `None` while there is time.
fn due(expires: WallTime, now: WallTime) -> Option<i64> {
    let left = expires.0.saturating_sub(now.0);
    NOTICES.into_iter().find(|days| left <= days * DAY_MILLIS)
}

/// What was told of so far.
#[derive(Debug, Default)]
struct Told(BTreeMap<(&'static str, Fingerprint), i64>);

impl Told {
    /// The certificates with a notice that is nearer than their last.
    fn next(&mut self, in_use: &[InUse], now: WallTime) -> Vec<(InUse, i64)> {
        self.0.retain(|(which, fingerprint), _| {
            in_use.iter().any(|one| one.which == *which && one.fingerprint == *fingerprint)
        });
        let mut news = Vec::new();
        for one in in_use {
            let Some(days) = due(one.expires, now) else { continue };
            let last = self.0.insert((one.which, one.fingerprint), days);
            if last.is_none_or(|last| days < last) {
                news.push((*one, days));
            }
        }
        news
    }
}

/// Warns of certificates before they expire, and keeps their figure. Never ends.
pub(crate) async fn run(certificates: Certificates, clock: Arc<dyn Clock>, metrics: Arc<Metrics>) {
    let mut told = Told::default();
    loop {
        let in_use = certificates.in_use();
        metrics.set_expiries(&in_use);
        for (InUse { which, fingerprint, .. }, days) in told.next(&in_use, clock.wall()) {
            if days == 0 {
                tracing::error!(
                    which, %fingerprint,
                    "by this node's clock this certificate has expired, and the others believe it only while their own clock or the cluster's date is behind: renew it now with `trine pki renew` and put the files in place"
                );
            } else {
                tracing::warn!(
                    which, %fingerprint, days,
                    "this certificate expires within so many days: renew it with `trine pki renew` and put the files in place; the node takes them without a restart"
                );
            }
        }
        tokio::time::sleep(LOOK_INTERVAL).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: WallTime = WallTime(1_800_000_000_000);

    fn in_days(which: &'static str, days: i64) -> InUse {
        let expires = NOW.plus_millis(days * DAY_MILLIS);
        InUse { which, fingerprint: Fingerprint([1; 32]), expires }
    }

    fn days_told(told: &mut Told, after_days: i64, in_use: &[InUse]) -> Vec<i64> {
        let now = NOW.plus_millis(after_days * DAY_MILLIS);
        told.next(in_use, now).into_iter().map(|(_, days)| days).collect()
    }

    #[test]
    fn a_certificate_is_told_of_a_month_a_week_and_a_day_before_and_when_it_is_over() {
        let mut told = Told::default();
        let one = [in_days("client", 100)];
        let heard: Vec<_> = (0..=110).map(|day| (day, days_told(&mut told, day, &one))).collect();
        let heard: Vec<_> = heard.into_iter().filter(|(_, days)| !days.is_empty()).collect();
        assert_eq!(heard, [(70, vec![30]), (93, vec![7]), (99, vec![1]), (100, vec![0])]);
    }

    /// A node that starts a week before hears of it once, not of the month too.
    #[test]
    fn only_the_nearest_notice_is_told() {
        let mut told = Told::default();
        assert_eq!(days_told(&mut told, 95, &[in_days("client", 100)]), [7]);
        assert!(days_told(&mut told, 95, &[in_days("client", 100)]).is_empty());
    }

    #[test]
    fn a_renewed_certificate_is_told_of_anew_when_its_own_time_comes() {
        let mut told = Told::default();
        assert_eq!(days_told(&mut told, 80, &[in_days("client", 100)]), [30]);
        let renewed = InUse { fingerprint: Fingerprint([2; 32]), ..in_days("client", 400) };
        assert!(days_told(&mut told, 81, &[renewed]).is_empty());
        assert_eq!(days_told(&mut told, 380, &[renewed]), [30]);
    }

    /// Two places may show one certificate; the CA's is another.
    #[test]
    fn each_place_is_told_of() {
        let mut told = Told::default();
        let in_use = [in_days("client", 5), in_days("peer", 5), in_days("ca", 1_000)];
        assert_eq!(days_told(&mut told, 0, &in_use), [7, 7]);
    }
}
