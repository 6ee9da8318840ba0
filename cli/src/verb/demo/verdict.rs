//! What the demo found, as a table and as JSON.

use serde::Serialize;

use crate::console::{Page, Tone};

/// `trine demo --json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// 131-…
    pub(super) container: String,
    pub(super) seats: u32,
    pub(super) clients: usize,
    pub(super) failover: Failover,
    pub(super) fill: Fill,
    pub(super) outage: Outage,
    pub(super) shares: Shares,
    /// How long it all took.
    pub(super) seconds: u64,
}

/// The leader was killed.
#[derive(Debug, Serialize)]
pub(super) struct Failover {
    pub(super) leader: String,
    pub(super) next: String,
    pub(super) grants_before: usize,
    pub(super) grants_after: usize,
    /// The longest any client went without an answer that did it good.
    pub(super) gap_max_ms: u128,
    /// Requests from before the kill that were sent again after it.
    pub(super) asked_again: usize,
    /// Of those, how many brought no grant.
    pub(super) not_answered: usize,
    /// Seats a client holds that the ledger does not know.
    pub(super) lost: usize,
    /// Request ids with two grants, and tokens with two requests.
    pub(super) doubled: usize,
}

/// Seats were taken until one was refused.
#[derive(Debug, Serialize)]
pub(super) struct Fill {
    pub(super) granted: usize,
    pub(super) refusal: String,
    pub(super) lost: usize,
}

/// A second node was killed, and both came back.
#[derive(Debug, Default, Serialize)]
pub(super) struct Outage {
    /// Requests in flight that ended as unknown.
    pub(super) unknown: usize,
    /// Requests in flight that nobody answered within the client's own limit.
    pub(super) silent: usize,
    /// The longest of those that ended as unknown.
    pub(super) unknown_max_ms: u128,
    /// Later requests that were definitely not done.
    pub(super) refused_later: usize,
    /// Later requests that were told anything else.
    pub(super) undecided_later: usize,
    /// Seats held when it began.
    pub(super) held: usize,
    /// Of those, gone when it was over.
    pub(super) lost: usize,
}

/// Shares were withdrawn.
#[derive(Debug, Serialize)]
pub(super) struct Shares {
    /// Whether a seat was granted with two shares live.
    pub(super) with_two: bool,
    /// The refusal with one share live; null if there was none.
    pub(super) with_one: Option<String>,
    /// Who led Raft all the same.
    pub(super) leader: String,
}

impl Report {
    /// Whether every promise was kept.
    pub(super) fn holds(&self) -> bool {
        self.rows().iter().all(|row| row.holds)
    }

    pub(super) fn show(&self, page: &mut Page) {
        let title = format!(
            "{} · {} seats of a license split 2-of-3 · {} clients · {} s",
            self.container, self.seats, self.clients, self.seconds
        );
        let title = page.tone(Tone::Strong, &title);
        page.line(title);
        let rows = self.rows().into_iter().map(|row| {
            let verdict = if row.holds { "kept" } else { "BROKEN" };
            vec![row.promise.to_owned(), row.seen, verdict.to_owned()]
        });
        page.table(&["promise", "what was seen", "verdict"], rows);
        let (tone, verdict) = if self.holds() {
            (Tone::Good, "No seat was lost and none was doubled.")
        } else {
            (Tone::Bad, "A promise was broken.")
        };
        let verdict = page.tone(tone, verdict);
        page.line(verdict);
    }

    fn rows(&self) -> Vec<Row> {
        let Self { failover, fill, outage, shares, .. } = self;
        vec![
            Row {
                promise: "a new leader goes on",
                seen: format!(
                    "{} killed, {} leads; grants before {}, after {}; longest gap of any client {} ms",
                    failover.leader,
                    failover.next,
                    failover.grants_before,
                    failover.grants_after,
                    failover.gap_max_ms
                ),
                holds: failover.grants_before > 0 && failover.grants_after > 0,
            },
            Row {
                promise: "the same request id gets the same grant",
                seen: format!(
                    "{} asked again, {} without a grant, {} doubled",
                    failover.asked_again, failover.not_answered, failover.doubled
                ),
                holds: failover.asked_again > 0 && failover.not_answered + failover.doubled == 0,
            },
            Row {
                promise: "no acknowledged seat is lost by a failover",
                seen: format!("{} lost", failover.lost),
                holds: failover.lost == 0,
            },
            Row {
                promise: "exactly the licensed seats come out",
                seen: format!("{} granted, then: {}", fill.granted, fill.refusal),
                holds: fill.granted == self.seats as usize && fill.lost == 0,
            },
            Row {
                promise: "without a quorum the answer is unknown or no",
                seen: format!(
                    "in flight {} unknown (longest {} ms), {} timed out; later {} refused, {} told anything else",
                    outage.unknown,
                    outage.unknown_max_ms,
                    outage.silent,
                    outage.refused_later,
                    outage.undecided_later
                ),
                holds: outage.unknown > 0
                    && outage.refused_later > 0
                    && outage.undecided_later == 0,
            },
            Row {
                promise: "an outage costs no seat",
                seen: format!("{} held before, {} lost", outage.held, outage.lost),
                holds: outage.held > 0 && outage.lost == 0,
            },
            Row {
                promise: "two live shares serve",
                seen: if shares.with_two { "granted" } else { "refused" }.to_owned(),
                holds: shares.with_two,
            },
            Row {
                promise: "one live share serves nobody",
                seen: match &shares.with_one {
                    Some(_) => format!(
                        "refused by name and reason (see above), though {} leads",
                        shares.leader
                    ),
                    None => "granted".to_owned(),
                },
                holds: shares.with_one.is_some(),
            },
        ]
    }
}

struct Row {
    promise: &'static str,
    seen: String,
    holds: bool,
}
