//! The program under `trine run`, its process group, and the signals it is passed.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::sys::signal::{Signal, kill, killpg};
use nix::unistd::{Pid, getpgrp, tcgetpgrp};
use tokio::process::{Child, Command};
use tokio::signal::unix::{self, SignalKind};
use trine_client::Grant;

use crate::exit::Exit;
use crate::failure::Failure;

/// A program that was started.
#[derive(Debug)]
pub(super) struct Program {
    child: Child,
    pid: Pid,
    reach: Reach,
}

/// Whom a signal for the program goes to.
#[derive(Debug)]
enum Reach {
    /// There is a terminal, so the program shares our process group: the shell
    /// moves both to the foreground or background, and stops both with Ctrl-Z.
    /// Signals go to the program alone.
    Program { terminal: File },
    /// No terminal: the program leads a group of its own, and signals go to all
    /// of it, so that a shell under us does not keep them to itself.
    Group,
}

impl Program {
    /// Starts `command`, told of its grant in the environment.
    pub(super) fn start(command: &[OsString], grant: &Grant) -> Result<Self, Failure> {
        let Some((program, arguments)) = command.split_first() else {
            return Err(Failure::usage("no program is given; write it after --"));
        };
        let mut command = Command::new(program);
        command
            .args(arguments)
            .env("TRINE_PRODUCT", &grant.product)
            .env("TRINE_LICENSE", &grant.license)
            .env("TRINE_TOKEN", grant.token.to_string())
            .env("TRINE_FEATURE_MAP", grant.feature_map.to_string())
            .env("TRINE_FEATURE_TEXT", &grant.feature_text);
        let reach = match File::open("/dev/tty") {
            Ok(terminal) => Reach::Program { terminal },
            Err(_) => {
                command.process_group(0);
                Reach::Group
            }
        };
        let name = program.to_string_lossy();
        let child = command.spawn().map_err(|error| {
            let failure = Failure::usage(format!("cannot start {name}: {error}"));
            match error.kind() {
                io::ErrorKind::NotFound => failure
                    .next("check its path; the words after -- are the program and its arguments"),
                _ => failure,
            }
        })?;
        let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
        let pid = pid.ok_or_else(|| Failure::failed(format!("{name} has no process id")))?;
        Ok(Self { child, pid, reach })
    }

    /// Waits until it ends. Its id is not used after that.
    pub(super) async fn wait(&mut self) -> Result<ExitStatus, Failure> {
        let status = self.child.wait().await;
        status.map_err(|error| Failure::failed(format!("cannot wait for the program: {error}")))
    }

    /// Hands on a signal that this process was sent, unless the terminal has
    /// sent it to the program as well.
    pub(super) fn pass_on(&self, signal: Signal) {
        let from_terminal = matches!(signal, Signal::SIGINT | Signal::SIGQUIT | Signal::SIGHUP);
        if from_terminal && self.is_in_foreground() {
            return;
        }
        self.signal(signal);
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: Signal) {
        // It may have ended this instant, which `wait` is about to tell.
        let _ = match &self.reach {
            Reach::Program { .. } => kill(self.pid, signal),
            Reach::Group => killpg(self.pid, signal),
        };
    }

    fn is_in_foreground(&self) -> bool {
        match &self.reach {
            Reach::Program { terminal } => {
                tcgetpgrp(terminal).is_ok_and(|group| group == getpgrp())
            }
            Reach::Group => false,
        }
    }
}

/// How `trine run` ends when its program ended so.
pub(super) fn exit_of(status: ExitStatus) -> Exit {
    match (status.code(), status.signal()) {
        (Some(code), _) => Exit::Program(u8::try_from(code).unwrap_or(u8::MAX)),
        (None, Some(signal)) => Exit::of_signal(signal),
        (None, None) => Exit::Failed,
    }
}

/// The signals that are passed on.
pub(super) struct Signals {
    interrupt: unix::Signal,
    terminate: unix::Signal,
    hang_up: unix::Signal,
    quit: unix::Signal,
    user_1: unix::Signal,
    user_2: unix::Signal,
}

impl Signals {
    /// Catches them from now on.
    pub(super) fn catch() -> Result<Self, Failure> {
        let catch = |kind| {
            unix::signal(kind)
                .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
        };
        Ok(Self {
            interrupt: catch(SignalKind::interrupt())?,
            terminate: catch(SignalKind::terminate())?,
            hang_up: catch(SignalKind::hangup())?,
            quit: catch(SignalKind::quit())?,
            user_1: catch(SignalKind::user_defined1())?,
            user_2: catch(SignalKind::user_defined2())?,
        })
    }

    /// The next one.
    pub(super) async fn next(&mut self) -> Signal {
        tokio::select! {
            _ = self.interrupt.recv() => Signal::SIGINT,
            _ = self.terminate.recv() => Signal::SIGTERM,
            _ = self.hang_up.recv() => Signal::SIGHUP,
            _ = self.quit.recv() => Signal::SIGQUIT,
            _ = self.user_1.recv() => Signal::SIGUSR1,
            _ = self.user_2.recv() => Signal::SIGUSR2,
        }
    }
}
