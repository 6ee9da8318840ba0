//! What can be wrong with a history.

use crate::codec::CodecError;
use crate::command::LogId;
use crate::usage::{Page, Record};

/// What is wrong with a history, and with which page or record.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The bytes are not a page.
    #[error("page {number}: {source}")]
    Undecodable {
        /// Where it should be.
        number: u64,
        /// Why not.
        source: CodecError,
    },
    /// A page is missing, twice there, or in another's place.
    #[error("page {expected} is missing: page {found} is in its place")]
    Order {
        /// What should follow.
        expected: u64,
        /// What follows.
        found: u64,
    },
    /// A page was altered: the one after it, or the ledger, knows another hash.
    #[error("page {number} was altered: it is not the page that {witness} names before it")]
    Altered {
        /// The page.
        number: u64,
        /// Who says so.
        witness: String,
    },
    /// The history ends early or late.
    #[error("the history ends before page {found} and the ledger has {pages} pages")]
    Length {
        /// Pages found.
        found: u64,
        /// Pages there should be.
        pages: u64,
    },
    /// A record contradicts those before it.
    #[error("record {record} (log id {log_id}, page {page}): {what}")]
    Record {
        /// Its number.
        record: u64,
        /// Its log id.
        log_id: LogId,
        /// Its page.
        page: u64,
        /// What is wrong.
        what: String,
    },
    /// The records do not come to the seats that live now.
    #[error("the records do not come to the ledger's live seats: {what}")]
    Outcome {
        /// What differs.
        what: String,
    },
}

impl Fault {
    /// A record contradicts those before it, in this way.
    pub(super) fn of(page: &Page, record: &Record, number: u64, what: String) -> Self {
        Self::Record { record: number, log_id: page.log_id(record), page: page.number, what }
    }
}
