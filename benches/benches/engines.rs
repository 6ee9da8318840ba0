//! The two candidates for the embedded engine, doing what a Raft log does.
//!
//! Each is used as the node would use it: one ordered map, one writer, a sync
//! before an answer. Figures and the choice are in RESULTS.md.

use std::ops::Range;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use redb::ReadableDatabase;

/// Entries in the log between purges: about 11 MB.
const LOG: u64 = 10_000;
const BATCH: u64 = 64;

trait Engine: Sized {
    const NAME: &'static str;
    fn open(dir: &Path) -> Self;
    /// Writes one batch and syncs it.
    fn append(&mut self, entries: Range<u64>);
    /// Deletes a range and syncs that.
    fn purge(&mut self, entries: Range<u64>);
    /// Reads a range in order; returns the bytes seen.
    fn scan(&self, entries: Range<u64>) -> usize;
}

/// 200 to 2,000 bytes, incompressible enough, the same on every run.
fn entry(index: u64) -> Vec<u8> {
    let mut state = index.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let length = 200 + (state >> 32) % 1_801;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 24) as u8
        })
        .collect()
}

struct Fjall {
    database: fjall::Database,
    log: fjall::Keyspace,
}

impl Engine for Fjall {
    const NAME: &'static str = "fjall";

    fn open(dir: &Path) -> Self {
        let database = fjall::Database::builder(dir).open().expect("open");
        let log = database.keyspace("log", Default::default).expect("keyspace");
        Self { database, log }
    }

    fn append(&mut self, entries: Range<u64>) {
        let mut batch = self.database.batch();
        for index in entries {
            batch.insert(&self.log, index.to_be_bytes(), entry(index));
        }
        batch.durability(Some(fjall::PersistMode::SyncData)).commit().expect("commit");
    }

    fn purge(&mut self, entries: Range<u64>) {
        let mut batch = self.database.batch();
        for index in entries {
            batch.remove(&self.log, index.to_be_bytes());
        }
        batch.durability(Some(fjall::PersistMode::SyncData)).commit().expect("commit");
    }

    fn scan(&self, entries: Range<u64>) -> usize {
        self.log
            .range(entries.start.to_be_bytes()..entries.end.to_be_bytes())
            .map(|pair| pair.value().expect("value").len())
            .sum()
    }
}

const TABLE: redb::TableDefinition<'_, &[u8], &[u8]> = redb::TableDefinition::new("log");

struct Redb(redb::Database);

impl Redb {
    fn change(&mut self, change: impl FnOnce(&mut redb::Table<'_, &[u8], &[u8]>)) {
        let transaction = self.0.begin_write().expect("begin");
        change(&mut transaction.open_table(TABLE).expect("table"));
        transaction.commit().expect("commit");
    }
}

impl Engine for Redb {
    const NAME: &'static str = "redb";

    fn open(dir: &Path) -> Self {
        let database =
            redb::Builder::new().set_cache_size(64 << 20).create(dir.join("redb")).expect("open");
        Self(database)
    }

    fn append(&mut self, entries: Range<u64>) {
        self.change(|table| {
            for index in entries {
                table.insert(&index.to_be_bytes()[..], &entry(index)[..]).expect("insert");
            }
        });
    }

    fn purge(&mut self, entries: Range<u64>) {
        let (start, end) = (entries.start.to_be_bytes(), entries.end.to_be_bytes());
        self.change(|table| table.retain_in(&start[..]..&end[..], |_, _| false).expect("retain"));
    }

    fn scan(&self, entries: Range<u64>) -> usize {
        let (start, end) = (entries.start.to_be_bytes(), entries.end.to_be_bytes());
        let table = self.0.begin_read().expect("begin").open_table(TABLE).expect("table");
        table
            .range(&start[..]..&end[..])
            .expect("range")
            .map(|pair| pair.expect("pair").1.value().len())
            .sum()
    }
}

fn filled<E: Engine>() -> (tempfile::TempDir, E) {
    let dir = tempfile::tempdir().expect("a directory");
    let mut engine = E::open(dir.path());
    (0..LOG).step_by(BATCH as usize).for_each(|from| engine.append(from..(from + BATCH).min(LOG)));
    (dir, engine)
}

fn copy(from: &Path) -> tempfile::TempDir {
    fn tree(from: &Path, to: &Path) -> std::io::Result<()> {
        for entry in std::fs::read_dir(from)? {
            let entry = entry?;
            let target = to.join(entry.file_name());
            if entry.file_type()?.is_dir() {
                std::fs::create_dir(&target)?;
                tree(&entry.path(), &target)?;
            } else {
                std::fs::copy(entry.path(), target)?;
            }
        }
        Ok(())
    }
    let to = tempfile::tempdir().expect("a directory");
    tree(from, to.path()).expect("copy");
    to
}

/// Bytes in files, of which some may be set aside and not yet used.
fn size(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).expect("a directory").map(|entry| entry.expect("entry"));
    entries
        .map(|entry| match entry.metadata().expect("metadata") {
            found if found.is_dir() => size(&entry.path()),
            found => found.len(),
        })
        .sum()
}

fn bench<E: Engine>(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group(E::NAME);
    group.sample_size(20).measurement_time(Duration::from_secs(6));

    // A log in service: it is purged as it grows, and that is part of the cost.
    let (dir, mut engine) = filled::<E>();
    let (mut first, mut next) = (0, LOG);
    for (name, batch) in [("append 64 and sync", BATCH), ("append 1 and sync", 1)] {
        group.throughput(Throughput::Elements(batch));
        group.bench_function(name, |bencher| {
            bencher.iter(|| {
                engine.append(next..next + batch);
                next += batch;
                if next - first > 2 * LOG {
                    engine.purge(first..next - LOG);
                    first = next - LOG;
                }
            });
        });
    }
    group.throughput(Throughput::Elements(BATCH));
    group.bench_function("scan 64", |bencher| {
        let mut at = first;
        bencher.iter(|| {
            at = if at + 2 * BATCH < next { at + BATCH } else { first };
            engine.scan(at..at + BATCH)
        });
    });
    // A copy of the files of an open engine is what a killed process leaves.
    group.throughput(Throughput::Elements(1));
    group.bench_function("open after a crash", |bencher| {
        bencher.iter_batched(
            || copy(dir.path()),
            |copy| {
                let engine = E::open(copy.path());
                (engine, copy)
            },
            criterion::BatchSize::PerIteration,
        );
    });
    eprintln!("{}: {} entries, {} bytes on disk", E::NAME, next - first, size(dir.path()));
    drop(engine);
    group.bench_function("open after a clean end", |bencher| bencher.iter(|| E::open(dir.path())));
    drop(dir);

    group.throughput(Throughput::Elements(LOG / 2));
    group.sample_size(10).bench_function("purge 5000 and sync", |bencher| {
        bencher.iter_batched(
            filled::<E>,
            |(dir, mut engine)| {
                engine.purge(0..LOG / 2);
                (dir, engine)
            },
            criterion::BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(engines, bench::<Fjall>, bench::<Redb>);
criterion_main!(engines);
