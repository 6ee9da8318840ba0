//! The history: its parts and what is kept of them, bounds, and what an
//! auditor finds when somebody has had a hand in it.

mod support;

use ledger::Ledger;
use ledger::command::{
    Acquire, Batch, Command, LeaseId, Release, Restore, RestoreFinish, Revoke, SetRetention, Token,
};
use ledger::limits::{
    DENIALS_APART_MAX, DENIALS_OF_SUBJECT_MAX, PAGE_RECORDS_MAX, RESTORE_PART_BYTES,
};
use ledger::name::HolderName;
use ledger::reason::Reason;
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::usage::audit::{Ends, Fault};
use ledger::usage::{Denial, Denied, Fact, Page, Record, Retention, WrittenPage, hash};
use license::product::{ProductName, WallTime};
use support::{ISSUED, World, audit, audit_bytes, digest_of, ends, subject, terms};

const DAY: u64 = 24 * 60 * 60 * 1_000;

struct Cluster {
    world: World,
    ledger: Ledger,
    index: u64,
    pages: Vec<WrittenPage>,
}

impl Cluster {
    fn serving(seats: u32) -> Self {
        let mut world = World::new(5);
        let issued = world.issue(terms("cad", 1, 1, 1, seats));
        let commands = vec![
            world.genesis(),
            World::install(&issued),
            world.attest(&issued, 1),
            world.attest(&issued, 2),
            Command::SignTerm(world.sign(&issued, 1)),
        ];
        let mut cluster = Self { world, ledger: Ledger::new(), index: 0, pages: Vec::new() };
        cluster.apply(0, commands);
        cluster.apply(0, vec![]);
        cluster
    }

    /// Applies an entry after every node was heard; gives its records.
    fn apply(&mut self, time: u64, mut commands: Vec<Command>) -> Vec<Record> {
        if self.ledger.charter().is_some() {
            let wall = ISSUED.plus_millis(time as i64);
            let beats = (1..=3).map(|node| self.world.beat(node, wall, (0, [0; 32])));
            commands.splice(0..0, beats);
        }
        self.index += 1;
        let stamp = Stamp { time: ClusterTime(time), term: 1, withheld: false };
        let applied = self.ledger.apply(self.index, 1, &Batch { stamp, commands });
        assert_eq!(self.ledger.check(), Ok(()));
        let written = self.pages.len();
        self.pages.extend(applied.pages);
        self.pages[written..].iter().flat_map(|page| decode(page).records).collect()
    }

    fn bytes(&self) -> Vec<Vec<u8>> {
        self.pages.iter().map(|page| page.bytes.clone()).collect()
    }
}

fn decode(page: &WrittenPage) -> Page {
    Page::decode(&page.bytes).expect("its own page")
}

fn acquire(id: u128, by: &str, holder: &str, now: u64, ttl: u64) -> Command {
    Command::Acquire(Acquire {
        lease: LeaseId(id),
        subject: subject(by),
        product: ProductName::parse("cad").unwrap(),
        holder: HolderName::parse(holder).unwrap(),
        version: None,
        ttl: Ttl::from_millis(ttl).unwrap(),
        not_after: ClusterTime(now + 60_000),
        wait_until: None,
    })
}

fn release(id: u128, by: &str, token: u64) -> Command {
    Command::Release(Release { lease: LeaseId(id), subject: subject(by), token: Token(token) })
}

fn retain(days: u32) -> Command {
    let retention = Retention::new(days, 64).unwrap();
    Command::SetRetention(SetRetention { retention, by: subject("ops") })
}

/// With one mebibyte to keep, a part is a quarter of it: there is always more
/// than half of that left, never more than a part too much, and it holds.
#[test]
fn little_space_is_kept_in_quarters() {
    let mut cluster = Cluster::serving(3);
    let retention = Retention::new(30, 1).unwrap();
    cluster.apply(1, vec![Command::SetRetention(SetRetention { retention, by: subject("ops") })]);
    let name = "h".repeat(128);
    for crowd in 0..80u64 {
        let now = (crowd + 1) * 100;
        let pair = |token: u64| {
            let taken = acquire(token.into(), "bob", &name, now, 10_000);
            [taken, release(token.into(), "bob", token)]
        };
        cluster.apply(now, (crowd * 50 + 1..=crowd * 50 + 50).flat_map(pair).collect());
        let bytes = cluster.ledger.history().bytes;
        assert!(bytes < (1 << 20) + (300 << 10), "{bytes} bytes are kept");
    }
    let reach = cluster.ledger.history();
    assert!(reach.kept > 0 && reach.bytes > 512 << 10, "{reach:?}");
    audit(&cluster.ledger, &cluster.pages).expect("what is left holds");
}

/// Three seats, one of them held all the time, a year of days. The parts that
/// are kept are audited without those before them.
#[test]
fn whole_days_are_dropped_and_the_rest_holds_without_them() {
    let mut cluster = Cluster::serving(3);
    cluster.apply(1, vec![retain(30), acquire(1, "alice", "long", 1, DAY)]);
    for day in 1..60 {
        let now = day * (DAY - 60_000);
        let renew = ledger::command::Renew {
            lease: LeaseId(1),
            subject: subject("alice"),
            token: Token(1),
            hold_ended: false,
        };
        cluster.apply(now, vec![Command::Renew(renew)]);
        let id = 100 + u128::from(day);
        cluster.apply(now + 10, vec![acquire(id, "bob", "daily", now, 10_000)]);
        cluster.apply(now + 500, vec![release(id, "bob", day + 1)]);
    }
    let reach = cluster.ledger.history();
    assert!(reach.kept > 60, "the first month is gone: {reach:?}");
    let first = &cluster.pages[reach.kept as usize];
    assert!(matches!(decode(first).records[0].fact, Fact::PartBegun { .. }));
    let age = cluster.ledger.clock().millis_since(decode(first).time);
    assert!((30 * DAY..34 * DAY).contains(&age), "kept for {} days", age / DAY);
    let report = audit(&cluster.ledger, &cluster.pages).expect("the rest holds");
    assert_eq!(report.products.values().next().map(|peak| peak.seats), Some(2));

    // What has grown old goes although nothing new comes.
    cluster.apply(120 * DAY, vec![]);
    cluster.apply(120 * DAY + 1, vec![]);
    let kept = cluster.ledger.history();
    let first = &cluster.pages[kept.kept as usize];
    assert_eq!(decode(first).time, ClusterTime(120 * DAY), "{kept:?}");
    audit(&cluster.ledger, &cluster.pages).expect("what is left holds");
}

#[test]
fn dates_find_their_pages() {
    let mut cluster = Cluster::serving(3);
    for day in 0..20 {
        let now = day * DAY + 5_000;
        let id = u128::from(day);
        cluster.apply(now, vec![acquire(id, "bob", "", now, 10_000)]);
        cluster.apply(now + 1, vec![release(id, "bob", day + 1)]);
    }
    let at = |day: i64| Some(WallTime(ISSUED.0 + day * DAY as i64));
    let of = |from, to| {
        let range = cluster.ledger.pages_dated(from, to);
        assert!(range.end <= cluster.ledger.history().pages);
        range
    };
    assert_eq!(of(None, None), 0..cluster.ledger.history().pages);
    for (from, to) in [(3, 5), (0, 1), (18, 30), (19, 20)] {
        let range = of(at(from), at(to));
        for page in &cluster.pages {
            let date = decode(page).date;
            if date >= at(from) && date < at(to) {
                assert!(range.contains(&page.number), "{from}..{to}: page {}", page.number);
            }
        }
        assert!(range.end - range.start <= 5 * (to - from) as u64 + 5, "{from}..{to}: {range:?}");
    }
    assert!(of(at(100), None).count() <= 5);
}

/// S26: whoever is denied again and again, under ever new names, is a few records.
#[test]
fn a_flood_of_denials_is_a_few_records() {
    let mut cluster = Cluster::serving(1);
    cluster.apply(1, vec![acquire(0, "alice", "", 1, 3_600_000)]);
    let mut written = Vec::new();
    for round in 0..40_u64 {
        let flood = (0..250_u64).map(|n| {
            let id = u128::from(1 + round * 250 + n);
            acquire(id, "mallory", &format!("name {}", n * round), 1_000, 10_000)
        });
        written.extend(cluster.apply(1_000 + round, flood.collect()));
    }
    let bound = DENIALS_OF_SUBJECT_MAX as usize + 1;
    assert_eq!(written.len(), bound, "one record each, and one for all the others");
    written.extend(cluster.apply(61_000, vec![]));
    let denials = written.iter().filter(|record| matches!(record.fact, Fact::Denied(_)));
    assert!(denials.count() <= 2 * bound);
    let times: u64 = written
        .iter()
        .filter_map(|record| match &record.fact {
            Fact::Denied(denied) => {
                assert_eq!(denied.denial.reason, Reason::NoSeatFree);
                Some(denied.times)
            }
            _ => None,
        })
        .sum();
    assert_eq!(times, 10_000, "none is forgotten");
    assert!(DENIALS_APART_MAX >= u64::from(DENIALS_OF_SUBJECT_MAX));
    audit(&cluster.ledger, &cluster.pages).expect("the history holds");
}

#[test]
fn a_page_has_a_stated_number_of_records() {
    let mut cluster = Cluster::serving(1_000);
    let crowd = (0..1_000).map(|id| acquire(id, "alice", "", 1, 10_000)).collect();
    let before = cluster.pages.len();
    cluster.apply(1, crowd);
    let sizes: Vec<_> =
        cluster.pages[before..].iter().map(|page| decode(page).records.len()).collect();
    assert_eq!(sizes, [PAGE_RECORDS_MAX, PAGE_RECORDS_MAX, PAGE_RECORDS_MAX, 232]);
    audit(&cluster.ledger, &cluster.pages).expect("the history holds");
}

#[test]
fn a_snapshot_in_the_middle_changes_nothing() {
    let mut cluster = Cluster::serving(2);
    cluster.apply(1, vec![acquire(1, "alice", "", 1, 10_000)]);
    cluster
        .apply(2, vec![retain(7), Command::Revoke(Revoke { seat: Token(1), by: subject("ops") })]);
    let mut restored = Ledger::restore(&cluster.ledger.snapshot()).unwrap();
    let stamp = Stamp { time: ClusterTime(20_000), term: 1, withheld: false };
    let batch = Batch { stamp, commands: vec![acquire(2, "bob", "", 20_000, 10_000)] };
    let index = cluster.index + 1;
    assert_eq!(restored.apply(index, 1, &batch), cluster.ledger.apply(index, 1, &batch));
    assert_eq!(restored.history().head, cluster.ledger.history().head);
}

/// A history of some pages, and its end as the ledger tells it.
fn told() -> Cluster {
    let mut cluster = Cluster::serving(2);
    for id in 0..10_u64 {
        let now = 10 + id * 10;
        let lease = u128::from(id);
        cluster.apply(now, vec![acquire(lease, "alice", "press", now, 60_000)]);
        if id > 0 {
            cluster.apply(now + 1, vec![release(lease - 1, "alice", id)]);
        }
    }
    audit(&cluster.ledger, &cluster.pages).expect("it holds as it is");
    cluster
}

/// A restored cluster's history begins where the backup's ends: an export of
/// the one and an export of the other make one chain.
#[test]
fn after_a_restore_the_history_goes_on_in_the_same_chain() {
    let Cluster { world, ledger, .. } = told();
    let (backup, before) = (ledger.snapshot(), ledger.history());
    let plan = world.plan(&backup, 1_000, 0);
    let parts = backup.len().div_ceil(RESTORE_PART_BYTES) as u32;
    let parts: Vec<Command> = (0..parts)
        .map(|number| Command::Restore(Restore::Part(world.part(&backup, number))))
        .collect();
    let finish = Restore::Finish(RestoreFinish { backup: digest_of(&backup) });
    let mut restored = Cluster { world, ledger: Ledger::new(), index: 0, pages: Vec::new() };
    restored.apply(0, vec![Command::Restore(Restore::Begin(plan))]);
    restored.apply(0, parts);
    restored.apply(0, vec![Command::Restore(finish)]);
    let first = decode(&restored.pages[0]);
    assert_eq!((first.number, first.previous), (before.pages, before.head));
    assert_eq!((first.epoch, first.first_record), (1_000, before.records));
    // A seat from before ends, by its own token.
    let ended = restored.apply(200, vec![release(9, "alice", 10)]);
    assert!(ended.iter().any(|record| matches!(record.fact, Fact::Ended { .. })), "{ended:?}");
    let report = audit(&restored.ledger, &restored.pages).expect("it holds by itself");
    assert_eq!((report.granted, report.released), (0, 1));
}

fn fault(cluster: &Cluster, pages: &[Vec<u8>]) -> Fault {
    let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
    audit_bytes(ends(&cluster.ledger), &pages).expect_err("somebody had a hand in it")
}

#[test]
fn every_altered_page_is_found_and_named() {
    let cluster = told();
    for number in 0..cluster.pages.len() {
        for place in (0..cluster.pages[number].bytes.len()).step_by(3) {
            let mut pages = cluster.bytes();
            pages[number][place] ^= 1;
            let found = fault(&cluster, &pages).to_string();
            let before = format!("page {}", number.saturating_sub(1));
            assert!(
                found.contains(&format!("page {number}")) || found.contains(&before),
                "byte {place} of page {number}: {found}"
            );
        }
    }
}

#[test]
fn removed_doubled_and_exchanged_pages_are_found() {
    let cluster = told();
    let mut pages = cluster.bytes();
    pages.remove(5);
    assert_eq!(fault(&cluster, &pages), Fault::Order { expected: 5, found: 6 });
    let mut pages = cluster.bytes();
    let twice = pages[5].clone();
    pages.insert(5, twice);
    assert_eq!(fault(&cluster, &pages), Fault::Order { expected: 6, found: 5 });
    let mut pages = cluster.bytes();
    pages.swap(5, 6);
    assert_eq!(fault(&cluster, &pages), Fault::Order { expected: 5, found: 6 });
    let mut pages = cluster.bytes();
    let last = pages.pop().map(|_| pages.len() as u64).unwrap();
    assert_eq!(fault(&cluster, &pages), Fault::Length { found: last, pages: last + 1 });
}

/// Whoever rewrites all the pages after the one they altered still meets the
/// ledger, which knows the head; and whoever rewrote that too meets the laws.
#[test]
fn a_history_chained_anew_must_still_keep_the_laws() {
    let cluster = told();
    type Edit = fn(&mut Vec<Record>);
    let edits: [(&str, Edit); 5] = [
        ("does not rise", |records| {
            change(records, |fact| match fact {
                Fact::Granted { seat, .. } if seat.token == Token(4) => seat.token = Token(2),
                _ => {}
            });
        }),
        ("was not granted", |records| {
            records.retain(|record| {
                !matches!(&record.fact, Fact::Granted { seat, .. } if seat.token == Token(4))
            });
        }),
        ("which has 1", |records| {
            change(records, |fact| {
                if let Fact::Licensed(licensed) = fact {
                    licensed.seats = 1;
                }
            });
        }),
        ("is another's", |records| {
            change(records, |fact| match fact {
                Fact::Ended { seat, .. } if seat.token == Token(4) => {
                    seat.subject = subject("mallory");
                }
                _ => {}
            });
        }),
        ("did not serve", |records| {
            records.retain(|record| !matches!(record.fact, Fact::ServiceChanged { .. }));
        }),
    ];
    for (words, edit) in edits {
        let mut pages: Vec<Page> = cluster.pages.iter().map(decode).collect();
        for page in &mut pages {
            edit(&mut page.records);
        }
        pages.retain(|page| !page.records.is_empty());
        let (mut previous, mut record) = ([0; 32], 0);
        let mut chained = Vec::new();
        for (page, number) in pages.iter_mut().zip(0..) {
            (page.previous, page.number, page.first_record) = (previous, number, record);
            record += page.records.len() as u64;
            chained.push(page.encode());
            previous = hash(&page.encode());
        }
        let pages: Vec<&[u8]> = chained.iter().map(Vec::as_slice).collect();
        let told = ends(&cluster.ledger);
        assert!(audit_bytes(told.clone(), &pages).is_err(), "{words}: the ledger knows the head");
        let forged = Ends { pages: pages.len() as u64, head: previous, ..told };
        let found = audit_bytes(forged, &pages).expect_err(words).to_string();
        assert!(found.contains(words) && found.contains("log id"), "{words}: {found}");
    }
}

fn change(records: &mut [Record], change: impl Fn(&mut Fact)) {
    records.iter_mut().for_each(|record| change(&mut record.fact));
}

/// A file may say anything, and of a history that is kept in part nobody knows
/// where its numbers begin.
#[test]
fn numbers_that_run_out_are_a_fault_and_no_crash() {
    let cluster = told();
    let denied = |times: u64| {
        let denial =
            Denial { subject: None, product: None, holder: None, reason: Reason::NoSeatFree };
        let fact = Fact::Denied(Denied { denial, since: ClusterTime(0), times });
        Record { position: 0, fact }
    };
    let audited = |first: u64, pages: u64, change: &dyn Fn(&mut Page)| {
        let mut page = decode(&cluster.pages[5]);
        (page.number, page.records) = (first, vec![denied(1), denied(1)]);
        change(&mut page);
        let (previous, bytes) = (page.previous, page.encode());
        let ends = Ends { first, previous, pages, head: hash(&bytes), ..ends(&cluster.ledger) };
        audit_bytes(ends, &[&bytes]).map_err(|fault| fault.to_string())
    };
    let found = audited(7, 8, &|page| page.first_record = u64::MAX).expect_err("no such number");
    assert!(found.contains("page 7") && found.contains("numbers"), "{found}");
    let found = audited(7, 8, &|page| page.records = vec![denied(u64::MAX), denied(1)])
        .expect_err("nobody was denied so often");
    assert!(found.contains("page 7") && found.contains("denial"), "{found}");
    let found = audited(u64::MAX, u64::MAX, &|_| {}).expect_err("no number comes after it");
    assert!(found.contains("pages"), "{found}");
}

/// Pages behind the announced end are not the ledger's.
#[test]
fn a_page_too_many_is_found() {
    let cluster = told();
    let pages = cluster.bytes();
    let pages: Vec<&[u8]> = pages.iter().map(Vec::as_slice).collect();
    let count = pages.len() as u64;
    let ends = Ends { pages: count - 1, ..ends(&cluster.ledger) };
    assert_eq!(audit_bytes(ends, &pages), Err(Fault::Length { found: count, pages: count - 1 }));
}
