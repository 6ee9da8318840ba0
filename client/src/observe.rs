//! Watching the calls go by: every attempt and every answer, with envelope.
//!
//! Tests and demonstrations record histories here and check them afterwards.

use wire::v1;

use crate::clock::Moment;
use crate::endpoints::Endpoint;
use crate::error::Failure;

/// One call, as it goes on the wire. A re-send repeats it.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the request of that name in licensing.proto")]
pub enum Call {
    Clock(v1::ClockRequest),
    Acquire(v1::AcquireRequest),
    Renew(v1::RenewRequest),
    Release(v1::ReleaseRequest),
    Cancel(v1::CancelRequest),
}

/// One successful answer, as it came off the wire.
#[derive(Debug, Clone, PartialEq)]
#[expect(missing_docs, reason = "each is the reply of that name in licensing.proto")]
pub enum Reply {
    Clock(v1::ClockReply),
    Acquire(v1::AcquireReply),
    Renew(v1::RenewReply),
    Release(v1::ReleaseReply),
    Cancel(v1::CancelReply),
}

impl Reply {
    /// Where in history the answer was decided; a clock reading has no place.
    pub fn envelope(&self) -> Option<&v1::Envelope> {
        match self {
            Self::Clock(_) => None,
            Self::Acquire(reply) => reply.envelope.as_ref(),
            Self::Renew(reply) => reply.envelope.as_ref(),
            Self::Release(reply) => reply.envelope.as_ref(),
            Self::Cancel(reply) => reply.envelope.as_ref(),
        }
    }
}

/// One sending of a call.
#[derive(Debug, Clone, PartialEq)]
pub struct Attempt {
    /// Unique within the client, rising.
    pub number: u64,
    /// Where to.
    pub endpoint: Endpoint,
    /// What.
    pub call: Call,
    /// When, on the client's clock: before anything was sent.
    pub sent: Moment,
}

/// Hears of every attempt and every answer. Does nothing unless told otherwise.
///
/// Called in the calling task: be quick. An attempt that is never answered was
/// given up half way (its future was dropped): its outcome is unknown.
pub trait Observer: Send + Sync + 'static {
    /// About to send.
    fn sent(&self, attempt: &Attempt) {
        let _ = attempt;
    }

    /// Answered, or given up, at `now`.
    fn answered(&self, attempt: &Attempt, answer: Result<&Reply, &Failure>, now: Moment) {
        let _ = (attempt, answer, now);
    }
}

/// Hears and says nothing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Unobserved;

impl Observer for Unobserved {}
