//! Backups: their bytes, what is refused of them, and that whatever order the
//! parts arrive in the same ledger comes of it.

mod support;

use std::fs;
use std::path::PathBuf;

use ledger::backup::{Backup, Front, Header};
use ledger::command::{
    Acquire, Batch, Command, LeaseId, Outcome, Refusal, Restore, RestoreFinish, RestoreRefusal,
};
use ledger::limits::{CA_BYTES_MAX, RESTORE_BYTES_MAX, RESTORE_PART_BYTES};
use ledger::name::HolderName;
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::view::Comparison;
use ledger::{CodecError, Ledger};
use license::product::{NodeId, ProductName};
use proptest::prelude::*;
use support::{ISSUED, World, digest_of, subject, terms};

const STAMP: Stamp = Stamp { time: ClusterTime(10_000), term: 1, withheld: false };

/// A cluster of `leases` leases, one license and one that waits.
fn cluster(world: &mut World, leases: u32) -> Ledger {
    let issued = world.issue(terms("cad", 1, 1, 1, leases));
    let mut commands = vec![world.genesis(), World::install(&issued)];
    commands.extend((1..=2).map(|node| world.beat(node, ISSUED, (256, [5; 32]))));
    commands.extend((1..=2).map(|node| world.attest(&issued, node)));
    commands.push(Command::SignTerm(world.sign(&issued, 1)));
    commands.extend((0..=leases).map(|id| {
        Command::Acquire(Acquire {
            lease: LeaseId(id.into()),
            subject: subject("line-7"),
            product: ProductName::parse("cad").unwrap(),
            holder: HolderName::parse("press 7").unwrap(),
            version: None,
            ttl: Ttl::from_millis(60_000).unwrap(),
            not_after: ClusterTime(30_000),
            wait_until: Some(ClusterTime(60_000)),
        })
    }));
    let mut ledger = Ledger::new();
    ledger.apply(300, 1, &Batch { stamp: STAMP, commands });
    assert_eq!((ledger.live(), ledger.waiters(None).len()), (leases.into(), 1));
    ledger
}

fn file(ledger: &Ledger) -> Vec<u8> {
    let snapshot = ledger.snapshot();
    let taken = ISSUED.plus_millis(5_000);
    let header = Header::of(ledger, &snapshot, taken, "0.1.0").expect("a formed cluster");
    [header.encode(), snapshot].concat()
}

#[test]
fn a_backup_has_the_bytes_it_always_had() {
    let ledger = cluster(&mut World::new(3), 2);
    let bytes = file(&ledger);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/backup-1.bin");
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &bytes).unwrap();
    }
    let known = fs::read(&path).expect("a golden file; write it with UPDATE=1");
    assert!(known == bytes, "the format of backups changed: give it a new version");
    let backup = Backup::decode(bytes).unwrap();
    assert_eq!(backup.header.cluster, support::CLUSTER);
    assert_eq!((backup.header.index, backup.header.clock), (300, ClusterTime(10_000)));
    assert_eq!(backup.ledger, ledger);
    assert_eq!(backup.snapshot, ledger.snapshot());
}

#[test]
fn a_flipped_bit_anywhere_in_a_backup_is_found() {
    let bytes = file(&cluster(&mut World::new(3), 2));
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        assert!(Backup::decode(damaged).is_err(), "byte {place}");
    }
}

#[test]
fn a_cut_or_longer_backup_is_refused() {
    let bytes = file(&cluster(&mut World::new(3), 2));
    for length in 0..bytes.len() {
        assert!(Backup::decode(bytes[..length].to_vec()).is_err(), "{length} bytes");
    }
    assert!(Backup::decode([&bytes[..], &[0]].concat()).is_err());
    let snapshot = cluster(&mut World::new(3), 2).snapshot();
    assert!(matches!(Backup::decode(snapshot), Err(CodecError::Magic { what: "backup" })));
}

#[test]
fn a_header_of_another_ledger_is_refused() {
    let (one, other) = (cluster(&mut World::new(3), 2), cluster(&mut World::new(3), 3));
    let snapshot = one.snapshot();
    let mut header = Header::of(&one, &snapshot, ISSUED, "0.1.0").unwrap();
    header.state_hash = other.hash();
    let refused = Backup::decode([header.encode(), snapshot].concat()).unwrap_err();
    assert!(refused.to_string().contains("another ledger"), "{refused}");
}

#[test]
fn nothing_is_backed_up_before_the_cluster_is_formed() {
    let empty = Ledger::new();
    assert_eq!(Header::of(&empty, &empty.snapshot(), ISSUED, "0.1.0"), None);
}

/// A thousand leases are more than one part, so that the order matters.
fn large() -> &'static (World, Ledger) {
    static LARGE: std::sync::OnceLock<(World, Ledger)> = std::sync::OnceLock::new();
    LARGE.get_or_init(|| {
        let mut world = World::new(3);
        let ledger = cluster(&mut world, 1_500);
        (world, ledger)
    })
}

fn take(ledger: &mut Ledger, index: u64, step: Restore) -> Outcome {
    let stamp = Stamp { time: ClusterTime(0), term: 1, withheld: false };
    let commands = vec![Command::Restore(step)];
    ledger.apply(index, 1, &Batch { stamp, commands }).replies.remove(0).outcome
}

#[test]
fn what_is_restored_is_what_was_backed_up_but_for_the_epoch() {
    let (world, before) = large();
    let snapshot = before.snapshot();
    let mut after = Ledger::new();
    let plan = world.plan(&snapshot, 1_000, 60_000);
    let parts = plan.parts();
    assert!(parts >= 3 && snapshot.len() > 2 * RESTORE_PART_BYTES, "{parts} parts");
    take(&mut after, 1, Restore::Begin(plan));
    for number in 0..parts {
        take(&mut after, 2, Restore::Part(world.part(&snapshot, number)));
        assert_eq!(after.restoring().map(|(_, next)| next), Some(number + 1));
        assert!(after.charter().is_none() && after.licenses().is_empty(), "it shows no part of it");
    }
    let finish = RestoreFinish { backup: digest_of(&snapshot) };
    // At an index where a checkpoint is taken, and the backup's members had
    // reported another history's.
    assert_eq!(take(&mut after, 256, Restore::Finish(finish)), Outcome::Done);
    assert_eq!(after.check(), Ok(()));
    assert!(after.checkpoint().is_some_and(|(index, hash)| index == 256 && hash != [5; 32]));
    let compared = after.comparisons(NodeId(3));
    assert!(compared.iter().all(|(_, with)| *with == Comparison::NotComparable), "{compared:?}");
    assert_eq!((after.epoch(), after.clock()), (1_000, before.clock()));
    assert_eq!(after.seats(None), before.seats(None));
    assert_eq!(after.waiters(None), before.waiters(None));
    assert_eq!(after.counters(), before.counters());
    assert_eq!(after.charter(), before.charter());
    assert_eq!(after.quiet_until(), Some(before.clock().plus_millis(60_000)));
    assert!(after.restoring().is_none());
    assert!(after.members().iter().all(|member| !member.live), "nobody was heard here yet");
}

#[test]
fn a_restore_has_a_stated_size() {
    let (world, _) = large();
    let mut plan = world.plan(&[7], 1_000, 0);
    let mut begin = |bytes: u64| {
        plan.bytes = bytes;
        take(&mut Ledger::new(), 1, Restore::Begin(plan.clone()))
    };
    assert_eq!(begin(RESTORE_BYTES_MAX), Outcome::Done);
    for bytes in [0, RESTORE_BYTES_MAX + 1] {
        let Outcome::Refused(refusal) = begin(bytes) else { panic!("{bytes} bytes are taken") };
        assert!(refusal.to_string().contains("4294967296"), "{refusal}");
    }
    let (mut ledger, long) = (Ledger::new(), vec![7; RESTORE_PART_BYTES + 1]);
    take(&mut ledger, 1, Restore::Begin(world.plan(&long, 1_000, 0)));
    let mut part = world.part(&long, 0);
    part.bytes = ledger::command::Blob(long);
    let Outcome::Refused(refusal) = take(&mut ledger, 2, Restore::Part(part)) else {
        panic!("a part that is too long is taken")
    };
    assert!(refusal.to_string().contains("part 0"), "{refusal}");
}

#[test]
fn a_restore_names_a_ca_of_a_stated_length() {
    let (world, _) = large();
    let begin = |length: usize| {
        let mut plan = world.plan(&[7], 1_000, 0);
        plan.ca = vec![7; length];
        take(&mut Ledger::new(), 1, Restore::Begin(plan))
    };
    assert_eq!(begin(CA_BYTES_MAX), Outcome::Done);
    let Outcome::Refused(refusal) = begin(CA_BYTES_MAX + 1) else { panic!("it is taken") };
    assert!(refusal.to_string().contains("4097 bytes and the limit is 4096"), "{refusal}");
}

/// A backup that hides a wrong state behind right checksums restores nothing.
#[test]
fn parts_that_make_no_ledger_leave_the_cluster_unformed() {
    let (world, _) = large();
    let nonsense = vec![7; RESTORE_PART_BYTES + 1];
    let mut ledger = Ledger::new();
    take(&mut ledger, 1, Restore::Begin(world.plan(&nonsense, 1_000, 0)));
    for number in 0..2 {
        take(&mut ledger, 2, Restore::Part(world.part(&nonsense, number)));
    }
    let finish = RestoreFinish { backup: digest_of(&nonsense) };
    let outcome = take(&mut ledger, 3, Restore::Finish(finish));
    let Outcome::Refused(Refusal::Restore(refusal)) = outcome else { panic!("{outcome:?}") };
    assert!(matches!(*refusal, RestoreRefusal::Damaged { .. }), "{refusal}");
    assert!(ledger.charter().is_none() && ledger.restoring().is_none());
    assert_eq!(ledger.check(), Ok(()));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    /// Whatever order they arrive in, however often, with snapshots in between:
    /// the same ledger, and the same hash of it on every node (S18, S19).
    #[test]
    fn parts_may_come_in_any_order(
        order in Just((0..large().1.snapshot().len().div_ceil(RESTORE_PART_BYTES) as u32)
            .flat_map(|number| [number, number]).collect::<Vec<_>>()).prop_shuffle(),
        restart_after in 0..4usize,
    ) {
        let (world, before) = large();
        let snapshot = before.snapshot();
        let mut nodes = [Ledger::new(), Ledger::new()];
        let plan = world.plan(&snapshot, 1_000, 60_000);
        for node in &mut nodes {
            take(node, 1, Restore::Begin(plan.clone()));
        }
        for (place, number) in order.iter().enumerate() {
            for node in &mut nodes {
                let outcome = take(node, 2, Restore::Part(world.part(&snapshot, *number)));
                prop_assert_eq!(outcome, Outcome::Done);
            }
            if place == restart_after {
                nodes[1] = Ledger::restore(&nodes[1].snapshot()).unwrap();
            }
        }
        let finish = RestoreFinish { backup: plan.backup };
        for node in &mut nodes {
            prop_assert_eq!(take(node, 3, Restore::Finish(finish.clone())), Outcome::Done);
            prop_assert_eq!(node.check(), Ok(()));
        }
        prop_assert_eq!(nodes[0].hash(), nodes[1].hash());
        prop_assert_eq!(nodes[0].seats(None), before.seats(None));
    }

    #[test]
    fn reading_a_backup_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Backup::decode(bytes.clone());
        let _ = Front::decode(&[b"TRBK\x01\0", &bytes[..]].concat());
    }
}
