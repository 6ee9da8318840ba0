//! Containers sealed to hosts: enough of the host opens, less does not.

use proptest::prelude::*;

use super::World;
use crate::codec::DecodeError;
use crate::hostseal::{OtherHost, SealRefusal, SealedContainer};
use crate::traits::{LABEL_MAX, Tolerance, Trait, TraitKind, Traits};

/// A host that shows one of everything and two of most.
fn everything() -> Vec<Trait> {
    vec![
        Trait::new(TraitKind::MachineId, "machine id", *b"3d1219c7c4c5404a"),
        Trait::new(TraitKind::Board, "board serial", *b"PF1AB2CD"),
        Trait::new(TraitKind::Board, "system id", *b"b5a4-11ee"),
        Trait::new(TraitKind::Disk, "disk nvme0n1", *b"S4EVNX0R"),
        Trait::new(TraitKind::Network, "address of eth0", *b"52:54:00:12:34:56"),
        Trait::new(TraitKind::Network, "address of eth1", *b"52:54:00:12:34:57"),
        Trait::new(TraitKind::KeyFile, "key file", [7; 32]),
    ]
}

fn without_key() -> Vec<Trait> {
    everything().into_iter().filter(|found| found.kind() != TraitKind::KeyFile).collect()
}

fn sealed(world: &mut World, traits: &Traits, tolerance: Tolerance) -> SealedContainer {
    SealedContainer::seal(&world.containers[0], traits, tolerance, &mut world.rng).expect("sealed")
}

fn other_host(refusal: SealRefusal) -> OtherHost {
    match refusal {
        SealRefusal::OtherHost(other) => other,
        SealRefusal::Damaged => panic!("damaged"),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Whatever is left of a host, it opens exactly when its weight is enough.
    #[test]
    fn enough_weight_opens_and_less_does_not(
        kept in prop::collection::vec(any::<bool>(), 7),
        tolerance in prop::sample::select(Tolerance::ALL.to_vec()),
        seed in 0..100_u64,
    ) {
        let mut world = World::new(seed);
        let all = Traits::of(everything());
        let sealed = sealed(&mut world, &all, tolerance);
        let left = everything().into_iter().zip(kept).filter(|(_, kept)| *kept);
        let left = Traits::of(left.map(|(shown, _)| shown));
        let needed = tolerance.threshold(all.weight());
        match sealed.open(&left) {
            Ok(opened) => {
                prop_assert!(left.weight() >= needed);
                prop_assert_eq!(opened.container.identity(), world.containers[0].identity());
                prop_assert_eq!(opened.gone.len(), all.iter().count() - left.iter().count());
            }
            Err(refusal) => {
                let other = other_host(refusal);
                prop_assert!(left.weight() < needed);
                prop_assert_eq!((other.found, other.needed), (left.weight(), needed));
            }
        }
    }
}

#[test]
fn a_changed_network_card_is_named_and_the_container_opens() {
    let mut world = World::new(4);
    let sealed = sealed(&mut world, &Traits::of(without_key()), Tolerance::Medium);
    let changed = without_key().into_iter().map(|shown| match shown.label() {
        "address of eth0" => Trait::new(TraitKind::Network, "address of eth0", *b"new"),
        _ => shown,
    });
    let opened = sealed.open(&Traits::of(changed)).expect("most of it is there");
    assert_eq!(opened.gone, ["address of eth0"]);
    assert_eq!(opened.new, ["address of eth0"]);
}

/// The same card under another name is the same card.
#[test]
fn a_renamed_interface_is_no_change() {
    let mut world = World::new(4);
    let sealed = sealed(&mut world, &Traits::of(without_key()), Tolerance::Tight);
    let renamed = without_key().into_iter().map(|shown| match shown.label() {
        "address of eth0" => Trait::new(TraitKind::Network, "address of ens3", shown.value()),
        _ => shown,
    });
    let opened = sealed.open(&Traits::of(renamed)).expect("all of it is there");
    assert!(opened.gone.is_empty() && opened.new.is_empty(), "{opened:?}");
}

#[test]
fn another_host_is_told_what_is_missing() {
    let mut world = World::new(4);
    let sealed = sealed(&mut world, &Traits::of(without_key()), Tolerance::Medium);
    let other = Traits::of([Trait::new(TraitKind::MachineId, "machine id", *b"another")]);
    let said = sealed.open(&other).expect_err("another host").to_string();
    for part in ["weight 0 of the 9", "gone: machine id, board serial", "new: machine id"] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// A planned move: the key file was there before, and nothing else afterwards.
#[test]
fn a_key_file_carries_a_container_to_another_host() {
    let mut world = World::new(4);
    let all = Traits::of(everything());
    let key_alone = Traits::of(everything().pop());
    for (tolerance, opens) in
        [(Tolerance::Loose, true), (Tolerance::Medium, true), (Tolerance::Tight, false)]
    {
        let sealed = sealed(&mut world, &all, tolerance);
        assert_eq!(sealed.open(&key_alone).is_ok(), opens, "{tolerance}");
        assert!(sealed.open(&Traits::of(without_key())).is_err(), "{tolerance}: the key is lost");
    }
}

/// A host that shows nothing has its container sealed to nothing, and where
/// there is something to seal it to, it is found to be new.
#[test]
fn a_host_that_shows_nothing_seals_to_nothing() {
    let mut world = World::new(4);
    let sealed = sealed(&mut world, &Traits::default(), Tolerance::Tight);
    let opened = sealed.open(&Traits::of(without_key())).expect("open to all");
    assert_eq!(opened.new.len(), without_key().len());
}

#[test]
fn one_trait_of_least_weight_is_enough_to_seal_to() {
    let mut world = World::new(4);
    for kind in TraitKind::ALL {
        let host = Traits::of([Trait::new(kind, "only", *b"this")]);
        let sealed = sealed(&mut world, &host, Tolerance::Loose);
        assert!(sealed.open(&host).is_ok(), "{kind:?}");
        assert!(sealed.open(&Traits::default()).is_err(), "{kind:?}");
    }
}

#[test]
fn a_host_is_not_known_by_its_many_interfaces_alone() {
    let many = (0..20_u8).map(|number| Trait::new(TraitKind::Network, "eth", [number]));
    let host = Traits::of(many.chain([Trait::new(TraitKind::Network, "eth", [0_u8])]));
    assert_eq!((host.iter().count(), host.weight()), (2, 4));
}

#[test]
fn a_sealed_file_comes_back_alike_and_a_flipped_byte_is_noticed() {
    let mut world = World::new(4);
    let host = Traits::of(without_key());
    let sealed = sealed(&mut world, &host, Tolerance::Tight);
    let file = sealed.encode();
    assert_eq!(SealedContainer::decode(&file).expect("a sealed container"), sealed);
    for position in 0..file.len() {
        let mut flipped = file.clone();
        flipped[position] ^= 0x01;
        let read = SealedContainer::decode(&flipped);
        let whole = read.is_ok_and(|read| {
            read.open(&host).is_ok_and(|opened| opened.gone.is_empty() && opened.new.is_empty())
        });
        // A name is for people; nothing depends on it.
        let in_a_name = sealed.traits().any(|(label, _)| {
            let at = file.windows(label.len()).position(|window| window == label.as_bytes());
            at.is_some_and(|at| (at..at + label.len()).contains(&position))
        });
        assert!(!whole || in_a_name, "byte {position} went unnoticed");
    }
}

#[test]
fn the_file_shows_neither_the_secret_nor_a_trait() {
    let mut world = World::new(4);
    let file = sealed(&mut world, &Traits::of(everything()), Tolerance::Medium).encode();
    let plain = world.containers[0].encode();
    let shows = |needle: &[u8]| file.windows(needle.len()).any(|window| window == needle);
    assert!(!shows(&plain[13..29]));
    for hidden in everything() {
        assert!(!shows(hidden.value()), "{}", hidden.label());
        assert!(!format!("{hidden:?}").contains("52:54"), "{hidden:?}");
    }
}

#[test]
fn a_long_name_is_cut_and_too_many_traits_are_not_read() {
    let long = Trait::new(TraitKind::Disk, &"ü".repeat(50), *b"x");
    assert!(long.label().len() <= LABEL_MAX);
    let mut world = World::new(4);
    let plain = world.containers[0].encode();
    assert!(matches!(SealedContainer::decode(&plain), Err(DecodeError::OtherKind { .. })));
    let sealed = sealed(&mut world, &Traits::of(everything()), Tolerance::Medium);
    assert_eq!(sealed.traits().map(|(_, weight)| u16::from(weight)).sum::<u16>(), 38);
}
