//! The bytes on disk: golden files, strictness, and decoders that never panic.
//!
//! Golden files pin the formats. `UPDATE=1` writes them anew: do so only
//! together with a new format version.

mod support;

use std::fs;
use std::path::PathBuf;

use ledger::command::{
    AbandonReplacement, Acquire, Anchor, AnchorId, Batch, Cancel, Command, Distrust,
    FinishReplacement, IssueToken, LeaseId, OrderRepair, RaiseLevel, Release, Renew, Restore,
    RestoreFinish, Revoke, RevokeCertificate, RevokeToken, SetRetention, Token, Trust,
    WithdrawShare,
};
use ledger::level::{HIGHEST, Level};
use ledger::limits::BATCH_COMMANDS_MAX;
use ledger::name::HolderName;
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::usage::{Page, Retention};
use ledger::{CodecError, Ledger};
use license::product::{NodeId, ProductName, Version};
use license::reset::ResetTerms;
use proptest::prelude::*;
use support::{CLUSTER, FIRM, ISSUED, World, subject, terms};

fn acquire(id: u128, wait_until: Option<u64>) -> Command {
    Command::Acquire(Acquire {
        lease: LeaseId(id),
        subject: subject("line-7"),
        product: ProductName::parse("cad").unwrap(),
        holder: HolderName::parse("press 7").unwrap(),
        version: Some(Version { major: 3, minor: 1 }),
        ttl: Ttl::from_millis(10_000).unwrap(),
        not_after: ClusterTime(30_000),
        wait_until: wait_until.map(ClusterTime),
    })
}

/// One batch with every kind of command.
fn batch() -> Batch {
    let mut world = World::new(3);
    let issued = world.issue(terms("cad", 1, 1, 1, 2));
    let license = issued.license.terms().license;
    let ops = || subject("ops");
    let (from, to) = (ISSUED.plus_millis(500), ISSUED);
    let reset = ResetTerms { cluster: CLUSTER, serial: 1, from, to, issued: ISSUED };
    let (digest, expires) = ([4; 32], ISSUED.plus_millis(1_000_000));
    let commands = vec![
        world.genesis(),
        World::install(&issued),
        world.beat(1, ISSUED, (0, [0; 32])),
        world.beat(2, ISSUED, (0, [0; 32])),
        world.attest(&issued, 1),
        world.attest(&issued, 2),
        Command::SignTerm(world.sign(&issued, 1)),
        acquire(1, None),
        acquire(2, None),
        acquire(3, Some(60_000)),
        Command::Renew(Renew {
            lease: LeaseId(1),
            subject: subject("line-7"),
            token: Token(1),
            hold_ended: true,
        }),
        Command::Revoke(Revoke { seat: Token(1), by: ops() }),
        Command::Release(Release {
            lease: LeaseId(2),
            subject: subject("line-7"),
            token: Token(2),
        }),
        Command::Cancel(Cancel { lease: LeaseId(9), subject: subject("line-8") }),
        Command::IssueToken(IssueToken { digest, subject: subject("line-7"), expires, by: ops() }),
        Command::RevokeToken(RevokeToken { subject: subject("line-9"), by: ops() }),
        Command::WithdrawShare(WithdrawShare { license, node: NodeId(3), by: ops() }),
        Command::Restore(Restore::Begin(world.plan(&[1, 2, 3], 100, 60_000))),
        Command::Restore(Restore::Part(world.part(&[1, 2, 3], 0))),
        Command::Restore(Restore::Finish(RestoreFinish { backup: support::digest_of(&[1, 2, 3]) })),
        world.newcomer(3, 4, None, 4711),
        Command::AbandonReplacement(AbandonReplacement {
            old: NodeId(3),
            new: NodeId(4),
            by: ops(),
        }),
        world.newcomer(3, 5, None, 4711),
        Command::FinishReplacement(FinishReplacement { old: NodeId(3), new: NodeId(5), by: ops() }),
        Command::OrderRepair(OrderRepair { license, node: NodeId(5), by: ops() }),
        world.repair(&issued, [1, 2], 3, (5, 5)),
        world.reset(FIRM, reset),
        Command::RevokeCertificate(RevokeCertificate {
            fingerprint: [5; 32],
            subject: subject("op:ana"),
            from: ISSUED,
            expires,
            by: ops(),
        }),
        Command::RaiseLevel(RaiseLevel { level: Level::LOWEST, by: ops() }),
        Command::SetRetention(SetRetention {
            retention: Retention::new(30, 128).unwrap(),
            by: ops(),
        }),
        Command::Trust(Trust { anchor: Anchor::ClusterCa(support::ca("second")), by: ops() }),
        Command::Trust(Trust { anchor: Anchor::Vendor(world.root_of("beta")), by: ops() }),
        Command::Distrust(Distrust { anchor: AnchorId::Vendor([3; 32]), by: ops() }),
        Command::Distrust(Distrust { anchor: AnchorId::ClusterCa([3; 32]), by: ops() }),
    ];
    Batch { stamp: Stamp { time: ClusterTime(1_000), term: 1, withheld: false }, commands }
}

fn ledger() -> Ledger {
    let mut ledger = Ledger::new();
    ledger.apply(300, 1, &batch());
    ledger
}

fn golden(name: &str, bytes: &[u8]) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name);
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, bytes).unwrap();
    }
    let known = fs::read(&path).expect("a golden file; write it with UPDATE=1");
    assert!(known == bytes, "the format of {name} changed: give it a new version");
}

#[test]
fn a_batch_has_the_bytes_it_always_had() {
    let bytes = batch().encode().unwrap();
    golden("batch-2.bin", &bytes);
    assert_eq!(Batch::decode(&bytes), Ok(batch()));
}

#[test]
fn a_snapshot_has_the_bytes_it_always_had() {
    let bytes = ledger().snapshot();
    golden("snapshot-2.bin", &bytes);
    assert_eq!(Ledger::restore(&bytes), Ok(ledger()));
}

/// The page that the batch writes: seats, a place given up, an operator's word.
#[test]
fn a_page_of_history_has_the_bytes_it_always_had() {
    let applied = Ledger::new().apply(300, 1, &batch());
    let [page] = applied.pages.as_slice() else { panic!("one page") };
    golden("page-1.bin", &page.bytes);
    let read = Page::decode(&page.bytes).unwrap();
    assert_eq!(read.encode(), page.bytes);
    assert!(Page::decode(&page.bytes[..page.bytes.len() - 1]).is_err());
    assert!(Page::decode(&[&page.bytes[..], &[0]].concat()).is_err());
}

#[test]
fn a_flipped_bit_anywhere_in_a_snapshot_is_found() {
    let bytes = ledger().snapshot();
    for place in 0..bytes.len() {
        let mut damaged = bytes.clone();
        damaged[place] ^= 1 << (place % 8);
        assert!(Ledger::restore(&damaged).is_err(), "byte {place}");
    }
}

#[test]
fn a_cut_or_longer_file_is_refused() {
    let (batch, snapshot) = (batch().encode().unwrap(), ledger().snapshot());
    for length in 0..batch.len() {
        assert!(Batch::decode(&batch[..length]).is_err(), "{length} bytes of a batch");
    }
    for length in 0..snapshot.len() {
        assert!(Ledger::restore(&snapshot[..length]).is_err(), "{length} bytes of a snapshot");
    }
    assert!(Batch::decode(&[&batch[..], &[0]].concat()).is_err());
    assert!(Ledger::restore(&[&snapshot[..], &[0]].concat()).is_err());
}

#[test]
fn another_kind_and_a_newer_version_are_named() {
    let mut bytes = batch().encode().unwrap();
    assert!(matches!(Ledger::restore(&bytes), Err(CodecError::Magic { what: "snapshot" })));
    bytes[4] = 3;
    assert!(matches!(Batch::decode(&bytes), Err(CodecError::Version { found: 3, known: 2, .. })));
}

/// Whoever goes back to an older build after the level was raised is told so,
/// and nothing is read that this build cannot understand.
#[test]
fn what_a_later_level_wrote_is_refused_by_its_level() {
    let later = Level::new(HIGHEST.number() + 1).unwrap();
    let mut batch = batch().encode().unwrap();
    batch[6] = later.number() as u8;
    let refused = Batch::decode(&batch).unwrap_err();
    assert!(matches!(refused, CodecError::Level { found, .. } if found == later), "{refused}");
    assert!(refused.to_string().contains("start the newer build again"), "{refused}");

    let (mut ledger, mut world) = (Ledger::new(), World::new(3));
    (1..=3).for_each(|node| world.upgrade(node, later));
    let mut commands = vec![world.genesis()];
    commands.extend((1..=3).map(|node| world.beat(node, ISSUED, (0, [0; 32]))));
    commands.push(Command::RaiseLevel(RaiseLevel { level: later, by: subject("ops") }));
    let stamp = Stamp { time: ClusterTime(1_000), term: 1, withheld: false };
    ledger.apply(1, 1, &Batch { stamp, commands });
    assert!(!ledger.is_within_reach());
    let refused = Ledger::restore(&ledger.snapshot()).unwrap_err();
    assert!(matches!(refused, CodecError::Level { found, .. } if found == later), "{refused}");
}

#[test]
fn a_batch_that_states_another_level_than_it_has_is_refused() {
    let mut bytes = batch().encode().unwrap();
    bytes[6] = 0;
    assert!(matches!(Batch::decode(&bytes), Err(CodecError::Damaged { what: "batch", .. })));
}

#[test]
fn a_batch_over_its_limit_is_refused_on_both_sides() {
    let commands = vec![acquire(1, None); BATCH_COMMANDS_MAX + 1];
    let stamp = Stamp { time: ClusterTime(0), term: 1, withheld: false };
    let too_large = Batch { stamp, commands };
    assert!(matches!(too_large.encode(), Err(CodecError::TooLarge { unit: "commands", .. })));
}

#[test]
fn a_name_that_breaks_its_rules_does_not_decode() {
    let bytes = batch().encode().unwrap();
    let at = bytes.windows(6).position(|window| window == b"line-7").unwrap();
    let mut broken = bytes;
    broken[at + 4] = b' ';
    assert!(matches!(Batch::decode(&broken), Err(CodecError::Damaged { what: "batch", .. })));
}

proptest! {
    #[test]
    fn decoders_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        let _ = Batch::decode(&bytes);
        let _ = Ledger::restore(&bytes);
        let _ = Page::decode(&[b"TRLU\x01\0", &bytes[..]].concat());
        let _ = Batch::decode(&[b"TRLB\x01\0", &bytes[..]].concat());
        let _ = Ledger::restore(&[b"TRLS\x01\0", &bytes[..]].concat());
    }

    #[test]
    fn damaged_batches_never_panic(place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = golden_batch();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        if let Ok(batch) = Batch::decode(&bytes) {
            // What decodes applies, whatever it says: apply is total.
            let mut ledger = Ledger::new();
            ledger.apply(1, batch.stamp.term, &batch);
            prop_assert_eq!(ledger.check(), Ok(()));
        }
    }
}

fn golden_batch() -> Vec<u8> {
    static BYTES: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    BYTES.get_or_init(|| batch().encode().unwrap()).clone()
}

#[test]
fn a_snapshot_body_that_was_altered_with_its_checksum_is_found_by_its_hash() {
    use sha2::{Digest, Sha256};
    let bytes = ledger().snapshot();
    let (summed, _) = bytes.split_last_chunk::<32>().unwrap();
    let mut altered = summed.to_vec();
    // The holder's name is in the state alone, so only the hash can tell.
    let at = altered.windows(7).position(|window| window == b"press 7").unwrap();
    altered[at] = b'P';
    let checksum = Sha256::digest(&altered);
    altered.extend_from_slice(&checksum);
    let refused = Ledger::restore(&altered).unwrap_err().to_string();
    assert!(refused.contains("hash"), "{refused}");
}
