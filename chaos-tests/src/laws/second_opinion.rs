//! The second, independent check of the same history.

use super::{End, Held, Law};
use crate::linear::Opinion;

pub(super) struct SecondOpinion;

impl Law for SecondOpinion {
    fn name(&self) -> &'static str {
        "LIN"
    }

    fn sentence(&self) -> &'static str {
        "The calls on the pool have an order that agrees with real time and with every answer; the log-order check alone is not believed."
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        match end.opinion {
            Opinion::Ordered | Opinion::Open { .. } => Ok(()),
            Opinion::None { at_us, what } => {
                let first = match end.verdict.violations.first() {
                    Some(violation) => format!("the log-order check says {}", violation.law),
                    None => "the log-order check disagrees".to_owned(),
                };
                Err(format!("nothing explains, {:.3} s in: {what}; {first}", *at_us as f64 / 1e6))
            }
        }
    }
}
