//! The history as operators read it: pages as they were written, which the
//! reader checks, and how far they reach.
//!
//! All nodes have the same pages, so a long reading goes on at another node
//! where it stopped at one.

use ledger::Ledger;
use ledger::command::{Command, SetRetention};
use ledger::name::Subject;
use ledger::usage::{Reach, Retention};
use ledger::view::SeatView;
use license::product::{NodeId, WallTime};
use tonic::Status;
use wire::v1;

use super::{Cluster, envelope, error, show};
use crate::api::convert;

/// Bytes of pages in one answer.
const PAGES_BYTES_MAX: usize = 1 << 20;

/// What the ledger says of its history at one moment.
struct Told {
    cluster: String,
    reach: Reach,
    /// The pages that may have the dates asked for.
    dated: std::ops::Range<u64>,
    seats: Vec<SeatView>,
}

impl Told {
    fn of(ledger: &Ledger, request: &v1::UsagePagesRequest) -> Self {
        let charter = ledger.charter();
        Self {
            cluster: charter.map(|charter| charter.cluster.to_string()).unwrap_or_default(),
            reach: ledger.history(),
            dated: ledger.pages_dated(request.from_ms.map(WallTime), request.to_ms.map(WallTime)),
            seats: if request.seats { ledger.seats(None) } else { Vec::new() },
        }
    }

    fn reach(&self) -> v1::UsageReach {
        v1::UsageReach {
            cluster_id: self.cluster.clone(),
            pages: self.reach.pages,
            records: self.reach.records,
            head: self.reach.head.to_vec(),
            kept: self.reach.kept,
            kept_previous: self.reach.kept_previous.to_vec(),
            bytes: self.reach.bytes,
            days: self.reach.retention.days(),
            mebibytes: self.reach.retention.mebibytes(),
        }
    }
}

impl Cluster {
    pub(super) async fn pages(
        &self,
        request: &v1::UsagePagesRequest,
    ) -> Result<v1::UsagePagesReply, Status> {
        let (as_of, told) = if request.own {
            self.service.peek(|ledger| (as_of(ledger), Told::of(ledger, request)))
        } else {
            self.read(|ledger| Told::of(ledger, request)).await?
        };
        let first = request.from_page.unwrap_or(told.dated.start);
        let until = request.until_page.unwrap_or(told.dated.end).min(told.reach.pages);
        let wanted = first.max(told.reach.kept)..until;
        let history = self.service.history();
        let missing = history.missing();
        let overlaps = |missing: &crate::store::history::Missing| {
            missing.from < wanted.end && wanted.start < missing.until
        };
        if let Some(missing) = missing.filter(|_| !wanted.is_empty()).filter(overlaps) {
            let why = error::history_incomplete(missing.from, missing.until);
            return Err(self.answers.tell(why));
        }
        let kept = || self.service.peek(|ledger| ledger.history().kept);
        let pages = match history.read(wanted.clone(), PAGES_BYTES_MAX).await {
            Ok(pages) => pages,
            // Dropped meanwhile: the reader sees that nothing came.
            Err(_) if kept() > wanted.start => Vec::new(),
            Err(why) => {
                tracing::error!(%why, "history cannot be read");
                let node = NodeId(self.service.node_status().id);
                return Err(self.answers.tell(error::history_damaged(node, &why)));
            }
        };
        Ok(v1::UsagePagesReply {
            as_of,
            reach: Some(told.reach()),
            first_page: wanted.start,
            until_page: wanted.end.max(wanted.start),
            pages,
            seats: told.seats.into_iter().map(show::seat).collect(),
        })
    }

    pub(super) async fn retain(
        &self,
        by: Subject,
        request: &v1::SetUsageRetentionRequest,
    ) -> Result<v1::SetUsageRetentionReply, Status> {
        let now = self.service.peek(|ledger| ledger.history().retention);
        let days = request.days.unwrap_or(now.days());
        let mebibytes = request.mebibytes.unwrap_or(now.mebibytes());
        let retention =
            Retention::new(days, mebibytes).map_err(|why| self.invalid(why.to_string()))?;
        let set = SetRetention { retention, by: by.clone() };
        let reply = self.command(Command::SetRetention(set)).await?;
        tracing::info!(%by, days, mebibytes, "history retention set");
        Ok(v1::SetUsageRetentionReply { envelope: envelope(&reply), days, mebibytes })
    }
}

fn as_of(ledger: &Ledger) -> Option<v1::Envelope> {
    let log_id =
        ledger::command::LogId { epoch: ledger.epoch(), index: ledger.applied(), position: 0 };
    Some(convert::envelope(log_id, ledger.clock()))
}
