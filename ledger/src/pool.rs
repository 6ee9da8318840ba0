//! A product's pool: its licenses, what is charged to each, and who waits.

use std::collections::{BTreeMap, VecDeque};

use license::product::{LicenseId, ProductName, Version};
use license::terms::{Counting, Terms};

use crate::command::{LeaseId, Refusal, ShareState};
use crate::ledger::Ledger;
use crate::name::Subject;
use crate::view::Service;

/// One product's licenses, charges and queue.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Pool {
    /// The soonest to expire first.
    pub(crate) licenses: Vec<LicenseId>,
    /// What is charged to each license, those among them that have ended too.
    pub(crate) charges: BTreeMap<LicenseId, Charge>,
    /// Tickets rise from the head on, so a place is found by binary search.
    pub(crate) queue: VecDeque<(u64, LeaseId)>,
}

/// What is charged to one license in one pool.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Charge {
    pub(crate) leases: u64,
    /// Leases of each station.
    pub(crate) stations: BTreeMap<Subject, u32>,
}

impl Charge {
    /// Seats taken, as that counting mode counts them.
    pub(crate) fn seats(&self, counting: Counting) -> u64 {
        match counting {
            Counting::PerStation => self.stations.len() as u64,
            Counting::PerInstance | Counting::ExclusivePerStation | Counting::Unlimited => {
                self.leases
            }
        }
    }
}

impl Pool {
    pub(crate) fn is_empty(&self) -> bool {
        self.licenses.is_empty() && self.charges.is_empty() && self.queue.is_empty()
    }

    pub(crate) fn charge(&mut self, license: LicenseId, station: &Subject) {
        let charge = self.charges.entry(license).or_default();
        charge.leases += 1;
        *charge.stations.entry(station.clone()).or_default() += 1;
    }

    pub(crate) fn discharge(&mut self, license: LicenseId, station: &Subject) {
        let Some(charge) = self.charges.get_mut(&license) else { return };
        charge.leases -= 1;
        if let Some(leases) = charge.stations.get_mut(station) {
            *leases -= 1;
            if *leases == 0 {
                charge.stations.remove(station);
            }
        }
        if charge.leases == 0 {
            self.charges.remove(&license);
        }
    }

    pub(crate) fn enqueue(&mut self, ticket: u64, lease: LeaseId) {
        let place = self.queue.partition_point(|(other, _)| *other < ticket);
        self.queue.insert(place, (ticket, lease));
    }

    pub(crate) fn dequeue(&mut self, ticket: u64) {
        if let Ok(place) = self.queue.binary_search_by_key(&ticket, |(other, _)| *other) {
            self.queue.remove(place);
        }
    }

    fn holds(&self, license: LicenseId, station: &Subject) -> bool {
        self.charges.get(&license).is_some_and(|charge| charge.stations.contains_key(station))
    }
}

/// Seats in force and seats taken in one pool.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Room {
    /// `None` is without limit.
    pub(crate) capacity: Option<u64>,
    pub(crate) taken: u64,
}

impl Room {
    pub(crate) fn is_free(self) -> bool {
        self.capacity.is_none_or(|capacity| self.taken < capacity)
    }
}

impl Ledger {
    /// Chooses the license that a new seat is charged to, or says why none can be.
    ///
    /// A license on which the station already shares a seat comes first, then
    /// the soonest to expire. A seat must fit both into its license and into
    /// the whole pool: leases left over from an ended or shrunk license still
    /// count against the pool until they move or end (S1, S12).
    pub(crate) fn admit(
        &self,
        product: &ProductName,
        station: &Subject,
        version: Option<Version>,
    ) -> Result<LicenseId, Refusal> {
        let unknown = || Refusal::UnknownProduct { product: product.clone() };
        let pool = self.index.pools.get(product).ok_or_else(unknown)?;
        let room = self.room(pool);
        let sharing = pool.licenses.iter().filter(|id| {
            pool.holds(**id, station) && self.counting(**id) == Some(Counting::PerStation)
        });
        let mut refusal: Option<Refusal> = None;
        for id in sharing.chain(&pool.licenses) {
            match self.admit_to(pool, room, *id, station, version) {
                Ok(()) => return Ok(*id),
                Err(other) => {
                    if refusal.as_ref().is_none_or(|known| telling(known) < telling(&other)) {
                        refusal = Some(other);
                    }
                }
            }
        }
        Err(refusal.unwrap_or_else(unknown))
    }

    fn admit_to(
        &self,
        pool: &Pool,
        room: Room,
        id: LicenseId,
        station: &Subject,
        version: Option<Version>,
    ) -> Result<(), Refusal> {
        let Some(terms) = self.terms(id) else {
            return Err(Refusal::UnknownLicense { license: id });
        };
        if let Some(asked) = uncovered(terms, version) {
            return Err(asked);
        }
        self.serves(id, terms)?;
        let taken = pool.charges.get(&id).map_or(0, |charge| charge.seats(terms.counting));
        let seats = u64::from(terms.seats);
        let fits = match terms.counting {
            Counting::Unlimited => true,
            Counting::PerStation if pool.holds(id, station) => taken <= seats,
            Counting::ExclusivePerStation if self.holds_exclusively(pool, station) => {
                let product = terms.name.clone();
                return Err(Refusal::StationHolds { product, subject: station.clone() });
            }
            _ => taken < seats && room.is_free(),
        };
        if fits {
            return Ok(());
        }
        let capacity = room.capacity.unwrap_or(u64::MAX);
        Err(Refusal::NoSeatFree { product: terms.name.clone(), capacity })
    }

    /// Whether a license serves now; if not, why not.
    pub(crate) fn serves(&self, id: LicenseId, terms: &Terms) -> Result<(), Refusal> {
        let product = terms.name.clone();
        let Some(standing) = self.index.standing.get(&id) else {
            return Err(Refusal::UnknownLicense { license: id });
        };
        let date = self.date_of(id.firm);
        Err(match (standing.service, terms.activation, terms.expiration, date) {
            (Service::Serving, ..) => return Ok(()),
            (Service::NotYetActive, Some(from), _, Some(date)) => {
                Refusal::NotYetActive { product, license: id, from, date }
            }
            (Service::Expired, _, Some(until), _) => {
                Refusal::LicenseExpired { product, license: id, until }
            }
            (Service::SharesMissing, ..) => {
                let down = |share: &&(_, ShareState)| share.1 != ShareState::Live;
                let down: Vec<_> = standing.shares.iter().filter(down).copied().collect();
                let live = (standing.shares.len() - down.len()) as u32;
                Refusal::SharesMissing { product, license: id, live, down }
            }
            _ => Refusal::TermUnsigned { product, license: id, term: self.term() },
        })
    }

    /// Seats in force and taken.
    pub(crate) fn room(&self, pool: &Pool) -> Room {
        let mut capacity = Some(0u64);
        for id in &pool.licenses {
            let serving =
                |standing: &crate::index::LicenseStanding| standing.service == Service::Serving;
            let Some(terms) = self.terms(*id) else { continue };
            if self.index.standing.get(id).is_some_and(serving) {
                capacity = match terms.counting {
                    Counting::Unlimited => None,
                    _ => capacity.map(|sum| sum + u64::from(terms.seats)),
                };
            }
        }
        Room { capacity, taken: self.seats_taken(pool) }
    }

    /// Seats taken in a pool, each license's as it counts them.
    pub(crate) fn seats_taken(&self, pool: &Pool) -> u64 {
        let seats = |(id, charge): (&LicenseId, &Charge)| {
            charge.seats(self.counting(*id).unwrap_or(Counting::PerInstance))
        };
        pool.charges.iter().map(seats).sum()
    }

    /// The terms in force.
    pub(crate) fn terms(&self, id: LicenseId) -> Option<&Terms> {
        self.state.licenses.get(&id).map(|installed| installed.current.license.terms())
    }

    pub(crate) fn counting(&self, id: LicenseId) -> Option<Counting> {
        self.terms(id).map(|terms| terms.counting)
    }

    fn holds_exclusively(&self, pool: &Pool, station: &Subject) -> bool {
        pool.licenses.iter().any(|id| {
            self.counting(*id) == Some(Counting::ExclusivePerStation) && pool.holds(*id, station)
        })
    }
}

/// The refusal of a version above the license's highest.
pub(crate) fn uncovered(terms: &Terms, version: Option<Version>) -> Option<Refusal> {
    let (asked, highest) = (version?, terms.version_max?);
    (asked > highest).then(|| Refusal::VersionTooHigh {
        product: terms.name.clone(),
        license: terms.license,
        asked,
        highest,
    })
}

/// Of several licenses' refusals the caller hears the one it can do most about:
/// what a moment's patience or a released seat would mend comes first.
fn telling(refusal: &Refusal) -> u8 {
    match refusal {
        Refusal::TermUnsigned { .. } => 6,
        Refusal::NoSeatFree { .. } => 5,
        Refusal::StationHolds { .. } => 4,
        Refusal::SharesMissing { .. } => 3,
        Refusal::VersionTooHigh { .. } => 2,
        Refusal::NotYetActive { .. } => 1,
        _ => 0,
    }
}
