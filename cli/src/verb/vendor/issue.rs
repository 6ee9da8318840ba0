//! `trine vendor issue`: from a request and terms to a license package.

mod containers;
mod sold;

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use license::product::{LicenseSerial, ProductCode, ProductName, Version, WallTime};
use license::request::ClusterRequest;
use license::terms::{Counting, Feature, Terms};
use serde::Serialize;

use self::containers::Exchange;
use self::sold::{Asked, Bound, Change};
use super::{Call, Place};
use crate::console::Tone;
use crate::dates::{parse_date, show_date};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::passphrase::{self, Typing};
use crate::vendor_dir::{self, Entry, Sold, VendorDir};

/// Issue a license for the cluster that asks
///
/// The customer's CA vouches for the three containers in the request; whose CA
/// it is only the customer can say. Compare the two fingerprints that are shown
/// with what they read out from their side, by telephone or another way, or give
/// the CA's with --ca-fingerprint where they told it before. A request whose
/// chains of certificates do not hold is refused. Product code and serial come
/// from the vendor's book (issued.jsonl) unless given: a known product keeps its
/// code, and issuing it again makes an update with the next serial.
///
/// An update keeps every term that is not given here: seats, counting, dates,
/// version, features and text are as this customer had them, by the book. What
/// is different is shown. `none` takes an end, a beginning or a version away.
///
/// A share opens in one container only, and what was issued before goes on
/// serving where its containers are. Containers of an earlier issue that are
/// missing in the request are shown; where two of one issue are, which could serve
/// without the third, it is refused until the customer has said what became of
/// them (--containers-gone).
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine vendor issue --request customer.request --product cad-pro --seats 50 \\
      --expiration 2027-01-01 -o cad-pro.license
  trine vendor issue --request customer.request --product cad-pro -o again.license   # the same terms, split anew
  trine vendor issue --request customer.request --product cad-pro --seats 80 \\
      --ca-fingerprint 1f2e-3d4c-5b6a-7988-1f2e-3d4c-5b6a-7988 --expiration 2028-01-01 -o cad-pro-2.license
  trine vendor issue --request customer.request --product render --counting unlimited -o render.license")]
pub(super) struct Issue {
    #[command(flatten)]
    place: Place,
    /// The customer's request, made by `trine license request`
    #[arg(long, value_name = "FILE")]
    request: PathBuf,
    /// Of the customer's CA, as they told it; asked for if it is not given
    #[arg(long, value_name = "FINGERPRINT", value_parser = fingerprint)]
    ca_fingerprint: Option<String>,
    /// The name applications ask for: 1 to 64 of a-z 0-9 . _ -
    #[arg(long, value_name = "NAME")]
    product: String,
    /// How many seats [default: as before; none when counting is unlimited]
    #[arg(long)]
    seats: Option<u32>,
    /// The product's number within the firm [default: from the book]
    #[arg(long, value_name = "CODE")]
    product_code: Option<u32>,
    /// Tells licenses of one product apart
    #[arg(long, value_name = "ID", default_value_t = 1)]
    tmr_id: u32,
    /// What takes a seat [default: as before, or per-instance]
    #[arg(long, value_enum)]
    counting: Option<CountingArg>,
    /// Valid from: 2027-01-31 (UTC), RFC 3339, or none [default: as before, or none]
    #[arg(long, value_name = "DATE", value_parser = date_or_none)]
    activation: Option<Bound<WallTime>>,
    /// Valid until, this instant not included: 2028-01-31 (UTC), RFC 3339, or none
    /// [default: as before, or none]
    #[arg(long, value_name = "DATE", value_parser = date_or_none)]
    expiration: Option<Bound<WallTime>>,
    /// The highest product version covered: MAJOR, MAJOR.MINOR, or none [default: as
    /// before, or none]
    #[arg(long, value_name = "VERSION", value_parser = version_or_none)]
    version_max: Option<Bound<Version>>,
    /// 32 switches for the application, decimal or 0x… [default: as before, or 0]
    #[arg(long, value_name = "BITS", value_parser = parse_map)]
    feature_map: Option<u32>,
    /// Text for the application [default: as before, or none]
    #[arg(long)]
    text: Option<String>,
    /// Keep nothing of what this customer had: what is not given is as for a first license
    #[arg(long)]
    from_scratch: bool,
    /// The customer says that the missing containers of earlier issues are gone for good
    #[arg(long)]
    containers_gone: bool,
    /// Which update this is; must rise [default: from the book]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    serial: Option<u64>,
    /// Where to write the package
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Replace the output file
    #[arg(long)]
    force: bool,
}

/// What takes a seat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum CountingArg {
    /// Every lease takes a seat
    PerInstance,
    /// All leases of one station share a seat
    PerStation,
    /// A station takes one seat and may hold one lease
    ExclusivePerStation,
    /// Nothing is counted
    Unlimited,
}

impl From<CountingArg> for Counting {
    fn from(counting: CountingArg) -> Self {
        match counting {
            CountingArg::PerInstance => Self::PerInstance,
            CountingArg::PerStation => Self::PerStation,
            CountingArg::ExclusivePerStation => Self::ExclusivePerStation,
            CountingArg::Unlimited => Self::Unlimited,
        }
    }
}

/// A fingerprint as it is shown: 32 hexadecimal digits in groups of four.
fn fingerprint(text: &str) -> Result<String, String> {
    let digits: Vec<char> = text.trim().chars().filter(|letter| *letter != '-').collect();
    if digits.len() != 32 || !digits.iter().all(char::is_ascii_hexdigit) {
        let rule = "write it as it is shown: eight groups of four hexadecimal digits";
        return Err(rule.to_owned());
    }
    let groups = digits.chunks(4).map(|group| group.iter().collect::<String>());
    Ok(groups.collect::<Vec<_>>().join("-").to_ascii_lowercase())
}

/// `trine vendor issue --json`
#[derive(Debug, Serialize)]
struct Issued {
    /// FIRM:PRODUCT:TMR
    license: String,
    /// Which update.
    serial: u64,
    /// The product's name.
    product: String,
    /// 0 when counting is unlimited.
    seats: u32,
    /// What takes a seat.
    counting: Counting,
    /// The cluster it is for.
    cluster: String,
    /// The virtual container users see, 131-…
    virtual_container: String,
    /// To compare with the customer.
    request_fingerprint: String,
    /// Of the cluster CA, to compare with the customer.
    ca_fingerprint: String,
    /// RFC 3339, or null.
    activation: Option<String>,
    /// RFC 3339, or null.
    expiration: Option<String>,
    /// The highest product version covered, or null: any.
    version_max: Option<String>,
    /// 32 switches for the application.
    feature_map: u32,
    /// Text for the application.
    text: String,
    /// The serial that this customer had before, or null: none that the book knows.
    previous_serial: Option<u64>,
    /// What is different from that, if the book says what it was.
    changed: Vec<Change>,
    /// Containers of earlier issues that the customer called gone for good.
    containers_gone: Vec<String>,
    /// The file written.
    package: PathBuf,
}

impl Issue {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let dir = VendorDir::new(&self.place.dir);
        let existing = Existing::forced(self.force);
        files::must_be_new("package", &self.output, existing)?;
        let now = call.world.wall_time();
        let request = vendor_dir::read_request(&self.request, now)?;
        let draft = self.draft(&dir, &request, now)?;
        draft.terms.validate().map_err(Failure::usage)?;
        if let Some(exchange) = &draft.exchange {
            exchange.check(self.containers_gone)?;
        }
        let changed = draft.previous.changes(&draft.sold);
        let words = draft.in_words(&changed);
        self.compare(&request, &words, call)?;
        let Draft { terms, sold, previous, exchange, .. } = draft;
        let passphrase = passphrase::find(self.place.passphrase_file.as_deref(), Typing::Once)?;
        let vendor = dir.open(&passphrase)?;
        let containers_gone = match exchange {
            Some(exchange) if self.containers_gone => exchange.gone,
            _ => Vec::new(),
        };
        let package = dir.issue(&vendor, &request, terms.clone(), containers_gone.clone())?;
        files::write("package", &self.output, &package.encode(), Access::Shared, existing)?;
        let (request_fingerprint, ca_fingerprint) = vendor_dir::fingerprints(&request);
        let issued = Issued {
            license: terms.license.to_string(),
            serial: terms.serial.0,
            product: terms.name.to_string(),
            seats: terms.seats,
            counting: terms.counting,
            cluster: terms.cluster.to_string(),
            virtual_container: request.virtual_serial().to_string(),
            request_fingerprint,
            ca_fingerprint,
            activation: terms.activation.map(show_date),
            expiration: terms.expiration.map(show_date),
            version_max: sold.version_max.clone(),
            feature_map: sold.feature_map,
            text: sold.text.clone(),
            previous_serial: previous.serial(),
            changed,
            containers_gone,
            package: self.output,
        };
        call.console.result(&issued, |page| {
            let mut lines = words.lines();
            let title = page.tone(Tone::Strong, lines.next().unwrap_or_default());
            page.line(title);
            lines.for_each(|line| page.line(line));
            page.facts(&[
                ("for", format!("{} (cluster {})", issued.virtual_container, issued.cluster)),
                ("package", issued.package.display().to_string()),
                ("request fingerprint", issued.request_fingerprint.clone()),
                ("cluster CA fingerprint", issued.ca_fingerprint.clone()),
            ]);
        })?;
        Ok(Exit::Done)
    }

    /// Whether the request is the customer's, by the CA that vouches for it.
    fn compare(&self, request: &ClusterRequest, words: &str, call: &Call) -> Result<(), Failure> {
        let (request_fingerprint, ca_fingerprint) = vendor_dir::fingerprints(request);
        if let Some(told) = &self.ca_fingerprint {
            if *told == ca_fingerprint {
                return Ok(());
            }
            let what = format!(
                "{} is vouched for by the CA {ca_fingerprint}, and the customer's is {told}",
                self.request.display()
            );
            return Err(Failure::refused("REQUEST_REFUSED", what)
                .next("do not issue it: ask the customer to read out what `trine license request` shows, and to send the request again"));
        }
        let question = format!(
            "{words}request fingerprint     {request_fingerprint}\n\
             cluster CA fingerprint  {ca_fingerprint}\n\
             Does the customer read out the same two?"
        );
        let otherwise =
            format!("compare with the customer, then add --ca-fingerprint {ca_fingerprint}");
        call.console.confirm(&question, &otherwise)
    }

    /// What is to be issued, and what the customer had.
    fn draft(
        &self,
        dir: &VendorDir,
        request: &ClusterRequest,
        now: WallTime,
    ) -> Result<Draft, Failure> {
        let name = ProductName::parse(&self.product)?;
        let firm = dir.certificate()?.firm();
        let entries = match dir.entries() {
            // Without the book, if all it numbers is given.
            Err(_) if self.product_code.is_some() && self.serial.is_some() => Vec::new(),
            entries => entries?,
        };
        let code = match self.product_code {
            Some(code) => ProductCode(code),
            None => vendor_dir::product_code(&entries, &name),
        };
        let license = vendor_dir::license_id(firm, code, self.tmr_id);
        let serial = match self.serial {
            Some(serial) => LicenseSerial(serial),
            None => vendor_dir::next_serial(&entries, license),
        };
        let last = vendor_dir::last_to(&entries, license, &request.cluster());
        let is_numbered_by_hand = self.serial.is_some_and(|serial| serial > 1);
        let previous = match last {
            None => Previous::None,
            Some(Entry { serial, sold: None, .. }) => Previous::Serial(*serial),
            Some(Entry { serial, sold: Some(sold), .. }) => Previous::Known(*serial, sold.clone()),
        };
        // What the customer had stands in the report even where nothing is kept of it.
        let kept = match &previous {
            _ if self.from_scratch => None,
            Previous::Known(_, sold) => Some(sold),
            Previous::None if !is_numbered_by_hand => None,
            // Whether there was another license nobody knows, or what was in it.
            Previous::None | Previous::Serial(_) => {
                return Err(Failure::usage(format!(
                    "the book does not say what this customer has by license {license} now, so nothing can be kept of it"
                ))
                .next("give every term that is to hold, and --from-scratch"));
            }
        };
        let asked = Asked {
            seats: self.seats,
            counting: self.counting.map(Counting::from),
            activation: self.activation,
            expiration: self.expiration,
            version_max: self.version_max,
            feature_map: self.feature_map,
            text: self.text.clone(),
        };
        let sold = asked.sold(kept, now)?;
        let version_max = sold.version_max.as_deref().map(Version::parse).transpose()?;
        let terms = Terms {
            license,
            serial,
            act: request.act(),
            cluster: request.cluster(),
            name,
            seats: sold.seats,
            counting: sold.counting,
            activation: sold.activation_ms,
            expiration: sold.expiration_ms,
            version_max,
            feature: Feature { map: sold.feature_map, text: sold.text.clone() },
            issued: now,
            extensions: Vec::new(),
        };
        let earlier = vendor_dir::all_to(&entries, license, &request.cluster());
        let exchange = Exchange::since(earlier, &vendor_dir::containers(request));
        let knows_whom = last.is_none_or(|entry| !entry.containers.is_empty());
        Ok(Draft { terms, sold, previous, exchange, knows_whom })
    }
}

/// What is to be issued.
struct Draft {
    terms: Terms,
    sold: Sold,
    previous: Previous,
    exchange: Option<Exchange>,
    /// Whether the book says for which containers the customer's license was split.
    knows_whom: bool,
}

impl Draft {
    /// The terms, and what they change, as people read them before and after.
    fn in_words(&self, changed: &[Change]) -> String {
        let Self { terms, sold, previous, exchange, knows_whom } = self;
        let Terms { license, serial, name, .. } = terms;
        let mut words = format!("License {license} serial {} for {name}\n", serial.0);
        for (term, value) in sold::facts(sold) {
            words.push_str(&format!("{term:22}  {value}\n"));
        }
        match previous {
        Previous::None => {
            words.push_str("A first license for this customer, as far as the book knows.\n");
        }
        Previous::Serial(before) => words.push_str(&format!(
            "The customer has serial {before}; what was in it the book does not say, so compare the terms yourself.\n"
        )),
        Previous::Known(before, _) if changed.is_empty() => {
            words.push_str(&format!("All terms are those of serial {before}.\n"));
        }
        Previous::Known(before, _) => {
            words.push_str(&format!("Different from serial {before}:\n"));
            for Change { term, before, now } in changed {
                words.push_str(&format!("{term:22}  {before} -> {now}\n"));
            }
        }
    }
        if !knows_whom {
            words.push_str(
                "For which containers that was split the book does not say: where they still run, it serves beside this issue.\n",
            );
        }
        if let Some(exchange) = exchange {
            words.push_str(&exchange.in_words());
        }
        words
    }
}

/// What the customer had before, as far as the book knows.
enum Previous {
    None,
    /// An older line, which does not say what was in it.
    Serial(u64),
    Known(u64, Sold),
}

impl Previous {
    fn serial(&self) -> Option<u64> {
        match self {
            Self::None => None,
            Self::Serial(serial) | Self::Known(serial, _) => Some(*serial),
        }
    }

    fn changes(&self, now: &Sold) -> Vec<Change> {
        match self {
            Self::None | Self::Serial(_) => Vec::new(),
            Self::Known(_, before) => sold::changes(before, now),
        }
    }
}

fn date_or_none(text: &str) -> Result<Bound<WallTime>, String> {
    Bound::parse(text, parse_date)
}

fn version_or_none(text: &str) -> Result<Bound<Version>, String> {
    Bound::parse(text, |text| Version::parse(text).map_err(|error| error.to_string()))
}

fn parse_map(text: &str) -> Result<u32, String> {
    let parsed = match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16),
        None => text.parse(),
    };
    parsed.map_err(|_| "write 32 bits as a decimal number or as 0x…, such as 0x0000000f".to_owned())
}
