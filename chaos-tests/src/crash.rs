//! The crash test: servers of a real cluster are killed at random moments under
//! load, their unsynced bytes are lost, and nothing else may be.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::IndexedRandom as _;
use rand::{RngExt as _, SeedableRng as _};
use serde::Serialize;
use tokio::time::Instant;
use trine_cli::context::Purpose;
use trine_cli::devcluster::Server;
use trine_cli::world::World;
use trine_client::clock::{BootClock, Clock as _};
use trine_client::observe::Unobserved;
use trine_client::random::Seeded;
use trine_client::{AcquireError, Client, Operator, Outcome, Reason};

use crate::disk::Loss;
use crate::history::{Event, History, Op};
use crate::oracle::{self, Figures, Verdict, Violation};
use crate::record::{self, Recorder};
use crate::rig::Rig;
use crate::workload::{PRODUCT, TTL_MAX, Workload};

/// Seats of the license.
const SEATS: u32 = 20;
/// Clients, and applications on each: half as many again as there are seats.
const CLIENTS: usize = 12;
const APPLICATIONS_PER_CLIENT: usize = 3;
/// How long the load runs between two crashes, and servers stay dead.
const CALM: std::ops::Range<Duration> = Duration::from_millis(100)..Duration::from_millis(1_500);
const DEAD: std::ops::Range<Duration> = Duration::ZERO..Duration::from_millis(1_000);
/// From so many crashes on a run must have reached everything it is there for.
const ROUNDS_TELLING: u32 = 20;
/// How long healing may take before it counts as never. L1 promises 10 s on a
/// machine of one's own; no test asserts an absolute time on a shared one.
const HEALED_WITHIN: Duration = Duration::from_secs(60);

/// What to run.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Crashes.
    pub rounds: u32,
    /// `embedded` or `rocksdb`.
    pub engine: String,
    /// Derives every choice of the test. What the machine's scheduler does, it does not derive.
    pub seed: u64,
    /// Whether the disks lie about syncs once the cluster is up: the test must fail.
    pub ignore_syncs: bool,
    /// Where the cluster lives.
    pub dir: PathBuf,
    /// A binary that understands `node` and `balancer`.
    pub program: PathBuf,
}

/// How it went.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Crashes survived.
    pub rounds: u32,
    /// Nodes killed.
    pub nodes_killed: u32,
    /// Balancers killed.
    pub balancers_killed: u32,
    /// Syncs the nodes asked their disks for.
    pub syncs: u64,
    /// What the clients' history had.
    pub figures: Figures,
    /// Laws broken in the history.
    pub violations: Vec<Violation>,
    /// What else went wrong: a node that ended by itself, a cluster that did
    /// not heal, seats missing at the end, states that differ.
    pub failures: Vec<String>,
}

impl Report {
    /// Whether nothing was lost and nothing doubled.
    pub fn holds(&self) -> bool {
        self.violations.is_empty() && self.failures.is_empty()
    }
}

/// Runs the test. Returns what was found and the history it was found in.
///
/// # Errors
/// The test itself could not run.
pub async fn run(
    plan: Plan,
    world: World,
    tell: impl Fn(&str),
) -> anyhow::Result<(Report, Arc<History>)> {
    let mut random = StdRng::seed_from_u64(plan.seed);
    let began = BootClock.now();
    let history = Arc::new(History::new(move || BootClock.now().since(began)));
    let rig =
        Rig::start(&plan.dir, plan.program.clone(), &plan.engine, PRODUCT, SEATS, world).await?;
    if plan.ignore_syncs {
        rig.ignore_syncs();
        history.note("from here on the disks lie about syncs");
    }
    let mut clients = Vec::with_capacity(CLIENTS);
    for number in 1..=CLIENTS {
        let recorder = Recorder::new(Arc::clone(&history), format!("client-{number}"));
        let seeded = Arc::new(Seeded::from_seed(random.random()));
        clients.push(rig.client(Purpose::Application, Arc::new(recorder), seeded).await?);
    }
    let seeded = Arc::new(Seeded::from_seed(random.random()));
    let operator = rig.client(Purpose::Operator, Arc::new(Unobserved), seeded).await?.operator();
    let load = Workload::start(&clients, APPLICATIONS_PER_CLIENT, &mut random);
    let mut test =
        Test { rig, operator, history: Arc::clone(&history), random, report: Report::default() };

    let ended = test.rounds(plan.rounds, &tell).await;
    tell("letting the applications finish");
    load.finish().await;
    for client in &clients {
        client.settle(HEALED_WITHIN).await;
    }
    let ended = match ended {
        Ok(()) => test.final_checks(&clients[0], &tell).await,
        failed => failed,
    };
    if let Err(Stop::Found(failure)) = &ended {
        history.note(failure.clone());
        test.report.failures.push(failure.clone());
    }
    if let Err(Stop::Broken(error)) = ended {
        return Err(error);
    }
    test.report.syncs = test.rig.syncs();
    let verdict = judge(&history.events());
    test.report.figures = verdict.figures;
    test.report.violations = verdict.violations;
    if test.report.holds() && plan.rounds >= ROUNDS_TELLING {
        let thin = thin(&test.report.figures).map(|what| format!("the run shows little: {what}"));
        test.report.failures.extend(thin);
    }
    if test.report.holds() {
        test.rig.stop().await?;
    }
    Ok((test.report, history))
}

/// The log-order check of such a run's history.
pub fn judge(events: &[Event]) -> Verdict {
    oracle::check(events, SEATS as usize)
}

/// Why a test ends early.
enum Stop {
    /// Something is wrong with the cluster.
    Found(String),
    /// Something is wrong with the test.
    Broken(anyhow::Error),
}

impl From<anyhow::Error> for Stop {
    fn from(error: anyhow::Error) -> Self {
        Self::Broken(error)
    }
}

struct Test {
    rig: Rig,
    operator: Operator,
    history: Arc<History>,
    random: StdRng,
    report: Report,
}

impl Test {
    async fn rounds(&mut self, rounds: u32, tell: &impl Fn(&str)) -> Result<(), Stop> {
        for round in 1..=rounds {
            let calm = self.random.random_range(CALM);
            tokio::time::sleep(calm).await;
            let victims = self.victims();
            let loss = if self.random.random_bool(0.5) { Loss::Everything } else { Loss::Torn };
            if self.random.random_bool(0.5) {
                self.rig.aim(&victims).await;
            }
            let died = self.rig.crash(&victims, loss, &mut self.random).await?;
            let line = format!("round {round} of {rounds}: killed {died}");
            tell(&line);
            self.history.note(line);
            let dead = self.random.random_range(DEAD);
            tokio::time::sleep(dead).await;
            self.rig.restart(&victims)?;
            self.history.note("restarted");
            for victim in &victims {
                match victim {
                    Server::Node(_) => self.report.nodes_killed += 1,
                    Server::Balancer(_) => self.report.balancers_killed += 1,
                }
            }
            // Now and then the next crash comes before this one is healed.
            if self.random.random_bool(0.7) || round == rounds {
                self.heal().await?;
            }
            self.report.rounds = round;
        }
        Ok(())
    }

    /// One node, two, all, or a balancer with or without one.
    fn victims(&mut self) -> Vec<Server> {
        let nodes = match self.random.random_range(0..20) {
            0..12 => 1,
            12..15 => 2,
            15..17 => 3,
            _ => 0,
        };
        let mut victims: Vec<Server> =
            Server::NODES.sample(&mut self.random, nodes).copied().collect();
        if nodes == 0 || self.random.random_bool(0.1) {
            victims.extend(Server::BALANCERS.choose(&mut self.random));
        }
        victims
    }

    /// Waits until the cluster answers a linearizable read, and records what it says.
    async fn heal(&mut self) -> Result<(), Stop> {
        let deadline = Instant::now() + HEALED_WITHIN;
        loop {
            if let Some(death) = self.rig.death() {
                return Err(Stop::Found(death));
            }
            match self.list().await {
                Ok(_) => return Ok(()),
                Err(_) if Instant::now() < deadline => {
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
                Err(why) => {
                    return Err(Stop::Found(format!(
                        "L1: no service {} s after the last crash: {why}",
                        HEALED_WITHIN.as_secs()
                    )));
                }
            }
        }
    }

    /// All seats, as one linearizable read.
    async fn list(&self) -> Result<Vec<u64>, String> {
        let attempt = self.history.invoke("operator", Op::Seats);
        match self.operator.seats(Some(PRODUCT)).await {
            Ok(reply) => {
                self.history.answer(attempt, record::listed(&reply));
                Ok(reply.seats.iter().map(|seat| seat.seat).collect())
            }
            Err(error) => {
                self.history.answer(attempt, record::not_listed(error.failure()));
                Err(error.to_string())
            }
        }
    }

    /// The hash of each node's whole ledger, of those that answer.
    async fn hashes(&self) -> BTreeMap<Server, String> {
        let mut hashes = BTreeMap::new();
        for node in Server::NODES {
            if let Ok(status) = self.operator.at(self.rig.endpoint(node)).node_status().await {
                hashes.insert(node, status.state_hash);
            }
        }
        hashes
    }

    /// With everything up and nobody asking: no seat is missing, none is too
    /// many, and the three nodes agree.
    async fn final_checks(&mut self, client: &Client, tell: &impl Fn(&str)) -> Result<(), Stop> {
        tell("waiting until the last seat is back");
        let deadline = Instant::now() + TTL_MAX + HEALED_WITHIN;
        loop {
            let seats = self.list().await.map_err(Stop::Found)?;
            if seats.is_empty() {
                break;
            }
            if Instant::now() > deadline {
                return Err(Stop::Found(format!("L5: seats {seats:?} never came back")));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        tell("filling the pool");
        self.fill(client).await?;
        tell("comparing the three states");
        // Nodes log a sign of life now and then, so states move on; but three
        // equal ledgers are soon seen equal, and unequal ones never again.
        let deadline = Instant::now() + HEALED_WITHIN;
        loop {
            let hashes = self.hashes().await;
            let distinct: BTreeSet<&String> = hashes.values().collect();
            if hashes.len() == Server::NODES.len() && distinct.len() == 1 {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(Stop::Found(format!("S18: the states stay different: {hashes:?}")));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// L7: of an empty pool exactly as many seats come out as were sold.
    async fn fill(&self, client: &Client) -> Result<(), Stop> {
        let mut seats = Vec::new();
        let refusal = loop {
            match client.acquire(PRODUCT).ttl(Duration::from_secs(30)).send().await {
                Ok(seat) if seats.len() < 2 * SEATS as usize => seats.push(seat),
                Ok(_) => return Err(Stop::Found("L7: seats come out without end".to_owned())),
                Err(error) => break error,
            }
        };
        let listed = self.list().await.map_err(Stop::Found)?;
        let refused_full = matches!(
            &refusal,
            AcquireError::Refused(failure)
                if failure.outcome == Outcome::Refused && failure.reason == Reason::NoSeatFree
        );
        if seats.len() != SEATS as usize || listed.len() != seats.len() || !refused_full {
            return Err(Stop::Found(format!(
                "L7: {} seats came out of {SEATS} and {} are listed; the next was answered: {refusal}",
                seats.len(),
                listed.len()
            )));
        }
        for seat in seats {
            seat.release().await.map_err(|error| Stop::Found(format!("L7: {error}")))?;
        }
        Ok(())
    }
}

/// What the run never reached of that which makes it worth something (LAWS.md, Sometimes).
fn thin(figures: &Figures) -> Option<&'static str> {
    let Figures { grants, full, unknown, repeats, queued_grants, renewals, live_max, .. } =
        *figures;
    [
        (grants == 0, "no seat was granted"),
        (full == 0, "the pool was never full"),
        (unknown == 0, "no call ended unknown"),
        (repeats == 0, "no grant was told twice"),
        (queued_grants == 0, "nobody was served from the queue"),
        (renewals == 0, "nothing was renewed"),
        (live_max < SEATS as usize, "the pool was never seen full"),
    ]
    .into_iter()
    .find_map(|(missing, what)| missing.then_some(what))
}
