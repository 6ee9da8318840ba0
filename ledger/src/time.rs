//! Cluster time: milliseconds the cluster has had a leader.
//!
//! Time is an argument everywhere in this crate; only the service of the
//! leading node reads a clock (ARCHITECTURE.md, Time).

use std::fmt;

use license::product::InvalidName;
use serde::{Deserialize, Serialize};

/// Milliseconds the cluster has had a leader. Never decreases (S14).
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct ClusterTime(pub u64);

impl ClusterTime {
    /// This time moved on by `millis`, saturating.
    pub fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to here; 0 when `earlier` is later.
    pub fn millis_since(self, earlier: Self) -> u64 {
        self.0.saturating_sub(earlier.0)
    }
}

impl fmt::Display for ClusterTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}s", self.0 / 1000, self.0 % 1000)
    }
}

/// A number of milliseconds, as people read it: `400d 2h`, `1h 30m`, `2s 500ms`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span(pub u64);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 5] =
            [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];
        // Below the unit that matters is noise: no milliseconds beside minutes.
        let mut left = match self.0 {
            0 => return f.write_str("0s"),
            1..60_000 => self.0,
            _ => self.0 / 1_000 * 1_000,
        };
        let mut gap = "";
        for (unit, length) in UNITS {
            if left >= length {
                write!(f, "{gap}{}{unit}", left / length)?;
                left %= length;
                gap = " ";
            }
        }
        Ok(())
    }
}

/// When and in whose term a batch was made, and whether its leader grants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stamp {
    /// The leader's cluster time. Apply takes the maximum.
    pub time: ClusterTime,
    /// The leader's term. A batch whose entry has another has no effect (S16).
    pub term: u64,
    /// The leader grants nothing, because it may not be the one to do so (S18,
    /// S21). It proposes no acquire then; and no seat that comes free in this
    /// entry goes to who waits.
    pub withheld: bool,
}

/// How long a lease lives without renewal: 1 s to 24 h.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct Ttl(u64);

impl Ttl {
    /// Shortest, in milliseconds.
    pub const MILLIS_MIN: u64 = 1_000;
    /// Longest, in milliseconds.
    pub const MILLIS_MAX: u64 = 24 * 60 * 60 * 1_000;

    /// A TTL of `millis` milliseconds.
    pub fn from_millis(millis: u64) -> Result<Self, InvalidName> {
        if (Self::MILLIS_MIN..=Self::MILLIS_MAX).contains(&millis) {
            return Ok(Self(millis));
        }
        Err(InvalidName::new("TTL", &format!("{millis} ms"), "from 1 s to 24 h"))
    }

    /// In milliseconds.
    pub fn millis(self) -> u64 {
        self.0
    }
}

impl TryFrom<u64> for Ttl {
    type Error = InvalidName;
    fn try_from(millis: u64) -> Result<Self, InvalidName> {
        Self::from_millis(millis)
    }
}

impl From<Ttl> for u64 {
    fn from(ttl: Ttl) -> Self {
        ttl.0
    }
}
