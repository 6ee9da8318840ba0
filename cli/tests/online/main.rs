//! Stories of real processes: the binary that users run, against a cluster of
//! that same binary.
//!
//! Friendly stories share one cluster, each with a product of its own
//! ([`cluster::shared`]); those that stop servers have their own.

mod amnesia;
mod backup;
mod caller;
mod certificates;
mod clock;
mod cluster;
mod disk;
mod doctor;
mod enroll;
mod findings;
mod history;
mod hosts;
mod identity;
mod interrupted;
mod leadership;
mod licenses;
#[path = "../upgrade/load.rs"]
mod load;
mod newcomer;
mod otherhost;
mod outage;
mod program;
mod replace;
mod restore;
mod rogue;
mod seats;
mod servers;
mod startup;
mod trust;
mod up;
mod usage;
mod vendor;
mod walls;
mod wrong_clock;
