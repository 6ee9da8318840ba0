//! A naive ledger: plain vectors, replayed in log order, that says what must
//! be, what may be, and what cannot be.
//!
//! Shares no code with `ledger/`, on purpose. What clients were told is fact;
//! what they were not told is left open: a release nobody answered may have
//! ended the lease at any later moment or never, a renewal nobody answered may
//! have prolonged it. So each lease is *surely live*, *surely over*, or in
//! doubt, and only certainties contradict an answer.

use std::collections::BTreeMap;

use crate::history::{LogId, Place, RequestId, Seat};

/// How many seats there were, along the log.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    first: usize,
    /// Each from which index on it may have been in force, by which it was, and the count.
    changes: Vec<(u64, u64, usize)>,
}

impl Counts {
    /// The same count all the time.
    pub fn fixed(seats: usize) -> Self {
        Self { first: seats, changes: Vec::new() }
    }

    /// Another count came into force at one of these entries.
    pub fn change(&mut self, from: u64, by: u64, seats: usize) {
        self.changes.push((from, by, seats));
    }

    /// The counts that may have been in force at an entry.
    fn at(&self, index: u64) -> impl Iterator<Item = usize> {
        let surely = self.changes.iter().rev().find(|(_, by, _)| *by < index);
        let perhaps =
            self.changes.iter().filter(move |(from, by, _)| (*from..=*by).contains(&index));
        let surely = surely.map_or(self.first, |(.., seats)| *seats);
        [surely].into_iter().chain(perhaps.map(|(.., seats)| *seats))
    }

    fn most(&self, at: LogId) -> usize {
        self.at(at.index).max().unwrap_or(self.first)
    }

    fn least(&self, at: LogId) -> usize {
        self.at(at.index).min().unwrap_or(self.first)
    }

    /// The highest and the lowest that ever were in force.
    pub fn bounds(&self) -> (usize, usize) {
        let all = || [self.first].into_iter().chain(self.changes.iter().map(|(.., seats)| *seats));
        (all().max().unwrap_or(self.first), all().min().unwrap_or(self.first))
    }
}

/// A grant that somebody was told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Granted {
    /// Who asked.
    pub request: RequestId,
    /// Its token.
    pub token: u64,
    /// Where it was granted.
    pub at: Place,
    /// Its first deadline, in milliseconds of cluster time.
    pub deadline_ms: u64,
    /// How far each renewal reaches, in milliseconds.
    pub ttl_ms: u64,
}

/// A grant that nobody was told of: its token is missing between two others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// Its token.
    pub token: u64,
    /// It was granted after this.
    pub after: LogId,
    /// And before this, if a later grant is known.
    pub before: Option<Place>,
    /// The longest it can live: nobody knew the token, so nobody renewed it.
    pub ttl_ms: u64,
}

/// A request that may have been granted without anybody having been told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Open {
    /// It cannot have been granted at or before this.
    pub after: LogId,
    /// Cluster time in milliseconds by when its seat, if there was one, is free again.
    pub over_ms: u64,
}

/// What may have happened to a lease without anybody having been told.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Doubts {
    /// A release or cancel without an answer took effect after this, or never.
    pub ended_after: Option<LogId>,
    /// A renewal without an answer took effect after this, or never.
    pub renewed_after: Option<LogId>,
}

/// One thing that an answer says, at its place in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact {
    /// The lease is over from here on: it was released, or its request cancelled.
    Freed(RequestId),
    /// The lease is over, and this is how.
    Over(RequestId, How),
    /// A request that had not been asked before was refused for want of a seat.
    Full,
    /// The request was granted here.
    Granted(RequestId),
    /// The lease was renewed until this time.
    Renewed(RequestId, u64),
    /// The lease lives until this time.
    Live(RequestId, u64),
    /// These are all the seats there are.
    Listing(Vec<Seat>),
}

impl Fact {
    /// Facts at the same place are replayed by rank: first what frees, then
    /// what was granted with it, then what was seen of that.
    pub fn rank(&self) -> u8 {
        match self {
            Self::Freed(_) | Self::Over(..) | Self::Full => 0,
            Self::Granted(_) => 1,
            Self::Renewed(..) | Self::Live(..) | Self::Listing(_) => 2,
        }
    }
}

/// How a lease is said to have ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Given back.
    Released,
    /// Past its deadline.
    Expired,
    /// It is just not there.
    Unsaid,
}

/// A fact that cannot be: which law, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contradiction {
    /// The law, as LAWS.md names it.
    pub law: &'static str,
    /// What contradicts what.
    pub what: String,
}

#[derive(Debug, Clone)]
struct Lease {
    grant: Granted,
    doubts: Doubts,
    /// Whether the replay has come past its grant.
    granted: bool,
    /// The latest deadline anybody was told of.
    deadline_ms: u64,
    /// Where it was over at the latest.
    over: Option<LogId>,
}

impl Lease {
    fn is_surely_live(&self, at: Place) -> bool {
        self.granted
            && self.over.is_none()
            && self.doubts.ended_after.is_none_or(|after| after >= at.log_id)
            && self.deadline_ms > at.stamp_ms
    }

    fn may_live(&self, at: Place) -> bool {
        self.over.is_none() && (self.deadline_ms >= at.stamp_ms || self.may_be_renewed(at))
    }

    fn may_be_renewed(&self, at: Place) -> bool {
        self.doubts.renewed_after.is_some_and(|after| after < at.log_id)
    }
}

/// The pool as far as the answers tell.
#[derive(Debug, Clone)]
pub struct Model {
    counts: Counts,
    /// In the order in which they were granted.
    leases: Vec<Lease>,
    /// Where in `leases` each request's is.
    places: BTreeMap<RequestId, usize>,
    /// Those of `leases` that may be live: granted, and not known to be over.
    current: Vec<usize>,
    /// Those of `leases` from here on are not granted yet.
    next: usize,
    /// Each with whether it may still be live.
    strays: Vec<(Stray, bool)>,
    open: Vec<Open>,
    /// The most leases that were surely live at once.
    live_max: usize,
}

impl Model {
    /// A pool of so many seats, with every grant that the history knows of.
    pub fn new(
        counts: Counts,
        mut grants: Vec<(Granted, Doubts)>,
        strays: Vec<Stray>,
        open: Vec<Open>,
    ) -> Self {
        grants.sort_by_key(|(grant, _)| grant.at.log_id);
        let leases: Vec<Lease> = grants
            .into_iter()
            .map(|(grant, doubts)| Lease {
                deadline_ms: grant.deadline_ms,
                grant,
                doubts,
                granted: false,
                over: None,
            })
            .collect();
        let place = |(index, lease): (usize, &Lease)| (lease.grant.request, index);
        let places = leases.iter().enumerate().map(place).collect();
        let strays = strays.into_iter().map(|stray| (stray, true)).collect();
        let (current, next, live_max) = (Vec::new(), 0, 0);
        Self { counts, leases, places, current, next, strays, open, live_max }
    }

    /// The most leases that were surely live at once so far.
    pub fn live_max(&self) -> usize {
        self.live_max
    }

    /// Replays the next fact.
    ///
    /// # Errors
    /// The fact contradicts what is already known; the replay goes on from the fact.
    pub fn step(&mut self, at: Place, fact: &Fact) -> Result<(), Contradiction> {
        match fact {
            Fact::Freed(request) => self.freed(at, *request),
            Fact::Over(request, how) => self.over(at, *request, *how),
            Fact::Full => self.full(at),
            Fact::Granted(request) => self.granted(at, *request),
            Fact::Renewed(request, deadline_ms) => self.renewed(at, *request, *deadline_ms),
            Fact::Live(request, deadline_ms) => self.live(at, *request, *deadline_ms),
            Fact::Listing(seats) => self.listing(at, seats),
        }
    }

    fn granted(&mut self, at: Place, request: RequestId) -> Result<(), Contradiction> {
        let Some(lease) = self.lease(request) else { return Ok(()) };
        if let Some(cancelled) = lease.over {
            return contradiction(
                "S3",
                format!("request {request} took a seat although it had ended at {cancelled}"),
            );
        }
        lease.granted = true;
        let granted = self.places[&request];
        self.next = self.next.max(granted + 1);
        let leases = &self.leases;
        self.current.retain(|index| leases[*index].may_live(at));
        self.current.push(granted);
        let current = self.current.iter().map(|index| &self.leases[*index]);
        let live: Vec<u64> = current
            .filter(|lease| lease.is_surely_live(at))
            .map(|lease| lease.grant.token)
            .collect();
        self.live_max = self.live_max.max(live.len());
        let seats = self.counts.most(at.log_id);
        if live.len() > seats {
            return contradiction(
                "S1",
                format!(
                    "the grant to {request} makes {} live seats of {seats}: tokens {live:?}",
                    live.len()
                ),
            );
        }
        Ok(())
    }

    fn freed(&mut self, at: Place, request: RequestId) -> Result<(), Contradiction> {
        if let Some(lease) = self.lease(request) {
            lease.over.get_or_insert(at.log_id);
        }
        Ok(())
    }

    fn over(&mut self, at: Place, request: RequestId, how: How) -> Result<(), Contradiction> {
        let Some(lease) = self.lease(request) else { return Ok(()) };
        let ended_before = lease.over.is_some();
        let may_be_released =
            ended_before || lease.doubts.ended_after.is_some_and(|after| after < at.log_id);
        let wrong = match how {
            How::Released if !may_be_released => {
                Some(("S6", "released although nobody asked for that".to_owned()))
            }
            How::Expired if lease.deadline_ms > at.stamp_ms => Some((
                "S8",
                format!(
                    "expired at {} ms although it lived until {} ms",
                    at.stamp_ms, lease.deadline_ms
                ),
            )),
            How::Unsaid if lease.is_surely_live(at) => Some((
                "S4",
                format!(
                    "lost: it was granted, not released, and alive until {} ms",
                    lease.deadline_ms
                ),
            )),
            _ => None,
        };
        lease.over.get_or_insert(at.log_id);
        match wrong {
            Some((law, how)) => contradiction(law, format!("the seat of {request} was {how}")),
            None => Ok(()),
        }
    }

    fn renewed(
        &mut self,
        at: Place,
        request: RequestId,
        deadline_ms: u64,
    ) -> Result<(), Contradiction> {
        let Some(lease) = self.lease(request) else { return Ok(()) };
        if !lease.granted || !lease.may_live(at) {
            let was = match lease.over {
                Some(over) => format!("over at {over}"),
                None if !lease.granted => "not granted yet".to_owned(),
                None => format!("past its deadline of {} ms", lease.deadline_ms),
            };
            return contradiction(
                "S7",
                format!("{request} was renewed at {} ms although it was {was}", at.stamp_ms),
            );
        }
        let expected = lease.deadline_ms.max(at.stamp_ms + lease.grant.ttl_ms);
        lease.deadline_ms = lease.deadline_ms.max(deadline_ms);
        if deadline_ms != expected {
            return contradiction(
                "S7",
                format!("{request} was renewed until {deadline_ms} ms instead of {expected} ms"),
            );
        }
        Ok(())
    }

    fn live(
        &mut self,
        at: Place,
        request: RequestId,
        deadline_ms: u64,
    ) -> Result<(), Contradiction> {
        let Some(lease) = self.lease(request) else { return Ok(()) };
        if !lease.may_live(at) {
            return contradiction(
                "S9",
                format!(
                    "{request} is said to live at {} ms; it was over at {} or past its deadline of {} ms",
                    at.stamp_ms,
                    lease.over.map_or("no known place".to_owned(), |over| over.to_string()),
                    lease.deadline_ms
                ),
            );
        }
        let known = lease.deadline_ms;
        let latest = at.stamp_ms + lease.grant.ttl_ms;
        let fits = if lease.may_be_renewed(at) {
            (known..=latest.max(known)).contains(&deadline_ms)
        } else {
            deadline_ms == known
        };
        lease.deadline_ms = known.max(deadline_ms);
        if !fits {
            return contradiction(
                "S7",
                format!("{request} is said to live until {deadline_ms} ms; it was told {known} ms"),
            );
        }
        Ok(())
    }

    /// A refusal for want of a seat needs a full pool.
    fn full(&mut self, at: Place) -> Result<(), Contradiction> {
        // A batch may settle waiting requests before it comes to this one.
        let begun = |grant: LogId| grant <= at.log_id || grant.same_entry(at.log_id);
        let current = self.current.iter().map(|index| &self.leases[*index]);
        let same_entry =
            self.leases[self.next..].iter().take_while(|lease| begun(lease.grant.at.log_id));
        let leases = current.chain(same_entry).filter(|lease| lease.may_live(at)).count();
        let in_time = |stray: &Stray| {
            stray.before.is_none_or(|before| before.stamp_ms + stray.ttl_ms >= at.stamp_ms)
        };
        let strays = self
            .strays
            .iter()
            .filter(|(stray, may_live)| *may_live && in_time(stray) && begun(stray.after))
            .count();
        // Between known grants every other grant shows as a gap between their
        // tokens; behind the last one nothing shows.
        let later = if self.next == self.leases.len() {
            let may_live = |open: &&Open| open.after < at.log_id && open.over_ms >= at.stamp_ms;
            self.open.iter().filter(may_live).count()
        } else {
            0
        };
        let seats = self.counts.least(at.log_id);
        if leases + strays + later < seats {
            return contradiction(
                "S2",
                format!(
                    "a request was refused for want of a seat with at most {} of {seats} seats taken",
                    leases + strays + later
                ),
            );
        }
        Ok(())
    }

    fn listing(&mut self, at: Place, seats: &[Seat]) -> Result<(), Contradiction> {
        let mut wrong = None;
        // After a shrink a pool drains.
        let (most, _) = self.counts.bounds();
        if seats.len() > most {
            wrong = Some(("S1", format!("{} seats are listed of {most}", seats.len())));
        }
        let granted = &self.leases[..self.next];
        let known: BTreeMap<u64, RequestId> =
            granted.iter().map(|lease| (lease.grant.token, lease.grant.request)).collect();
        for seat in seats {
            if let Some(request) = known.get(&seat.token).copied()
                && let Err(error) = self.live(at, request, seat.until_ms)
            {
                wrong.get_or_insert((error.law, format!("the listing is wrong: {}", error.what)));
            }
        }
        let is_listed = |token| seats.iter().any(|seat| seat.token == token);
        for index in &self.current {
            let lease = &mut self.leases[*index];
            if is_listed(lease.grant.token) {
                continue;
            }
            if lease.is_surely_live(at) {
                wrong.get_or_insert((
                    "S4",
                    format!(
                        "seat {} is missing from the listing; it was granted to {}, not released, and lives until {} ms",
                        lease.grant.token, lease.grant.request, lease.deadline_ms
                    ),
                ));
            }
            lease.over.get_or_insert(at.log_id);
        }
        for (stray, may_live) in &mut self.strays {
            let is_past = stray.before.is_some_and(|before| before.log_id <= at.log_id);
            *may_live &= !is_past || is_listed(stray.token);
        }
        match wrong {
            Some((law, what)) => contradiction(law, what),
            None => Ok(()),
        }
    }

    fn lease(&mut self, request: RequestId) -> Option<&mut Lease> {
        self.places.get(&request).map(|index| &mut self.leases[*index])
    }
}

fn contradiction(law: &'static str, what: String) -> Result<(), Contradiction> {
    Err(Contradiction { law, what })
}
