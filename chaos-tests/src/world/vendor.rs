//! The vendor of a simulated world.

use chacha20::ChaCha20Rng;
use license::package::Package;
use license::product::{
    FirmCode, LicenseId, LicenseSerial, ProductCode, ProductName, TmrId, WallTime,
};
use license::request::ClusterRequest;
use license::terms::{Counting, Feature, Terms};
use license::trust::VendorRoot;
use license::vendor::RootKey;

use super::EPOCH;
use super::sources::Seed;

/// What it sells.
pub const PRODUCT: &str = crate::workload::PRODUCT;

const FIRM: FirmCode = FirmCode(6_000_010);

pub(super) struct Vendor {
    root: VendorRoot,
    vendor: license::vendor::Vendor,
    rng: ChaCha20Rng,
}

impl Vendor {
    pub(super) fn new(seed: &Seed) -> Self {
        let mut rng = seed.stream("vendor", 0);
        let key = RootKey::create("Acme root", &mut rng).expect("a valid name");
        let vendor = license::vendor::Vendor::create(&key, FIRM, "Acme CAD", &mut rng)
            .expect("a valid name");
        Self { root: key.root().clone(), vendor, rng }
    }

    pub(super) fn root(&self) -> VendorRoot {
        self.root.clone()
    }

    /// The license, as operators name it.
    pub(super) fn license(&self) -> String {
        format!("{}:201:1", FIRM.0)
    }

    pub(super) fn terms(&self, request: &ClusterRequest, seats: u32) -> Terms {
        Terms {
            license: LicenseId { firm: FIRM, product: ProductCode(201), tmr: TmrId(1) },
            serial: LicenseSerial(1),
            act: request.act(),
            cluster: request.cluster(),
            name: ProductName::parse(PRODUCT).expect("a valid name"),
            seats,
            counting: Counting::PerInstance,
            activation: None,
            expiration: None,
            version_max: None,
            feature: Feature { map: 5, text: "meshing".to_owned() },
            issued: WallTime(EPOCH as i64 * 1_000),
            extensions: Vec::new(),
        }
    }

    pub(super) fn issue(
        &mut self,
        make: impl FnOnce(&license::vendor::Vendor, &mut ChaCha20Rng) -> Package,
    ) -> Package {
        make(&self.vendor, &mut self.rng)
    }
}
