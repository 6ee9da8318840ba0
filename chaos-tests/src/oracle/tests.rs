//! Histories made by hand: good ones pass, and each planted violation is caught.

use std::cell::Cell;
use std::time::Duration;

use super::*;
use crate::history::{AttemptId, Grant, History, Seat};

mod random;

const TTL_MS: u64 = 10_000;
const SEATS: usize = 2;

/// Writes histories: entry `n` of the log is stamped `n` times 100 ms, and the
/// clients' clock moves on by 100 ms with every event.
struct Story {
    history: History,
}

fn place(index: u64) -> Place {
    Place { log_id: LogId { epoch: 0, index, position: 0 }, stamp_ms: index * 100 }
}

fn acquire_op(request: u128) -> Op {
    Op::Acquire {
        request: RequestId(request),
        ttl_ms: TTL_MS,
        not_after_ms: 1_000_000,
        wait_until_ms: 0,
    }
}

fn granted(token: u64, granted: u64) -> Grant {
    let granted = place(granted);
    Grant { token, granted, deadline_ms: granted.stamp_ms + TTL_MS, terms: "cad".to_owned() }
}

impl Story {
    fn new() -> Self {
        let clock = Cell::new(0);
        let clock = std::sync::Mutex::new(clock);
        Self {
            history: History::new(move || {
                let clock = clock.lock().unwrap();
                clock.set(clock.get() + 100);
                Duration::from_millis(clock.get())
            }),
        }
    }

    fn call(&self, op: Op) -> AttemptId {
        self.history.invoke("client", op)
    }

    fn say(&self, attempt: AttemptId, answer: Answer) -> &Self {
        self.history.answer(attempt, answer);
        self
    }

    /// Asks and is granted at once, at entry `index`.
    fn acquire(&self, request: u128, index: u64, token: u64) -> &Self {
        let attempt = self.call(acquire_op(request));
        self.is_granted(attempt, index, granted(token, index))
    }

    fn is_granted(&self, attempt: AttemptId, index: u64, grant: Grant) -> &Self {
        let standing = Standing::Live(grant.deadline_ms);
        self.say(attempt, Answer::Granted { at: place(index), grant, standing })
    }

    fn is_refused(&self, attempt: AttemptId, index: u64, reason: &str) -> &Self {
        self.say(attempt, Answer::Refused { at: place(index), reason: reason.to_owned() })
    }

    fn refused(&self, request: u128, index: u64) -> &Self {
        self.is_refused(self.call(acquire_op(request)), index, "NO_SEAT_FREE")
    }

    fn unheard(&self, op: Op) -> &Self {
        let attempt = self.call(op);
        self.say(attempt, Answer::Unknown { reason: "NO_ANSWER".to_owned() })
    }

    fn renew(&self, request: u128, token: u64, index: u64) -> &Self {
        let attempt = self.call(Op::Renew { request: RequestId(request), token });
        let at = place(index);
        self.say(attempt, Answer::Renewed { at, deadline_ms: at.stamp_ms + TTL_MS })
    }

    fn release_op(request: u128, token: u64) -> Op {
        Op::Release { request: RequestId(request), token }
    }

    fn release(&self, request: u128, token: u64, index: u64) -> &Self {
        let attempt = self.call(Self::release_op(request, token));
        self.say(attempt, Answer::Released { at: place(index) })
    }

    fn cancel(&self, request: u128, index: u64) -> &Self {
        let attempt = self.call(Op::Cancel { request: RequestId(request) });
        self.say(attempt, Answer::Cancelled { at: place(index) })
    }

    /// Lists seats as (token, entry of the deadline's stamp less the TTL).
    fn listing(&self, index: u64, seats: &[(u64, u64)]) -> &Self {
        let attempt = self.call(Op::Seats);
        let seat =
            |(token, since): &(u64, u64)| Seat { token: *token, until_ms: since * 100 + TTL_MS };
        let seats = seats.iter().map(seat).collect();
        self.say(attempt, Answer::Seats { at: place(index), seats })
    }

    fn verdict(&self) -> Verdict {
        check(&self.history.events(), SEATS)
    }

    #[track_caller]
    fn holds(&self) {
        let verdict = self.verdict();
        assert!(verdict.violations.is_empty(), "{:#?}", verdict.violations);
    }

    #[track_caller]
    fn breaks(&self, law: &str) {
        let verdict = self.verdict();
        assert!(
            verdict.violations.iter().any(|violation| violation.law == law),
            "{law} was not found broken: {:#?}",
            verdict.violations
        );
    }
}

#[test]
fn an_honest_day_holds() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2).refused(3, 3).renew(1, 1, 4);
    story.release(2, 2, 5).acquire(4, 6, 3).refused(5, 7).release(4, 3, 8);
    story.listing(8, &[(1, 4)]).holds();
    assert_eq!(story.verdict().figures.live_max, 2);
}

#[test]
fn a_third_grant_of_two_seats_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2).acquire(3, 3, 3).breaks("S1");
}

/// The one that a check of the clients' view alone lets pass: the release is
/// on its way when the seat is given out, and is only carried out later.
#[test]
fn a_grant_too_many_while_a_release_is_in_flight_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2);
    let release = story.call(Story::release_op(1, 1));
    story.acquire(3, 3, 3);
    story.say(release, Answer::Released { at: place(4) });
    story.breaks("S1");
}

#[test]
fn a_grant_after_a_release_in_flight_took_effect_holds() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2);
    let release = story.call(Story::release_op(1, 1));
    story.acquire(3, 4, 3);
    story.say(release, Answer::Released { at: place(3) });
    story.holds();
}

#[test]
fn a_release_without_an_answer_may_have_freed_the_seat_or_not() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2).unheard(Story::release_op(1, 1));
    story.refused(3, 3).acquire(4, 4, 3).holds();
}

#[test]
fn a_seat_given_out_before_the_lost_release_was_even_sent_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2);
    let third = story.call(acquire_op(3));
    // Decided at 3, before the answer at 4 that the release comes after.
    story.renew(1, 1, 4).unheard(Story::release_op(1, 1));
    story.is_granted(third, 3, granted(3, 3));
    story.breaks("S1");
}

#[test]
fn two_grants_for_one_request_are_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(1, 2, 2).breaks("S3");
}

#[test]
fn a_repeated_answer_with_the_same_grant_holds() {
    let story = Story::new();
    story.acquire(1, 1, 1);
    let again = story.call(acquire_op(1));
    story.is_granted(again, 5, granted(1, 1)).holds();
    assert_eq!(story.verdict().figures.repeats, 1);
}

#[test]
fn a_request_refused_and_then_granted_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2).refused(3, 3).release(1, 1, 4);
    story.acquire(3, 5, 3).breaks("S3");
}

#[test]
fn a_request_granted_after_its_cancel_is_caught() {
    let story = Story::new();
    let slow = story.call(acquire_op(1));
    story.cancel(1, 1);
    story.is_granted(slow, 2, granted(1, 2)).breaks("S3");
}

#[test]
fn a_token_given_out_twice_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).release(1, 1, 2).acquire(2, 3, 1).breaks("S5");
}

#[test]
fn a_token_that_falls_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 2).acquire(2, 2, 1).breaks("S5");
}

#[test]
fn a_lost_grant_is_caught_by_the_listing() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2).listing(3, &[(2, 2)]).breaks("S4");
}

#[test]
fn a_lost_grant_is_caught_by_its_renewal() {
    let story = Story::new();
    story.acquire(1, 1, 1);
    let renewal = story.call(Op::Renew { request: RequestId(1), token: 1 });
    story.is_refused(renewal, 2, "NO_SUCH_LEASE").breaks("S4");
}

#[test]
fn a_lost_grant_is_caught_by_the_seat_too_many() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2).acquire(3, 9, 3).breaks("S1");
}

#[test]
fn a_log_that_went_back_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).release(1, 1, 2).acquire(2, 2, 2).breaks("S17");
}

#[test]
fn an_answer_decided_before_the_call_was_made_is_caught() {
    let story = Story::new();
    story.acquire(1, 5, 1).release(1, 1, 4).breaks("S17");
}

#[test]
fn a_stale_listing_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).release(1, 1, 2).listing(1, &[(1, 1)]).breaks("S24");
}

#[test]
fn two_listings_of_the_same_state_hold() {
    let story = Story::new();
    story.acquire(1, 1, 1).listing(1, &[(1, 1)]).listing(1, &[(1, 1)]).holds();
}

#[test]
fn a_seat_that_nobody_asked_for_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 3, 3).breaks("S4");
    let story = Story::new();
    story.acquire(1, 1, 1).listing(2, &[(1, 1), (2, 2)]).breaks("S4");
}

#[test]
fn a_seat_that_an_unheard_request_asked_for_holds() {
    let story = Story::new();
    story.unheard(acquire_op(9)).acquire(1, 2, 2);
    story.refused(2, 3).listing(4, &[(1, 1), (2, 2)]).holds();
    assert_eq!(story.verdict().figures.strays, 1);
}

#[test]
fn one_unheard_request_does_not_explain_two_seats() {
    let story = Story::new();
    story.unheard(acquire_op(9)).acquire(1, 3, 3).breaks("S4");
}

#[test]
fn a_refusal_while_a_seat_is_free_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).refused(2, 2).breaks("S2");
}

#[test]
fn a_renewal_after_the_release_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1).release(1, 1, 2).renew(1, 1, 3).breaks("S7");
}

#[test]
fn a_renewal_after_the_deadline_is_caught() {
    let story = Story::new();
    // The deadline is 10,100 ms; entry 103 is stamped 10,300 ms.
    story.acquire(1, 1, 1).renew(1, 1, 103).breaks("S7");
}

#[test]
fn a_renewal_that_shortens_is_caught() {
    let story = Story::new();
    story.acquire(1, 10, 1);
    let renewal = story.call(Op::Renew { request: RequestId(1), token: 1 });
    story.say(renewal, Answer::Renewed { at: place(20), deadline_ms: 9_000 }).breaks("S7");
}

#[test]
fn an_expiry_before_the_deadline_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1);
    let again = story.call(acquire_op(1));
    let (at, grant) = (place(50), granted(1, 1));
    story.say(again, Answer::Granted { at, grant, standing: Standing::Expired }).breaks("S8");
}

#[test]
fn a_release_that_nobody_asked_for_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 1);
    let again = story.call(acquire_op(1));
    let (at, grant) = (place(50), granted(1, 1));
    story.say(again, Answer::Granted { at, grant, standing: Standing::Released }).breaks("S6");
}

#[test]
fn an_old_token_that_frees_a_new_seat_is_caught() {
    let story = Story::new();
    story.acquire(1, 1, 7).release(1, 3, 2).breaks("S6");
}

#[test]
fn cluster_time_that_goes_back_is_caught() {
    let story = Story::new();
    story.acquire(1, 5, 1);
    let attempt = story.call(acquire_op(2));
    let early = Place { log_id: LogId { epoch: 0, index: 6, position: 0 }, stamp_ms: 400 };
    let grant = Grant {
        token: 2,
        granted: early,
        deadline_ms: early.stamp_ms + TTL_MS,
        terms: "cad".to_owned(),
    };
    let standing = Standing::Live(grant.deadline_ms);
    story.say(attempt, Answer::Granted { at: early, grant, standing }).breaks("S14");
}

#[test]
fn cluster_time_that_outruns_true_time_is_caught() {
    let story = Story::new();
    // Two calls, 400 ms of true time, eight seconds of cluster time.
    story.acquire(1, 1, 1).renew(1, 1, 81).breaks("S15");
}

#[test]
fn a_grant_after_the_request_expired_is_caught() {
    let story = Story::new();
    let attempt = story.call(Op::Acquire {
        request: RequestId(1),
        ttl_ms: TTL_MS,
        not_after_ms: 300,
        wait_until_ms: 0,
    });
    story.is_granted(attempt, 4, granted(1, 4)).breaks("S10");
}

#[test]
fn expired_seats_make_room() {
    let story = Story::new();
    story.acquire(1, 1, 1).acquire(2, 2, 2);
    // Let true time pass, so that cluster time may.
    (0..120).for_each(|_| story.history.note("a pause"));
    story.acquire(3, 101, 3).acquire(4, 103, 4).listing(103, &[(3, 101), (4, 103)]).holds();
}
