//! `trine cluster backup-key`: the key that backups are sealed to.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::Call;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::sealed::{self, KeyPair};

/// Make a key that backups are sealed to
///
/// Writes the secret key into FILE and prints the recipient, which is all that
/// taking a backup needs. Keep the secret away from the nodes and from the
/// backups: whoever has both reads who holds which seat. It is an age key; the
/// standard `age` tool uses it too.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster backup-key -o backup.key > backup.pub
  trine cluster backup today.backup --recipient backup.pub")]
pub(super) struct BackupKey {
    /// Where the secret key goes; only its owner may read it
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace a file that is there. Backups sealed to its key will not open again
    #[arg(long)]
    force: bool,
}

/// `trine cluster backup-key --json`
#[derive(Debug, Serialize)]
struct Made {
    /// Where the secret key is.
    key: PathBuf,
    /// age1…
    recipient: String,
}

impl BackupKey {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let KeyPair { secret, recipient } = sealed::new_key();
        let text = zeroize::Zeroizing::new(format!(
            "# Opens Trine backups that are sealed to\n# {recipient}\n{}\n",
            secret.as_str()
        ));
        let existing = Existing::forced(self.force);
        files::write("key", &self.output, text.as_bytes(), Access::Secret, existing)?;
        let made = Made { key: self.output, recipient };
        // On stderr, so that stdout can go straight into a file.
        call.console.progress(format_args!(
            "The secret key is in {}. Keep it where neither the nodes nor the backups are.",
            made.key.display()
        ));
        call.console.result(&made, |page| page.line(&made.recipient))?;
        Ok(Exit::Done)
    }
}
