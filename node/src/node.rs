//! One node, assembled from what it is handed, served and drained.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ledger::Event;
use ledger::level::Level;
use license::build::Build;
use license::container::Container;
use license::product::NodeId;
use license::trust::VendorRoot;
use openraft::async_runtime::WatchReceiver as _;
use pki::Ca;
use tokio::sync::{broadcast, mpsc};
use tokio::task::{JoinError, JoinSet};
use tokio_util::task::AbortOnDropHandle;

use crate::acquaintance::Acquaintances;
use crate::acquaintance::origin::KnownOrigin;
use crate::certificates::Certificates;
use crate::clearance::{Clearance, Denial};
use crate::clock::Clock;
use crate::config::{Limits, Snapshots};
use crate::enrollment::Enrolled;
use crate::entropy::Entropy;
use crate::formation::Formation;
use crate::incoming::Incoming;
use crate::news::or_never;
use crate::peers::{Dial, Incarnation, Peers};
use crate::proposer::{Proposer, SUBMISSIONS_MAX};
use crate::raft::arrival::Arrivals;
use crate::raft::network::Factory;
use crate::raft::server::PeerDoor;
use crate::raft::{Endpoints, Raft, spawn, timing};
use crate::reach::{self, Reach};
use crate::repair::{Repairs, carry_out_orders};
use crate::replace::{Replacer, finish_unasked};
use crate::roster::{Roster, follow_membership, forget_departed};
use crate::serve::{Bounds, closing, serve};
use crate::service::Service;
use crate::shares::Shares;
use crate::store::Disk;
use crate::store::log::{Flush, Log};
use crate::store::machine::{Happened, Machine, View};
use crate::telemetry::Metrics;
use crate::visit::Visits;
use crate::window::Window;
use crate::{
    api, cas, expiry, greeting, handover, health, heartbeat, recall, revocation, signing, walls,
    watch,
};

/// What a node is: from its configuration, the same at every start.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Which node.
    pub id: NodeId,
    /// The three members and where they are found.
    pub members: Vec<(NodeId, Endpoints)>,
    /// The cluster CA.
    pub ca: Ca,
    /// Vendors to trust from genesis on.
    pub vendor_roots: Vec<VendorRoot>,
    /// The bounds of its doors.
    pub limits: Limits,
    /// When it writes its ledger down.
    pub snapshots: Snapshots,
    /// The storage engine's name, for status and metrics.
    pub engine: &'static str,
    /// The data directory, to tell how full its disk is; a simulated node has none.
    pub data: Option<PathBuf>,
    /// The networks whose addresses may speak for clients, to tell the doctor.
    pub proxies: Vec<String>,
}

/// The world a node lives in: the machine's in production, a simulated one in tests.
pub struct World<C, P, H> {
    /// Boot time and wall.
    pub clock: Arc<dyn Clock>,
    /// Secrets.
    pub entropy: Arc<dyn Entropy>,
    /// Which boot of the machine this is.
    pub boot: [u8; 16],
    /// Where the log lives.
    pub disk: Arc<dyn Disk>,
    /// Where its shares open.
    pub container: Container,
    /// What vouches for the container.
    pub enrolled: Arc<dyn Enrolled>,
    /// The way to the other nodes.
    pub dial: Arc<dyn Dial>,
    /// Applications and operators.
    pub clients: C,
    /// The other nodes.
    pub peers: P,
    /// Health, leader, metrics.
    pub health: H,
    /// The node's figures, which its doors write too.
    pub metrics: Arc<Metrics>,
    /// What it shows and whom it believes.
    pub certificates: Certificates,
    /// Is handed the node's [`Window`] when it is up. Production looks at nothing.
    pub onlooker: Box<dyn FnOnce(Window) + Send>,
}

/// Why a node stopped, or did not start.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The disk does not give back what was written, or takes nothing more.
    #[error("storage: {0}")]
    Storage(#[from] std::io::Error),
    /// Raft stopped, nearly always because storage failed under it.
    #[error("raft stopped: {0}")]
    Raft(String),
    /// A bug.
    #[error("a part of the node ended: {0}; please report it with the log")]
    Part(String),
    /// Its certificates are another cluster's.
    #[error(
        "the cluster does not trust the CA that this node's config names; use one that it does (see `trine trust list`)"
    )]
    OtherCa,
    /// Its container is not the one the cluster knows.
    #[error(
        "{node}'s container is not the one this cluster was formed with: its data directory was replaced; give it back its own"
    )]
    OtherContainer {
        /// This node.
        node: NodeId,
    },
    /// S22.
    #[error(
        "the cluster is at feature level {level}, and this build, Trine {}, knows levels up to {}: it was raised by a newer build, and there is no way back below it; start the newer build on this node again",
        build.version, build.highest
    )]
    TooOld {
        /// The cluster's level.
        level: Level,
        /// This build.
        build: Build,
    },
    /// S21.
    #[error(transparent)]
    Denied(#[from] Denial),
    /// Another node has its place.
    #[error("{told}")]
    Gone {
        /// How it left, and what to do.
        told: String,
    },
    /// S18.
    #[error(
        "the ledger of {node} differs from that of the two others at log index {index}: this node must not serve; leave it stopped, compare versions, check its disk; the two others go on"
    )]
    Contradicted {
        /// This node.
        node: NodeId,
        /// Where the two others agree on another hash.
        index: u64,
    },
}

/// Runs a node until `shutdown`, then drains it.
///
/// Call it inside [`raft::seeded`](crate::raft::seeded).
///
/// # Errors
/// [`NodeError`] when it cannot start or cannot go on; the process must end.
pub async fn run<C, P, H>(
    setup: Setup,
    world: World<C, P, H>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), NodeError>
where
    C: Incoming + 'static,
    P: Incoming + 'static,
    H: Incoming + 'static,
{
    let World {
        clock,
        entropy,
        boot,
        disk,
        container,
        enrolled,
        dial,
        clients,
        peers,
        health,
        metrics,
        certificates,
        onlooker,
    } = world;
    let syncs = metrics.clone();
    let log = Log::open(disk.clone(), move |flush: Flush| syncs.observe_sync(flush.took))
        .await
        .map_err(reach::not_opened)?;
    let machine = Machine::open(disk).await.map_err(reach::not_opened)?;
    let view = machine.view();
    let reach = Reach::new();
    let events = view.events();
    let configured = setup.members.iter();
    let configured = configured.map(|(node, endpoints)| (node.0, endpoints.peer.clone()));
    let mut incarnation = Incarnation([0; 16]);
    entropy.fill(&mut incarnation.0);
    let links = Peers::new(setup.id.0, configured, dial, incarnation);
    let clearance = Clearance::new();
    let acquaintances = Acquaintances::new(
        setup.id,
        incarnation,
        links.clone(),
        log.clone(),
        {
            let view = view.clone();
            move || view.look(KnownOrigin::of)
        },
        clearance.clone(),
    );
    let memory = log.memory();
    let network = Factory::new(links.clone(), acquaintances.clone(), view.clone());
    let raft = Raft::new(setup.id.0, Arc::new(raft_config(setup.snapshots)), network, log, machine)
        .await
        .map_err(|fatal| reach::raft_stopped(&view, fatal.to_string()))?;

    let (queue, submissions) = mpsc::channel(SUBMISSIONS_MAX);
    let service = Service::new(
        setup.id.0,
        raft.clone(),
        view.clone(),
        links.clone(),
        queue,
        clearance.clone(),
    );
    let proposer = Proposer::new(
        setup.id,
        raft.clone(),
        view.clone(),
        clock.clone(),
        metrics.clone(),
        acquaintances.clone(),
        submissions,
    );
    let identity = container.identity();
    let shares = Shares::new(
        setup.id,
        container,
        enrolled,
        fingerprint(&boot),
        raft.clone(),
        view.clone(),
        entropy.clone(),
    );
    let roster = Roster::new(setup.members.clone(), raft.clone(), view.clone());
    let repairs = Repairs::new(setup.id, shares.clone(), links.clone());
    let formation = Arc::new(Formation {
        node: setup.id,
        roster: roster.clone(),
        ca: setup.ca.clone(),
        vendor_roots: setup.vendor_roots.clone(),
        raft: raft.clone(),
        service: service.clone(),
        peers: links.clone(),
        shares: shares.clone(),
        clock: clock.clone(),
        entropy: entropy.clone(),
        clearance: clearance.clone(),
    });
    let replacer = Arc::new(Replacer::default());

    // Parts that end only with the node.
    let mut background = JoinSet::new();
    background.spawn(within(follow_membership(raft.clone(), links.clone())));
    background.spawn(within(forget_departed(view.clone(), memory)));
    background.spawn(within(proposer.run()));
    background.spawn(within(signing::prove_shares(shares.clone(), service.clone())));
    background.spawn(within(signing::sign_terms(shares.clone(), service.clone(), links.clone())));
    background.spawn(within(carry_out_orders(repairs.clone(), service.clone())));
    background.spawn(within(finish_unasked(formation.clone(), replacer.clone())));
    background.spawn(within(walls::run(setup.id, service.clone(), clock.clone(), metrics.clone())));
    background.spawn(within(expiry::run(certificates.clone(), clock.clone(), metrics.clone())));
    background.spawn(within(revocation::run(view.clone(), certificates.clone())));
    background.spawn(within(heartbeat::run(
        setup.id,
        boot,
        service.clone(),
        shares.clone(),
        clock,
        {
            let (certificates, first) = (certificates.clone(), setup.ca.digest());
            move || certificates.ca().unwrap_or(first)
        },
    )));
    background.spawn(within(recall::run(view.history().clone(), links.clone())));
    background.spawn(within(tell_waiters(service.clone(), view.clone(), events)));

    let (closer, closing_clients) = closing();
    let (peer_closer, closing_peers) = closing();
    let bounds = Bounds::from(&setup.limits);
    let sources = api::Sources {
        service: service.clone(),
        formation,
        replacer,
        metrics: metrics.clone(),
        engine: setup.engine,
        certificates: certificates.clone(),
        data: setup.data.clone(),
        proxies: setup.proxies.clone(),
        acquaintances: acquaintances.clone(),
    };
    let routes = api::routes(sources, &setup.limits);
    let serving_clients = spawn(serve(clients, routes, bounds, closing_clients));
    let door = PeerDoor {
        raft: raft.clone(),
        service: service.clone(),
        shares,
        acquaintances: acquaintances.clone(),
        clearance: clearance.clone(),
        reach: reach.clone(),
        roster,
        repairs: repairs.clone(),
        snapshots: Arrivals::default(),
        peers: links.clone(),
        visits: Visits::new(links.clone()),
        client_address: own_client_address(&setup),
    };
    let serving_peers = spawn(serve(
        peers,
        door.routes(),
        Bounds { streams: PEER_STREAMS_MAX, ..bounds },
        closing_peers.clone(),
    ));
    let health_routes =
        health::routes(service.clone(), metrics.clone(), acquaintances.clone(), setup.data.clone());
    let serving_health =
        spawn(serve(health, health_routes, health::bounds(&setup.limits), closing_peers));
    tracing::info!(node = %setup.id, engine = setup.engine, "node is up");
    onlooker(Window::new(raft.clone(), view.clone()));
    background.spawn(within(greeting::run(acquaintances, links.clone(), clearance.clone())));

    let ended = tokio::select! {
        () = shutdown => Ok(()),
        error = watch::stranger(&view, setup.ca.digest(), setup.id, &identity) => Err(error),
        reason = watch::raft_stopped(&raft) => Err(reach::raft_stopped(&view, reason)),
        error = reach.exceeded(&view) => Err(error),
        error = watch::gone(&view, setup.id, &links) => Err(error),
        error = watch::contradicted(&view, setup.id) => Err(error),
        denial = clearance.denied() => Err(denial.into()),
        never = watch::stand_for_election(&raft, &clearance) => match never {},
        error = watch::part_ended(&mut background) => Err(error),
        () = ask_clients_to_move(&raft, &closer) => Ok(()),
        never = cas::follow(setup.id, &view, &certificates, [&closer, &peer_closer]) => match never {},
    };
    tracing::info!(node = %setup.id, "draining");
    service.start_draining();
    if ended.is_ok() {
        if let Err(why) = handover::hand_over(&raft, &service, None).await {
            tracing::info!(%why, "leadership is not handed over");
        }
    } else {
        // Who may not go on neither votes nor leads nor acknowledges while its
        // callers are shown out.
        stop_raft(&raft).await;
    }
    closer.drain();
    drop(serving_clients.await);
    peer_closer.drain();
    stop_raft(&raft).await;
    drop(serving_peers.await);
    drop(serving_health.await);
    background.shutdown().await;
    tracing::info!(node = %setup.id, "node has stopped");
    ended
}

pub(crate) fn raft_config(snapshots: Snapshots) -> openraft::Config {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let config = openraft::Config {
        cluster_name: "trine".into(),
        heartbeat_interval: millis(timing::HEARTBEAT),
        election_timeout_min: millis(timing::ELECTION_TIMEOUT_MIN),
        election_timeout_max: millis(timing::ELECTION_TIMEOUT_MAX),
        install_snapshot_timeout: 60_000,
        max_payload_entries: 64,
        snapshot_policy: openraft::SnapshotPolicy::LogsSinceLast(snapshots.every.into()),
        max_in_snapshot_log_to_keep: snapshots.log_kept.into(),
        enable_pre_vote: Some(true),
        // A node stands for election once it is cleared (S21).
        enable_elect: false,
        // A restarted leader stands for election again: a term is led by one
        // process, so its stamps and its license signatures are too (S16).
        enable_leader_restore: Some(false),
        ..Default::default()
    };
    config.validate().expect("the numbers above are in their ranges")
}

/// Calls at once on one connection of a peer: it pipelines appends, and makes a
/// few calls beside them.
const PEER_STREAMS_MAX: u32 = 256;

/// A task that may touch Raft ([`spawn`]), for a set of tasks to own.
fn within<F>(future: F) -> impl Future<Output = Result<(), JoinError>> + Send
where
    F: Future<Output = ()> + Send + 'static,
{
    AbortOnDropHandle::new(spawn(future))
}

/// Answers those who wait for a queued request at this node.
async fn tell_waiters(service: Service, view: View, mut events: broadcast::Receiver<Happened>) {
    loop {
        match events.recv().await {
            Ok(happened) => {
                for event in happened.events.iter() {
                    if let Event::Settled { lease, reply } = event {
                        service.tell_waiters(*lease, reply);
                    }
                }
            }
            // Who is not told asks again in a moment, and is answered from memory.
            Err(broadcast::error::RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "events were missed");
                events = view.events();
            }
            Err(broadcast::error::RecvError::Closed) => return,
        }
    }
}

/// Asks the clients of an ex-leader to connect anew. Never ends.
async fn ask_clients_to_move(raft: &Raft, closer: &crate::serve::Closer) {
    let mut metrics = raft.server_metrics();
    let mut led = false;
    loop {
        let leads = metrics.borrow_watched().state == openraft::ServerState::Leader;
        if led && !leads {
            closer.move_on();
        }
        led = leads;
        or_never(metrics.changed()).await;
    }
}

/// Ends Raft, once what it is writing is written.
async fn stop_raft(raft: &Raft) {
    raft.runtime_config().elect(false);
    if let Err(error) = raft.shutdown().await {
        tracing::debug!(%error, "raft ended before it was asked to");
    }
}

/// Where clients reach this node.
fn own_client_address(setup: &Setup) -> String {
    let own = setup.members.iter().find(|(node, _)| *node == setup.id);
    own.map(|(_, endpoints)| endpoints.client.clone()).unwrap_or_default()
}

/// What the vendor sees of a boot id.
fn fingerprint(boot: &[u8; 16]) -> [u8; 32] {
    use sha2::Digest as _;
    sha2::Sha256::digest(boot).into()
}
