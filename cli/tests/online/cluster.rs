//! Clusters for the stories: three nodes and two balancers as processes.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use serde_json::Value;
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use trine_cli::devcluster::{DevCluster, Installed, Plan, Ports, Server};
use trine_cli::world::World;

use super::caller::{Caller, PATIENCE, eventually};

/// The clocks that clusters are made with.
#[expect(clippy::disallowed_methods, reason = "a test is a process of its own and holds its clock")]
const WORLD: World = World { wall: std::time::SystemTime::now, monotonic: std::time::Instant::now };

/// A cluster that runs.
pub(crate) struct Cluster {
    runtime: Runtime,
    cluster: Mutex<DevCluster>,
    caller: Caller,
    _dir: Option<TempDir>,
}

/// The cluster of all stories that leave it as they found it.
///
/// Nobody drops it: its servers drain when this process ends, as their stdin
/// closes then. Its directory is cleared by the next run.
pub(crate) fn shared() -> &'static Cluster {
    static SHARED: LazyLock<(Cluster, File)> = LazyLock::new(|| {
        let home = Path::new(env!("CARGO_TARGET_TMPDIR"));
        // Held for the process's life: two runs at once take turns.
        let turn = File::create(home.join("online.lock")).expect("a lock file");
        turn.lock().expect("the turn");
        let dir = home.join("online");
        // What an earlier run left, if anything.
        let _ = std::fs::remove_dir_all(&dir);
        (Cluster::start(prepared(&dir), None), turn)
    });
    &SHARED.0
}

/// A development cluster that has been made, with nothing running.
pub(crate) fn prepared(dir: &Path) -> DevCluster {
    prepared_on(None, dir)
}

/// The binary that users run.
pub(crate) fn trine() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_trine"))
}

pub(crate) fn prepared_on(engine: Option<&str>, dir: &Path) -> DevCluster {
    let plan = Plan {
        dir: dir.to_owned(),
        program: trine(),
        ports: Some(Ports::free().expect("free ports")),
        engine: engine.map(str::to_owned),
    };
    DevCluster::prepare(plan, WORLD).expect("a development cluster")
}

impl Cluster {
    /// A cluster for one story alone.
    pub(crate) fn alone() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::start(prepared(&dir.path().join("cluster")), Some(dir))
    }

    /// One on this storage engine, whichever is the build's default.
    pub(crate) fn alone_on(engine: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        Self::start(prepared_on(Some(engine), &dir.path().join("cluster")), Some(dir))
    }

    /// One on the embedded engine whose nodes have these further lines under
    /// `[storage]`.
    pub(crate) fn alone_with_storage(lines: &str) -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = prepared_on(Some("embedded"), &dir.path().join("cluster"));
        for node in Server::NODES {
            let path = cluster.layout().config(node);
            let text = std::fs::read_to_string(&path).expect("its configuration");
            let text = text.replace("[storage]\n", &format!("[storage]\n{lines}"));
            std::fs::write(&path, text).expect("written back");
        }
        Self::start(cluster, Some(dir))
    }

    pub(crate) fn start(mut cluster: DevCluster, keep: Option<TempDir>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        runtime.block_on(async {
            cluster.start_all().expect("five servers");
            cluster.until_healthy(&Server::NODES, "/livez", PATIENCE).await.expect("live nodes");
            cluster.ensure_formed().await.expect("a formed cluster");
            cluster
                .until_healthy(&Server::BALANCERS, "/readyz", PATIENCE)
                .await
                .expect("ready balancers");
        });
        let context = cluster.save_context().expect("a context");
        let caller = Caller::new(cluster.layout().dir()).with("TRINE_CONTEXT", context);
        Self { runtime, cluster: Mutex::new(cluster), caller, _dir: keep }
    }

    /// Somebody who uses the cluster by its context, as the user of `trine up`.
    pub(crate) fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The cluster's processes and files.
    pub(crate) fn servers(&self) -> MutexGuard<'_, DevCluster> {
        // A story that failed holding it leaves it as it is.
        self.cluster.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a server drain, and waits until it has ended.
    pub(crate) fn stop(&self, server: Server) {
        let mut servers = self.servers();
        self.block_on(servers.stop(server)).expect("it drains");
    }

    /// Ends a server, if it runs, and starts it as `program` does, until it lives.
    pub(crate) fn restart_as(&self, server: Server, program: PathBuf) {
        let mut servers = self.servers();
        self.block_on(async {
            servers.stop(server).await.expect("it drains");
            servers.use_program(program);
            servers.start(server).expect("it starts");
            servers.use_program(trine());
            servers.until_healthy(&[server], "/livez", PATIENCE).await.expect("it lives");
        });
    }

    /// Waits for what `future` does, with the servers at hand.
    pub(crate) fn block_on<F: Future>(&self, future: F) -> F::Output {
        self.runtime.block_on(future)
    }

    /// Starts `task` beside the story.
    pub(crate) fn spawn<F>(&self, task: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        self.runtime.spawn(task)
    }

    /// Licenses `seats` seats of a product, and waits until it serves.
    pub(crate) fn license(&self, product: &str, seats: u32) -> Installed {
        let servers = self.servers();
        self.block_on(servers.ensure_license(product, Some(seats), seats)).expect("a license")
    }

    /// The id of the leading node.
    pub(crate) fn leader(&self) -> u8 {
        let leader = eventually("a leader", || {
            let output = self.caller.run(&["--json", "cluster", "status"]);
            let status: Value = serde_json::from_slice(&output.stdout).ok()?;
            status["cluster"]["leader"].as_u64()
        });
        u8::try_from(leader).expect("1 to 3")
    }

    /// Seats held of `product`, as an operator sees them.
    pub(crate) fn held(&self, product: &str) -> Vec<Value> {
        self.listed(product, "seats")
    }

    /// Requests in the queue of `product`, as an operator sees them.
    pub(crate) fn waiting(&self, product: &str) -> Vec<Value> {
        self.listed(product, "waiting")
    }

    fn listed(&self, product: &str, what: &str) -> Vec<Value> {
        self.caller.json(&["seats", product])[what].as_array().cloned().unwrap_or_default()
    }
}

/// The next issue of a license: requested, and issued by the cluster's vendor, by
/// hand as a customer does it.
pub(crate) fn issued_anew(cluster: &Cluster, product: &str, license: &str) -> PathBuf {
    let (caller, dir) = (cluster.caller(), cluster.servers().layout().dir().to_owned());
    let vendor = Caller::new(&dir.join("vendor")).with("TRINE_VENDOR_PASSPHRASE", "development");
    let (request, package) = (dir.join("again.request"), dir.join("again.license"));
    let text = |path: &Path| path.to_str().expect("a path in UTF-8").to_owned();
    let requested = caller.json(&["license", "request", "-o", &text(&request), "--force"]);
    let product_code = license.split(':').nth(1).expect("FIRM:PRODUCT:TMR");
    let ca = word(&requested, "ca_fingerprint");
    let (request, to) = (text(&request), text(&package));
    let by_hand = ["vendor", "issue", "--dir", ".", "--request", &request, "--product", product];
    let terms = ["--seats", "4", "--serial", "9", "--product-code", product_code];
    vendor.json(&[&by_hand[..], &terms, &["--ca-fingerprint", &ca, "-o", &to]].concat());
    package
}

/// The text under `key`.
#[track_caller]
pub(crate) fn word(value: &Value, key: &str) -> String {
    match &value[key] {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => panic!("{key} is {other} in {value}"),
    }
}
