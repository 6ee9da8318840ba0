//! The laws of seats: what was granted, what has ended, and that no grant made
//! more than were licensed.

use std::collections::BTreeMap;

use license::product::{LicenseId, LicenseSerial, ProductName, WallTime};
use license::terms::Counting;

use super::Charged;
use crate::command::{Ending, Token};
use crate::name::Subject;
use crate::time::ClusterTime;
use crate::usage::{Held, Licensed};
use crate::view::Service;

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

/// The seats that live, by the records read so far.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    last_token: Token,
    licenses: BTreeMap<LicenseId, Terms>,
    pub(super) live: BTreeMap<Token, Charged>,
    pub(super) report: Report,
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

impl Seats {
    /// Those that lived at the beginning.
    pub(super) fn new(opening: BTreeMap<Token, Charged>) -> Self {
        Self {
            last_token: opening.keys().next_back().copied().unwrap_or(Token(0)),
            licenses: BTreeMap::new(),
            live: opening,
            report: Report::default(),
        }
    }

    /// Tokens up to this one were given out before.
    pub(super) fn begin_part(&mut self, last_token: Token) -> Result<(), String> {
        if self.last_token > last_token {
            return Err(format!("token {} was given out before", self.last_token));
        }
        self.last_token = last_token;
        Ok(())
    }

    /// A license began or ceased to serve.
    pub(super) fn serve(&mut self, license: &LicenseId, service: Service) -> Result<(), String> {
        let terms = self.licenses.get_mut(license).ok_or_else(|| unlicensed(license))?;
        terms.serves = service == Service::Serving;
        Ok(())
    }

    pub(super) fn license(&mut self, licensed: &Licensed) -> Result<(), String> {
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
                for seat in self.live.values().filter(|seat| seat.license == *license) {
                    *terms.stations.entry(seat.subject.clone()).or_default() += 1;
                    terms.leases += 1;
                }
                self.licenses.insert(*license, terms);
            }
        }
        Ok(())
    }

    pub(super) fn grant(&mut self, seat: &Held, time: ClusterTime) -> Result<(), String> {
        if seat.token <= self.last_token {
            return Err(format!("token {} does not rise above {}", seat.token, self.last_token));
        }
        self.last_token = seat.token;
        let before = self.pool(&seat.product);
        self.charge(seat.license, &seat.product, &seat.subject)?;
        self.live.insert(seat.token, seat.into());
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

    pub(super) fn shift(&mut self, seat: &Held, to: LicenseId) -> Result<(), String> {
        self.known(seat)?;
        self.discharge(seat.license, &seat.subject);
        self.charge(to, &seat.product, &seat.subject)?;
        if let Some(charged) = self.live.get_mut(&seat.token) {
            charged.license = to;
        }
        self.check_room(to, &seat.subject)
    }

    pub(super) fn end(&mut self, seat: &Held, ending: Ending) -> Result<(), String> {
        self.known(seat)?;
        self.discharge(seat.license, &seat.subject);
        self.live.remove(&seat.token);
        match ending {
            Ending::Released => self.report.released += 1,
            Ending::Expired => self.report.expired += 1,
            Ending::Revoked => self.report.revoked += 1,
        }
        Ok(())
    }

    /// The seat lives, and is whose the record says.
    pub(super) fn known(&self, seat: &Held) -> Result<(), String> {
        match self.live.get(&seat.token) {
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
