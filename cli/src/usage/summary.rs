//! What a stretch of history comes to, product by product. Counts that a file
//! makes up stay at the most there is.

use std::collections::BTreeMap;

use ledger::command::{Ending, Token};
use ledger::time::ClusterTime;
use ledger::usage::{Fact, Page};
use serde::Serialize;

use super::row::Row;
use super::source::Dates;

/// One product's use.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Use {
    /// The product.
    pub product: String,
    /// Leases granted.
    pub granted: u64,
    /// The most leases held at once. Stations that share a seat count each.
    pub peak: u64,
    /// Hours of cluster time that leases were held, all together.
    pub lease_hours: f64,
    /// Requests denied, or given up waiting in vain, and not served within the window.
    pub denied: u64,
    /// Denied, and served from this product's pool within the window.
    pub served_later: u64,
    /// Denied, and served from another product's pool within the window.
    pub served_by_another: u64,
    /// Granted after a wait in the queue.
    pub waited: u64,
    /// The longest wait that ended with a seat, in milliseconds.
    pub longest_wait_ms: u64,
    /// Renewals that came when less than a third of the TTL was left.
    pub renewed_late: u64,
    /// Leases that expired.
    pub expired: u64,
    /// Leases that ended revoked.
    pub revoked: u64,
}

/// Adds records up.
#[derive(Debug, Default)]
pub struct Adder {
    uses: BTreeMap<String, Use>,
    /// Product, since, until (exclusive).
    leases: Vec<(String, ClusterTime, ClusterTime)>,
    held: BTreeMap<Token, (String, ClusterTime)>,
    dates: Dates,
    begin: Option<ClusterTime>,
    end: Option<ClusterTime>,
}

impl Adder {
    /// Of these dates, with the leases that live at the end of the history.
    pub fn new(dates: Dates) -> Self {
        Self { dates, ..Self::default() }
    }

    /// Reads a page, of these dates or after them.
    pub fn read(&mut self, page: &Page) {
        let within = self.dates.contain(page.date);
        if within {
            self.begin.get_or_insert(page.time);
        } else if self.begin.is_some() {
            self.end.get_or_insert(page.time);
        }
        for record in &page.records {
            let Some(product) = record.fact.product().map(ToString::to_string) else { continue };
            match &record.fact {
                Fact::Granted { seat, .. } => {
                    self.held.insert(seat.token, (product, page.time));
                }
                Fact::Ended { seat, since, ending } => {
                    self.held.remove(&seat.token);
                    self.leases.push((product.clone(), *since, page.time));
                    if within {
                        let product = self.of(&product);
                        match ending {
                            Ending::Expired => add(&mut product.expired, 1),
                            Ending::Revoked => add(&mut product.revoked, 1),
                            Ending::Released => {}
                        }
                    }
                }
                Fact::RenewedLate { .. } if within => add(&mut self.of(&product).renewed_late, 1),
                _ => {}
            }
        }
    }

    /// Counts a row of these dates, whose denial is settled.
    pub fn count(&mut self, row: &Row) {
        let Some(product) = row.product.as_deref() else { return };
        let product = self.of(product);
        let times = row.times.unwrap_or(1);
        match (row.what, row.served_later) {
            ("granted", _) => {
                add(&mut product.granted, 1);
                add(&mut product.waited, u64::from(row.waited_ms.is_some()));
                product.longest_wait_ms =
                    product.longest_wait_ms.max(row.waited_ms.unwrap_or_default());
            }
            ("gave-up", _) if row.reason.as_deref() == Some("withdrawn") => {}
            (_, Some("same-pool")) => add(&mut product.served_later, times),
            (_, Some("another-pool")) => add(&mut product.served_by_another, times),
            (_, Some(_)) => add(&mut product.denied, times),
            _ => {}
        }
    }

    /// A lease that lives at the end, and since when.
    pub fn live(&mut self, token: Token, product: &str, since: ClusterTime) {
        self.held.entry(token).or_insert_with(|| (product.to_owned(), since));
    }

    /// All products, at `now`, the end of the history.
    pub fn finish(mut self, now: ClusterTime) -> Vec<Use> {
        let end = self.end.unwrap_or(now);
        let Some(begin) = self.begin else { return Vec::new() };
        let mut changes: BTreeMap<String, Vec<(ClusterTime, i64)>> = BTreeMap::new();
        let open = std::mem::take(&mut self.held).into_values();
        let open = open.map(|(product, since)| (product, since, now));
        let leases: Vec<_> = std::mem::take(&mut self.leases).into_iter().chain(open).collect();
        for (product, since, until) in leases {
            let (since, until) = (since.max(begin), until.min(end));
            if since > until {
                continue;
            }
            self.of(&product).lease_hours += until.millis_since(since) as f64 / 3_600_000.0;
            let changes = changes.entry(product).or_default();
            changes.push((since, 1));
            changes.push((until, -1));
        }
        for (product, mut changes) in changes {
            // What ends makes room for what begins in the same moment.
            changes.sort();
            let mut held = 0;
            let counts = changes.into_iter().map(|(_, change)| {
                held += change;
                held
            });
            let peak = counts.max().unwrap_or(0);
            self.of(&product).peak = u64::try_from(peak).unwrap_or(0);
        }
        self.uses.into_values().collect()
    }

    fn of(&mut self, product: &str) -> &mut Use {
        self.uses
            .entry(product.to_owned())
            .or_insert_with(|| Use { product: product.to_owned(), ..Use::default() })
    }
}

fn add(count: &mut u64, more: u64) {
    *count = count.saturating_add(more);
}
