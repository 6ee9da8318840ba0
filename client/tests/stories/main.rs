//! Stories of an application and its seats, told against a cluster in memory.

mod acquire;
mod doubt;
mod failover;
mod holding;
mod support;
mod trust;
mod waiting;
