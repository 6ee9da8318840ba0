//! What was granted: one grant per request, one token per grant, and somebody
//! who asked for each.

use std::collections::{BTreeMap, BTreeSet};

use super::Violation;
use super::attempt::Attempt;
use crate::history::{Answer, Grant, LogId, Op, RequestId};
use crate::model::{Granted, Open, Stray};

/// Tokens from one restore epoch to the next.
const TOKENS_PER_EPOCH: u64 = 1 << 20;

/// A request that may have been granted without anybody having been told.
struct Unresolved {
    open: Open,
    /// It cannot have been granted after this.
    until: Option<LogId>,
}

/// Everything known about grants.
pub(super) struct Grants {
    /// In token order.
    pub(super) known: Vec<Granted>,
    /// Grants that nobody was told of.
    pub(super) strays: Vec<Stray>,
    /// Requests that may hold a token above all known ones.
    pub(super) open: Vec<Open>,
}

pub(super) fn check(attempts: &[Attempt], violations: &mut Vec<Violation>) -> Grants {
    let known = one_grant_per_request(attempts, violations);
    let known = one_token_per_grant(known, violations);
    let unresolved = unresolved(attempts, &known);
    let strays = strays(attempts, &known);
    explain(&strays, &unresolved, violations);
    let open = unresolved.iter().filter(|one| one.until.is_none()).map(|one| one.open).collect();
    Grants { known, strays, open }
}

/// S3: every answer to one request tells the same grant.
fn one_grant_per_request(attempts: &[Attempt], violations: &mut Vec<Violation>) -> Vec<Granted> {
    let mut grants: BTreeMap<RequestId, (u64, &Grant)> = BTreeMap::new();
    let mut ttls: BTreeMap<RequestId, (u64, u64)> = BTreeMap::new();
    for attempt in attempts {
        let Op::Acquire { request, ttl_ms, not_after_ms, wait_until_ms } = attempt.op else {
            continue;
        };
        ttls.insert(request, (ttl_ms, not_after_ms.max(wait_until_ms)));
        let Some(Answer::Granted { at, grant, .. }) = &attempt.answer else { continue };
        if grant.granted.log_id > at.log_id {
            violations.push(Violation::new(
                "S4",
                at.log_id,
                format!("request {request} was told at {} of a grant of the future", at.log_id),
            ));
        }
        match grants.get(&request) {
            Some((_, first)) if *first != grant => violations.push(Violation::new(
                "S3",
                at.log_id,
                format!("request {request} has two grants: {first:?} and {grant:?}"),
            )),
            Some(_) => {}
            None => {
                grants.insert(request, (ttl_ms, grant));
            }
        }
    }
    let mut known = Vec::with_capacity(grants.len());
    for (request, (ttl_ms, grant)) in grants {
        let wanted_until = ttls.get(&request).map_or(0, |(_, until)| *until);
        let place = grant.granted;
        if place.stamp_ms > wanted_until {
            violations.push(Violation::new(
                "S10",
                place.log_id,
                format!(
                    "request {request} was granted at {} ms, {} ms after anybody wanted it",
                    place.stamp_ms,
                    place.stamp_ms - wanted_until
                ),
            ));
        }
        if grant.deadline_ms != place.stamp_ms + ttl_ms {
            violations.push(Violation::new(
                "S8",
                place.log_id,
                format!(
                    "request {request} was granted at {} ms for {ttl_ms} ms, until {} ms",
                    place.stamp_ms, grant.deadline_ms
                ),
            ));
        }
        known.push(Granted {
            request,
            token: grant.token,
            at: place,
            deadline_ms: grant.deadline_ms,
            ttl_ms,
        });
    }
    known
}

/// S5: tokens rise with the log, one per grant. Returns the grants by token.
fn one_token_per_grant(mut known: Vec<Granted>, violations: &mut Vec<Violation>) -> Vec<Granted> {
    known.sort_by_key(|grant| (grant.token, grant.at.log_id));
    for pair in known.windows(2) {
        let [low, high] = pair else { continue };
        if low.token == high.token {
            violations.push(Violation::new(
                "S5",
                high.at.log_id,
                format!("token {} went to both {} and {}", low.token, low.request, high.request),
            ));
        } else if low.at.log_id > high.at.log_id {
            violations.push(Violation::new(
                "S5",
                high.at.log_id,
                format!(
                    "token {} was granted at {}, later than token {} at {}",
                    low.token, low.at.log_id, high.token, high.at.log_id
                ),
            ));
        }
    }
    known
}

fn unresolved(attempts: &[Attempt], known: &[Granted]) -> Vec<Unresolved> {
    let mut requests: BTreeMap<RequestId, Unresolved> = BTreeMap::new();
    // A request that was granted is told of; one that was refused is remembered so.
    let mut settled: BTreeSet<RequestId> = known.iter().map(|grant| grant.request).collect();
    for attempt in attempts {
        match (&attempt.op, &attempt.answer) {
            (Op::Acquire { request, ttl_ms, not_after_ms, wait_until_ms }, _)
                if attempt.may_have_arrived() =>
            {
                let over_ms = not_after_ms.max(wait_until_ms).saturating_add(*ttl_ms);
                let open = Open { after: attempt.after, over_ms };
                requests.entry(*request).or_insert(Unresolved { open, until: None });
                if let Some(Answer::Refused { reason, .. }) = &attempt.answer
                    && super::is_final(reason)
                {
                    settled.insert(*request);
                }
            }
            (Op::Cancel { request }, Some(Answer::Cancelled { at })) => {
                if let Some(one) = requests.get_mut(request) {
                    one.until = Some(one.until.map_or(at.log_id, |until| until.min(at.log_id)));
                }
            }
            _ => {}
        }
    }
    requests.retain(|request, _| !settled.contains(request));
    requests.into_values().collect()
}

/// The tokens below the highest one seen that no known grant carries.
fn strays(attempts: &[Attempt], known: &[Granted]) -> Vec<Stray> {
    let listed = attempts.iter().filter_map(|attempt| match &attempt.answer {
        Some(Answer::Seats { at, seats }) => Some((at.log_id.end_of_entry(), seats)),
        _ => None,
    });
    let mut seen_by: BTreeMap<u64, LogId> = BTreeMap::new();
    for (at, seats) in listed {
        for seat in seats {
            let first = seen_by.entry(seat.token).or_insert(at);
            *first = at.min(*first);
        }
    }
    let ttl_ms = known.iter().map(|grant| grant.ttl_ms).max().unwrap_or(0);
    let mut strays = Vec::new();
    let (mut next, mut after) = (1, LogId::ZERO);
    for grant in known {
        // A restore leaves out all tokens up to those of its own epoch.
        next = next.max(grant.at.log_id.epoch * TOKENS_PER_EPOCH + 1);
        for token in next..grant.token {
            strays.push(Stray { token, after, before: Some(grant.at), ttl_ms });
        }
        (next, after) = (grant.token + 1, grant.at.log_id);
    }
    let highest = seen_by.keys().next_back().copied().unwrap_or(0);
    for token in next..=highest {
        strays.push(Stray { token, after, before: None, ttl_ms });
    }
    strays
}

/// S4: every seat has a request behind it. Each stray token needs a request of
/// its own that may have been granted there (bipartite matching).
fn explain(strays: &[Stray], unresolved: &[Unresolved], violations: &mut Vec<Violation>) {
    let fits = |stray: &Stray, one: &Unresolved| {
        stray.before.is_none_or(|before| one.open.after < before.log_id)
            && one.until.is_none_or(|until| stray.after < until)
    };
    let mut asker_of: Vec<Option<usize>> = vec![None; unresolved.len()];
    for (nth, stray) in strays.iter().enumerate() {
        let mut tried = vec![false; unresolved.len()];
        if !assign(nth, strays, unresolved, &fits, &mut asker_of, &mut tried) {
            let at = stray.before.map_or(stray.after, |before| before.log_id);
            violations.push(Violation::new(
                "S4",
                at,
                format!(
                    "token {} was granted between {} and {} and nobody can have asked for it",
                    stray.token,
                    stray.after,
                    stray.before.map_or("the end".to_owned(), |before| before.log_id.to_string())
                ),
            ));
        }
    }
}

fn assign(
    stray: usize,
    strays: &[Stray],
    unresolved: &[Unresolved],
    fits: &impl Fn(&Stray, &Unresolved) -> bool,
    taken_by: &mut [Option<usize>],
    tried: &mut [bool],
) -> bool {
    for (index, one) in unresolved.iter().enumerate() {
        if tried[index] || !fits(&strays[stray], one) {
            continue;
        }
        tried[index] = true;
        let free = match taken_by[index] {
            None => true,
            Some(other) => assign(other, strays, unresolved, fits, taken_by, tried),
        };
        if free {
            taken_by[index] = Some(stray);
            return true;
        }
    }
    false
}
