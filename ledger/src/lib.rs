//! The replicated state machine: who holds which seat, as a pure function of
//! the commands so far.
//!
//! No IO, no clock, no randomness, no hash order. [`Ledger::apply`] is total
//! and deterministic: same history, same ledger, on every node.

#![forbid(unsafe_code)]

pub mod codec;
pub mod command;
pub mod event;
mod ledger;
pub mod limits;
pub mod name;
pub mod time;
pub mod view;

pub use crate::codec::CodecError;
pub use crate::event::{Applied, Event};
pub use crate::ledger::Ledger;
