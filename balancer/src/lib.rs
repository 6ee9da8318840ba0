//! A door in front of three nodes: moves bytes to the leader, holds no keys and
//! no state.
//!
//! TLS runs through it from client to node, so a balancer can deny or delay but
//! never read, grant or forge. [`topology`] decides where a connection goes,
//! from what probes found; the rest carries that out. Listeners and connector
//! are handed in, time is tokio's and every `select!` is biased, so a simulator
//! runs this same code and the same seed gives the same run.
#![forbid(unsafe_code)]

mod board;
pub mod config;
mod health;
pub mod keepalived;
pub mod net;
pub mod pair;
mod probe;
mod proxy;
mod serve;
mod telemetry;
pub mod topology;

pub use serve::{Parts, ServeError, run};
