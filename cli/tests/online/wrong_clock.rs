//! A wrong wall clock for one real process.
//!
//! The binary has no switch for it: a C library that the tests compile shifts
//! what the process is told of `CLOCK_REALTIME`, as a dead battery or a bad time
//! server would. `deploy/lab/wrongclock.c`, which the lab uses too, is all of it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::cluster::trine;

/// One clock that may be wrong, and the way to start `trine` with it.
#[derive(Debug)]
pub(crate) struct WrongClock {
    dir: TempDir,
}

impl WrongClock {
    /// One that is right so far.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let library = dir.path().join("wrongclock.so");
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/lab/wrongclock.c");
        let mut compile = Command::new("cc");
        compile.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source);
        let output = compile.output().expect("a C compiler, as README asks for");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let clock = Self { dir };
        clock.is_off(0);
        let script = format!(
            "#!/bin/sh\nexport LD_PRELOAD='{}' WRONG_CLOCK='{}'\nexec '{}' \"$@\"\n",
            library.display(),
            clock.offset().display(),
            trine().display()
        );
        fs::write(clock.program(), script).expect("a script");
        fs::set_permissions(clock.program(), fs::Permissions::from_mode(0o755)).expect("a mode");
        clock
    }

    /// `trine` with this clock.
    pub(crate) fn program(&self) -> PathBuf {
        self.dir.path().join("trine")
    }

    /// From now on it is so many milliseconds ahead, or behind below zero.
    pub(crate) fn is_off(&self, millis: i64) {
        // In one step, so that no look finds half of it.
        let new = self.dir.path().join("offset.new");
        fs::write(&new, (millis / 1_000).to_string()).expect("a file");
        fs::rename(new, self.offset()).expect("a file");
    }

    fn offset(&self) -> PathBuf {
        self.dir.path().join("offset")
    }
}

/// The rig itself: without it the stories about clocks would be about nothing.
#[test]
fn a_wrong_clock_is_wrong_for_one_process_and_may_jump() {
    let clock = WrongClock::new();
    let dir = tempfile::tempdir().expect("a directory");
    let init = |name: &str| {
        let words = ["--json", "pki", "init", "--dir", name];
        let output = Command::new(clock.program()).args(words).current_dir(dir.path()).output();
        let output = output.expect("it runs").stdout;
        let made: serde_json::Value = serde_json::from_slice(&output).expect("JSON");
        made["expires"].as_str().expect("a date")[..4].parse::<i32>().expect("a year")
    };
    let right = init("right");
    clock.is_off(20 * super::clock::YEAR);
    assert!((19..=21).contains(&(init("ahead") - right)));
    clock.is_off(-20 * super::clock::YEAR);
    assert!((-21..=-19).contains(&(init("behind") - right)));
}
