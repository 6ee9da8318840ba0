//! Which packages a cluster believes.

use p256::ecdsa::Signature as EcdsaSignature;

use super::{FIRM, World, more_randomness};
use crate::codec::{self, DecodeError, FileKind, LENGTH_MAX};
use crate::container::Container;
use crate::key::{Bytes, Signature};
use crate::package::{Package, PackageRefusal};
use crate::product::{ActId, ClusterId, FirmCode};
use crate::share::SealedShare;
use crate::terms::TermsRefusal;
use crate::vendor::{RootKey, Vendor};

#[test]
fn a_good_package_says_what_was_sold_and_to_which_containers() {
    let mut world = World::new(1);
    let file = world.issue().encode();
    let license = world.install(&file).expect("a good package");
    assert_eq!(*license.terms(), world.terms());
    assert_eq!(license.vendor(), "Acme CAD");
    assert_eq!(license.containers(), world.members().map(|member| member.serial()));
}

#[test]
fn a_package_is_encoded_in_one_way() {
    let file = World::new(1).issue().encode();
    assert_eq!(Package::decode(&file).expect("a package").encode(), file);
}

#[test]
fn a_flipped_byte_anywhere_is_refused() {
    let mut world = World::new(1);
    let file = world.issue().encode();
    for position in 0..file.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = file.clone();
            flipped[position] ^= mask;
            let outcome = world.install(&flipped);
            assert!(outcome.is_err(), "byte {position} ^ {mask:#x} went unnoticed");
        }
    }
}

#[test]
fn a_flipped_byte_in_the_terms_breaks_the_signature() {
    let mut world = World::new(1);
    let file = world.issue().encode();
    let name = file.windows(7).position(|window| window == b"cad-pro").expect("the name");
    let mut flipped = file;
    flipped[name] ^= 0x01;
    assert_eq!(world.install(&flipped), Err(PackageRefusal::SignatureWrong));
}

#[test]
fn a_package_cut_short_anywhere_is_refused_as_cut_short() {
    let file = World::new(1).issue().encode();
    for length in 6..file.len() {
        let refusal = Package::decode(&file[..length]).expect_err("cut short");
        let wanted = DecodeError::Truncated { kind: FileKind::Package, length: length as u64 };
        assert_eq!(refusal, PackageRefusal::Undecodable(wanted), "cut after {length}");
    }
    for length in 0..6 {
        let refusal = Package::decode(&file[..length]).expect_err("cut short");
        assert_eq!(refusal, PackageRefusal::Undecodable(DecodeError::NotTrine));
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    let mut file = World::new(1).issue().encode();
    file.extend_from_slice(b"more");
    let wanted = DecodeError::Trailing { kind: FileKind::Package, count: 4 };
    assert_eq!(Package::decode(&file), Err(PackageRefusal::Undecodable(wanted)));
}

#[test]
fn an_unknown_version_is_refused_as_such() {
    let mut file = World::new(1).issue().encode();
    file[6] = 2;
    let wanted = DecodeError::UnknownVersion { kind: FileKind::Package, version: 2, newest: 1 };
    assert_eq!(Package::decode(&file), Err(PackageRefusal::Undecodable(wanted)));
}

#[test]
fn another_kind_of_file_is_named() {
    let file = World::new(1).request.encode();
    let (found, wanted) = (FileKind::ClusterRequest, FileKind::Package);
    let refusal = DecodeError::OtherKind { found, wanted };
    assert_eq!(Package::decode(&file), Err(PackageRefusal::Undecodable(refusal)));
}

#[test]
fn a_second_encoding_of_the_same_contents_is_refused() {
    let mut world = World::new(1);
    let file = world.issue().encode();
    // The firm code opens the body; the same number written one byte longer.
    let number = codec::body(&FIRM);
    assert!(file[8..].starts_with(&number));
    let mut longer = file[..8 + number.len()].to_vec();
    *longer.last_mut().expect("a number") |= 0x80;
    longer.push(0);
    longer.extend_from_slice(&file[8 + number.len()..]);
    let wanted = DecodeError::NotCanonical { kind: FileKind::Package };
    assert_eq!(world.install(&longer), Err(PackageRefusal::Undecodable(wanted)));
}

#[test]
fn a_file_over_the_limit_is_not_even_parsed() {
    let mut file = World::new(1).issue().encode();
    file.resize(LENGTH_MAX + 1, 0);
    let refusal = Package::decode(&file).expect_err("too long");
    assert!(matches!(refusal, PackageRefusal::Undecodable(DecodeError::TooLong { .. })));
}

#[test]
fn another_vendors_package_is_refused() {
    let mut world = World::new(1);
    let stranger = RootKey::create("Stranger", &mut world.rng).expect("a valid name");
    let theirs = Vendor::create(&stranger, FIRM, "Acme CAD", &mut world.rng).expect("valid");
    let package = theirs.issue(&world.request, world.terms(), &mut world.rng).expect("valid");
    let root = stranger.root().fingerprint();
    let vendor = "Acme CAD".to_owned();
    assert_eq!(world.verify(&package), Err(PackageRefusal::UnknownRoot { vendor, root }));
}

/// A forger names the trusted root and brings a firm key of their own.
#[test]
fn a_key_is_never_taken_from_the_file() {
    let mut world = World::new(1);
    let forger = RootKey::create("Acme root", &mut world.rng).expect("a valid name");
    let forged = Vendor::create(&forger, FIRM, "Acme CAD", &mut world.rng).expect("valid");
    let mut package = forged.issue(&world.request, world.terms(), &mut world.rng).expect("valid");
    package.certificate.body.issuer = world.root.root().key.digest();
    let root = "Acme root".to_owned();
    assert_eq!(world.verify(&package), Err(PackageRefusal::FirmNotCertified { firm: FIRM, root }));
}

/// A forger keeps the true certificate and signs the license with their own key.
#[test]
fn a_license_signed_by_another_key_than_the_certified_one_is_refused() {
    let mut world = World::new(1);
    let forger = RootKey::create("Acme root", &mut world.rng).expect("a valid name");
    let forged = Vendor::create(&forger, FIRM, "Acme CAD", &mut world.rng).expect("valid");
    let mut package = forged.issue(&world.request, world.terms(), &mut world.rng).expect("valid");
    package.certificate = world.vendor.certificate().clone();
    assert_eq!(world.verify(&package), Err(PackageRefusal::SignatureWrong));
}

#[test]
fn a_firm_cannot_state_another_firms_license() {
    let mut world = World::new(1);
    let package = world.issue_spoiled(|statement| statement.terms.license.firm = FirmCode(1));
    let refusal = PackageRefusal::ForeignFirm { firm: FIRM, license: FirmCode(1) };
    assert_eq!(world.verify(&package), Err(refusal));
}

/// ECDSA lets anyone turn a signature into a second one; only the first is taken.
#[test]
fn a_signature_turned_around_is_refused() {
    let mut world = World::new(1);
    let mut package = world.issue();
    let encoded: [u8; 64] = codec::body(&package.signature).try_into().expect("64 bytes");
    let signature = EcdsaSignature::from_slice(&encoded).expect("a signature");
    let (r, s) = signature.split_scalars();
    let turned = EcdsaSignature::from_scalars(r, -s).expect("a signature");
    package.signature = Signature(Bytes(turned.to_bytes().into()));
    assert_eq!(world.verify(&package), Err(PackageRefusal::SignatureWrong));
}

#[test]
fn a_license_of_another_cluster_is_refused() {
    let mut world = World::new(1);
    let package = world.issue();
    let here = ClusterId([77; 16]);
    let refusal = package.verify(&[world.root.root().clone()], &here, &world.members());
    let licensed = world.cluster;
    assert_eq!(refusal, Err(PackageRefusal::OtherCluster { licensed, here }));
}

#[test]
fn a_share_for_another_container_is_refused() {
    let mut world = World::new(1);
    let package = world.issue();
    let container = world.containers[1].identity().serial();
    world.containers[1] = Container::create(super::ACT, &mut world.rng);
    let refusal = PackageRefusal::ShareForAnotherContainer { container };
    assert_eq!(world.verify(&package), Err(refusal));
}

#[test]
fn a_license_with_another_activation_id_is_refused() {
    let mut world = World::new(1);
    let package = world.issue_spoiled(|statement| statement.terms.act = ActId(8));
    let container = world.containers[0].identity().serial();
    let refusal = PackageRefusal::OtherAct { licensed: ActId(8), here: super::ACT, container };
    assert_eq!(world.verify(&package), Err(refusal));
}

#[test]
fn two_shares_or_four_are_not_a_license() {
    let mut world = World::new(1);
    let two = world.issue_spoiled(|statement| {
        statement.shares.pop();
    });
    assert_eq!(world.verify(&two), Err(PackageRefusal::ShareCount { count: 2 }));
    let four = world.issue_spoiled(|statement| statement.shares.push(statement.shares[0].clone()));
    assert_eq!(world.verify(&four), Err(PackageRefusal::ShareCount { count: 4 }));
}

#[test]
fn two_shares_in_one_container_are_refused() {
    let mut world = World::new(1);
    let container = world.containers[0].identity().serial();
    let recipient = *world.containers[0].identity().key();
    let (terms, mut rng) = (world.terms(), more_randomness());
    let package = world.issue_spoiled(|statement| {
        let verifying = statement.shares[1].verifying;
        let share = SealedShare::seal(&terms, &recipient, verifying, &[1; 32], &mut rng);
        statement.shares[1] = share.expect("sealed");
    });
    assert_eq!(world.verify(&package), Err(PackageRefusal::SameContainerTwice { container }));
}

#[test]
fn two_shares_that_disagree_are_refused() {
    let mut world = World::new(1);
    let terms = world.terms();
    let other = world.statement(terms);
    let package = world.issue_spoiled(|statement| statement.shares[2] = other.shares[2].clone());
    let container = world.containers[2].identity().serial();
    assert_eq!(world.verify(&package), Err(PackageRefusal::SharesDisagree { container }));
}

#[test]
fn commitments_of_another_split_are_refused() {
    let mut world = World::new(1);
    let terms = world.terms();
    let other = world.statement(terms);
    let package = world.issue_spoiled(|statement| statement.slope = other.slope);
    let container = world.containers[0].identity().serial();
    assert_eq!(world.verify(&package), Err(PackageRefusal::SharesDisagree { container }));
}

#[test]
fn terms_that_no_license_may_have_are_refused_even_when_signed() {
    let mut world = World::new(1);
    let package = world.issue_spoiled(|statement| statement.terms.seats = 0);
    let refusal = PackageRefusal::Terms(TermsRefusal::SeatsOutOfRange { seats: 0 });
    assert_eq!(world.verify(&package), Err(refusal));
}

/// The ledger keeps licenses in its snapshot.
#[test]
fn a_license_survives_a_snapshot() {
    let license = World::new(1).license();
    let bytes = postcard::to_stdvec(&license).expect("written");
    assert_eq!(postcard::from_bytes::<crate::package::License>(&bytes), Ok(license));
}
