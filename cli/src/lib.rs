//! The command line of Trine: one file per verb under [`verb`], thin; what
//! they share beside it.

#![forbid(unsafe_code)]
#![expect(
    missing_docs,
    reason = "clap turns doc comments into help; fields whose help is plain have none"
)]

pub mod args;
pub mod console;
pub mod context;
pub mod dates;
pub mod devcluster;
pub mod exit;
pub mod failure;
pub mod files;
pub mod online;
pub mod passphrase;
pub mod report;
pub mod sealed;
pub mod server;
pub mod usage;
pub mod vendor_dir;
pub mod verb;
pub mod version;
pub mod world;

use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use crate::args::Cli;
use crate::console::Console;
use crate::failure::Failure;
use crate::world::World;

/// Parses the command line, does what it asks, says how it went.
pub fn main(world: World) -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error),
    };
    let console = Console::of_process(cli.global.json);
    match verb::run(cli, console, world) {
        Ok(exit) => exit.into(),
        Err(failure) => {
            if failure.exit() != exit::Exit::Done {
                console.failure(&failure);
            }
            failure.exit().into()
        }
    }
}

/// Help and versions are results; anything else clap says is a usage error.
fn not_understood(error: &clap::Error) -> ExitCode {
    // The flags were not parsed, so ask the words themselves.
    let json = std::env::args_os().take_while(|word| word != "--").any(|word| word == "--json");
    if json
        && error.use_stderr()
        && error.kind() != ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    {
        let text = error.render().to_string();
        let message = text.trim().trim_start_matches("error: ");
        Console::of_process(true).failure(&Failure::usage(message));
    } else {
        // A reader that went away is no reason to complain.
        let _ = error.print();
    }
    if error.use_stderr() { exit::Exit::Usage.into() } else { exit::Exit::Done.into() }
}
