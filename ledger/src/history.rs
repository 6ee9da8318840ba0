//! Writing history: facts into pages, pages into a chain, and what is kept.
//!
//! Only what later entries depend on is in the state: the head of the chain,
//! where each part begins, and the denials of the present minute. The rest is
//! [`Applied::pages`](crate::Applied), which the node keeps on disk.

use license::product::{LicenseId, WallTime};
use serde::{Deserialize, Serialize};

use crate::command::{Acquire, SetRetention, Token};
use crate::event::Event;
use crate::ledger::{Entry, Ledger};
use crate::limits::{
    DENIAL_WINDOW_MILLIS, DENIALS_APART_MAX, DENIALS_OF_SUBJECT_MAX, HISTORY_PART_MILLIS,
};
use crate::memory::{Lease, Waiting};
use crate::name::Subject;
use crate::reason::Reason;
use crate::time::ClusterTime;
use crate::usage::{
    self, Denial, Denied, Fact, Held, Licensed, PAGE_RECORDS_MAX, Page, Reach, Record, Retention,
    WrittenPage,
};
use crate::view::Service;

/// Where the chain stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct History {
    pages: u64,
    records: u64,
    /// Bytes of all pages, those no longer kept too.
    bytes: u64,
    head: [u8; 32],
    /// The latest date that any page has.
    date_max: Option<WallTime>,
    /// The date of the last page.
    date: Option<WallTime>,
    /// The time of the last page.
    last: ClusterTime,
    /// Whether a page of the present part has an earlier date than the one before it.
    set_back: bool,
    retention: Retention,
    /// The minute whose repeated denials are being counted.
    minute: u64,
}

/// Where a part of the history begins. Whole parts are dropped, never less.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Part {
    /// What its first page names as the page before it.
    previous: [u8; 32],
    time: ClusterTime,
    /// The time of the last page before it.
    last: ClusterTime,
    /// Bytes of all pages before it.
    bytes: u64,
    /// The latest date of any page before it.
    date_max: Option<WallTime>,
    /// The date when it began.
    date: Option<WallTime>,
}

/// Denials of the present minute that came again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Tally {
    since: ClusterTime,
    again: u64,
}

impl Entry {
    /// Notes a fact for the history.
    pub(crate) fn note(&mut self, fact: Fact) {
        let position = self.answered();
        self.records.push(Record { position, fact });
    }
}

impl Lease {
    /// The seat as records name it.
    pub(crate) fn held(&self, subject: &Subject) -> Held {
        Held {
            token: self.grant.token,
            product: self.wanted.product.as_ref().clone(),
            license: self.charged,
            subject: subject.clone(),
            holder: self.wanted.holder.clone(),
        }
    }
}

impl Ledger {
    /// How far the history reaches.
    pub fn history(&self) -> Reach {
        let history = &self.state.scalars.history;
        let first = self.state.history_parts.iter().next();
        let before = first.map_or(0, |(_, part)| part.bytes);
        Reach {
            pages: history.pages,
            records: history.records,
            head: history.head,
            kept: first.map_or(0, |(page, _)| *page),
            kept_previous: first.map_or(usage::GENESIS, |(_, part)| part.previous),
            bytes: history.bytes - before,
            retention: history.retention,
        }
    }

    /// The kept pages that may have records dated from `from` up to and without `to`.
    ///
    /// Parts are told apart by their dates, so this is somewhat more than what
    /// was asked for. Within a part dates do not fall: an entry that finds the
    /// date set back ends its part.
    pub fn pages_dated(
        &self,
        from: Option<WallTime>,
        to: Option<WallTime>,
    ) -> std::ops::Range<u64> {
        let parts = || self.state.history_parts.iter();
        let is_before = |date: Option<WallTime>| from.is_some_and(|from| date < Some(from));
        let first = parts().take_while(|(_, part)| is_before(part.date_max)).last();
        let first = first.or(parts().next()).map_or(0, |(page, _)| *page);
        let is_after =
            |date: Option<WallTime>| to.is_some_and(|to| date.is_some_and(|date| date >= to));
        let mut end = self.state.scalars.history.pages;
        for (page, _) in parts().rev().take_while(|(_, part)| is_after(part.date)) {
            end = *page;
        }
        first..end.max(first)
    }

    pub(crate) fn set_retention(&mut self, body: &SetRetention, entry: &mut Entry) {
        self.state.scalars.history.retention = body.retention;
        entry.note(Fact::RetentionSet { retention: body.retention, by: body.by.clone() });
    }

    /// What a license is counted by, as a fact.
    pub(crate) fn licensed(&self, license: LicenseId, again: bool) -> Option<Fact> {
        let terms = self.terms(license)?;
        let standing = self.index.standing.get(&license);
        Some(Fact::Licensed(Licensed {
            license,
            serial: terms.serial,
            product: terms.name.clone(),
            counting: terms.counting,
            seats: terms.seats,
            again,
            service: standing.map_or(Service::SharesMissing, |standing| standing.service),
        }))
    }

    /// Notes a denial: the first of its kind in a minute at once, the others
    /// as a number when the minute is over. Whoever asks again and again, or
    /// with ever new names, is a few records a minute (S26).
    pub(crate) fn note_denial(&mut self, body: &Acquire, reason: Reason, entry: &mut Entry) {
        let denial = Denial {
            subject: Some(self.index.interned_subject(&body.subject)),
            product: Some(body.product.clone()),
            holder: Some(body.holder.clone()),
            reason,
        };
        let tallies = &mut self.state.denials;
        let count = |tally: &mut Tally| tally.again += 1;
        if tallies.update(&denial, count).is_some() {
            return;
        }
        let of_subject = self.index.denials.get(&body.subject).copied().unwrap_or(0);
        let room = tallies.len() < DENIALS_APART_MAX;
        let denial = match (room, of_subject < DENIALS_OF_SUBJECT_MAX) {
            (true, true) => denial,
            (true, false) => Denial { product: None, holder: None, ..denial },
            (false, _) => Denial { product: None, holder: None, subject: None, reason },
        };
        if tallies.update(&denial, count).is_some() {
            return;
        }
        let since = self.state.scalars.clock;
        tallies.insert(denial.clone(), Tally { since, again: 0 });
        self.index.count_denial(&denial);
        entry.note(Fact::Denied(Denied { denial, since, times: 1 }));
    }

    /// Writes down how often the denials of a minute gone by came again.
    pub(crate) fn close_tallies(&mut self, entry: &mut Entry) {
        let minute = self.clock().0 / DENIAL_WINDOW_MILLIS;
        if self.state.scalars.history.minute == minute {
            return;
        }
        self.state.scalars.history.minute = minute;
        while let Some((denial, tally)) = self.state.denials.pop_first() {
            if tally.again > 0 {
                let (since, times) = (tally.since, tally.again);
                entry.note(Fact::Denied(Denied { denial, since, times }));
            }
        }
        self.index.denials.clear();
    }

    /// Begins a new part where one is due, before the entry has any facts, and
    /// drops what is no longer kept.
    pub(crate) fn turn_part(&mut self, entry: &mut Entry) {
        if self.is_part_due() {
            self.open_part(entry);
            self.write_pages(entry);
        }
        self.drop_parts();
    }

    /// Turns the entry's facts into pages.
    pub(crate) fn write_history(&mut self, mut entry: Entry) -> (Vec<Event>, Vec<WrittenPage>) {
        self.write_pages(&mut entry);
        (entry.events, entry.pages)
    }

    fn write_pages(&mut self, entry: &mut Entry) {
        let mut records = std::mem::take(&mut entry.records);
        if !records.is_empty() && self.state.history_parts.len() == 0 {
            self.mark_part();
        }
        while !records.is_empty() {
            let rest = records.split_off(records.len().min(PAGE_RECORDS_MAX));
            entry.pages.push(self.write_page(std::mem::replace(&mut records, rest)));
        }
    }

    fn write_page(&mut self, records: Vec<Record>) -> WrittenPage {
        let date = self.wall();
        let scalars = &mut self.state.scalars;
        let history = &mut scalars.history;
        let page = Page {
            previous: history.head,
            number: history.pages,
            first_record: history.records,
            epoch: scalars.epoch,
            index: scalars.applied,
            time: scalars.clock,
            date,
            records,
        };
        let bytes = page.encode();
        history.head = usage::hash(&bytes);
        history.pages += 1;
        history.records += page.records.len() as u64;
        history.bytes += bytes.len() as u64;
        history.set_back |= date < history.date;
        history.date = date;
        history.last = scalars.clock;
        history.date_max = history.date_max.max(date);
        WrittenPage { number: page.number, bytes }
    }

    /// A part ends after a day, when it is large, and when the date was set
    /// back. One that has only its opening does not end: nothing happened.
    fn is_part_due(&self) -> bool {
        let history = &self.state.scalars.history;
        let Some((page, part)) = self.state.history_parts.iter().next_back() else { return false };
        let tells = history.pages > *page + u64::from(*page > 0);
        let is_day_over = self.clock().millis_since(part.time) > HISTORY_PART_MILLIS;
        let is_large = history.bytes - part.bytes > history.retention.part_bytes();
        tells && (is_day_over || is_large || history.set_back)
    }

    /// Notes all that the following facts are read with.
    fn open_part(&mut self, entry: &mut Entry) {
        let Some(charter) = self.charter() else { return };
        let cluster = charter.cluster;
        self.mark_part();
        let last_token = Token(self.state.scalars.last_token);
        entry.note(Fact::PartBegun { cluster, last_token });
        let licenses: Vec<LicenseId> = self.state.licenses.iter().map(|(id, _)| *id).collect();
        for fact in licenses.into_iter().filter_map(|id| self.licensed(id, true)) {
            entry.note(fact);
        }
    }

    /// After a restore the history goes on where the backup ends: its chain is
    /// the same, and the pages before are not here but in an export.
    pub(crate) fn resume_history(&mut self, entry: &mut Entry) {
        self.state.history_parts = Default::default();
        self.state.denials = Default::default();
        self.index.denials.clear();
        self.open_part(entry);
    }

    fn mark_part(&mut self) {
        let (date, time) = (self.wall(), self.clock());
        let history = &mut self.state.scalars.history;
        history.set_back = false;
        let part = Part {
            previous: history.head,
            time,
            last: history.last,
            bytes: history.bytes,
            date_max: history.date_max,
            date,
        };
        let first = history.pages;
        self.state.history_parts.insert(first, part);
    }

    /// Drops whole parts, the oldest first; never the one being written.
    fn drop_parts(&mut self) {
        while let Some(page) = self.surplus_part() {
            self.state.history_parts.remove(&page);
        }
    }

    fn surplus_part(&self) -> Option<u64> {
        let mut parts = self.state.history_parts.iter();
        let ((page, part), (_, next)) = (parts.next()?, parts.next()?);
        let history = &self.state.scalars.history;
        let is_old = self.clock().millis_since(next.last) > history.retention.millis();
        let is_over = history.bytes - part.bytes > history.retention.bytes();
        (is_old || is_over).then_some(*page)
    }
}

/// A waiting request left the queue without a seat.
pub(crate) fn gave_up(
    waiting: &Waiting,
    subject: &Subject,
    now: ClusterTime,
    reason: Reason,
) -> Fact {
    Fact::GaveUp {
        product: waiting.wanted.product.as_ref().clone(),
        subject: subject.clone(),
        holder: waiting.wanted.holder.clone(),
        waited_ms: now.millis_since(waiting.since),
        reason,
    }
}
