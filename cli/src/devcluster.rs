//! A development cluster: three nodes and two balancers as processes on
//! loopback, with their certificates, a vendor and licenses.
//!
//! `trine up`, `trine demo` and the crash tests stand on it. Not for
//! production: one machine, one user, and a vendor whose keys lie beside it.

mod bootstrap;
pub mod health;
pub mod layout;
pub mod process;

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions, TryLockError};
use std::io::{Read, Seek, Write};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::time::Duration;

use license::product::FirmCode;

pub use bootstrap::Installed;
pub use layout::{Layout, Made, Ports, Server};
pub use process::Process;

use crate::context::{self, ContextFile, Credential, Pair, Purpose, Target};
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::vendor_dir::VendorDir;
use crate::verb::pki::{self, Certificate};
use crate::world::World;

/// The development vendor's name.
const VENDOR: &str = "Development Vendor";
/// Its firm code, from the range that CodeMeter sets aside for evaluation.
const FIRM: FirmCode = FirmCode(6_000_010);
/// The passphrase of its keys, which guard nothing.
const PASSPHRASE: &str = "development";
/// How long certificates of a development cluster are valid.
const CERTIFICATE_DAYS: u32 = 3_650;
/// Who the client context speaks for.
const APPLICATION: &str = "developer";
/// And who it operates as.
const OPERATOR: &str = "developer";

/// What a development cluster is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Where it keeps everything; made if it is not there.
    pub dir: PathBuf,
    /// The `trine` binary to run.
    pub program: PathBuf,
    /// Its ports. `None` takes those it was made with, or for a new one those
    /// from [`wire::CLIENT_PORT`] on.
    pub ports: Option<Ports>,
    /// Its engine, `embedded` or `rocksdb`. `None` takes the one it was made
    /// with, or for a new one the build's default.
    pub engine: Option<String>,
}

/// A server that ended by itself.
#[derive(Debug)]
pub struct Death {
    /// Which.
    pub server: Server,
    /// Its process id.
    pub pid: i32,
    /// How.
    pub status: ExitStatus,
    /// The last lines of its log.
    pub last_words: String,
}

/// A development cluster, with the servers of it that run.
///
/// Dropping it kills what still runs; [`DevCluster::stop_all`] lets it drain.
#[derive(Debug)]
pub struct DevCluster {
    layout: Layout,
    made: Made,
    program: PathBuf,
    world: World,
    running: BTreeMap<Server, Process>,
    _lock: File,
}

impl DevCluster {
    /// Makes what is missing of it, and starts nothing.
    pub fn prepare(plan: Plan, world: World) -> Result<Self, Failure> {
        files::private_dir("directory", &plan.dir)?;
        let dir = plan
            .dir
            .canonicalize()
            .map_err(|error| Failure::reading("directory", &plan.dir, &error))?;
        let layout = Layout::new(dir);
        let lock = lock(&layout)?;
        let made = made(&layout, &plan)?;
        if let Some((port, whose)) = made.ports.taken() {
            return Err(Failure::failed(format!(
                "port {port} for {whose} is in use by another program"
            ))
            .next(format!(
                "stop that program, or start a cluster elsewhere: trine up --dir OTHER --port {}",
                other_base(port)
            )));
        }
        make_certificates(&layout, &world)?;
        make_vendor(&layout)?;
        layout.write_configs(&made)?;
        Ok(Self {
            layout,
            made,
            program: plan.program,
            world,
            running: BTreeMap::new(),
            _lock: lock,
        })
    }

    /// Where it keeps what.
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// Its ports.
    pub fn ports(&self) -> &Ports {
        &self.made.ports
    }

    /// The engine of its nodes.
    pub fn engine(&self) -> &str {
        &self.made.engine
    }

    /// The servers that run, as far as is known.
    pub fn running(&self) -> impl Iterator<Item = &Process> {
        self.running.values()
    }

    /// From now on servers are started with another build of `trine`.
    pub fn use_program(&mut self, program: PathBuf) {
        self.program = program;
    }

    /// Starts a server that does not run.
    pub fn start(&mut self, server: Server) -> Result<(), Failure> {
        let process = Process::start(&self.program, &self.layout, server)?;
        self.running.insert(server, process);
        Ok(())
    }

    /// Starts all five.
    pub fn start_all(&mut self) -> Result<(), Failure> {
        Server::all().try_for_each(|server| self.start(server))
    }

    /// Lets a server drain, and waits until it has ended.
    pub async fn stop(&mut self, server: Server) -> Result<(), Failure> {
        let Some(process) = self.running.remove(&server) else { return Ok(()) };
        process.stop().await.map(drop).map_err(|error| cannot_end(server, &error))
    }

    /// Kills a server without warning, and waits until it is gone.
    pub async fn kill(&mut self, server: Server) -> Result<(), Failure> {
        let Some(process) = self.running.remove(&server) else { return Ok(()) };
        process.kill().await.map(drop).map_err(|error| cannot_end(server, &error))
    }

    /// Lets all drain: the balancers first, so that no client loses its way.
    pub async fn stop_all(&mut self) -> Result<(), Failure> {
        for group in [&Server::BALANCERS[..], &Server::NODES[..]] {
            let ending = group.iter().filter_map(|server| self.running.remove(server));
            let ending = ending.map(|process| async move {
                let server = process.server();
                process.stop().await.map_err(|error| cannot_end(server, &error))
            });
            for ended in futures_util::future::join_all(ending).await {
                ended?;
            }
        }
        Ok(())
    }

    /// The servers that ended by themselves since this was asked last.
    pub fn deaths(&mut self) -> Vec<Death> {
        let mut deaths = Vec::new();
        self.running.retain(|server, process| {
            let Some(status) = process.ended() else { return true };
            let (pid, last_words) = (process.pid(), process.last_words());
            deaths.push(Death { server: *server, pid, status, last_words });
            false
        });
        deaths
    }

    /// Waits until these servers answer 200 at `path` of their health listener,
    /// such as `/livez` or `/readyz`. A server that ends meanwhile is a failure.
    pub async fn until_healthy(
        &mut self,
        servers: &[Server],
        path: &str,
        patience: Duration,
    ) -> Result<(), Failure> {
        let deadline = tokio::time::Instant::now() + patience;
        for server in servers {
            loop {
                let answer = health::get(self.made.ports.health(*server), path).await;
                if answer.as_ref().is_some_and(|answer| answer.status == 200) {
                    break;
                }
                if let Some(death) = self.deaths().into_iter().next() {
                    return Err(death.into_failure(&self.layout));
                }
                if tokio::time::Instant::now() >= deadline {
                    let said = answer.map_or_else(|| "nothing".to_owned(), |answer| answer.body);
                    return Err(Failure::unreachable(
                        "NOT_READY",
                        format!(
                            "{server} is not healthy after {}: {path} says {}",
                            humantime::format_duration(patience),
                            said.trim()
                        ),
                    )
                    .next(format!("see {}", self.layout.log(*server).display())));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
        Ok(())
    }

    /// How clients reach it: through both balancers.
    pub fn target(&self, purpose: Purpose) -> Target {
        let endpoint =
            |server| trine_client::Endpoint::new("127.0.0.1", self.made.ports.client(server));
        let pair = match purpose {
            Purpose::Application => self.pair(&Certificate::Application(APPLICATION.to_owned())),
            Purpose::Operator => self.pair(&Certificate::Operator(OPERATOR.to_owned())),
        };
        Target {
            hosts: Server::BALANCERS.map(endpoint).to_vec(),
            nodes: Server::NODES.map(endpoint).to_vec(),
            ca: self.layout.pki().join("ca.pem"),
            credential: Credential::Certificate(pair),
            development: Some(self.layout.dir().to_owned()),
        }
    }

    /// Writes the client context and makes it the current one, unless the user
    /// keeps one of their own there. Gives the path to name in that case.
    pub fn write_context(&self) -> Result<Option<PathBuf>, Failure> {
        let path = self.save_context()?;
        let text = self.context_text()?;
        let Some(current) = context::default_path(&context::environment) else {
            return Ok(Some(path));
        };
        let ours = !current.exists()
            || context::load(&current).is_ok_and(|context| context.development.is_some());
        if !ours {
            return Ok(Some(path));
        }
        if let Some(dir) = current.parent() {
            files::private_dir("configuration directory", dir)?;
        }
        files::write("context", &current, text.as_bytes(), Access::Shared, Existing::Replace)?;
        Ok(None)
    }

    /// Writes the client context beside the cluster, for `--context` and
    /// TRINE_CONTEXT to name. Gives its path.
    pub fn save_context(&self) -> Result<PathBuf, Failure> {
        let path = self.layout.context();
        let text = self.context_text()?;
        files::write("context", &path, text.as_bytes(), Access::Shared, Existing::Replace)?;
        Ok(path)
    }

    fn context_text(&self) -> Result<String, Failure> {
        let target = self.target(Purpose::Application);
        let names = |endpoints: &[trine_client::Endpoint]| {
            endpoints.iter().map(ToString::to_string).collect()
        };
        let context = ContextFile {
            hosts: names(&target.hosts),
            nodes: names(&target.nodes),
            ca: Some(target.ca),
            token_file: None,
            development: target.development,
            application: Some(self.pair(&Certificate::Application(APPLICATION.to_owned()))),
            operator: Some(self.pair(&Certificate::Operator(OPERATOR.to_owned()))),
        };
        let body = toml::to_string(&context)
            .map_err(|error| Failure::failed(format!("the context does not encode: {error}")))?;
        Ok(format!("# Written by `trine up`: how clients reach the development cluster.\n{body}"))
    }

    fn pair(&self, certificate: &Certificate) -> Pair {
        let stem = self.layout.pki().join(certificate.file_stem());
        Pair { cert: with_ending(&stem, "pem"), key: with_ending(&stem, "key") }
    }
}

impl Death {
    /// As the failure of whoever needed the server.
    pub fn into_failure(self, layout: &Layout) -> Failure {
        let Self { server, status, last_words, .. } = self;
        Failure::failed(format!("{server} {}:\n{last_words}", process::in_words(status)))
            .next(format!("its log is {}", layout.log(server).display()))
    }
}

fn cannot_end(server: Server, error: &std::io::Error) -> Failure {
    Failure::failed(format!("cannot end {server}: {error}"))
}

/// Another base to try, well away from a port in use.
fn other_base(port: u16) -> u16 {
    match port.checked_add(1_000) {
        Some(base) if base <= u16::MAX - Ports::SPAN => base,
        _ => 22_950,
    }
}

/// One cluster per directory at a time.
fn lock(layout: &Layout) -> Result<File, Failure> {
    let path = layout.lock();
    let wrong = |error: &std::io::Error| Failure::writing("lock", &path, error);
    let mut file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .read(true)
        .write(true)
        .open(&path)
        .map_err(|error| wrong(&error))?;
    match file.try_lock() {
        Ok(()) => {
            let pid = format!("{}\n", std::process::id());
            file.set_len(0)
                .and_then(|()| file.write_all(pid.as_bytes()))
                .map_err(|error| wrong(&error))?;
            Ok(file)
        }
        Err(TryLockError::WouldBlock) => {
            let mut pid = String::new();
            let read = file.rewind().and_then(|()| file.read_to_string(&mut pid));
            let pid = read.map_or_else(|_| "unknown".to_owned(), |_| pid.trim().to_owned());
            Err(Failure::failed(format!(
                "the development cluster in {} is already up (process {pid})",
                layout.dir().display()
            ))
            .next("use it from here, stop it with Ctrl-C there, or name another with --dir and --port"))
        }
        Err(TryLockError::Error(error)) => Err(wrong(&error)),
    }
}

/// What the directory was made with; written down first when it is new.
fn made(layout: &Layout, plan: &Plan) -> Result<Made, Failure> {
    let path = layout.made();
    if !path.exists() {
        let default = node::store::EngineKind::default().name();
        let made = Made {
            format: Made::FORMAT,
            engine: plan.engine.clone().unwrap_or_else(|| default.to_owned()),
            ports: plan.ports.unwrap_or_else(|| Ports::from_base(wire::CLIENT_PORT)),
        };
        let text = toml::to_string(&made)
            .map_err(|error| Failure::failed(format!("the layout does not encode: {error}")))?;
        files::write("layout", &path, text.as_bytes(), Access::Shared, Existing::Keep)?;
        return Ok(made);
    }
    let bytes = files::read("layout", &path, 1 << 20)?;
    let made: Made = toml::from_str(&String::from_utf8_lossy(&bytes))
        .ok()
        .filter(|made: &Made| made.format == Made::FORMAT)
        .ok_or_else(|| {
            Failure::usage(format!("{} is not of this version of trine", path.display()))
                .next("name another directory with --dir, or remove this one")
        })?;
    let other = |what: &str| {
        Failure::usage(format!(
            "the development cluster in {} was made with {what}, which it keeps",
            layout.dir().display()
        ))
        .next("leave the flag out, or name another directory with --dir")
    };
    if plan.ports.is_some_and(|ports| ports != made.ports) {
        return Err(other(&format!("ports from {}", made.ports.client(Server::Balancer(1)))));
    }
    if plan.engine.as_ref().is_some_and(|engine| *engine != made.engine) {
        return Err(other(&format!("the {} engine", made.engine)));
    }
    Ok(made)
}

fn make_certificates(layout: &Layout, world: &World) -> Result<(), Failure> {
    let dir = layout.pki();
    // What exists without its certificate is the rest of an interrupted start.
    let anew = Existing::Replace;
    let authority = if dir.join("ca.pem").exists() {
        pki::open_authority(&dir)?
    } else {
        pki::create_authority(&dir, "Trine development CA", CERTIFICATE_DAYS, anew, world)?
    };
    let nodes = (1..=3).map(|id| Certificate::Node { id, hosts: Vec::new() });
    let clients = [
        Certificate::Application(APPLICATION.to_owned()),
        Certificate::Operator(OPERATOR.to_owned()),
    ];
    for certificate in nodes.chain(clients) {
        if !with_ending(&dir.join(certificate.file_stem()), "pem").exists() {
            pki::issue(&authority, &dir, &certificate, CERTIFICATE_DAYS, anew, world)?;
        }
    }
    Ok(())
}

fn make_vendor(layout: &Layout) -> Result<(), Failure> {
    let vendor = VendorDir::new(layout.vendor());
    if vendor.root_file().exists() {
        return Ok(());
    }
    vendor.create(VENDOR, FIRM, PASSPHRASE, Existing::Replace).map(drop)
}

/// A name may hold dots, so the ending is added and replaces nothing.
fn with_ending(stem: &Path, ending: &str) -> PathBuf {
    let mut name = stem.as_os_str().to_owned();
    name.push(format!(".{ending}"));
    PathBuf::from(name)
}
