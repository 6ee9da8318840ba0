//! What one share, two shares and spoiled shares can do.

use super::{FIRM, World, more_randomness, request};
use crate::container::Container;
use crate::frost;
use crate::key::Bytes;
use crate::package::License;
use crate::product::{ClusterId, Epoch, LicenseId, LicenseSerial, NodeId, ProductCode, TmrId};
use crate::share::{
    Commitment, Nonces, SealedShare, Share, ShareProof, ShareRefusal, SignRefusal, SignatureShare,
    TermSignature, aggregate_term, attest_message, term_message,
};

const EPOCH: Epoch = Epoch(5);
const TERM: u64 = 12;

fn open_all(world: &World, license: &License) -> [Share; 3] {
    [0, 1, 2]
        .map(|index: usize| Share::open(license, &world.containers[index]).expect("its own share"))
}

fn commit(world: &mut World, shares: &[&Share]) -> (Vec<Nonces>, Vec<Commitment>) {
    shares.iter().map(|share| share.commit(&mut world.rng).expect("good randomness")).unzip()
}

/// Plays a whole signing round of these shares.
fn sign(
    world: &mut World,
    license: &License,
    term: u64,
    shares: &[&Share],
) -> Result<TermSignature, SignRefusal> {
    let (nonces, commitments) = commit(world, shares);
    let parts: Vec<SignatureShare> = shares
        .iter()
        .zip(nonces)
        .map(|(share, nonces)| share.sign_term(EPOCH, term, nonces, &commitments))
        .collect::<Result<_, _>>()?;
    aggregate_term(license, EPOCH, term, &commitments, &parts)
}

#[test]
fn any_two_shares_sign_a_term_and_so_do_all_three() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, c] = open_all(&world, &license);
    for signers in [vec![&a, &b], vec![&a, &c], vec![&b, &c], vec![&a, &b, &c]] {
        let signature = sign(&mut world, &license, TERM, &signers).expect("two are enough");
        assert!(license.verify_term(&world.cluster, EPOCH, TERM, &signature));
    }
}

#[test]
fn a_term_signature_is_good_for_its_term_epoch_cluster_and_license_only() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, _] = open_all(&world, &license);
    let signature = sign(&mut world, &license, TERM, &[&a, &b]).expect("two are enough");
    assert!(!license.verify_term(&world.cluster, EPOCH, TERM + 1, &signature));
    // Of the cluster before or after a restore.
    assert!(!license.verify_term(&world.cluster, Epoch(EPOCH.0 + 1), TERM, &signature));
    assert!(!license.verify_term(&ClusterId([0; 16]), EPOCH, TERM, &signature));
    assert!(!world.license().verify_term(&world.cluster, EPOCH, TERM, &signature));
}

#[test]
fn one_share_alone_signs_nothing() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, _, _] = open_all(&world, &license);
    let refusal = sign(&mut world, &license, TERM, &[&a]);
    assert_eq!(refusal, Err(SignRefusal::TooFewShares { count: 1 }));
}

#[test]
fn one_share_does_not_count_twice() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, _, _] = open_all(&world, &license);
    let refusal = sign(&mut world, &license, TERM, &[&a, &a]);
    assert_eq!(refusal, Err(SignRefusal::SameShareTwice { container: a.container() }));
}

/// The same license issued twice has two splits; a share of one is no share of the other.
#[test]
fn a_share_of_another_split_is_named_as_the_culprit() {
    let mut world = World::new(2);
    let (license, other) = (world.license(), world.license());
    let [a, _, _] = open_all(&world, &license);
    let [_, stranger, _] = open_all(&world, &other);
    let refusal = sign(&mut world, &license, TERM, &[&a, &stranger]);
    let container = stranger.container();
    assert_eq!(refusal, Err(SignRefusal::BadShare { container }));
}

#[test]
fn parts_of_different_terms_do_not_join() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, _] = open_all(&world, &license);
    let (mut nonces, commitments) = commit(&mut world, &[&a, &b]);
    let late = b.sign_term(EPOCH, TERM + 1, nonces.remove(1), &commitments).expect("signed");
    let good = a.sign_term(EPOCH, TERM, nonces.remove(0), &commitments).expect("signed");
    let refusal = aggregate_term(&license, EPOCH, TERM, &commitments, &[good, late]);
    assert_eq!(refusal, Err(SignRefusal::BadShare { container: b.container() }));
}

#[test]
fn a_part_without_its_commitment_does_not_join() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, c] = open_all(&world, &license);
    let (nonces, commitments) = commit(&mut world, &[&a, &b, &c]);
    let parts: Vec<_> = [&a, &b, &c]
        .into_iter()
        .zip(nonces)
        .map(|(share, nonces)| share.sign_term(EPOCH, TERM, nonces, &commitments).expect("signed"))
        .collect();
    let refusal = aggregate_term(&license, EPOCH, TERM, &commitments[..2], &parts[1..]);
    assert_eq!(refusal, Err(SignRefusal::Inconsistent));
}

#[test]
fn nonces_of_another_round_are_refused() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, _] = open_all(&world, &license);
    let (old, _) = a.commit(&mut world.rng).expect("good randomness");
    let (_, commitments) = commit(&mut world, &[&a, &b]);
    let refusal = a.sign_term(EPOCH, TERM, old, &commitments).expect_err("not its nonces");
    assert_eq!(refusal, SignRefusal::NotOurNonces);
}

#[test]
fn a_commitment_of_a_stranger_is_refused() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, _] = open_all(&world, &license);
    let (nonces, mut commitments) = commit(&mut world, &[&a, &b]);
    let container = Container::create(super::ACT, &mut world.rng).identity().serial();
    commitments[1].container = container;
    let nonces = nonces.into_iter().next().expect("nonces");
    let refusal = a.sign_term(EPOCH, TERM, nonces, &commitments).expect_err("a stranger");
    assert_eq!(refusal, SignRefusal::ForeignContainer { container });
}

#[test]
fn a_proof_of_possession_is_good_for_its_node_container_and_epoch_only() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, _] = open_all(&world, &license);
    let node = NodeId(1);
    let proof = a.prove(EPOCH, node, &mut world.rng).expect("good randomness");
    let check = |cluster, node, container| {
        license.verify_attestation(&cluster, EPOCH, node, container, &proof)
    };
    assert!(check(world.cluster, node, a.container()));
    assert!(!check(world.cluster, NodeId(2), a.container()));
    assert!(!check(world.cluster, node, b.container()));
    assert!(!check(ClusterId([0; 16]), node, a.container()));
    let later = Epoch(EPOCH.0 + 1);
    assert!(!license.verify_attestation(&world.cluster, later, node, a.container(), &proof));
    assert!(!world.license().verify_attestation(
        &world.cluster,
        EPOCH,
        node,
        a.container(),
        &proof
    ));
}

#[test]
fn a_proof_for_an_older_serial_is_not_good_for_the_newer() {
    let mut world = World::new(2);
    let old = world.license();
    let [share, _, _] = open_all(&world, &old);
    let proof = share.prove(EPOCH, NodeId(1), &mut world.rng).expect("good randomness");
    let mut terms = world.terms();
    terms.serial = LicenseSerial(4);
    let package = world.vendor.issue(&world.request, terms, &mut world.rng).expect("valid");
    let new = world.verify(&package).expect("a good package");
    assert!(!new.verify_attestation(&world.cluster, EPOCH, NodeId(1), share.container(), &proof));
}

#[test]
fn a_flipped_byte_in_a_proof_or_signature_is_noticed() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, b, _] = open_all(&world, &license);
    let proof = a.prove(EPOCH, NodeId(1), &mut world.rng).expect("good randomness");
    let signature = sign(&mut world, &license, TERM, &[&a, &b]).expect("two are enough");
    for position in 0..65 {
        for mask in [0x01, 0x80] {
            let mut proof = proof.0.0;
            proof[position] ^= mask;
            let proof = ShareProof(Bytes(proof));
            let container = a.container();
            assert!(!license.verify_attestation(
                &world.cluster,
                EPOCH,
                NodeId(1),
                container,
                &proof
            ));
            let mut signature = signature.0.0;
            signature[position] ^= mask;
            let signature = TermSignature(Bytes(signature));
            assert!(!license.verify_term(&world.cluster, EPOCH, TERM, &signature));
        }
    }
}

/// SEC1 has a second 33-byte form of a point; taking it would give a proof two encodings.
#[test]
fn a_proof_has_one_encoding() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, _, _] = open_all(&world, &license);
    let mut proof = a.prove(EPOCH, NodeId(1), &mut world.rng).expect("good randomness");
    proof.0.0[0] = 5;
    assert!(!license.verify_attestation(&world.cluster, EPOCH, NodeId(1), a.container(), &proof));
}

#[test]
fn a_proof_of_possession_is_no_term_signature() {
    let mut world = World::new(2);
    let license = world.license();
    let [a, _, _] = open_all(&world, &license);
    let proof = a.prove(EPOCH, NodeId(TERM), &mut world.rng).expect("good randomness");
    assert!(!license.verify_term(&world.cluster, EPOCH, TERM, &TermSignature(proof.0)));
}

/// The very bytes are the protocol: nodes of different versions sign together.
#[test]
fn what_shares_sign_says_what_it_is_and_for_whom() {
    let license = LicenseId { firm: FIRM, product: ProductCode(201), tmr: TmrId(1) };
    let (cluster, serial) = (ClusterId([0xc1; 16]), LicenseSerial(3));
    let about = [
        [0xc1; 16].as_slice(),
        &[0x00, 0x5b, 0x8d, 0x8a],
        &[0, 0, 0, 201],
        &[0, 0, 0, 1],
        &[0, 0, 0, 0, 0, 0, 0, 3],
        &[0, 0, 0, 0, 0, 0, 0x0b, 0xcd],
        &[0, 0, 0, 0, 0, 0, 0, 12],
    ]
    .concat();
    let term = term_message(&cluster, license, serial, Epoch(0x0b_cd), TERM);
    assert_eq!(term, [b"trine term v1\0".as_slice(), &about].concat());
    let attest = attest_message(&cluster, license, serial, Epoch(0x0b_cd), NodeId(12));
    assert_eq!(attest, [b"trine attest v1\0".as_slice(), &about].concat());
}

#[test]
fn another_container_opens_no_share() {
    let mut world = World::new(2);
    let license = world.license();
    let stranger = Container::create(super::ACT, &mut world.rng);
    let refusal = Share::open(&license, &stranger).expect_err("not its share");
    assert!(matches!(refusal, ShareRefusal::ForAnotherContainer { .. }));
    assert!(refusal.to_string().contains(&stranger.identity().serial().to_string()));
}

#[test]
fn a_share_of_random_bytes_is_refused_when_opened() {
    let mut world = World::new(2);
    let (terms, recipient) = (world.terms(), *world.containers[0].identity().key());
    let mut rng = more_randomness();
    let package = world.issue_spoiled(|statement| {
        let verifying = statement.shares[0].verifying;
        let share = SealedShare::seal(&terms, &recipient, verifying, &[0x42; 32], &mut rng);
        statement.shares[0] = share.expect("sealed");
    });
    let license = world.verify(&package).expect("nobody sees it from outside");
    let refusal = Share::open(&license, &world.containers[0]).expect_err("random bytes");
    assert!(matches!(refusal, ShareRefusal::Disagrees { .. }));
}

#[test]
fn a_share_of_another_license_is_refused_when_opened() {
    let mut world = World::new(2);
    let (terms, recipient) = (world.terms(), *world.containers[0].identity().key());
    let mut rng = more_randomness();
    let other = frost::split(&mut rng).expect("good randomness");
    let package = world.issue_spoiled(|statement| {
        let verifying = statement.shares[0].verifying;
        let share = SealedShare::seal(&terms, &recipient, verifying, &other.shares[0], &mut rng);
        statement.shares[0] = share.expect("sealed");
    });
    let license = world.verify(&package).expect("nobody sees it from outside");
    let refusal = Share::open(&license, &world.containers[0]).expect_err("another license's");
    assert!(matches!(refusal, ShareRefusal::Disagrees { .. }));
}

/// The seal is bound to cluster, license and serial: moved into another package it stays shut.
#[test]
fn a_sealed_share_moved_into_another_license_does_not_open() {
    let mut world = World::new(2);
    let mut terms = world.terms();
    terms.serial = LicenseSerial(2);
    let old = world.statement(terms);
    let package = world.issue_spoiled(|statement| {
        let shares = statement.shares.len();
        *statement = crate::package::LicenseStatement {
            terms: statement.terms.clone(),
            shares: old.shares[..shares].to_vec(),
            ..old
        };
    });
    let license = world.verify(&package).expect("the old split is consistent in itself");
    let refusal = Share::open(&license, &world.containers[0]).expect_err("sealed for another");
    assert!(matches!(refusal, ShareRefusal::SealBroken { .. }));
}

#[test]
fn two_clusters_of_the_same_containers_do_not_share_a_license() {
    let mut world = World::new(2);
    let package = world.issue();
    world.cluster = ClusterId([3; 16]);
    world.request = request(world.cluster, &world.containers);
    assert!(world.verify(&package).is_err());
}

#[test]
fn secrets_are_not_printed() {
    let mut world = World::new(2);
    let license = world.license();
    let [share, _, _] = open_all(&world, &license);
    let (nonces, _) = share.commit(&mut world.rng).expect("good randomness");
    assert_eq!(format!("{nonces:?}"), "Nonces(..)");
    let printed = format!("{share:?}");
    assert_eq!(printed, format!("Share(6000010:201:1 serial 3 in {})", share.container()));
    let printed = format!("{:?} {:?} {:?}", world.containers[0], world.vendor, world.root);
    let secret = world.containers[0].encode();
    let secret = crate::key::hex(&secret[9..41]);
    assert!(!printed.contains(&secret));
}
