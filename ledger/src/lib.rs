//! The replicated state machine: who holds which seat, as a pure function of
//! the commands so far.
//!
//! No IO, no clock, no randomness, no hash order. [`Ledger::apply`] is total
//! and deterministic: same history, same ledger, on every node.

#![forbid(unsafe_code)]

pub mod backup;
mod bearer;
mod bound;
mod calendar;
pub mod charter;
pub mod codec;
pub mod command;
pub mod counters;
pub mod event;
mod history;
mod index;
mod lease;
mod ledger;
pub mod level;
pub mod limits;
mod member;
mod memory;
pub mod name;
mod pool;
mod query;
mod queue;
pub mod reason;
mod refusal;
mod repair;
mod replacement;
mod restore;
mod revoked;
mod share;
mod state;
mod table;
pub mod time;
mod trust;
pub mod usage;
pub mod view;
mod wall;

pub use crate::codec::CodecError;
pub use crate::event::{Applied, Event};
pub use crate::ledger::Ledger;
