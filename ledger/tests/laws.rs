//! The laws of the ledger, on random histories.
//!
//! Every answer is compared with a naive model (`model/`), and after every
//! entry the ledger's own invariants are checked from scratch: S1 to S14 and
//! S16 by the model's answers, S2, S5, S14, S18 and S19 directly. At the end
//! an auditor that knows only the usage records must come to the same seats.

mod history_of_chance;
mod model;
mod support;

use history_of_chance::{IDS, Op, PAPERS, PRODUCTS, Step, TERMS, archive, paper, step};
use ledger::command::{
    Acquire, Batch, Cancel, Command, LeaseId, LogId, Outcome, Refusal, Release, Renew, Reply,
    Revoke, Standing, Token, WithdrawShare,
};
use ledger::name::{HolderName, Subject};
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::usage::WrittenPage;
use ledger::{Event, Ledger};
use license::product::{LicenseId, NodeId, ProductName, Version};
use model::{Ask, Model, Said, Stands};
use proptest::prelude::*;
use support::{ISSUED, World, audit, subject, terms};

/// The ledger and the model side by side.
struct Pair {
    ledger: Ledger,
    model: Model,
    log: Vec<(u64, u64, Vec<u8>)>,
    now: i64,
    term: u64,
    last_log_id: Option<LogId>,
    last_token: u64,
    /// Every heartbeat so far: node, count, command.
    beats: Vec<(usize, u64, Command)>,
    pages: Vec<WrittenPage>,
}

impl Pair {
    fn new() -> Self {
        let mut pair = Self {
            ledger: Ledger::new(),
            model: Model::default(),
            log: Vec::new(),
            now: 0,
            term: 1,
            last_log_id: None,
            last_token: 0,
            beats: Vec::new(),
            pages: Vec::new(),
        };
        pair.enter(vec![(archive().genesis.clone(), Said::Done)]);
        pair
    }

    fn apply(&mut self, entry_term: u64, commands: Vec<Command>) -> ledger::Applied {
        let time = ClusterTime(u64::try_from(self.now).unwrap_or(0));
        let batch = Batch { stamp: Stamp { time, term: self.term, withheld: false }, commands };
        let bytes = batch.encode().expect("within the limits");
        let index = self.log.len() as u64 * 100 + 1;
        assert_eq!(Batch::decode(&bytes).as_ref(), Ok(&batch));
        self.log.push((index, entry_term, bytes));
        let applied = self.ledger.apply(index, entry_term, &batch);
        self.pages.extend(applied.pages.iter().cloned());
        applied
    }

    fn enter(&mut self, commands: Vec<(Command, Said)>) {
        let (commands, said): (Vec<_>, Vec<_>) = commands.into_iter().unzip();
        let applied = self.apply(self.term, commands);
        let answers: Vec<Said> = applied.replies.iter().map(in_short).collect();
        assert_eq!(answers, said, "replies");
        let mut settled = Vec::new();
        let mut replies: Vec<&Reply> = applied.replies.iter().collect();
        for event in &applied.events {
            if let Event::Settled { lease, reply } = event {
                settled.push((lease.0 as u8, in_short(reply)));
                replies.push(reply);
            }
        }
        assert_eq!(settled, self.model.settled, "settled besides");
        self.check_order(replies);
    }

    /// Log ids are unique and rise as things happen; so do tokens (S5); the
    /// stamp never falls (S14).
    fn check_order(&mut self, mut replies: Vec<&Reply>) {
        replies.sort_by_key(|reply| reply.log_id);
        for reply in replies {
            assert!(self.last_log_id < Some(reply.log_id), "S5: log ids are unique");
            self.last_log_id = Some(reply.log_id);
            assert_eq!(reply.stamp, self.ledger.clock(), "S14");
            if let Outcome::Granted(grant, _) = &reply.outcome
                && grant.log_id == reply.log_id
            {
                assert!(grant.token.0 > self.last_token, "S5: tokens rise");
                self.last_token = grant.token.0;
            }
        }
    }

    fn play(&mut self, step: &Step) {
        if step.restart {
            let bytes = self.ledger.snapshot();
            assert_eq!(bytes, self.ledger.clone().snapshot(), "S19: deterministic bytes");
            let restored = Ledger::restore(&bytes).expect("a snapshot of our own");
            assert_eq!(restored, self.ledger, "S19");
            self.ledger = restored;
        }
        if step.stale {
            let before = self.ledger.clone();
            let commands = vec![self.command_of_somebody()];
            self.now += 1_000_000;
            let applied = self.apply(self.term + 1, commands);
            self.now -= 1_000_000;
            assert_eq!(applied.replies[0].outcome, Outcome::Refused(Refusal::StaleStamp), "S16");
            self.last_log_id = Some(applied.replies[0].log_id);
            assert_eq!(before, self.ledger, "S16");
        }
        self.now += step.elapsed;
        self.term = if step.new_term { (self.term + 1).min(TERMS) } else { self.term };
        self.model.begin(u64::try_from(self.now).unwrap_or(0), self.term);
        let mut commands = Vec::new();
        for node in (0..3usize).filter(|node| step.heard & (1 << node) != 0) {
            let wall = ISSUED.plus_millis(self.model.clock as i64);
            let count = self.beats.len() as u64 + 1;
            let world = archive().world.lock().unwrap();
            let beat = world.beat_as(node as u64 + 1, count, wall, (0, [0; 32]));
            self.beats.push((node, count, beat.clone()));
            commands.push((beat, self.model.beat(node, count)));
            self.model.hand_on();
        }
        for op in &step.asked {
            self.put(op, &mut commands);
        }
        self.enter(commands);
        assert_eq!(self.ledger.clock().0, self.model.clock, "S14");
        assert_eq!(self.ledger.check(), Ok(()));
        assert_eq!(self.ledger.live(), self.model.live());
        assert_eq!(self.model.granted, self.model.ended + self.model.live(), "S2, on paper");
    }

    fn put(&mut self, op: &Op, commands: &mut Vec<(Command, Said)>) {
        if let Op::SignAll = op {
            for edition in 0..PAPERS.len() {
                self.put(&Op::Sign { edition, term: self.term }, commands);
            }
            return;
        }
        if let Op::Update { edition } = *op {
            self.put(&Op::Install { edition }, commands);
            for node in 0..3 {
                self.put(&Op::Attest { edition, node }, commands);
            }
            return self.put(&Op::Sign { edition, term: self.term }, commands);
        }
        if let Op::Replay { node, back } = *op {
            let mut kept = self.beats.iter().rev().filter(|(of, ..)| *of == node);
            let Some((_, count, beat)) = kept.nth(back) else { return };
            let said = self.model.beat(node, *count);
            return commands.push((beat.clone(), said));
        }
        let op = &self.about_somebody(op);
        let command = self.command(op);
        let said = self.ask_model(op, &command);
        self.model.hand_on();
        commands.push((command, said));
    }

    /// Renewals, releases and the like are mostly of requests that hold or wait.
    fn about_somebody(&self, op: &Op) -> Op {
        let mut op = op.clone();
        if let Op::Again { id, .. }
        | Op::Renew { id, .. }
        | Op::Release { id, .. }
        | Op::Cancel { id, .. }
        | Op::Revoke { id } = &mut op
        {
            let busy = self.model.busy();
            if *id % 4 != 0 && !busy.is_empty() {
                *id = busy[*id as usize % busy.len()];
            }
        }
        op
    }

    fn command_of_somebody(&self) -> Command {
        self.command(&Op::Acquire {
            id: IDS,
            subject: 0,
            product: 0,
            version: None,
            ttl: 5_000,
            wait: None,
            ahead: 0,
        })
    }

    fn owner(&self, id: u8, other: Option<u8>) -> Subject {
        let owner = self.model.asked(id).map_or(0, |ask| ask.subject);
        subject(NAMES[other.unwrap_or(owner) as usize])
    }

    fn command(&self, op: &Op) -> Command {
        let lease = |id: &u8| LeaseId(u128::from(*id));
        let token = |id: &u8, wrong: &bool| Token(self.model.token(*id) + u64::from(*wrong));
        match op {
            Op::Acquire { .. } | Op::Again { .. } => acquire(&self.ask(op)),
            Op::Renew { id, wrong, subject } => Command::Renew(Renew {
                lease: lease(id),
                subject: self.owner(*id, *subject),
                token: token(id, wrong),
                hold_ended: *wrong,
            }),
            Op::Release { id, wrong, subject } => Command::Release(Release {
                lease: lease(id),
                subject: self.owner(*id, *subject),
                token: token(id, wrong),
            }),
            Op::Cancel { id, subject } => {
                Command::Cancel(Cancel { lease: lease(id), subject: self.owner(*id, *subject) })
            }
            Op::Revoke { id } => {
                Command::Revoke(Revoke { seat: token(id, &false), by: subject("ops") })
            }
            Op::Install { edition } => World::install(&archive().issued[*edition]),
            Op::Attest { edition, node } => archive().attests[*edition][*node].clone(),
            Op::Sign { edition, term } => archive().signs[&(*edition, *term)].clone(),
            Op::Withdraw { edition, node } => Command::WithdrawShare(WithdrawShare {
                license: license_id(PAPERS[*edition].0),
                node: NodeId(*node as u64 + 1),
                by: subject("ops"),
            }),
            Op::SignAll | Op::Update { .. } | Op::Replay { .. } => {
                unreachable!("put spells it out")
            }
        }
    }

    fn ask(&self, op: &Op) -> Ask {
        match op {
            Op::Acquire { id, subject, product, version, ttl, wait, ahead } => Ask {
                id: *id,
                subject: *subject,
                product: PRODUCTS[*product],
                version: *version,
                ttl: *ttl,
                not_after: self.model.clock + ahead,
                wait_until: wait.map(|wait| self.model.clock + wait),
            },
            Op::Again { id, subject } => {
                let asked = self.model.asked(*id).cloned();
                let mut ask = asked.unwrap_or(Ask {
                    id: *id,
                    subject: 0,
                    product: "cad",
                    version: None,
                    ttl: 5_000,
                    not_after: self.model.clock,
                    wait_until: None,
                });
                ask.subject = subject.unwrap_or(ask.subject);
                ask
            }
            other => unreachable!("{other:?} asks for nothing"),
        }
    }

    fn ask_model(&mut self, op: &Op, command: &Command) -> Said {
        let who = |subject: &Subject| {
            NAMES.iter().position(|name| *name == subject.as_str()).unwrap() as u8
        };
        match (op, command) {
            (_, Command::Acquire(_)) => {
                let ask = self.ask(op);
                self.model.acquire(&ask)
            }
            (_, Command::Renew(r)) => self.model.renew(r.lease.0 as u8, who(&r.subject), r.token.0),
            (_, Command::Release(r)) => {
                self.model.release(r.lease.0 as u8, who(&r.subject), r.token.0)
            }
            (_, Command::Cancel(c)) => self.model.cancel(c.lease.0 as u8, who(&c.subject)),
            (_, Command::Revoke(r)) => self.model.revoke(r.seat.0),
            (Op::Install { edition }, _) => self.model.install(&paper(*edition)),
            (Op::Attest { edition, node }, _) => {
                let (id, serial, ..) = PAPERS[*edition];
                self.model.attest(id, serial, *node)
            }
            (Op::Sign { edition, term }, _) => {
                let (id, serial, ..) = PAPERS[*edition];
                self.model.sign(id, serial, *term)
            }
            (Op::Withdraw { edition, node }, _) => self.model.withdraw(PAPERS[*edition].0, *node),
            (op, _) => unreachable!("{op:?} is not put to the model"),
        }
    }

    /// S19: the whole log from the beginning makes the same ledger.
    fn replay(&self) {
        let mut replayed = Ledger::new();
        let mut pages = Vec::new();
        for (index, term, bytes) in &self.log {
            pages.extend(replayed.apply(*index, *term, &Batch::decode(bytes).unwrap()).pages);
        }
        assert_eq!(pages, self.pages, "a replay writes the same history");
        assert_eq!(replayed.hash(), self.ledger.hash(), "S18");
        assert_eq!(replayed.snapshot(), self.ledger.snapshot(), "S19");
        assert_eq!(replayed, self.ledger, "S19");
    }
}

impl Pair {
    /// The records alone come to the same seats and the same counts.
    fn audit(&self) {
        let report = audit(&self.ledger, &self.pages).expect("the history holds");
        let counters = self.ledger.counters();
        let told = (report.granted, report.released, report.expired, report.revoked);
        let kept = (counters.granted, counters.released, counters.expired, counters.revoked);
        assert_eq!(told, kept, "granted, released, expired, revoked");
    }
}

const NAMES: [&str; 4] = ["alice", "bob", "carol", "dave"];

fn license_id(id: u32) -> LicenseId {
    terms("cad", id / 10, id % 10, 1, 1).license
}

fn acquire(ask: &Ask) -> Command {
    Command::Acquire(Acquire {
        lease: LeaseId(u128::from(ask.id)),
        subject: subject(NAMES[ask.subject as usize]),
        product: ProductName::parse(ask.product).unwrap(),
        holder: HolderName::parse("test").unwrap(),
        version: ask.version.map(|major| Version { major, minor: 0 }),
        ttl: Ttl::from_millis(ask.ttl).unwrap(),
        not_after: ClusterTime(ask.not_after),
        wait_until: ask.wait_until.map(ClusterTime),
    })
}

fn in_short(reply: &Reply) -> Said {
    match &reply.outcome {
        Outcome::Granted(grant, standing) => {
            let stands = match standing {
                Standing::Live { deadline } => Stands::Live(deadline.0),
                Standing::Ended(ending) => Stands::Ended(match format!("{ending:?}").as_str() {
                    "Released" => "released",
                    "Expired" => "expired",
                    _ => "revoked",
                }),
            };
            let license = grant.license.product.0 * 10 + grant.license.tmr.0;
            Said::Granted(grant.token.0, license, grant.granted.0, grant.deadline.0, stands)
        }
        Outcome::Queued(place) => Said::Queued(place.position, place.length, place.ask_before.0),
        Outcome::Renewed { deadline } => Said::Renewed(deadline.0),
        Outcome::Released => Said::Released,
        Outcome::Cancelled => Said::Cancelled,
        Outcome::Done => Said::Done,
        Outcome::Refused(refusal) => Said::Refused(refusal.reason().label()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_answer_is_the_models(steps in prop::collection::vec(step(), 1..40)) {
        let mut pair = Pair::new();
        let opening = (0..6).flat_map(|edition| {
            let attest = move |node| Op::Attest { edition, node };
            [Op::Install { edition }].into_iter().chain((0..3).map(attest))
        });
        let asked = opening.chain([Op::SignAll]).collect();
        let first = Step {
            elapsed: 0, heard: 0b111, asked, new_term: false, stale: false, restart: false,
        };
        pair.play(&first);
        for step in &steps {
            pair.play(step);
        }
        pair.replay();
        pair.audit();
    }
}
