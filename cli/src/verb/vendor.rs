//! `trine vendor`: the vendor's side, offline.

mod clock_reset;
mod inspect;
mod issue;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use license::product::FirmCode;
use serde::Serialize;

use super::Call;
use crate::console::Tone;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::Existing;
use crate::passphrase::{self, Typing};
use crate::vendor_dir::VendorDir;

/// The vendor's side, offline: make keys, issue licenses, look into files
///
/// A vendor has two keys, both encrypted under a passphrase: the root key, which
/// certifies the firm key and can then stay in a safe, and the firm key, which
/// signs licenses. Customers trust vendor.root, name it in their nodes'
/// configuration, and send a request made by `trine license request`; the answer
/// is a package for that one cluster, split so that no single node can use it.
/// Nothing here uses the network.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine vendor init --dir acme --name \"ACME Corp\" --firm 6000010
  trine vendor issue --dir acme --request customer.request --product cad-pro --seats 50 -o cad-pro.license
  trine vendor inspect cad-pro.license")]
pub struct Vendor {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Init(Init),
    Issue(issue::Issue),
    Inspect(inspect::Inspect),
    ClockReset(clock_reset::ClockReset),
}

/// Make a vendor's keys and the trust root to hand to customers
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine vendor init --dir acme --name \"ACME Corp\" --firm 6000010
  TRINE_VENDOR_PASSPHRASE=... trine vendor init --name \"ACME Corp\" --firm 6000010")]
struct Init {
    #[command(flatten)]
    place: Place,
    /// The vendor's name, shown to customers: up to 64 bytes
    #[arg(long)]
    name: String,
    /// The vendor's number, part of every license id
    #[arg(long, value_name = "CODE")]
    firm: u32,
    /// Replace a vendor that is already there: its licenses can never be updated again
    #[arg(long)]
    force: bool,
}

#[derive(Debug, Args)]
struct Place {
    /// The vendor's directory
    #[arg(long, default_value = "vendor", value_name = "DIR")]
    dir: PathBuf,
    /// File with the passphrase of the keys; else TRINE_VENDOR_PASSPHRASE, else a prompt
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// `trine vendor init --json`
#[derive(Debug, Serialize)]
struct Made {
    /// The vendor's name.
    name: String,
    /// The firm code.
    firm: u32,
    /// Fingerprint of the root key, for customers to compare.
    root_fingerprint: String,
    /// The trust root, for customers.
    root: PathBuf,
    /// The root key, for a safe.
    root_key: PathBuf,
    /// The root's certificate of the firm key.
    firm_certificate: PathBuf,
    /// The firm key.
    firm_key: PathBuf,
}

impl Vendor {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        match self.action {
            Action::Init(init) => init.run(call),
            Action::Issue(issue) => issue.run(call),
            Action::Inspect(inspect) => inspect.run(call),
            Action::ClockReset(reset) => reset.run(call),
        }
    }
}

impl Init {
    fn run(self, call: &Call) -> Result<Exit, Failure> {
        let existing = Existing::forced(self.force);
        let dir = VendorDir::new(&self.place.dir);
        crate::files::must_be_new("trust root", &dir.root_file(), existing)?;
        let passphrase = passphrase::find(self.place.passphrase_file.as_deref(), Typing::Twice)?;
        let vendor = dir.create(&self.name, FirmCode(self.firm), &passphrase, existing)?;
        let made = Made {
            name: self.name,
            firm: self.firm,
            root_fingerprint: license::key::fingerprint(vendor.certificate().issuer()),
            root: dir.root_file(),
            root_key: dir.root_key(),
            firm_certificate: dir.firm_certificate(),
            firm_key: dir.firm_key(),
        };
        call.console.result(&made, |page| {
            let title = format!("Vendor {} with firm code {}", made.name, made.firm);
            let title = page.tone(Tone::Strong, &title);
            page.line(title);
            page.facts(&[
                ("trust root", format!("{}  (give it to customers)", made.root.display())),
                (
                    "root fingerprint",
                    format!("{}  (tell them by another way)", made.root_fingerprint),
                ),
                (
                    "root key",
                    format!(
                        "{}  (move it to a safe; issuing does not need it)",
                        made.root_key.display()
                    ),
                ),
                ("firm key", format!("{}  (signs licenses)", made.firm_key.display())),
                ("firm certificate", made.firm_certificate.display().to_string()),
            ]);
        })?;
        Ok(Exit::Done)
    }
}
