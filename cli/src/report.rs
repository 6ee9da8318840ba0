//! The cluster's answers as stable JSON objects and as table rows.

use license::product::WallTime;
use serde::Serialize;
use wire::v1;

use crate::console::{Cell, Page, Tone};
use crate::dates::show_date;

/// A license, as `trine license list|show` and `trine cluster status` print it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct License {
    /// FIRM:PRODUCT:TMR
    pub id: String,
    /// Which update.
    pub serial: u64,
    /// The name applications ask for.
    pub product: String,
    /// Seats sold; 0 when counting is unlimited.
    pub seats: u64,
    /// Seats held now.
    pub seats_held: u64,
    /// Requests in the queue.
    pub waiting: u64,
    /// per-instance, per-station, exclusive-per-station, unlimited
    pub counting: String,
    /// RFC 3339, or null: at once.
    pub activation: Option<String>,
    /// RFC 3339, or null: no end.
    pub expiration: Option<String>,
    /// The highest version covered, or null: any.
    pub version_max: Option<String>,
    /// 32 switches for the application.
    pub feature_map: u32,
    /// Text for the application.
    pub feature_text: String,
    /// Who sold it.
    pub vendor: String,
    /// Two shares signed for the current term.
    pub signed: bool,
    /// Whether it grants seats now.
    pub serving: bool,
    /// Why not, if not.
    pub reason: Option<String>,
    /// One per node.
    pub shares: Vec<Share>,
    /// Shares that an operator withdrew, of nodes that are gone too: nobody makes
    /// them again.
    pub withdrawn: Vec<Withdrawn>,
}

/// A share that was withdrawn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Withdrawn {
    /// The node that has it, or had it last.
    pub node: u64,
    /// The container that it is in, 130-…
    pub container: String,
}

/// One node's share of a license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Share {
    /// The node.
    pub node: u64,
    /// Its container, 130-…
    pub container: String,
    /// live, not proved, silent, withdrawn, without a share
    pub state: String,
}

impl From<v1::License> for License {
    fn from(license: v1::License) -> Self {
        Self {
            id: license.id,
            serial: license.serial,
            product: license.product,
            seats: license.seats,
            seats_held: license.seats_held,
            waiting: license.waiting,
            counting: license.counting,
            activation: license.activation_ms.map(|ms| show_date(WallTime(ms))),
            expiration: license.expiration_ms.map(|ms| show_date(WallTime(ms))),
            version_max: some(license.version_max),
            feature_map: license.feature_map,
            feature_text: license.feature_text,
            vendor: license.vendor,
            signed: license.signed,
            serving: license.serving,
            reason: some(license.reason),
            shares: license.shares.into_iter().map(Share::from).collect(),
            withdrawn: license
                .places
                .into_iter()
                .filter(|place| place.withdrawn)
                .map(|place| Withdrawn { node: place.node, container: place.container })
                .collect(),
        }
    }
}

impl From<v1::Share> for Share {
    fn from(share: v1::Share) -> Self {
        Self { node: share.node, container: share.container, state: share.state }
    }
}

/// The wire says "absent" with an empty text.
fn some(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl License {
    /// `12 of 50`, or `12` when nothing is counted.
    pub fn seats_in_words(&self) -> String {
        match self.seats {
            0 => self.seats_held.to_string(),
            seats => format!("{} of {seats}", self.seats_held),
        }
    }

    /// The shares, node by node: `1 live, 2 silent, 3 live`.
    fn shares_in_words(&self) -> String {
        let one = |share: &Share| format!("{} {}", share.node, share.state);
        self.shares.iter().map(one).collect::<Vec<_>>().join(", ")
    }

    /// What was withdrawn, and what to do; `None` when nothing was.
    fn withdrawn_in_words(&self) -> Option<String> {
        let whose = self.withdrawn.iter().map(|it| format!("node-{} ({})", it.node, it.container));
        let whose = whose.collect::<Vec<_>>().join(" and ");
        (!self.withdrawn.is_empty()).then(|| {
            format!(
                "the share of {whose} was withdrawn: until the vendor issues the license anew \
                 (`trine license request`) nobody makes it again"
            )
        })
    }

    /// All three live is good; with two it serves, but no other may go.
    fn shares_tone(&self) -> Tone {
        match self.shares.iter().filter(|share| share.state == "live").count() {
            0 | 1 => Tone::Bad,
            2 => Tone::Warning,
            _ => Tone::Good,
        }
    }

    fn serving_in_words(&self) -> (Tone, String) {
        match (self.serving, &self.reason) {
            (true, _) => (Tone::Good, "yes".to_owned()),
            (false, Some(reason)) => (Tone::Bad, format!("no: {reason}")),
            (false, None) => (Tone::Bad, "no".to_owned()),
        }
    }

    /// All of it, one fact a line.
    pub fn show(&self, page: &mut Page) {
        let otherwise = |value: &Option<String>, otherwise: &str| {
            value.clone().unwrap_or_else(|| otherwise.to_owned())
        };
        let title = page.tone(Tone::Strong, &format!("{} ({})", self.product, self.id));
        page.line(title);
        let (tone, serving) = self.serving_in_words();
        let facts = [
            ("serving", page.tone(tone, &serving)),
            ("seats held", self.seats_in_words()),
            ("waiting", self.waiting.to_string()),
            ("counting", self.counting.clone()),
            ("shares", page.tone(self.shares_tone(), &self.shares_in_words())),
            ("signed for this term", if self.signed { "yes" } else { "no" }.to_owned()),
            ("from", otherwise(&self.activation, "at once")),
            ("until", otherwise(&self.expiration, "no end")),
            ("highest version", otherwise(&self.version_max, "any")),
            ("features", format!("{:#010x}", self.feature_map)),
            ("text", self.feature_text.clone()),
            ("vendor", self.vendor.clone()),
            ("serial", self.serial.to_string()),
        ];
        page.facts(&facts);
        let containers =
            self.shares.iter().map(|share| format!("node-{} {}", share.node, share.container));
        page.facts(&[("containers", containers.collect::<Vec<_>>().join(", "))]);
        self.show_withdrawn(page);
    }

    fn show_withdrawn(&self, page: &mut Page) {
        if let Some(words) = self.withdrawn_in_words() {
            let line = format!("{} ({}): {words}", self.product, self.id);
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
    }
}

/// Licenses as a table, and why some of them do not serve.
///
/// `withheld` says that the cluster grants nothing, whatever the licenses are.
pub fn license_table(licenses: &[License], withheld: bool, page: &mut Page) {
    let rows = licenses.iter().map(|license| {
        let serving = match license.serving {
            true if withheld => Cell::toned(Tone::Bad, "withheld"),
            true => Cell::toned(Tone::Good, "yes"),
            false => Cell::toned(Tone::Bad, "no"),
        };
        vec![
            Cell::from(license.product.clone()),
            license.id.clone().into(),
            license.serial.to_string().into(),
            license.seats_in_words().into(),
            license.waiting.to_string().into(),
            license.expiration.clone().unwrap_or_else(|| "no end".to_owned()).into(),
            Cell::toned(license.shares_tone(), license.shares_in_words()),
            serving,
        ]
    });
    page.table(
        &["product", "license", "serial", "held", "waiting", "until", "shares by node", "serving"],
        rows,
    );
    // Below the table, whose rows they would make too long to read.
    for license in licenses {
        if let Some(reason) = license.reason.as_ref().filter(|_| !license.serving) {
            let line = format!("{} ({}): {reason}", license.product, license.id);
            let line = page.tone(Tone::Bad, &line);
            page.line(line);
        }
        license.show_withdrawn(page);
    }
}

/// So many seats, in words.
pub fn seats(count: u64) -> String {
    if count == 1 { "1 seat".to_owned() } else { format!("{count} seats") }
}

/// Bytes as hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String does not fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}
