//! `trine balancer`: one balancer in the foreground, and its dealings with keepalived.

mod check;
mod guard;
mod keepalived_config;

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use balancer::Parts;
use balancer::config::Config;
use balancer::keepalived::Keepalived;
use balancer::net::{TcpConnector, TcpIncoming};
use balancer::pair::Pair;
use clap::{Args, Subcommand};
use nix::sys::stat::Mode;
use tokio::net::TcpListener;
use tokio::net::unix::pipe;

use super::Call;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::server::{self, Checked, Ending, LogStyle, ServerArgs};

/// Run one balancer in the foreground
///
/// A balancer takes connections from applications and operators and moves their
/// bytes to the node that leads. TLS runs end to end, so it holds no keys and no
/// state and can neither read nor forge a grant. It logs to stderr. SIGTERM or
/// SIGINT lets connections finish; a second signal ends at once. There is nothing
/// to read again, so SIGHUP changes nothing.
///
/// Two balancers share a virtual IP by keepalived: give both a [keepalived]
/// table and make keepalived's own configuration from it.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true,
    after_help = "\
Examples:
  trine balancer --config /etc/trine/balancer.toml --check
  trine balancer --config /etc/trine/balancer.toml
  trine balancer keepalived-config --config /etc/trine/balancer.toml > /etc/keepalived/keepalived.conf
  trine balancer check --config /etc/trine/balancer.toml"
)]
pub struct Balancer {
    #[command(flatten)]
    server: Option<ServerArgs>,
    #[command(subcommand)]
    verb: Option<Verb>,
}

#[derive(Debug, Subcommand)]
enum Verb {
    KeepalivedConfig(keepalived_config::KeepalivedConfig),
    Check(check::Check),
    #[command(hide = true)]
    Guard(guard::Guard),
}

impl Balancer {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        match (self.verb, self.server) {
            (Some(Verb::KeepalivedConfig(verb)), _) => verb.run(call),
            (Some(Verb::Check(verb)), _) => verb.run(call),
            (Some(Verb::Guard(verb)), _) => verb.run(),
            (None, Some(server)) => serve(server, call),
            (None, None) => Err(Failure::usage("say which configuration: --config FILE")),
        }
    }
}

fn serve(server: ServerArgs, call: &Call) -> Result<Exit, Failure> {
    let config = read(&server.config)?;
    if server.check {
        let checked = Checked::of(&server.config);
        call.console.result(&checked, |page| checked.show(page))?;
        return Ok(Exit::Done);
    }
    server::log_to_stderr(LogStyle { level: "info", json: call.console.json() })?;
    let runtime = server::runtime()?;
    runtime.block_on(async {
        let ending = Ending::listen(server.while_stdin_open)?;
        let wishes = server::reload_wishes()?;
        tokio::spawn(async move {
            loop {
                wishes.notified().await;
                tracing::info!(
                    "a balancer reads nothing again: restart it to use a changed configuration"
                );
            }
        });
        let clients = TcpIncoming(listen("listen", config.listen).await?);
        let health = TcpIncoming(listen("health", config.health).await?);
        let connector = TcpConnector { source: config.source };
        let pair = config.keepalived.as_ref().map(pair).transpose()?;
        // Ends with this process, however that ends, and says so to keepalived.
        let _guard = config.keepalived.as_ref().map(guard::start).transpose()?;
        let parts = Parts { clients, health, connector, pair };
        balancer::run(config, parts, ending.wanted()).await.map_err(Failure::failed)
    })?;
    Ok(Exit::Done)
}

/// The balancer's configuration in `file`.
fn read(file: &Path) -> Result<Config, Failure> {
    let bytes = files::read("configuration", file, 1 << 20)?;
    Config::parse(&String::from_utf8_lossy(&bytes))
        .map_err(|error| Failure::usage(format!("{}: {error}", file.display())))
}

/// The `[keepalived]` table of the configuration in `file`.
fn read_pair(file: &Path) -> Result<Keepalived, Failure> {
    read(file)?.keepalived.ok_or_else(|| {
        Failure::usage(format!("{} has no [keepalived] table", file.display()))
            .next("deploy/balancer.example.toml explains its keys")
    })
}

/// Opens the way to keepalived and back.
fn pair(config: &Keepalived) -> Result<Pair, Failure> {
    let fifo = &config.notify_fifo;
    let failed = |error: io::Error| {
        Failure::failed(format!("the notify FIFO {}: {error}", fifo.display())).next(
            "make its directory, writable for the balancer's user (RuntimeDirectory= in the unit)",
        )
    };
    match nix::unistd::mkfifo(fifo, Mode::S_IRUSR | Mode::S_IWUSR) {
        // keepalived made it first, or an earlier balancer.
        Ok(()) | Err(nix::errno::Errno::EEXIST) => {}
        Err(error) => return Err(failed(error.into())),
    }
    // Opened for writing too, so that it does not end when keepalived closes it.
    let notices = pipe::OpenOptions::new().read_write(true).open_receiver(fifo).map_err(failed)?;
    let track_file = config.track_file.clone();
    let tell = move |weight: i32| fs::write(&track_file, format!("{weight}\n"));
    Ok(Pair { notices: Box::new(notices), tell: Box::new(tell) })
}

/// Listens at an address of the configuration; `key` names it in a failure.
async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {key} = {address}: {error}"))
            .next("stop what uses the port, or change the configuration")
    })
}
