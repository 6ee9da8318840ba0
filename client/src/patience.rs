//! How long a call is asked again, and what it bears with meanwhile.

use std::time::Duration;

use crate::clock::Moment;
use crate::error::{Failure, Reason};

/// How long to go on asking. Bears with everything unless told otherwise.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Patience {
    until: Moment,
    fail_fast: bool,
    repeat: bool,
}

impl Patience {
    /// Goes on until then.
    pub(crate) fn until(until: Moment) -> Self {
        Self { until, fail_fast: false, repeat: true }
    }

    /// Whether to give up when the cluster first says that it grants nothing to anybody.
    pub(crate) fn fail_fast(self, fail_fast: bool) -> Self {
        Self { fail_fast, ..self }
    }

    /// Never sends again what may have been done.
    pub(crate) fn without_repeats(self) -> Self {
        Self { repeat: false, ..self }
    }

    /// The same until another end.
    pub(crate) fn extended(self, until: Moment) -> Self {
        Self { until, ..self }
    }

    /// When it ends.
    pub(crate) fn end(self) -> Moment {
        self.until
    }

    /// What is left of it.
    pub(crate) fn left(self, now: Moment) -> Duration {
        self.until.since(now)
    }

    /// Whether to ask again at `next`, after this failure; `doubt` says that
    /// some try may have been carried out.
    pub(crate) fn bears(self, failure: &Failure, doubt: bool, next: Moment) -> bool {
        let grants_nothing = matches!(
            failure.reason,
            Reason::NoQuorum | Reason::LedgersDiffer | Reason::EpochsDiffer
        );
        let hopeless = self.fail_fast && grants_nothing;
        let barred = doubt && !self.repeat;
        !hopeless && !barred && next < self.until
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Outcome;

    const END: Moment = Moment(Duration::from_secs(10));
    const BEFORE: Moment = Moment(Duration::from_secs(9));

    #[test]
    fn patience_ends_with_its_time_with_haste_or_with_a_doubt_that_must_not_be_repeated() {
        let failure = Failure::new(Outcome::NotDone, Reason::NoQuorum, "");
        let patience = Patience::until(END);
        assert!(patience.bears(&failure, true, BEFORE));
        assert!(!patience.bears(&failure, false, END));
        assert!(!patience.fail_fast(true).bears(&failure, false, BEFORE));
        assert!(patience.without_repeats().bears(&failure, false, BEFORE));
        assert!(!patience.without_repeats().bears(&failure, true, BEFORE));
    }
}
