//! The ledger as a person would keep it on paper: lists, and looking through
//! them. Shares no code with the ledger, and knows nothing of cryptography;
//! proofs that would not verify are not put to it.

mod pools;

use pools::above;

/// How a license counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Instance,
    Station,
    Exclusive,
    Unlimited,
}

/// One update of a license on paper.
#[derive(Debug, Clone)]
pub(crate) struct Paper {
    pub(crate) id: u32,
    pub(crate) serial: u64,
    pub(crate) product: &'static str,
    pub(crate) mode: Mode,
    pub(crate) seats: u64,
    /// In cluster time: the model's wall clock starts with it.
    pub(crate) until: Option<u64>,
    pub(crate) version: Option<u32>,
    pub(crate) attested: [bool; 3],
    pub(crate) withdrawn: [bool; 3],
    pub(crate) signed: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) id: u8,
    pub(crate) subject: u8,
    pub(crate) product: &'static str,
    pub(crate) version: Option<u32>,
    pub(crate) ttl: u64,
    pub(crate) not_after: u64,
    pub(crate) wait_until: Option<u64>,
}

/// An answer, as far as the model tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Said {
    /// Token, license, granted at, first deadline, and how it stands.
    Granted(u64, u32, u64, u64, Stands),
    Queued(u32, u32, u64),
    Renewed(u64),
    Released,
    Cancelled,
    Done,
    Refused(&'static str),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Stands {
    Live(u64),
    Ended(&'static str),
}

#[derive(Debug, Clone)]
struct Seat {
    token: u64,
    license: u32,
    at: u64,
    first: u64,
    deadline: u64,
    charged: u32,
    surplus: bool,
    revoked: bool,
}

#[derive(Debug, Clone)]
enum Fate {
    Open,
    Waiting { ask_before: u64 },
    Live(Seat),
    Ended(Seat, &'static str, u64),
    Refused(&'static str, u64),
}

#[derive(Debug, Clone)]
struct Known {
    id: u8,
    subject: u8,
    ask: Option<Ask>,
    not_after: u64,
    fate: Fate,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    pub(crate) clock: u64,
    term: u64,
    heard: [Option<u64>; 3],
    /// The count of the last heartbeat of each node.
    beats: [u64; 3],
    licenses: Vec<(Paper, Option<Paper>)>,
    known: Vec<Known>,
    /// Waiting ids, the head first.
    queue: Vec<u8>,
    tokens: u64,
    pub(crate) granted: u64,
    pub(crate) ended: u64,
    /// What was settled besides the answers: id and answer.
    pub(crate) settled: Vec<(u8, Said)>,
}

impl Model {
    /// The start of an entry: time acts, then seats are handed on.
    pub(crate) fn begin(&mut self, time: u64, term: u64) {
        self.clock = self.clock.max(time);
        self.term = term;
        self.settled.clear();
        let mut due: Vec<(u64, u8)> =
            self.known.iter().filter_map(|k| Some((self.ends_at(k)?, k.id))).collect();
        due.sort_unstable();
        for (at, id) in due {
            if at <= self.clock {
                self.time_ends(id);
            }
        }
        let clock = self.clock;
        self.known.retain(|known| match &known.fate {
            Fate::Open => clock <= known.not_after,
            Fate::Ended(_, _, forget) | Fate::Refused(_, forget) => clock < *forget,
            Fate::Waiting { .. } | Fate::Live(_) => true,
        });
        self.promote();
        self.hand_on();
    }

    fn ends_at(&self, known: &Known) -> Option<u64> {
        match &known.fate {
            Fate::Waiting { ask_before } => Some(known.ask.as_ref()?.wait_until?.min(*ask_before)),
            Fate::Live(seat) => Some(seat.deadline),
            _ => None,
        }
    }

    fn time_ends(&mut self, id: u8) {
        let known = self.get(id).unwrap().clone();
        match known.fate {
            Fate::Live(_) => self.end(id, "expired"),
            Fate::Waiting { ask_before } => {
                let in_vain = known.ask.unwrap().wait_until.unwrap() <= ask_before;
                self.end_wait(id, if in_vain { "waited_in_vain" } else { "withdrawn" });
            }
            _ => {}
        }
    }

    fn end_wait(&mut self, id: u8, why: &'static str) {
        self.refuse(id, why);
        self.queue.retain(|waiting| *waiting != id);
        self.settled.push((id, Said::Refused(why)));
    }

    fn refuse(&mut self, id: u8, why: &'static str) {
        let clock = self.clock;
        let known = self.get_mut(id).unwrap();
        known.fate = Fate::Refused(why, (known.not_after + 1).max(clock + 60_000));
    }

    fn end(&mut self, id: u8, how: &'static str) {
        let clock = self.clock;
        let known = self.get_mut(id).unwrap();
        let Fate::Live(seat) = known.fate.clone() else { panic!("only a live seat ends") };
        let how = if seat.revoked { "revoked" } else { how };
        known.fate = Fate::Ended(seat, how, (known.not_after + 1).max(clock + 60_000));
        self.ended += 1;
    }

    pub(crate) fn acquire(&mut self, ask: &Ask) -> Said {
        if let Some(known) = self.get(ask.id).cloned() {
            if known.subject != ask.subject || known.ask.as_ref().is_some_and(|k| k != ask) {
                return Said::Refused("id_reused");
            }
            match known.fate {
                Fate::Open => {}
                Fate::Waiting { .. } => {
                    self.get_mut(ask.id).unwrap().fate =
                        Fate::Waiting { ask_before: self.clock + 15_000 };
                    return self.place(ask.id);
                }
                Fate::Live(seat) => return told(&seat, Stands::Live(seat.deadline)),
                Fate::Ended(seat, how, _) => return told(&seat, Stands::Ended(how)),
                Fate::Refused(why, _) => return Said::Refused(why),
            }
        }
        if self.clock > ask.not_after {
            return Said::Refused("too_late");
        }
        if ask.not_after > self.clock + 60_000 {
            return Said::Refused("too_far_ahead");
        }
        self.known.retain(|known| known.id != ask.id);
        self.known.push(Known {
            id: ask.id,
            subject: ask.subject,
            ask: Some(ask.clone()),
            not_after: ask.not_after,
            fate: Fate::Open,
        });
        match self.admit(ask) {
            Ok(license) => self.grant(ask.id, license),
            Err("term_unsigned" | "no_seat_free")
                if ask.wait_until.is_some_and(|until| until > self.clock) =>
            {
                let ask_before = self.clock + 15_000;
                self.get_mut(ask.id).unwrap().fate = Fate::Waiting { ask_before };
                self.queue.push(ask.id);
                self.place(ask.id)
            }
            Err("term_unsigned") => Said::Refused("term_unsigned"),
            Err(why) => {
                self.refuse(ask.id, why);
                Said::Refused(why)
            }
        }
    }

    fn grant(&mut self, id: u8, license: u32) -> Said {
        self.tokens += 1;
        self.granted += 1;
        let (token, at) = (self.tokens, self.clock);
        let known = self.get_mut(id).unwrap();
        let first = at + known.ask.as_ref().unwrap().ttl;
        let seat = Seat {
            token,
            license,
            at,
            first,
            deadline: first,
            charged: license,
            surplus: false,
            revoked: false,
        };
        known.fate = Fate::Live(seat.clone());
        told(&seat, Stands::Live(first))
    }

    fn place(&self, id: u8) -> Said {
        let product = self.get(id).unwrap().ask.as_ref().unwrap().product;
        let of_product =
            |other: &&u8| self.get(**other).unwrap().ask.as_ref().unwrap().product == product;
        let line: Vec<u8> = self.queue.iter().filter(of_product).copied().collect();
        let position = line.iter().position(|other| *other == id).unwrap() as u32 + 1;
        let Fate::Waiting { ask_before } = self.get(id).unwrap().fate else { panic!("waiting") };
        Said::Queued(position, line.len() as u32, ask_before)
    }

    pub(crate) fn renew(&mut self, id: u8, subject: u8, token: u64) -> Said {
        let Some(known) = self.get(id).cloned() else { return Said::Refused("no_such_lease") };
        let mut seat = match &known.fate {
            Fate::Live(seat) | Fate::Ended(seat, ..) if seat.token == token => seat.clone(),
            _ => return Said::Refused("no_such_lease"),
        };
        if known.subject != subject {
            return Said::Refused("no_such_lease");
        }
        if let Fate::Ended(..) = known.fate {
            return Said::Refused("lease_ended");
        }
        if seat.revoked {
            return Said::Refused("seat_revoked");
        }
        let ask = known.ask.unwrap();
        let charged = self.current(seat.charged).clone();
        let over =
            charged.mode != Mode::Unlimited && self.taken(charged.id, ask.product) > charged.seats;
        let why = if charged.product != ask.product
            || above(ask.version, charged.version)
            || (self.serves(&charged).is_ok() && seat.surplus && over)
        {
            Err("license_gone")
        } else {
            self.serves(&charged)
        };
        if let Err(why) = why {
            if why == "term_unsigned" {
                return Said::Refused(why);
            }
            let before = self.get(id).unwrap().fate.clone();
            self.get_mut(id).unwrap().fate = Fate::Open;
            let moved = self.admit(&ask);
            self.get_mut(id).unwrap().fate = before;
            match moved {
                Ok(license) => seat.charged = license,
                Err("term_unsigned") => return Said::Refused("term_unsigned"),
                Err(_) if why == "shares_missing" => return Said::Refused(why),
                Err(_) => return Said::Refused("license_gone"),
            }
        }
        seat.deadline = seat.deadline.max(self.clock + ask.ttl);
        seat.surplus = false;
        let deadline = seat.deadline;
        self.get_mut(id).unwrap().fate = Fate::Live(seat);
        Said::Renewed(deadline)
    }

    pub(crate) fn release(&mut self, id: u8, subject: u8, token: u64) -> Said {
        let Some(known) = self.get(id).cloned() else { return Said::Refused("no_such_lease") };
        match &known.fate {
            _ if known.subject != subject => Said::Refused("no_such_lease"),
            Fate::Live(seat) if seat.token == token => {
                self.end(id, "released");
                Said::Released
            }
            Fate::Ended(seat, ..) if seat.token == token => Said::Released,
            _ => Said::Refused("no_such_lease"),
        }
    }

    pub(crate) fn cancel(&mut self, id: u8, subject: u8) -> Said {
        let clock = self.clock;
        let Some(known) = self.get(id).cloned() else {
            let fate = Fate::Refused("withdrawn", clock + 60_001);
            self.known.push(Known { id, subject, ask: None, not_after: clock + 60_000, fate });
            return Said::Cancelled;
        };
        if known.subject != subject {
            return Said::Refused("no_such_lease");
        }
        match known.fate {
            Fate::Live(_) => self.end(id, "released"),
            Fate::Waiting { .. } => self.end_wait(id, "withdrawn"),
            Fate::Open => self.refuse(id, "withdrawn"),
            Fate::Ended(..) | Fate::Refused(..) => {}
        }
        Said::Cancelled
    }

    pub(crate) fn revoke(&mut self, token: u64) -> Said {
        for known in &mut self.known {
            if let Fate::Live(seat) = &mut known.fate
                && seat.token == token
            {
                seat.revoked = true;
                return Said::Done;
            }
        }
        Said::Refused("no_such_seat")
    }

    pub(crate) fn install(&mut self, paper: &Paper) -> Said {
        match self.licenses.iter_mut().find(|(current, _)| current.id == paper.id) {
            None => {
                self.licenses.push((paper.clone(), None));
                self.mark_surplus(paper.id);
            }
            Some((current, next)) => {
                let newest = next.as_ref().unwrap_or(current).serial;
                if newest > paper.serial {
                    return Said::Refused("package");
                }
                if newest < paper.serial {
                    if current.product != paper.product {
                        return Said::Refused("package");
                    }
                    *next = Some(paper.clone());
                }
            }
        }
        self.promote();
        Said::Done
    }

    pub(crate) fn attest(&mut self, id: u32, serial: u64, node: usize) -> Said {
        self.edit(id, serial, |paper| paper.attested[node] = true)
    }

    pub(crate) fn sign(&mut self, id: u32, serial: u64, term: u64) -> Said {
        let current = self.term;
        let mut are_in_service = false;
        // The first two nodes' shares sign.
        let looked = self.edit(id, serial, |paper| {
            are_in_service = (0..2).all(|node| paper.attested[node] && !paper.withdrawn[node]);
        });
        match looked {
            Said::Done if term != current => Said::Refused("term_signature_invalid"),
            Said::Done if !are_in_service => Said::Refused("signer_not_in_service"),
            Said::Done => self.edit(id, serial, |paper| paper.signed = Some(term)),
            refused => refused,
        }
    }

    pub(crate) fn withdraw(&mut self, id: u32, node: usize) -> Said {
        let Some((current, next)) = self.licenses.iter_mut().find(|(c, _)| c.id == id) else {
            return Said::Refused("unknown_license");
        };
        current.withdrawn[node] = true;
        if let Some(next) = next {
            next.withdrawn[node] = true;
        }
        self.promote();
        Said::Done
    }

    pub(crate) fn beat(&mut self, node: usize, count: u64) -> Said {
        if count <= self.beats[node] {
            return Said::Refused("heartbeat_stale");
        }
        self.beats[node] = count;
        self.heard[node] = Some(self.clock);
        self.promote();
        Said::Done
    }

    fn edit(&mut self, id: u32, serial: u64, change: impl FnOnce(&mut Paper)) -> Said {
        let Some((current, next)) = self.licenses.iter_mut().find(|(c, _)| c.id == id) else {
            return Said::Refused("unknown_license");
        };
        match [Some(current), next.as_mut()].into_iter().flatten().find(|p| p.serial == serial) {
            Some(paper) => change(paper),
            None => return Said::Refused("other_serial"),
        }
        self.promote();
        Said::Done
    }

    fn promote(&mut self) {
        for place in 0..self.licenses.len() {
            let Some(next) = self.licenses[place].1.clone() else { continue };
            if self.serves(&next).is_ok() {
                let id = next.id;
                self.licenses[place] = (next, None);
                self.mark_surplus(id);
            }
        }
    }

    /// Until nobody who waits can be served: products in order, each from its head.
    pub(crate) fn hand_on(&mut self) {
        let mut products: Vec<&str> = Vec::new();
        for known in &self.known {
            products.extend(known.ask.as_ref().map(|ask| ask.product));
        }
        products.sort_unstable();
        products.dedup();
        for product in products {
            while self.serve_one(product) {}
        }
    }

    fn serve_one(&mut self, product: &str) -> bool {
        for id in self.queue.clone() {
            let ask = self.get(id).unwrap().ask.clone().unwrap();
            if ask.product != product {
                continue;
            }
            if let Ok(license) = self.admit(&ask) {
                self.queue.retain(|waiting| *waiting != id);
                let granted = self.grant(id, license);
                self.settled.push((id, granted));
                return true;
            }
        }
        false
    }

    pub(crate) fn live(&self) -> u64 {
        self.known.iter().filter(|known| matches!(known.fate, Fate::Live(_))).count() as u64
    }

    /// Ids that hold a seat or wait for one.
    pub(crate) fn busy(&self) -> Vec<u8> {
        let busy = |k: &&Known| matches!(k.fate, Fate::Live(_) | Fate::Waiting { .. });
        self.known.iter().filter(busy).map(|known| known.id).collect()
    }

    /// The token an id was granted, if it is remembered.
    pub(crate) fn token(&self, id: u8) -> u64 {
        match self.get(id).map(|known| &known.fate) {
            Some(Fate::Live(seat) | Fate::Ended(seat, ..)) => seat.token,
            _ => 0,
        }
    }

    /// The body an id was last asked with, if it is remembered.
    pub(crate) fn asked(&self, id: u8) -> Option<&Ask> {
        self.get(id)?.ask.as_ref()
    }

    fn get(&self, id: u8) -> Option<&Known> {
        self.known.iter().find(|known| known.id == id)
    }

    fn get_mut(&mut self, id: u8) -> Option<&mut Known> {
        self.known.iter_mut().find(|known| known.id == id)
    }
}

fn told(seat: &Seat, stands: Stands) -> Said {
    Said::Granted(seat.token, seat.license, seat.at, seat.first, stands)
}
