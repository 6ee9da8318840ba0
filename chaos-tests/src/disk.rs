//! A disk that forgets on order: a filesystem that keeps what was synced and,
//! at a power cut, drops what was only written.
//!
//! SIGKILL alone proves nothing about durability: the kernel still has every
//! byte the dead process wrote. So each node under test gets one of these
//! disks, mounted through FUSE and served by threads of the test's own
//! process. After killing the node the test calls [`LossyDisk::crash`], and
//! the next process finds what a machine that lost power would find.

mod fuse;
mod image;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use fuser::{BackgroundSession, Config, MountOption};
use nix::errno::Errno;
use rand::rngs::StdRng;

pub use image::{Loss, Lost};

/// How often an unmount is tried, 10 ms apart, while the kernel lets go of a dead process's files.
const UNMOUNT_TRIES: u32 = 1000;
const UNMOUNT_PAUSE: Duration = Duration::from_millis(10);
/// Requests served at once: a slow sync must not hold up a read.
const THREADS: usize = 4;

/// One node's disk.
///
/// Dropping it unmounts it; its contents live in this process's memory and end with it.
pub struct LossyDisk {
    mountpoint: PathBuf,
    shared: Arc<Shared>,
    session: Option<BackgroundSession>,
}

/// What the disk's owner and its server have in common.
struct Shared {
    image: Mutex<image::Image>,
    sync_time: Duration,
    syncs: AtomicU64,
    /// Syncs under way.
    syncing: AtomicU64,
    ignores_syncs: AtomicBool,
    power: Mutex<Power>,
    power_changed: Condvar,
}

/// Whether syncs come to an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Power {
    On,
    /// None does: the moment between the power cut and the end of the process.
    Failing,
    /// Each fails.
    Off,
}

impl Shared {
    fn set_power(&self, to: Power) {
        *self.power.lock().unwrap_or_else(PoisonError::into_inner) = to;
        self.power_changed.notify_all();
    }
}

/// Why there can be no such disk on this machine.
#[derive(Debug, thiserror::Error)]
#[error("no lossy disk at {}: {source}; it needs /dev/fuse and either root or fusermount3", .mountpoint.display())]
pub struct Unavailable {
    mountpoint: PathBuf,
    source: io::Error,
}

impl LossyDisk {
    /// An empty disk, mounted at `mountpoint`, an existing empty directory.
    ///
    /// Each sync takes `sync_time` and covers what was written before it
    /// began, as on a real disk; the longer, the more kills fall between a
    /// write and its sync.
    pub fn mount(mountpoint: &Path, sync_time: Duration) -> Result<Self, Unavailable> {
        let shared = Arc::new(Shared {
            image: Mutex::new(image::Image::new()),
            sync_time,
            syncs: AtomicU64::new(0),
            syncing: AtomicU64::new(0),
            ignores_syncs: AtomicBool::new(false),
            power: Mutex::new(Power::On),
            power_changed: Condvar::new(),
        });
        let mut disk = Self { mountpoint: mountpoint.to_owned(), shared, session: None };
        disk.attach()
            .map_err(|source| Unavailable { mountpoint: mountpoint.to_owned(), source })?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mountpoint
    }

    /// How many syncs it was asked for so far, of files and directories.
    pub fn syncs(&self) -> u64 {
        self.shared.syncs.load(Ordering::Relaxed)
    }

    /// Whether a sync is under way: the moment at which a power cut hurts most.
    pub fn is_syncing(&self) -> bool {
        self.shared.syncing.load(Ordering::Relaxed) > 0
    }

    /// Makes the disk say "synced" without syncing, or be honest again.
    ///
    /// To the disk this is what a missing sync in the node looks like, so a
    /// crash test that passes on lying disks tests nothing.
    pub fn ignore_syncs(&self, ignore: bool) {
        self.shared.ignores_syncs.store(ignore, Ordering::Relaxed);
    }

    /// From this moment no sync comes to an end, not even those under way.
    ///
    /// SIGKILL does not stop a sync that the kernel has begun, a power cut
    /// does: so first the power fails, then the process is killed, then the
    /// power is [off](Self::power_off) and the process can die.
    pub fn power_fails(&self) {
        self.shared.set_power(Power::Failing);
    }

    /// Ends the syncs that [`power_fails`](Self::power_fails) held up, as failed.
    ///
    /// Whoever waited for one must have been sent SIGKILL before.
    pub fn power_off(&self) {
        self.shared.set_power(Power::Off);
    }

    /// Unmounts, drops what was not synced, mounts again with the power on.
    ///
    /// Every process that used the disk must be dead and waited for.
    ///
    /// # Errors
    /// When the disk is still in use after ten seconds, or cannot be mounted again.
    pub fn crash(&mut self, loss: Loss, random: &mut StdRng) -> io::Result<Lost> {
        self.detach()?;
        let mut image = self.shared.image.lock().unwrap_or_else(PoisonError::into_inner);
        let lost = image.lose(loss, random);
        drop(image);
        self.shared.set_power(Power::On);
        self.attach()?;
        Ok(lost)
    }

    fn attach(&mut self) -> io::Result<()> {
        let mut config = Config::default();
        config.mount_options =
            vec![MountOption::FSName("trine-lossy-disk".to_owned()), MountOption::NoAtime];
        config.n_threads = Some(THREADS);
        let server = fuse::Server::new(Arc::clone(&self.shared));
        self.session = Some(fuser::spawn_mount(server, &self.mountpoint, &config)?);
        Ok(())
    }

    fn detach(&mut self) -> io::Result<()> {
        let Some(session) = self.session.take() else { return Ok(()) };
        for _ in 0..UNMOUNT_TRIES {
            match nix::mount::umount(&self.mountpoint) {
                Ok(()) => return session.join(),
                Err(Errno::EBUSY) => std::thread::sleep(UNMOUNT_PAUSE),
                // Not root: fusermount3 mounted it and must unmount it.
                Err(Errno::EPERM) => return session.umount_and_join(),
                Err(error) => return Err(error.into()),
            }
        }
        self.session = Some(session);
        Err(io::Error::new(
            io::ErrorKind::ResourceBusy,
            format!(
                "{} is still in use; is the process that used it dead?",
                self.mountpoint.display()
            ),
        ))
    }
}

impl Drop for LossyDisk {
    fn drop(&mut self) {
        if let Err(error) = self.detach() {
            eprintln!("could not unmount {}: {error}", self.mountpoint.display());
        }
    }
}

#[cfg(test)]
mod tests;
