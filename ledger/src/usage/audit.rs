//! An auditor: re-checks a history from its pages alone.
//!
//! Shares no code with the ledger's pools, on purpose: it counts seats its own
//! way, from what the records say, and finds what the ledger would have to
//! have done wrong, or somebody to the records since. It checks the chain, that
//! log ids, times and tokens rise, that every seat that ends was granted, and
//! that no grant made more seats than were licensed. Above a count that was
//! lowered a pool only drains (S12), which is lawful.
//!
//! A history whose beginning is no longer kept begins with seats that were
//! granted before. [`Survey`] finds them in a first reading; [`Auditor`] does
//! the second.

use std::collections::BTreeMap;

use license::product::{ClusterId, LicenseId, LicenseSerial, ProductName, WallTime};
use license::terms::Counting;
use serde::{Deserialize, Serialize};

use super::{Denied, Fact, GENESIS, Held, Licensed, Page, Record, hash};
use crate::codec::{self, CodecError};
use crate::command::{Ending, LogId, Token};
use crate::name::Subject;
use crate::time::ClusterTime;
use crate::view::Service;

/// What somebody who knows the ledger says the history must come to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ends {
    /// The cluster.
    pub cluster: ClusterId,
    /// Where in history this was told.
    pub log_id: LogId,
    /// Cluster time then.
    pub time: ClusterTime,
    /// The first page that is kept.
    pub first: u64,
    /// What it names as the page before it.
    pub previous: [u8; 32],
    /// Pages there are: the number after the last.
    pub pages: u64,
    /// Hash of the last.
    pub head: [u8; 32],
    /// The seats that live at the end.
    pub live: BTreeMap<Token, Charged>,
}

impl Ends {
    /// The head of a file of pages.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode_ends(self)
    }

    /// Reads the head of a file of pages, strictly.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with the bytes.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode_ends(bytes)
    }
}

/// Whose a seat is, and what it is charged to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Charged {
    /// The product.
    pub product: ProductName,
    /// The license.
    pub license: LicenseId,
    /// The station.
    pub subject: Subject,
}

impl From<&Held> for Charged {
    fn from(held: &Held) -> Self {
        let Held { product, license, subject, .. } = held.clone();
        Self { product, license, subject }
    }
}

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

/// First reading: which seats lived where the kept history begins.
#[derive(Debug, Clone, Default)]
pub struct Survey {
    last_token: Option<Token>,
    seats: BTreeMap<Token, Charged>,
}

impl Survey {
    /// Reads one page.
    pub fn read(&mut self, page: &Page) {
        for record in &page.records {
            if let Fact::PartBegun { last_token, .. } = record.fact {
                self.last_token.get_or_insert(last_token);
            }
            // Its first mention says what a seat was charged to until then.
            if let (Some(last), Some(held)) = (self.last_token, record.fact.seat())
                && held.token <= last
            {
                self.seats.entry(held.token).or_insert_with(|| held.into());
            }
        }
    }

    /// The seats that lived at the beginning, with those that no record
    /// mentions and that still live at the end.
    pub fn opening(mut self, live: &BTreeMap<Token, Charged>) -> BTreeMap<Token, Charged> {
        let last = self.last_token.unwrap_or(Token(0));
        for (token, charged) in live.range(..=last) {
            self.seats.entry(*token).or_insert_with(|| charged.clone());
        }
        self.seats
    }
}

/// What a history that holds comes to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Pages read.
    pub pages: u64,
    /// Records read.
    pub records: u64,
    /// Seats granted.
    pub granted: u64,
    /// Seats given back.
    pub released: u64,
    /// Seats that expired.
    pub expired: u64,
    /// Seats that ended revoked.
    pub revoked: u64,
    /// Requests denied, those counted together each.
    pub denied: u64,
    /// The first and last date of a record.
    pub dates: Option<(WallTime, WallTime)>,
    /// What each product came to.
    pub products: BTreeMap<ProductName, Peak>,
}

/// The most seats of a product that were taken at once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Peak {
    /// So many.
    pub seats: u64,
    /// When first.
    pub time: ClusterTime,
    /// What was licensed then; `None` without limit.
    pub licensed: Option<u64>,
}

/// Second reading: the laws, record by record.
#[derive(Debug, Clone)]
pub struct Auditor {
    ends: Ends,
    next: u64,
    head: [u8; 32],
    next_record: Option<u64>,
    last: Option<(LogId, ClusterTime)>,
    last_token: Token,
    licenses: BTreeMap<LicenseId, Terms>,
    seats: BTreeMap<Token, Charged>,
    report: Report,
}

/// A license as its records say.
#[derive(Debug, Clone)]
struct Terms {
    serial: LicenseSerial,
    product: ProductName,
    counting: Counting,
    seats: u64,
    serves: bool,
    /// Leases of each station that are charged to it.
    stations: BTreeMap<Subject, u64>,
    leases: u64,
}

impl Terms {
    fn taken(&self) -> u64 {
        match self.counting {
            Counting::PerStation => self.stations.len() as u64,
            _ => self.leases,
        }
    }

    fn is_unlimited(&self) -> bool {
        self.counting == Counting::Unlimited
    }
}

impl Auditor {
    /// An audit that begins with these seats ([`Survey::opening`]).
    pub fn new(ends: Ends, opening: BTreeMap<Token, Charged>) -> Self {
        Self {
            next: ends.first,
            head: ends.previous,
            next_record: (ends.first == 0).then_some(0),
            last: None,
            last_token: opening.keys().next_back().copied().unwrap_or(Token(0)),
            licenses: BTreeMap::new(),
            seats: opening,
            report: Report::default(),
            ends,
        }
    }

    /// Reads the next page.
    ///
    /// # Errors
    /// The first [`Fault`] found; the history is not to be believed from there on.
    pub fn read(&mut self, bytes: &[u8]) -> Result<(), Fault> {
        let number = self.next;
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
        self.report.pages += 1;
        self.check_place(&page)?;
        for (record, number) in page.records.iter().zip(page.first_record..) {
            self.check(&page, record).map_err(|what| fault(&page, record, number, what))?;
            self.next_record = Some(number + 1);
            self.report.records += 1;
        }
        if let Some(date) = page.date {
            let (first, last) = self.report.dates.unwrap_or((date, date));
            self.report.dates = Some((first.min(date), last.max(date)));
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
        if self.seats == self.ends.live {
            return Ok(self.report);
        }
        let told = &self.seats;
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
        let wrong = |what: &str| Err(fault(page, first, page.first_record, what.to_owned()));
        if self.next_record.is_some_and(|next| next != page.first_record) {
            return wrong("records before it are missing");
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
            Fact::PartBegun { last_token, .. } => {
                if self.last_token > *last_token {
                    return Err(format!("token {} was given out before", self.last_token));
                }
                self.last_token = *last_token;
                Ok(())
            }
            Fact::Licensed(licensed) => self.license(licensed),
            Fact::ServiceChanged { license, service } => {
                let terms = self.licenses.get_mut(license).ok_or_else(|| unlicensed(license))?;
                terms.serves = *service == Service::Serving;
                Ok(())
            }
            Fact::Granted { seat, .. } => self.grant(seat, page.time),
            Fact::Moved { seat, to } => self.shift(seat, *to),
            Fact::Ended { seat, ending, .. } => self.end(seat, *ending),
            Fact::RenewedLate { seat, .. } | Fact::RevokeOrdered { seat, .. } => self.known(seat),
            Fact::Denied(Denied { times, .. }) => {
                self.report.denied += times;
                Ok(())
            }
            Fact::GaveUp { .. } => Ok(()),
            Fact::RetentionSet { .. } => Ok(()),
        }
    }

    fn license(&mut self, licensed: &Licensed) -> Result<(), String> {
        let Licensed { license, serial, product, counting, seats, again, service } = licensed;
        let serves = *service == Service::Serving;
        match self.licenses.get_mut(license) {
            Some(known) if *again => {
                let said = (known.serial, known.counting, known.seats, known.serves);
                if said != (*serial, *counting, u64::from(*seats), serves) {
                    return Err(format!("license {license} is not as the records before it say"));
                }
            }
            Some(known) if known.serial >= *serial => {
                return Err(format!("serial {} of {license} is not a newer one", serial.0));
            }
            Some(known) => {
                (known.serial, known.counting) = (*serial, *counting);
                known.seats = u64::from(*seats);
            }
            None => {
                let mut terms = Terms {
                    serial: *serial,
                    product: product.clone(),
                    counting: *counting,
                    seats: u64::from(*seats),
                    serves,
                    stations: BTreeMap::new(),
                    leases: 0,
                };
                // Seats granted before the kept history begins.
                for seat in self.seats.values().filter(|seat| seat.license == *license) {
                    *terms.stations.entry(seat.subject.clone()).or_default() += 1;
                    terms.leases += 1;
                }
                self.licenses.insert(*license, terms);
            }
        }
        Ok(())
    }

    fn grant(&mut self, seat: &Held, time: ClusterTime) -> Result<(), String> {
        if seat.token <= self.last_token {
            return Err(format!("token {} does not rise above {}", seat.token, self.last_token));
        }
        self.last_token = seat.token;
        let before = self.pool(&seat.product);
        self.charge(seat.license, &seat.product, &seat.subject)?;
        self.seats.insert(seat.token, seat.into());
        self.report.granted += 1;
        self.check_room(seat.license, &seat.subject)?;
        let (taken, licensed) = self.pool(&seat.product);
        if let Some(licensed) = licensed
            && taken > before.0
            && taken > licensed
        {
            return Err(format!(
                "it makes {taken} seats of {} taken, and {licensed} are licensed",
                seat.product
            ));
        }
        let peak = self.report.products.entry(seat.product.clone()).or_default();
        if taken > peak.seats {
            *peak = Peak { seats: taken, time, licensed };
        }
        Ok(())
    }

    fn shift(&mut self, seat: &Held, to: LicenseId) -> Result<(), String> {
        self.known(seat)?;
        self.discharge(seat.license, &seat.subject);
        self.charge(to, &seat.product, &seat.subject)?;
        if let Some(charged) = self.seats.get_mut(&seat.token) {
            charged.license = to;
        }
        self.check_room(to, &seat.subject)
    }

    fn end(&mut self, seat: &Held, ending: Ending) -> Result<(), String> {
        self.known(seat)?;
        self.discharge(seat.license, &seat.subject);
        self.seats.remove(&seat.token);
        match ending {
            Ending::Released => self.report.released += 1,
            Ending::Expired => self.report.expired += 1,
            Ending::Revoked => self.report.revoked += 1,
        }
        Ok(())
    }

    /// The seat lives, and is whose the record says.
    fn known(&self, seat: &Held) -> Result<(), String> {
        match self.seats.get(&seat.token) {
            None => Err(format!("seat {} was not granted, or has ended", seat.token)),
            Some(known) if *known != Charged::from(seat) => {
                Err(format!("seat {} is another's by the records before it", seat.token))
            }
            Some(_) => Ok(()),
        }
    }

    fn charge(
        &mut self,
        license: LicenseId,
        product: &ProductName,
        subject: &Subject,
    ) -> Result<(), String> {
        let terms = self.licenses.get_mut(&license).ok_or_else(|| unlicensed(&license))?;
        if terms.product != *product {
            return Err(format!("license {license} is of {}, not of {product}", terms.product));
        }
        if !terms.serves {
            return Err(format!("license {license} did not serve"));
        }
        *terms.stations.entry(subject.clone()).or_default() += 1;
        terms.leases += 1;
        Ok(())
    }

    fn discharge(&mut self, license: LicenseId, subject: &Subject) {
        let Some(terms) = self.licenses.get_mut(&license) else { return };
        terms.leases = terms.leases.saturating_sub(1);
        if let Some(leases) = terms.stations.get_mut(subject) {
            *leases -= 1;
            if *leases == 0 {
                terms.stations.remove(subject);
            }
        }
    }

    /// A seat that was just charged fits into its license.
    fn check_room(&self, license: LicenseId, subject: &Subject) -> Result<(), String> {
        let Some(terms) = self.licenses.get(&license) else { return Ok(()) };
        let taken = terms.taken();
        if !terms.is_unlimited() && taken > terms.seats {
            let seats = terms.seats;
            return Err(format!("it makes {taken} seats of license {license}, which has {seats}"));
        }
        let exclusive = |terms: &&Terms| terms.counting == Counting::ExclusivePerStation;
        if exclusive(&terms) {
            let of_product = self.licenses.values().filter(|other| other.product == terms.product);
            let held: u64 =
                of_product.filter(exclusive).filter_map(|other| other.stations.get(subject)).sum();
            if held > 1 {
                return Err(format!("{subject} holds {held} seats of an exclusive license"));
            }
        }
        Ok(())
    }

    /// Seats taken of a product, and licensed by what serves; `None` without limit.
    fn pool(&self, product: &ProductName) -> (u64, Option<u64>) {
        let licenses = || self.licenses.values().filter(|terms| terms.product == *product);
        let serving = || licenses().filter(|terms| terms.serves);
        let unlimited = serving().any(Terms::is_unlimited);
        let licensed = serving().map(|terms| terms.seats).sum();
        (licenses().map(Terms::taken).sum(), (!unlimited).then_some(licensed))
    }
}

fn unlicensed(license: &LicenseId) -> String {
    format!("license {license} is not in force by the records before it")
}

fn fault(page: &Page, record: &Record, number: u64, what: String) -> Fault {
    Fault::Record { record: number, log_id: page.log_id(record), page: page.number, what }
}
