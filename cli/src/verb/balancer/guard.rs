//! `trine balancer guard`: a small process beside the balancer that tells
//! keepalived when the balancer dies or freezes.
//!
//! keepalived's health script runs once a second, which is too slow; a killed
//! process cannot write its own obituary. The guard holds the other end of a
//! pipe: its end, or silence on it, puts the weight of the dead into the track
//! file. A balancer that wakes up again writes its own weight within a second.

use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use balancer::keepalived::{AWAY, Keepalived};
use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use tokio::io::AsyncWriteExt;
use tokio_util::task::AbortOnDropHandle;

use super::{Exit, Failure};

/// Between two signs of life.
const SIGN_INTERVAL: Duration = Duration::from_millis(50);

/// A balancer that is silent for so long counts as frozen.
const SILENCE_MAX: u16 = 400;

/// Watch the balancer that started it, by the pipe on stdin
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine balancer guard --track-file /run/trine/balancer.weight")]
pub(super) struct Guard {
    /// Where keepalived reads how well the balancer is
    #[arg(long, value_name = "FILE")]
    track_file: PathBuf,
}

impl Guard {
    pub(super) fn run(self) -> Result<Exit, Failure> {
        let mut stdin = io::stdin().lock();
        let mut silent = false;
        loop {
            match heard(stdin.as_fd()) {
                Ok(true) => {
                    let mut signs = [0; 64];
                    match stdin.read(&mut signs) {
                        Ok(0) | Err(_) => break,
                        Ok(_) => silent = false,
                    }
                }
                Ok(false) if !silent => {
                    silent = true;
                    self.tell();
                }
                Ok(false) => {}
                Err(_) => break,
            }
        }
        self.tell();
        Ok(Exit::Done)
    }

    /// There is nobody left to tell that it cannot be told.
    fn tell(&self) {
        drop(fs::write(&self.track_file, format!("{AWAY}\n")));
    }
}

/// Whether something is to be read, or the pipe has ended, within [`SILENCE_MAX`].
fn heard(pipe: BorrowedFd<'_>) -> Result<bool, Errno> {
    let mut pipes = [PollFd::new(pipe, PollFlags::POLLIN)];
    loop {
        match poll(&mut pipes, PollTimeout::from(SILENCE_MAX)) {
            Err(Errno::EINTR) => {}
            ready => return ready.map(|count| count > 0),
        }
    }
}

/// Starts a guard for this process; what is returned gives the signs of life.
pub(super) fn start(config: &Keepalived) -> Result<AbortOnDropHandle<()>, Failure> {
    let failed = |error: io::Error| Failure::failed(format!("the guard does not start: {error}"));
    let program = std::env::current_exe().map_err(failed)?;
    let mut command = std::process::Command::new(program);
    command
        .args(["balancer", "guard", "--track-file"])
        .arg(&config.track_file)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // A signal to the balancer's group must not take the guard before it has spoken.
        .process_group(0);
    let mut guard = tokio::process::Command::from(command).spawn().map_err(failed)?;
    let mut pipe = guard.stdin.take().ok_or_else(|| failed(io::Error::other("no pipe")))?;
    let living = tokio::spawn(async move {
        loop {
            if let Err(error) = pipe.write_all(&[0]).await {
                tracing::warn!(%error, "the guard is gone: keepalived learns of this balancer's death by its check only");
                drop(guard.wait().await);
                return;
            }
            tokio::time::sleep(SIGN_INTERVAL).await;
        }
    });
    Ok(AbortOnDropHandle::new(living))
}
