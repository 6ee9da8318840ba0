//! The ledger as operators see it: never a lease id, never a secret.

use std::collections::BTreeSet;

use ledger::Ledger;
use ledger::level::HIGHEST;
use ledger::view::{
    BearerView, Comparison, FirmDateView, LicenseView, MemberView, RevokedView, SeatView, Service,
    ShareView, WaiterView,
};
use license::container::VirtualSerial;
use license::package::Package;
use license::product::{LicenseId, NodeId};
use license::terms::Counting;
use wire::v1;

use crate::acquaintance::origin::Origin;
use crate::api::convert::hex;
use crate::certificates::InUse;
use crate::identity::application_name;
use crate::raft::Endpoints;
use crate::roster::Roster;
use crate::status::{NodeStatus, RaftRole};

/// Shares that must be live for a license to be listed.
const SHARES_NEEDED: usize = 2;

/// The cluster as its leader, which is `own`, sees it. `as_of` is the reader's to add.
pub(super) fn status(ledger: &Ledger, own: &NodeStatus, roster: &Roster) -> v1::StatusReply {
    let counters = ledger.counters();
    let members = ledger.members();
    let leader = members.iter().find(|member| member.node.0 == own.id);
    let nodes = members.iter().map(|member| node(ledger, member, leader, own, roster)).collect();
    v1::StatusReply {
        as_of: None,
        cluster_id: cluster_id(ledger),
        virtual_container: ledger
            .charter()
            .map(|charter| VirtualSerial::of(&charter.cluster).to_string())
            .unwrap_or_default(),
        act: ledger.charter().map_or(0, |charter| charter.act.0),
        term: own.term,
        leader: own.id,
        wall_floor_ms: ledger.wall().map(|wall| wall.0),
        firm_dates: ledger.firm_dates().into_iter().map(firm_date).collect(),
        level: ledger.level().number().into(),
        nodes,
        licenses: licenses(ledger),
        state_hash: hex(&ledger.hash()),
        counts: Some(v1::Counts {
            granted: counters.granted,
            released: counters.released,
            expired: counters.expired,
            revoked: counters.revoked,
            live: ledger.live(),
        }),
        replacement: ledger.charter().and_then(|charter| charter.replacement.as_ref()).map(
            |replacement| v1::Replacement {
                old_node: replacement.old.0,
                new_node: replacement.new.node.0,
                new_address: replacement.peer.to_string(),
                ..Default::default()
            },
        ),
        quiet_ms: ledger.quiet_until().map(|until| until.millis_since(ledger.clock())),
        members_for_ms: Some(ledger.members_for()),
        term_for_ms: Some(ledger.term_for()),
        withheld: ledger.withholds(),
    }
}

fn firm_date(view: FirmDateView) -> v1::FirmDate {
    let FirmDateView { firm, date, last_reset } = view;
    v1::FirmDate { firm: firm.0, wall_floor_ms: date.0, last_reset }
}

fn node(
    ledger: &Ledger,
    member: &MemberView,
    leader: Option<&MemberView>,
    own: &NodeStatus,
    roster: &Roster,
) -> v1::Node {
    let Endpoints { peer: peer_address, client: client_address } =
        roster.endpoints(member.node).unwrap_or_default();
    let is_leader = member.node.0 == own.id;
    // Heartbeats are of different moments; what the wall said when cluster
    // time began is comparable.
    let wall_at_zero = |member: &MemberView| {
        let heard = member.heard.filter(|heard| ledger.is_of_this_term(*heard))?;
        let heard = i64::try_from(heard.0).ok()?;
        member.wall?.0.checked_sub(heard)
    };
    let offset = leader.and_then(|leader| wall_at_zero(member)?.checked_sub(wall_at_zero(leader)?));
    let ahead = || {
        let heard = member.heard.filter(|heard| ledger.is_of_this_term(*heard))?;
        let age = ledger.clock().millis_since(heard);
        let shows = member.wall?.plus_millis(i64::try_from(age).ok()?);
        shows.0.checked_sub(ledger.wall()?.0)
    };
    let differs = ledger.comparisons(NodeId(own.id)).into_iter().any(|(node, comparison)| {
        node == member.node && matches!(comparison, Comparison::Differs { .. })
    });
    v1::Node {
        id: member.node.0,
        container: member.container.serial().to_string(),
        peer_address,
        client_address,
        leader: is_leader,
        alive: member.live,
        heard_ms_ago: member.heard.map(|heard| ledger.clock().millis_since(heard)),
        matched_index: if is_leader {
            Some(own.last_log_index)
        } else {
            own.matched.get(&member.node.0).copied()
        },
        applied_index: if is_leader { Some(own.applied_index) } else { member.applied },
        clock_offset_ms: offset,
        clock_ahead_ms: ahead(),
        ledger_differs: differs,
        version: member.build.map(|build| build.version.to_string()).unwrap_or_default(),
        highest_level: member.build.map_or(0, |build| build.highest.number().into()),
    }
}

/// This node as it sees itself. Engine, container,
/// certificates and what others told are the node's to add.
pub(super) fn node_status(ledger: &Ledger, own: &NodeStatus) -> v1::NodeStatusReply {
    v1::NodeStatusReply {
        id: own.id,
        version: crate::build::ours().version.to_string(),
        engine: String::new(),
        role: own.role.name().to_owned(),
        term: own.term,
        leader: own.leader.as_ref().map(|leader| leader.node),
        leader_address: own.leader.as_ref().map(|leader| leader.client_address.clone()),
        last_log_index: own.last_log_index,
        applied_index: own.applied_index,
        cluster_time_ms: ledger.clock().0,
        state_hash: hex(&ledger.hash()),
        cluster_id: cluster_id(ledger),
        container: String::new(),
        formed: ledger.charter().is_some() && own.role != RaftRole::Down,
        snapshot_index: own.snapshot_index,
        certificates: Vec::new(),
        checkup: None,
        state_index: ledger.applied(),
        level: ledger.level().number().into(),
        highest_level: HIGHEST.number().into(),
        epoch: ledger.charter().map(|_| ledger.epoch()),
        other_origins: Vec::new(),
    }
}

/// A member of another cluster or restore epoch.
pub(super) fn other_origin((node, origin): (NodeId, Origin)) -> v1::OtherOrigin {
    let Origin { cluster, epoch } = origin;
    v1::OtherOrigin { node: node.0, epoch, cluster_id: cluster.to_string() }
}

/// The licenses users have: with fewer than two live shares a license is not
/// listed, as in any TMR cluster. `Status` shows it still, and why.
pub(super) fn listed_licenses(ledger: &Ledger) -> Vec<v1::License> {
    let hidden: BTreeSet<String> = ledger
        .licenses()
        .iter()
        .filter(|license| license.service == Service::SharesMissing)
        .map(|license| license.terms.license.to_string())
        .collect();
    licenses(ledger).into_iter().filter(|license| !hidden.contains(&license.id)).collect()
}

/// All licenses.
fn licenses(ledger: &Ledger) -> Vec<v1::License> {
    let members = ledger.members();
    let pools = ledger.pools();
    let unsigned: BTreeSet<_> = ledger
        .signature_needs(ledger.term())
        .into_iter()
        .map(|need| (need.license, need.serial))
        .collect();
    let show = |view: LicenseView| {
        let terms = &view.terms;
        let pool = pools.iter().find(|pool| pool.product == terms.name);
        v1::License {
            id: terms.license.to_string(),
            serial: terms.serial.0,
            product: terms.name.to_string(),
            seats: u64::from(terms.seats),
            counting: counting(terms.counting).to_owned(),
            activation_ms: terms.activation.map(|time| time.0),
            expiration_ms: terms.expiration.map(|time| time.0),
            version_max: terms.version_max.map(|version| version.to_string()).unwrap_or_default(),
            feature_map: terms.feature.map,
            feature_text: terms.feature.text.clone(),
            vendor: vendor(ledger, terms.license),
            seats_held: view.seats,
            waiting: pool.map_or(0, |pool| u64::from(pool.waiting)),
            shares: view.shares.iter().map(|share| self::share(share, &members)).collect(),
            signed: !unsigned.contains(&(terms.license, terms.serial)),
            serving: view.service == Service::Serving,
            reason: reason(&view),
            places: places(ledger, terms.license),
        }
    };
    ledger.licenses().into_iter().map(show).collect()
}

/// Why a license does not serve; empty when it does.
fn reason(view: &LicenseView) -> String {
    match view.service {
        Service::Serving => String::new(),
        Service::TermUnsigned => "two shares have not yet signed for this term".to_owned(),
        Service::SharesMissing => {
            let live = view.shares.iter().filter(|share| is_live(share)).count();
            let down: Vec<String> = view
                .shares
                .iter()
                .filter(|share| !is_live(share))
                .map(|share| format!("{} is {}", share.node, share.state))
                .collect();
            format!("{live} of 3 shares live and {SHARES_NEEDED} are needed ({})", down.join(", "))
        }
        Service::NotYetActive => "its activation time has not come".to_owned(),
        Service::Expired => "its expiration time has passed".to_owned(),
    }
}

fn is_live(share: &ShareView) -> bool {
    share.state == ledger::command::ShareState::Live
}

fn share(share: &ShareView, members: &[MemberView]) -> v1::Share {
    let member = members.iter().find(|member| member.node == share.node);
    v1::Share {
        node: share.node.0,
        container: member.map(|member| member.container.serial().to_string()).unwrap_or_default(),
        state: share.state.to_string(),
    }
}

/// The places of the split of the edition in force.
fn places(ledger: &Ledger, license: LicenseId) -> Vec<v1::Place> {
    let owner = |container| {
        let node = ledger.charter().and_then(|charter| charter.owner_of(container));
        node.map_or(0, |node| node.0)
    };
    let in_force = ledger.share_containers(license).into_iter().next().into_iter().flatten();
    in_force
        .map(|(container, withdrawn)| v1::Place {
            container: container.to_string(),
            node: owner(container),
            withdrawn,
        })
        .collect()
}

/// The vendor's name, from the package in force, which was verified when installed.
fn vendor(ledger: &Ledger, license: LicenseId) -> String {
    let package =
        ledger.packages(license).first().and_then(|edition| Package::decode(edition.package).ok());
    package.map(|package| package.claimed_certificate().vendor().to_owned()).unwrap_or_default()
}

/// One seat.
pub(super) fn seat(seat: SeatView) -> v1::Seat {
    v1::Seat {
        seat: seat.token.0,
        product: seat.product.to_string(),
        holder: seat.holder.to_string(),
        subject: seat.subject.to_string(),
        since_ms: seat.granted.0,
        until_ms: seat.deadline.0,
        license: seat.license.to_string(),
        revoked_by: seat.revoked_by.map(|by| by.to_string()).unwrap_or_default(),
    }
}

/// One request in a queue.
pub(super) fn waiter(waiter: WaiterView) -> v1::Waiter {
    v1::Waiter {
        product: waiter.product.to_string(),
        position: waiter.position,
        holder: waiter.holder.to_string(),
        subject: waiter.subject.to_string(),
        since_ms: waiter.since.0,
        until_ms: waiter.until.0,
    }
}

/// One bearer token.
pub(super) fn token(token: BearerView) -> v1::list_tokens_reply::Token {
    v1::list_tokens_reply::Token {
        subject: application_name(&token.subject).to_owned(),
        expires_ms: token.expires.0,
    }
}

/// One revoked certificate.
pub(super) fn revoked(revoked: RevokedView) -> v1::RevokedCertificate {
    v1::RevokedCertificate {
        fingerprint: hex(&revoked.fingerprint),
        subject: revoked.subject.to_string(),
        expires_ms: revoked.expires.0,
        revoked_by: revoked.by.to_string(),
    }
}

/// One certificate that this node's connections stand on.
pub(super) fn in_use(one: &InUse) -> v1::CertificateInUse {
    v1::CertificateInUse {
        which: one.which.to_owned(),
        fingerprint: one.fingerprint.to_string(),
        expires_ms: one.expires.0,
    }
}

fn counting(counting: Counting) -> &'static str {
    match counting {
        Counting::PerInstance => "per-instance",
        Counting::PerStation => "per-station",
        Counting::ExclusivePerStation => "exclusive-per-station",
        Counting::Unlimited => "unlimited",
    }
}

fn cluster_id(ledger: &Ledger) -> String {
    ledger.charter().map(|charter| charter.cluster.to_string()).unwrap_or_default()
}
