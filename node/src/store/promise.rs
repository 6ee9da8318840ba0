//! What a node has promised by acknowledging, and when its disk no longer keeps it (S21).
//!
//! A vote and the entries of a term go to the disk through one queue
//! ([`super::log`]) and are acknowledged only when they are durable. So what a
//! disk has promised is one point on a line: the term of its vote, and within
//! that term the last entry *of that term* it holds. Both only rise:
//!
//! - A vote never goes back to an earlier term.
//! - Entries of term T are written only under a vote of T, in order, and within
//!   T nobody cuts them off again: T has one leader, whose own log only grows.
//!
//! Entries of earlier terms are left out on purpose. A leader may have them cut
//! off, so a shorter log is no sign of loss; and they need no place here, because
//! whoever acknowledged them promised them in their own term, and a vote of a
//! later term is proof of everything the disk was given before it.
//!
//! So a peer's memory of a node is the highest point it ever saw acknowledged,
//! and a disk that is behind that point has lost something: it was emptied,
//! replaced by an older copy, or says that it synced when it did not. A disk
//! that only lost what nobody saw acknowledged is never behind it, so a crash
//! raises no alarm. `node/tests/store/promise.rs` holds both directions against
//! random histories.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::raft::LogId;

/// How far a node has promised. Ordered: more is greater.
#[derive(
    Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub struct Promise {
    /// The term it has voted in or followed a leader of; 0 before the first.
    pub term: u64,
    /// The index of the last entry of that very term it holds.
    pub held: Option<u64>,
}

impl Promise {
    /// A vote of `term`, and a durable log that reached `last`.
    pub fn new(term: u64, last: Option<LogId>) -> Self {
        let held = last.filter(|last| last.leader_id.term == term).map(|last| last.index);
        Self { term, held }
    }

    /// Whether there is none.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.held {
            _ if self.is_none() => f.write_str("nothing"),
            None => write!(f, "a vote of term {}", self.term),
            Some(index) => write!(f, "term {} through log entry {index}", self.term),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::raft::log_id;

    #[test]
    fn a_later_vote_outweighs_any_entry_and_an_entry_of_the_term_its_vote() {
        let line = [
            Promise::default(),
            Promise::new(3, None),
            Promise::new(3, Some(log_id(3, 7))),
            Promise::new(3, Some(log_id(3, 8))),
            Promise::new(4, Some(log_id(3, 8))),
            Promise::new(4, Some(log_id(4, 6))),
        ];
        assert!(line.is_sorted_by(|earlier, later| earlier < later), "{line:?}");
    }

    #[test]
    fn entries_of_an_earlier_term_are_no_promise_of_this_one() {
        assert_eq!(Promise::new(4, Some(log_id(3, 8))), Promise { term: 4, held: None });
    }
}
