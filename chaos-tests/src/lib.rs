//! Tests that break things: disks that forget, processes that die, and an
//! oracle that says from what the clients saw whether a law was broken.

#![forbid(unsafe_code)]

pub mod crash;
pub mod disk;
pub mod history;
pub mod laws;
pub mod linear;
pub mod model;
pub mod mutants;
pub mod oracle;
pub mod record;
pub mod rig;
pub mod sets;
pub mod timeline;
pub mod workload;
pub mod world;

/// Says on the terminal that a test cannot run here, past the test runner's capture.
///
/// With `TRINE_NO_SKIP` set, as CI sets it where the test must run, this panics.
pub fn skip(reason: &dyn std::fmt::Display) {
    use std::io::Write as _;
    let test = std::thread::current().name().unwrap_or("test").to_owned();
    assert!(std::env::var_os("TRINE_NO_SKIP").is_none(), "{test} must not be skipped: {reason}");
    // A terminal that cannot be written to is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED {test}: {reason}");
}
