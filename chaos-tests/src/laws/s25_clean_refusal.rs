//! S25, clean refusal.

use std::collections::{BTreeMap, BTreeSet};

use super::{End, Held, Law};
use crate::history::{Answer, LogId, Op, RequestId};
use crate::oracle::attempt;

pub(super) struct CleanRefusal;

impl Law for CleanRefusal {
    fn name(&self) -> &'static str {
        "S25"
    }

    fn sentence(&self) -> &'static str {
        "What was said not to be done was not: a grant is decided after an asking that may have arrived, and so is a release."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        let attempts = attempt::pair(end.history);
        let mut asked: BTreeMap<RequestId, LogId> = BTreeMap::new();
        let mut ended: BTreeSet<RequestId> = BTreeSet::new();
        for attempt in attempts.iter().filter(|attempt| attempt.may_have_arrived()) {
            match attempt.op {
                Op::Acquire { request, .. } => {
                    let after = asked.entry(request).or_insert(attempt.after);
                    *after = attempt.after.min(*after);
                }
                Op::Release { request, .. } | Op::Cancel { request } => {
                    ended.insert(request);
                }
                Op::Renew { .. } | Op::Seats => {}
            }
        }
        for attempt in &attempts {
            let (Op::Acquire { request, .. }, Some(Answer::Granted { grant, standing, .. })) =
                (&attempt.op, &attempt.answer)
            else {
                continue;
            };
            let granted = grant.granted.log_id;
            if asked.get(request).is_some_and(|after| granted <= *after) {
                return Err(format!(
                    "{request} was granted at {granted}, when every asking so far had been told that nothing was done"
                ));
            }
            if matches!(standing, crate::history::Standing::Released) && !ended.contains(request) {
                return Err(format!(
                    "{request} was released, and every release of it had been told that nothing was done"
                ));
            }
        }
        Ok(())
    }
}
