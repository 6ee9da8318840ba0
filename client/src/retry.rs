//! Whether, when and where to ask again. Pure: an answer goes in, a decision
//! comes out. Whatever it is, the request goes out with the same id and body.

use std::time::Duration;

use crate::error::{CallError, Failure, Outcome, Reason};

/// The first pause; doubles with each further failure.
const PAUSE_MIN: Duration = Duration::from_millis(25);
/// The longest pause. Failover takes about a second, so asking less often than
/// this would be felt.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a server that is not trusted, or does not trust us, is met before
/// the client believes that it is meant.
const MISTRUST_MAX: u32 = 3;

/// What to do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// Asking again would bring the same answer.
    Stop,
    /// Ask the same server after this pause.
    Again(Duration),
    /// Ask another server after this pause, or the same over a new connection:
    /// behind a balancer that may be another server too.
    Elsewhere(Duration),
}

/// Decides after the `failures`th failure in a row (counted from 0), with
/// `jitter` from the handed-in randomness.
pub fn after(failure: &Failure, failures: u32, jitter: u64) -> Next {
    let pause = pause(failures, jitter);
    let soon = if failures == 0 { Duration::ZERO } else { pause };
    match (failure.outcome, failure.reason) {
        (
            _,
            Reason::TermUnsigned
            | Reason::EpochsUnknown
            // A leader says these, so nobody else knows better, and a node without
            // a quorum would only hide the reason.
            | Reason::LedgersDiffer
            | Reason::EpochsDiffer
            | Reason::Overloaded
            | Reason::HistoryIncomplete,
        ) => Next::Again(pause),
        (_, Reason::LeaderChanged) => Next::Again(soon),
        (Outcome::Refused, _) => Next::Stop,
        (Outcome::Unknown, _) => Next::Elsewhere(soon),
        (Outcome::NotDone, reason) => match reason {
            Reason::NotLeader | Reason::Draining => Next::Elsewhere(soon),
            Reason::NoQuorum | Reason::Unreachable | Reason::NotFormed => Next::Elsewhere(pause),
            Reason::Untrusted | Reason::CertificateRefused if failures < MISTRUST_MAX => {
                Next::Elsewhere(pause)
            }
            // Over a new connection, which shows what the files hold now: the
            // identity may have been renewed since this one was made.
            Reason::NoIdentity | Reason::CertificateRevoked if failures == 0 => {
                Next::Elsewhere(Duration::ZERO)
            }
            Reason::Other => Next::Elsewhere(pause),
            _ => Next::Stop,
        },
    }
}

/// What all the tries of one call together came to: the `last` failure, and
/// whether some earlier try left a doubt.
///
/// The ledger's word settles every doubt, because it knows the id; that a later
/// try was not done says nothing of an earlier one.
pub(crate) fn verdict(last: Failure, doubt: bool) -> CallError {
    match last.outcome {
        Outcome::Refused if !(doubt && leaves_id_open(last.reason)) => CallError::Refused(last),
        Outcome::NotDone if !doubt => CallError::NotDone(last),
        _ => CallError::Unknown(last),
    }
}

/// Which of two failures in a row the caller is told of in the end. A node that
/// says that there is no quorum knows more than another's silence does.
pub(crate) fn most_telling(before: Option<Failure>, last: Failure) -> Failure {
    let is_silent =
        matches!(last.reason, Reason::Unreachable | Reason::NoAnswer | Reason::ConnectionLost);
    match before {
        Some(before) if is_silent && before.reason == Reason::NoQuorum => before,
        _ => last,
    }
}

/// Whether the ledger refuses for this reason without settling what becomes of
/// the id: an earlier copy that is still on its way may yet take a seat.
pub(crate) fn leaves_id_open(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::TermUnsigned
            | Reason::LeaderChanged
            | Reason::TooFarAhead
            | Reason::LedgerFull
            | Reason::NotFormed
    )
}

/// A pause after `failures` failures: between half and the whole of a span that
/// doubles up to its limit.
pub fn pause(failures: u32, jitter: u64) -> Duration {
    let span = PAUSE_MIN.saturating_mul(1 << failures.min(16)).min(PAUSE_MAX);
    let half = span / 2;
    let spread = u64::try_from(half.as_micros()).unwrap_or(u64::MAX).max(1);
    half + Duration::from_micros(jitter % spread)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn next(outcome: Outcome, reason: Reason, failures: u32) -> Next {
        after(&Failure::new(outcome, reason, ""), failures, 0)
    }

    #[test]
    fn a_refusal_is_final() {
        for reason in [Reason::NoSeatFree, Reason::SharesMissing, Reason::IdReused, Reason::Other] {
            assert_eq!(next(Outcome::Refused, reason, 0), Next::Stop, "{reason}");
        }
    }

    #[test]
    fn a_matter_of_a_moment_is_asked_of_the_same_server() {
        assert!(matches!(next(Outcome::Refused, Reason::TermUnsigned, 0), Next::Again(_)));
        assert!(matches!(next(Outcome::NotDone, Reason::Overloaded, 0), Next::Again(_)));
        assert_eq!(next(Outcome::Refused, Reason::LeaderChanged, 0), Next::Again(Duration::ZERO));
    }

    #[test]
    fn a_cluster_that_grants_nothing_for_now_is_asked_until_it_does() {
        for reason in [Reason::EpochsUnknown, Reason::LedgersDiffer, Reason::EpochsDiffer] {
            let next = next(Outcome::NotDone, reason, 1_000);
            assert!(matches!(next, Next::Again(_)), "{reason}");
        }
        assert!(matches!(next(Outcome::NotDone, Reason::NoQuorum, 1_000), Next::Elsewhere(_)));
    }

    #[test]
    fn doubt_goes_elsewhere_at_once_and_then_with_pauses() {
        assert_eq!(next(Outcome::Unknown, Reason::NoAnswer, 0), Next::Elsewhere(Duration::ZERO));
        assert!(matches!(
            next(Outcome::Unknown, Reason::NoAnswer, 1),
            Next::Elsewhere(pause) if pause > Duration::ZERO
        ));
    }

    #[test]
    fn a_word_about_the_quorum_outlasts_the_silence_of_others() {
        let failure = |reason| Failure::new(Outcome::NotDone, reason, "");
        let said = |before: Option<Reason>, last| most_telling(before.map(failure), failure(last));
        let silences = [Reason::Unreachable, Reason::NoAnswer, Reason::ConnectionLost];
        for silence in silences {
            assert_eq!(said(Some(Reason::NoQuorum), silence).reason, Reason::NoQuorum);
            assert_eq!(said(Some(Reason::NotLeader), silence).reason, silence);
            assert_eq!(said(None, silence).reason, silence);
        }
        assert_eq!(said(Some(Reason::NoQuorum), Reason::NotFormed).reason, Reason::NotFormed);
    }

    #[test]
    fn wrong_credentials_stop_the_asking() {
        assert_eq!(next(Outcome::NotDone, Reason::WrongRole, 0), Next::Stop);
        assert!(matches!(next(Outcome::NotDone, Reason::NoIdentity, 0), Next::Elsewhere(_)));
        assert_eq!(next(Outcome::NotDone, Reason::NoIdentity, 1), Next::Stop);
        for reason in [Reason::Untrusted, Reason::CertificateRefused] {
            assert!(matches!(next(Outcome::NotDone, reason, 0), Next::Elsewhere(_)));
            assert_eq!(next(Outcome::NotDone, reason, MISTRUST_MAX), Next::Stop);
        }
    }

    #[test]
    fn a_refusal_settles_a_doubt_only_if_the_ledger_remembers_it() {
        let said = |outcome, reason, doubt| verdict(Failure::new(outcome, reason, ""), doubt);
        for reason in
            [Reason::TermUnsigned, Reason::TooFarAhead, Reason::LedgerFull, Reason::NotFormed]
        {
            let refused = said(Outcome::Refused, reason, false);
            assert!(matches!(refused, CallError::Refused(_)), "{reason}");
            let open = said(Outcome::Refused, reason, true);
            assert!(matches!(open, CallError::Unknown(_)), "{reason}");
        }
        // After a too-late every copy is too late: cluster time turns back by a restore alone.
        for reason in [Reason::NoSeatFree, Reason::TooLate, Reason::Withdrawn] {
            let settled = said(Outcome::Refused, reason, true);
            assert!(matches!(settled, CallError::Refused(_)), "{reason}");
        }
        let not_done = said(Outcome::NotDone, Reason::NoQuorum, true);
        assert!(matches!(not_done, CallError::Unknown(_)));
    }

    proptest! {
        #[test]
        fn a_pause_is_never_too_long_and_never_nothing(failures: u32, jitter: u64) {
            let pause = pause(failures, jitter);
            prop_assert!(pause >= PAUSE_MIN / 2 && pause <= PAUSE_MAX);
        }
    }
}
