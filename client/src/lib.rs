//! Take a seat, hold it, give it back.
//!
//! ```
//! use std::time::Duration;
//! use trine_client::{Client, Options};
//!
//! # tokio::runtime::Runtime::new()?.block_on(async {
//! # let cluster = trine_client::testing::FakeCluster::start(2).await?;
//! # cluster.sell("cad-pro", 1);
//! # #[cfg(any())]
//! let options = Options::from_env()?; // TRINE_HOST, TRINE_CA, …
//! # let options = cluster.options();
//! let client = Client::connect(options).await?;
//!
//! let seat = client.acquire("cad-pro").wait(Duration::from_secs(30)).send().await?;
//! println!("seat {} of license {}", seat.token(), seat.grant().license);
//!
//! tokio::select! {
//!     () = work() => println!("done"),
//!     standing = seat.must_stop() => println!("stop: {standing:?}"),
//! }
//! seat.release().await?;
//! # assert_eq!(cluster.seats_held("cad-pro"), 0);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! # })?;
//! # async fn work() {}
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A [`Seat`] renews itself and is given back when dropped. Ask
//! [`Seat::standing`] before, or watch [`Seat::must_stop`] while, relying on it:
//! when renewals do not get through, the application is told to stop before the
//! cluster may give the seat to another.
//!
//! # What an error says
//! A call ends in one of four ways, never mixed up: done; *refused* by the
//! ledger, with a [`Reason`]; *not done*, because it never got that far; or
//! *unknown*, when the answer was lost and patience ended before another came.
//! On any doubt the library asks again, elsewhere, with the same request id: one
//! request has one effect. An acquire that ends unknown, or whose future is
//! dropped, is withdrawn in the background.
//!
//! # What it promises
//! - One request id per acquire, however often it is sent; another only after a
//!   wrong idea of cluster time, when the first is refused or withdrawn for certain.
//! - No call outlives its patience (and wait) by more than one try.
//! - At most two connections per server address, 100 calls held open, and 4,096
//!   seats being given back in the background.
//! - Time, randomness and connections are handed in ([`Options`]); Tokio's timers
//!   are used for sleeping only.
//!
//! # Testing an application
//! With the feature `testing`, [`testing::FakeCluster`] is a cluster in memory
//! that runs out of seats, revokes them and loses its quorum on demand.
#![forbid(unsafe_code)]

mod acquire;
mod admission;
mod client;
pub mod clock;
pub mod connect;
mod connection;
mod core;
pub mod endpoints;
mod error;
pub mod hold;
mod identity;
mod lease;
pub mod observe;
mod operator;
mod options;
mod patience;
pub mod random;
pub mod retry;
mod seat;
#[cfg(feature = "testing")]
pub mod testing;
mod time;

pub use acquire::Acquire;
pub use client::Client;
pub use endpoints::Endpoint;
pub use error::{AcquireError, CallError, Failure, Outcome, Reason};
pub use lease::{Grant, InvalidRequest, LeaseId, LogPlace, Place, Renewal};
pub use operator::{AtNode, Operator};
pub use options::{Options, OptionsError};
pub use seat::{Loss, Seat, Standing, Ticket};
