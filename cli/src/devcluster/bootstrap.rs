//! From five running servers to a cluster that grants seats: formed, licensed.

use std::time::Duration;

use license::product::ProductName;
use license::request::ClusterRequest;
use license::terms::{Counting, Feature, Terms};
use node::config::Config;
use node::enrollment;
use trine_client::{CallError, Endpoint, Reason};
use wire::v1;

use super::{CERTIFICATE_DAYS, DevCluster, FIRM, PASSPHRASE, Server};
use crate::context::Purpose;
use crate::failure::Failure;
use crate::files::Existing;
use crate::online::{Connection, SERVING_MAX};
use crate::vendor_dir::{self, VendorDir};
use crate::verb;

/// How long one answer may take while a cluster forms and elects.
const FORMING_MAX: Duration = Duration::from_secs(15);

/// A license that is in force.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    /// FIRM:PRODUCT:TMR
    pub license: String,
    /// Which update.
    pub serial: u64,
    /// The product.
    pub product: String,
    /// Its seats.
    pub seats: u64,
}

impl DevCluster {
    /// A connection to the nodes themselves, which does not need the balancers.
    pub async fn operate(&self) -> Result<Connection, Failure> {
        let mut target = self.target(Purpose::Operator);
        target.hosts = target.nodes.clone();
        Connection::patient(target, FORMING_MAX).await
    }

    /// Forms the cluster unless it is formed. Gives its virtual container.
    ///
    /// The nodes must be up.
    pub async fn ensure_formed(&self) -> Result<String, Failure> {
        self.ensure_enrolled().await?;
        let connection = self.operate().await?;
        let first = Endpoint::new("127.0.0.1", self.ports().client(Server::Node(1)));
        let node = connection.operator().at(first);
        match node.init().await {
            Ok(formed) => return Ok(formed.virtual_container),
            Err(CallError::Refused(what) | CallError::NotDone(what))
                if what.reason == Reason::AlreadyFormed => {}
            Err(error) => return Err(connection.failed(&error)),
        }
        let status = connection.operator().status().await;
        status.map(|status| status.virtual_container).map_err(|error| connection.unread(&error))
    }

    /// Has the CA certify the nodes' containers, which they made when they started.
    async fn ensure_enrolled(&self) -> Result<(), Failure> {
        let pki = self.layout().pki();
        let authority = verb::pki::open_authority(&pki)?;
        for server in Server::NODES {
            let config = Config::load(&self.layout().config(server)).map_err(Failure::usage)?;
            if !config.tls.container.exists() {
                let request = verb::node::ask(&config).await?;
                let (days, anew) = (CERTIFICATE_DAYS, Existing::Replace);
                verb::pki::certify(&authority, &pki, &request, days, anew, &self.world)?;
            }
        }
        Ok(())
    }

    /// Sees to it that `product` is licensed: leaves what is installed unless
    /// `seats` asks for another number, and issues `otherwise` seats when
    /// nothing is installed.
    pub async fn ensure_license(
        &self,
        product: &str,
        seats: Option<u32>,
        otherwise: u32,
    ) -> Result<Installed, Failure> {
        let connection = self.operate().await?;
        let listed = connection.operator().list_licenses().await;
        let licenses = listed.map_err(|error| connection.unread(&error))?.licenses;
        let installed = licenses.into_iter().find(|license| license.product == product);
        let installed = match (installed, seats) {
            (Some(license), None) => license.into(),
            (Some(license), Some(seats)) if license.seats == u64::from(seats) => license.into(),
            (_, seats) => self.issue(&connection, product, seats.unwrap_or(otherwise)).await?,
        };
        let Installed { license, serial, .. } = &installed;
        match connection.serving(license, *serial, SERVING_MAX).await? {
            None => Ok(installed),
            Some(reason) => {
                let what = format!("license {license} does not serve: {reason}");
                Err(Failure::refused("LICENSE_NOT_SERVING", what))
            }
        }
    }

    async fn issue(
        &self,
        connection: &Connection,
        product: &str,
        seats: u32,
    ) -> Result<Installed, Failure> {
        let request = connection.operator().request_license().await;
        let request = request.map_err(|error| connection.failed(&error))?.request;
        let request = ClusterRequest::decode(&request)
            .map_err(|error| Failure::refused("REQUEST_REFUSED", error))?;
        let package = self.package(&request, product, seats)?;
        let installed = connection.operator().install_license(package).await;
        let installed = installed.map_err(|error| connection.failed(&error))?;
        let (license, serial) = (installed.license, installed.serial);
        Ok(Installed { license, serial, product: product.to_owned(), seats: u64::from(seats) })
    }

    fn package(
        &self,
        request: &ClusterRequest,
        product: &str,
        seats: u32,
    ) -> Result<Vec<u8>, Failure> {
        let now = self.world.wall_time();
        enrollment::check_request(request, now)
            .map_err(|why| Failure::refused("REQUEST_REFUSED", why))?;
        let dir = VendorDir::new(self.layout().vendor());
        let vendor = dir.open(PASSPHRASE)?;
        let name = ProductName::parse(product)?;
        let entries = dir.entries()?;
        let license = vendor_dir::license_id(FIRM, vendor_dir::product_code(&entries, &name), 1);
        let terms = Terms {
            license,
            serial: vendor_dir::next_serial(&entries, license),
            act: request.act(),
            cluster: request.cluster(),
            name,
            seats,
            counting: Counting::PerInstance,
            activation: None,
            expiration: None,
            version_max: None,
            feature: Feature { map: 0, text: String::new() },
            issued: now,
            extensions: Vec::new(),
        };
        Ok(dir.issue(&vendor, request, terms, Vec::new())?.encode())
    }
}

impl From<v1::License> for Installed {
    fn from(license: v1::License) -> Self {
        let v1::License { id, serial, product, seats, .. } = license;
        Self { license: id, serial, product, seats }
    }
}
