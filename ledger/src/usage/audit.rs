//! An auditor: re-checks a history from its pages alone.
//!
//! Shares no code with the ledger's pools, on purpose: it counts seats its own
//! way, from what the records say, and finds what the ledger would have to
//! have done wrong, or somebody to the records since. `reading.rs` checks the
//! chain, and that log ids and times rise; `seats.rs` that every seat that ends
//! was granted, and that no grant made more seats than were licensed. Above a
//! count that was lowered a pool only drains (S12), which is lawful.
//!
//! A history whose beginning is no longer kept begins with seats that were
//! granted before. [`Survey`] finds them in a first reading; [`Auditor`] does
//! the second.

mod fault;
mod reading;
mod seats;
mod survey;

use std::collections::BTreeMap;

use license::product::{ClusterId, LicenseId, ProductName};
use serde::{Deserialize, Serialize};

use super::Held;
use crate::codec::{self, CodecError};
use crate::command::{LogId, Token};
use crate::name::Subject;
use crate::time::ClusterTime;

pub use self::fault::Fault;
pub use self::reading::Auditor;
pub use self::seats::{Peak, Report};
pub use self::survey::Survey;

/// What somebody who knows the ledger says the history must come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where in history this was told.
    pub log_id: LogId,
    /// Cluster time then.
    pub time: ClusterTime,
    /// The first page that is kept.
    pub first: u64,
    /// What it names as the page before it.
    pub previous: [u8; 32],
    /// Pages there are: the number after the last.
    pub pages: u64,
    /// Hash of the last.
    pub head: [u8; 32],
    /// The seats that live at the end.
    pub live: BTreeMap<Token, Charged>,
}

impl Ends {
    /// The head of a file of pages.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_ends(self)
    }

    /// Reads the head of a file of pages, strictly.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_ends(bytes)
    }
}

/// Whose a seat is, and what it is charged to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// The product.
    pub product: ProductName,
    /// The license.
    pub license: LicenseId,
    /// The station.
    pub subject: Subject,
}

impl From<&Held> for Charged {
    fn from(held: &Held) -> Self {
        let Held { product, license, subject, .. } = held.clone();
        Self { product, license, subject }
    }
}
