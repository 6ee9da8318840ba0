//! Everything that can be asked of the ledger, and everything it can answer.
//!
//! These types are the log format: a rule never changes under an old command,
//! so a changed rule is a new variant at the end (S22).

mod replace;
mod restore;
mod trust;

use std::fmt;

use license::build::Level;
use license::container::SignedHeartbeat;
use license::product::{
    ClusterId, LicenseId, LicenseSerial, NodeId, ProductName, Version, WallTime,
};
use license::share::{ShareProof, TermSignature};
use license::terms::Feature;
use license::trust::VendorRoot;
use serde::{Deserialize, Serialize};

pub use self::restore::{Blob, Restore, RestoreFinish, RestorePart, RestorePlan, RestoreRefusal};
pub use crate::bound::Bound;
use crate::name::{HolderName, Subject};
pub use crate::refusal::{GenesisRefusal, ProofKind, Refusal, ShareState};
use crate::time::{ClusterTime, Stamp, Ttl};
use crate::usage::Retention;
pub use replace::{
    AbandonReplacement, BeginReplacement, FinishReplacement, OrderRepair, RepairRefusal,
    RepairShare, ReplacementRefusal,
};
pub use trust::{Anchor, AnchorId, Anchors, Distrust, Trust, TrustRefusal};

/// Names a lease, and the request for it: 128 bits minted once by the client.
///
/// Whoever knows it and is its subject may renew and release, so it is shown
/// to nobody else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LeaseId(pub u128);

/// The fencing token of a grant: rises by one with every grant, for ever.
///
/// It also names the seat to operators, who never see a [`LeaseId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Token(pub u64);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The place of one command in history. Ordered; epochs rise at a restore.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct LogId {
    /// Restore epoch, 0 until the first restore.
    pub epoch: u64,
    /// Index of the Raft entry.
    pub index: u64,
    /// Position among the answers of the entry, in the order they were settled.
    ///
    /// A batch of three commands has three answers and one more for every
    /// queued request the entry settled on the way, so that log ids sort as
    /// things happened: tokens rise with the log ids of their grants.
    pub position: u32,
}

impl fmt::Display for LogId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.epoch, self.index, self.position)
    }
}

/// What one log entry carries: a stamp and the commands that shared a sync.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Batch {
    /// Cluster time and term, set by the leader that proposed it.
    pub stamp: Stamp,
    /// The commands, in the order they are applied.
    pub commands: Vec<Command>,
}

/// One thing asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// Forms the cluster; the first command of every log.
    Genesis(Genesis),
    /// Takes a seat, or a place in the queue for one.
    Acquire(Acquire),
    /// Moves a live lease's deadline on.
    Renew(Renew),
    /// Gives a seat back.
    Release(Release),
    /// Withdraws a request: leaves the queue, or gives back what it was granted.
    Cancel(Cancel),
    /// Ends the renewal of a seat, by an operator.
    Revoke(Revoke),
    /// Installs or updates a license.
    Install(Install),
    /// Proves that a node holds its share of a license.
    Attest(Attest),
    /// Proves that two shares worked together in this term.
    SignTerm(SignTerm),
    /// Takes one node's share of a license out of service.
    WithdrawShare(WithdrawShare),
    /// A node's signed sign of life.
    Heartbeat(SignedHeartbeat),
    /// Lets an application in by bearer token.
    IssueToken(IssueToken),
    /// Ends a bearer token.
    RevokeToken(RevokeToken),
    /// One step of restoring a backup into a cluster that is not formed.
    Restore(Restore),
    /// Lets a new node in, to take a member's place.
    BeginReplacement(BeginReplacement),
    /// Makes it the member.
    FinishReplacement(FinishReplacement),
    /// Or sends it away.
    AbandonReplacement(AbandonReplacement),
    /// Allows a lost share to be made again.
    OrderRepair(OrderRepair),
    /// Notes the share that was made again.
    RepairShare(RepairShare),
    /// Turns the date of one vendor's licenses back, by the vendor's word.
    ResetClock(ResetClock),
    /// Shuts out a certificate, whoever shows it.
    RevokeCertificate(RevokeCertificate),
    /// Raises the feature level: commands of later builds may be written from then on.
    RaiseLevel(RaiseLevel),
    /// Says how much history is kept.
    SetRetention(SetRetention),
    /// Trusts a vendor or a cluster CA.
    Trust(Trust),
    /// Trusts one no more.
    Distrust(Distrust),
}

/// Who forms the cluster, and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The new cluster's identity.
    pub cluster: ClusterId,
    /// The cluster CA's certificate (DER), of at most
    /// [`CA_BYTES_MAX`](crate::limits::CA_BYTES_MAX) bytes.
    pub ca: Vec<u8>,
    /// The vendors whose licenses may be installed.
    pub vendor_roots: Vec<VendorRoot>,
    /// The three members.
    pub members: Vec<Member>,
    /// The wall clock of the node that formed it.
    pub formed: WallTime,
    /// The feature level it begins at: the highest that all three builds know.
    pub level: Level,
}

/// One node and the container that holds its shares.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// The node.
    pub node: NodeId,
    /// Its container, with the public key that heartbeats are checked against.
    pub container: license::container::ContainerIdentity,
}

/// A request for one seat. Everything in it is the body that a re-send must repeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acquire {
    /// The lease to make.
    pub lease: LeaseId,
    /// Who asks, as the connection proved it; also the station.
    pub subject: Subject,
    /// What is asked for.
    pub product: ProductName,
    /// The caller's word for itself, shown to operators.
    pub holder: HolderName,
    /// The product version that will run, if it says.
    pub version: Option<Version>,
    /// How long the lease lives without renewal.
    pub ttl: Ttl,
    /// After this the request must have no effect. At most 60 s ahead.
    pub not_after: ClusterTime,
    /// Wait in the queue until this time; `None` refuses at once when full.
    pub wait_until: Option<ClusterTime>,
}

/// Renews one lease by its own TTL.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Renew {
    /// The lease.
    pub lease: LeaseId,
    /// Must be the subject that acquired it.
    pub subject: Subject,
    /// Must be the grant's token.
    pub token: Token,
    /// The hold that the caller counted had ended when it asked: it does not
    /// use the seat. Who says so may have lost it to somebody unknown before a
    /// restore, and is not renewed while that is not over.
    pub hold_ended: bool,
}

/// Releases one lease. Releasing twice is a retry, not a mistake.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// The lease.
    pub lease: LeaseId,
    /// Must be the subject that acquired it.
    pub subject: Subject,
    /// Must be the grant's token.
    pub token: Token,
}

/// Withdraws a request whose outcome its caller no longer wants.
///
/// Harmless whatever became of the request: waiting, it leaves the queue;
/// granted, it is released; unknown, its id is remembered so that a delayed
/// duplicate takes no seat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cancel {
    /// The request.
    pub lease: LeaseId,
    /// Must be the subject that asked.
    pub subject: Subject,
}

/// Ends a seat's renewal. The seat is free when its holder lets go, or at its deadline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoke {
    /// The seat, by its token.
    pub seat: Token,
    /// The operator.
    pub by: Subject,
}

/// Installs a license package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Install {
    /// The encoded package, as the vendor wrote it.
    pub package: Vec<u8>,
    /// The operator.
    pub by: Subject,
}

/// A node's proof that it holds its share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attest {
    /// The license.
    pub license: LicenseId,
    /// Which update of it.
    pub serial: LicenseSerial,
    /// The node.
    pub node: NodeId,
    /// Possession, bound to cluster, license, serial and node.
    pub proof: ShareProof,
}

/// The threshold signature that lets a license serve in a term.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignTerm {
    /// The license.
    pub license: LicenseId,
    /// Which update of it.
    pub serial: LicenseSerial,
    /// The Raft term it is for.
    pub term: u64,
    /// Whose shares made it. The signature itself does not tell.
    pub signers: [NodeId; 2],
    /// Their signature over cluster, license, serial and term.
    pub signature: TermSignature,
}

/// Takes one node's share of a license out of service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WithdrawShare {
    /// The license.
    pub license: LicenseId,
    /// Whose share.
    pub node: NodeId,
    /// The operator.
    pub by: Subject,
}

/// Records a bearer token by digest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssueToken {
    /// SHA-256 of the token's secret.
    pub digest: [u8; 32],
    /// The application it stands for.
    pub subject: Subject,
    /// When it stops working, on the wall floor.
    pub expires: WallTime,
    /// The operator.
    pub by: Subject,
}

/// Ends every token of a subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeToken {
    /// The application.
    pub subject: Subject,
    /// The operator.
    pub by: Subject,
}

/// Installs a vendor's clock reset.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResetClock {
    /// The encoded reset, as the vendor wrote it.
    pub reset: Vec<u8>,
    /// The operator.
    pub by: Subject,
}

/// Shuts out one certificate, at once and on all nodes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RevokeCertificate {
    /// SHA-256 of the certificate (DER).
    pub fingerprint: [u8; 32],
    /// Whom it speaks for, shown to operators.
    pub subject: Subject,
    /// When it began to hold.
    pub from: WallTime,
    /// When it expires; the revocation is kept for longer than that.
    pub expires: WallTime,
    /// The operator.
    pub by: Subject,
}

/// Raises the feature level, which never falls.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RaiseLevel {
    /// To this level.
    pub level: Level,
    /// The operator.
    pub by: Subject,
}

/// Says how much history is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetRetention {
    /// From now on.
    pub retention: Retention,
    /// The operator.
    pub by: Subject,
}

/// An answer and its place in history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// The command that answered, which for a retry is not the one that granted.
    pub log_id: LogId,
    /// Cluster time of that entry.
    pub stamp: ClusterTime,
    /// The answer.
    pub outcome: Outcome,
}

/// What became of a command.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// The seat is, or was, the caller's.
    Granted(Box<Grant>, Standing),
    /// The request waits; asking again with the same body keeps its place.
    Queued(Place),
    /// The lease lives until this deadline.
    Renewed {
        /// The deadline, never earlier than before.
        deadline: ClusterTime,
    },
    /// The seat is free (or was already).
    Released,
    /// The request holds nothing and will take nothing.
    Cancelled,
    /// The command did what it says; nothing more to tell.
    Done,
    /// Not done, and this is why. No trace but the memory of the id.
    Refused(Refusal),
}

/// A grant. Identical in every reply to the same request id.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The lease.
    pub lease: LeaseId,
    /// Its fencing token.
    pub token: Token,
    /// The product.
    pub product: ProductName,
    /// The license it was charged to when granted.
    pub license: LicenseId,
    /// Where in history it was granted.
    pub log_id: LogId,
    /// When.
    pub granted: ClusterTime,
    /// The first deadline, before any renewal.
    pub deadline: ClusterTime,
    /// What the license switches on in the application.
    pub feature: Feature,
}

/// How a granted lease stands at the moment of the answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Held until this deadline unless renewed.
    Live {
        /// Current deadline.
        deadline: ClusterTime,
    },
    /// Ended, in this way.
    Ended(Ending),
}

/// How a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Ending {
    /// Its holder gave it back.
    Released,
    /// Its deadline passed.
    Expired,
    /// An operator revoked it, and its holder let go or its deadline passed.
    Revoked,
}

/// A place in a product's queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// 1 is the head.
    pub position: u32,
    /// How many wait in all.
    pub length: u32,
    /// When the request stops waiting.
    pub wait_until: ClusterTime,
    /// Ask again before this time, or the place is lost.
    pub ask_before: ClusterTime,
}
