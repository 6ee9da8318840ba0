//! Everything that can be asked of the ledger, and everything it can answer.
//!
//! These types are the log format: a rule never changes under an old command,
//! so a changed rule is a new variant at the end (design.md, Versions).

use std::fmt;

use license::container::SignedHeartbeat;
use license::product::{
    ClusterId, LicenseId, LicenseSerial, NodeId, ProductName, Version, WallTime,
};
use license::share::{ShareProof, TermSignature};
use license::terms::Feature;
use license::trust::VendorRoot;
use serde::{Deserialize, Serialize};

use crate::name::{HolderName, Subject};
use crate::time::{ClusterTime, Stamp, Ttl};

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
}

/// Who forms the cluster, and whom it trusts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// The new cluster's identity.
    pub cluster: ClusterId,
    /// SHA-256 of the cluster CA certificate (DER).
    pub ca_digest: [u8; 32],
    /// The vendors whose licenses may be installed.
    pub vendor_roots: Vec<VendorRoot>,
    /// The three members.
    pub members: Vec<Member>,
    /// The wall clock of the node that formed it.
    pub formed: WallTime,
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
    /// Two shares' signature over cluster, license, serial and term.
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

/// Why not. Every refusal is definite: the command had no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// S1.
    #[error("all {capacity} seats of {product} are taken")]
    NoSeatFree {
        /// The product.
        product: ProductName,
        /// Its seats in force.
        capacity: u64,
    },
    /// No license names the product.
    #[error("no license for product {product} is installed (see `trine license list`)")]
    UnknownProduct {
        /// The product.
        product: ProductName,
    },
    /// Fewer than two shares live: the license has disappeared (S11).
    #[error(
        "license {license} of {product} has {live} of 3 shares live and 2 are needed ({}; see `trine cluster status`)",
        down_list(down)
    )]
    SharesMissing {
        /// The product.
        product: ProductName,
        /// The license with the most shares live.
        license: LicenseId,
        /// Shares live.
        live: u32,
        /// Nodes whose share is not, and why.
        down: Vec<(NodeId, ShareState)>,
    },
    /// No threshold signature of this term yet; ask again shortly.
    #[error(
        "license {license} of {product} is not yet signed for term {term}; ask again in a moment"
    )]
    TermUnsigned {
        /// The product.
        product: ProductName,
        /// The license.
        license: LicenseId,
        /// The current term.
        term: u64,
    },
    /// S13: before the activation time.
    #[error("license {license} of {product} is not active before {} (it is {} here)", utc(*from), utc(*date))]
    NotYetActive {
        /// The product.
        product: ProductName,
        /// The license.
        license: LicenseId,
        /// Activation time.
        from: WallTime,
        /// The wall floor now.
        date: WallTime,
    },
    /// S13: after the expiration time.
    #[error("license {license} of {product} expired at {}", utc(*until))]
    LicenseExpired {
        /// The product.
        product: ProductName,
        /// The license.
        license: LicenseId,
        /// Expiration time.
        until: WallTime,
    },
    /// S13: the version asked for is above the license's highest.
    #[error("license {license} of {product} covers versions up to {highest}, not {asked}")]
    VersionTooHigh {
        /// The product.
        product: ProductName,
        /// The license.
        license: LicenseId,
        /// What was asked.
        asked: Version,
        /// The highest covered.
        highest: Version,
    },
    /// Exclusive counting: the station already holds one.
    #[error("{product} is licensed once per station and {subject} already holds a seat")]
    StationHolds {
        /// The product.
        product: ProductName,
        /// The station.
        subject: Subject,
    },
    /// The stated limit of leases and waits of one subject.
    #[error("{subject} holds or awaits {limit} seats, the limit for one subject")]
    TooManySeats {
        /// Who.
        subject: Subject,
        /// The limit.
        limit: u32,
    },
    /// The stated limit of a pool's queue.
    #[error("{limit} requests already wait for {product}, the limit; ask again later")]
    QueueFull {
        /// The product.
        product: ProductName,
        /// The limit.
        limit: u32,
    },
    /// The request waited until its deadline in vain.
    #[error("no seat of {product} came free in time")]
    WaitedInVain {
        /// The product.
        product: ProductName,
    },
    /// The request was cancelled, or its caller stopped asking.
    #[error("the request was withdrawn before a seat came free")]
    Withdrawn,
    /// The request arrived after its own not-after.
    #[error(
        "the request came too late: it was to have no effect after {not_after}, and it is {now}"
    )]
    TooLate {
        /// The request's.
        not_after: ClusterTime,
        /// Cluster time.
        now: ClusterTime,
    },
    /// The not-after or wait is further ahead than the ledger remembers.
    #[error(
        "the request's time {asked} is more than {limit_ms} ms after cluster time {now}; ask for the time and try again"
    )]
    TooFarAhead {
        /// What was asked.
        asked: ClusterTime,
        /// Cluster time.
        now: ClusterTime,
        /// The limit.
        limit_ms: u64,
    },
    /// S3: the same id with another body.
    #[error("request id is already in use with other contents; mint a new id for a new request")]
    IdReused,
    /// S6, S7: no such live lease for this subject and token. Says no more to strangers.
    #[error("no such lease for this caller: it ended, or the id, token or subject is another's")]
    NoSuchLease,
    /// S7: the lease has ended; renewing never revives.
    #[error("the lease ended ({ending:?}) and cannot be renewed; take a new seat")]
    LeaseEnded {
        /// How.
        ending: Ending,
    },
    /// S6: an operator ended its renewal.
    #[error("the seat was revoked by {by} and may be used until {deadline} at most; give it back")]
    SeatRevoked {
        /// The operator.
        by: Subject,
        /// When it ends.
        deadline: ClusterTime,
    },
    /// The license that carried this lease ended and no other has room.
    #[error("the license behind this lease ended and no other has room; it ends at {deadline}")]
    LicenseGone {
        /// When it ends.
        deadline: ClusterTime,
    },
    /// No seat has that number.
    #[error("no live seat {seat} (see `trine seats`)")]
    NoSuchSeat {
        /// The token asked for.
        seat: Token,
    },
    /// The cluster is already, or not yet, formed.
    #[error("{0}")]
    Genesis(GenesisRefusal),
    /// The package does not hold; the reason names the fact.
    #[error("the license package is refused: {0}")]
    Package(license::package::PackageRefusal),
    /// An attestation, term signature or heartbeat does not verify.
    #[error("the {what} of {node} does not verify")]
    ProofInvalid {
        /// What kind of proof.
        what: ProofKind,
        /// Whose.
        node: NodeId,
    },
    /// No such license.
    #[error("no license {license} is installed (see `trine license list`)")]
    UnknownLicense {
        /// The license asked for.
        license: LicenseId,
    },
    /// The license is at another serial than the command speaks of.
    #[error("license {license} is at serial {}, not {}", installed.0, asked.0)]
    OtherSerial {
        /// The license.
        license: LicenseId,
        /// In force.
        installed: LicenseSerial,
        /// Spoken of.
        asked: LicenseSerial,
    },
    /// Not a member.
    #[error("{node} is not a member of this cluster")]
    UnknownNode {
        /// Who.
        node: NodeId,
    },
    /// A stated bound of the ledger is reached (S26).
    #[error("the ledger is at its limit of {limit} {what}; ask again later")]
    LedgerFull {
        /// Of what.
        what: Bound,
        /// The limit.
        limit: u64,
    },
    /// S16: the batch was stamped in another term than its entry has.
    #[error("the leader changed while the request was on its way; nothing was done, ask again")]
    StaleStamp,
    /// A bearer token's digest already stands for another subject or date.
    #[error("this token is already issued to {subject} with other terms; mint a new token")]
    TokenInUse {
        /// Whom it stands for.
        subject: Subject,
    },
    /// Two shares did not sign this license for the current term.
    #[error(
        "the signature of license {license} for term {term} does not verify in this term; sign again"
    )]
    TermSignatureInvalid {
        /// The license.
        license: LicenseId,
        /// The term it claims to be for.
        term: u64,
    },
}

/// A share's state on one node, as operators and refusals name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum ShareState {
    /// Attested, and the node was heard within three seconds.
    Live,
    /// The node never proved possession of this serial's share.
    Unattested,
    /// The node was not heard for three seconds.
    Silent,
    /// An operator withdrew it.
    Withdrawn,
}

impl fmt::Display for ShareState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Unattested => "not proved",
            Self::Silent => "silent",
            Self::Withdrawn => "withdrawn",
        })
    }
}

/// Why genesis was refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum GenesisRefusal {
    /// Twice.
    #[error("the cluster is already formed")]
    AlreadyFormed,
    /// Commands before genesis.
    #[error("the cluster is not formed yet (run `trine cluster init`)")]
    NotFormed,
    /// Not three distinct nodes with distinct containers of one act id.
    #[error("a TMR cluster has exactly three nodes, with three distinct containers of one act id")]
    NotThree,
}

/// What kind of proof failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProofKind {
    /// Proof of possession of a share.
    Attestation,
    /// Threshold signature of a term.
    TermSignature,
    /// Signed heartbeat.
    Heartbeat,
}

impl fmt::Display for ProofKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Attestation => "attestation",
            Self::TermSignature => "term signature",
            Self::Heartbeat => "heartbeat",
        })
    }
}

/// What there can be too many of (S26).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Bound {
    /// Remembered request ids.
    Memories,
    /// Live leases.
    Leases,
    /// Installed licenses.
    Licenses,
    /// Bearer tokens.
    BearerTokens,
}

impl fmt::Display for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Memories => "remembered requests",
            Self::Leases => "live leases",
            Self::Licenses => "licenses",
            Self::BearerTokens => "bearer tokens",
        })
    }
}

/// A date as people read it: `2023-11-14 22:13:20 UTC`.
fn utc(date: WallTime) -> String {
    const DAYS_PER_ERA: i64 = 146_097;
    let seconds = date.0.div_euclid(1_000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Years are counted from March, so that the leap day is the last of its year.
    let since_march_0 = days + 719_468;
    let (era, day) =
        (since_march_0.div_euclid(DAYS_PER_ERA), since_march_0.rem_euclid(DAYS_PER_ERA));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, carry) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    let year = era * 400 + year + carry;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02} {hour:02}:{minute:02}:{second:02} UTC")
}

fn down_list(down: &[(NodeId, ShareState)]) -> String {
    down.iter().map(|(node, state)| format!("{node} is {state}")).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_read_as_people_write_them() {
        let read = |seconds: i64| utc(WallTime(seconds * 1_000));
        assert_eq!(read(0), "1970-01-01 00:00:00 UTC");
        assert_eq!(read(1_700_000_000), "2023-11-14 22:13:20 UTC");
        assert_eq!(read(951_827_696), "2000-02-29 12:34:56 UTC");
        assert_eq!(read(-1), "1969-12-31 23:59:59 UTC");
    }
}
