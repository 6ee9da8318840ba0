//! `trine balancer keepalived-config`: keepalived's configuration, made from the balancer's.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::{Call, Exit, Failure, read_pair};

/// Print keepalived's configuration, made from this balancer's
///
/// Run it on both balancers, each with its own configuration: the files differ
/// in address, peer and priority. VRRP version 3, unicast. The virtual IP stays
/// where it is when the other balancer comes back, unless preempt = true.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine balancer keepalived-config --config /etc/trine/balancer.toml > /etc/keepalived/keepalived.conf
  keepalived --config-test && systemctl reload keepalived")]
pub(super) struct KeepalivedConfig {
    /// The balancer's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
    /// The path of trine on the balancer's machine [default: this program's]
    #[arg(long, value_name = "PATH")]
    program: Option<PathBuf>,
}

#[derive(Serialize)]
struct Made {
    keepalived_conf: String,
}

impl KeepalivedConfig {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let pair = read_pair(&self.config)?;
        let program = match self.program {
            Some(program) => program,
            None => std::env::current_exe().map_err(|error| {
                Failure::failed(format!("this program's path is not known: {error}"))
                    .next("give it with --program")
            })?,
        };
        let config = std::path::absolute(&self.config).unwrap_or(self.config);
        for path in [&program, &config] {
            let text = path.to_string_lossy();
            if text.contains(|c: char| c.is_whitespace() || c.is_control() || c == '"') {
                return Err(Failure::usage(format!(
                    "{text:?} cannot stand in keepalived's configuration: a path without spaces and quotes can"
                )));
            }
        }
        let made = Made { keepalived_conf: pair.render(&program, &config) };
        call.console.result(&made, |page| page.line(made.keepalived_conf.trim_end()))?;
        Ok(Exit::Done)
    }
}
