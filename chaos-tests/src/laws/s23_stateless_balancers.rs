//! S23, stateless balancers.

use std::collections::BTreeMap;

use super::{End, Held, Law};
use crate::history::{Answer, Grant, Op, RequestId, What};

pub(super) struct StatelessBalancers;

impl Law for StatelessBalancers {
    fn name(&self) -> &'static str {
        "S23"
    }

    fn sentence(&self) -> &'static str {
        "A request has one effect whatever doors it went through: every grant told of it is the same."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        let mut open = BTreeMap::new();
        let mut told: BTreeMap<RequestId, (&str, &Grant)> = BTreeMap::new();
        for event in end.history {
            match &event.what {
                What::Invoke { attempt, op: Op::Acquire { request, .. }, via, .. } => {
                    open.insert(*attempt, (*request, via.as_str()));
                }
                What::Answer { attempt, answer: Answer::Granted { grant, .. } } => {
                    let Some((request, via)) = open.remove(attempt) else { continue };
                    let (door, first) = *told.entry(request).or_insert((via, grant));
                    if first != grant {
                        return Err(format!(
                            "{request} was granted {first:?} through {door} and {grant:?} through {via}"
                        ));
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }
}
