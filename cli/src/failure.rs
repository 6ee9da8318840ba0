//! Why a command did not do what was asked: what happened, to what, what to do next.

use std::fmt;
use std::io;
use std::path::Path;

use serde::Serialize;

use crate::exit::Exit;

/// A command's bad end. Printed once, by [`crate::main`], to stderr.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    exit: Exit,
    reason: String,
    message: String,
    next: Option<String>,
}

impl Failure {
    fn new(exit: Exit, reason: &str, message: impl fmt::Display) -> Self {
        Self { exit, reason: reason.to_owned(), message: message.to_string(), next: None }
    }

    /// The command line or a file it names is wrong.
    pub fn usage(message: impl fmt::Display) -> Self {
        Self::new(Exit::Usage, "USAGE", message)
    }

    /// The answer is no. `reason` is stable, in the style of the protocol's reasons.
    pub fn refused(reason: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::Refused, reason, message)
    }

    /// Nobody who could decide was reached.
    pub fn unreachable(reason: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::Unreachable, reason, message)
    }

    /// The identity is missing or has the wrong role.
    pub fn not_allowed(reason: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::NotAllowed, reason, message)
    }

    /// A node that must not run as it is, whoever starts it.
    pub fn must_not_run(reason: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::MustNotRun, reason, message)
    }

    /// What was checked does not hold.
    pub fn unsound(reason: &str, message: impl fmt::Display) -> Self {
        Self::new(Exit::Unsound, reason, message)
    }

    /// Anything else that broke.
    pub fn failed(message: impl fmt::Display) -> Self {
        Self::new(Exit::Failed, "FAILED", message)
    }

    /// A signal ended the command before its end.
    pub fn signalled(signal: i32, message: impl fmt::Display) -> Self {
        Self::new(Exit::of_signal(signal), "SIGNAL", message)
    }

    /// A file that could not be read: a wrong path is the caller's mistake.
    pub fn reading(what: &str, path: &Path, error: &io::Error) -> Self {
        let message = format!("cannot read the {what} {}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::IsADirectory => Self::usage(message),
            _ => Self::failed(message),
        }
    }

    /// A file that could not be written.
    pub fn writing(what: &str, path: &Path, error: &io::Error) -> Self {
        Self::failed(format!("cannot write the {what} {}: {error}", path.display()))
    }

    /// Adds what to do next.
    pub fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(next.to_string());
        self
    }

    /// The reader of stdout went away, as `head` does: nothing is wrong and
    /// there is nobody to tell.
    pub fn closed_pipe() -> Self {
        Self::new(Exit::Done, "CLOSED_PIPE", "stdout was closed")
    }

    /// How the process ends.
    pub fn exit(&self) -> Exit {
        self.exit
    }

    /// What happened, without what to do next.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The stable name of what happened.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// One JSON line: `{"error":{"exit":…,"reason":…,"message":…,"next":…}}`.
    pub fn to_json(&self) -> String {
        let error = ErrorObject {
            exit: self.exit.code(),
            reason: &self.reason,
            message: &self.message,
            next: self.next.as_deref(),
        };
        serde_json::json!({ "error": error }).to_string()
    }
}

/// The object `--json` prints on stderr, under the key `error`.
#[derive(Serialize)]
struct ErrorObject<'a> {
    /// The exit code.
    exit: u8,
    /// Stable; the protocol's reason when a server said it, else `USAGE`,
    /// `FAILED`, `UNREACHABLE` and the like.
    reason: &'a str,
    /// For people.
    message: &'a str,
    /// What to do about it, when that is not in the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<&'a str>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        match &self.next {
            Some(next) => write!(f, "\n  {next}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for Failure {}

impl From<license::product::InvalidName> for Failure {
    fn from(error: license::product::InvalidName) -> Self {
        Self::usage(error)
    }
}
