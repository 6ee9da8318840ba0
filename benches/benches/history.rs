//! What the usage history costs when an entry is applied.
//!
//! One entry grants, denies and takes back seats; the pages it gives are then
//! made once more from their records, on the same machine in the same run, so
//! that the two figures make a share. Figures are in RESULTS.md.

#[path = "../../ledger/tests/support/mod.rs"]
mod support;

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use ledger::Ledger;
use ledger::command::{Acquire, Batch, Command, LeaseId, Release, Token};
use ledger::name::HolderName;
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::usage::{Page, WrittenPage, hash};
use license::product::ProductName;
use support::{World, subject, terms};

/// Commands in the entry: as many grants as releases, and a denial for each four.
const COMMANDS: u64 = 144;

fn batch(time: u64, commands: Vec<Command>) -> Batch {
    Batch { stamp: Stamp { time: ClusterTime(time), term: 1, withheld: false }, commands }
}

fn acquire(id: u64, product: &str) -> Command {
    Command::Acquire(Acquire {
        lease: LeaseId(id.into()),
        subject: subject(&format!("app:line-{}", id % 100)),
        product: ProductName::parse(product).expect("a name"),
        holder: HolderName::parse("night build on render-7").expect("a name"),
        version: None,
        ttl: Ttl::from_millis(60_000).expect("a TTL"),
        not_after: ClusterTime(60_000),
        wait_until: None,
    })
}

/// A ledger that serves and in which 64 seats of 1,064 are held.
fn serving() -> Ledger {
    let mut world = World::new(5);
    let issued = world.issue(terms("cad", 1, 1, 1, 1_064));
    let mut commands = vec![
        world.genesis(),
        World::install(&issued),
        world.attest(&issued, 1),
        world.attest(&issued, 2),
        Command::SignTerm(world.sign(&issued, 1)),
    ];
    commands.extend((1..=3).map(|node| world.beat(node, support::ISSUED, (0, [0; 32]))));
    let mut ledger = Ledger::new();
    ledger.apply(1, 1, &batch(0, commands));
    let seats = (1..=64).map(|id| acquire(id, "cad")).collect();
    ledger.apply(2, 1, &batch(1, seats));
    assert_eq!(ledger.seats(None).len(), 64);
    ledger
}

/// 64 releases, 64 grants, 16 denials.
fn entry() -> Batch {
    let release = |id: u64| {
        let (lease, token) = (LeaseId(id.into()), Token(id));
        let subject = subject(&format!("app:line-{}", id % 100));
        Command::Release(Release { lease, subject, token })
    };
    let released = (1..=64).map(release);
    let granted = (101..=164).map(|id| acquire(id, "cad"));
    let denied = (201..=216).map(|id| acquire(id, "cfd"));
    let commands: Vec<_> = released.chain(granted).chain(denied).collect();
    assert_eq!(commands.len() as u64, COMMANDS);
    batch(2, commands)
}

/// The records as the ledger makes them, names and all, their bytes and the hash.
fn write(pages: &[Page]) -> Vec<WrittenPage> {
    let write = |page: &Page| {
        let bytes = page.clone().encode();
        assert_ne!(hash(&bytes), [0; 32]);
        WrittenPage { number: page.number, bytes }
    };
    pages.iter().map(write).collect()
}

fn history(criterion: &mut Criterion) {
    let (snapshot, entry) = (serving().snapshot(), entry());
    let fresh = || Ledger::restore(&snapshot).expect("its own snapshot");
    let written = fresh().apply(3, 1, &entry).pages;
    let pages: Vec<Page> =
        written.iter().map(|page| Page::decode(&page.bytes).expect("its own page")).collect();
    let records: usize = pages.iter().map(|page| page.records.len()).sum();
    assert_eq!(records as u64, COMMANDS, "every command is a record");
    assert_eq!(write(&pages), written);

    let mut group = criterion.benchmark_group("history");
    group.throughput(Throughput::Elements(COMMANDS));
    group.bench_function("apply an entry", |bench| {
        let apply = |mut ledger: Ledger| (ledger.apply(3, 1, &entry), ledger);
        bench.iter_batched(fresh, apply, BatchSize::SmallInput);
    });
    group.bench_function("make its pages alone", |bench| bench.iter(|| write(&pages)));
    group.finish();
}

criterion_group!(benches, history);
criterion_main!(benches);
