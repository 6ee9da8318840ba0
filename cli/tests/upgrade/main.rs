//! Two real builds in one cluster (S22): this one, and the next one, which is
//! made from this tree with one more feature level.
//!
//! A program of its own, so that nothing else is timed while it compiles.

#[allow(dead_code, reason = "the stories next door use the rest")]
#[path = "../online/caller.rs"]
mod caller;
#[allow(dead_code, reason = "the stories next door use the rest")]
#[path = "../online/cluster.rs"]
mod cluster;
#[allow(dead_code, reason = "the stories next door use the rest")]
#[path = "../online/findings.rs"]
mod findings;
mod load;
mod next;
mod rolling;
