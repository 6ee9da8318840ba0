//! A real cluster on lossy disks: three node processes, each with its data on
//! a disk of its own, and two balancer processes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use rand::rngs::StdRng;
use trine_cli::context::{Credential, Purpose};
use trine_cli::devcluster::{DevCluster, Plan, Ports, Server};
use trine_cli::world::World;
use trine_client::observe::Observer;
use trine_client::{Client, Options};

use crate::disk::{Loss, LossyDisk};

/// How long servers may take to come up.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a sync takes: enough for a kill to fall between a write and its sync.
const SYNC_TIME: Duration = Duration::from_millis(3);
/// How long a crash may wait for a victim to be in the middle of a sync.
const AIM_MAX: Duration = Duration::from_millis(300);

/// The cluster and its disks.
pub struct Rig {
    /// Declared first, so dropped first: a disk in use cannot be unmounted.
    cluster: DevCluster,
    disks: BTreeMap<Server, LossyDisk>,
}

impl Rig {
    /// Starts a cluster in `dir` with a license of `seats` seats of `product`.
    ///
    /// `program` is a binary that understands `node` and `balancer` as `trine` does.
    ///
    /// # Errors
    /// It does not come up, or there can be no lossy disk here: then the chain
    /// holds a [`crate::disk::Unavailable`].
    pub async fn start(
        dir: &Path,
        program: PathBuf,
        engine: &str,
        product: &str,
        seats: u32,
        world: World,
    ) -> anyhow::Result<Self> {
        let plan = Plan {
            dir: dir.to_owned(),
            program,
            ports: Some(Ports::free()?),
            engine: Some(engine.to_owned()),
        };
        let cluster = DevCluster::prepare(plan, world)?;
        let mut disks = BTreeMap::new();
        for server in Server::NODES {
            let mountpoint = cluster.layout().home(server).join("data");
            std::fs::create_dir_all(&mountpoint)?;
            disks.insert(server, LossyDisk::mount(&mountpoint, SYNC_TIME)?);
        }
        let mut rig = Self { cluster, disks };
        rig.cluster.start_all()?;
        rig.cluster.until_healthy(&Server::NODES, "/livez", START_MAX).await?;
        rig.cluster.ensure_formed().await?;
        rig.cluster.until_healthy(&Server::BALANCERS, "/readyz", START_MAX).await?;
        rig.cluster.ensure_license(product, Some(seats), seats).await?;
        Ok(rig)
    }

    /// A client that goes through both balancers.
    ///
    /// # Errors
    /// Its credentials cannot be read.
    pub async fn client(
        &self,
        purpose: Purpose,
        observer: Arc<dyn Observer>,
        random: Arc<dyn trine_client::random::Random>,
    ) -> anyhow::Result<Client> {
        let target = self.cluster.target(purpose);
        let Credential::Certificate(pair) = target.credential else {
            anyhow::bail!("a development cluster's clients have certificates");
        };
        // Operators go to the nodes: a listing must not depend on a balancer that was just killed.
        let hosts = match purpose {
            Purpose::Application => target.hosts,
            Purpose::Operator => target.nodes,
        };
        let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
        let text = |path: &Path| Some(path.to_string_lossy().into_owned());
        let options = Options::from_vars(|name| match name {
            "TRINE_HOST" => Some(hosts.join(",")),
            "TRINE_CA" => text(&target.ca),
            "TRINE_CERT" => text(&pair.cert),
            "TRINE_KEY" => text(&pair.key),
            _ => None,
        })?;
        Ok(Client::connect(options.observer(observer).random(random)).await?)
    }

    /// Where a node takes operators' calls.
    pub fn endpoint(&self, node: Server) -> trine_client::Endpoint {
        trine_client::Endpoint::new("127.0.0.1", self.cluster.ports().client(node))
    }

    /// Where a server logs.
    pub fn log(&self, server: Server) -> PathBuf {
        self.cluster.layout().log(server)
    }

    /// Makes every disk lie about its syncs from now on.
    pub fn ignore_syncs(&self) {
        self.disks.values().for_each(|disk| disk.ignore_syncs(true));
    }

    /// Syncs asked for so far, of all disks.
    pub fn syncs(&self) -> u64 {
        self.disks.values().map(LossyDisk::syncs).sum()
    }

    /// Waits until one of these servers is in the middle of a sync, for a little while.
    pub async fn aim(&self, victims: &[Server]) {
        let deadline = tokio::time::Instant::now() + AIM_MAX;
        let disks: Vec<_> = victims.iter().filter_map(|victim| self.disks.get(victim)).collect();
        while !disks.iter().any(|disk| disk.is_syncing())
            && !disks.is_empty()
            && tokio::time::Instant::now() < deadline
        {
            tokio::task::yield_now().await;
        }
    }

    /// Kills these servers at the same moment and cuts the power of those that
    /// have a disk. Says in words what was lost.
    ///
    /// # Errors
    /// A process does not die or its disk cannot be mounted again.
    pub async fn crash(
        &mut self,
        victims: &[Server],
        loss: Loss,
        random: &mut StdRng,
    ) -> anyhow::Result<String> {
        let cut: Vec<_> = victims.iter().filter_map(|victim| self.disks.get(victim)).collect();
        cut.iter().for_each(|disk| disk.power_fails());
        for process in self.cluster.running().filter(|one| victims.contains(&one.server())) {
            process.signal(Signal::SIGKILL)?;
        }
        cut.iter().for_each(|disk| disk.power_off());
        let mut words = Vec::new();
        for victim in victims {
            self.cluster.kill(*victim).await?;
            let Some(disk) = self.disks.get_mut(victim) else {
                words.push(victim.to_string());
                continue;
            };
            // Its server threads need no help from this one.
            let lost = tokio::task::block_in_place(|| disk.crash(loss, random))
                .with_context(|| format!("cutting the power of {victim}"))?;
            words.push(format!(
                "{victim} (lost {} writes of {} bytes, {} torn, and {} names)",
                lost.writes, lost.bytes, lost.torn, lost.names
            ));
        }
        Ok(words.join(", "))
    }

    /// Starts these servers again.
    ///
    /// # Errors
    /// A process cannot be started.
    pub fn restart(&mut self, servers: &[Server]) -> anyhow::Result<()> {
        Ok(servers.iter().try_for_each(|server| self.cluster.start(*server))?)
    }

    /// A server that ended by itself, in words.
    pub fn death(&mut self) -> Option<String> {
        let death = self.cluster.deaths().into_iter().next()?;
        Some(death.into_failure(self.cluster.layout()).to_string())
    }

    /// Lets all servers drain.
    ///
    /// # Errors
    /// One cannot be stopped.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        Ok(self.cluster.stop_all().await?)
    }
}
