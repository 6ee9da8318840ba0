//! Random histories: what may happen in an entry, and the licenses it happens
//! to, made once.

use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock};

use crate::model::{Mode, Paper};
use crate::support::{ISSUED, Issued, World, terms};
use ledger::command::Command;
use license::product::Version;
use license::terms::Counting;
use proptest::prelude::*;

/// Fresh requests draw from these; all else is about what is held or awaited.
pub(crate) const IDS: u8 = 100;
pub(crate) const TERMS: u64 = 3;

/// One log entry: how much time passes, which nodes are heard, what is asked.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    /// Below zero a new leader's clock is behind.
    pub(crate) elapsed: i64,
    pub(crate) heard: u8,
    pub(crate) asked: Vec<Op>,
    pub(crate) new_term: bool,
    pub(crate) stale: bool,
    pub(crate) restart: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum Op {
    Acquire {
        id: u8,
        subject: u8,
        product: usize,
        version: Option<u32>,
        ttl: u64,
        wait: Option<u64>,
        ahead: u64,
    },
    Again {
        id: u8,
        subject: Option<u8>,
    },
    Renew {
        id: u8,
        wrong: bool,
        subject: Option<u8>,
    },
    Release {
        id: u8,
        wrong: bool,
        subject: Option<u8>,
    },
    Cancel {
        id: u8,
        subject: Option<u8>,
    },
    Revoke {
        id: u8,
    },
    Install {
        edition: usize,
    },
    Attest {
        edition: usize,
        node: usize,
    },
    Sign {
        edition: usize,
        term: u64,
    },
    SignAll,
    /// Installed, attested and signed at once.
    Update {
        edition: usize,
    },
    Withdraw {
        edition: usize,
        node: usize,
    },
    /// A heartbeat that was kept is sent again: the last, or one before it.
    Replay {
        node: usize,
        back: usize,
    },
}

pub(crate) fn op() -> impl Strategy<Value = Op> {
    let id = 0..IDS;
    let other = prop::option::weighted(0.1, 0..4u8);
    let wrong = prop::bool::weighted(0.1);
    let wait = prop::option::weighted(
        0.7,
        prop::sample::select(vec![0, 1, 5_000, 15_000, 20_000, 90_000]),
    );
    let ahead = prop::sample::select(vec![0, 1_000, 30_000, 59_999, 60_000, 60_001]);
    let version = prop::option::weighted(0.2, 1..4u32);
    let ttl = prop::sample::select(vec![1_000, 10_000, 30_000, 60_000]);
    let acquire = (
        id.clone(),
        0..4u8,
        prop::sample::select(vec![0, 0, 0, 0, 1, 1, 1, 2, 2, 3, 3, 4]),
        version,
        ttl,
        wait,
        ahead,
    )
        .prop_map(|(id, subject, product, version, ttl, wait, ahead)| Op::Acquire {
            id,
            subject,
            product,
            version,
            ttl,
            wait,
            ahead,
        });
    let edition = 0..PAPERS.len();
    prop_oneof![
        40 => acquire,
        10 => (id.clone(), other.clone()).prop_map(|(id, subject)| Op::Again { id, subject }),
        16 => (id.clone(), wrong, other.clone())
            .prop_map(|(id, wrong, subject)| Op::Renew { id, wrong, subject }),
        16 => (id.clone(), wrong, other.clone())
            .prop_map(|(id, wrong, subject)| Op::Release { id, wrong, subject }),
        5 => (id.clone(), other).prop_map(|(id, subject)| Op::Cancel { id, subject }),
        2 => id.prop_map(|id| Op::Revoke { id }),
        2 => edition.clone().prop_map(|edition| Op::Install { edition }),
        2 => (edition.clone(), 0..3usize).prop_map(|(edition, node)| Op::Attest { edition, node }),
        2 => (edition.clone(), 1..=TERMS).prop_map(|(edition, term)| Op::Sign { edition, term }),
        5 => Just(Op::SignAll),
        4 => edition.clone().prop_map(|edition| Op::Update { edition }),
        1 => (edition, 0..3usize).prop_map(|(edition, node)| Op::Withdraw { edition, node }),
        2 => (0..3usize, 0..3usize).prop_map(|(node, back)| Op::Replay { node, back }),
    ]
}

pub(crate) fn step() -> impl Strategy<Value = Step> {
    let elapsed = prop::sample::select(vec![
        0, 0, 0, 1, 500, 1_000, 1_000, 1_000, 1_000, 2_000, 2_000, 2_999, 3_000, 3_001, 5_000,
        15_000, -5_000,
    ]);
    let heard = prop_oneof![15 => Just(0b111u8), 1 => 0..8u8];
    (
        elapsed,
        heard,
        prop::collection::vec(op(), 0..6),
        prop::bool::weighted(0.04),
        prop::bool::weighted(0.05),
        prop::bool::weighted(0.1),
    )
        .prop_map(|(elapsed, heard, asked, new_term, stale, restart)| Step {
            elapsed,
            heard,
            asked,
            new_term,
            stale,
            restart,
        })
}

pub(crate) const PRODUCTS: [&str; 5] = ["cad", "cam", "cut", "dye", "nil"];

/// (id, serial, product, mode, seats, until, version)
pub(crate) type Printed = (u32, u64, &'static str, Mode, u64, Option<u64>, Option<u32>);
pub(crate) const PAPERS: [Printed; 12] = [
    (11, 1, "cad", Mode::Instance, 3, None, None),
    (12, 1, "cad", Mode::Instance, 1, Some(40_000), None),
    (21, 1, "cam", Mode::Station, 2, None, None),
    (31, 1, "cut", Mode::Exclusive, 2, None, None),
    (41, 1, "dye", Mode::Instance, 2, None, Some(2)),
    (42, 1, "dye", Mode::Station, 1, None, None),
    (11, 2, "cad", Mode::Instance, 1, None, Some(2)),
    (11, 3, "cad", Mode::Instance, 4, None, None),
    (21, 2, "cam", Mode::Station, 1, None, None),
    (31, 2, "cut", Mode::Exclusive, 1, None, None),
    (41, 2, "dye", Mode::Unlimited, 0, Some(90_000), None),
    // Renamed, which is refused.
    (12, 2, "cam", Mode::Instance, 1, None, None),
];

pub(crate) fn paper(edition: usize) -> Paper {
    let (id, serial, product, mode, seats, until, version) = PAPERS[edition];
    let (attested, withdrawn) = ([false; 3], [false; 3]);
    Paper { id, serial, product, mode, seats, until, version, attested, withdrawn, signed: None }
}

/// Everything that costs cryptography, made once.
pub(crate) struct Archive {
    pub(crate) world: Mutex<World>,
    pub(crate) genesis: Command,
    pub(crate) issued: Vec<Issued>,
    pub(crate) attests: Vec<[Command; 3]>,
    pub(crate) signs: BTreeMap<(usize, u64), Command>,
}

pub(crate) fn archive() -> &'static Archive {
    static ARCHIVE: OnceLock<Archive> = OnceLock::new();
    ARCHIVE.get_or_init(|| {
        let mut world = World::new(2);
        let issue = |edition: usize| {
            let paper = paper(edition);
            let (code, tmr) = (paper.id / 10, paper.id % 10);
            let mut sold = terms(paper.product, code, tmr, paper.serial, paper.seats as u32);
            sold.expiration = paper.until.map(|until| ISSUED.plus_millis(until as i64));
            sold.version_max = paper.version.map(|major| Version { major, minor: 0 });
            sold.counting = match paper.mode {
                Mode::Instance => Counting::PerInstance,
                Mode::Station => Counting::PerStation,
                Mode::Exclusive => Counting::ExclusivePerStation,
                Mode::Unlimited => Counting::Unlimited,
            };
            world.issue(sold)
        };
        let issued: Vec<Issued> = (0..PAPERS.len()).map(issue).collect();
        let attests =
            issued.iter().map(|issued| [1, 2, 3].map(|node| world.attest(issued, node))).collect();
        let mut signs = BTreeMap::new();
        for (edition, issued) in issued.iter().enumerate() {
            for term in 1..=TERMS {
                signs.insert((edition, term), Command::SignTerm(world.sign(issued, term)));
            }
        }
        Archive { genesis: world.genesis(), issued, attests, signs, world: Mutex::new(world) }
    })
}
