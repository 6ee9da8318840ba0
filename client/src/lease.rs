//! What a seat is made of: its id, its grant, its place in history or in the queue.

use std::fmt;
use std::time::Duration;

use wire::v1;

/// A request that breaks a rule; it was not sent.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct InvalidRequest {
    /// What, for example `TTL`.
    pub what: &'static str,
    /// What was given, cut to 80 characters.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl InvalidRequest {
    pub(crate) fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), rule }
    }
}

/// Names a lease, and the request for it: 128 bits, 32 hexadecimal digits as text.
///
/// Whoever knows it and is its subject may release the seat: keep it to yourself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LeaseId(pub u128);

impl LeaseId {
    pub(crate) fn to_wire(self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    /// Reads the 16 bytes of the wire.
    pub fn from_wire(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(|bytes| Self(u128::from_be_bytes(bytes)))
    }
}

impl fmt::Display for LeaseId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl std::str::FromStr for LeaseId {
    type Err = InvalidRequest;

    fn from_str(text: &str) -> Result<Self, InvalidRequest> {
        let hexadecimal = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u128::from_str_radix(text, 16) {
            Ok(id) if hexadecimal => Ok(Self(id)),
            _ => Err(InvalidRequest::new("lease id", text, "write 32 hexadecimal digits")),
        }
    }
}

/// Where in history something was decided, and at what cluster time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct LogPlace {
    /// Restore epoch, 0 until the first restore.
    pub epoch: u64,
    /// Index of the log entry.
    pub index: u64,
    /// Position in the entry's batch.
    pub position: u32,
    /// Cluster time of that entry, in milliseconds.
    pub stamp_ms: u64,
}

impl LogPlace {
    /// Reads the `log_id` and `stamp_ms` of an error's metadata.
    pub(crate) fn from_metadata(log_id: Option<&str>, stamp_ms: Option<&str>) -> Option<Self> {
        let mut parts = log_id?.split('.');
        let epoch = parts.next()?.parse().ok()?;
        let index = parts.next()?.parse().ok()?;
        let position = parts.next()?.parse().ok()?;
        let stamp_ms = stamp_ms?.parse().ok()?;
        parts.next().is_none().then_some(Self { epoch, index, position, stamp_ms })
    }
}

impl From<&v1::Envelope> for LogPlace {
    fn from(envelope: &v1::Envelope) -> Self {
        let v1::Envelope { epoch, index, position, stamp_ms } = *envelope;
        Self { epoch, index, position, stamp_ms }
    }
}

impl fmt::Display for LogPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.index, self.position)
    }
}

/// A place in a product's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// 1 is the head.
    pub position: u32,
    /// How many wait in all.
    pub length: u32,
}

/// A grant: the same in every answer to the same request id.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// The fencing token: rises for ever, one per grant. Names the seat to operators.
    pub token: u64,
    /// The product.
    pub product: String,
    /// The license it was charged to, FIRM:PRODUCT:TMR.
    pub license: String,
    /// Where in history it was granted.
    pub at: LogPlace,
    /// The first deadline, before any renewal: cluster time in milliseconds.
    pub deadline_ms: u64,
    /// What the license switches on in the application: 32 bits.
    pub feature_map: u32,
    /// What else the license tells the application.
    pub feature_text: String,
}

impl Grant {
    pub(crate) fn from_wire(lease: LeaseId, granted: &v1::Granted) -> Option<Self> {
        Some(Self {
            lease,
            token: granted.token,
            product: granted.product.clone(),
            license: granted.license.clone(),
            at: granted.granted.as_ref()?.into(),
            deadline_ms: granted.deadline_ms,
            feature_map: granted.feature_map,
            feature_text: granted.feature_text.clone(),
        })
    }
}

/// A lease that lives on: what a renewal by hand brings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Renewal {
    /// Where in history it was renewed.
    pub at: LogPlace,
    /// Until when, in cluster time in milliseconds.
    pub deadline_ms: u64,
    /// How much of it was left when the renewal was decided.
    pub lasts: Duration,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_id_reads_back_from_its_text() {
        let id = LeaseId(0x00ab_cdef);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(LeaseId::from_wire(&id.to_wire()), Some(id));
        for text in ["", "ab", "+0000000000000000000000000abcdef", "zz"] {
            assert!(text.parse::<LeaseId>().is_err(), "{text:?}");
        }
    }
}
