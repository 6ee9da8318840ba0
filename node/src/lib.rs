//! One backend server of a Trine cluster.

#![forbid(unsafe_code)]

mod acquaintance;
mod agreement;
pub mod answer;
pub mod api;
pub mod build;
mod cas;
pub mod certificates;
mod checkup;
pub mod clearance;
pub mod clock;
pub mod config;
pub mod enrollment;
pub mod entropy;
mod expiry;
pub mod formation;
mod greeting;
mod guarded;
mod handover;
pub mod health;
mod heartbeat;
pub mod host;
pub mod identity;
pub mod incoming;
pub mod node;
mod office;
pub mod peers;
mod proposer;
pub mod raft;
mod reach;
mod recall;
mod repair;
mod replace;
mod revocation;
mod roster;
pub mod serve;
pub mod service;
mod shares;
mod signing;
pub mod status;
pub mod store;
pub mod telemetry;
mod waiters;
mod walls;
mod watch;
pub mod window;
