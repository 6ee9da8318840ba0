//! `trine completions`: a script that teaches a shell the verbs and flags.

use clap::{Args, CommandFactory};
use clap_complete::Shell;

use super::Call;
use crate::args::Cli;
use crate::exit::Exit;
use crate::failure::Failure;

/// Print a completion script for your shell
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine completions bash > ~/.local/share/bash-completion/completions/trine
  trine completions zsh > ~/.zfunc/_trine
  trine completions fish > ~/.config/fish/completions/trine.fish")]
pub struct Completions {
    /// The shell
    shell: Shell,
}

impl Completions {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "trine", &mut script);
        call.console.raw(&script)?;
        Ok(Exit::Done)
    }
}
