//! What a balancer counts, as Prometheus reads it.

use std::fmt;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::keepalived::Standing;
use crate::topology::NodeId;

/// Why a connection was closed before it reached a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum RefusalReason {
    Limit,
    NoNode,
}

/// How a connection that reached a node ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum End {
    /// Both sides were done.
    Finished,
    /// One side broke off.
    Broken,
    /// The idle limit.
    Idle,
    /// Its node went down.
    NodeDown,
    /// The balancer left.
    Drained,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Direction {
    ToNode,
    ToClient,
}

impl EncodeLabelValue for RefusalReason {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        let word = match self {
            Self::Limit => "limit",
            Self::NoNode => "no_node",
        };
        word.encode(encoder)
    }
}

impl EncodeLabelValue for End {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        let word = match self {
            Self::Finished => "finished",
            Self::Broken => "broken",
            Self::Idle => "idle",
            Self::NodeDown => "node_down",
            Self::Drained => "drained",
        };
        word.encode(encoder)
    }
}

impl EncodeLabelValue for Direction {
    fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
        let word = match self {
            Self::ToNode => "to_node",
            Self::ToClient => "to_client",
        };
        word.encode(encoder)
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct NodeLabel {
    node: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RefusalLabel {
    reason: RefusalReason,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct EndLabel {
    how: End,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DirectionLabel {
    direction: Direction,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StandingLabel {
    standing: &'static str,
}

type LatencyByNode = Family<NodeLabel, Histogram, fn() -> Histogram>;

pub(crate) struct Telemetry {
    registry: Registry,
    open: Gauge,
    accepted: Counter,
    refused: Family<RefusalLabel, Counter>,
    ended: Family<EndLabel, Counter>,
    pub(crate) bytes_to_node: Counter,
    pub(crate) bytes_to_client: Counter,
    node_open: Family<NodeLabel, Gauge>,
    node_up: Family<NodeLabel, Gauge>,
    node_leader: Family<NodeLabel, Gauge>,
    connect_failures: Family<NodeLabel, Counter>,
    probe_latency: LatencyByNode,
    standing: Family<StandingLabel, Gauge>,
}

impl Telemetry {
    /// Every series of `nodes` exists from the start, at 0, so that an alert
    /// need not tell absent from fine.
    pub(crate) fn new(nodes: impl Iterator<Item = NodeId>) -> Self {
        let bytes = Family::<DirectionLabel, Counter>::default();
        let by = |direction| bytes.get_or_create_owned(&DirectionLabel { direction });
        let mut telemetry = Self {
            registry: Registry::with_prefix("trine_balancer"),
            open: Gauge::default(),
            accepted: Counter::default(),
            refused: Family::default(),
            ended: Family::default(),
            bytes_to_node: by(Direction::ToNode),
            bytes_to_client: by(Direction::ToClient),
            node_open: Family::default(),
            node_up: Family::default(),
            node_leader: Family::default(),
            connect_failures: Family::default(),
            probe_latency: LatencyByNode::new_with_constructor(|| {
                Histogram::new([0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0])
            }),
            standing: Family::default(),
        };
        telemetry.name_series(bytes);
        for node in nodes {
            let label = NodeLabel { node: node.0 };
            drop(telemetry.node_open.get_or_create(&label));
            drop(telemetry.node_up.get_or_create(&label));
            drop(telemetry.node_leader.get_or_create(&label));
            drop(telemetry.connect_failures.get_or_create(&label));
            drop(telemetry.probe_latency.get_or_create(&label));
        }
        for reason in [RefusalReason::Limit, RefusalReason::NoNode] {
            drop(telemetry.refused.get_or_create(&RefusalLabel { reason }));
        }
        telemetry.stands(Standing::Unknown);
        telemetry
    }

    fn name_series(&mut self, bytes: Family<DirectionLabel, Counter>) {
        let registry = &mut self.registry;
        registry.register("connections_open", "Client connections open", self.open.clone());
        registry.register("connections", "Client connections accepted", self.accepted.clone());
        registry.register(
            "connections_refused",
            "Client connections closed before they reached a node",
            self.refused.clone(),
        );
        registry.register(
            "connections_ended",
            "Connections that reached a node, by how they ended",
            self.ended.clone(),
        );
        registry.register_with_unit("carried", "Bytes moved", Unit::Bytes, bytes);
        registry.register("node_connections_open", "Open, by node", self.node_open.clone());
        registry.register("node_up", "1 if the node counts as up", self.node_up.clone());
        registry.register("node_leader", "1 if the node leads", self.node_leader.clone());
        registry.register(
            "connect_failures",
            "Connections to a node that failed or took too long",
            self.connect_failures.clone(),
        );
        registry.register(
            "vrrp",
            "1 for where keepalived says this balancer stands, 0 for the rest",
            self.standing.clone(),
        );
        registry.register_with_unit(
            "probe_latency",
            "Time a node took to answer a probe",
            Unit::Seconds,
            self.probe_latency.clone(),
        );
    }

    /// Counts one connection accepted, and open until the returned value is dropped.
    pub(crate) fn accepted(&self) -> Open {
        self.accepted.inc();
        Open::of(&self.open)
    }

    /// Counts one connection to `node`, until the returned value is dropped.
    pub(crate) fn connected(&self, node: NodeId) -> Open {
        Open::of(&self.node_open.get_or_create(&NodeLabel { node: node.0 }))
    }

    pub(crate) fn refused(&self, reason: RefusalReason) {
        self.refused.get_or_create(&RefusalLabel { reason }).inc();
    }

    pub(crate) fn ended(&self, how: End) {
        self.ended.get_or_create(&EndLabel { how }).inc();
    }

    pub(crate) fn connect_failed(&self, node: NodeId) {
        self.connect_failures.get_or_create(&NodeLabel { node: node.0 }).inc();
    }

    pub(crate) fn probe_answered(&self, node: NodeId, latency: Duration) {
        self.probe_latency
            .get_or_create(&NodeLabel { node: node.0 })
            .observe(latency.as_secs_f64());
    }

    pub(crate) fn node_is(&self, node: NodeId, up: bool, leader: bool) {
        let label = NodeLabel { node: node.0 };
        self.node_up.get_or_create(&label).set(up.into());
        self.node_leader.get_or_create(&label).set(leader.into());
    }

    pub(crate) fn stands(&self, standing: Standing) {
        for each in Standing::ALL {
            let label = StandingLabel { standing: each.word() };
            self.standing.get_or_create(&label).set((each == standing).into());
        }
    }

    pub(crate) fn connections(&self) -> i64 {
        self.open.get()
    }

    pub(crate) fn node_connections(&self, node: NodeId) -> i64 {
        self.node_open.get_or_create(&NodeLabel { node: node.0 }).get()
    }

    /// All series in OpenMetrics text.
    pub(crate) fn text(&self) -> Result<String, fmt::Error> {
        let mut page = String::new();
        text::encode(&mut page, &self.registry)?;
        Ok(page)
    }
}

/// One more on a gauge, until dropped.
pub(crate) struct Open(Gauge);

impl Open {
    fn of(gauge: &Gauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.dec();
    }
}
