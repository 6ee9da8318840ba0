//! What a file says it is, for people: nothing here is believed.

use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::codec::{self, DecodeError, FileKind};
use crate::container::{Container, ContainerIdentity};
use crate::enrollment::{EnrollmentRefusal, EnrollmentRequest};
use crate::hostseal::SealedContainer;
use crate::key::{self, hex};
use crate::package::{Package, PackageRefusal};
use crate::product::WallTime;
use crate::request::{ClusterRequest, ContainerRequest, RequestRefusal};
use crate::reset::{ClockReset, ResetRefusal};
use crate::terms::{Counting, Terms};
use crate::traits::Tolerance;
use crate::trust::{FirmCertificate, TrustRefusal, VendorRoot};

/// What a file says it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inspection {
    /// Its length, in bytes.
    pub length: u64,
    /// SHA-256 of the whole file, hexadecimal.
    pub sha256: String,
    /// Its format version; `None` for a format that is not Trine's own.
    pub version: Option<u16>,
    /// What is in it.
    pub contents: Contents,
}

/// What is in a file, as it says. Secrets are never shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum Contents {
    /// A license package.
    Package(PackageContents),
    /// A node's secret container.
    Container(ContainerContents),
    /// A node's container, sealed to its host.
    SealedContainer(SealedContents),
    /// One container's request.
    ContainerRequest(RequestContents),
    /// A cluster's request.
    ClusterRequest(ClusterRequestContents),
    /// A node's request for a certificate of its container.
    Enrollment {
        /// The node.
        node: u64,
        /// Its container.
        container: ContainerContents,
    },
    /// A vendor root.
    VendorRoot {
        /// The vendor's name.
        name: String,
        /// Of its key.
        fingerprint: String,
    },
    /// A firm certificate.
    FirmCertificate(FirmContents),
    /// A firm's reset of one cluster's date.
    ClockReset(ResetContents),
    /// A vendor's private key, encrypted under a passphrase.
    EncryptedKey,
    /// A Trine file that cannot be read; the reason says what to do.
    Unreadable {
        /// What its header says.
        file_kind: FileKind,
        /// Why it cannot be read.
        reason: String,
    },
}

/// A license package, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PackageContents {
    /// `FIRM:PRODUCT:TMR`.
    pub license: String,
    /// Which update.
    pub serial: u64,
    /// The name applications ask for.
    pub name: String,
    /// The cluster it is for, hexadecimal.
    pub cluster: String,
    /// The activation id.
    pub act: u32,
    /// Seats; 0 when counting is unlimited.
    pub seats: u32,
    /// What takes a seat.
    pub counting: Counting,
    /// Not before, in milliseconds since 1970.
    pub activation: Option<WallTime>,
    /// Not at or after, in milliseconds since 1970.
    pub expiration: Option<WallTime>,
    /// The highest product version.
    pub version_max: Option<String>,
    /// The 32 switches.
    pub feature_map: u32,
    /// The text for the application.
    pub feature_text: String,
    /// When it was issued, in milliseconds since 1970.
    pub issued: WallTime,
    /// Tags of further terms.
    pub extensions: Vec<u16>,
    /// The containers that its shares are sealed to.
    pub containers: Vec<String>,
    /// Who certified the key that signed it.
    pub certificate: FirmContents,
}

/// A firm certificate, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FirmContents {
    /// The firm code.
    pub firm: u32,
    /// The vendor's name.
    pub vendor: String,
    /// Of the firm's key.
    pub fingerprint: String,
    /// Of the root's key.
    pub issuer: String,
}

/// A clock reset, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ResetContents {
    /// The cluster it is for, hexadecimal.
    pub cluster: String,
    /// Each serial counts once.
    pub serial: u64,
    /// It counts while the cluster's date is at or after this, in milliseconds since 1970.
    pub from: WallTime,
    /// The date to go on from, in milliseconds since 1970.
    pub to: WallTime,
    /// When it was made, in milliseconds since 1970.
    pub issued: WallTime,
    /// Who certified the key that signed it.
    pub certificate: FirmContents,
}

/// A container's public side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContainerContents {
    /// `130-XXXXXXXXXX`.
    pub serial: String,
    /// The activation id.
    pub act: u32,
    /// Of its key.
    pub fingerprint: String,
}

/// A sealed container: what it shows without its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SealedContents {
    /// The container.
    pub container: ContainerContents,
    /// How much of the host may change.
    pub tolerance: Tolerance,
    /// The weight that opens it.
    pub needed: u16,
    /// What it is sealed to: names and weights.
    pub traits: Vec<(String, u8)>,
}

/// One container's request, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RequestContents {
    /// The node.
    pub node: u64,
    /// The cluster, hexadecimal.
    pub cluster: String,
    /// Its container.
    pub container: ContainerContents,
    /// The machine's boot fingerprint, hexadecimal.
    pub boot: String,
    /// SHA-256 of each certificate in its chain, hexadecimal.
    pub chain: Vec<String>,
}

/// A cluster's request, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ClusterRequestContents {
    /// For customer and vendor to compare.
    pub fingerprint: String,
    /// The cluster, hexadecimal.
    pub cluster: String,
    /// `131-XXXXXXXXXX`.
    pub virtual_serial: String,
    /// Of the cluster CA certificate, for customer and vendor to compare.
    pub ca_fingerprint: String,
    /// The three containers' requests.
    pub requests: Vec<RequestContents>,
}

/// Says what a file is, without believing it.
///
/// # Errors
/// When it is not one of Trine's files at all, or longer than any of them.
pub fn inspect(file: &[u8]) -> Result<Inspection, DecodeError> {
    let (version, contents) = if is_encrypted_key(file) {
        (None, Contents::EncryptedKey)
    } else {
        let (kind, version) = codec::header(file)?;
        let contents = contents(kind, file)
            .unwrap_or_else(|reason| Contents::Unreadable { file_kind: kind, reason });
        (Some(version), contents)
    };
    let sha256 = hex(&Sha256::digest(file));
    Ok(Inspection { length: file.len() as u64, sha256, version, contents })
}

fn is_encrypted_key(file: &[u8]) -> bool {
    file.len() <= codec::LENGTH_MAX && file.starts_with(b"-----BEGIN ENCRYPTED PRIVATE KEY-----")
}

fn contents(kind: FileKind, file: &[u8]) -> Result<Contents, String> {
    Ok(match kind {
        FileKind::Package => {
            let package = Package::decode(file).map_err(|e: PackageRefusal| e.to_string())?;
            Contents::Package(package_contents(&package))
        }
        FileKind::Container => {
            let container = Container::decode(file).map_err(|e: DecodeError| e.to_string())?;
            Contents::Container(container_contents(&container.identity()))
        }
        FileKind::SealedContainer => {
            let sealed = SealedContainer::decode(file).map_err(|e: DecodeError| e.to_string())?;
            let (tolerance, needed) = sealed.threshold();
            let traits = sealed.traits().map(|(label, weight)| (label.to_owned(), weight));
            Contents::SealedContainer(SealedContents {
                container: container_contents(sealed.identity()),
                tolerance,
                needed,
                traits: traits.collect(),
            })
        }
        FileKind::ContainerRequest => {
            let request =
                ContainerRequest::decode(file).map_err(|e: RequestRefusal| e.to_string())?;
            Contents::ContainerRequest(request_contents(&request))
        }
        FileKind::ClusterRequest => {
            let request =
                ClusterRequest::decode(file).map_err(|e: RequestRefusal| e.to_string())?;
            Contents::ClusterRequest(cluster_request_contents(&request))
        }
        FileKind::VendorRoot => {
            let root = VendorRoot::decode(file).map_err(|e: TrustRefusal| e.to_string())?;
            let fingerprint = root.fingerprint();
            Contents::VendorRoot { name: root.name, fingerprint }
        }
        FileKind::Enrollment => {
            let request =
                EnrollmentRequest::decode(file).map_err(|e: EnrollmentRefusal| e.to_string())?;
            let container = container_contents(request.container());
            Contents::Enrollment { node: request.node().0, container }
        }
        FileKind::FirmCertificate => {
            let firm = FirmCertificate::decode(file).map_err(|e: TrustRefusal| e.to_string())?;
            Contents::FirmCertificate(firm_contents(&firm))
        }
        FileKind::ClockReset => {
            let reset = ClockReset::decode(file).map_err(|e: ResetRefusal| e.to_string())?;
            Contents::ClockReset(reset_contents(&reset))
        }
    })
}

fn package_contents(package: &Package) -> PackageContents {
    let terms: &Terms = package.claimed_terms();
    PackageContents {
        license: terms.license.to_string(),
        serial: terms.serial.0,
        name: terms.name.to_string(),
        cluster: terms.cluster.to_string(),
        act: terms.act.0,
        seats: terms.seats,
        counting: terms.counting,
        activation: terms.activation,
        expiration: terms.expiration,
        version_max: terms.version_max.map(|version| version.to_string()),
        feature_map: terms.feature.map,
        feature_text: terms.feature.text.clone(),
        issued: terms.issued,
        extensions: terms.extensions.iter().map(|extension| extension.tag).collect(),
        containers: package.claimed_containers().map(|serial| serial.to_string()).collect(),
        certificate: firm_contents(package.claimed_certificate()),
    }
}

fn firm_contents(certificate: &FirmCertificate) -> FirmContents {
    FirmContents {
        firm: certificate.firm().0,
        vendor: certificate.vendor().to_owned(),
        fingerprint: certificate.key().fingerprint(),
        issuer: key::fingerprint(certificate.issuer()),
    }
}

fn reset_contents(reset: &ClockReset) -> ResetContents {
    let terms = reset.claimed_terms();
    ResetContents {
        cluster: terms.cluster.to_string(),
        serial: terms.serial,
        from: terms.from,
        to: terms.to,
        issued: terms.issued,
        certificate: firm_contents(reset.claimed_certificate()),
    }
}

fn container_contents(identity: &ContainerIdentity) -> ContainerContents {
    ContainerContents {
        serial: identity.serial().to_string(),
        act: identity.act().0,
        fingerprint: identity.key().fingerprint(),
    }
}

fn request_contents(request: &ContainerRequest) -> RequestContents {
    RequestContents {
        node: request.node().0,
        cluster: request.cluster().to_string(),
        container: container_contents(request.identity()),
        boot: hex(request.boot()),
        chain: request.chain().iter().map(|der| hex(&Sha256::digest(der))).collect(),
    }
}

fn cluster_request_contents(request: &ClusterRequest) -> ClusterRequestContents {
    ClusterRequestContents {
        fingerprint: request.fingerprint(),
        cluster: request.cluster().to_string(),
        virtual_serial: request.virtual_serial().to_string(),
        ca_fingerprint: key::fingerprint(request.ca_digest()),
        requests: request.requests().iter().map(request_contents).collect(),
    }
}
