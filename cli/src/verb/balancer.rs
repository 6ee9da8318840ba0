//! `trine balancer`: one balancer in the foreground.

use std::net::SocketAddr;

use balancer::Parts;
use balancer::net::{TcpConnector, TcpIncoming};
use clap::Args;
use tokio::net::TcpListener;

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
/// SIGINT lets connections finish; a second signal ends at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine balancer --config /etc/trine/balancer.toml --check
  trine balancer --config /etc/trine/balancer.toml")]
pub struct Balancer {
    #[command(flatten)]
    server: ServerArgs,
}

impl Balancer {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let bytes = files::read("configuration", &self.server.config, 1 << 20)?;
        let text = String::from_utf8_lossy(&bytes);
        let config = balancer::config::Config::parse(&text).map_err(|error| {
            Failure::usage(format!("{}: {error}", self.server.config.display()))
        })?;
        if self.server.check {
            let checked = Checked::of(&self.server.config);
            call.console.result(&checked, |page| checked.show(page))?;
            return Ok(Exit::Done);
        }
        server::log_to_stderr(LogStyle { level: "info", json: call.console.json() })?;
        let runtime = server::runtime()?;
        runtime.block_on(async {
            let ending = Ending::listen(self.server.while_stdin_open)?;
            let parts = Parts {
                clients: TcpIncoming(listen("listen", config.listen).await?),
                health: TcpIncoming(listen("health", config.health).await?),
                connector: TcpConnector { source: config.source },
            };
            balancer::run(config, parts, ending.wanted()).await.map_err(Failure::failed)
        })?;
        Ok(Exit::Done)
    }
}

/// Listens at an address of the configuration; `key` names it in a failure.
async fn listen(key: &str, address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::failed(format!("cannot listen on {key} = {address}: {error}"))
            .next("stop what uses the port, or change the configuration")
    })
}
