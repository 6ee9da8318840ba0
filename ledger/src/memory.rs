//! What is remembered of a request: from the first sight of its id until it
//! may be used again (S3).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use license::product::{LicenseId, ProductName, Version};
use license::terms::Feature;
use serde::{Deserialize, Serialize};

use crate::command::{Acquire, Ending, Grant, LeaseId, LogId, Refusal, Token};
use crate::limits::MEMORY_MILLIS;
use crate::name::{HolderName, Subject};
use crate::table;
use crate::time::{ClusterTime, Ttl};

/// The first half of SHA-256 over an acquire, all of which a re-send repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BodyDigest([u8; 16]);

impl BodyDigest {
    pub(crate) fn of(body: &Acquire) -> Self {
        let mut half = [0; 16];
        half.copy_from_slice(&table::digest(body)[..16]);
        Self(half)
    }
}

/// One request id and what became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Request {
    /// Who asked; to anybody else the id is merely in use.
    pub(crate) subject: Subject,
    /// What was asked; `None` when it was cancelled before it was seen.
    pub(crate) digest: Option<BodyDigest>,
    /// The request's own.
    pub(crate) not_after: ClusterTime,
    pub(crate) state: RequestState,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum RequestState {
    /// Seen and not settled: no license was signed for the term yet.
    ///
    /// The caller asks again with the same id, so the refusal is not an
    /// outcome; but the id is taken, and another body is refused.
    Open,
    /// In its product's queue.
    Waiting(Box<Waiting>),
    /// Holding a seat.
    Live(Box<Lease>),
    /// Granted once, over now.
    Ended { grant: Box<GrantRecord>, ending: Ending, forget_at: ClusterTime },
    /// Refused or withdrawn.
    Refused { refusal: Box<Refusal>, forget_at: ClusterTime },
}

/// A request in a queue.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Waiting {
    /// Rises with every request queued; the queue is in its order.
    pub(crate) ticket: u64,
    pub(crate) wanted: Wanted,
    /// When it was queued.
    pub(crate) since: ClusterTime,
    pub(crate) wait_until: ClusterTime,
    /// The caller must ask again before this, or it no longer wants the seat.
    pub(crate) ask_before: ClusterTime,
}

impl Waiting {
    /// When it stops waiting, unless asked again.
    pub(crate) fn due(&self) -> ClusterTime {
        self.wait_until.min(self.ask_before)
    }
}

/// What a request asks for, as far as a lease keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Wanted {
    pub(crate) product: Arc<ProductName>,
    pub(crate) holder: HolderName,
    pub(crate) version: Option<Version>,
    pub(crate) ttl: Ttl,
}

/// A seat held until a deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Lease {
    pub(crate) grant: GrantRecord,
    pub(crate) wanted: Wanted,
    pub(crate) deadline: ClusterTime,
    /// The license it is charged to now; the grant says to which at first.
    pub(crate) charged: LicenseId,
    /// Above its license's count since a shrink: not renewed there.
    pub(crate) surplus: bool,
    pub(crate) revoked: Option<Subject>,
}

/// All of a grant that its lease id does not say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GrantRecord {
    pub(crate) token: Token,
    pub(crate) product: Arc<ProductName>,
    pub(crate) license: LicenseId,
    pub(crate) log_id: LogId,
    pub(crate) granted: ClusterTime,
    pub(crate) deadline: ClusterTime,
    pub(crate) feature: Arc<Feature>,
}

impl GrantRecord {
    /// The grant as it is told, the same every time.
    pub(crate) fn told(&self, lease: LeaseId) -> Box<Grant> {
        Box::new(Grant {
            lease,
            token: self.token,
            product: ProductName::clone(&self.product),
            license: self.license,
            log_id: self.log_id,
            granted: self.granted,
            deadline: self.deadline,
            feature: Feature::clone(&self.feature),
        })
    }
}

/// What time does to a request, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Due {
    /// It expires, or stops waiting.
    Ends(ClusterTime),
    /// Its id may be used again.
    Forgotten(ClusterTime),
}

impl Request {
    /// The one thing that time will do to it next.
    pub(crate) fn due(&self) -> Due {
        match &self.state {
            RequestState::Open => Due::Forgotten(self.not_after.plus_millis(1)),
            RequestState::Waiting(waiting) => Due::Ends(waiting.due()),
            RequestState::Live(lease) => Due::Ends(lease.deadline),
            RequestState::Ended { forget_at, .. } | RequestState::Refused { forget_at, .. } => {
                Due::Forgotten(*forget_at)
            }
        }
    }

    /// When a request that ends at `clock` may be forgotten: a minute later,
    /// and not before its not-after has passed.
    pub(crate) fn forget_at(not_after: ClusterTime, clock: ClusterTime) -> ClusterTime {
        not_after.plus_millis(1).max(clock.plus_millis(MEMORY_MILLIS))
    }
}

/// One allocation for each name that many requests repeat.
#[derive(Default)]
pub(crate) struct Names {
    products: BTreeSet<Arc<ProductName>>,
    subjects: BTreeSet<Subject>,
    features: BTreeMap<LicenseId, Arc<Feature>>,
}

impl Names {
    /// Makes a request share its names with those seen before. Its value stays the same.
    pub(crate) fn share(&mut self, request: &mut Request) {
        share_in(&mut self.subjects, &mut request.subject);
        let grant = match &mut request.state {
            RequestState::Waiting(waiting) => {
                return share_in(&mut self.products, &mut waiting.wanted.product);
            }
            RequestState::Live(lease) => {
                share_in(&mut self.products, &mut lease.wanted.product);
                &mut lease.grant
            }
            RequestState::Ended { grant, .. } => grant,
            RequestState::Open | RequestState::Refused { .. } => return,
        };
        share_in(&mut self.products, &mut grant.product);
        let feature = self.features.entry(grant.license).or_insert_with(|| grant.feature.clone());
        if *feature == grant.feature {
            grant.feature = Arc::clone(feature);
        }
    }
}

fn share_in<T: Ord + Clone>(seen: &mut BTreeSet<T>, name: &mut T) {
    match seen.get(name) {
        Some(known) => *name = known.clone(),
        None => {
            seen.insert(name.clone());
        }
    }
}
