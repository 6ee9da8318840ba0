//! One backend server of a Trine cluster.

#![forbid(unsafe_code)]

pub mod raft;
pub mod store;
