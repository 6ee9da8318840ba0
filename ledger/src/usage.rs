//! Usage records: what became of every seat, in words that outlive the seat.
//!
//! Applying an entry gives facts beside its answers. They are written in
//! pages, at most [`PAGE_RECORDS_MAX`] facts of one log entry each, and every
//! page names the hash of the page before it. The ledger keeps the head of that
//! chain and the number of pages, so nodes compare them with everything else
//! (S18) and a snapshot carries them; the pages themselves the node keeps
//! beside the ledger, under their numbers, so a replay writes them again
//! as they are.

pub mod audit;

use license::product::{ClusterId, LicenseId, LicenseSerial, ProductName, WallTime};
use license::terms::Counting;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::{self, CodecError};
use crate::command::{Ending, LogId, Token};
use crate::level::Level;
use crate::limits::{HISTORY_DAYS, HISTORY_MEBIBYTES, HISTORY_PART_BYTES};
use crate::name::{HolderName, Subject};
use crate::reason::Reason;
use crate::time::{ClusterTime, Ttl};
use crate::view::Service;

pub use crate::limits::PAGE_RECORDS_MAX;

/// What the first page of a cluster's history names as the page before it.
pub const GENESIS: [u8; 32] = [0; 32];

/// SHA-256 of a page's bytes, which the next page names.
pub fn hash(page: &[u8]) -> [u8; 32] {
    Sha256::digest(page).into()
}

/// A page as a node keeps it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenPage {
    /// Its number; the first of a cluster is 0.
    pub number: u64,
    /// [`Page::encode`].
    pub bytes: Vec<u8>,
}

/// Facts of one log entry, or the first so many of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Hash of the page before; [`GENESIS`] for the first.
    pub previous: [u8; 32],
    /// Its number.
    pub number: u64,
    /// The number of its first record; the first of a cluster is 0.
    pub first_record: u64,
    /// Restore epoch.
    pub epoch: u64,
    /// Index of the Raft entry.
    pub index: u64,
    /// Cluster time of the entry.
    pub time: ClusterTime,
    /// The wall floor then, once there was one.
    pub date: Option<WallTime>,
    /// In the order in which they came about.
    pub records: Vec<Record>,
}

/// One fact and its place within the entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Position of the last answer that the entry had settled by then: that of
    /// the grant itself for a grant. Rises, not strictly: time may end several
    /// leases between two answers.
    pub position: u32,
    /// What came about.
    pub fact: Fact,
}

/// Something worth remembering for a year.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Fact {
    /// The cluster was formed: the first fact of every history.
    Formed {
        /// The cluster.
        cluster: ClusterId,
    },
    /// A license, or an update of one, came into force; or is said again where
    /// a part of the history begins.
    Licensed(Licensed),
    /// A license began or ceased to serve.
    ServiceChanged {
        /// The license.
        license: LicenseId,
        /// How it stands from now on.
        service: Service,
    },
    /// A seat was granted.
    Granted {
        /// The seat, its product and its holder.
        seat: Held,
        /// How long it lives without renewal.
        ttl: Ttl,
        /// How long its request stood in the queue; `None` when served at once.
        waited_ms: Option<u64>,
    },
    /// A request was denied.
    Denied(Denied),
    /// A request left the queue without a seat.
    GaveUp {
        /// What it waited for.
        product: ProductName,
        /// Who waited.
        subject: Subject,
        /// What the waiter calls itself.
        holder: HolderName,
        /// How long.
        waited_ms: u64,
        /// `WaitedInVain`, or `Withdrawn` by its caller or the caller's silence.
        reason: Reason,
    },
    /// A renewal came when less than a third of the TTL was left: the holder
    /// had been silent for longer than two thirds of it, where a client renews
    /// after one.
    RenewedLate {
        /// The seat.
        seat: Held,
        /// Since the grant, or the renewal before.
        silent_ms: u64,
        /// What was left until the seat would have been lost.
        left_ms: u64,
    },
    /// A seat was charged to another license of its product.
    Moved {
        /// The seat, with the license it was charged to.
        seat: Held,
        /// The license it is charged to from now on.
        to: LicenseId,
    },
    /// An operator ended a seat's renewal.
    RevokeOrdered {
        /// The seat.
        seat: Held,
        /// The operator.
        by: Subject,
    },
    /// A seat came free.
    Ended {
        /// The seat.
        seat: Held,
        /// How.
        ending: Ending,
        /// When it was granted.
        since: ClusterTime,
    },
    /// What is kept was set anew.
    RetentionSet {
        /// From now on.
        retention: Retention,
        /// The operator.
        by: Subject,
    },
    /// A part of the history begins here: it can be read, and checked, without
    /// those before it. The licenses in force follow.
    PartBegun {
        /// The cluster.
        cluster: ClusterId,
        /// The last token given out so far: seats up to it were granted before.
        last_token: Token,
    },
}

/// A seat, as a record names it. Never a lease id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The token.
    pub token: Token,
    /// The product.
    pub product: ProductName,
    /// The license it is charged to.
    pub license: LicenseId,
    /// Who holds it, proved.
    pub subject: Subject,
    /// What the holder calls itself.
    pub holder: HolderName,
}

/// The terms that seats are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Licensed {
    /// The license.
    pub license: LicenseId,
    /// Which update.
    pub serial: LicenseSerial,
    /// Its product.
    pub product: ProductName,
    /// What takes a seat.
    pub counting: Counting,
    /// How many; 0 when nothing is counted.
    pub seats: u32,
    /// Whether it is said again and nothing changed.
    pub again: bool,
    /// How it stood.
    pub service: Service,
}

/// A denial, or how often the same came again within a minute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Denied {
    /// Who was denied what, and why.
    pub denial: Denial,
    /// When, or the first time of several.
    pub since: ClusterTime,
    /// Once; or how often again after the record of the first.
    pub times: u64,
}

/// Who was denied what, and why.
///
/// Where one minute brings more different denials than are told apart,
/// `holder` and `product` are left out, and beyond that the subject too.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Denial {
    /// Who asked, proved.
    pub subject: Option<Subject>,
    /// For what.
    pub product: Option<ProductName>,
    /// What the caller calls itself.
    pub holder: Option<HolderName>,
    /// Why not.
    pub reason: Reason,
}

/// How much history is kept: so many days of cluster time, and so many
/// mebibytes of pages, whichever is less.
///
/// Days are counted in cluster time because it only rises and never runs
/// ahead of true time: a wrong date deletes nothing early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "(u32, u32)", into = "(u32, u32)")]
pub struct Retention {
    days: u32,
    mebibytes: u32,
}

/// A retention out of bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "history is kept for {} to {} days and in {} to {} MiB, not {days} days and {mebibytes} MiB",
    HISTORY_DAYS.start(), HISTORY_DAYS.end(), HISTORY_MEBIBYTES.start(), HISTORY_MEBIBYTES.end()
)]
pub struct InvalidRetention {
    days: u32,
    mebibytes: u32,
}

impl Retention {
    /// So many days, and so many mebibytes.
    ///
    /// # Errors
    /// [`InvalidRetention`] names the bounds.
    pub fn new(days: u32, mebibytes: u32) -> Result<Self, InvalidRetention> {
        if HISTORY_DAYS.contains(&days) && HISTORY_MEBIBYTES.contains(&mebibytes) {
            return Ok(Self { days, mebibytes });
        }
        Err(InvalidRetention { days, mebibytes })
    }

    /// Days of cluster time.
    pub fn days(self) -> u32 {
        self.days
    }

    /// Mebibytes of pages.
    pub fn mebibytes(self) -> u32 {
        self.mebibytes
    }

    pub(crate) fn millis(self) -> u64 {
        u64::from(self.days) * 24 * 60 * 60 * 1_000
    }

    pub(crate) fn bytes(self) -> u64 {
        u64::from(self.mebibytes) << 20
    }

    /// How large a part grows, so that little space still is several parts:
    /// only whole ones are dropped.
    pub(crate) fn part_bytes(self) -> u64 {
        HISTORY_PART_BYTES.min(self.bytes() / 4)
    }
}

/// Thirteen months and a bit, so that a year can be compared with the last.
impl Default for Retention {
    fn default() -> Self {
        Self { days: 400, mebibytes: 4_096 }
    }
}

impl TryFrom<(u32, u32)> for Retention {
    type Error = InvalidRetention;
    fn try_from((days, mebibytes): (u32, u32)) -> Result<Self, InvalidRetention> {
        Self::new(days, mebibytes)
    }
}

impl From<Retention> for (u32, u32) {
    fn from(retention: Retention) -> Self {
        (retention.days, retention.mebibytes)
    }
}

/// How far the history reaches, of one moment of the ledger.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// Pages written so far: the number of the next.
    pub pages: u64,
    /// Records written so far.
    pub records: u64,
    /// Hash of the last page; [`GENESIS`] before the first.
    pub head: [u8; 32],
    /// The first page that is kept, and what it names as the page before it.
    pub kept: u64,
    /// See `kept`.
    pub kept_previous: [u8; 32],
    /// Bytes of the pages kept.
    pub bytes: u64,
    /// How much is kept.
    pub retention: Retention,
}

impl Page {
    /// The page as it is kept and hashed.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_page(self)
    }

    /// Reads a page, strictly.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_page(bytes)
    }

    /// The feature level from which its facts may be written.
    pub(crate) fn level(&self) -> Level {
        // A fact that a later level adds raises it here.
        Level::LOWEST
    }

    /// The log id of one of its records.
    pub fn log_id(&self, record: &Record) -> LogId {
        LogId { epoch: self.epoch, index: self.index, position: record.position }
    }
}

impl Fact {
    /// The seat it is about.
    pub fn seat(&self) -> Option<&Held> {
        match self {
            Self::Granted { seat, .. }
            | Self::RenewedLate { seat, .. }
            | Self::Moved { seat, .. }
            | Self::RevokeOrdered { seat, .. }
            | Self::Ended { seat, .. } => Some(seat),
            _ => None,
        }
    }

    /// The product it is about.
    pub fn product(&self) -> Option<&ProductName> {
        match self {
            Self::Licensed(licensed) => Some(&licensed.product),
            Self::Denied(denied) => denied.denial.product.as_ref(),
            Self::GaveUp { product, .. } => Some(product),
            fact => fact.seat().map(|seat| &seat.product),
        }
    }

    /// Whom it is about, as the connection proved it.
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Denied(denied) => denied.denial.subject.as_ref(),
            Self::GaveUp { subject, .. } => Some(subject),
            fact => fact.seat().map(|seat| &seat.subject),
        }
    }

    /// What they call themselves.
    pub fn holder(&self) -> Option<&HolderName> {
        match self {
            Self::Denied(denied) => denied.denial.holder.as_ref(),
            Self::GaveUp { holder, .. } => Some(holder),
            fact => fact.seat().map(|seat| &seat.holder),
        }
    }
}
