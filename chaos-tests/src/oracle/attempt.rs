//! The history's events paired up: each call with its answer and what it must come after.

use std::collections::BTreeMap;

use crate::history::{Answer, AttemptId, Event, LogId, Op, Place, What};

/// One call, from invocation to answer.
#[derive(Debug, Clone)]
pub(crate) struct Attempt {
    pub(crate) client: String,
    pub(crate) op: Op,
    /// The highest log id that anybody had been told of when this call left:
    /// it can only have been decided after that.
    pub(crate) after: LogId,
    pub(crate) invoked_us: u64,
    /// When the answer came.
    pub(crate) answered_us: u64,
    /// `None` when the run ended first, which is as good as unknown.
    pub(crate) answer: Option<Answer>,
}

impl Attempt {
    /// Where it was decided, if that is known. A read's place is the end of
    /// the last entry it includes.
    pub(crate) fn place(&self) -> Option<Place> {
        let place = self.answer.as_ref()?.place()?;
        match self.op {
            Op::Seats => Some(Place { log_id: place.log_id.end_of_entry(), ..place }),
            _ => Some(place),
        }
    }

    /// Whether it may have been done without anybody having been told.
    pub(crate) fn is_unknown(&self) -> bool {
        matches!(self.answer, None | Some(Answer::Unknown { .. }))
    }

    /// Whether it may have reached the ledger at all.
    pub(crate) fn may_have_arrived(&self) -> bool {
        !matches!(self.answer, Some(Answer::NotDone { .. }))
    }
}

/// All attempts of a history, in the order of their invocation.
pub(crate) fn pair(events: &[Event]) -> Vec<Attempt> {
    let mut attempts: Vec<Attempt> = Vec::new();
    let mut open: BTreeMap<AttemptId, usize> = BTreeMap::new();
    let mut told = LogId::ZERO;
    for Event { at_us, what } in events {
        match what {
            What::Invoke { attempt, client, op, .. } => {
                open.insert(*attempt, attempts.len());
                attempts.push(Attempt {
                    client: client.clone(),
                    op: op.clone(),
                    after: told,
                    invoked_us: *at_us,
                    answered_us: u64::MAX,
                    answer: None,
                });
            }
            What::Answer { attempt, answer } => {
                let Some(index) = open.remove(attempt) else { continue };
                let attempt = &mut attempts[index];
                attempt.answered_us = *at_us;
                attempt.answer = Some(answer.clone());
                if let Some(place) = attempt.place() {
                    told = told.max(place.log_id);
                }
            }
            What::Note { .. } => {}
        }
    }
    attempts
}
