//! `trine acquire`: one seat by hand.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::signal::unix::{SignalKind, signal};
use trine_client::{LeaseId, Place, Seat};

use super::Call;
use crate::console::{Console, Tone};
use crate::context::Purpose;
use crate::dates::{parse_duration, show_millis};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// Take one seat by hand
///
/// Prints the lease id and the token, which renew and release it. The seat ends
/// by itself when its time to live is over, so renew it before that, or let
/// `trine run` do so. With --wait the request joins a fair queue when all seats
/// are taken; its place is shown on stderr, survives a failover, and Ctrl-C
/// gives it up.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine acquire cad-pro
  trine acquire cad-pro --ttl 10m --holder \"night build\"
  trine acquire cad-pro --wait 30s
  trine --json acquire cad-pro | jq -r '.lease, .token'

A request that may have been lost can be sent again with the same id: repeat
everything, --id and --not-after too, and the answer is the same grant.")]
pub struct Acquire {
    /// The product
    product: String,
    #[command(flatten)]
    wish: Wish,
    /// Name the lease yourself: 32 hexadecimal digits, random and never reused
    #[arg(long, value_name = "HEX")]
    id: Option<LeaseId>,
    /// Cluster time in milliseconds after which the request must have no effect
    #[arg(long, value_name = "MS", requires = "id")]
    not_after: Option<u64>,
}

/// How a seat is wanted; `trine run` takes the same flags.
#[derive(Debug, Args)]
pub(super) struct Wish {
    /// How long the seat lives without renewal: 1s to 24h
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    ttl: Duration,
    /// Wait so long in the queue when all seats are taken: up to a day
    #[arg(long, value_name = "TIME", value_parser = parse_duration)]
    wait: Option<Duration>,
    /// Your word for who holds it, shown to operators [default: user@host]
    #[arg(long, value_name = "NAME")]
    pub(super) holder: Option<String>,
    /// The product version that will run: MAJOR or MAJOR.MINOR
    #[arg(long, value_name = "VERSION")]
    version: Option<String>,
}

/// `trine acquire --json`
#[derive(Debug, Serialize)]
struct Acquired {
    /// The lease: 32 hexadecimal digits. Keep it to yourself.
    lease: String,
    /// The fencing token; names the seat to operators.
    token: u64,
    /// The product.
    product: String,
    /// The license it was charged to: FIRM:PRODUCT:TMR
    license: String,
    /// How long it lived from the grant on, in milliseconds.
    ttl_ms: u64,
    /// Until when, in cluster time (milliseconds).
    deadline_ms: u64,
    /// Where in history it was granted: EPOCH.INDEX.POSITION
    log_id: String,
    /// What the license switches on: 32 bits.
    feature_map: u32,
    /// What else it tells the application.
    feature_text: String,
}

impl Acquire {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Application).await?;
            let holder = self.wish.holder.clone().unwrap_or_else(default_holder);
            let seat =
                take(&connection, call.console, &self.product, &self.wish, &holder, |request| {
                    let request = match self.id {
                        Some(id) => request.id(id),
                        None => request,
                    };
                    match self.not_after {
                        Some(not_after) => request.not_after_ms(not_after),
                        None => request,
                    }
                })
                .await?;
            let acquired = Acquired::of(&seat);
            // It outlives this process: that is what `acquire` is for.
            let _ = seat.detach();
            call.console.result(&acquired, |page| {
                let title = format!("Seat {} of {}", acquired.token, acquired.product);
                let title = page.tone(Tone::Good, &title);
                page.line(title);
                page.facts(&[
                    ("lease", acquired.lease.clone()),
                    ("token", acquired.token.to_string()),
                    ("lives", format!("{} unless renewed", show_millis(acquired.ttl_ms))),
                    ("license", acquired.license.clone()),
                ]);
                page.line(format_args!(
                    "trine renew {0} --token {1}\ntrine release {0} --token {1}",
                    acquired.lease, acquired.token
                ));
            })?;
            Ok(Exit::Done)
        })
    }
}

impl Acquired {
    fn of(seat: &Seat) -> Self {
        let grant = seat.grant();
        Self {
            lease: grant.lease.to_string(),
            token: grant.token,
            product: grant.product.clone(),
            license: grant.license.clone(),
            ttl_ms: grant.deadline_ms.saturating_sub(grant.at.stamp_ms),
            deadline_ms: grant.deadline_ms,
            log_id: grant.at.to_string(),
            feature_map: grant.feature_map,
            feature_text: grant.feature_text.clone(),
        }
    }
}

/// Takes a seat, showing the place while it waits. A signal gives it up.
pub(super) async fn take(
    connection: &Connection,
    console: Console,
    product: &str,
    wish: &Wish,
    holder: &str,
    adapt: impl FnOnce(trine_client::Acquire) -> trine_client::Acquire,
) -> Result<Seat, Failure> {
    let catch = |kind| {
        signal(kind).map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
    };
    let (mut interrupt, mut terminate) =
        (catch(SignalKind::interrupt())?, catch(SignalKind::terminate())?);
    let (mut hang_up, mut quit) = (catch(SignalKind::hangup())?, catch(SignalKind::quit())?);
    let mut request = connection.client.acquire(product).ttl(wish.ttl).holder(holder);
    if let Some(version) = &wish.version {
        request = request.version(version);
    }
    if let Some(wait) = wish.wait {
        request = request.wait(wait).on_place(move |place| show_place(console, place));
    }
    let given_up = tokio::select! {
        taken = adapt(request).send() => {
            return match taken {
                Ok(seat) => Ok(seat),
                Err(error) => {
                    // An unknown outcome is being withdrawn; give that a chance.
                    connection.client.settle(SETTLE_MAX).await;
                    Err(connection.not_acquired(&error))
                }
            };
        }
        _ = interrupt.recv() => SignalKind::interrupt(),
        _ = terminate.recv() => SignalKind::terminate(),
        _ = hang_up.recv() => SignalKind::hangup(),
        _ = quit.recv() => SignalKind::quit(),
    };
    let withdrawn = connection.client.settle(SETTLE_MAX).await;
    Err(Failure::signalled(
        given_up.as_raw_value(),
        if withdrawn {
            "given up: the request is withdrawn and no seat is held"
        } else {
            "given up; withdrawing the request was not confirmed, so a seat may be held until its time to live is over"
        },
    ))
}

/// How long a command waits at its end for releases and withdrawals in the background.
pub(super) const SETTLE_MAX: Duration = Duration::from_secs(5);

fn show_place(console: Console, place: Place) {
    if console.json() {
        let (position, length) = (place.position, place.length);
        console.note(serde_json::json!({ "waiting": { "position": position, "length": length } }));
    } else {
        console.note(format_args!("Waiting: place {} of {}", place.position, place.length));
    }
}

/// `user@host`, as far as they are known.
pub(super) fn default_holder() -> String {
    let user = crate::context::environment("USER").map(|user| user.to_string_lossy().into_owned());
    let host = nix::unistd::gethostname().map(|host| host.to_string_lossy().into_owned());
    format!("{}@{}", user.as_deref().unwrap_or("someone"), host.as_deref().unwrap_or("somewhere"))
}
