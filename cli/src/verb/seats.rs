//! `trine seats`: who holds what since when until when.

use clap::{Args, Subcommand};
use serde::Serialize;
use wire::v1;

use super::Call;
use crate::console::{Cell, Page, Tone};
use crate::context::Purpose;
use crate::dates::show_millis;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{self, Connection};

/// List who holds seats and who waits for them, or revoke a seat
///
/// A seat is named by its token. Operators see who holds it, as whom, since when
/// and until when; never the lease id, which is its holder's alone.
#[derive(Debug, Args)]
#[command(
    args_conflicts_with_subcommands = true,
    after_help = "\
Examples:
  trine seats
  trine seats cad-pro
  trine seats revoke 42
  trine --json seats | jq '.seats[] | select(.holder | startswith(\"ci-\"))'"
)]
pub struct Seats {
    /// Only this product
    product: Option<String>,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    Revoke(Revoke),
}

/// End a seat's renewal: it is free when its holder lets go, or at its deadline
///
/// Recorded in the ledger with the operator's name. The holder is told at its
/// next renewal and may use the seat until the deadline it was granted, so no
/// seat is ever sold twice.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine seats revoke 42")]
struct Revoke {
    /// The seat's number, as `trine seats` shows it
    seat: u64,
}

/// `trine seats --json`
#[derive(Debug, Serialize)]
struct Listed {
    /// Cluster time of the listing, in milliseconds.
    as_of_ms: u64,
    /// Seats that are held.
    seats: Vec<Seat>,
    /// Requests in the queues.
    waiting: Vec<Waiter>,
}

#[derive(Debug, Serialize)]
struct Seat {
    /// The seat's number: its fencing token.
    seat: u64,
    /// The product.
    product: String,
    /// The holder's word for itself.
    holder: String,
    /// Who it is, as its certificate or token proved.
    subject: String,
    /// When it was granted, in cluster time (milliseconds).
    since_ms: u64,
    /// Until when without renewal, in cluster time (milliseconds).
    until_ms: u64,
    /// The license it is charged to.
    license: String,
    /// Who revoked it, or null.
    revoked_by: Option<String>,
}

#[derive(Debug, Serialize)]
struct Waiter {
    /// The product.
    product: String,
    /// 1 is the head.
    position: u32,
    /// Its word for itself.
    holder: String,
    /// Who it is.
    subject: String,
    /// Since when, in cluster time (milliseconds).
    since_ms: u64,
    /// Until when at most, in cluster time (milliseconds).
    until_ms: u64,
}

/// `trine seats revoke --json`
#[derive(Debug, Serialize)]
struct Revoked {
    /// The seat.
    seat: u64,
    /// Always true.
    revoked: bool,
}

impl Seats {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Operator).await?;
            match self.action {
                Some(Action::Revoke(revoke)) => revoke.run(call, &connection).await,
                None => list(call, &connection, self.product.as_deref()).await,
            }
        })
    }
}

impl Revoke {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let revoked = connection.operator().revoke(self.seat).await;
        revoked.map_err(|error| connection.failed(&error))?;
        let revoked = Revoked { seat: self.seat, revoked: true };
        call.console.result(&revoked, |page| {
            page.line(format_args!(
                "Seat {} is not renewed any more; it ends at its deadline at the latest",
                revoked.seat
            ));
        })?;
        Ok(Exit::Done)
    }
}

async fn list(
    call: &Call,
    connection: &Connection,
    product: Option<&str>,
) -> Result<Exit, Failure> {
    let listed = connection.operator().seats(product).await;
    let listed = Listed::from(listed.map_err(|error| connection.unread(&error))?);
    call.console.result(&listed, |page| listed.show(page))?;
    Ok(Exit::Done)
}

impl From<v1::SeatsReply> for Listed {
    fn from(reply: v1::SeatsReply) -> Self {
        let seat = |seat: v1::Seat| Seat {
            seat: seat.seat,
            product: seat.product,
            holder: seat.holder,
            subject: seat.subject,
            since_ms: seat.since_ms,
            until_ms: seat.until_ms,
            license: seat.license,
            revoked_by: Some(seat.revoked_by).filter(|by| !by.is_empty()),
        };
        let waiter = |waiter: v1::Waiter| Waiter {
            product: waiter.product,
            position: waiter.position,
            holder: waiter.holder,
            subject: waiter.subject,
            since_ms: waiter.since_ms,
            until_ms: waiter.until_ms,
        };
        Self {
            as_of_ms: reply.as_of.map_or(0, |as_of| as_of.stamp_ms),
            seats: reply.seats.into_iter().map(seat).collect(),
            waiting: reply.waiters.into_iter().map(waiter).collect(),
        }
    }
}

impl Listed {
    fn show(&self, page: &mut Page) {
        let ago = |ms: u64| {
            format!("{} ago", show_millis(whole_seconds(self.as_of_ms.saturating_sub(ms))))
        };
        let ahead = |ms: u64| {
            format!("in {}", show_millis(whole_seconds(ms.saturating_sub(self.as_of_ms))))
        };
        if self.seats.is_empty() {
            page.line("No seats are held.");
        } else {
            let rows = self.seats.iter().map(|seat| {
                let until = match &seat.revoked_by {
                    Some(by) => Cell::toned(
                        Tone::Warning,
                        format!("{}, revoked by {by}", ahead(seat.until_ms)),
                    ),
                    None => ahead(seat.until_ms).into(),
                };
                vec![
                    Cell::from(seat.seat.to_string()),
                    seat.product.clone().into(),
                    seat.holder.clone().into(),
                    seat.subject.clone().into(),
                    ago(seat.since_ms).into(),
                    until,
                    seat.license.clone().into(),
                ]
            });
            page.table(
                &[
                    "seat",
                    "product",
                    "holder",
                    "subject",
                    "since",
                    "ends unless renewed",
                    "license",
                ],
                rows,
            );
        }
        if !self.waiting.is_empty() {
            let rows = self.waiting.iter().map(|waiter| {
                vec![
                    waiter.product.clone(),
                    waiter.position.to_string(),
                    waiter.holder.clone(),
                    waiter.subject.clone(),
                    ago(waiter.since_ms),
                    ahead(waiter.until_ms),
                ]
            });
            page.line("");
            page.table(&["waits for", "place", "holder", "subject", "since", "gives up"], rows);
        }
    }
}

fn whole_seconds(millis: u64) -> u64 {
    millis / 1_000 * 1_000
}
