//! One seed, one world. Everything else the simulator finds depends on this.

use std::process::Command;

/// What the rehearsal of a seed shows, played in a process of its own.
fn trace(seed: &str) -> String {
    let played = Command::new(env!("CARGO_BIN_EXE_world"))
        .args(["--seed", seed])
        .output()
        .expect("the program starts");
    let said = String::from_utf8_lossy(&played.stderr);
    assert!(played.status.success(), "seed {seed}: {said}");
    String::from_utf8(played.stdout).expect("text")
}

/// Two processes play the same seed: crashes, elections, lost writes, every
/// request id, every answer, the microsecond of each and the hash of every
/// ledger are the same, byte for byte. Another seed is another world, or this
/// would prove nothing.
#[test]
fn one_seed_has_one_trace() {
    let worlds = ["1", "2"].map(|seed| {
        let (first, second) = (trace(seed), trace(seed));
        assert!(first.lines().count() > 200, "seed {seed} tells something");
        let differ = first.lines().zip(second.lines()).find(|(one, other)| one != other);
        assert_eq!(differ, None, "seed {seed} was played twice and differs first here");
        assert!(first == second, "seed {seed} was played twice, and once for longer");
        first
    });
    assert_ne!(worlds[0], worlds[1]);
}
