//! `trine license`: the customer's side.

pub(crate) mod repair;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use license::product::LicenseId;
use serde::Serialize;

use super::Call;
use crate::console::Tone;
use crate::context::Purpose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::online::{self, Connection, SERVING_MAX};
use crate::report;
use crate::vendor_dir::FILE_BYTES_MAX;

/// Request, install and look at licenses
///
/// A license is sold to one cluster: the cluster writes a request, the vendor
/// answers with a package, split so that each node gets one share and any two
/// make the license work.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license request -o our-cluster.request
  trine license install cad-pro.license
  trine license list
  trine license show cad-pro")]
pub struct License {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Request(Request),
    Install(Install),
    List(List),
    Show(Show),
    WithdrawShare(WithdrawShare),
    Repair(repair::Repair),
}

/// Write the cluster's request for a license, to send to the vendor
///
/// All three nodes must be up. Tell the vendor the fingerprint by another way
/// than the file, so that they know it is yours.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license request
  trine license request -o our-cluster.request")]
struct Request {
    /// Where to write it
    #[arg(short, long, value_name = "FILE", default_value = "cluster.request")]
    output: PathBuf,
    /// Replace the file if it is there
    #[arg(long)]
    force: bool,
}

/// Install or update a license
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license install cad-pro.license")]
struct Install {
    /// The vendor's package
    file: PathBuf,
}

/// List the installed licenses
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license list
  trine --json license list | jq '.licenses[] | select(.serving | not)'")]
struct List {}

/// Show one license, or all of one product
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license show cad-pro
  trine license show 6000010:1:1")]
struct Show {
    /// License id (FIRM:PRODUCT:TMR) or product name
    license: String,
}

/// Take one node's share of a license out of service
///
/// Until an update of the license is installed the node's share counts as
/// missing. With two shares left the license serves; with one it does not.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine license withdraw-share 6000010:1:1 --node 3
  trine license withdraw-share 6000010:1:1 --node 3 --yes")]
struct WithdrawShare {
    /// License id: FIRM:PRODUCT:TMR
    #[arg(value_parser = parse_license)]
    license: LicenseId,
    /// Whose share
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    node: u64,
    /// Do not ask
    #[arg(long)]
    yes: bool,
}

fn parse_license(text: &str) -> Result<LicenseId, String> {
    LicenseId::parse(text).map_err(|error| error.to_string())
}

/// `trine license request --json`
#[derive(Debug, Serialize)]
struct Requested {
    /// The file written.
    request: PathBuf,
    /// To tell the vendor by another way.
    fingerprint: String,
    /// Of the cluster CA, to tell the vendor by another way.
    ca_fingerprint: String,
    /// 131-…
    virtual_container: String,
}

/// `trine license install --json`
#[derive(Debug, Serialize)]
struct Installed {
    /// Whether two shares of it serve already.
    serving: bool,
    /// FIRM:PRODUCT:TMR
    license: String,
    /// Which update.
    serial: u64,
}

/// `trine license list --json`
#[derive(Debug, Serialize)]
struct Listed {
    /// By product and id.
    licenses: Vec<report::License>,
    /// Ids of those that are installed and not there for users, because fewer
    /// than two of their shares are live.
    hidden: Vec<String>,
}

/// `trine license show --json`
#[derive(Debug, Serialize)]
struct Shown {
    /// By product and id.
    licenses: Vec<report::License>,
}

/// `trine license withdraw-share --json`
#[derive(Debug, Serialize)]
struct Withdrawn {
    /// FIRM:PRODUCT:TMR
    license: String,
    /// Whose share.
    node: u64,
    /// Always true.
    withdrawn: bool,
}

impl License {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        online::runtime()?.block_on(async {
            let connection = Connection::find(&call.global, Purpose::Operator).await?;
            match self.action {
                Action::Request(request) => request.run(call, &connection).await,
                Action::Install(install) => install.run(call, &connection).await,
                Action::List(List {}) => list(call, &connection).await,
                Action::Show(show) => show.run(call, &connection).await,
                Action::WithdrawShare(withdraw) => withdraw.run(call, &connection).await,
                Action::Repair(repair) => repair.run(call, &connection).await,
            }
        })
    }
}

impl Request {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let existing = Existing::forced(self.force);
        files::must_be_new("request", &self.output, existing)?;
        let reply = connection.operator().request_license().await;
        let reply = reply.map_err(|error| connection.failed(&error))?;
        // Read back what is sent on: the fingerprint is of these very bytes.
        let request = license::request::ClusterRequest::decode(&reply.request)
            .map_err(|error| Failure::refused("REQUEST_REFUSED", error))?;
        files::write("request", &self.output, &reply.request, Access::Shared, existing)?;
        let (fingerprint, ca_fingerprint) = crate::vendor_dir::fingerprints(&request);
        let requested = Requested {
            request: self.output,
            fingerprint,
            ca_fingerprint,
            virtual_container: request.virtual_serial().to_string(),
        };
        call.console.result(&requested, |page| {
            let title = format!("Send {} to the vendor", requested.request.display());
            let title = page.tone(Tone::Strong, &title);
            page.line(title);
            page.facts(&[
                (
                    "fingerprint",
                    format!("{}  (tell the vendor by another way)", requested.fingerprint),
                ),
                (
                    "CA fingerprint",
                    format!("{}  (tell the vendor by another way)", requested.ca_fingerprint),
                ),
                ("container", requested.virtual_container.clone()),
            ]);
        })?;
        Ok(Exit::Done)
    }
}

impl Install {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let package = files::read("license package", &self.file, FILE_BYTES_MAX)?;
        let installed = connection.operator().install_license(package).await;
        let installed = installed.map_err(|error| connection.failed(&error))?;
        let reason = connection.serving(&installed.license, installed.serial, SERVING_MAX).await?;
        let (license, serial) = (installed.license, installed.serial);
        let installed = Installed { license, serial, serving: reason.is_none() };
        call.console.result(&installed, |page| {
            let Installed { license, serial, .. } = &installed;
            page.line(format_args!("License {license} serial {serial} is installed"));
            page.line(match &reason {
                None => "and serves".to_owned(),
                Some(reason) => format!("and does not serve yet: {reason}"),
            });
        })?;
        Ok(Exit::Done)
    }
}

/// All that are installed, those too that are not there for users.
async fn installed(connection: &Connection) -> Result<Vec<report::License>, Failure> {
    let status = connection.operator().status().await;
    let licenses = status.map_err(|error| connection.unread(&error))?.licenses;
    let mut licenses: Vec<report::License> = licenses.into_iter().map(Into::into).collect();
    licenses.sort_by(|a, b| (&a.product, &a.id).cmp(&(&b.product, &b.id)));
    Ok(licenses)
}

async fn list(call: &Call, connection: &Connection) -> Result<Exit, Failure> {
    let serving = connection.operator().list_licenses().await;
    let serving = serving.map_err(|error| connection.unread(&error))?.licenses;
    let there = |id: &str| serving.iter().any(|license| license.id == id);
    let (licenses, hidden): (Vec<_>, Vec<_>) =
        installed(connection).await?.into_iter().partition(|license| there(&license.id));
    let hidden = hidden.into_iter().map(|license| license.id).collect();
    let listed = Listed { licenses, hidden };
    call.console.result(&listed, |page| {
        match (&listed.licenses[..], &listed.hidden[..]) {
            ([], []) => page.line(
                "No licenses are installed. Ask the vendor for one with `trine license request`.",
            ),
            ([], _) => {}
            (licenses, _) => report::license_table(licenses, false, page),
        }
        if !listed.hidden.is_empty() {
            page.line(format_args!(
                "Installed, but not there for users with fewer than two live shares: {} (see `trine cluster status`)",
                listed.hidden.join(", ")
            ));
        }
    })?;
    Ok(Exit::Done)
}

impl Show {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let mut licenses = installed(connection).await?;
        licenses.retain(|license| license.product == self.license || license.id == self.license);
        if licenses.is_empty() {
            return Err(Failure::refused(
                "UNKNOWN_LICENSE",
                format!("no license or product {:?} is installed", self.license),
            )
            .next("see `trine license list`"));
        }
        let shown = Shown { licenses };
        call.console.result(&shown, |page| {
            shown.licenses.iter().for_each(|license| license.show(page));
        })?;
        Ok(Exit::Done)
    }
}

impl WithdrawShare {
    async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        if !self.yes {
            self.confirm(call)?;
        }
        let license = self.license.to_string();
        let withdrawn = connection.operator().withdraw_share(&license, self.node).await;
        withdrawn.map_err(|error| connection.failed(&error))?;
        let withdrawn = Withdrawn { license, node: self.node, withdrawn: true };
        call.console.result(&withdrawn, |page| {
            page.line(format_args!(
                "node-{}'s share of {} is withdrawn",
                withdrawn.node, withdrawn.license
            ));
        })?;
        Ok(Exit::Done)
    }

    fn confirm(&self, call: &Call) -> Result<(), Failure> {
        let question = format!(
            "node-{}'s share of {} stays out of service until the license is updated.\nWithdraw it?",
            self.node, self.license
        );
        call.console.confirm(&question, "add --yes if that is meant")
    }
}
