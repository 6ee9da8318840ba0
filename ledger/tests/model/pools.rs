//! Which license has room for whom, counted naively.

use super::{Ask, Fate, Known, Mode, Model, Paper};

impl Model {
    pub(super) fn admit(&self, ask: &Ask) -> Result<u32, &'static str> {
        let mut of_product: Vec<&Paper> =
            self.licenses.iter().map(|(c, _)| c).filter(|c| c.product == ask.product).collect();
        if of_product.is_empty() {
            return Err("unknown_product");
        }
        of_product.sort_by_key(|paper| {
            let shares = paper.mode == Mode::Station && self.holds(paper.id, ask);
            (!shares, paper.until.unwrap_or(u64::MAX), paper.id)
        });
        let mut whys = Vec::new();
        for paper in of_product {
            match self.admit_to(paper, ask) {
                Ok(()) => return Ok(paper.id),
                Err(why) => whys.push(why),
            }
        }
        let telling = [
            "term_unsigned",
            "no_seat_free",
            "station_holds",
            "shares_missing",
            "version_too_high",
            "not_yet_active",
            "license_expired",
        ];
        Err(telling.into_iter().find(|why| whys.contains(why)).unwrap())
    }

    fn admit_to(&self, paper: &Paper, ask: &Ask) -> Result<(), &'static str> {
        if above(ask.version, paper.version) {
            return Err("version_too_high");
        }
        self.serves(paper)?;
        let taken = self.taken(paper.id, ask.product);
        let of_product = || self.licenses.iter().filter(|(c, _)| c.product == ask.product);
        match paper.mode {
            Mode::Unlimited => return Ok(()),
            Mode::Station if self.holds(paper.id, ask) => {
                return if taken <= paper.seats { Ok(()) } else { Err("no_seat_free") };
            }
            Mode::Exclusive
                if of_product()
                    .any(|(c, _)| c.mode == Mode::Exclusive && self.holds(c.id, ask)) =>
            {
                return Err("station_holds");
            }
            _ => {}
        }
        let serving: Vec<&Paper> =
            of_product().map(|(c, _)| c).filter(|c| self.serves(c).is_ok()).collect();
        let unlimited = serving.iter().any(|c| c.mode == Mode::Unlimited);
        let capacity: u64 = serving.iter().map(|c| c.seats).sum();
        let all_taken: u64 = self.licenses.iter().map(|(c, _)| self.taken(c.id, ask.product)).sum();
        if taken < paper.seats && (unlimited || all_taken < capacity) {
            return Ok(());
        }
        Err("no_seat_free")
    }

    pub(super) fn serves(&self, paper: &Paper) -> Result<(), &'static str> {
        if paper.until.is_some_and(|until| self.clock >= until) {
            return Err("license_expired");
        }
        let live = |node: &usize| {
            paper.attested[*node]
                && !paper.withdrawn[*node]
                && self.heard[*node].is_some_and(|heard| self.clock - heard <= 3_000)
        };
        if (0..3).filter(live).count() < 2 {
            return Err("shares_missing");
        }
        if paper.signed != Some(self.term) {
            return Err("term_unsigned");
        }
        Ok(())
    }

    pub(super) fn seats_on(&self, license: u32, product: &str) -> Vec<u8> {
        let on = |known: &&Known| {
            matches!(&known.fate, Fate::Live(seat) if seat.charged == license)
                && known.ask.as_ref().unwrap().product == product
        };
        self.known.iter().filter(on).map(|known| known.subject).collect()
    }

    pub(super) fn taken(&self, license: u32, product: &str) -> u64 {
        let mut holders = self.seats_on(license, product);
        if self.current(license).mode == Mode::Station {
            holders.sort_unstable();
            holders.dedup();
        }
        holders.len() as u64
    }

    fn holds(&self, license: u32, ask: &Ask) -> bool {
        self.seats_on(license, ask.product).contains(&ask.subject)
    }

    pub(super) fn mark_surplus(&mut self, id: u32) {
        let paper = self.current(id).clone();
        let mut seats: Vec<(u64, u8, u8)> = Vec::new();
        for known in &self.known {
            if let Fate::Live(seat) = &known.fate
                && seat.charged == id
            {
                seats.push((seat.token, known.id, known.subject));
            }
        }
        seats.sort_unstable();
        let mut kept: Vec<u8> = Vec::new();
        for (place, (_, lease, subject)) in seats.into_iter().enumerate() {
            if !kept.contains(&subject) && (kept.len() as u64) < paper.seats {
                kept.push(subject);
            }
            let surplus = match paper.mode {
                Mode::Unlimited => false,
                Mode::Station => !kept.contains(&subject),
                Mode::Instance | Mode::Exclusive => place as u64 >= paper.seats,
            };
            if let Fate::Live(seat) = &mut self.get_mut(lease).unwrap().fate {
                seat.surplus = surplus;
            }
        }
    }

    pub(super) fn current(&self, id: u32) -> &Paper {
        &self.licenses.iter().find(|(current, _)| current.id == id).unwrap().0
    }
}

pub(super) fn above(asked: Option<u32>, highest: Option<u32>) -> bool {
    matches!((asked, highest), (Some(asked), Some(highest)) if asked > highest)
}
