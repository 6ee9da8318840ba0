//! A usage record as `trine usage` shows it, and whether a denial was made good.

use std::collections::VecDeque;
use std::time::Duration;

use ledger::command::Ending;
use ledger::name::{HolderName, Subject};
use ledger::time::ClusterTime;
use ledger::usage::{Fact, Page, Record};
use license::product::{ProductName, WallTime};
use serde::Serialize;

use super::source::Dates;
use crate::dates::show_date;

/// One record. The columns of `--csv` and the fields of `--json`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Row {
    /// Its number in the history.
    pub record: u64,
    /// Its place in the log: epoch.index.position.
    pub log_id: String,
    /// Cluster time in milliseconds.
    pub time_ms: u64,
    /// RFC 3339, on the wall floor; absent before the first license.
    pub date: Option<String>,
    /// granted, denied, gave-up, renewed-late, moved, revoke-ordered, released,
    /// expired, revoked, licensed, service, retention, formed, part-begun
    pub what: &'static str,
    /// The seat's number: its fencing token.
    pub seat: Option<u64>,
    /// The product.
    pub product: Option<String>,
    /// The license.
    pub license: Option<String>,
    /// Who, proved.
    pub subject: Option<String>,
    /// What they call themselves.
    pub holder: Option<String>,
    /// Why it was denied or given up; the service or the license it moved to.
    pub reason: Option<String>,
    /// How often, for denials counted together.
    pub times: Option<u64>,
    /// Milliseconds in the queue.
    pub waited_ms: Option<u64>,
    /// Milliseconds a seat that ended was held.
    pub held_ms: Option<u64>,
    /// Milliseconds a holder was silent before a late renewal.
    pub silent_ms: Option<u64>,
    /// Seats licensed.
    pub seats: Option<u64>,
    /// The operator.
    pub by: Option<String>,
    /// For a denial: `same-pool` or `another-pool` when the same subject and
    /// holder were granted a seat within the window, else `no`.
    pub served_later: Option<&'static str>,
    /// The product that was granted later.
    pub later_product: Option<String>,
    /// How much later, in milliseconds.
    pub later_ms: Option<u64>,
}

/// Which rows are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of these dates.
    pub dates: Dates,
    /// Of this product.
    pub product: Option<ProductName>,
    /// Of whoever calls themselves so.
    pub holder: Option<HolderName>,
    /// Of this subject.
    pub subject: Option<Subject>,
}

impl Filter {
    /// Whether a record of this page is asked for.
    pub fn takes(&self, page: &Page, fact: &Fact) -> bool {
        self.dates.contain(page.date)
            && self.product.as_ref().is_none_or(|wanted| fact.product() == Some(wanted))
            && self.holder.as_ref().is_none_or(|wanted| fact.holder() == Some(wanted))
            && self.subject.as_ref().is_none_or(|wanted| fact.subject() == Some(wanted))
    }
}

/// Rows on their way out, in order. A denial waits until it is known whether
/// the same subject and holder were served within the window.
#[derive(Debug)]
pub struct Rows {
    filter: Filter,
    window: u64,
    waiting: VecDeque<(ClusterTime, Row)>,
}

impl Rows {
    /// Rows that pass `filter`; a denial is made good by a grant within `window`.
    pub fn new(filter: Filter, window: Duration) -> Self {
        let window = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        Self { filter, window, waiting: VecDeque::new() }
    }

    /// Reads a page; gives the rows that are settled now.
    pub fn read(&mut self, page: &Page) -> Vec<Row> {
        for (record, number) in page.records.iter().zip(page.first_record..) {
            if let Fact::Granted { seat, .. } = &record.fact {
                self.serve(page.time, &seat.subject, &seat.holder, &seat.product);
            }
            if self.filter.takes(page, &record.fact) {
                self.waiting.push_back((page.time, row(page, record, number)));
            }
        }
        let settled = |(time, _): &(ClusterTime, Row)| page.time.millis_since(*time) > self.window;
        let count = self.waiting.iter().take_while(|waiting| settled(waiting)).count();
        self.waiting.drain(..count).map(|(_, row)| row).collect()
    }

    /// The rows that are left when nothing more comes.
    pub fn finish(self) -> impl Iterator<Item = Row> {
        self.waiting.into_iter().map(|(_, row)| row)
    }

    fn serve(
        &mut self,
        time: ClusterTime,
        subject: &Subject,
        holder: &HolderName,
        product: &ProductName,
    ) {
        for (denied, row) in &mut self.waiting {
            let same = row.subject.as_deref() == Some(subject.as_str())
                && row.holder.as_deref() == Some(holder.as_str());
            let later_ms = time.millis_since(*denied);
            if row.served_later != Some("no") || !same || later_ms > self.window {
                continue;
            }
            let same_pool = row.product.as_deref() == Some(product.as_str());
            row.served_later = Some(if same_pool { "same-pool" } else { "another-pool" });
            row.later_product = Some(product.to_string());
            row.later_ms = Some(later_ms);
        }
    }
}

fn row(page: &Page, record: &Record, number: u64) -> Row {
    let fact = &record.fact;
    let seat = fact.seat();
    let mut row = Row {
        record: number,
        log_id: page.log_id(record).to_string(),
        time_ms: page.time.0,
        date: page.date.map(show_date),
        seat: seat.map(|seat| seat.token.0),
        product: fact.product().map(ToString::to_string),
        license: seat.map(|seat| seat.license.to_string()),
        subject: fact.subject().map(ToString::to_string),
        holder: fact.holder().map(ToString::to_string),
        ..Row::default()
    };
    match fact {
        Fact::Formed { .. } => row.what = "formed",
        Fact::PartBegun { .. } => row.what = "part-begun",
        Fact::Licensed(licensed) => {
            row.what = "licensed";
            row.license = Some(licensed.license.to_string());
            row.seats = Some(licensed.seats.into());
            row.reason = Some(format!("serial {}", licensed.serial.0));
        }
        Fact::ServiceChanged { license, service } => {
            row.what = "service";
            row.license = Some(license.to_string());
            row.reason = Some(service_name(*service).to_owned());
        }
        Fact::Granted { waited_ms, .. } => {
            row.what = "granted";
            row.waited_ms = *waited_ms;
        }
        Fact::Denied(denied) => {
            row.what = "denied";
            row.reason = Some(denied.denial.reason.label().to_owned());
            row.times = Some(denied.times);
            row.served_later = Some("no");
        }
        Fact::GaveUp { waited_ms, reason, .. } => {
            row.what = "gave-up";
            row.reason = Some(reason.label().to_owned());
            row.waited_ms = Some(*waited_ms);
            row.served_later = Some("no");
        }
        Fact::RenewedLate { silent_ms, .. } => {
            row.what = "renewed-late";
            row.silent_ms = Some(*silent_ms);
        }
        Fact::Moved { to, .. } => {
            row.what = "moved";
            row.reason = Some(format!("to {to}"));
        }
        Fact::RevokeOrdered { by, .. } => {
            row.what = "revoke-ordered";
            row.by = Some(by.to_string());
        }
        Fact::Ended { ending, since, .. } => {
            row.what = match ending {
                Ending::Released => "released",
                Ending::Expired => "expired",
                Ending::Revoked => "revoked",
            };
            row.held_ms = Some(page.time.millis_since(*since));
        }
        Fact::RetentionSet { retention, by } => {
            row.what = "retention";
            row.reason = Some(format!("{} days, {} MiB", retention.days(), retention.mebibytes()));
            row.by = Some(by.to_string());
        }
    }
    row
}

fn service_name(service: ledger::view::Service) -> &'static str {
    use ledger::view::Service;
    match service {
        Service::Serving => "serving",
        Service::TermUnsigned => "not yet signed for this term",
        Service::SharesMissing => "shares missing",
        Service::NotYetActive => "not yet active",
        Service::Expired => "expired",
    }
}

/// `date` a window later, so that what came after a denial is read too.
pub fn later(date: Option<WallTime>, window: Duration) -> Option<WallTime> {
    let millis = i64::try_from(window.as_millis()).unwrap_or(i64::MAX);
    date.map(|date| date.plus_millis(millis))
}
