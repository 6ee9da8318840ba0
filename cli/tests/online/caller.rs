//! `trine` as somebody calls it: an environment, and what came back.

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

/// How long anything may take here before a story has failed. No story is
/// about how long something takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Somebody who types `trine`, with nothing of the real user's around them.
#[derive(Debug, Clone)]
pub(crate) struct Caller {
    dir: PathBuf,
    variables: Vec<(OsString, OsString)>,
    /// What runs their commands, if anything does.
    through: Vec<OsString>,
}

impl Caller {
    /// Somebody in `dir`, which is their home too.
    pub(crate) fn new(dir: &Path) -> Self {
        Self { dir: dir.to_owned(), variables: Vec::new(), through: Vec::new() }
    }

    /// The same with these words before every command.
    pub(crate) fn through(&self, words: impl IntoIterator<Item = OsString>) -> Self {
        Self { through: words.into_iter().collect(), ..self.clone() }
    }

    /// The same with a variable set.
    pub(crate) fn with(&self, name: &str, value: impl AsRef<OsStr>) -> Self {
        let mut caller = self.clone();
        caller.variables.push((name.into(), value.as_ref().to_owned()));
        caller
    }

    /// Where they are.
    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    fn command(&self, words: &[&str]) -> Command {
        let trine = env!("CARGO_BIN_EXE_trine");
        let mut line = self.through.iter().map(OsString::as_os_str).chain([OsStr::new(trine)]);
        let mut command = Command::new(line.next().expect("trine at least"));
        command
            .args(line)
            .args(words)
            .current_dir(&self.dir)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", &self.dir)
            .env("USER", "alice")
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null());
        command
    }

    /// Runs to the end.
    pub(crate) fn run(&self, words: &[&str]) -> Output {
        let output = self.command(words).output().expect("the binary runs");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("panicked") && !stderr.contains("RUST_BACKTRACE"), "{stderr}");
        output
    }

    /// What people read of a command that must succeed.
    pub(crate) fn page(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(0), "{words:?}: {stderr}");
        String::from_utf8(output.stdout).expect("text on stdout")
    }

    /// The result of a command that must succeed.
    pub(crate) fn json(&self, words: &[&str]) -> Value {
        let page = self.page(&[&["--json"], words].concat());
        serde_json::from_str(&page).expect("JSON on stdout")
    }

    /// Gives back a seat that `trine acquire` took.
    pub(crate) fn give_back(&self, seat: &Value) {
        let word = |key: &str| seat[key].to_string().trim_matches('"').to_owned();
        let released = self.json(&["release", &word("lease"), "--token", &word("token")]);
        assert_eq!(released["released"], true);
    }

    /// What the usage history says, in order.
    pub(crate) fn told(&self, words: &[&str]) -> Vec<Value> {
        let listed = self.json(&[&["usage"], words].concat());
        listed["records"].as_array().cloned().expect("records")
    }

    /// The error of a command that must end with `exit` and print no result.
    pub(crate) fn refused(&self, exit: i32, words: &[&str]) -> Refusal {
        let output = self.run(&[&["--json"], words].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(exit), "{words:?}: {stderr}");
        assert!(output.stdout.is_empty(), "{words:?} printed a result");
        Refusal::read(exit, &stderr)
    }

    /// Starts a command that goes on while the story does.
    pub(crate) fn start(&self, words: &[&str]) -> Running {
        let mut child = self
            .command(words)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a process id"));
        let stdout = child.stdout.take().expect("stdout is piped");
        let stderr = child.stderr.take().expect("stderr is piped");
        let (say, lines) = channel();
        let also = say.clone();
        let reading = [
            std::thread::spawn(move || read_lines(stdout, &|line| drop(say.send(line)))),
            std::thread::spawn(move || read_lines(stderr, &|line| drop(also.send(line)))),
        ];
        Running { child, pid, lines, heard: Vec::new(), reading: reading.into() }
    }
}

/// What `--json` says of a failure.
#[derive(Debug)]
pub(crate) struct Refusal {
    /// Stable.
    pub(crate) reason: String,
    /// Message and next step together, as people read them.
    pub(crate) text: String,
}

impl Refusal {
    fn read(exit: i32, stderr: &str) -> Self {
        let last = stderr.trim().lines().last().unwrap_or_default();
        let error: Value = serde_json::from_str(last)
            .unwrap_or_else(|error| panic!("JSON on stderr, not {stderr:?}: {error}"));
        let error = &error["error"];
        assert_eq!(error["exit"], exit);
        let word = |key: &str| error[key].as_str().unwrap_or_default().to_owned();
        Self { reason: word("reason"), text: format!("{}\n{}", word("message"), word("next")) }
    }

    /// The text must hold all of `words`.
    #[track_caller]
    pub(crate) fn says(&self, words: &[&str]) {
        for word in words {
            assert!(self.text.contains(word), "{word:?} is missing: {}", self.text);
        }
    }
}

/// A command that has been started. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    pid: Pid,
    lines: Receiver<String>,
    heard: Vec<String>,
    reading: Vec<JoinHandle<()>>,
}

/// How a started command ended.
#[derive(Debug)]
pub(crate) struct Ended {
    /// Its exit code, or 128 + signal.
    pub(crate) code: i32,
    /// All it said, on stdout and stderr.
    pub(crate) said: String,
}

impl Running {
    /// Its process id.
    pub(crate) fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// Waits until it says a line with `words` in it, and gives that line.
    #[track_caller]
    pub(crate) fn until_said(&mut self, words: &str) -> String {
        if let Some(line) = self.heard.iter().find(|line| line.contains(words)) {
            return line.clone();
        }
        loop {
            let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
                panic!("it never said {words:?}, only:\n{}", self.heard.join("\n"));
            };
            self.heard.push(line.clone());
            if line.contains(words) {
                return line;
            }
        }
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        // Not yet reaped, so the id cannot have become another's.
        kill(self.pid, signal).expect("the command takes signals");
    }

    /// Waits until it ends.
    pub(crate) fn finish(mut self) -> Ended {
        let status = eventually("the command ends", || self.child.try_wait().expect("it is ours"));
        for reading in self.reading.drain(..) {
            reading.join().expect("its output is read");
        }
        self.heard.extend(self.lines.try_iter());
        Ended { code: code(status), said: self.heard.join("\n") }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn code(status: ExitStatus) -> i32 {
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).expect("it has ended")
}

/// A path as a word of a command.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

fn read_lines(output: impl Read, take: &dyn Fn(String)) {
    BufReader::new(output).lines().map_while(Result::ok).for_each(take);
}

/// Looks again and again until there is something to see.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, look: impl FnMut() -> Option<T>) -> T {
    eventually_or(|| what.to_owned(), look)
}

/// The same, for what is best told after the wait.
pub(crate) fn eventually_or<T>(
    what: impl FnOnce() -> String,
    mut look: impl FnMut() -> Option<T>,
) -> T {
    const PAUSE: Duration = Duration::from_millis(50);
    for _ in 0..PATIENCE.as_millis() / PAUSE.as_millis() {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::sleep(PAUSE);
    }
    panic!("not so in {PATIENCE:?}: {}", what());
}
