//! The log-order check: did the cluster keep its laws, judged by what it told its clients?
//!
//! Every answer carries its place in the log. The check requires the order of
//! the places to agree with real time, sorts the answers by place, replays
//! them through a naive [model](crate::model) and compares. Unlike a
//! linearizability check of the clients' view it also sees a seat too many
//! that is given out while a release is on its way (LAWS.md, How to check).
//!
//! An unanswered call is *unknown*: it may have happened or not, and neither
//! is held against the cluster.

pub(crate) mod attempt;
mod grants;
mod order;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use attempt::Attempt;
use serde::Serialize;

use crate::history::{Answer, Event, LogId, Op, Place, RequestId, Standing};
use crate::model::{Counts, Doubts, Fact, How, Model};

/// Violations listed of one run; one is enough, and after the first most are echoes.
const LISTED_MAX: usize = 20;

/// A law that was broken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// Which, as LAWS.md names it.
    pub law: &'static str,
    /// Where in the log it shows.
    pub at: LogId,
    /// What contradicts what.
    pub what: String,
}

impl Violation {
    fn new(law: &'static str, at: LogId, what: String) -> Self {
        Self { law, at, what }
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} broken at {}: {}", self.law, self.at, self.what)
    }
}

/// What a history was found to be.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// The laws broken, in log order, the first few.
    pub violations: Vec<Violation>,
    /// What was in the history.
    pub figures: Figures,
}

/// How much of what the history had: a run that never reaches these tested little.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Calls made.
    pub attempts: usize,
    /// Calls whose outcome stayed unknown.
    pub unknown: usize,
    /// Calls that definitely did not reach the ledger.
    pub not_done: usize,
    /// Grants that somebody was told of.
    pub grants: usize,
    /// Grants that nobody was told of, each with a request that explains it.
    pub strays: usize,
    /// Grants to a request that had waited in the queue.
    pub queued_grants: usize,
    /// Answers that repeated a grant decided earlier.
    pub repeats: usize,
    /// Renewals.
    pub renewals: usize,
    /// Releases and cancels.
    pub endings: usize,
    /// Refusals for want of a seat.
    pub full: usize,
    /// Listings of all seats.
    pub listings: usize,
    /// The most seats that were surely live at once.
    pub live_max: usize,
}

/// Checks a whole history of one pool of `seats` seats that was empty at its beginning.
pub fn check(events: &[Event], seats: usize) -> Verdict {
    check_after_jumps(events, Counts::fixed(seats), 0)
}

/// The same, of a run in which the count changed, and clocks jumped, each jump
/// adding to cluster time what it may: so much in all, in milliseconds.
pub fn check_after_jumps(events: &[Event], counts: Counts, jumped_ms: u64) -> Verdict {
    let attempts = attempt::pair(events);
    let mut violations = Vec::new();
    order::check(&attempts, jumped_ms, &mut violations);
    let grants = grants::check(&attempts, &mut violations);
    one_mind(&attempts, &mut violations);

    let mut figures = figures(&attempts);
    figures.grants = grants.known.len();
    figures.strays = grants.strays.len();

    let tokens: BTreeMap<RequestId, u64> =
        grants.known.iter().map(|grant| (grant.request, grant.token)).collect();
    let mut facts = facts(&attempts, &tokens, &mut violations);
    facts.extend(grants.known.iter().map(|grant| (grant.at, Fact::Granted(grant.request))));
    facts.sort_by_key(|(place, fact)| (place.log_id, fact.rank()));

    let doubts = doubts(&attempts);
    let known = grants
        .known
        .into_iter()
        .map(|grant| {
            let doubts = doubts.get(&grant.request).copied().unwrap_or_default();
            (grant, doubts)
        })
        .collect();
    let mut model = Model::new(counts, known, grants.strays, grants.open);
    for (place, fact) in &facts {
        if let Err(found) = model.step(*place, fact) {
            violations.push(Violation::new(found.law, place.log_id, found.what));
        }
    }
    figures.live_max = model.live_max();
    violations.sort_by_key(|violation| violation.at);
    violations.truncate(LISTED_MAX);
    Verdict { violations, figures }
}

/// Whether a refusal of this reason settles its request for ever (S3).
pub(crate) fn is_final(reason: &str) -> bool {
    // The others leave open what became of an earlier attempt, or are asked again.
    matches!(
        reason,
        "NO_SEAT_FREE" | "QUEUE_FULL" | "TOO_MANY_SEATS" | "WAITED_IN_VAIN" | "WITHDRAWN"
    )
}

/// What a call is called in messages.
fn name(op: &Op) -> &'static str {
    match op {
        Op::Acquire { .. } => "the acquire",
        Op::Renew { .. } => "the renewal",
        Op::Release { .. } => "the release",
        Op::Cancel { .. } => "the cancel",
        Op::Seats => "the listing",
    }
}

/// S3: a request that was refused for good is not granted after all.
fn one_mind(attempts: &[Attempt], violations: &mut Vec<Violation>) {
    let mut refused: BTreeMap<RequestId, LogId> = BTreeMap::new();
    let mut granted: BTreeMap<RequestId, LogId> = BTreeMap::new();
    for attempt in attempts {
        let Op::Acquire { request, .. } = attempt.op else { continue };
        match &attempt.answer {
            Some(Answer::Refused { at, reason }) if is_final(reason) => {
                refused.insert(request, at.log_id);
            }
            Some(Answer::Granted { at, .. }) => {
                granted.insert(request, at.log_id);
            }
            _ => {}
        }
    }
    for (request, at) in granted {
        if let Some(refusal) = refused.get(&request) {
            violations.push(Violation::new(
                "S3",
                at,
                format!("request {request} was refused at {refusal} and granted at {at}"),
            ));
        }
    }
}

/// What each answer says, at its place.
fn facts(
    attempts: &[Attempt],
    tokens: &BTreeMap<RequestId, u64>,
    violations: &mut Vec<Violation>,
) -> Vec<(Place, Fact)> {
    let mut seen: BTreeSet<RequestId> = BTreeSet::new();
    let mut facts = Vec::new();
    for attempt in attempts {
        let is_first_asking = match attempt.op {
            Op::Acquire { request, .. } if attempt.may_have_arrived() => seen.insert(request),
            // A cancel that overtakes its request settles it first.
            Op::Cancel { request } => {
                seen.insert(request);
                false
            }
            _ => false,
        };
        let (Some(place), Some(answer)) = (attempt.place(), &attempt.answer) else { continue };
        let has_token = |request: &RequestId, token: &u64| {
            tokens.get(request).is_none_or(|known| known == token)
        };
        let fact = match (&attempt.op, answer) {
            (Op::Acquire { request, .. }, Answer::Granted { standing, .. }) => match standing {
                Standing::Live(deadline_ms) => Fact::Live(*request, *deadline_ms),
                Standing::Released => Fact::Over(*request, How::Released),
                Standing::Expired => Fact::Over(*request, How::Expired),
            },
            (Op::Acquire { .. }, Answer::Refused { reason, .. })
                if reason == "NO_SEAT_FREE" && is_first_asking =>
            {
                Fact::Full
            }
            (Op::Renew { request, token }, Answer::Renewed { deadline_ms, .. }) => {
                if !has_token(request, token) {
                    violations.push(foreign_token("S7", place, *request, *token));
                    continue;
                }
                Fact::Renewed(*request, *deadline_ms)
            }
            (Op::Release { request, token }, Answer::Released { .. }) => {
                if !has_token(request, token) {
                    violations.push(foreign_token("S6", place, *request, *token));
                    continue;
                }
                Fact::Freed(*request)
            }
            (Op::Cancel { request }, Answer::Cancelled { .. }) => Fact::Freed(*request),
            (
                Op::Renew { request, token } | Op::Release { request, token },
                Answer::Refused { reason, .. },
            ) if matches!(reason.as_str(), "NO_SUCH_LEASE" | "LEASE_ENDED")
                && has_token(request, token) =>
            {
                Fact::Over(*request, How::Unsaid)
            }
            (Op::Seats, Answer::Seats { seats, .. }) => Fact::Listing(seats.clone()),
            _ => continue,
        };
        facts.push((place, fact));
    }
    facts
}

fn foreign_token(law: &'static str, at: Place, request: RequestId, token: u64) -> Violation {
    Violation::new(law, at.log_id, format!("{request} obeyed token {token}, which is not its own"))
}

/// What may have happened to each request unseen.
fn doubts(attempts: &[Attempt]) -> BTreeMap<RequestId, Doubts> {
    let mut doubts: BTreeMap<RequestId, Doubts> = BTreeMap::new();
    let earliest =
        |known: Option<LogId>, after: LogId| Some(known.map_or(after, |known| known.min(after)));
    for attempt in attempts.iter().filter(|attempt| attempt.is_unknown()) {
        let Some(request) = attempt.op.request() else { continue };
        let one = doubts.entry(request).or_default();
        match attempt.op {
            Op::Renew { .. } => one.renewed_after = earliest(one.renewed_after, attempt.after),
            Op::Release { .. } | Op::Cancel { .. } => {
                one.ended_after = earliest(one.ended_after, attempt.after);
            }
            Op::Acquire { .. } | Op::Seats => {}
        }
    }
    doubts
}

fn figures(attempts: &[Attempt]) -> Figures {
    let mut figures = Figures { attempts: attempts.len(), ..Figures::default() };
    let mut queued: BTreeSet<RequestId> = BTreeSet::new();
    let mut told: BTreeSet<RequestId> = BTreeSet::new();
    for attempt in attempts {
        match (&attempt.op, &attempt.answer) {
            (_, None | Some(Answer::Unknown { .. })) => figures.unknown += 1,
            (_, Some(Answer::NotDone { .. })) => figures.not_done += 1,
            (Op::Acquire { request, .. }, Some(Answer::Queued { .. })) => {
                queued.insert(*request);
            }
            (Op::Acquire { request, .. }, Some(Answer::Granted { at, grant, .. })) => {
                if told.insert(*request) && queued.contains(request) {
                    figures.queued_grants += 1;
                }
                figures.repeats += usize::from(at.log_id > grant.granted.log_id);
            }
            (_, Some(Answer::Renewed { .. })) => figures.renewals += 1,
            (_, Some(Answer::Released { .. } | Answer::Cancelled { .. })) => figures.endings += 1,
            (_, Some(Answer::Refused { reason, .. })) if reason == "NO_SEAT_FREE" => {
                figures.full += 1;
            }
            (_, Some(Answer::Seats { .. })) => figures.listings += 1,
            _ => {}
        }
    }
    figures
}

#[cfg(test)]
mod tests;
