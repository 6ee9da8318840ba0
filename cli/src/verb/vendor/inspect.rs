//! `trine vendor inspect`: what a file says it is.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use clap::Args;
use license::inspect::{
    Contents, FirmContents, Inspection, PackageContents, RequestContents, ResetContents,
};
use license::product::WallTime;
use license::request::ClusterRequest;
use node::enrollment;
use serde::Serialize;

use super::Call;
use crate::console::{Page, Tone};
use crate::dates::show_date;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files;
use crate::vendor_dir::FILE_BYTES_MAX;

/// Explain any Trine file: package, request, clock reset, trust root, key, backup, export
///
/// Shows what the file says; nothing in it is believed, and no passphrase is
/// needed. Secrets are never shown. Ends with exit code 2 when the file is damaged
/// or none of Trine's.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine vendor inspect cad-pro.license
  trine vendor inspect --json customer.request")]
pub(super) struct Inspect {
    /// The file
    file: PathBuf,
}

impl Inspect {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        if let Some(other) = Other::at(&self.file) {
            call.console.result(&other, |page| {
                let title = page.tone(Tone::Strong, other.title);
                page.line(title);
                page.facts(&[("length", format!("{} bytes", other.length))]);
            })?;
            return Ok(Exit::Done);
        }
        let bytes = files::read("file", &self.file, FILE_BYTES_MAX)?;
        let inspection = license::inspect::inspect(&bytes)
            .map_err(|error| Failure::usage(format!("{}: {error}", self.file.display())))?;
        let vouched = match ClusterRequest::decode(&bytes) {
            Ok(request) => Some(Vouched::of(&request, call.world.wall_time())),
            Err(_) => None,
        };
        let shown = Shown { inspection, vouched };
        call.console.result(&shown, |page| show(&shown, page))?;
        // What could be told was; the file is of no use all the same.
        Ok(match shown.inspection.contents {
            Contents::Unreadable { .. } => Exit::Usage,
            _ => Exit::Done,
        })
    }
}

/// `trine vendor inspect --json`
#[derive(Debug, Serialize)]
struct Shown {
    #[serde(flatten)]
    inspection: Inspection,
    /// Of a cluster's request: whether the CA it names vouches for all three
    /// containers now. Null for other files.
    vouched: Option<Vouched>,
}

/// A file that is no vendor's affair, and may be large: what it is, by its
/// first bytes.
#[derive(Debug, Serialize)]
struct Other {
    length: u64,
    contents: OtherContents,
    #[serde(skip)]
    title: &'static str,
}

#[derive(Debug, Serialize)]
struct OtherContents {
    /// backup or usage-export.
    kind: &'static str,
}

impl Other {
    fn at(path: &Path) -> Option<Self> {
        const KINDS: [(&[u8], &str, &str); 2] = [
            (
                b"age-encryption.org/v1",
                "backup",
                "A file sealed with age, as backups are: read it with `trine cluster backup --verify`",
            ),
            (
                crate::usage::file::MAGIC,
                "usage-export",
                "An export of the usage history: read it with `trine usage verify --file`",
            ),
        ];
        let mut file = File::open(path).ok()?;
        let length = file.metadata().ok()?.len();
        let mut start = Vec::new();
        file.by_ref().take(32).read_to_end(&mut start).ok()?;
        let (_, kind, title) = KINDS.into_iter().find(|(magic, ..)| start.starts_with(magic))?;
        Some(Self { length, contents: OtherContents { kind }, title })
    }
}

#[derive(Debug, Serialize)]
struct Vouched {
    /// Whether the three chains hold.
    holds: bool,
    /// Why not, and what to do; null if they do.
    problem: Option<String>,
}

impl Vouched {
    fn of(request: &ClusterRequest, now: WallTime) -> Self {
        let problem = enrollment::check_request(request, now).err().map(|why| why.to_string());
        Self { holds: problem.is_none(), problem }
    }

    fn words(&self) -> String {
        match &self.problem {
            None => "by that CA, all three".to_owned(),
            Some(problem) => format!("NOT: {problem}"),
        }
    }
}

fn show(shown: &Shown, page: &mut Page) {
    let inspection = &shown.inspection;
    let (title, facts) = match &inspection.contents {
        Contents::Package(package) => {
            ("A license package: install it with `trine license install`", package_facts(package))
        }
        Contents::Container(container) => (
            "A node's container: its secret identity, which must never leave the node",
            vec![
                ("serial", container.serial.clone()),
                ("activation id", container.act.to_string()),
                ("fingerprint", container.fingerprint.clone()),
            ],
        ),
        Contents::SealedContainer(sealed) => {
            let mut facts = vec![
                ("serial", sealed.container.serial.clone()),
                ("activation id", sealed.container.act.to_string()),
                ("fingerprint", sealed.container.fingerprint.clone()),
                ("tolerance", format!("{}: weight {} opens it", sealed.tolerance, sealed.needed)),
            ];
            let traits = sealed.traits.iter();
            facts.extend(
                traits.map(|(name, weight)| ("sealed to", format!("{name}  (weight {weight})"))),
            );
            ("A node's container, sealed to its host", facts)
        }
        Contents::ContainerRequest(request) => {
            ("One container's request for a share", request_facts(request))
        }
        Contents::ClusterRequest(request) => {
            let mut facts = vec![
                ("fingerprint", format!("{}  (compare it with the customer)", request.fingerprint)),
                ("cluster", request.cluster.clone()),
                ("virtual container", request.virtual_serial.clone()),
                (
                    "CA fingerprint",
                    format!("{}  (compare it with the customer)", request.ca_fingerprint),
                ),
            ];
            facts.extend(shown.vouched.iter().map(|vouched| ("vouched for", vouched.words())));
            facts.extend(
                request.requests.iter().map(|one| {
                    ("container", format!("node-{}  {}", one.node, one.container.serial))
                }),
            );
            ("A cluster's request for a license: answer it with `trine vendor issue`", facts)
        }
        Contents::Enrollment { node, container } => (
            "A node's request for a certificate of its container: answer it with `trine pki enroll`",
            vec![
                ("node", format!("node-{node}")),
                ("container", container.serial.clone()),
                ("activation id", container.act.to_string()),
                ("fingerprint", format!("{}  (compare it with the node)", container.fingerprint)),
            ],
        ),
        Contents::VendorRoot { name, fingerprint } => (
            "A vendor's trust root: name it under vendor_roots in every node's configuration before the cluster is formed; a formed one takes it by `trine trust add`",
            vec![
                ("vendor", name.clone()),
                ("fingerprint", format!("{fingerprint}  (compare it with the vendor)")),
            ],
        ),
        Contents::FirmCertificate(firm) => ("A root's certificate of a firm", firm_facts(firm)),
        Contents::ClockReset(reset) => (
            "A vendor's clock reset: install it with `trine cluster clock-reset`",
            reset_facts(reset),
        ),
        Contents::EncryptedKey => {
            ("A vendor's private key, encrypted under a passphrase", Vec::new())
        }
        Contents::Unreadable { file_kind, reason } => (
            "A Trine file that cannot be read",
            vec![("kind", file_kind.to_string()), ("reason", reason.clone())],
        ),
    };
    let title = page.tone(Tone::Strong, title);
    page.line(title);
    let mut all = facts;
    if let Some(version) = inspection.version {
        all.push(("format version", version.to_string()));
    }
    all.push(("length", format!("{} bytes", inspection.length)));
    all.push(("SHA-256", inspection.sha256.clone()));
    page.facts(&all);
}

fn package_facts(package: &PackageContents) -> Vec<(&'static str, String)> {
    let date =
        |date: Option<WallTime>, otherwise: &str| date.map_or(otherwise.to_owned(), show_date);
    let mut facts = vec![
        ("license", format!("{} serial {}", package.license, package.serial)),
        ("product", package.name.clone()),
        (
            "seats",
            if package.seats == 0 { "unlimited".to_owned() } else { package.seats.to_string() },
        ),
        ("counting", counting(package)),
        ("from", date(package.activation, "at once")),
        ("until", date(package.expiration, "no end")),
        ("highest version", package.version_max.clone().unwrap_or_else(|| "any".to_owned())),
        ("features", format!("{:#010x}", package.feature_map)),
        ("text", package.feature_text.clone()),
        ("issued", show_date(package.issued)),
        ("cluster", package.cluster.clone()),
        ("activation id", package.act.to_string()),
        ("containers", package.containers.join(", ")),
    ];
    if !package.extensions.is_empty() {
        let tags: Vec<String> = package.extensions.iter().map(u16::to_string).collect();
        facts.push(("further terms", tags.join(", ")));
    }
    facts.extend(firm_facts(&package.certificate));
    facts
}

fn counting(package: &PackageContents) -> String {
    match serde_json::to_value(package.counting) {
        Ok(serde_json::Value::String(name)) => name,
        _ => format!("{:?}", package.counting),
    }
}

fn firm_facts(firm: &FirmContents) -> Vec<(&'static str, String)> {
    vec![
        ("vendor", format!("{} (firm code {})", firm.vendor, firm.firm)),
        ("firm key", firm.fingerprint.clone()),
        ("certified by root", firm.issuer.clone()),
    ]
}

fn reset_facts(reset: &ResetContents) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("cluster", reset.cluster.clone()),
        ("serial", format!("{}  (counts once)", reset.serial)),
        ("wrong date", format!("{} or later", show_date(reset.from))),
        ("goes on from", show_date(reset.to)),
        ("issued", show_date(reset.issued)),
    ];
    facts.extend(firm_facts(&reset.certificate));
    facts
}

fn request_facts(request: &RequestContents) -> Vec<(&'static str, String)> {
    vec![
        ("node", format!("node-{}", request.node)),
        ("cluster", request.cluster.clone()),
        ("container", request.container.serial.clone()),
        ("activation id", request.container.act.to_string()),
        ("fingerprint", request.container.fingerprint.clone()),
    ]
}
