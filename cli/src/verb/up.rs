//! `trine up`: a development cluster that stays until Ctrl-C.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use tokio::time::Instant;

use super::Call;
use crate::console::{Console, Page, Tone};
use crate::context::environment;
use crate::devcluster::{Death, DevCluster, Plan, Ports, Server, process};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report;

/// Start a development cluster, until Ctrl-C
///
/// Three nodes and two balancers as processes on this machine's loopback, with
/// certificates, a development vendor and a license for the product `demo`. The
/// other commands find it at once in another terminal. Started again, it goes on
/// with its data. For development only: one machine is one point of failure, and
/// the vendor's keys lie beside the cluster.
///
/// A server that dies is started again after five seconds, so that a failover
/// can be watched: kill one by the process id shown.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine up
  trine up --seats 3
  trine up --dir /tmp/second --port 23450
  trine run demo -- sleep 60        (in another terminal)
  trine cluster status")]
pub struct Up {
    /// Where it keeps everything [default: trine/dev in the user's data directory]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// First of the 33 loopback ports it may use [default: 22450]
    #[arg(long, value_name = "BASE", value_parser = clap::value_parser!(u16).range(1..=(u16::MAX - Ports::SPAN) as i64))]
    port: Option<u16>,
    /// Seats of the product `demo` [default: 50, or as it is]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    seats: Option<u32>,
    /// Storage engine: embedded, or rocksdb in builds that have it
    #[arg(long)]
    engine: Option<String>,
}

/// The product that every development cluster has a license for.
pub const PRODUCT: &str = "demo";
/// Its seats, unless told otherwise.
const SEATS_DEFAULT: u32 = 50;
/// How long a cluster may take to come up.
const START_MAX: Duration = Duration::from_secs(30);
/// How long a server stays dead before it is started again.
const RESTART_AFTER: Duration = Duration::from_secs(5);
/// A server that died so often in a row, each time this soon, is left alone.
const DEATHS_MAX: u32 = 3;
const SOON: Duration = Duration::from_secs(10);

/// `trine up --json`, printed once when the cluster is ready.
#[derive(Debug, Serialize)]
struct Ready {
    /// Where it keeps everything.
    dir: PathBuf,
    /// 131-…
    virtual_container: String,
    /// The product with a license.
    product: String,
    /// Its seats.
    seats: u64,
    /// The servers to ask, as `--host` takes them.
    hosts: Vec<String>,
    /// The storage engine of its nodes.
    engine: String,
    /// The client context; null when it is the current one already.
    context: Option<PathBuf>,
    /// The five processes.
    servers: Vec<Running>,
}

#[derive(Debug, Serialize)]
struct Running {
    /// node-1 to node-3, balancer-1, balancer-2.
    server: String,
    /// Its process.
    pid: i32,
    /// Where it takes clients.
    client: String,
    /// Where it tells its health and metrics.
    health: String,
    /// Where it logs.
    log: PathBuf,
}

impl Up {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let dir = match &self.dir {
            Some(dir) => dir.clone(),
            None => default_dir()?,
        };
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("cannot find this program's own file: {error}"))
        })?;
        let ports = self.port.map(Ports::from_base);
        let plan = Plan { dir, program, ports, engine: self.engine.clone() };
        crate::online::runtime()?.block_on(self.stay_up(plan, call))
    }

    async fn stay_up(&self, plan: Plan, call: &Call) -> Result<Exit, Failure> {
        let console = call.console;
        let mut cluster = DevCluster::prepare(plan, call.world)?;
        let mut interrupt = catch(SignalKind::interrupt())?;
        let mut terminate = catch(SignalKind::terminate())?;
        console.note(format_args!(
            "Starting a development cluster in {}",
            cluster.layout().dir().display()
        ));
        let ended = tokio::select! {
            ended = self.serve(&mut cluster, console) => ended,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        console.note("Stopping: balancers, then nodes");
        let stopped = tokio::select! {
            stopped = cluster.stop_all() => stopped,
            // A second signal: what still runs is killed when it is dropped.
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        };
        ended.and(stopped)?;
        Ok(Exit::Done)
    }

    async fn serve(&self, cluster: &mut DevCluster, console: Console) -> Result<(), Failure> {
        cluster.start_all()?;
        cluster.until_healthy(&Server::NODES, "/livez", START_MAX).await?;
        let formed = cluster.ensure_formed().await?;
        cluster.until_healthy(&Server::BALANCERS, "/readyz", START_MAX).await?;
        let installed = cluster.ensure_license(PRODUCT, self.seats, SEATS_DEFAULT).await?;
        let ready = Ready {
            dir: cluster.layout().dir().to_owned(),
            virtual_container: formed,
            product: installed.product,
            seats: installed.seats,
            hosts: Server::BALANCERS.map(|server| address(cluster.ports().client(server))).to_vec(),
            engine: cluster.engine().to_owned(),
            context: cluster.write_context()?,
            servers: running(cluster),
        };
        console.result(&ready, |page| show(&ready, page))?;
        keep_alive(cluster, console).await
    }
}

/// Watches the servers for ever, and starts again those that die.
async fn keep_alive(cluster: &mut DevCluster, console: Console) -> Result<(), Failure> {
    let mut record: BTreeMap<Server, (Instant, u32)> = BTreeMap::new();
    let mut dead: Vec<(Instant, Server)> = Vec::new();
    let mut look = tokio::time::interval(Duration::from_millis(250));
    loop {
        let now = look.tick().await;
        for death in cluster.deaths() {
            let (started, deaths) = record.get(&death.server).copied().unwrap_or((now, 0));
            let soon = deaths > 0 && now.duration_since(started) < SOON;
            let deaths = if soon { deaths + 1 } else { 1 };
            record.insert(death.server, (started, deaths));
            console.note(obituary(&death, deaths, &cluster.layout().log(death.server)));
            if deaths < DEATHS_MAX {
                dead.push((now + RESTART_AFTER, death.server));
            }
        }
        let due: Vec<Server> =
            dead.extract_if(.., |(at, _)| *at <= now).map(|(_, server)| server).collect();
        for server in due {
            cluster.start(server)?;
            record.entry(server).and_modify(|(started, _)| *started = now);
            let pid = cluster
                .running()
                .find(|process| process.server() == server)
                .map(process::Process::pid);
            console.note(format_args!(
                "{server} is started again, process {}",
                pid.unwrap_or_default()
            ));
        }
    }
}

fn obituary(death: &Death, deaths: u32, log: &Path) -> String {
    let Death { server, pid, status, .. } = death;
    let what = format!("{server} (process {pid}) {}", process::in_words(*status));
    if deaths >= DEATHS_MAX {
        return format!(
            "{what}, {deaths} times in a row; it stays down. Its log is {}",
            log.display()
        );
    }
    format!("{what}; it is started again in {} s", RESTART_AFTER.as_secs())
}

fn catch(kind: SignalKind) -> Result<tokio::signal::unix::Signal, Failure> {
    signal(kind).map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
}

/// `trine/dev` in the user's data directory.
pub fn default_dir() -> Result<PathBuf, Failure> {
    let home = || environment("HOME").map(|home| Path::new(&home).join(".local").join("share"));
    let data = environment("XDG_DATA_HOME").map(PathBuf::from).or_else(home);
    data.map(|data| data.join("trine").join("dev")).ok_or_else(|| {
        Failure::usage("neither XDG_DATA_HOME nor HOME is set, so there is no usual place")
            .next("name a directory with --dir")
    })
}

fn address(port: u16) -> String {
    format!("127.0.0.1:{port}")
}

fn running(cluster: &DevCluster) -> Vec<Running> {
    let ports = cluster.ports();
    cluster
        .running()
        .map(|process| Running {
            server: process.server().to_string(),
            pid: process.pid(),
            client: address(ports.client(process.server())),
            health: address(ports.health(process.server())),
            log: process.log().to_owned(),
        })
        .collect()
}

fn show(ready: &Ready, page: &mut Page) {
    let title = page.tone(Tone::Strong, "A development cluster is up. Not for production.");
    page.line(title);
    page.facts(&[
        ("container", ready.virtual_container.clone()),
        ("license", format!("{} of {}", report::seats(ready.seats), ready.product)),
        ("engine", ready.engine.clone()),
        ("data", ready.dir.display().to_string()),
    ]);
    let rows = ready.servers.iter().map(|server| {
        vec![
            server.server.clone(),
            server.pid.to_string(),
            server.client.clone(),
            server.health.clone(),
            server.log.display().to_string(),
        ]
    });
    page.table(&["server", "pid", "clients", "health", "log"], rows);
    page.line("In another terminal:");
    if let Some(context) = &ready.context {
        page.line(format_args!("  export TRINE_CONTEXT={}", context.display()));
    }
    page.line("  trine cluster status");
    page.line(format_args!("  trine run {} -- sleep 60", ready.product));
    page.line("  trine seats");
    page.line("Ctrl-C stops it; `trine up` goes on with its data.");
}
