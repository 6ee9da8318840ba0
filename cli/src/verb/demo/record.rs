//! What the demo's clients asked and were answered, attempt by attempt.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trine_client::clock::Moment;
use trine_client::observe::{Attempt, Call, Observer, Reply};
use trine_client::{Failure, Outcome, Reason};
use wire::v1;

/// One attempt, and how it ended if it did.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Which of the clients asked.
    pub(super) client: usize,
    /// When it was sent.
    pub(super) sent: Moment,
    /// When it was answered, and how.
    pub(super) answer: Option<(Moment, Heard)>,
}

/// What an answer said of the outcome.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Heard {
    Done,
    Refused,
    NotDone,
    Unknown,
    /// Nobody said anything within the client's own limit.
    Silence,
}

/// A request body and the grant that answered it.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Granted {
    pub(super) request: v1::AcquireRequest,
    pub(super) grant: v1::Granted,
    pub(super) answered: Moment,
}

/// Everything all clients saw. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Record {
    seen: Arc<Mutex<Seen>>,
}

#[derive(Debug, Default)]
struct Seen {
    attempts: BTreeMap<(usize, u64), Asked>,
    /// Every grant that any answer carried, by request id.
    grants: BTreeMap<Vec<u8>, Vec<Granted>>,
}

impl Record {
    /// The observer for one client.
    pub(super) fn of(&self, client: usize) -> Arc<dyn Observer> {
        Arc::new(Ear { client, seen: self.seen.clone() })
    }

    /// The latest `count` grants that were answered before `moment`.
    pub(super) fn grants_before(&self, moment: Moment, count: usize) -> Vec<Granted> {
        let seen = lock(&self.seen);
        let mut grants: Vec<Granted> = seen
            .grants
            .values()
            .filter_map(|answers| answers.first())
            .filter(|granted| granted.answered < moment)
            .cloned()
            .collect();
        grants.sort_by_key(|granted| std::cmp::Reverse(granted.answered));
        grants.truncate(count);
        grants
    }

    /// How many requests were granted first before `moment`, and from then on.
    pub(super) fn grants_around(&self, moment: Moment) -> (usize, usize) {
        let seen = lock(&self.seen);
        let firsts = seen.grants.values().filter_map(|answers| answers.first());
        let (before, after): (Vec<_>, Vec<_>) = firsts.partition(|g| g.answered < moment);
        (before.len(), after.len())
    }

    /// The longest time any client went without a success between `from` and `to`.
    pub(super) fn gap_max(&self, from: Moment, to: Moment) -> Duration {
        let seen = lock(&self.seen);
        let mut successes: BTreeMap<usize, Vec<Moment>> = BTreeMap::new();
        for asked in seen.attempts.values() {
            let moments = successes.entry(asked.client).or_default();
            if let Some((at, Heard::Done)) = asked.answer
                && (from..=to).contains(&at)
            {
                moments.push(at);
            }
        }
        let gap_of = |mut moments: Vec<Moment>| {
            moments.extend([from, to]);
            moments.sort();
            moments.windows(2).map(|pair| pair[1].since(pair[0])).max()
        };
        successes.into_values().filter_map(gap_of).max().unwrap_or_default()
    }

    /// Whether each of `clients` had a success after `moment`.
    pub(super) fn all_succeeded_after(&self, moment: Moment, clients: usize) -> bool {
        let seen = lock(&self.seen);
        let succeeded: BTreeSet<usize> = seen
            .attempts
            .values()
            .filter(|asked| matches!(asked.answer, Some((at, Heard::Done)) if at > moment))
            .map(|asked| asked.client)
            .collect();
        succeeded.len() >= clients
    }

    /// The attempts of one client, in the order they were sent.
    pub(super) fn attempts(&self, clients: std::ops::Range<usize>) -> Vec<Asked> {
        let seen = lock(&self.seen);
        seen.attempts.values().filter(|asked| clients.contains(&asked.client)).cloned().collect()
    }

    /// Request ids that were answered with two different grants, and tokens
    /// that two requests got: seats that were doubled.
    pub(super) fn doubled(&self) -> usize {
        let seen = lock(&self.seen);
        let differing = seen
            .grants
            .values()
            .filter(|answers| answers.iter().any(|other| !same_grant(&answers[0], other)))
            .count();
        let tokens: Vec<u64> = seen.grants.values().map(|answers| answers[0].grant.token).collect();
        let distinct: BTreeSet<u64> = tokens.iter().copied().collect();
        differing + (tokens.len() - distinct.len())
    }
}

/// Whether two answers carry one grant; how it stands may differ.
pub(super) fn same_grant(one: &Granted, other: &Granted) -> bool {
    let bare = |granted: &Granted| v1::Granted { standing: None, ..granted.grant.clone() };
    bare(one) == bare(other)
}

struct Ear {
    client: usize,
    seen: Arc<Mutex<Seen>>,
}

impl Observer for Ear {
    fn sent(&self, attempt: &Attempt) {
        if matches!(attempt.call, Call::Clock(_)) {
            return;
        }
        let asked = Asked { client: self.client, sent: attempt.sent, answer: None };
        lock(&self.seen).attempts.insert((self.client, attempt.number), asked);
    }

    fn answered(&self, attempt: &Attempt, answer: Result<&Reply, &Failure>, now: Moment) {
        let heard = match answer {
            Ok(_) => Heard::Done,
            Err(failure) => match failure.outcome {
                Outcome::Refused => Heard::Refused,
                Outcome::NotDone => Heard::NotDone,
                Outcome::Unknown if failure.reason == Reason::NoAnswer => Heard::Silence,
                Outcome::Unknown => Heard::Unknown,
            },
        };
        let mut seen = lock(&self.seen);
        if let Some(asked) = seen.attempts.get_mut(&(self.client, attempt.number)) {
            asked.answer = Some((now, heard));
        }
        if let (Call::Acquire(request), Ok(Reply::Acquire(reply))) = (&attempt.call, answer)
            && let Some(v1::acquire_reply::Outcome::Granted(grant)) = &reply.outcome
        {
            let granted = Granted { request: request.clone(), grant: grant.clone(), answered: now };
            seen.grants.entry(request.lease.clone()).or_default().push(granted);
        }
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    // The maps are whole between any two lines that hold this lock.
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}
