//! One server of a development cluster, as a process.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::layout::{Layout, Server};
use crate::failure::Failure;

/// How long a server may take to drain before it is killed.
const DRAIN_MAX: Duration = Duration::from_secs(20);

/// A running server.
///
/// It stops when its parent dies: its stdin is a pipe, and it drains when that
/// closes.
#[derive(Debug)]
pub struct Process {
    server: Server,
    pid: Pid,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `program` as `server`, which logs to its own file.
    pub fn start(program: &Path, layout: &Layout, server: Server) -> Result<Self, Failure> {
        let log = layout.log(server);
        let output = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&log)
            .map_err(|error| Failure::writing("log", &log, &error))?;
        let errors = output.try_clone().map_err(|error| Failure::writing("log", &log, &error))?;
        let cannot_start = |error: &dyn std::fmt::Display| {
            Failure::failed(format!("cannot start {server} ({}): {error}", program.display()))
        };
        let child = Command::new(program)
            .arg(server.verb())
            .arg("--config")
            .arg(layout.config(server))
            .arg("--while-stdin-open")
            .stdin(Stdio::piped())
            .stdout(output)
            .stderr(errors)
            // A Ctrl-C is for `up`, which stops its servers in order.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| cannot_start(&error))?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| cannot_start(&"it has no process id"))?;
        Ok(Self { server, pid, child, log })
    }

    /// Which server it is.
    pub fn server(&self) -> Server {
        self.server
    }

    /// Its process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Where it logs.
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// Sends it a signal. A process that has ended is no error.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // Not yet reaped, so the id cannot have become another's.
        match self.child.id() {
            Some(_) => kill(self.pid, signal).map_err(io::Error::from),
            None => Ok(()),
        }
    }

    /// How it ended, if it has.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// Waits until it ends.
    pub async fn wait(&mut self) -> io::Result<ExitStatus> {
        // `Child::wait` would close stdin and so ask the server to stop.
        let stdin = self.child.stdin.take();
        let status = self.child.wait().await;
        self.child.stdin = stdin;
        status
    }

    /// Lets it drain (SIGTERM); kills it if that takes more than 20 s.
    pub async fn stop(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGTERM)?;
        match tokio::time::timeout(DRAIN_MAX, self.wait()).await {
            Ok(status) => status,
            Err(_) => self.kill().await,
        }
    }

    /// Kills it without warning (SIGKILL) and waits until it is gone.
    pub async fn kill(mut self) -> io::Result<ExitStatus> {
        self.signal(Signal::SIGKILL)?;
        self.wait().await
    }

    /// The last lines of its log, to show why it ended.
    pub fn last_words(&self) -> String {
        const LINES: usize = 5;
        let text = std::fs::read(&self.log).unwrap_or_default();
        let tail = &text[text.len().saturating_sub(4_096)..];
        let text = String::from_utf8_lossy(tail).into_owned();
        let lines: Vec<&str> = text.lines().collect();
        lines[lines.len().saturating_sub(LINES)..].join("\n")
    }
}

/// An exit status in words.
pub fn in_words(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit code {code}"),
        (None, Some(number)) => match Signal::try_from(number) {
            Ok(signal) => format!("was killed by {signal}"),
            Err(_) => format!("was killed by signal {number}"),
        },
        (None, None) => "ended".to_owned(),
    }
}
