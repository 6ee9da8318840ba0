//! The vendor's keys and files.

use pkcs8::der::pem::PemLabel;
use pkcs8::pkcs5::EncryptionScheme;
use pkcs8::pkcs5::pbes2::Kdf;
use pkcs8::{EncryptedPrivateKeyInfoRef, LineEnding, SecretDocument};

use super::{FIRM, World};
use crate::keyfile::KeyRefusal;
use crate::product::{ActId, ClusterId, FirmCode};
use crate::trust::{FirmCertificate, TrustRefusal, VendorRoot};
use crate::vendor::{IssueRefusal, RootKey, Vendor};

#[test]
fn a_key_comes_back_under_its_passphrase_and_no_other() {
    let mut world = World::new(6);
    let pem = world.vendor.export(b"correct horse", &mut world.rng).expect("exported");
    assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
    let certificate = world.vendor.certificate().clone();
    let back = Vendor::import(certificate.clone(), &pem, b"correct horse").expect("imported");
    let package = back.issue(&world.request, world.terms(), &mut world.rng).expect("valid");
    assert!(world.verify(&package).is_ok());
    let refusal = Vendor::import(certificate, &pem, b"wrong horse").expect_err("wrong");
    assert_eq!(refusal, KeyRefusal::DoesNotOpen);
}

#[test]
fn a_root_key_is_told_from_a_firm_key() {
    let mut world = World::new(6);
    let pem = world.root.export(b"correct horse", &mut world.rng).expect("exported");
    assert!(RootKey::import(world.root.root().clone(), &pem, b"correct horse").is_ok());
    let certificate = world.vendor.certificate().clone();
    let refusal = Vendor::import(certificate, &pem, b"correct horse").expect_err("other key");
    assert_eq!(refusal, KeyRefusal::OtherKey { name: "Acme CAD".to_owned() });
}

#[test]
fn a_short_passphrase_is_refused() {
    let mut world = World::new(6);
    let refusal = world.root.export(b"short", &mut world.rng).expect_err("short");
    assert_eq!(refusal, KeyRefusal::PassphraseTooShort);
}

#[test]
fn a_vendors_name_is_short_and_printable() {
    use crate::trust::{NAME_MAX, check_name};
    let longest = "x".repeat(NAME_MAX);
    for name in ["A", "Acme CAD", &longest] {
        assert_eq!(check_name(name), Ok(()), "{name:?}");
    }
    for name in ["", "Acme\nCAD", &format!("{longest}x")] {
        assert!(check_name(name).is_err(), "{name:?}");
    }
}

#[test]
fn something_that_is_no_key_file_does_not_open() {
    let world = World::new(6);
    for text in [
        "",
        "hello",
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\n",
        "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
    ] {
        let refusal = RootKey::import(world.root.root().clone(), text, b"correct horse");
        assert_eq!(refusal.expect_err("no key"), KeyRefusal::DoesNotOpen, "{text:?}");
    }
}

/// A key file names its own cost; a hostile one would ask for all the memory there is.
#[test]
fn a_key_file_that_costs_too_much_to_open_is_refused() {
    let mut world = World::new(6);
    let pem = world.root.export(b"correct horse", &mut world.rng).expect("exported");
    assert_eq!(with_cost(&pem, 1 << 17), *pem);
    for cost in [0, 1, 3, 1 << 32, 1 << 60, u64::MAX] {
        let refusal =
            RootKey::import(world.root.root().clone(), &with_cost(&pem, cost), b"correct horse");
        assert_eq!(refusal.expect_err("too costly"), KeyRefusal::DoesNotOpen, "{cost}");
    }
}

/// The key file with another scrypt cost parameter N.
fn with_cost(pem: &str, cost: u64) -> String {
    let (_, document) = SecretDocument::from_pem(pem).expect("a key file");
    let mut info = EncryptedPrivateKeyInfoRef::try_from(document.as_bytes()).expect("encrypted");
    let EncryptionScheme::Pbes2(parameters) = &mut info.encryption_algorithm else {
        panic!("not PBES2");
    };
    let Kdf::Scrypt(scrypt) = &mut parameters.kdf else { panic!("not scrypt") };
    scrypt.cost_parameter = cost;
    let changed = SecretDocument::try_from(info).expect("written");
    let pem = changed.to_pem(EncryptedPrivateKeyInfoRef::PEM_LABEL, LineEnding::LF);
    pem.expect("written").to_string()
}

#[test]
fn a_root_file_comes_back_and_notices_every_flipped_byte() {
    let world = World::new(6);
    let file = world.root.root_file();
    assert_eq!(VendorRoot::decode(&file).as_ref(), Ok(world.root.root()));
    for position in 0..file.len() {
        let mut flipped = file.clone();
        flipped[position] ^= 0x01;
        assert!(VendorRoot::decode(&flipped).is_err(), "byte {position} went unnoticed");
    }
}

#[test]
fn a_firm_certificate_is_good_under_its_root_and_no_other() {
    let mut world = World::new(6);
    let file = world.vendor.certificate().encode();
    let certificate = FirmCertificate::decode(&file).expect("a certificate");
    assert!(certificate.verify(world.root.root()));
    let other = RootKey::create("Acme root", &mut world.rng).expect("a valid name");
    assert!(!certificate.verify(other.root()));
    for position in 0..file.len() {
        let mut flipped = file.clone();
        flipped[position] ^= 0x01;
        let believed = FirmCertificate::decode(&flipped).is_ok_and(|c| c.verify(world.root.root()));
        assert!(!believed, "byte {position} went unnoticed");
    }
}

#[test]
fn names_are_printable_and_not_too_long() {
    let mut world = World::new(6);
    for name in ["", "bell \u{7}", &"x".repeat(65)] {
        let refusal = RootKey::create(name, &mut world.rng).expect_err("not a name");
        assert_eq!(refusal, TrustRefusal::NameInvalid);
        let refusal = Vendor::create(&world.root, FIRM, name, &mut world.rng);
        assert_eq!(refusal.expect_err("not a name"), TrustRefusal::NameInvalid);
    }
}

#[test]
fn a_vendor_issues_for_the_request_and_its_own_firm_only() {
    let mut world = World::new(6);
    let mut terms = world.terms();
    terms.cluster = ClusterId([0; 16]);
    let refusal = world.vendor.issue(&world.request, terms, &mut world.rng);
    let (terms, request) = (ClusterId([0; 16]), world.cluster);
    assert_eq!(refusal, Err(IssueRefusal::OtherCluster { terms, request }));

    let mut terms = world.terms();
    terms.act = ActId(9);
    let refusal = world.vendor.issue(&world.request, terms, &mut world.rng);
    let (terms, request) = (ActId(9), super::ACT);
    assert_eq!(refusal, Err(IssueRefusal::OtherAct { terms, request }));

    let mut terms = world.terms();
    terms.license.firm = FirmCode(1);
    let refusal = world.vendor.issue(&world.request, terms, &mut world.rng);
    let (license, firm) = (FirmCode(1), FIRM);
    assert_eq!(refusal, Err(IssueRefusal::OtherFirm { license, firm }));
}
