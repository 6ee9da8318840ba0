//! A disk that can be full: a small tmpfs over a directory, where the tests run
//! as root.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A small disk. Dropping it unmounts it.
#[derive(Debug)]
pub(crate) struct SmallDisk {
    at: PathBuf,
}

impl SmallDisk {
    /// Mounts one of `size`, such as `64M`, over a directory, which is made if
    /// it is not there. `None` where that is not allowed.
    pub(crate) fn mount(at: &Path, size: &str) -> Option<Self> {
        fs::create_dir_all(at).expect("a directory");
        let options = format!("size={size}");
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at);
        worked(&mut mount).then(|| Self { at: at.to_owned() })
    }

    /// Gives it more room.
    pub(crate) fn grow(&self, size: &str) {
        let options = format!("remount,size={size}");
        assert!(worked(Command::new("mount").args(["-o", &options]).arg(&self.at)), "it grows");
    }

    /// Takes all room that is left.
    pub(crate) fn fill(&self) {
        let into = format!("of={}", self.ballast().display());
        let filled = worked(Command::new("dd").args(["if=/dev/zero", "bs=4k", &into]));
        assert!(!filled, "the disk is not full");
    }

    /// Gives that room back.
    pub(crate) fn empty(&self) {
        fs::remove_file(self.ballast()).expect("the ballast");
    }

    fn ballast(&self) -> PathBuf {
        self.at.join("ballast")
    }
}

fn worked(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a server that a failed story left may still use it.
        worked(Command::new("umount").arg("--lazy").arg(&self.at));
    }
}
