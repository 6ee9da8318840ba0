//! What all connections and probes share: the topology, what to cut when a node
//! goes down, and whether the balancer is leaving.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::config::{Config, HostPort};
use crate::keepalived::{Fitness, Standing};
use crate::probe::ProbeError;
use crate::telemetry::Telemetry;
use crate::topology::{Change, Health, Leadership, NodeId, Observation, Report, Topology};

pub(crate) struct Board {
    pub(crate) telemetry: Telemetry,
    state: Mutex<State>,
    nodes: BTreeMap<NodeId, (HostPort, HostPort)>,
    /// Whether keepalived is configured.
    paired: bool,
}

struct State {
    topology: Topology,
    /// Invariant: one token per node, cancelled when it goes down and then replaced.
    cuts: BTreeMap<NodeId, CancellationToken>,
    /// Why each node's last probe failed.
    errors: BTreeMap<NodeId, String>,
    draining: bool,
    standing: Standing,
}

/// A node to try, and the signal that ends what is connected to it.
pub(crate) struct Target {
    pub(crate) node: NodeId,
    pub(crate) address: HostPort,
    pub(crate) cut: CancellationToken,
}

/// What `/status` shows.
#[derive(Serialize)]
pub(crate) struct Status {
    ready: bool,
    draining: bool,
    /// Where it stands in a pair; `null` without a `[keepalived]` table.
    standing: Option<Standing>,
    leader: Option<Leadership>,
    connections: i64,
    nodes: Vec<NodeStatus>,
}

#[derive(Serialize)]
struct NodeStatus {
    id: NodeId,
    client: String,
    health: String,
    state: Health,
    connections: i64,
    probes_missed: u32,
    report: Option<Report>,
    error: Option<String>,
}

impl Board {
    pub(crate) fn new(config: &Config) -> Self {
        let ids = || config.nodes.iter().map(|node| node.id);
        let addresses =
            config.nodes.iter().map(|node| (node.id, (node.client.clone(), node.health.clone())));
        Self {
            telemetry: Telemetry::new(ids()),
            state: Mutex::new(State {
                topology: Topology::new(ids(), config.probe.failures),
                cuts: ids().map(|id| (id, CancellationToken::new())).collect(),
                errors: BTreeMap::new(),
                draining: false,
                standing: Standing::Unknown,
            }),
            nodes: addresses.collect(),
            paired: config.keepalived.is_some(),
        }
    }

    /// Takes in one probe's result and acts on what it changed.
    pub(crate) fn probed(
        &self,
        node: NodeId,
        found: Result<Report, ProbeError>,
        latency: Duration,
    ) {
        let mut state = self.state();
        let failure = found.as_ref().err().map(ToString::to_string);
        let observation = match found {
            Ok(report) => Observation::Answered(report),
            Err(_) => Observation::Failed,
        };
        let changes = state.topology.observe(node, observation);
        for change in &changes {
            match change {
                Change::CameUp(node) => info!(%node, "node is up"),
                Change::LeaderMoved(Some(Leadership { node, term })) => {
                    info!(%node, term, "leader moved");
                }
                Change::LeaderMoved(None) => warn!("no leader known"),
                Change::WentDown(node) => {
                    let error = failure.as_deref().unwrap_or_default();
                    warn!(%node, error, "node is down: its connections are cut");
                    if let Some(cut) = state.cuts.insert(*node, CancellationToken::new()) {
                        cut.cancel();
                    }
                }
            }
        }
        // The first miss is logged: it may say that the configuration is wrong.
        if let Some(error) = &failure
            && state.errors.get(&node) != Some(error)
        {
            info!(%node, error, "probe failed");
        }
        match failure {
            Some(error) => drop(state.errors.insert(node, error)),
            None => {
                state.errors.remove(&node);
                self.telemetry.probe_answered(node, latency);
            }
        }
        let leader = state.topology.leader().map(|leadership| leadership.node);
        for view in state.topology.views() {
            let up = matches!(view.health, Health::Up | Health::Suspect);
            self.telemetry.node_is(view.node, up, leader == Some(view.node));
        }
    }

    /// The nodes to try for a new connection, best first.
    pub(crate) fn route(&self) -> Vec<Target> {
        let mut state = self.state();
        let order = state.topology.route();
        order
            .into_iter()
            .filter_map(|node| {
                let (address, _) = self.nodes.get(&node)?;
                let cut = state.cuts.get(&node)?.clone();
                Some(Target { node, address: address.clone(), cut })
            })
            .collect()
    }

    /// From here on `/readyz` says no.
    pub(crate) fn drain(&self) {
        self.state().draining = true;
    }

    /// keepalived says so.
    pub(crate) fn stands(&self, standing: Standing) {
        self.state().standing = standing;
        self.telemetry.stands(standing);
    }

    /// How well this balancer is, for keepalived.
    pub(crate) fn fitness(&self) -> Fitness {
        let state = self.state();
        let views = state.topology.views();
        // A node that has not answered yet is not up: a balancer that has just
        // started must not take the address from one that knows its way.
        let up = views.iter().filter(|view| view.report.is_some()).count();
        Fitness { nodes: views.len(), up, draining: state.draining, standing: state.standing }
    }

    /// Whether new clients should come here; if not, why.
    pub(crate) fn ready(&self) -> Result<(), &'static str> {
        let state = self.state();
        match (state.draining, state.topology.anyone_up()) {
            (true, _) => Err("draining: this balancer is about to stop"),
            (false, false) => Err("no node answers this balancer's probes: see /status"),
            (false, true) => Ok(()),
        }
    }

    pub(crate) fn status(&self) -> Status {
        let ready = self.ready().is_ok();
        let state = self.state();
        let nodes = state.topology.views().iter().filter_map(|view| {
            let (client, health) = self.nodes.get(&view.node)?;
            Some(NodeStatus {
                id: view.node,
                client: client.to_string(),
                health: health.to_string(),
                state: view.health,
                connections: self.telemetry.node_connections(view.node),
                probes_missed: view.failures,
                report: view.report.clone(),
                error: state.errors.get(&view.node).cloned(),
            })
        });
        Status {
            ready,
            draining: state.draining,
            standing: self.paired.then_some(state.standing),
            leader: state.topology.leader(),
            connections: self.telemetry.connections(),
            nodes: nodes.collect(),
        }
    }

    /// A thread that panicked while holding the lock left whole values behind:
    /// no step above can fail halfway.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
