//! Files from anywhere: decoders refuse, they never panic.

use proptest::prelude::*;

use super::World;
use crate::container::{Container, SignedHeartbeat};
use crate::enrollment::EnrollmentRequest;
use crate::inspect::{Contents, inspect};
use crate::package::{License, Package};
use crate::product::NodeId;
use crate::request::{ClusterRequest, ContainerRequest};
use crate::reset::ClockReset;
use crate::share::{Commitment, ShareProof, SignatureShare, TermSignature};
use crate::trust::{FirmCertificate, VendorRoot};

/// Every decoder and the inspector, on any bytes.
fn read_as_everything(file: &[u8]) {
    let _ = Package::decode(file);
    let _ = Container::decode(file);
    let _ = ContainerRequest::decode(file);
    let _ = ClusterRequest::decode(file);
    let _ = VendorRoot::decode(file);
    let _ = FirmCertificate::decode(file);
    let _ = ClockReset::decode(file);
    let _ = EnrollmentRequest::decode(file);
    let _ = inspect(file);
    let _ = postcard::from_bytes::<License>(file);
    let _ = postcard::from_bytes::<SignedHeartbeat>(file);
    let _ = postcard::from_bytes::<Commitment>(file);
    let _ = postcard::from_bytes::<SignatureShare>(file);
    let _ = postcard::from_bytes::<ShareProof>(file);
    let _ = postcard::from_bytes::<TermSignature>(file);
}

/// One good file of every kind.
fn good_files(world: &mut World) -> Vec<Vec<u8>> {
    vec![
        world.issue().encode(),
        world.containers[0].encode().to_vec(),
        world.request.requests()[0].encode(),
        world.request.encode(),
        world.root.root_file(),
        world.vendor.certificate().encode(),
        world.reset().encode(),
        EnrollmentRequest::make(&world.containers[0], NodeId(1)).encode(),
    ]
}

proptest! {
    #[test]
    fn no_decoder_panics_on_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..2048)) {
        read_as_everything(&bytes);
    }

    #[test]
    fn no_decoder_panics_behind_a_good_header(
        letter in proptest::sample::select(b"PCNQRFTE".to_vec()),
        bytes in proptest::collection::vec(any::<u8>(), 0..2048),
    ) {
        read_as_everything(&[b"TRINE".as_slice(), &[letter, 1, 0], &bytes].concat());
    }

    #[test]
    fn a_spoiled_package_is_refused_whatever_was_spoiled(
        changes in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut world = World::new(7);
        let good = world.issue().encode();
        let mut spoiled = good.clone();
        for (index, byte) in changes {
            let position = index.index(good.len());
            spoiled[position] = byte;
        }
        prop_assert_eq!(world.install(&spoiled).is_ok(), spoiled == good);
    }
}

#[test]
fn every_file_says_what_it_is() {
    let mut world = World::new(7);
    let kinds = [
        "package",
        "container",
        "container-request",
        "cluster-request",
        "vendor-root",
        "firm-certificate",
        "clock-reset",
    ];
    for (file, kind) in good_files(&mut world).iter().zip(kinds) {
        let inspection = inspect(file).expect("a Trine file");
        let json = serde_json::to_value(&inspection).expect("written");
        assert_eq!(json["contents"]["kind"], kind);
        assert_eq!(json["length"], file.len());
        assert_eq!(json["version"], 1);
    }
}

#[test]
fn inspecting_a_container_does_not_show_its_secret() {
    let world = World::new(7);
    let file = world.containers[0].encode();
    let json = serde_json::to_string(&inspect(&file).expect("a Trine file")).expect("written");
    assert!(!json.contains(&crate::key::hex(&file[9..41])));
    assert!(json.contains(&world.containers[0].identity().serial().to_string()));
}

#[test]
fn a_damaged_file_still_says_what_it_was() {
    let mut world = World::new(7);
    let file = world.issue().encode();
    let inspection = inspect(&file[..100]).expect("a Trine file");
    let Contents::Unreadable { reason, .. } = inspection.contents else {
        panic!("not readable");
    };
    assert!(reason.contains("cut short after 100 bytes"), "{reason}");
}

#[test]
fn a_stranger_s_file_is_called_one() {
    assert!(inspect(b"PK\x03\x04 something else").is_err());
    assert!(inspect(b"").is_err());
}
