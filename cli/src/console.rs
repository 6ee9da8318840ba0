//! What a person or a script sees: results on stdout, everything else on stderr.

use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write};

use comfy_table::{Attribute, Color, ContentArrangement, Table, presets};
use serde::Serialize;

use crate::failure::Failure;

/// Where results go, and in which form.
#[derive(Debug, Clone, Copy)]
pub struct Console {
    json: bool,
    stdout_is_terminal: bool,
    color: bool,
}

impl Console {
    /// The console of this process. `NO_COLOR` set to anything but nothing means no color.
    pub fn of_process(json: bool) -> Self {
        let stdout_is_terminal = io::stdout().is_terminal();
        let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { json, stdout_is_terminal, color: stdout_is_terminal && !no_color }
    }

    /// Whether results are printed as JSON.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Prints a result: one JSON object, or the page that `human` writes.
    pub fn result<T: Serialize>(
        &self,
        value: &T,
        human: impl FnOnce(&mut Page),
    ) -> Result<(), Failure> {
        if self.json {
            let mut text = serde_json::to_string_pretty(value)
                .map_err(|error| Failure::failed(format!("the result does not encode: {error}")))?;
            text.push('\n');
            return self.raw(text.as_bytes());
        }
        let mut page =
            Page { text: String::new(), terminal: self.stdout_is_terminal, color: self.color };
        human(&mut page);
        self.raw(page.text.as_bytes())
    }

    /// Writes bytes to stdout as they are.
    pub fn raw(&self, bytes: &[u8]) -> Result<(), Failure> {
        let mut stdout = io::stdout().lock();
        match stdout.write_all(bytes).and_then(|()| stdout.flush()) {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Err(Failure::closed_pipe()),
            Err(error) => Err(Failure::failed(format!("cannot write to stdout: {error}"))),
        }
    }

    /// Tells a person something on the way; never part of the result.
    pub fn note(&self, text: impl std::fmt::Display) {
        // Nobody listening on stderr is no reason to stop.
        let _ = writeln!(io::stderr().lock(), "{text}");
    }

    /// Tells a person how far it is. A script that asked for JSON reads stderr for
    /// the error and nothing else.
    pub fn progress(&self, text: impl std::fmt::Display) {
        if !self.json {
            self.note(text);
        }
    }

    /// Prints how the command failed, in the form that was asked for.
    pub fn failure(&self, failure: &Failure) {
        if self.json {
            self.note(failure.to_json());
        } else {
            self.note(format_args!("trine: {failure}"));
        }
    }

    /// Asks a question on the terminal; `None` when there is nobody to ask.
    pub fn ask(&self, question: &str) -> Option<String> {
        if !io::stdin().is_terminal() || !io::stderr().is_terminal() {
            return None;
        }
        let mut stderr = io::stderr().lock();
        write!(stderr, "{question}").and_then(|()| stderr.flush()).ok()?;
        let mut answer = String::new();
        io::stdin().read_line(&mut answer).ok()?;
        Some(answer.trim().to_owned())
    }

    /// Asks whether to go on; anything but a yes is a no. `None` when there is
    /// nobody to ask.
    pub fn ask_whether(&self, question: &str) -> Option<bool> {
        let answer = self.ask(&format!("{question} [y/N] "))?;
        Some(matches!(answer.as_str(), "y" | "Y" | "yes"))
    }

    /// Asks before anything is done; `otherwise` says how to agree where there is
    /// no terminal.
    pub fn confirm(&self, question: &str, otherwise: &str) -> Result<(), Failure> {
        match self.ask_whether(question) {
            Some(true) => Ok(()),
            Some(false) => Err(Failure::usage("not confirmed; nothing was done")),
            None => {
                let what = "there is no terminal to ask on; nothing was done";
                Err(Failure::usage(format!("{question} ({what})")).next(otherwise))
            }
        }
    }
}

/// A result as people read it.
#[derive(Debug)]
pub struct Page {
    text: String,
    terminal: bool,
    color: bool,
}

/// How a word stands out, on a terminal only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tone {
    /// As it should be.
    Good,
    /// Worth a look.
    Warning,
    /// Broken or refused.
    Bad,
    /// A heading.
    Strong,
    /// Less important.
    Quiet,
}

/// A field of a table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    text: String,
    tone: Option<Tone>,
}

impl Cell {
    /// A field that stands out.
    pub fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self { text: text.into(), tone: Some(tone) }
    }

    fn styled(self, color: bool) -> comfy_table::Cell {
        let cell = comfy_table::Cell::new(self.text);
        match self.tone.filter(|_| color) {
            None => cell,
            Some(Tone::Good) => cell.fg(Color::DarkGreen),
            Some(Tone::Warning) => cell.fg(Color::DarkYellow),
            Some(Tone::Bad) => cell.fg(Color::DarkRed),
            Some(Tone::Strong) => cell.add_attribute(Attribute::Bold),
            Some(Tone::Quiet) => cell.add_attribute(Attribute::Dim),
        }
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self { text, tone: None }
    }
}

impl Page {
    /// Adds one line.
    pub fn line(&mut self, text: impl std::fmt::Display) {
        // Writing to a String does not fail.
        let _ = writeln!(self.text, "{text}");
    }

    /// Adds `name  value` lines, the values under one another.
    pub fn facts(&mut self, facts: &[(&str, String)]) {
        let width = facts.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
        for (name, value) in facts {
            let padded = format!("{name:width$}");
            let name = self.tone(Tone::Quiet, &padded);
            self.line(format_args!("{name}  {value}"));
        }
    }

    /// Adds a table: ruled on a terminal, bare aligned columns elsewhere.
    pub fn table<C: Into<Cell>>(
        &mut self,
        header: &[&str],
        rows: impl IntoIterator<Item = Vec<C>>,
    ) {
        let mut table = Table::new();
        if self.terminal {
            table.load_style(presets::UTF8_HORIZONTAL_ONLY);
            table.set_content_arrangement(ContentArrangement::Dynamic);
        } else {
            table.load_style(presets::NOTHING);
            table.set_content_arrangement(ContentArrangement::Disabled);
        }
        table.set_header(header.iter().copied());
        for row in rows {
            table.add_row(row.into_iter().map(|cell| cell.into().styled(self.color)));
        }
        for line in table.to_string().lines() {
            self.line(line.trim_end());
        }
    }

    /// `text`, standing out where there are colors.
    pub fn tone(&self, tone: Tone, text: &str) -> String {
        if !self.color {
            return text.to_owned();
        }
        let code = match tone {
            Tone::Good => "32",
            Tone::Warning => "33",
            Tone::Bad => "31",
            Tone::Strong => "1",
            Tone::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}
