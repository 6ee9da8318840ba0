//! Twenty crashes per engine, and the proof that they would notice a missing sync.
//!
//! Each test runs the command of the same name (`cargo crash`), which is also
//! the servers it kills, and passes on what it says.

use std::process::{Command, Output, Stdio};

use chaos_tests::skip;

const NOT_POSSIBLE: i32 = 3;

/// Runs `crash` with these arguments; `None` where it is not possible, said out loud.
fn crash(arguments: &[&str]) -> Option<Output> {
    let output = Command::new(env!("CARGO_BIN_EXE_crash"))
        .args(arguments)
        .stdin(Stdio::null())
        .output()
        .expect("the crash command");
    if output.status.code() == Some(NOT_POSSIBLE) {
        skip(&String::from_utf8_lossy(&output.stderr).trim());
        return None;
    }
    Some(output)
}

#[track_caller]
fn holds(arguments: &[&str]) {
    let Some(output) = crash(arguments) else { return };
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn nothing_is_lost_or_doubled_with_the_embedded_engine() {
    holds(&["--rounds", "20", "--engine", "embedded"]);
}

#[test]
#[cfg(feature = "rocksdb")]
fn nothing_is_lost_or_doubled_with_rocksdb() {
    holds(&["--rounds", "20", "--engine", "rocksdb"]);
}

/// To a disk a sync that is missing in the node and a sync that the disk
/// ignores look the same. A crash test that passes with it tests nothing.
#[test]
fn a_missing_sync_is_noticed() {
    let arguments = ["--rounds", "20", "--engine", "embedded", "--seed", "1", "--ignore-syncs"];
    let Some(output) = crash(&arguments) else { return };
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
}
