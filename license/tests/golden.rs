//! Files written by the first release are read for ever, and written alike.
//!
//! The files in `golden/` were made once from a seeded generator by the
//! ignored test below. A new format version adds files; it replaces none.

use std::fs;
use std::path::PathBuf;

use chacha20::ChaCha20Rng;
use license::container::Container;
use license::hostseal::SealedContainer;
use license::package::Package;
use license::product::{
    ActId, ClusterId, FirmCode, LicenseId, LicenseSerial, NodeId, ProductCode, ProductName, TmrId,
    Version, WallTime,
};
use license::rand_core::SeedableRng;
use license::request::{ClusterRequest, ContainerRequest};
use license::reset::{ClockReset, ResetTerms};
use license::share::Share;
use license::terms::{Counting, Extension, Feature, Terms};
use license::traits::{Tolerance, Trait, TraitKind, Traits};
use license::trust::{FirmCertificate, VendorRoot};
use license::vendor::{RootKey, Vendor};

const PASSPHRASE: &[u8] = b"golden passphrase";

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden").join(name)
}

fn golden(name: &str) -> Vec<u8> {
    fs::read(path(name)).expect("a golden file")
}

fn cluster() -> ClusterId {
    ClusterId(*b"a golden cluster")
}

fn terms() -> Terms {
    Terms {
        license: LicenseId { firm: FirmCode(6_000_010), product: ProductCode(201), tmr: TmrId(1) },
        serial: LicenseSerial(3),
        act: ActId(70_000),
        cluster: cluster(),
        name: ProductName::parse("cad-pro").expect("a valid name"),
        seats: 50,
        counting: Counting::PerStation,
        activation: Some(WallTime(1_767_225_600_000)),
        expiration: Some(WallTime(1_798_761_600_000)),
        version_max: Some(Version { major: 3, minor: 1 }),
        feature: Feature { map: 0x8000_0005, text: "meshing, größer".to_owned() },
        issued: WallTime(1_767_225_600_000),
        extensions: vec![Extension { tag: 4, value: b"may be ignored".to_vec() }],
    }
}

#[test]
fn the_package_is_read_verified_and_written_alike() {
    let file = golden("package-v1.trine");
    let package = Package::decode(&file).expect("a package");
    assert_eq!(package.encode(), file);

    let root = VendorRoot::decode(&golden("root-v1.trine")).expect("a root");
    let request = ClusterRequest::decode(&golden("request-v1.trine")).expect("a request");
    let members: Vec<_> = request.requests().iter().map(|r| r.identity().clone()).collect();
    let license = package.verify(&[root], &cluster(), &members).expect("a good package");
    assert_eq!(*license.terms(), terms());

    let container = Container::decode(&golden("container-v1.trine")).expect("a container");
    let share = Share::open(&license, &container).expect("its share");
    assert_eq!(share.container(), container.identity().serial());
}

#[test]
fn the_container_is_read_and_written_alike() {
    let file = golden("container-v1.trine");
    let container = Container::decode(&file).expect("a container");
    assert_eq!(*container.encode(), file);
    assert_eq!(container.identity().act(), ActId(70_000));
}

fn host() -> Traits {
    Traits::of([
        Trait::new(TraitKind::MachineId, "machine id", *b"3d1219c7c4c5404aaa1f6d2a48adfda4"),
        Trait::new(TraitKind::Disk, "disk sda", *b"S4EVNX0R"),
        Trait::new(TraitKind::Network, "address of eth0", *b"52:54:00:12:34:56"),
    ])
}

#[test]
fn the_sealed_container_is_read_opened_and_written_alike() {
    let file = golden("sealed-container-v1.trine");
    let sealed = SealedContainer::decode(&file).expect("a sealed container");
    assert_eq!(sealed.encode(), file);
    assert_eq!(sealed.threshold(), (Tolerance::Medium, 5));
    let container = sealed.open(&host()).expect("its host").container;
    assert_eq!(*container.encode(), golden("container-v1.trine"));
}

#[test]
fn the_requests_are_read_and_written_alike() {
    let file = golden("container-request-v1.trine");
    let one = ContainerRequest::decode(&file).expect("a request");
    assert_eq!(one.encode(), file);

    let file = golden("request-v1.trine");
    let request = ClusterRequest::decode(&file).expect("a request");
    assert_eq!(request.encode(), file);
    assert_eq!(request.requests()[0], one);
    assert_eq!(request.cluster(), cluster());
}

#[test]
fn the_root_and_the_firm_certificate_are_read_and_the_chain_holds() {
    let root = VendorRoot::decode(&golden("root-v1.trine")).expect("a root");
    assert_eq!(root.name, "Acme root");

    let file = golden("firm-v1.trine");
    let certificate = FirmCertificate::decode(&file).expect("a certificate");
    assert_eq!(certificate.encode(), file);
    assert!(certificate.verify(&root));
}

fn reset_terms() -> ResetTerms {
    ResetTerms {
        cluster: cluster(),
        serial: 2,
        from: WallTime(2_082_758_400_000),
        to: WallTime(1_767_225_600_000),
        issued: WallTime(1_767_229_200_000),
    }
}

#[test]
fn the_clock_reset_is_read_verified_and_written_alike() {
    let file = golden("clock-reset-v1.trine");
    let reset = ClockReset::decode(&file).expect("a clock reset");
    assert_eq!(reset.encode(), file);
    let root = VendorRoot::decode(&golden("root-v1.trine")).expect("a root");
    let believed = reset.verify(&[root], &cluster());
    assert_eq!(believed, Ok((FirmCode(6_000_010), reset_terms())));
}

#[test]
fn the_vendor_s_keys_are_opened() {
    let pem = |name| String::from_utf8(golden(name)).expect("text");
    let root = VendorRoot::decode(&golden("root-v1.trine")).expect("a root");
    let root = RootKey::import(root, &pem("root-key.pem"), PASSPHRASE).expect("the root key");
    assert_eq!(root.root_file(), golden("root-v1.trine"));

    let certificate = FirmCertificate::decode(&golden("firm-v1.trine")).expect("a certificate");
    Vendor::import(certificate, &pem("firm-key.pem"), PASSPHRASE).expect("the firm key");
}

/// Only for a new format version: `cargo test -p trine-license --test golden -- --ignored`
/// writes every file anew, and git shows what changed.
#[test]
#[ignore = "writes the golden files"]
fn write_the_golden_files() {
    let rng = &mut ChaCha20Rng::seed_from_u64(2026);
    let root = RootKey::create("Acme root", rng).expect("a valid name");
    let vendor = Vendor::create(&root, FirmCode(6_000_010), "Acme CAD", rng).expect("a valid name");
    let containers = [(); 3].map(|()| Container::create(ActId(70_000), rng));
    let requests = [0, 1, 2].map(|index: usize| {
        let node = NodeId(index as u64 + 1);
        let chain = vec![b"leaf".to_vec(), b"authority".to_vec()];
        ContainerRequest::make(&containers[index], cluster(), node, [index as u8; 32], chain)
            .expect("a short chain")
    });
    let one = requests[0].encode();
    let request = ClusterRequest::new(cluster(), [5; 32], requests).expect("good requests");
    let package = vendor.issue(&request, terms(), rng).expect("valid terms");
    let reset = vendor.reset_clock(reset_terms()).expect("it turns the date back");
    let root_pem = root.export(PASSPHRASE, rng).expect("exported");
    let firm_pem = vendor.export(PASSPHRASE, rng).expect("exported");
    let sealed = SealedContainer::seal(&containers[0], &host(), Tolerance::Medium, rng);
    let sealed = sealed.expect("sealed").encode();
    let files: [(&str, &[u8]); 10] = [
        ("root-v1.trine", &root.root_file()),
        ("firm-v1.trine", &vendor.certificate().encode()),
        ("container-v1.trine", &containers[0].encode()),
        ("container-request-v1.trine", &one),
        ("request-v1.trine", &request.encode()),
        ("package-v1.trine", &package.encode()),
        ("clock-reset-v1.trine", &reset.encode()),
        ("root-key.pem", root_pem.as_bytes()),
        ("firm-key.pem", firm_pem.as_bytes()),
        ("sealed-container-v1.trine", &sealed),
    ];
    for (name, file) in files {
        fs::write(path(name), file).expect("written");
    }
}
