//! Tests that make what no vendor would: they need the crate's insides.

mod containers;
mod files;
mod hostseal;
mod packages;
mod repair;
mod resets;
mod shares;
mod terms;
mod vendors;

use chacha20::ChaCha20Rng;

use crate::container::{Container, ContainerIdentity};
use crate::package::{License, LicenseStatement, Package, PackageRefusal};
use crate::product::{
    ActId, ClusterId, FirmCode, LicenseId, LicenseSerial, NodeId, ProductCode, ProductName, TmrId,
    WallTime,
};
use crate::rand_core::SeedableRng;
use crate::request::{ClusterRequest, ContainerRequest};
use crate::reset::{ClockReset, ResetTerms};
use crate::terms::{Counting, Feature, Terms};
use crate::vendor::{RootKey, Vendor, split_and_seal};

const FIRM: FirmCode = FirmCode(6_000_010);
const ACT: ActId = ActId(7);

/// A vendor, a cluster of three containers, and its request.
struct World {
    rng: ChaCha20Rng,
    root: RootKey,
    vendor: Vendor,
    cluster: ClusterId,
    containers: [Container; 3],
    request: ClusterRequest,
}

impl World {
    /// The same seed makes the same world.
    fn new(seed: u64) -> Self {
        let mut rng = ChaCha20Rng::seed_from_u64(seed);
        let root = RootKey::create("Acme root", &mut rng).expect("a valid name");
        let vendor = Vendor::create(&root, FIRM, "Acme CAD", &mut rng).expect("a valid name");
        let cluster = ClusterId([seed as u8; 16]);
        let containers = [(); 3].map(|()| Container::create(ACT, &mut rng));
        let request = request(cluster, &containers);
        Self { rng, root, vendor, cluster, containers, request }
    }

    fn terms(&self) -> Terms {
        Terms {
            license: LicenseId { firm: FIRM, product: ProductCode(201), tmr: TmrId(1) },
            serial: LicenseSerial(3),
            act: ACT,
            cluster: self.cluster,
            name: ProductName::parse("cad-pro").expect("a valid name"),
            seats: 50,
            counting: Counting::PerInstance,
            activation: Some(WallTime(1_700_000_000_000)),
            expiration: Some(WallTime(1_900_000_000_000)),
            version_max: None,
            feature: Feature { map: 5, text: "meshing".to_owned() },
            issued: WallTime(1_700_000_000_000),
            extensions: Vec::new(),
        }
    }

    fn issue(&mut self) -> Package {
        let terms = self.terms();
        self.vendor.issue(&self.request, terms, &mut self.rng).expect("valid terms")
    }

    fn license(&mut self) -> License {
        let package = self.issue();
        self.verify(&package).expect("a good package")
    }

    /// A package whose statement was spoiled before the vendor signed it.
    fn issue_spoiled(&mut self, spoil: impl FnOnce(&mut LicenseStatement)) -> Package {
        let mut statement = self.statement(self.terms());
        spoil(&mut statement);
        self.vendor.sign(statement)
    }

    fn statement(&mut self, terms: Terms) -> LicenseStatement {
        split_and_seal(&self.request, terms, &mut self.rng).expect("good randomness")
    }

    fn reset_terms(&self) -> ResetTerms {
        ResetTerms {
            cluster: self.cluster,
            serial: 1,
            from: WallTime(2_000_000_000_000),
            to: WallTime(1_700_000_000_000),
            issued: WallTime(1_700_000_000_000),
        }
    }

    fn reset(&self) -> ClockReset {
        self.vendor.reset_clock(self.reset_terms()).expect("it turns the date back")
    }

    fn members(&self) -> [ContainerIdentity; 3] {
        [0, 1, 2].map(|index: usize| self.containers[index].identity())
    }

    fn verify(&self, package: &Package) -> Result<License, PackageRefusal> {
        package.verify(&[self.root.root().clone()], &self.cluster, &self.members())
    }

    fn install(&self, file: &[u8]) -> Result<License, PackageRefusal> {
        self.verify(&Package::decode(file)?)
    }
}

/// For a closure that cannot borrow the world's.
fn more_randomness() -> ChaCha20Rng {
    ChaCha20Rng::seed_from_u64(99)
}

fn request(cluster: ClusterId, containers: &[Container; 3]) -> ClusterRequest {
    let requests = [0, 1, 2].map(|index: usize| {
        let node = NodeId(index as u64 + 1);
        ContainerRequest::make(&containers[index], cluster, node, [9; 32], vec![vec![1, 2, 3]])
            .expect("a short chain")
    });
    ClusterRequest::new(cluster, [8; 32], requests).expect("three good requests")
}
