//! What has happened so far, counted in the ledger so that S2 can be checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::reason::Reason;

/// Totals since genesis. `granted = released + expired + revoked + live`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counters {
    /// Seats granted, at once or from a queue.
    pub granted: u64,
    /// Seats their holders gave back.
    pub released: u64,
    /// Seats whose deadline passed.
    pub expired: u64,
    /// Seats that ended after an operator revoked them.
    pub revoked: u64,
    /// Renewals.
    pub renewed: u64,
    /// Requests that took a place in a queue.
    pub queued: u64,
    /// Refusals by reason. A stale stamp has no effect, so it is not counted.
    pub refused: BTreeMap<Reason, u64>,
}
