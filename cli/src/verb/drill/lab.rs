//! The lab, `deploy/lab/lab`: how a drill breaks it, and what it sees of it.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;
use tokio::process::Command;

use crate::devcluster::health;
use crate::failure::Failure;

/// The lab's files, so that an installed `trine` has them too.
const SCRIPT: &str = include_str!("../../../../deploy/lab/lab");
const WRONG_CLOCK: &str = include_str!("../../../../deploy/lab/wrongclock.c");

/// The product its license is for, and the seats of it.
pub(super) const PRODUCT: &str = "lab";
pub(super) const SEATS: usize = 40;

/// A host of the lab with a server on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Host {
    Node(u8),
    Balancer(u8),
}

impl Host {
    pub(super) const NODES: [Self; 3] = [Self::Node(1), Self::Node(2), Self::Node(3)];
    pub(super) const BALANCERS: [Self; 2] = [Self::Balancer(1), Self::Balancer(2)];

    /// Its health listener, as the script's addresses have it.
    fn health(self) -> SocketAddr {
        match self {
            Self::Node(number) => (Ipv4Addr::new(10, 77, 0, 10 + number), 22452).into(),
            Self::Balancer(number) => (Ipv4Addr::new(10, 77, 0, 20 + number), 22453).into(),
        }
    }
}

impl fmt::Display for Host {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(number) => write!(f, "node-{number}"),
            Self::Balancer(number) => write!(f, "balancer-{number}"),
        }
    }
}

/// The script in a directory of its own, for as long as this lives.
#[derive(Debug)]
pub(super) struct Script {
    dir: tempfile::TempDir,
}

impl Script {
    pub(super) fn unpack() -> Result<Self, Failure> {
        use std::os::unix::fs::PermissionsExt as _;
        let failed = |error: std::io::Error| {
            Failure::failed(format!("cannot write the lab's script: {error}"))
        };
        let dir = tempfile::Builder::new().prefix("trine-lab-").tempdir().map_err(failed)?;
        let script = Self { dir };
        std::fs::write(script.dir.path().join("wrongclock.c"), WRONG_CLOCK).map_err(failed)?;
        std::fs::write(script.path(), SCRIPT).map_err(failed)?;
        let mode = std::fs::Permissions::from_mode(0o700);
        std::fs::set_permissions(script.path(), mode).map_err(failed)?;
        Ok(script)
    }

    pub(super) fn path(&self) -> PathBuf {
        self.dir.path().join("lab")
    }
}

/// The lab, worked through its script.
#[derive(Debug, Clone)]
pub(super) struct Lab {
    script: PathBuf,
}

impl Lab {
    pub(super) fn of(script: PathBuf) -> Self {
        Self { script }
    }

    /// Runs one of the script's verbs; what it says on the way goes to stderr.
    pub(super) async fn run(&self, words: &[&str]) -> Result<(), Failure> {
        self.ended(words, self.command(words)).await
    }

    /// The same, with the program whose servers it is to run.
    pub(super) async fn run_as(&self, words: &[&str], program: &Path) -> Result<(), Failure> {
        let mut command = self.command(words);
        command.env("TRINE", program);
        self.ended(words, command).await
    }

    async fn ended(&self, words: &[&str], mut command: Command) -> Result<(), Failure> {
        let ended = command.status().await;
        let ended = ended.map_err(|error| self.broken(words, &error.to_string()))?;
        if ended.success() { Ok(()) } else { Err(self.broken(words, &ended.to_string())) }
    }

    /// Whether a lab is up.
    pub(super) async fn is_up(&self) -> bool {
        let mut command = self.command(&["status"]);
        command.stdout(Stdio::null()).stderr(Stdio::null());
        command.status().await.is_ok_and(|ended| ended.success())
    }

    /// A command of the script, to be run by the caller.
    pub(super) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(&self.script);
        command.args(words).stdin(Stdio::null()).kill_on_drop(true);
        command
    }

    fn broken(&self, words: &[&str], how: &str) -> Failure {
        Failure::failed(format!("`lab {}` failed: {how}", words.join(" ")))
    }

    pub(super) async fn signal(&self, host: Host, signal: &str) -> Result<(), Failure> {
        self.run(&["signal", &host.to_string(), signal]).await
    }

    pub(super) async fn start(&self, host: Host) -> Result<(), Failure> {
        self.run(&["start", &host.to_string()]).await
    }

    pub(super) async fn stop(&self, host: Host) -> Result<(), Failure> {
        self.run(&["stop", &host.to_string()]).await
    }

    /// Whether a host's server runs.
    pub(super) async fn runs(&self, host: Host) -> bool {
        let mut command = self.command(&["signal", &host.to_string(), "0"]);
        command.stderr(Stdio::null());
        command.status().await.is_ok_and(|ended| ended.success())
    }

    /// The node that says it leads, if exactly one does.
    pub(super) async fn leader(&self) -> Option<Host> {
        let mut leaders = Vec::new();
        for node in Host::NODES {
            let says = ask(node, "/leader").await;
            if says.is_some_and(|says| says["role"] == "leader" && says["ready"] == true) {
                leaders.push(node);
            }
        }
        if let [leader] = leaders[..] { Some(leader) } else { None }
    }

    /// The balancer that holds the virtual IP, if exactly one does.
    pub(super) async fn master(&self) -> Option<Host> {
        let mut masters = Vec::new();
        for balancer in Host::BALANCERS {
            let says = ask(balancer, "/status").await;
            if says.is_some_and(|says| says["standing"] == "master") {
                masters.push(balancer);
            }
        }
        if let [master] = masters[..] { Some(master) } else { None }
    }

    /// What is still missing to a whole installation; `None` when nothing is.
    pub(super) async fn unwell(&self) -> Option<String> {
        for node in Host::NODES {
            match health::get_at(node.health(), "/readyz").await {
                Some(answer) if answer.status == 200 => {}
                Some(answer) => return Some(format!("{node}: {}", answer.body.trim())),
                None => return Some(format!("{node} does not answer")),
            }
        }
        for balancer in Host::BALANCERS {
            let Some(says) = ask(balancer, "/status").await else {
                return Some(format!("{balancer} does not answer"));
            };
            let up = says["nodes"].as_array().into_iter().flatten();
            if up.filter(|node| node["state"] == "up").count() < Host::NODES.len() {
                return Some(format!("{balancer} does not see all nodes"));
            }
        }
        if self.leader().await.is_none() {
            return Some("no leader".to_owned());
        }
        match self.master().await {
            Some(_) => None,
            None => Some("the virtual IP is not on exactly one balancer".to_owned()),
        }
    }
}

async fn ask(host: Host, path: &str) -> Option<Value> {
    let answer = health::get_at(host.health(), path).await?;
    serde_json::from_str(&answer.body).ok()
}
