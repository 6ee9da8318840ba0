//! Why not: every refusal the ledger gives, in words that say what to do next.

use std::fmt;

use license::build::{Build, Level};
use license::product::{LicenseId, LicenseSerial, NodeId, ProductName, Version, WallTime};
use serde::{Deserialize, Serialize};

use crate::bound::Bound;
use crate::command::{
    Ending, RepairRefusal, ReplacementRefusal, RestoreRefusal, Token, TrustRefusal,
};
use crate::limits;
use crate::name::Subject;
use crate::time::{ClusterTime, Span};

/// All seats of a pool, in words.
fn all_seats(capacity: u64) -> String {
    if capacity == 1 { "the one seat".to_owned() } else { format!("all {capacity} seats") }
}

/// Why not. Every refusal is definite: the command had no effect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// S1.
    #[error("{} of {product} {} taken", all_seats(*capacity), if *capacity == 1 { "is" } else { "are" })]
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
    #[error("license {license} of {product} is not active before {from} (it is {date} here)")]
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
    #[error("license {license} of {product} expired at {until}")]
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
    /// The heartbeat is not newer than the node's last: sent again, or late.
    #[error(
        "heartbeat {count} of {node} is not above its last, {last}: it was sent before; only the node can send a new one"
    )]
    HeartbeatStale {
        /// Whose.
        node: NodeId,
        /// Its count.
        count: u64,
        /// The count of the last that was noted.
        last: u64,
    },
    /// Leases granted after the backup are unknown, so nothing is granted until they have ended.
    #[error(
        "the cluster was restored from a backup and grants nothing for another {} of cluster time, because seats granted after the backup may still be in use; seats held before it are renewed (see `trine cluster status`)",
        Span(until.millis_since(*now))
    )]
    Restored {
        /// When grants begin again.
        until: ClusterTime,
        /// Cluster time.
        now: ClusterTime,
    },
    /// A step of a restore.
    #[error("{0}")]
    Restore(Box<RestoreRefusal>),
    /// Whom the cluster trusts stays as it is.
    #[error("{0}")]
    Trust(TrustRefusal),
    /// A node is not replaced, or not like this.
    #[error("{0}")]
    Replacement(ReplacementRefusal),
    /// A share is not made again.
    #[error("{0}")]
    Repair(RepairRefusal),
    /// The clock reset does not hold; the reason names the fact.
    #[error("the clock reset is refused: {0}")]
    ClockReset(license::reset::ResetRefusal),
    /// S22: the command is of a later level than the cluster's.
    #[error(
        "this needs feature level {needs} and the cluster is at {level}; when every node runs a build that knows it, raise the level with `trine cluster upgrade`"
    )]
    LevelTooLow {
        /// The command's.
        needs: Level,
        /// The cluster's.
        level: Level,
    },
    /// S22: what was written at a level cannot be unwritten.
    #[error("the cluster is at feature level {level}, which never falls; {asked} was asked for")]
    LevelNeverFalls {
        /// The cluster's.
        level: Level,
        /// What was asked for.
        asked: Level,
    },
    /// A node is silent, so nobody knows what it runs.
    #[error(
        "{node} is silent, so nobody knows what it runs; start it, or replace it (see `trine cluster upgrade --check`)"
    )]
    BuildUnknown {
        /// The node.
        node: NodeId,
    },
    /// A node runs a build that could not follow.
    #[error(
        "{node} runs Trine {}, which knows feature levels up to {}, not {asked}; upgrade it first (see `trine cluster upgrade --check`)",
        build.version, build.highest
    )]
    BuildTooOld {
        /// The node.
        node: NodeId,
        /// What it runs.
        build: Build,
        /// What was asked for.
        asked: Level,
    },
    /// A share signed for this license that was withdrawn, or not proved.
    #[error(
        "{node} signed for license {license} and is {state}, so the signature does not count; have two others sign"
    )]
    SignerNotInService {
        /// The license.
        license: LicenseId,
        /// Whose share.
        node: NodeId,
        /// How it stands.
        state: ShareState,
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
    /// The node came after the license was issued and has no share of it.
    Missing,
}

impl fmt::Display for ShareState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Live => "live",
            Self::Unattested => "not proved",
            Self::Silent => "silent",
            Self::Withdrawn => "withdrawn",
            Self::Missing => "without a share",
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
    #[error(
        "the cluster is not formed yet; whoever runs it forms it, or restores it from a backup"
    )]
    NotFormed,
    /// Not three distinct nodes with distinct containers of one act id.
    #[error("a cluster has exactly three nodes, with three distinct containers of one act id")]
    NotThree,
    /// More vendors, or a longer CA certificate, than a cluster trusts.
    #[error(
        "the nodes' configuration names more than {} vendors, or its CA has a certificate of more than {} bytes",
        limits::VENDOR_ROOTS_MAX,
        limits::CA_BYTES_MAX
    )]
    TooMuchTrust,
    /// A restore has begun.
    #[error(
        "a backup is being restored here, and the cluster is not formed before that has ended: give the same `trine cluster restore` again, which goes on where it was, or stop all three nodes and start them with empty data directories"
    )]
    Restoring,
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

fn down_list(down: &[(NodeId, ShareState)]) -> String {
    down.iter().map(|(node, state)| format!("{node} is {state}")).collect::<Vec<_>>().join(", ")
}
