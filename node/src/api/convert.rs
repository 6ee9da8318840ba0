//! The wire's messages and the ledger's types, each way.
//!
//! Requests are parsed here, once; behind this file every value holds.

use std::time::Duration;

use ledger::command::{
    Acquire, Cancel, Ending, Grant, LeaseId, LogId, Outcome, Place, Release, Renew, Reply,
    Standing, Token,
};
use ledger::name::{HolderName, Subject};
use ledger::time::{ClusterTime, Ttl};
use license::product::{ProductName, Version};
use wire::v1;

use super::error::{self, No};
use crate::service::AsOf;

/// Longest time for which a call may be held open for a seat, in milliseconds.
pub(super) const HOLD_OPEN_MILLIS_MAX: u32 = 5_000;

/// Shortest and longest life of a bearer token, in milliseconds: 1 min, 365 days.
const TOKEN_LIFETIME_MILLIS: std::ops::RangeInclusive<i64> = 60_000..=365 * 24 * 60 * 60 * 1_000;

/// Bytes of a lease id.
const LEASE_BYTES: usize = 16;

/// An acquire, and how long its caller would have the call held open.
pub(super) fn acquire(
    request: v1::AcquireRequest,
    subject: Subject,
) -> Result<(Acquire, Duration), No> {
    if request.hold_open_ms > HOLD_OPEN_MILLIS_MAX {
        return Err(wrong(format!(
            "hold_open_ms {} is too long: a call is held open for at most {HOLD_OPEN_MILLIS_MAX} ms; ask \
             again with the same lease to keep the place",
            request.hold_open_ms
        )));
    }
    let version = match request.version.as_str() {
        "" => None,
        text => Some(Version::parse(text).map_err(name)?),
    };
    let acquire = Acquire {
        lease: lease(&request.lease)?,
        subject,
        product: product(&request.product)?,
        holder: HolderName::parse(&request.holder).map_err(name)?,
        version,
        ttl: Ttl::from_millis(request.ttl_ms).map_err(name)?,
        not_after: ClusterTime(request.not_after_ms),
        wait_until: (request.wait_until_ms != 0).then_some(ClusterTime(request.wait_until_ms)),
    };
    Ok((acquire, Duration::from_millis(u64::from(request.hold_open_ms))))
}

/// A renewal.
pub(super) fn renew(request: &v1::RenewRequest, subject: Subject) -> Result<Renew, No> {
    let (lease, token) = (lease(&request.lease)?, Token(request.token));
    Ok(Renew { lease, subject, token, hold_ended: request.hold_ended })
}

/// A release.
pub(super) fn release(request: &v1::ReleaseRequest, subject: Subject) -> Result<Release, No> {
    Ok(Release { lease: lease(&request.lease)?, subject, token: Token(request.token) })
}

/// A cancel.
pub(super) fn cancel(request: &v1::CancelRequest, subject: Subject) -> Result<Cancel, No> {
    Ok(Cancel { lease: lease(&request.lease)?, subject })
}

/// How long a bearer token lives, in milliseconds.
pub(super) fn token_lifetime(lifetime_ms: u64) -> Result<i64, No> {
    let lifetime = i64::try_from(lifetime_ms).ok();
    lifetime.filter(|millis| TOKEN_LIFETIME_MILLIS.contains(millis)).ok_or_else(|| {
        wrong(format!(
            "lifetime_ms {lifetime_ms} is out of range: a token lives from 1 minute to 365 days"
        ))
    })
}

/// A product's name.
pub(super) fn product(text: &str) -> Result<ProductName, No> {
    ProductName::parse(text).map_err(name)
}

/// What an acquire was answered; `None` if that is no answer to an acquire.
pub(super) fn acquired(reply: Reply) -> Option<v1::AcquireReply> {
    let envelope = Some(envelope(reply.log_id, reply.stamp));
    let outcome = match reply.outcome {
        Outcome::Granted(grant, standing) => {
            v1::acquire_reply::Outcome::Granted(granted(*grant, standing))
        }
        Outcome::Queued(place) => v1::acquire_reply::Outcome::Queued(queued(place)),
        _ => return None,
    };
    Some(v1::AcquireReply { envelope, outcome: Some(outcome) })
}

/// A place in history.
pub(super) fn envelope(log_id: LogId, stamp: ClusterTime) -> v1::Envelope {
    v1::Envelope {
        epoch: log_id.epoch,
        index: log_id.index,
        position: log_id.position,
        stamp_ms: stamp.0,
    }
}

/// The state a read is of.
pub(super) fn as_of(as_of: AsOf) -> Option<v1::Envelope> {
    Some(envelope(as_of.log_id, as_of.stamp))
}

/// Bytes as people compare them.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn lease(bytes: &[u8]) -> Result<LeaseId, No> {
    match <[u8; LEASE_BYTES]>::try_from(bytes) {
        Ok(bytes) => Ok(LeaseId(u128::from_be_bytes(bytes))),
        Err(_) => Err(wrong(format!(
            "lease has {} bytes: it is {LEASE_BYTES} random bytes, minted once for each seat wanted",
            bytes.len()
        ))),
    }
}

fn granted(grant: Grant, standing: Standing) -> v1::Granted {
    v1::Granted {
        token: grant.token.0,
        product: grant.product.to_string(),
        license: grant.license.to_string(),
        granted: Some(envelope(grant.log_id, grant.granted)),
        deadline_ms: grant.deadline.0,
        feature_map: grant.feature.map,
        feature_text: grant.feature.text,
        standing: Some(self::standing(standing)),
    }
}

fn standing(standing: Standing) -> v1::Standing {
    use v1::standing::State;
    let (state, deadline_ms) = match standing {
        Standing::Live { deadline } => (State::Live, deadline.0),
        Standing::Ended(Ending::Released) => (State::Released, 0),
        Standing::Ended(Ending::Expired) => (State::Expired, 0),
        Standing::Ended(Ending::Revoked) => (State::Revoked, 0),
    };
    v1::Standing { state: state.into(), deadline_ms }
}

fn queued(place: Place) -> v1::Queued {
    v1::Queued {
        position: place.position,
        length: place.length,
        wait_until_ms: place.wait_until.0,
        ask_before_ms: place.ask_before.0,
    }
}

fn name(invalid: license::product::InvalidName) -> No {
    error::invalid_name(&invalid)
}

fn wrong(message: String) -> No {
    error::invalid(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request() -> v1::AcquireRequest {
        v1::AcquireRequest {
            lease: vec![7; 16],
            product: "cad-pro".into(),
            holder: "line 7".into(),
            version: "3.1".into(),
            ttl_ms: 10_000,
            not_after_ms: 90_000,
            wait_until_ms: 0,
            hold_open_ms: 0,
        }
    }

    fn parsed(change: impl FnOnce(&mut v1::AcquireRequest)) -> Result<Acquire, String> {
        let mut request = request();
        change(&mut request);
        let subject = Subject::parse("app:line-7").expect("a subject");
        acquire(request, subject)
            .map(|(acquire, _)| acquire)
            .map_err(|no| no.status.message().to_owned())
    }

    #[test]
    fn a_request_within_its_limits_is_parsed() {
        let acquire = parsed(|_| {}).expect("it holds");
        assert_eq!(acquire.lease, LeaseId(u128::from_be_bytes([7; 16])));
        assert_eq!(acquire.version, Some(Version { major: 3, minor: 1 }));
        assert_eq!(acquire.wait_until, None);
        let waiting = parsed(|request| request.wait_until_ms = 95_000).expect("it holds");
        assert_eq!(waiting.wait_until, Some(ClusterTime(95_000)));
        assert_eq!(parsed(|request| request.version.clear()).expect("it holds").version, None);
    }

    /// The limits that licensing.proto states, each at its edge and one beyond.
    #[test]
    fn every_stated_limit_is_kept() {
        type Change = fn(&mut v1::AcquireRequest);
        let within: [Change; 7] = [
            |r| r.ttl_ms = 1_000,
            |r| r.ttl_ms = 86_400_000,
            |r| r.product = "p".repeat(64),
            |r| r.holder = "h".repeat(128),
            |r| r.holder.clear(),
            |r| r.hold_open_ms = 5_000,
            |r| r.version = "4294967295.4294967295".into(),
        ];
        for (at, change) in within.into_iter().enumerate() {
            parsed(change).unwrap_or_else(|error| panic!("change {at} is refused: {error}"));
        }
        let beyond: [(Change, &str); 13] = [
            (|r| r.ttl_ms = 999, "from 1 s to 24 h"),
            (|r| r.ttl_ms = 86_400_001, "from 1 s to 24 h"),
            (|r| r.product = "p".repeat(65), "1 to 64"),
            (|r| r.product.clear(), "1 to 64"),
            (|r| r.product = "CAD".into(), "a-z"),
            (|r| r.holder = "h".repeat(129), "128 bytes"),
            (|r| r.holder = "a\nb".into(), "control characters"),
            (|r| r.version = "three".into(), "MAJOR"),
            (|r| r.version = "1.2.3".into(), "MAJOR"),
            (|r| r.lease = vec![7; 15], "16 random bytes"),
            (|r| r.lease = vec![7; 17], "16 random bytes"),
            (|r| r.lease.clear(), "16 random bytes"),
            (|r| r.hold_open_ms = 5_001, "at most 5000 ms"),
        ];
        for (at, (change, rule)) in beyond.into_iter().enumerate() {
            let error = parsed(change).expect_err("it breaks a rule");
            assert!(error.contains(rule), "change {at}: {error:?} does not say {rule:?}");
        }
    }

    #[test]
    fn a_token_lives_from_a_minute_to_a_year() {
        let year = 365 * 24 * 60 * 60 * 1_000;
        for within in [60_000, 90_000, year] {
            assert_eq!(token_lifetime(within).ok(), i64::try_from(within).ok());
        }
        for beyond in [0, 59_999, year + 1, u64::MAX] {
            let no = token_lifetime(beyond).expect_err("it breaks the rule");
            assert!(no.status.message().contains("1 minute to 365 days"), "{beyond}");
        }
    }
}
