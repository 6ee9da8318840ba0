//! Asking for a passphrase: from a file, the environment, or a person.

use std::fs::File;
use std::io::{self, BufRead, BufReader, IsTerminal, Write};
use std::path::Path;

use nix::sys::termios::{LocalFlags, SetArg, Termios, tcgetattr, tcsetattr};
use zeroize::Zeroizing;

use crate::context::environment;
use crate::failure::Failure;
use crate::files;

/// The variable that holds a passphrase for scripts.
pub const VARIABLE: &str = "TRINE_VENDOR_PASSPHRASE";

/// Whether the person must type it twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Typing {
    /// It opens something that exists.
    Once,
    /// It will be needed again, so a slip must not pass.
    Twice,
}

/// Finds the passphrase: the file, else [`VARIABLE`], else the terminal.
pub fn find(file: Option<&Path>, typing: Typing) -> Result<Zeroizing<String>, Failure> {
    find_in(VARIABLE, file, typing)
}

/// The same with another variable than [`VARIABLE`].
pub fn find_in(
    variable: &str,
    file: Option<&Path>,
    typing: Typing,
) -> Result<Zeroizing<String>, Failure> {
    if let Some(path) = file {
        let bytes = Zeroizing::new(files::read("passphrase file", path, 4_096)?);
        let text = std::str::from_utf8(&bytes).map_err(|_| {
            Failure::usage(format!("the passphrase file {} is not text", path.display()))
        })?;
        return Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()));
    }
    if let Some(value) = environment(variable) {
        let text =
            value.into_string().map_err(|_| Failure::usage(format!("{variable} is not text")))?;
        return Ok(Zeroizing::new(text));
    }
    ask(variable, typing)
}

fn ask(variable: &str, typing: Typing) -> Result<Zeroizing<String>, Failure> {
    let nobody = || {
        Failure::usage("a passphrase is needed and there is no terminal to ask on")
            .next(format!("give --passphrase-file, or set {variable}"))
    };
    let terminal = File::options().read(true).write(true).open("/dev/tty").map_err(|_| nobody())?;
    if !terminal.is_terminal() {
        return Err(nobody());
    }
    let first = prompt(&terminal, "Passphrase: ")?;
    if typing == Typing::Twice && *prompt(&terminal, "Again: ")? != *first {
        return Err(Failure::usage("the two passphrases are not the same").next("try again"));
    }
    Ok(first)
}

fn prompt(terminal: &File, question: &str) -> Result<Zeroizing<String>, Failure> {
    let wrong =
        |error: io::Error| Failure::failed(format!("cannot read from the terminal: {error}"));
    let mut output = terminal;
    // Silent before it asks: what is typed at once would be shown, and lost.
    let silence = Silence::begin(terminal).map_err(wrong)?;
    output.write_all(question.as_bytes()).map_err(wrong)?;
    let mut line = Zeroizing::new(String::new());
    let read = BufReader::new(terminal).read_line(&mut line);
    drop(silence);
    output.write_all(b"\n").map_err(wrong)?;
    read.map_err(wrong)?;
    Ok(Zeroizing::new(line.trim_end_matches(['\r', '\n']).to_owned()))
}

/// The terminal does not show what is typed until this is dropped.
struct Silence<'a> {
    terminal: &'a File,
    before: Termios,
}

impl<'a> Silence<'a> {
    fn begin(terminal: &'a File) -> io::Result<Self> {
        let before = tcgetattr(terminal)?;
        let mut silent = before.clone();
        silent.local_flags.remove(LocalFlags::ECHO);
        tcsetattr(terminal, SetArg::TCSAFLUSH, &silent)?;
        Ok(Self { terminal, before })
    }
}

impl Drop for Silence<'_> {
    fn drop(&mut self) {
        // Nothing more can be done for a terminal that went away.
        let _ = tcsetattr(self.terminal, SetArg::TCSAFLUSH, &self.before);
    }
}
