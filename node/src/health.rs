//! The health listener: plain HTTP for balancers, kubelet and Prometheus.
//!
//! | path | answer |
//! |---|---|
//! | `/livez` | 200 while the process is worth keeping, else 503 |
//! | `/readyz` | 200 when this node can serve, else 503; why not is in the body |
//! | `/leader` | who leads, as this node knows it |
//! | `/metrics` | every figure of [`telemetry`](crate::telemetry) |
//!
//! Nothing here is secret and nothing here changes anything.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use http::header::CONTENT_TYPE;
use ledger::Ledger;
use ledger::command::ShareState;
use ledger::view::{Comparison, Service as LicenseService};
use license::product::NodeId;
use serde::Serialize;

use crate::acquaintance::Acquaintances;
use crate::checkup;
use crate::config::Limits;
use crate::serve::Bounds;
use crate::service::Service;
use crate::status::{NodeStatus, RaftRole};
use crate::telemetry::{Counts, LicenseReading, Metrics, PoolReading, Reading};

/// What Prometheus is told it gets.
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Requests at once on one connection of the health listener.
const STREAMS_MAX: u32 = 8;

#[derive(Clone)]
struct Health {
    service: Service,
    metrics: Arc<Metrics>,
    acquaintances: Acquaintances,
    /// The data directory, to tell how full its disk is.
    data: Option<PathBuf>,
}

/// The body of `/leader`; balancers read it.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Leader {
    node: u64,
    role: &'static str,
    term: u64,
    leader: Option<u64>,
    ready: bool,
}

/// The body of `/readyz`.
#[derive(Debug, Serialize)]
struct Ready {
    ready: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
}

/// The body of `/livez`.
#[derive(Debug, Serialize)]
struct Live {
    live: bool,
}

/// The routes of the health listener.
pub(crate) fn routes(
    service: Service,
    metrics: Arc<Metrics>,
    acquaintances: Acquaintances,
    data: Option<PathBuf>,
) -> Router {
    Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/leader", get(leader))
        .route("/metrics", get(figures))
        .with_state(Health { service, metrics, acquaintances, data })
}

/// The bounds of the health listener's connections.
pub fn bounds(limits: &Limits) -> Bounds {
    let drain = Duration::ZERO;
    Bounds { streams: STREAMS_MAX, anonymous: None, drain, ..Bounds::from(limits) }
}

async fn livez(State(health): State<Health>) -> Response {
    let live = health.service.node_status().role != RaftRole::Down;
    (code(live), Json(Live { live })).into_response()
}

async fn readyz(State(health): State<Health>) -> Response {
    let reason = health.service.node_status().unready;
    let ready = reason.is_none();
    (code(ready), Json(Ready { ready, reason })).into_response()
}

async fn leader(State(health): State<Health>) -> Json<Leader> {
    Json(leader_of(&health.service.node_status()))
}

async fn figures(State(health): State<Health>) -> Response {
    let status = health.service.node_status();
    let disk = health.data.as_deref().and_then(checkup::disk);
    let disk = disk.map(|disk| (disk.bytes_free, disk.bytes_total));
    let epochs_differing = health.acquaintances.of_later_epochs().len() as u64;
    let reading = health.service.peek(|ledger| Reading {
        epochs_differing,
        disk,
        ..reading(ledger, &status)
    });
    health.metrics.set(&reading);
    ([(CONTENT_TYPE, OPEN_METRICS)], health.metrics.text()).into_response()
}

fn code(good: bool) -> StatusCode {
    if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn leader_of(status: &NodeStatus) -> Leader {
    Leader {
        node: status.id,
        role: status.role.name(),
        term: status.term,
        leader: status.leader.as_ref().map(|leader| leader.node),
        ready: status.unready.is_none(),
    }
}

fn reading(ledger: &Ledger, status: &NodeStatus) -> Reading {
    let counters = ledger.counters();
    let refused = counters.refused.iter().map(|(reason, total)| (reason.label(), *total));
    let pools = ledger.pools().into_iter().map(|pool| PoolReading {
        product: pool.product.to_string(),
        capacity: pool.capacity.unwrap_or(0),
        held: pool.seats,
        waiting: u64::from(pool.waiting),
    });
    let licenses = ledger.licenses().into_iter().map(|license| {
        let live = license.shares.iter().filter(|share| share.state == ShareState::Live);
        LicenseReading {
            license: license.terms.license.to_string(),
            shares_live: live.count() as u64,
            serving: license.service == LicenseService::Serving,
        }
    });
    let differing = ledger.comparisons(NodeId(status.id));
    let differing = differing.iter().filter(|(_, how)| matches!(how, Comparison::Differs { .. }));
    Reading {
        counts: Counts {
            granted: counters.granted,
            released: counters.released,
            expired: counters.expired,
            revoked: counters.revoked,
            renewed: counters.renewed,
            queued: counters.queued,
            refused: refused.collect(),
        },
        pools: pools.collect(),
        licenses: licenses.collect(),
        cluster_time: Duration::from_millis(ledger.clock().0),
        is_leader: status.role == RaftRole::Leader,
        has_quorum: status.has_quorum,
        ready: status.unready.is_none(),
        term: status.term,
        last_log_index: status.last_log_index,
        applied_index: status.applied_index,
        snapshot_index: status.snapshot_index,
        ledgers_differing: differing.count() as u64,
        epochs_differing: 0,
        disk: None,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::answer::LeaderHint;

    /// Balancers of other versions read exactly this.
    #[test]
    fn the_leader_answer_keeps_its_form() {
        let leader = LeaderHint { node: 2, client_address: "b:22450".into() };
        let mut status = NodeStatus {
            id: 1,
            role: RaftRole::Follower,
            term: 7,
            leader: Some(leader),
            last_log_index: 9,
            applied_index: 9,
            snapshot_index: 0,
            matched: BTreeMap::new(),
            has_quorum: true,
            unready: None,
        };
        let text = |status: &NodeStatus| serde_json::to_string(&leader_of(status)).expect("JSON");
        assert_eq!(
            text(&status),
            r#"{"node":1,"role":"follower","term":7,"leader":2,"ready":true}"#
        );
        status.leader = None;
        status.role = RaftRole::Candidate;
        status.unready = Some("no leader is known");
        assert_eq!(
            text(&status),
            r#"{"node":1,"role":"candidate","term":7,"leader":null,"ready":false}"#
        );
    }
}
