//! The exit codes of `trine`, all of them.

use std::process::ExitCode;

/// How a command ended. Scripts rely on the numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It did what was asked.
    Done,
    /// Something broke that none of the others names: a file, a disk, a bug.
    Failed,
    /// The command line, a config file or an input file is wrong. Nothing was done.
    Usage,
    /// The answer is no: no seat free, unknown product, license refused.
    Refused,
    /// Nobody who could decide was reached: no quorum, no network, no server.
    Unreachable,
    /// The caller's identity is missing or may not do this.
    NotAllowed,
    /// This node must not run as it is: it lost data, runs twice, or is not on
    /// its host. Starting it again changes nothing.
    MustNotRun,
    /// The doctor found nothing broken, but something to look after.
    Warnings,
    /// The doctor found something broken, or a drill broke a limit.
    Broken,
    /// What was checked does not hold: records were altered, or contradict themselves.
    Unsound,
    /// The code of the program under `trine run`; or 128 + signal, of the program
    /// or of `trine` itself, as shells count it.
    Program(u8),
}

impl Exit {
    /// The number the shell sees.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
            Self::Refused => 3,
            Self::Unreachable => 4,
            Self::NotAllowed => 5,
            Self::MustNotRun => 6,
            Self::Warnings => 7,
            Self::Broken => 8,
            Self::Unsound => 9,
            Self::Program(code) => code,
        }
    }
}

impl Exit {
    /// Ended by this signal.
    pub fn of_signal(signal: i32) -> Self {
        Self::Program(u8::try_from(signal).unwrap_or(0).saturating_add(128))
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// The table in `trine --help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  something else went wrong; the message says what
  2  usage: the command line, a config file or an input file is wrong
  3  refused: no seat free, unknown product, license refused, seat revoked
  4  no quorum, no server reached, or a node that was to be read is silent
  5  not allowed: no identity, or its role may not do this
  6  this node must not run as it is: it lost data, a copy of it runs, its host has changed,
     or its build is too old for its cluster
  7  `trine cluster doctor`: nothing is broken, but there are warnings
  8  `trine cluster doctor`: something is broken; `trine drill`: a limit is
  9  what was checked does not hold: `trine usage verify` names what is wrong, and
     `trine usage --file` shows nothing of it
  128 + signal number when Ctrl-C or another signal ended it
  `trine run` ends with its program's code, or 128 + signal number; when the
  seat is lost it ends with 3 (revoked, license ended) or 4 (not renewed in time).";

#[cfg(test)]
mod tests {
    use super::*;

    /// The numbers are an interface: this test is their second copy, on purpose.
    #[test]
    fn codes_never_change() {
        let all = [
            (Exit::Done, 0),
            (Exit::Failed, 1),
            (Exit::Usage, 2),
            (Exit::Refused, 3),
            (Exit::Unreachable, 4),
            (Exit::NotAllowed, 5),
            (Exit::MustNotRun, 6),
            (Exit::Warnings, 7),
            (Exit::Broken, 8),
            (Exit::Unsound, 9),
            (Exit::Program(143), 143),
        ];
        for (exit, code) in all {
            assert_eq!(exit.code(), code, "{exit:?}");
        }
    }
}
