//! `trine balancer check`: keepalived's health script. Cheap and strict.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::net::TcpStream;

use super::{Call, Exit, Failure, read};
use crate::devcluster::health;

/// Below keepalived's own timeout of one second.
const ANSWER_WAIT_MAX: Duration = Duration::from_millis(800);

/// Say by the exit code whether the balancer on this machine answers
///
/// keepalived runs it every second. It asks whether the process answers and
/// takes connections, not whether nodes are up: with no quorum somebody must
/// still answer, and how many nodes are seen goes into the priority by itself.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine balancer check --config /etc/trine/balancer.toml && echo it answers")]
pub(super) struct Check {
    /// The balancer's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

#[derive(Serialize)]
struct Answers {
    /// Always true: otherwise it is an error with exit code 4.
    answers: bool,
}

impl Check {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let config = read(&self.config)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
        let (door, health) = (local(config.listen), local(config.health));
        let asked = async {
            match health::get_at(health, "/livez").await {
                Some(answer) if answer.status == 200 => {}
                Some(answer) => return Err(format!("{health} answers {}", answer.status)),
                None => return Err(format!("nobody answers at {health}")),
            }
            TcpStream::connect(door).await.map(drop).map_err(|error| format!("{door}: {error}"))
        };
        let answered = runtime.block_on(async {
            tokio::time::timeout(ANSWER_WAIT_MAX, asked)
                .await
                .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WAIT_MAX:?}")))
        });
        answered.map_err(|why| {
            Failure::unreachable("no_answer", format!("the balancer does not answer: {why}"))
        })?;
        call.console
            .result(&Answers { answers: true }, |page| page.line("the balancer answers"))?;
        Ok(Exit::Done)
    }
}

/// Where a listener on all addresses is reached from its own machine.
fn local(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address.ip() {
            IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}
