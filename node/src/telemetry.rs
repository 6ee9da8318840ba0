//! What a node counts and measures, for Prometheus.
//!
//! Counters of the *cluster* come from the ledger and are the same on every
//! node: take their maximum. Counters of the *node* are what this process did:
//! sum them.
//!
//! | name | kind | labels | of | meaning |
//! |---|---|---|---|---|
//! | `trine_build_info` | gauge | version, engine | node | 1 |
//! | `trine_seats_granted_total` | counter | | cluster | seats granted since the cluster was formed |
//! | `trine_seats_released_total` | counter | | cluster | seats given back |
//! | `trine_seats_expired_total` | counter | | cluster | seats whose deadline passed |
//! | `trine_seats_revoked_total` | counter | | cluster | seats an operator ended |
//! | `trine_renewals_total` | counter | | cluster | leases renewed |
//! | `trine_queued_total` | counter | | cluster | requests that took a place in a queue |
//! | `trine_refusals_total` | counter | reason | cluster | commands the ledger refused |
//! | `trine_seats_capacity` | gauge | product | cluster | seats in force; 0 when unlimited |
//! | `trine_seats_held` | gauge | product | cluster | seats taken |
//! | `trine_requests_waiting` | gauge | product | cluster | requests in the queue |
//! | `trine_shares_live` | gauge | license | cluster | shares live, of 3; 2 are needed |
//! | `trine_license_serving` | gauge | license | cluster | 1 when it grants, else 0 |
//! | `trine_cluster_time_seconds` | gauge | | cluster | cluster time |
//! | `trine_calls_turned_away_total` | counter | reason | node | calls that never reached the ledger, by reason of trine.v1 |
//! | `trine_calls_unknown_total` | counter | | node | calls whose outcome could not be told |
//! | `trine_requests_total` | counter | call, code | node | calls answered, by gRPC code |
//! | `trine_request_duration_seconds` | histogram | call | node | arrival to answer |
//! | `trine_requests_in_flight` | gauge | | node | calls being answered |
//! | `trine_connections` | gauge | listener | node | connections open |
//! | `trine_connections_accepted_total` | counter | listener | node | connections let in |
//! | `trine_connections_refused_total` | counter | listener, reason | node | connections closed at the door |
//! | `trine_is_leader` | gauge | | node | 1 on the leader |
//! | `trine_has_quorum` | gauge | | node | 1 while a leader is known and, on the leader, a quorum confirms it |
//! | `trine_ready` | gauge | | node | 1 when `/readyz` answers 200 |
//! | `trine_leader_changes_total` | counter | | node | changes of leader this node saw |
//! | `trine_raft_term` | gauge | | node | current term |
//! | `trine_raft_last_log_index` | gauge | | node | last entry in its log |
//! | `trine_raft_applied_index` | gauge | | node | last entry its ledger applied |
//! | `trine_raft_snapshot_index` | gauge | | node | last entry its snapshot covers |
//! | `trine_batch_commands` | histogram | | node | commands in one proposed log entry |
//! | `trine_sync_duration_seconds` | histogram | | node | one sync of the log to disk |
//! | `trine_commit_duration_seconds` | histogram | | node | proposal to applied, on the leader |
//! | `trine_clock_alarms_total` | counter | kind | node | clock jumps, disagreements, and a date that the clock does not bear out |
//! | `trine_certificate_expiry_timestamp_seconds` | gauge | which | node | when this node's `client` or `peer` certificate, or the `ca`'s, expires (s since 1970) |
//! | `trine_disk_free_bytes` | gauge | | node | what may still be written on the disk of the data directory |
//! | `trine_disk_size_bytes` | gauge | | node | how large that disk is |
//! | `trine_ledgers_differing` | gauge | | node | nodes whose ledger is not this one's at the same entry |
//! | `trine_epochs_differing` | gauge | | node | members that are there and of a later restore epoch than this node's data: while it leads, nothing is granted or renewed |
//! | `trine_certificate_reloads_total` | counter | result | node | changed certificate files that were `taken` or `refused` |

mod labels;
mod reading;
mod recent;

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::Duration;

use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};

use crate::certificates::InUse;
use labels::{
    Build, Call, CallCode, Kind, License, ListenerLabel, ListenerReason, Product, Reason,
    ReloadResult, Which,
};
pub(crate) use reading::{Counts, LicenseReading, PoolReading, Reading};
use recent::{Quantiles, Recent};

/// Which listener a figure is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listener {
    /// Applications and operators.
    Client,
    /// The other nodes.
    Peer,
    /// Health, leader, metrics.
    Health,
}

impl Listener {
    /// Its name in labels, logs and the configuration.
    pub fn name(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Peer => "peer",
            Self::Health => "health",
        }
    }
}

/// What can be wrong with a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClockAlarm {
    /// The boot-time clock moved more than two ticks in one.
    Jump,
    /// Another node's wall clock is more than five minutes from this node's.
    WallDisagreement,
    /// This node's wall clock is more than five minutes before the wall floor.
    BelowFloor,
    /// The wall floor is more than five minutes behind this node's wall clock.
    FloorBehind,
}

impl ClockAlarm {
    fn name(self) -> &'static str {
        match self {
            Self::Jump => "jump",
            Self::WallDisagreement => "wall_disagreement",
            Self::BelowFloor => "below_floor",
            Self::FloorBehind => "floor_behind",
        }
    }
}

/// Every figure of one node. One per process, behind an `Arc`.
#[derive(Debug)]
pub struct Metrics {
    registry: Registry,
    seats_granted: Counter,
    seats_released: Counter,
    seats_expired: Counter,
    seats_revoked: Counter,
    renewals: Counter,
    queued: Counter,
    refusals: Family<Reason, Counter>,
    seats_capacity: Family<Product, Gauge>,
    seats_held: Family<Product, Gauge>,
    waiting: Family<Product, Gauge>,
    shares_live: Family<License, Gauge>,
    serving: Family<License, Gauge>,
    cluster_time: Gauge<f64, AtomicU64>,
    turned_away: Family<Reason, Counter>,
    unknown: Counter,
    requests: Family<CallCode, Counter>,
    request_duration: Family<Call, Histogram, fn() -> Histogram>,
    in_flight: Gauge,
    connections: Family<ListenerLabel, Gauge>,
    accepted: Family<ListenerLabel, Counter>,
    refused: Family<ListenerReason, Counter>,
    is_leader: Gauge,
    has_quorum: Gauge,
    ready: Gauge,
    leader_changes: Counter,
    term: Gauge<i64, AtomicI64>,
    last_log: Gauge,
    applied: Gauge,
    snapshot: Gauge,
    ledgers_differing: Gauge,
    epochs_differing: Gauge,
    disk_free: Gauge,
    disk_size: Gauge,
    batch: Histogram,
    sync: Histogram,
    recent_syncs: Recent,
    commit: Histogram,
    clock_alarms: Family<Kind, Counter>,
    certificate_expiry: Family<Which, Gauge>,
    certificate_reloads: Family<ReloadResult, Counter>,
}

impl Metrics {
    /// All figures at zero; `engine` is the storage engine's name.
    pub fn new(engine: &'static str) -> Self {
        let mut r = Registry::with_prefix("trine");
        let build = Build { version: env!("CARGO_PKG_VERSION"), engine };
        r.register("build", "This build", Info::new(build));
        Self {
            seats_granted: named(&mut r, "seats_granted", "Seats granted by the cluster"),
            seats_released: named(&mut r, "seats_released", "Seats given back"),
            seats_expired: named(&mut r, "seats_expired", "Seats whose deadline passed"),
            seats_revoked: named(&mut r, "seats_revoked", "Seats an operator ended"),
            renewals: named(&mut r, "renewals", "Leases renewed"),
            queued: named(&mut r, "queued", "Requests that took a place in a queue"),
            refusals: named(&mut r, "refusals", "Commands the ledger refused, by reason"),
            seats_capacity: named(&mut r, "seats_capacity", "Seats in force; 0 when unlimited"),
            seats_held: named(&mut r, "seats_held", "Seats taken"),
            waiting: named(&mut r, "requests_waiting", "Requests in the queue"),
            shares_live: named(&mut r, "shares_live", "Shares live, of 3; 2 are needed"),
            serving: named(&mut r, "license_serving", "1 when the license grants, else 0"),
            cluster_time: seconds(&mut r, "cluster_time", "Cluster time", Gauge::default()),
            turned_away: named(&mut r, "calls_turned_away", "Calls the ledger never saw"),
            unknown: named(&mut r, "calls_unknown", "Calls whose outcome could not be told"),
            requests: named(&mut r, "requests", "Calls answered, by gRPC code"),
            request_duration: seconds(
                &mut r,
                "request_duration",
                "From arrival to answer",
                Family::new_with_constructor(latency_histogram),
            ),
            in_flight: named(&mut r, "requests_in_flight", "Calls being answered"),
            connections: named(&mut r, "connections", "Connections open"),
            accepted: named(&mut r, "connections_accepted", "Connections let in"),
            refused: named(&mut r, "connections_refused", "Connections closed at the door"),
            is_leader: named(&mut r, "is_leader", "1 on the leader"),
            has_quorum: named(&mut r, "has_quorum", "1 while a leader has a quorum"),
            ready: named(&mut r, "ready", "1 when this node can serve"),
            leader_changes: named(&mut r, "leader_changes", "Changes of leader seen"),
            term: named(&mut r, "raft_term", "Current term"),
            last_log: named(&mut r, "raft_last_log_index", "Last entry in the log"),
            applied: named(&mut r, "raft_applied_index", "Last entry applied"),
            snapshot: named(&mut r, "raft_snapshot_index", "Last entry in the snapshot"),
            ledgers_differing: named(
                &mut r,
                "ledgers_differing",
                "Nodes whose ledger is not this one's at the same entry",
            ),
            epochs_differing: named(
                &mut r,
                "epochs_differing",
                "Members of a later restore epoch than this node's data",
            ),
            disk_free: bytes(&mut r, "disk_free", "What the data directory's disk has room for"),
            disk_size: bytes(&mut r, "disk_size", "How large that disk is"),
            batch: with(
                &mut r,
                "batch_commands",
                "Commands in one proposed log entry",
                Histogram::new(exponential_buckets(1.0, 2.0, 13)),
            ),
            recent_syncs: Recent::default(),
            sync: seconds(&mut r, "sync_duration", "One sync of the log", latency_histogram()),
            commit: seconds(
                &mut r,
                "commit_duration",
                "From proposal to applied, on the leader",
                latency_histogram(),
            ),
            clock_alarms: named(&mut r, "clock_alarms", "Clock jumps and disagreements"),
            certificate_expiry: seconds(
                &mut r,
                "certificate_expiry_timestamp",
                "When a certificate expires, since 1970",
                Family::default(),
            ),
            certificate_reloads: named(
                &mut r,
                "certificate_reloads",
                "Changed certificate files, taken or refused",
            ),
            registry: r,
        }
    }

    /// How long the latest syncs took; `None` before the first.
    pub(crate) fn recent_syncs(&self) -> Option<Quantiles> {
        self.recent_syncs.quantiles()
    }

    /// A sync of the log took so long.
    pub fn observe_sync(&self, took: Duration) {
        self.recent_syncs.observe(took);
        self.sync.observe(took.as_secs_f64());
    }

    /// A proposal was applied so long after it was made.
    pub fn observe_commit(&self, took: Duration) {
        self.commit.observe(took.as_secs_f64());
    }

    /// An entry with so many commands was proposed.
    pub fn observe_batch(&self, commands: usize) {
        self.batch.observe(commands as f64);
    }

    /// This node saw another leader than before.
    pub fn leader_changed(&self) {
        self.leader_changes.inc();
    }

    /// A clock misbehaved.
    pub fn clock_alarm(&self, alarm: ClockAlarm) {
        self.clock_alarms.get_or_create(&Kind { kind: alarm.name() }).inc();
    }

    /// These certificates are in use; of several in one place the first to expire counts.
    pub(crate) fn set_expiries(&self, in_use: &[InUse]) {
        self.certificate_expiry.clear();
        let mut latest_first = in_use.to_vec();
        latest_first.sort_by_key(|one| std::cmp::Reverse(one.expires));
        for one in latest_first {
            let gauge = self.certificate_expiry.get_or_create(&Which { which: one.which });
            gauge.set(one.expires.0.div_euclid(1_000));
        }
    }

    /// Certificate files changed and were `taken` or `refused`.
    pub(crate) fn certificate_reloaded(&self, result: &'static str) {
        self.certificate_reloads.get_or_create(&ReloadResult { result }).inc();
    }

    /// A call was answered without asking the ledger, for this reason.
    pub(crate) fn call_turned_away(&self, reason: &'static str) {
        self.turned_away.get_or_create(&Reason { reason }).inc();
    }

    /// A call ended without a known outcome.
    pub(crate) fn call_unknown(&self) {
        self.unknown.inc();
    }

    /// A call arrived.
    pub(crate) fn request_began(&self) {
        self.in_flight.inc();
    }

    /// A call was answered.
    pub(crate) fn request_ended(&self, call: &'static str, code: &'static str, took: Duration) {
        self.in_flight.dec();
        self.requests.get_or_create(&CallCode { call, code }).inc();
        self.request_duration.get_or_create(&Call { call }).observe(took.as_secs_f64());
    }

    /// A connection was let in.
    pub fn connection_opened(&self, listener: Listener) {
        let listener = ListenerLabel { listener: listener.name() };
        self.accepted.get_or_create(&listener).inc();
        self.connections.get_or_create(&listener).inc();
    }

    /// A connection that was let in has ended.
    pub fn connection_closed(&self, listener: Listener) {
        self.connections.get_or_create(&ListenerLabel { listener: listener.name() }).dec();
    }

    /// A connection was closed at the door.
    pub fn connection_refused(&self, listener: Listener, reason: &'static str) {
        self.refused.get_or_create(&ListenerReason { listener: listener.name(), reason }).inc();
    }

    /// Every figure, in the OpenMetrics text format.
    pub fn text(&self) -> String {
        let mut text = String::new();
        encode(&mut text, &self.registry).expect("a String takes all that is written");
        text
    }
}

/// From 50 µs, a sync of a fast disk, to 26 s.
fn latency_histogram() -> Histogram {
    Histogram::new(exponential_buckets(0.000_05, 2.0, 20))
}

fn named<M>(registry: &mut Registry, name: &str, help: &str) -> M
where
    M: prometheus_client::registry::Metric + Clone + Default,
{
    with(registry, name, help, M::default())
}

fn with<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register(name, help, metric.clone());
    metric
}

fn bytes(registry: &mut Registry, name: &str, help: &str) -> Gauge {
    let metric = Gauge::default();
    registry.register_with_unit(name, help, Unit::Bytes, metric.clone());
    metric
}

fn seconds<M>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M
where
    M: prometheus_client::registry::Metric + Clone,
{
    registry.register_with_unit(name, help, Unit::Seconds, metric.clone());
    metric
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The table above and the registry name the same figures.
    #[test]
    fn the_table_names_every_figure() {
        let metrics = Metrics::new("embedded");
        // A figure with labels is not shown before it has a value.
        metrics.set(&Reading {
            counts: Counts { refused: vec![("no_seat_free", 1)], ..Counts::default() },
            pools: vec![PoolReading { product: "cad".into(), capacity: 3, held: 1, waiting: 0 }],
            licenses: vec![LicenseReading {
                license: "1:2:3".into(),
                shares_live: 2,
                serving: true,
            }],
            ..Reading::default()
        });
        metrics.call_turned_away("OVERLOADED");
        metrics.request_began();
        metrics.request_ended("Acquire", "OK", Duration::from_millis(1));
        metrics.connection_opened(Listener::Client);
        metrics.connection_refused(Listener::Client, "limit");
        metrics.clock_alarm(ClockAlarm::Jump);
        let (fingerprint, expires) = (pki::Fingerprint([1; 32]), license::product::WallTime(1));
        metrics.set_expiries(&[InUse { which: "ca", fingerprint, expires }]);
        metrics.certificate_reloaded("taken");
        let text = metrics.text();
        let table: Vec<&str> = include_str!("telemetry.rs")
            .lines()
            .filter_map(|line| line.strip_prefix("//! | `trine_"))
            .filter_map(|row| row.split('`').next())
            .collect();
        // OpenMetrics names a counter without its `_total`, and an info without its `_info`.
        let described: Vec<&str> = text
            .lines()
            .filter_map(|line| line.strip_prefix("# TYPE trine_"))
            .filter_map(|line| line.split(' ').next())
            .collect();
        for name in &described {
            let full = [name.to_string(), format!("{name}_total"), format!("{name}_info")];
            assert!(
                table.iter().any(|row| full.iter().any(|name| name == row)),
                "{name} is not in the table"
            );
        }
        for row in &table {
            let short = row.trim_end_matches("_total").trim_end_matches("_info");
            assert!(
                described.iter().any(|name| name == row || *name == short),
                "{row} is not registered"
            );
        }
    }
}
