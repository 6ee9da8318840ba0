//! A lost share made again, by two good helpers and by bad ones.

use super::{ACT, World, more_randomness};
use crate::container::Container;
use crate::package::License;
use crate::product::{Epoch, NodeId};
use crate::repair::{Contribution, Half, RepairError, RepairedShare, contribute, restore};
use crate::share::{Share, aggregate_term};

const LOST: usize = 2;
const EPOCH: Epoch = Epoch(0);

/// What the first two containers contribute to the share of the third.
fn contributions(world: &mut World, license: &License) -> [Contribution; 2] {
    let serial = |place: usize| license.containers()[place];
    let share = |place: usize| Share::open(license, &world.containers[place]).expect("its own");
    let (one, other) = (share(0), share(1));
    let rng = &mut world.rng;
    let (kept, given) = one.halve(license, serial(1), serial(LOST), rng).expect("three shares");
    let (kept_too, given_too) =
        other.halve(license, serial(0), serial(LOST), rng).expect("three shares");
    [
        contribute(kept, &given_too).expect("two scalars"),
        contribute(kept_too, &given).expect("two scalars"),
    ]
}

fn newcomer(world: &mut World) -> Container {
    Container::create(ACT, &mut world.rng)
}

fn repaired(world: &mut World, license: &License, into: &Container) -> (License, RepairedShare) {
    let parts = contributions(world, license);
    restore(license, license.containers()[LOST], &parts, into, &mut world.rng).expect("they add up")
}

/// It proves itself in its new container, and signs with either of the others.
#[test]
fn a_share_made_again_is_as_good_as_the_lost_one() {
    let mut world = World::new(5);
    let license = world.license();
    let container = newcomer(&mut world);
    let serial = container.identity().serial();
    let (license, _) = repaired(&mut world, &license, &container);
    assert_eq!(license.containers()[LOST], serial);

    let share = Share::open(&license, &container).expect("its own share");
    let proof = share.prove(EPOCH, NodeId(4), &mut world.rng).expect("good randomness");
    assert!(license.verify_attestation(&world.cluster, EPOCH, NodeId(4), serial, &proof));
    for helper in [0, 1] {
        let with = Share::open(&license, &world.containers[helper]).expect("its own share");
        let (nonces, commitment) = share.commit(&mut world.rng).expect("good randomness");
        let (their_nonces, theirs) = with.commit(&mut world.rng).expect("good randomness");
        let commitments = [commitment, theirs];
        let parts = [
            share.sign_term(EPOCH, 7, nonces, &commitments).expect("in turn"),
            with.sign_term(EPOCH, 7, their_nonces, &commitments).expect("in turn"),
        ];
        let signature =
            aggregate_term(&license, EPOCH, 7, &commitments, &parts).expect("two good parts");
        assert!(license.verify_term(&world.cluster, EPOCH, 7, &signature));
    }
}

/// The dead node's disk still opens under the license as it was, and has no
/// place in the license as it is: its nodes ask for it no more.
#[test]
fn the_lost_container_has_no_place_any_more() {
    let mut world = World::new(6);
    let license = world.license();
    let container = newcomer(&mut world);
    let (after, kept) = repaired(&mut world, &license, &container);
    assert!(Share::open(&license, &world.containers[LOST]).is_ok());
    assert!(Share::open(&after, &world.containers[LOST]).is_err());
    // What the ledger keeps gives every node the same license.
    assert_eq!(license.reseat(&kept), Some((after.clone(), license.containers()[LOST])));
    // A container has one place at most.
    assert_eq!(after.reseat(&kept), None);
}

#[test]
fn parts_that_do_not_fit_give_no_share() {
    let mut world = World::new(7);
    let license = world.license();
    let (container, lost) = (newcomer(&mut world), license.containers()[LOST]);
    let mut rng = more_randomness();
    let mut check =
        |parts: &[Contribution; 2]| restore(&license, lost, parts, &container, &mut rng).map(drop);
    let [one, _] = contributions(&mut world, &license);
    let [_, another] = contributions(&mut world, &license);
    assert_eq!(check(&[one, another]), Err(RepairError::DoesNotAddUp), "two repairs mixed");
    let spoiled = Contribution::from_bytes(&[0xff; 32]).expect("32 bytes");
    let [one, _] = contributions(&mut world, &license);
    assert_eq!(check(&[one, spoiled]), Err(RepairError::Malformed));
    assert!(Half::from_bytes(&[1; 31]).is_none());
}

#[test]
fn a_helper_helps_with_another_share_only() {
    let mut world = World::new(8);
    let license = world.license();
    let stranger = newcomer(&mut world).identity().serial();
    let [a, b, c] = license.containers();
    let share = Share::open(&license, &world.containers[0]).expect("its own share");
    for (partner, lost, container) in
        [(a, c, a), (b, a, a), (b, b, b), (stranger, c, stranger), (b, stranger, stranger)]
    {
        let refused = share.halve(&license, partner, lost, &mut world.rng).map(drop);
        assert_eq!(refused, Err(RepairError::NotAnother { container }));
    }
}

/// One helper's two halves are drawn anew each time, so halves of two repairs
/// say nothing together.
#[test]
fn halves_are_never_drawn_twice() {
    let mut world = World::new(9);
    let license = world.license();
    let [_, b, c] = license.containers();
    let share = Share::open(&license, &world.containers[0]).expect("its own share");
    let mut halve = || share.halve(&license, b, c, &mut world.rng).expect("three shares");
    let ((kept, given), (kept_too, given_too)) = (halve(), halve());
    assert_ne!(kept.to_bytes(), kept_too.to_bytes());
    assert_ne!(given.to_bytes(), given_too.to_bytes());
    assert_eq!(format!("{kept:?}"), "Half(..)");
}
