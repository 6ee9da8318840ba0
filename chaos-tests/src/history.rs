//! What the clients did and what they were told, in the order in which it happened.
//!
//! Every call that leaves a client is an *attempt*: it is invoked, and later
//! answered, or never. Attempts of the same request share its id. The history
//! is all that the oracle sees; nothing in it comes from a node's insides.

use std::fmt;
use std::io::{self, BufRead, Write};
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

/// The place of one command in the log: epoch, entry, position in the entry's batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LogId {
    /// Restore epoch.
    pub epoch: u64,
    /// Index of the entry.
    pub index: u64,
    /// Position in the entry's batch.
    pub position: u32,
}

impl LogId {
    /// Before everything.
    pub const ZERO: Self = Self { epoch: 0, index: 0, position: 0 };

    /// The end of this log id's entry: what a read of the applied state includes.
    pub fn end_of_entry(self) -> Self {
        Self { position: u32::MAX, ..self }
    }

    /// Whether both are in the same entry.
    pub fn same_entry(self, other: Self) -> bool {
        (self.epoch, self.index) == (other.epoch, other.index)
    }
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.index, self.position)
    }
}

/// Where and when an answer was decided, as its envelope says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// Where in the log.
    #[serde(flatten)]
    pub log_id: LogId,
    /// Cluster time there, in milliseconds.
    pub stamp_ms: u64,
}

/// Names a request, and the lease it makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RequestId(pub u128);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl From<RequestId> for String {
    fn from(id: RequestId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for RequestId {
    type Error = std::num::ParseIntError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        u128::from_str_radix(&text, 16).map(Self)
    }
}

/// One call of one client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AttemptId(pub u64);

/// What a client asks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "op")]
pub enum Op {
    /// Take a seat.
    Acquire {
        /// The request.
        request: RequestId,
        /// How long the lease lives without renewal, in milliseconds.
        ttl_ms: u64,
        /// Cluster time after which it must not be granted, in milliseconds.
        not_after_ms: u64,
        /// Cluster time until which it waits in the queue, in milliseconds; 0 for not at all.
        wait_until_ms: u64,
    },
    /// Move the deadline on.
    Renew {
        /// The lease.
        request: RequestId,
        /// Its token.
        token: u64,
    },
    /// Give the seat back.
    Release {
        /// The lease.
        request: RequestId,
        /// Its token.
        token: u64,
    },
    /// Withdraw the request.
    Cancel {
        /// The request.
        request: RequestId,
    },
    /// List the seats.
    Seats,
}

impl Op {
    /// The request it is about.
    pub fn request(&self) -> Option<RequestId> {
        match self {
            Self::Acquire { request, .. }
            | Self::Renew { request, .. }
            | Self::Release { request, .. }
            | Self::Cancel { request } => Some(*request),
            Self::Seats => None,
        }
    }
}

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "answer")]
pub enum Answer {
    /// The seat is, or was, the caller's.
    Granted {
        /// The answering entry.
        at: Place,
        /// What was granted.
        grant: Grant,
        /// How the lease stands.
        standing: Standing,
    },
    /// The request waits.
    Queued {
        /// The answering entry.
        at: Place,
    },
    /// The lease lives on.
    Renewed {
        /// The answering entry.
        at: Place,
        /// Its deadline, in milliseconds of cluster time.
        deadline_ms: u64,
    },
    /// The seat is free.
    Released {
        /// The answering entry.
        at: Place,
    },
    /// The request holds nothing and will take nothing.
    Cancelled {
        /// The answering entry.
        at: Place,
    },
    /// Everything that is held.
    Seats {
        /// The last entry that this includes.
        at: Place,
        /// The seats.
        seats: Vec<Seat>,
    },
    /// Definitely not done, by decision of the ledger.
    Refused {
        /// The answering entry.
        at: Place,
        /// Why, as on the wire: `NO_SEAT_FREE`.
        reason: String,
    },
    /// Definitely not done: it never reached the ledger.
    NotDone {
        /// Why.
        reason: String,
    },
    /// It may or may not have been done.
    Unknown {
        /// What is known.
        reason: String,
    },
}

impl Answer {
    /// Where in the log it was decided, if it was.
    pub fn place(&self) -> Option<Place> {
        match self {
            Self::Granted { at, .. }
            | Self::Queued { at }
            | Self::Renewed { at, .. }
            | Self::Released { at }
            | Self::Cancelled { at }
            | Self::Seats { at, .. }
            | Self::Refused { at, .. } => Some(*at),
            Self::NotDone { .. } | Self::Unknown { .. } => None,
        }
    }
}

/// A grant; the same in every answer to the same request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The fencing token.
    pub token: u64,
    /// Where it was granted.
    pub granted: Place,
    /// Its first deadline, in milliseconds of cluster time.
    pub deadline_ms: u64,
    /// The rest of the grant, as text: product, license, feature.
    pub terms: String,
}

/// How a lease stood when it was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Held until this deadline, in milliseconds of cluster time.
    Live(u64),
    /// Given back.
    Released,
    /// Past its deadline.
    Expired,
}

/// One line of a listing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seat {
    /// Its token.
    pub token: u64,
    /// Its deadline, in milliseconds of cluster time.
    pub until_ms: u64,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    /// When, in microseconds since the history began.
    pub at_us: u64,
    /// What.
    #[serde(flatten)]
    pub what: What,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "event")]
pub enum What {
    /// A call left a client.
    Invoke {
        /// The call.
        attempt: AttemptId,
        /// Who calls.
        client: String,
        /// The name it calls: the virtual address, a node.
        #[serde(default, skip_serializing_if = "String::is_empty")]
        via: String,
        /// What is asked.
        #[serde(flatten)]
        op: Op,
    },
    /// Its answer, or the lack of one, was known to the client.
    Answer {
        /// The call.
        attempt: AttemptId,
        /// The answer.
        #[serde(flatten)]
        answer: Answer,
    },
    /// For whoever reads the file: a crash, a restart, a phase.
    Note {
        /// What.
        text: String,
    },
}

/// Collects the history of a run, from all clients at once.
pub struct History {
    now: Box<dyn Fn() -> std::time::Duration + Send + Sync>,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    events: Vec<Event>,
    attempts: u64,
}

impl History {
    /// An empty history on this clock, which must never go back.
    pub fn new(now: impl Fn() -> std::time::Duration + Send + Sync + 'static) -> Self {
        Self { now: Box::new(now), inner: Mutex::default() }
    }

    /// A call is about to leave `client`.
    pub fn invoke(&self, client: &str, op: Op) -> AttemptId {
        self.invoke_via(client, "", op)
    }

    /// The same, at an address of this name.
    pub fn invoke_via(&self, client: &str, via: &str, op: Op) -> AttemptId {
        self.add(|inner| {
            inner.attempts += 1;
            let attempt = AttemptId(inner.attempts);
            let (client, via) = (client.to_owned(), via.to_owned());
            (What::Invoke { attempt, client, via, op }, attempt)
        })
    }

    /// The answer to `attempt` is there.
    pub fn answer(&self, attempt: AttemptId, answer: Answer) {
        self.add(|_| (What::Answer { attempt, answer }, ()));
    }

    /// Something that a reader of the history wants to know.
    pub fn note(&self, text: impl Into<String>) {
        let text = text.into();
        self.add(|_| (What::Note { text }, ()));
    }

    /// Everything so far.
    pub fn events(&self) -> Vec<Event> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).events.clone()
    }

    /// What happened after the first `seen` events.
    pub fn since(&self, seen: usize) -> Vec<Event> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        inner.events.get(seen..).unwrap_or_default().to_vec()
    }

    fn add<T>(&self, what: impl FnOnce(&mut Inner) -> (What, T)) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        // Read under the lock, so that the times are in the order of the events.
        let at_us = u64::try_from((self.now)().as_micros()).unwrap_or(u64::MAX);
        let (what, result) = what(&mut inner);
        inner.events.push(Event { at_us, what });
        result
    }
}

/// Writes a history, one event a line.
///
/// # Errors
/// The file cannot be written.
pub fn save(events: &[Event], path: &Path) -> io::Result<()> {
    let mut file = io::BufWriter::new(std::fs::File::create(path)?);
    for event in events {
        serde_json::to_writer(&mut file, event)?;
        file.write_all(b"\n")?;
    }
    file.flush()
}

/// Reads what [`save`] wrote.
///
/// # Errors
/// The file cannot be read, or a line is not an event.
pub fn load(path: &Path) -> io::Result<Vec<Event>> {
    io::BufReader::new(std::fs::File::open(path)?)
        .lines()
        .map(|line| serde_json::from_str(&line?).map_err(io::Error::other))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_saved_reads_back() {
        let history = History::new(|| std::time::Duration::from_micros(7));
        let place = Place { log_id: LogId { epoch: 0, index: 3, position: 1 }, stamp_ms: 1_000 };
        let request = RequestId(0xabc);
        let acquire =
            Op::Acquire { request, ttl_ms: 10_000, not_after_ms: 60_000, wait_until_ms: 0 };
        let attempt = history.invoke("client-1", acquire);
        let grant =
            Grant { token: 1, granted: place, deadline_ms: 11_000, terms: "cad".to_owned() };
        history.answer(
            attempt,
            Answer::Granted { at: place, grant, standing: Standing::Live(11_000) },
        );
        let attempt = history.invoke("operator", Op::Seats);
        let seats = vec![Seat { token: 1, until_ms: 11_000 }];
        history.answer(attempt, Answer::Seats { at: place, seats });
        let attempt = history.invoke("client-1", Op::Renew { request, token: 1 });
        history.answer(attempt, Answer::Unknown { reason: "NO_ANSWER".to_owned() });
        history.note("node-1 killed");

        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("history.jsonl");
        save(&history.events(), &path).unwrap();
        assert_eq!(load(&path).unwrap(), history.events());
    }
}
