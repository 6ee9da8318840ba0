//! One seed, one world. Everything else the simulator finds depends on this.

use std::process::Command;

/// What a seed shows, played in a process of its own.
fn trace(arguments: &[&str]) -> String {
    let played = Command::new(env!("CARGO_BIN_EXE_world"))
        .args(arguments)
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "{arguments:?}: {said}");
    String::from_utf8(played.stdout).expect("text")
}

/// Plays the same twice and returns what it showed.
fn twice(arguments: &[&str]) -> String {
    let (first, second) = (trace(arguments), trace(arguments));
    assert!(first.lines().count() > 200, "{arguments:?} tells something");
    let differ = first.lines().zip(second.lines()).find(|(one, other)| one != other);
    assert_eq!(differ, None, "{arguments:?} was played twice and differs first here");
    assert!(first == second, "{arguments:?} was played twice, and once for longer");
    first
}

/// Two processes play the same seed: crashes, elections, lost writes, every
/// request id, every answer, the microsecond of each and the hash of every
/// ledger are the same, byte for byte. Another seed is another world, or this
/// would prove nothing.
#[test]
fn one_seed_has_one_trace() {
    let worlds = ["1", "2"].map(|seed| twice(&["--rehearsal", "--seed", seed]));
    assert_ne!(worlds[0], worlds[1]);
}

/// The same of bad weather: clocks, disks, lines and machines full of clients.
#[test]
fn one_seed_has_one_weather() {
    let worlds = ["4", "11"].map(|seed| twice(&["--seed", seed, "--seconds", "40", "--trace"]));
    assert_ne!(worlds[0], worlds[1]);
}
