//! The read side: what the ledger shows of itself, as plain values.
//!
//! For status, metrics and the node's own decisions. Nothing here carries a
//! [`LeaseId`](crate::command::LeaseId): operators see seats by token.

use license::build::Build;
use license::container::{ContainerIdentity, ContainerSerial};
use license::product::{Epoch, FirmCode, LicenseId, LicenseSerial, NodeId, ProductName, WallTime};
use license::repair::RepairedShare;
use license::terms::Terms;
use license::trust::VendorRoot;
use serde::{Deserialize, Serialize};

use crate::command::{ShareState, Token};
use crate::name::{HolderName, Subject};
use crate::table::Sum;
use crate::time::{ClusterTime, Ttl};

/// One live seat.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeatView {
    /// The fencing token, which is the seat's number to operators.
    pub token: Token,
    /// The product.
    pub product: ProductName,
    /// The license it is charged to now.
    pub license: LicenseId,
    /// Who holds it.
    pub subject: Subject,
    /// What the holder calls itself.
    pub holder: HolderName,
    /// Since when.
    pub granted: ClusterTime,
    /// Until when, unless renewed.
    pub deadline: ClusterTime,
    /// How far each renewal reaches.
    pub ttl: Ttl,
    /// The operator who revoked it.
    pub revoked_by: Option<Subject>,
    /// Whether it stands above its license's count and will not be renewed there.
    pub surplus: bool,
}

/// One request in a product's queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaiterView {
    /// The product.
    pub product: ProductName,
    /// Its place; 1 is the head.
    pub position: u32,
    /// Who waits.
    pub subject: Subject,
    /// What the waiter calls itself.
    pub holder: HolderName,
    /// Since when.
    pub since: ClusterTime,
    /// Until when, if its caller keeps asking.
    pub until: ClusterTime,
}

/// One bearer token, of which the ledger knows no more than a digest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BearerView {
    /// The application it stands for.
    pub subject: Subject,
    /// When it stops working, on the wall floor.
    pub expires: WallTime,
}

/// The date that one firm's licenses run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FirmDateView {
    /// The firm.
    pub firm: FirmCode,
    /// Its wall floor now.
    pub date: WallTime,
    /// Serial of the last clock reset that counted; 0 before the first.
    pub last_reset: u64,
}

/// One certificate that is shut out.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct RevokedView {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// Whom it speaks for.
    pub subject: Subject,
    /// When it expires.
    pub expires: WallTime,
    /// The operator.
    pub by: Subject,
}

/// Tells one state of the revoked certificates from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RevokedMark(pub(crate) Sum);

/// One product's pool: the sum of its licenses in service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PoolView {
    /// The product.
    pub product: ProductName,
    /// Seats in force; `None` when an unlimited license is among them.
    pub capacity: Option<u64>,
    /// Seats taken, as the licenses count them.
    pub seats: u64,
    /// Live leases; more than `seats` where stations share one.
    pub leases: u64,
    /// Requests waiting.
    pub waiting: u32,
    /// Its licenses, the soonest to expire first.
    pub licenses: Vec<LicenseId>,
}

/// Whether a license serves, and if not, why not. History has it in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Service {
    /// Dates, shares and the term's signature are in order.
    Serving,
    /// No threshold signature of this term yet.
    TermUnsigned,
    /// Fewer than two shares live.
    SharesMissing,
    /// Before its activation time.
    NotYetActive,
    /// At or after its expiration time.
    Expired,
}

/// One node's share of a license.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareView {
    /// The node.
    pub node: NodeId,
    /// How its share stands.
    pub state: ShareState,
}

/// One installed license.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LicenseView {
    /// The terms in force.
    pub terms: Terms,
    /// Whether it serves now.
    pub service: Service,
    /// Its three shares.
    pub shares: Vec<ShareView>,
    /// Seats charged to it.
    pub seats: u64,
    /// An update that is installed and not yet attested and signed.
    pub update: Option<LicenseSerial>,
}

/// One member of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberView {
    /// The node.
    pub node: NodeId,
    /// Its container.
    pub container: ContainerIdentity,
    /// When it was last heard, in cluster time; `None` if not since the cluster
    /// was formed or restored, or since it joined.
    pub heard: Option<ClusterTime>,
    /// The count of its last heartbeat; 0 before the first.
    pub count: u64,
    /// Its wall clock then.
    pub wall: Option<WallTime>,
    /// The log index it said then that it had applied.
    pub applied: Option<u64>,
    /// Whether it was heard within three seconds.
    pub live: bool,
    /// What it ran then.
    pub build: Option<Build>,
}

/// How the last checkpoint a node reports compares with this ledger's (S18).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comparison {
    /// The same hash, and so the same history up to there.
    Equal {
        /// The log index of the checkpoint.
        index: u64,
    },
    /// Another hash.
    Differs {
        /// The log index of the checkpoint.
        index: u64,
        /// The hash it reports.
        theirs: [u8; 32],
        /// This ledger's.
        ours: [u8; 32],
    },
    /// It reports none, or one that this ledger no longer or not yet has.
    NotComparable,
}

/// A license edition that waits for a signature of the current term.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignatureNeed {
    /// The license.
    pub license: LicenseId,
    /// Which update of it.
    pub serial: LicenseSerial,
    /// The epoch to sign in.
    pub epoch: Epoch,
    /// The term to sign for.
    pub term: u64,
}

/// A license edition whose share a node has not yet proved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttestationNeed {
    /// The license.
    pub license: LicenseId,
    /// Which update of it.
    pub serial: LicenseSerial,
    /// The epoch to prove it in.
    pub epoch: Epoch,
}

/// An edition of a license as a node takes its share from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackageView<'a> {
    /// The package as the vendor wrote it.
    pub package: &'a [u8],
    /// The shares that were made again since, in order.
    pub repaired: &'a [RepairedShare],
}

/// A license edition whose lost share is to be made again for a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RepairNeed {
    /// The license.
    pub license: LicenseId,
    /// Which update of it.
    pub serial: LicenseSerial,
    /// Who is to hold it.
    pub node: NodeId,
    /// The two who hold the others.
    pub helpers: [NodeId; 2],
    /// The container that had it.
    pub lost: ContainerSerial,
}

/// A vendor whose licenses may be installed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VendorView {
    /// Its root.
    pub root: VendorRoot,
    /// The installed licenses that stand on it.
    pub licenses: Vec<LicenseId>,
}

/// A CA of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaView {
    /// SHA-256 of its certificate.
    pub digest: [u8; 32],
    /// Its certificate, DER.
    pub certificate: Vec<u8>,
    /// The members whose certificates are under it, as far as is known.
    pub nodes: Vec<NodeId>,
}
