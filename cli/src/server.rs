//! What both kinds of server need around them: flags, a runtime, logs on stderr,
//! and an end.

use std::io::{IsTerminal, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use serde::Serialize;
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::Notify;
use tracing_subscriber::EnvFilter;

use crate::console::{Page, Tone};
use crate::context::environment;
use crate::failure::Failure;

/// The flags of every server.
#[derive(Debug, Args)]
pub struct ServerArgs {
    /// The configuration; deploy/ has an example that explains every key
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
    /// Check the configuration and what it names, say what is wrong, and exit
    #[arg(long)]
    pub check: bool,
    /// End when stdin does: for a parent that starts servers
    #[arg(long, hide = true)]
    pub while_stdin_open: bool,
}

/// `trine node --check --json`, and `trine balancer --check --json`
#[derive(Debug, Serialize)]
pub struct Checked {
    /// The configuration file.
    config: PathBuf,
    /// Always true: a wrong one is an error with exit code 2.
    valid: bool,
    /// Of a node: where the certificate of its container is to be and is not. The
    /// node starts without it, and is not let into a cluster.
    #[serde(skip_serializing_if = "Option::is_none")]
    not_enrolled: Option<PathBuf>,
}

impl Checked {
    pub fn of(config: &Path) -> Self {
        Self { config: config.to_owned(), valid: true, not_enrolled: None }
    }

    /// The same of a node whose container's certificate belongs at `certificate`.
    pub fn of_node(config: &Path, certificate: &Path) -> Self {
        let not_enrolled = (!certificate.is_file()).then(|| certificate.to_owned());
        Self { not_enrolled, ..Self::of(config) }
    }

    pub fn show(&self, page: &mut Page) {
        page.line(format_args!("{} is valid", self.config.display()));
        if let Some(certificate) = &self.not_enrolled {
            let line = format!(
                "The node is not enrolled: there is no certificate of its container at {}. It \
                 starts, and belongs to no cluster before it has one: `trine node enroll --config {}`",
                certificate.display(),
                self.config.display()
            );
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
    }
}

/// The runtime of a server: as many threads as the machine has cores.
pub fn runtime() -> Result<Runtime, Failure> {
    Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))
}

/// How a server logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogStyle<'a> {
    /// `error`, `warn`, `info`, `debug` or `trace`.
    pub level: &'a str,
    /// One JSON object per event instead of a line for people.
    pub json: bool,
}

/// Sends the process's logs to stderr from now on.
pub fn log_to_stderr(style: LogStyle<'_>) -> Result<(), Failure> {
    // Below trace, libraries are heard only when something is wrong: their
    // info is about themselves, not about seats.
    let directives = match style.level {
        "trace" => "trace".to_owned(),
        level => format!("warn,balancer={level},node={level},trine_cli={level}"),
    };
    let filter = EnvFilter::try_new(&directives)
        .map_err(|error| Failure::usage(format!("log level {:?}: {error}", style.level)))?;
    let color = std::io::stderr().is_terminal() && environment("NO_COLOR").is_none();
    let logs = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = if style.json {
        logs.json().flatten_event(true).try_init()
    } else {
        logs.with_ansi(color).try_init()
    };
    started.map_err(|error| Failure::failed(format!("cannot start logging: {error}")))
}

/// Listens for the wish to end.
#[derive(Debug)]
pub struct Ending {
    terminate: Signal,
    interrupt: Signal,
    stdin_closed: Option<tokio::sync::oneshot::Receiver<()>>,
}

impl Ending {
    /// Catches SIGTERM and SIGINT; with `while_stdin_open` also waits for the
    /// end of stdin, by which a server notices that its parent died.
    pub fn listen(while_stdin_open: bool) -> Result<Self, Failure> {
        let catch = |kind| {
            signal(kind).map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
        };
        Ok(Self {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
            stdin_closed: while_stdin_open.then(stdin_closed),
        })
    }

    /// Waits for the first wish to end, after which the server drains. A second
    /// one ends the process at once.
    pub async fn wanted(mut self) {
        let first = self.next().await;
        tracing::info!(cause = first.0, "draining; a second signal ends at once");
        tokio::spawn(async move {
            self.stdin_closed = None;
            let (cause, code) = self.next().await;
            tracing::warn!(cause, "ending at once, without draining");
            std::process::exit(code);
        });
    }

    /// The cause, and the exit code of a process that it ends.
    async fn next(&mut self) -> (&'static str, i32) {
        let stdin_closed = async {
            match &mut self.stdin_closed {
                // An error means that the reader ended, which it does with stdin.
                Some(closed) => drop(closed.await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => ("SIGTERM", 128 + 15),
            _ = self.interrupt.recv() => ("SIGINT", 128 + 2),
            () = stdin_closed => ("stdin closed", 1),
        }
    }
}

/// Told of every SIGHUP, by which operators and service managers ask a server
/// to read again what it reads. It ends no server: without this it would.
pub fn reload_wishes() -> Result<Arc<Notify>, Failure> {
    let mut hangups = signal(SignalKind::hangup())
        .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))?;
    let wishes = Arc::new(Notify::new());
    let told = wishes.clone();
    tokio::spawn(async move {
        while hangups.recv().await.is_some() {
            told.notify_one();
        }
    });
    Ok(wishes)
}

/// Resolves at the end of stdin. A thread of its own reads it: the runtime
/// could not shut down before a blocking read of its own returns.
fn stdin_closed() -> tokio::sync::oneshot::Receiver<()> {
    let (closed, receiver) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        let mut ignored = [0; 256];
        while matches!(stdin.read(&mut ignored), Ok(read) if read > 0) {}
        // Nobody waits any more: the server is ending already.
        let _ = closed.send(());
    });
    receiver
}
