//! Second reading: the chain, the order, and the laws record by record.

use std::collections::BTreeMap;

use super::seats::{Report, Seats};
use super::{Charged, Ends, Fault};
use crate::codec::CodecError;
use crate::command::{LogId, Token};
use crate::time::ClusterTime;
use crate::usage::{Denied, Fact, GENESIS, Page, Record, hash};

/// Second reading: the laws, record by record.
#[derive(Debug, Clone)]
pub struct Auditor {
    ends: Ends,
    next: u64,
    head: [u8; 32],
    next_record: Option<u64>,
    last: Option<(LogId, ClusterTime)>,
    seats: Seats,
}

impl Auditor {
    /// An audit that begins with these seats ([`Survey::opening`]).
    pub fn new(ends: Ends, opening: BTreeMap<Token, Charged>) -> Self {
        Self {
            next: ends.first,
            head: ends.previous,
            next_record: (ends.first == 0).then_some(0),
            last: None,
            seats: Seats::new(opening),
            ends,
        }
    }

    /// Reads the next page.
    ///
    /// # Errors
    /// The first [`Fault`] found; the history is not to be believed from there on.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let number = self.next;
        if number >= self.ends.pages {
            return Err(Fault::Length { found: number.saturating_add(1), pages: self.ends.pages });
        }
        let page = Page::decode(bytes).map_err(|source| Fault::Undecodable { number, source })?;
        if page.number != number {
            return Err(Fault::Order { expected: number, found: page.number });
        }
        if page.previous != self.head {
            return Err(match number.checked_sub(1).filter(|_| number > self.ends.first) {
                Some(before) => {
                    Fault::Altered { number: before, witness: format!("page {number}") }
                }
                None => Fault::Altered { number, witness: "the ledger".to_owned() },
            });
        }
        self.head = hash(bytes);
        self.next += 1;
        self.seats.report.pages += 1;
        self.check_place(&page)?;
        for (record, number) in page.records.iter().zip(page.first_record..) {
            self.check(&page, record).map_err(|what| Fault::of(&page, record, number, what))?;
            self.next_record = Some(number + 1);
            self.seats.report.records += 1;
        }
        if let Some(date) = page.date {
            let (first, last) = self.seats.report.dates.unwrap_or((date, date));
            self.seats.report.dates = Some((first.min(date), last.max(date)));
        }
        Ok(())
    }

    /// Compares with the end that was announced.
    ///
    /// # Errors
    /// [`Fault`]: pages are missing, the last was altered, or the seats differ.
    pub fn finish(self) -> Result<Report, Fault> {
        if self.next != self.ends.pages {
            return Err(Fault::Length { found: self.next, pages: self.ends.pages });
        }
        if self.head != self.ends.head {
            let number = self.next.saturating_sub(1);
            return Err(Fault::Altered { number, witness: "the ledger".to_owned() });
        }
        if self.seats.live == self.ends.live {
            return Ok(self.seats.report);
        }
        let told = &self.seats.live;
        let differs = |token: &&Token| told.get(*token) != self.ends.live.get(*token);
        let token = told.keys().chain(self.ends.live.keys()).find(differs);
        let count = |seats: &BTreeMap<_, _>| seats.len();
        let what = format!(
            "seat {}: {} live by the records and {} by the ledger",
            token.map_or(0, |token| token.0),
            count(told),
            count(&self.ends.live)
        );
        Err(Fault::Outcome { what })
    }

    /// The hash of the last page read.
    pub fn head(&self) -> [u8; 32] {
        self.head
    }

    fn check_place(&mut self, page: &Page) -> Result<(), Fault> {
        let Some(first) = page.records.first() else {
            let number = page.number;
            let detail = "it has no records".to_owned();
            let source = CodecError::Damaged { what: "page of history", detail };
            return Err(Fault::Undecodable { number, source });
        };
        let wrong = |what: &str| Err(Fault::of(page, first, page.first_record, what.to_owned()));
        if self.next_record.is_some_and(|next| next != page.first_record) {
            return wrong("records before it are missing");
        }
        // Where the beginning is not kept, nothing else says what may stand here.
        if page.first_record.checked_add(page.records.len() as u64).is_none() {
            return wrong("there are no numbers for it and the records after it");
        }
        if page.number == 0 && page.previous != GENESIS {
            return wrong("the first page names a page before it");
        }
        if self.last.is_some_and(|(_, time)| page.time < time) {
            return wrong("cluster time went back");
        }
        Ok(())
    }

    fn check(&mut self, page: &Page, record: &Record) -> Result<(), String> {
        let log_id = page.log_id(record);
        if self.last.is_some_and(|(last, _)| log_id < last) {
            return Err("its log id is below that of the record before it".to_owned());
        }
        self.last = Some((log_id, page.time));
        match &record.fact {
            Fact::Formed { cluster } | Fact::PartBegun { cluster, .. }
                if *cluster != self.ends.cluster =>
            {
                Err(format!("it is of cluster {cluster}, not of {}", self.ends.cluster))
            }
            Fact::Formed { .. } => Ok(()),
            Fact::PartBegun { last_token, .. } => self.seats.begin_part(*last_token),
            Fact::Licensed(licensed) => self.seats.license(licensed),
            Fact::ServiceChanged { license, service } => self.seats.serve(license, *service),
            Fact::Granted { seat, .. } => self.seats.grant(seat, page.time),
            Fact::Moved { seat, to } => self.seats.shift(seat, *to),
            Fact::Ended { seat, ending, .. } => self.seats.end(seat, *ending),
            Fact::RenewedLate { seat, .. } | Fact::RevokeOrdered { seat, .. } => {
                self.seats.known(seat)
            }
            Fact::Denied(Denied { times, .. }) => {
                let denied = self.seats.report.denied.checked_add(*times);
                let too_many = || format!("it counts {times} denials, more than there can be");
                self.seats.report.denied = denied.ok_or_else(too_many)?;
                Ok(())
            }
            Fact::GaveUp { .. } => Ok(()),
            Fact::RetentionSet { .. } => Ok(()),
        }
    }
}
