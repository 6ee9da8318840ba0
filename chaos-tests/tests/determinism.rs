//! One seed, one world. Everything else the simulator finds depends on this.

use std::process::Command;

/// What the rehearsal of a seed shows, played in a process of its own.
fn trace(seed: &str) -> Vec<u8> {
    let played = Command::new(env!("CARGO_BIN_EXE_world"))
        .args(["--seed", seed])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "seed {seed}: {said}");
    played.stdout
}

/// Two processes play the same seed: crashes, elections, lost writes, every
/// request id, every answer, the microsecond of each and the hash of every
/// ledger are the same, byte for byte.
#[test]
fn one_seed_has_one_trace() {
    for seed in ["1", "2"] {
        let (first, second) = (trace(seed), trace(seed));
        let lines = |trace: &[u8]| trace.iter().filter(|byte| **byte == b'\n').count();
        assert!(lines(&first) > 200, "seed {seed} tells something");
        if first == second {
            continue;
        }
        let (first, second) = (String::from_utf8_lossy(&first), String::from_utf8_lossy(&second));
        let differ = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        panic!("seed {seed} was played twice and differs first here:\n{differ:#?}");
    }
}

/// Another seed is another world, or the first test would prove nothing.
#[test]
fn another_seed_has_another_trace() {
    assert_ne!(trace("1"), trace("3"));
}
