//! Writes down what a real client sends and hears, as the [`History`] wants it.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use trine_client::clock::Moment;
use trine_client::observe::{Attempt, Call, Observer, Reply};
use trine_client::{Failure, LogPlace, Outcome};
use wire::v1::{self, acquire_reply, standing};

use crate::history::{
    Answer, AttemptId, Grant, History, LogId, Op, Place, RequestId, Seat, Standing,
};

/// Records one client's calls.
pub struct Recorder {
    history: Arc<History>,
    client: String,
    /// The calls on their way, by the client's own number.
    open: Mutex<BTreeMap<u64, AttemptId>>,
}

impl Recorder {
    /// Records into `history` under this name.
    pub fn new(history: Arc<History>, client: String) -> Self {
        Self { history, client, open: Mutex::default() }
    }
}

impl Observer for Recorder {
    fn sent(&self, attempt: &Attempt) {
        let Some(op) = op(&attempt.call) else { return };
        let recorded = self.history.invoke_via(&self.client, attempt.endpoint.host(), op);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.insert(attempt.number, recorded);
    }

    fn answered(&self, attempt: &Attempt, answer: Result<&Reply, &Failure>, _now: Moment) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(recorded) = open.remove(&attempt.number) else { return };
        drop(open);
        let answer = match answer {
            Ok(reply) => understood(reply),
            Err(failure) => failed(failure),
        };
        self.history.answer(recorded, answer);
    }
}

/// A listing of all seats, as the history wants it.
pub fn listed(reply: &v1::SeatsReply) -> Answer {
    let Some(at) = reply.as_of.as_ref().map(place) else { return nonsense() };
    let seat = |seat: &v1::Seat| Seat { token: seat.seat, until_ms: seat.until_ms };
    Answer::Seats { at, seats: reply.seats.iter().map(seat).collect() }
}

/// A listing that did not come. It is a read: it cannot have changed anything.
pub fn not_listed(failure: &Failure) -> Answer {
    Answer::NotDone { reason: failure.reason.to_string() }
}

/// A reading of the clock is not part of the history.
fn op(call: &Call) -> Option<Op> {
    Some(match call {
        Call::Clock(_) => return None,
        Call::Acquire(request) => Op::Acquire {
            request: id(&request.lease),
            ttl_ms: request.ttl_ms,
            not_after_ms: request.not_after_ms,
            wait_until_ms: request.wait_until_ms,
        },
        Call::Renew(request) => Op::Renew { request: id(&request.lease), token: request.token },
        Call::Release(request) => Op::Release { request: id(&request.lease), token: request.token },
        Call::Cancel(request) => Op::Cancel { request: id(&request.lease) },
    })
}

fn understood(reply: &Reply) -> Answer {
    let Some(at) = reply.envelope().map(place) else { return nonsense() };
    match reply {
        Reply::Clock(_) => nonsense(),
        Reply::Acquire(reply) => match &reply.outcome {
            Some(acquire_reply::Outcome::Granted(granted)) => self::granted(at, granted),
            Some(acquire_reply::Outcome::Queued(_)) => Answer::Queued { at },
            None => nonsense(),
        },
        Reply::Renew(reply) => Answer::Renewed { at, deadline_ms: reply.deadline_ms },
        Reply::Release(_) => Answer::Released { at },
        Reply::Cancel(_) => Answer::Cancelled { at },
    }
}

fn granted(at: Place, told: &v1::Granted) -> Answer {
    let (Some(granted), Some(standing)) = (&told.granted, &told.standing) else {
        return nonsense();
    };
    let standing = match standing.state() {
        standing::State::Live => Standing::Live(standing.deadline_ms),
        standing::State::Released => Standing::Released,
        standing::State::Expired => Standing::Expired,
        standing::State::Revoked | standing::State::Unspecified => return nonsense(),
    };
    let terms =
        format!("{} {} {:08x} {}", told.product, told.license, told.feature_map, told.feature_text);
    let grant =
        Grant { token: told.token, granted: place(granted), deadline_ms: told.deadline_ms, terms };
    Answer::Granted { at, grant, standing }
}

fn failed(failure: &Failure) -> Answer {
    let reason = failure.reason.to_string();
    match (failure.outcome, failure.at) {
        (Outcome::Refused, Some(at)) => Answer::Refused { at: place_of(at), reason },
        // Decided, but it does not say where: the least that is known for certain.
        (Outcome::Refused, None) | (Outcome::NotDone, _) => Answer::NotDone { reason },
        (Outcome::Unknown, _) => Answer::Unknown { reason },
    }
}

/// Nobody in these tests revokes, and every reply has its envelope.
fn nonsense() -> Answer {
    Answer::Unknown { reason: "an answer that makes no sense".to_owned() }
}

fn place(envelope: &v1::Envelope) -> Place {
    place_of(envelope.into())
}

fn place_of(place: LogPlace) -> Place {
    let LogPlace { epoch, index, position, stamp_ms } = place;
    Place { log_id: LogId { epoch, index, position }, stamp_ms }
}

fn id(bytes: &[u8]) -> RequestId {
    RequestId(bytes.iter().fold(0, |id, byte| id << 8 | u128::from(*byte)))
}
