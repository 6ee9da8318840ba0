//! The client listener's calls: who may make them, what they mean to the
//! ledger, and what the caller hears.
//!
//! A call passes [`gate`] (identity, role, overload), [`convert`] (parsed
//! once), the service, and [`error`] if the answer is no.

pub mod gate;
pub mod roles;
pub mod room;

mod cluster;
mod convert;
mod error;
mod grpc;

use std::path::PathBuf;
use std::sync::Arc;

use axum::Router;
use ledger::command::{Outcome, Reply};
use tokio::sync::Semaphore;
use tonic::{Request, Status};
use wire::v1::cluster_server::ClusterServer;
use wire::v1::licensing_server::LicensingServer;

use crate::acquaintance::Acquaintances;
use crate::answer::NotAnswered;
use crate::certificates::Certificates;
use crate::config::Limits;
use crate::formation::Formation;
use crate::identity::{Caller, NoCaller};
use crate::replace::Replacer;
use crate::service::Service;
use crate::telemetry::Metrics;
use error::No;
use gate::Gate;

/// What the calls are answered from.
pub(crate) struct Sources {
    pub(crate) service: Service,
    pub(crate) formation: Arc<Formation>,
    pub(crate) replacer: Arc<Replacer>,
    pub(crate) metrics: Arc<Metrics>,
    /// The storage engine's name.
    pub(crate) engine: &'static str,
    /// What this node shows and whom it believes.
    pub(crate) certificates: Certificates,
    /// The data directory, if it is on a disk.
    pub(crate) data: Option<PathBuf>,
    /// The networks whose addresses may speak for clients.
    pub(crate) proxies: Vec<String>,
    /// What the other nodes told.
    pub(crate) acquaintances: Acquaintances,
}

/// Every call of the client listener, behind its gate.
pub(crate) fn routes(sources: Sources, limits: &Limits) -> Router {
    let Sources {
        service,
        formation,
        replacer,
        metrics,
        engine,
        certificates,
        data,
        proxies,
        acquaintances,
    } = sources;
    let bytes_max = usize::try_from(limits.request_bytes).unwrap_or(usize::MAX);
    let answers = Answers { metrics: metrics.clone() };
    let licensing = grpc::Licensing { service: service.clone(), answers: answers.clone() };
    let cluster = cluster::Cluster {
        service: service.clone(),
        formation,
        engine,
        certificates,
        data,
        proxies,
        acquaintances,
        answers,
        replacer,
        backups: Arc::new(Semaphore::new(1)),
    };
    let routes = tonic::service::Routes::new(
        LicensingServer::new(licensing).max_decoding_message_size(bytes_max),
    )
    .add_service(ClusterServer::new(cluster).max_decoding_message_size(bytes_max))
    .into_axum_router();
    let tokens = service.clone();
    let find_token = move |digest: &[u8; 32]| tokens.peek(|ledger| ledger.find_token(digest));
    let revoked = service.clone();
    Gate::new(limits, metrics, find_token)
        .refusing(move |shown| revoked.peek(|ledger| ledger.is_revoked(&shown.0)))
        .waiting_while(move || !service.leads())
        .guard(routes)
}

/// How answers that are not a success are told and counted.
#[derive(Debug, Clone)]
struct Answers {
    metrics: Arc<Metrics>,
}

impl Answers {
    /// The status to send for a no. The ledger counts its own refusals.
    fn tell(&self, no: No) -> Status {
        if no.is_unknown() {
            self.metrics.call_unknown();
        } else if !no.is_refusal() {
            self.metrics.call_turned_away(no.reason);
        }
        no.status
    }

    /// The reply, if there is one and it is not a refusal.
    fn granted(&self, answer: Result<Reply, NotAnswered>) -> Result<Reply, Status> {
        match answer {
            Ok(Reply { log_id, stamp, outcome: Outcome::Refused(refusal) }) => {
                Err(self.tell(error::refused(&refusal, log_id, stamp)))
            }
            Ok(reply) => Ok(reply),
            Err(why) => Err(self.tell(error::not_answered(&why))),
        }
    }

    /// The caller, as the gate found it.
    fn caller<T>(&self, request: &Request<T>) -> Result<Caller, Status> {
        let caller = request.extensions().get::<Caller>().cloned();
        caller.ok_or_else(|| self.tell(error::no_caller(&NoCaller::Nobody)))
    }

    /// The reply is to another question, as if its node spoke another version:
    /// what it did cannot be told.
    fn mismatched(&self) -> Status {
        let detail = "the answer does not fit the question".to_owned();
        self.tell(error::not_answered(&NotAnswered::Unknown { detail }))
    }
}
