//! `trine run`: a program that runs while a seat is held.

mod program;

use std::ffi::OsString;
use std::time::Duration;

use clap::Args;
use nix::sys::signal::Signal;
use tokio::time::Instant;
use trine_client::{Loss, Seat, Standing};

use self::program::{Program, Signals};
use super::Call;
use super::acquire::{self, SETTLE_MAX, Wish};
use crate::console::Console;
use crate::context::Purpose;
use crate::dates::parse_duration;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// Hold a seat while a program runs
///
/// Takes a seat, keeps it renewed, runs the program, and gives the seat back
/// whatever way the program ends. If the seat is lost, the program is asked to
/// end (SIGTERM) and, after a grace, made to (SIGKILL).
///
/// The program finds in its environment: TRINE_PRODUCT, TRINE_LICENSE,
/// TRINE_TOKEN (the seat's number, which rises with every grant),
/// TRINE_FEATURE_MAP and TRINE_FEATURE_TEXT.
///
/// SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1 and SIGUSR2 are passed on. On a
/// terminal the program is in the foreground as if it had been started alone:
/// Ctrl-C reaches it from the terminal, once. Without a terminal it gets a
/// process group of its own, and signals go to the whole group. Should `trine`
/// itself be killed with SIGKILL, the program goes on and the seat ends by its
/// time to live.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine run cad-pro -- ./render scene.cad
  trine run cad-pro --wait 10m -- ./nightly-build.sh
  trine run cad-pro --ttl 5m --grace 30s -- ./solver --save-on-term
  trine run cad-pro -- sh -c 'echo seat $TRINE_TOKEN'

The exit code is the program's, or 128 + signal; 3 or 4 when the seat was lost;
2, 3, 4 or 5 when no seat was taken and the program did not run.")]
pub struct Run {
    /// The product
    product: String,
    #[command(flatten)]
    wish: Wish,
    /// How long the program may take to end after the seat is lost
    #[arg(long, default_value = "10s", value_name = "TIME", value_parser = parse_duration)]
    grace: Duration,
    /// The program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

impl Run {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Application).await?;
            // Caught from before the seat is taken: from then on nothing may
            // end this process without giving it back.
            let mut signals = Signals::catch()?;
            let holder = self.wish.holder.clone().unwrap_or_else(|| self.holder());
            let wish = &self.wish;
            let seat =
                acquire::take(&connection, call.console, &self.product, wish, &holder, |seat| seat)
                    .await?;
            let ended = self.while_held(&seat, &mut signals, call.console).await;
            give_back(seat, call.console).await;
            ended
        })
    }

    async fn while_held(
        &self,
        seat: &Seat,
        signals: &mut Signals,
        console: Console,
    ) -> Result<Exit, Failure> {
        let mut program = Program::start(&self.command, seat.grant())?;
        let mut standings = seat.watch();
        let mut loss: Option<(Failure, Instant)> = None;
        let mut killed = false;
        let status = loop {
            let grace_over = loss.as_ref().map(|(_, at)| *at);
            tokio::select! {
                status = program.wait() => break status?,
                signal = signals.next() => program.pass_on(signal),
                standing = seat.must_stop(), if loss.is_none() => {
                    let failure = lost(&self.product, &standing);
                    console.note(format_args!("trine: {failure}; asking the program to end"));
                    program.signal(Signal::SIGTERM);
                    loss = Some((failure, Instant::now() + self.grace));
                }
                () = until(grace_over), if !killed => {
                    console.note("trine: the grace is over; killing the program");
                    program.signal(Signal::SIGKILL);
                    killed = true;
                }
                Ok(()) = standings.changed(), if loss.is_none() => {
                    if let Standing::AtRisk { why, .. } = &*standings.borrow_and_update() {
                        console.note(format_args!("trine: the seat is not renewed ({}); still trying", why.message));
                    }
                }
            }
        };
        match loss {
            Some((failure, _)) => Err(failure),
            None => Ok(program::exit_of(status)),
        }
    }

    /// `user@host: program`, cut to what the protocol takes.
    fn holder(&self) -> String {
        let program = self.command.first().map(|word| word.to_string_lossy()).unwrap_or_default();
        let mut holder = format!("{}: {program}", acquire::default_holder());
        while holder.len() > 128 {
            holder.pop();
        }
        holder
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn lost(product: &str, standing: &Standing) -> Failure {
    match standing {
        Standing::Lost(loss @ (Loss::Revoked(why) | Loss::Ended(why))) => {
            Failure::refused(why.reason.as_str(), format!("the seat of {product} is lost: {loss}"))
        }
        Standing::Overdue { why: Some(why) } => Failure::unreachable(
            why.reason.as_str(),
            format!("the seat of {product} could not be renewed in time: {}", why.message),
        ),
        _ => Failure::unreachable(
            "NO_ANSWER",
            format!("the seat of {product} could not be renewed in time"),
        ),
    }
}

async fn give_back(seat: Seat, console: Console) {
    let token = seat.token();
    if matches!(seat.standing(), Standing::Lost(_)) {
        return;
    }
    let released = tokio::time::timeout(SETTLE_MAX, seat.release()).await;
    if !matches!(released, Ok(Ok(()))) {
        console.note(format_args!("trine: giving back seat {token} was not confirmed; it ends by its time to live at the latest"));
    }
}
