//! What the load asked and how it went, and what that says of a stretch of
//! time: gaps, failures, the slowest answer. Pure but for the shared list.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use trine_client::clock::Moment;

/// What was asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A new seat.
    Grant,
    /// A held one's next deadline.
    Renewal,
    /// One given back.
    Release,
}

/// What the caller of the client library was told, its own retries included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// It is done.
    Done,
    /// It is definitely not.
    Failed,
    /// Nobody knows.
    Unknown,
}

/// One call of an application.
#[derive(Debug, Clone, Copy)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    pub(super) began: Moment,
    pub(super) ended: Moment,
    pub(super) told: Told,
}

/// Something that was done to the installation, or seen of it.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Mark {
    /// From the start of the repeat.
    pub(super) at_ms: u64,
    pub(super) what: String,
}

/// What was done in a repeat so far.
#[derive(Debug)]
pub(super) struct Marks {
    /// When the repeat began.
    pub(super) began: Moment,
    pub(super) list: Vec<Mark>,
}

impl Marks {
    pub(super) fn from(began: Moment) -> Self {
        Self { began, list: Vec::new() }
    }

    pub(super) fn add(&mut self, at: Moment, what: impl ToString) {
        let at_ms = millis(at.since(self.began));
        self.list.push(Mark { at_ms, what: what.to_string() });
    }
}

/// A stretch of time that is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Span {
    pub(super) from: Moment,
    pub(super) to: Moment,
}

/// What applications felt of one repeat.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Felt {
    /// The longest time in which nobody got a new seat.
    pub(super) grant_gap_ms: u64,
    /// The longest time in which nobody's renewal was answered.
    pub(super) renewal_gap_ms: u64,
    /// The longest that any one call took, its retries included.
    pub(super) slowest_ms: u64,
    /// Calls that were definitely not done, though their callers had a right to them.
    pub(super) failed: usize,
    /// Calls of which nobody knows.
    pub(super) unknown: usize,
    /// Calls in all.
    pub(super) calls: usize,
}

/// What the load's tasks write into. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    calls: Arc<Mutex<Vec<Asked>>>,
    /// How often each fencing token was given out, to find what was given twice.
    tokens: Arc<Mutex<BTreeMap<u64, usize>>>,
}

impl Record {
    pub(super) fn note(&self, asked: Asked) {
        lock(&self.calls).push(asked);
    }

    /// A new grant's fencing token: no two grants have the same.
    pub(super) fn granted(&self, token: u64) {
        *lock(&self.tokens).entry(token).or_default() += 1;
    }

    /// Tokens that more than one request was given.
    pub(super) fn doubled(&self) -> usize {
        lock(&self.tokens).values().filter(|times| **times > 1).count()
    }

    /// How many calls of `kind` were done since `from`.
    pub(super) fn done_since(&self, kind: Kind, from: Moment) -> usize {
        let calls = lock(&self.calls);
        calls.iter().rev().take_while(|call| call.ended >= from).filter(|c| c.done(kind)).count()
    }

    /// What was felt within `span`.
    pub(super) fn felt(&self, span: Span) -> Felt {
        felt(&lock(&self.calls), span)
    }

    /// Calls done in each `step` of `span`, for a picture.
    pub(super) fn pulse(&self, kind: Kind, span: Span, step: Duration) -> Vec<u32> {
        let count = span.to.since(span.from).as_millis() / step.as_millis().max(1) + 1;
        let mut pulse = vec![0; usize::try_from(count).unwrap_or(0)];
        let calls = lock(&self.calls);
        for call in calls.iter().filter(|call| call.done(kind) && span.holds(call.ended)) {
            let place = call.ended.since(span.from).as_millis() / step.as_millis().max(1);
            if let Some(bar) = usize::try_from(place).ok().and_then(|place| pulse.get_mut(place)) {
                *bar += 1;
            }
        }
        pulse
    }

    /// Drops what was noted before `moment`; memory is for one repeat.
    pub(super) fn forget_before(&self, moment: Moment) {
        lock(&self.calls).retain(|call| call.ended >= moment);
    }
}

impl Asked {
    fn done(&self, kind: Kind) -> bool {
        self.kind == kind && self.told == Told::Done
    }
}

impl Span {
    fn holds(self, moment: Moment) -> bool {
        (self.from..=self.to).contains(&moment)
    }
}

fn felt(calls: &[Asked], span: Span) -> Felt {
    let within: Vec<&Asked> = calls.iter().filter(|call| span.holds(call.ended)).collect();
    let told = |told| within.iter().filter(|call| call.told == told).count();
    Felt {
        grant_gap_ms: gap(&within, Kind::Grant, span),
        renewal_gap_ms: gap(&within, Kind::Renewal, span),
        slowest_ms: within
            .iter()
            .map(|call| millis(call.ended.since(call.began.max(span.from))))
            .max()
            .unwrap_or(0),
        failed: told(Told::Failed),
        unknown: told(Told::Unknown),
        calls: within.len(),
    }
}

/// The longest time between two successes, the ends of the span counted as
/// successes: what had begun before it is not this span's fault, and what never
/// came is.
fn gap(within: &[&Asked], kind: Kind, span: Span) -> u64 {
    let mut done: Vec<Moment> =
        within.iter().filter(|call| call.done(kind)).map(|call| call.ended).collect();
    done.extend([span.from, span.to]);
    done.sort();
    done.windows(2).map(|pair| millis(pair[1].since(pair[0]))).max().unwrap_or(0)
}

/// A figure over the repeats of a scenario.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub(super) struct Spread {
    pub(super) p50: u64,
    pub(super) p99: u64,
    pub(super) max: u64,
}

impl Spread {
    /// By nearest rank: of fewer than a hundred repeats p99 is the worst.
    pub(super) fn of(figures: impl IntoIterator<Item = u64>) -> Self {
        let mut figures: Vec<u64> = figures.into_iter().collect();
        figures.sort_unstable();
        let rank = |percent: usize| {
            let rank = (figures.len() * percent).div_ceil(100).max(1);
            figures.get(rank - 1).copied().unwrap_or(0)
        };
        Self { p50: rank(50), p99: rank(99), max: figures.last().copied().unwrap_or(0) }
    }
}

pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whole between any two lines that hold the lock.
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Moment {
        Moment(Duration::from_millis(ms))
    }

    fn call(kind: Kind, began: u64, ended: u64, told: Told) -> Asked {
        Asked { kind, began: at(began), ended: at(ended), told }
    }

    #[test]
    fn a_gap_is_the_longest_time_without_a_success() {
        let calls = [
            call(Kind::Grant, 90, 100, Told::Done),
            call(Kind::Renewal, 100, 400, Told::Done),
            call(Kind::Grant, 120, 500, Told::Failed),
            call(Kind::Grant, 100, 900, Told::Done),
            call(Kind::Grant, 900, 950, Told::Done),
        ];
        let seen = felt(&calls, Span { from: at(0), to: at(1_000) });
        assert_eq!((seen.grant_gap_ms, seen.renewal_gap_ms), (800, 600));
        assert_eq!((seen.failed, seen.unknown, seen.calls), (1, 0, 5));
        assert_eq!(seen.slowest_ms, 800);
    }

    #[test]
    fn what_never_came_back_counts_to_the_end() {
        let calls = [call(Kind::Grant, 0, 100, Told::Done)];
        assert_eq!(felt(&calls, Span { from: at(0), to: at(5_000) }).grant_gap_ms, 4_900);
    }

    #[test]
    fn an_outage_before_the_span_is_not_its_fault() {
        let calls = [call(Kind::Grant, 0, 6_000, Told::Done)];
        let seen = felt(&calls, Span { from: at(5_000), to: at(6_100) });
        assert_eq!((seen.grant_gap_ms, seen.slowest_ms), (1_000, 1_000));
    }

    #[test]
    fn a_token_given_twice_is_a_doubled_seat() {
        let record = Record::default();
        record.granted(7);
        record.granted(8);
        assert_eq!(record.doubled(), 0);
        record.granted(7);
        assert_eq!(record.doubled(), 1);
    }

    #[test]
    fn percentiles_are_by_nearest_rank() {
        assert_eq!(Spread::of(1..=20), Spread { p50: 10, p99: 20, max: 20 });
        assert_eq!(Spread::of(1..=200), Spread { p50: 100, p99: 198, max: 200 });
        assert_eq!(Spread::of([]), Spread::default());
    }
}
