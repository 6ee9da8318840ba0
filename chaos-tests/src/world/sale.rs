//! A cluster is formed, is sold a license, and what becomes of the license.

use std::time::Duration;

use license::package::Package;
use license::product::LicenseSerial;
use license::request::ClusterRequest;
use license::terms::Terms;

use super::World;
use super::callers::endpoint;

impl World {
    /// Forms the cluster; returns its virtual container.
    pub async fn form(&self) -> String {
        let at = self.operator().operator().at(endpoint(1));
        for _ in 0..50 {
            match at.init().await {
                Ok(formed) => return formed.virtual_container,
                // The nodes of a new world need a moment to come up.
                Err(error) => self.note(format_args!("not formed yet: {error}")),
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        panic!("the cluster did not form");
    }

    /// The cluster's request, as the vendor reads it.
    pub async fn request(&self) -> ClusterRequest {
        let reply = self.operator().operator().request_license().await.expect("a formed cluster");
        ClusterRequest::decode(&reply.request).expect("a good request")
    }

    /// The terms of a license for `seats` seats of [`PRODUCT`].
    pub fn terms(&self, request: &ClusterRequest, seats: u32) -> Terms {
        self.inner.vendor.borrow().terms(request, seats)
    }

    /// Has the vendor make a package in any way it can.
    pub fn issue(
        &self,
        make: impl FnOnce(&license::vendor::Vendor, &mut chacha20::ChaCha20Rng) -> Package,
    ) -> Package {
        self.inner.vendor.borrow_mut().issue(make)
    }

    /// Installs a package.
    pub async fn install(&self, package: &Package) {
        self.operator().operator().install_license(package.encode()).await.expect("installed");
    }

    /// Forms the cluster, sells it `seats` seats of [`PRODUCT`], waits until they serve.
    pub async fn serve_license(&self, seats: u32) {
        self.form().await;
        let request = self.request().await;
        let terms = self.terms(&request, seats);
        let package =
            self.issue(|vendor, rng| vendor.issue(&request, terms, rng).expect("valid terms"));
        self.inner.sold.set(Some(seats));
        self.install(&package).await;
        self.until_serving().await;
    }

    /// Waits until the license is listed as serving.
    pub async fn until_serving(&self) {
        let operator = self.operator().operator();
        self.until("the license serves", async || {
            let listed = operator.list_licenses().await.ok()?;
            listed.licenses.first().is_some_and(|license| license.serving).then_some(())
        })
        .await;
    }

    /// Withdraws a node's share of the license.
    ///
    /// # Errors
    /// It could not be, or only perhaps.
    pub(super) async fn withdraw_share(&self, node: u64) -> Result<(), trine_client::CallError> {
        let license = self.inner.vendor.borrow().license();
        self.inner.amended.set(true);
        self.note(format_args!("node-{node}'s share is withdrawn"));
        self.operator().operator().withdraw_share(&license, node).await.map(drop)
    }

    /// Installs an update of the license as it was sold, with new shares for all.
    pub(super) async fn update_license(&self) {
        self.amend_license(|_| ()).await;
        self.inner.amended.set(false);
    }

    /// Installs an update with other terms. A later one may overtake it.
    pub(super) async fn amend_license(&self, amend: impl FnOnce(&mut Terms)) {
        self.inner.amended.set(true);
        let serial = self.inner.serial.get() + 1;
        self.inner.serial.set(serial);
        let request = self
            .until("the cluster's request is told", async || {
                // By whoever is a member now and reaches the two others.
                self.operator().operator().request_license().await.ok()
            })
            .await;
        let request = ClusterRequest::decode(&request.request).expect("a good request");
        let seats = self.inner.sold.get().unwrap_or(0);
        let mut terms = Terms { serial: LicenseSerial(serial), ..self.terms(&request, seats) };
        amend(&mut terms);
        self.note(format_args!(
            "update {serial} of the license: {} seats, until {:?}",
            terms.seats, terms.expiration
        ));
        let package =
            self.issue(|vendor, rng| vendor.issue(&request, terms, rng).expect("valid terms"));
        let operator = self.operator().operator();
        self.until("the update is installed", async || {
            match operator.install_license(package.encode()).await {
                Ok(_) | Err(trine_client::CallError::Refused(_)) => Some(()),
                Err(_) => None,
            }
        })
        .await;
    }
}
