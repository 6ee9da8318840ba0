//! A vendor's directory: two keys under a passphrase, what customers are given,
//! and the book of what was issued.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};

use license::key;
use license::package::Package;
use license::product::{
    ClusterId, FirmCode, LicenseId, LicenseSerial, ProductCode, ProductName, TmrId, WallTime,
};
use license::rand_core::UnwrapErr;
use license::request::ClusterRequest;
use license::reset::{ClockReset, ResetTerms};
use license::terms::{Counting, Terms};
use license::trust::FirmCertificate;
use license::vendor::{RootKey, Vendor};
use node::enrollment;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::failure::Failure;
use crate::files::{self, Access, Existing};

/// The operating system's randomness. Without it there are no secrets, so a
/// machine that has none ends the process.
pub fn system_randomness() -> UnwrapErr<rand::rngs::SysRng> {
    UnwrapErr(rand::rngs::SysRng)
}

/// Largest file of a vendor that is read, in bytes.
pub const FILE_BYTES_MAX: u64 = 1 << 20;

/// One line of the book: one package that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// FIRM:PRODUCT:TMR
    pub license: String,
    /// Which update.
    pub serial: u64,
    /// The product's name.
    pub product: String,
    /// The cluster it is for.
    pub cluster: String,
    /// Seats sold; 0 when counting is unlimited.
    pub seats: u32,
    /// When, in milliseconds since 1970.
    pub issued_ms: i64,
    /// The containers that it was split for, 130-…; none in lines of early builds.
    #[serde(default)]
    pub containers: Vec<String>,
    /// Containers of earlier issues that the customer called gone for good.
    #[serde(default)]
    pub containers_gone: Vec<String>,
    /// What was sold; absent in lines of early builds, which did not write it.
    #[serde(default)]
    pub sold: Option<Sold>,
}

/// What was sold, as far as an update keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sold {
    /// 0 when counting is unlimited.
    pub seats: u32,
    /// What takes a seat.
    pub counting: Counting,
    /// Valid from, in milliseconds since 1970.
    pub activation_ms: Option<WallTime>,
    /// Valid until, in milliseconds since 1970.
    pub expiration_ms: Option<WallTime>,
    /// The highest product version covered.
    pub version_max: Option<String>,
    /// 32 switches for the application.
    pub feature_map: u32,
    /// Text for the application.
    pub text: String,
}

impl From<&Terms> for Sold {
    fn from(terms: &Terms) -> Self {
        Self {
            seats: terms.seats,
            counting: terms.counting,
            activation_ms: terms.activation,
            expiration_ms: terms.expiration,
            version_max: terms.version_max.map(|version| version.to_string()),
            feature_map: terms.feature.map,
            text: terms.feature.text.clone(),
        }
    }
}

/// One clock reset, in its book.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct ResetEntry {
    /// The cluster it is for.
    cluster: String,
    /// Which one for that cluster.
    serial: u64,
    /// The wrong date, in milliseconds since 1970.
    from_ms: i64,
    /// The date to go on from, in milliseconds since 1970.
    to_ms: i64,
    /// When it was made, in milliseconds since 1970.
    issued_ms: i64,
}

/// A vendor's directory.
#[derive(Debug, Clone)]
pub struct VendorDir {
    dir: PathBuf,
}

impl VendorDir {
    /// The vendor in `dir`, which may not exist yet.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self { dir: dir.into() }
    }

    /// The public trust root, for customers.
    pub fn root_file(&self) -> PathBuf {
        self.dir.join("vendor.root")
    }

    /// The root key: needed to certify firms only, so best kept elsewhere.
    pub fn root_key(&self) -> PathBuf {
        self.dir.join("root.key")
    }

    /// The root's certificate of the firm key.
    pub fn firm_certificate(&self) -> PathBuf {
        self.dir.join("firm.cert")
    }

    /// The firm key: signs licenses.
    pub fn firm_key(&self) -> PathBuf {
        self.dir.join("firm.key")
    }

    /// The book of what was issued: one JSON object per line.
    pub fn book(&self) -> PathBuf {
        self.dir.join("issued.jsonl")
    }

    /// Makes a vendor: a root key, a firm key, and what belongs to them.
    pub fn create(
        &self,
        name: &str,
        firm: FirmCode,
        passphrase: &str,
        existing: Existing,
    ) -> Result<Vendor, Failure> {
        // All or none: half a vendor could not issue.
        for (what, path) in [
            ("trust root", self.root_file()),
            ("root key", self.root_key()),
            ("firm certificate", self.firm_certificate()),
            ("firm key", self.firm_key()),
        ] {
            files::must_be_new(what, &path, existing)?;
        }
        let random = &mut system_randomness();
        let root = RootKey::create(name, random).map_err(Failure::usage)?;
        let vendor = Vendor::create(&root, firm, name, random).map_err(Failure::usage)?;
        let root_key = root.export(passphrase.as_bytes(), random).map_err(Failure::usage)?;
        let firm_key = vendor.export(passphrase.as_bytes(), random).map_err(Failure::usage)?;
        files::private_dir("vendor directory", &self.dir)?;
        let secret = Access::Secret;
        files::write("root key", &self.root_key(), root_key.as_bytes(), secret, existing)?;
        files::write("firm key", &self.firm_key(), firm_key.as_bytes(), secret, existing)?;
        let certificate = vendor.certificate().encode();
        let shared = Access::Shared;
        files::write("firm certificate", &self.firm_certificate(), &certificate, shared, existing)?;
        files::write("trust root", &self.root_file(), &root.root_file(), shared, existing)?;
        Ok(vendor)
    }

    /// Opens the firm key.
    pub fn open(&self, passphrase: &str) -> Result<Vendor, Failure> {
        let path = self.firm_key();
        let pem = zeroize::Zeroizing::new(files::read("firm key", &path, FILE_BYTES_MAX)?);
        let pem = std::str::from_utf8(&pem)
            .map_err(|_| Failure::usage(format!("the firm key {} is not PEM", path.display())))?;
        Vendor::import(self.certificate()?, pem, passphrase.as_bytes())
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    }

    /// The firm's certificate; opens no key.
    pub fn certificate(&self) -> Result<FirmCertificate, Failure> {
        let path = self.firm_certificate();
        let bytes = files::read("firm certificate", &path, FILE_BYTES_MAX).map_err(|failure| {
            failure.next("make a vendor with `trine vendor init`, or name its directory with --dir")
        })?;
        FirmCertificate::decode(&bytes)
            .map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    }

    /// What was issued so far.
    pub fn entries(&self) -> Result<Vec<Entry>, Failure> {
        lines(&self.book(), "give --product-code and --serial")
    }

    /// Issues a license and writes it into the book, with the containers of earlier
    /// issues that the customer called gone.
    pub fn issue(
        &self,
        vendor: &Vendor,
        request: &ClusterRequest,
        terms: Terms,
        containers_gone: Vec<String>,
    ) -> Result<Package, Failure> {
        let entry = Entry {
            license: terms.license.to_string(),
            serial: terms.serial.0,
            product: terms.name.to_string(),
            cluster: terms.cluster.to_string(),
            seats: terms.seats,
            issued_ms: terms.issued.0,
            containers: containers(request),
            containers_gone,
            sold: Some(Sold::from(&terms)),
        };
        let package =
            vendor.issue(request, terms, &mut system_randomness()).map_err(Failure::usage)?;
        enter(&self.book(), &entry)?;
        Ok(package)
    }

    /// The book of clock resets: one JSON object per line.
    pub fn reset_book(&self) -> PathBuf {
        self.dir.join("resets.jsonl")
    }

    /// The serial of the next reset for `cluster`: one more than the book's last.
    pub fn next_reset(&self, cluster: &ClusterId) -> Result<u64, Failure> {
        let name = cluster.to_string();
        let entries: Vec<ResetEntry> = lines(&self.reset_book(), "give --serial")?;
        let serials = entries.iter().filter(|entry| entry.cluster == name).map(|e| e.serial);
        Ok(serials.max().unwrap_or(0).saturating_add(1))
    }

    /// Signs a clock reset and writes it into its book.
    pub fn reset_clock(&self, vendor: &Vendor, terms: ResetTerms) -> Result<ClockReset, Failure> {
        let reset = vendor.reset_clock(terms).map_err(Failure::usage)?;
        let entry = ResetEntry {
            cluster: terms.cluster.to_string(),
            serial: terms.serial,
            from_ms: terms.from.0,
            to_ms: terms.to.0,
            issued_ms: terms.issued.0,
        };
        enter(&self.reset_book(), &entry)?;
        Ok(reset)
    }
}

/// Reads a book; `otherwise` says how to do without it.
fn lines<T: DeserializeOwned>(path: &Path, otherwise: &str) -> Result<Vec<T>, Failure> {
    if !path.exists() {
        return Ok(Vec::new());
    }
    let bytes = files::read("book", path, 1 << 28)?;
    let text = String::from_utf8_lossy(&bytes);
    let line = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| {
            Failure::failed(format!("{} line {}: {error}", path.display(), number + 1))
                .next(format!("mend the line, or {otherwise} to go on without the book"))
        })
    };
    text.lines().enumerate().map(line).collect()
}

fn enter<T: Serialize>(path: &Path, entry: &T) -> Result<(), Failure> {
    let line = format!("{}\n", serde_json::json!(entry));
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .and_then(|mut book| book.write_all(line.as_bytes()).and_then(|()| book.sync_all()))
        .map_err(|error| Failure::writing("book", path, &error))
}
/// The product code that `name` goes by: the one in the book, else the next.
pub fn product_code(entries: &[Entry], name: &ProductName) -> ProductCode {
    let code =
        |entry: &Entry| LicenseId::parse(&entry.license).ok().map(|license| license.product.0);
    let known = entries.iter().rev().find(|entry| entry.product == name.as_str()).and_then(code);
    let next = || entries.iter().filter_map(code).max().unwrap_or(0).saturating_add(1);
    ProductCode(known.unwrap_or_else(next))
}

/// The serial of the next update of `license`: one more than the book's last.
pub fn next_serial(entries: &[Entry], license: LicenseId) -> LicenseSerial {
    let name = license.to_string();
    let last = entries.iter().filter(|entry| entry.license == name).map(|entry| entry.serial).max();
    LicenseSerial(last.unwrap_or(0).saturating_add(1))
}

/// The last issue of `license` to `cluster`: what that customer has.
pub fn last_to<'a>(
    entries: &'a [Entry],
    license: LicenseId,
    cluster: &ClusterId,
) -> Option<&'a Entry> {
    all_to(entries, license, cluster).max_by_key(|entry| entry.serial)
}

/// All issues of `license` to `cluster`.
pub fn all_to<'a>(
    entries: &'a [Entry],
    license: LicenseId,
    cluster: &ClusterId,
) -> impl Iterator<Item = &'a Entry> + Clone + use<'a> {
    let (license, cluster) = (license.to_string(), cluster.to_string());
    entries.iter().filter(move |it| it.license == license && it.cluster == cluster)
}

/// A license id of this firm.
pub fn license_id(firm: FirmCode, product: ProductCode, tmr: u32) -> LicenseId {
    LicenseId { firm, product, tmr: TmrId(tmr) }
}

/// Reads a cluster's request for a license. Its three containers are those that
/// the CA it names vouches for at `now`; whose CA that is, people compare.
pub fn read_request(path: &Path, now: WallTime) -> Result<ClusterRequest, Failure> {
    let bytes = files::read("license request", path, FILE_BYTES_MAX)?;
    let refused = |why: &dyn std::fmt::Display| {
        Failure::refused("REQUEST_REFUSED", format!("{}: {why}", path.display()))
    };
    let request = ClusterRequest::decode(&bytes).map_err(|error| refused(&error))?;
    enrollment::check_request(&request, now).map_err(|why| refused(&why))?;
    Ok(request)
}

/// The containers that ask, as people know them.
pub fn containers(request: &ClusterRequest) -> Vec<String> {
    request.requests().iter().map(|one| one.identity().serial().to_string()).collect()
}

/// What customer and vendor compare before a license is issued.
pub fn fingerprints(request: &ClusterRequest) -> (String, String) {
    (request.fingerprint(), key::fingerprint(request.ca_digest()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(license: &str, serial: u64, product: &str) -> Entry {
        Entry {
            license: license.to_owned(),
            serial,
            product: product.to_owned(),
            cluster: String::new(),
            seats: 1,
            issued_ms: 0,
            containers: Vec::new(),
            containers_gone: Vec::new(),
            sold: None,
        }
    }

    /// One book for all customers: what another was sold is no matter.
    #[test]
    fn the_book_tells_what_this_customer_has() {
        let (ours, theirs) = (ClusterId([1; 16]), ClusterId([2; 16]));
        let to = |cluster: &ClusterId, serial| Entry {
            cluster: cluster.to_string(),
            ..entry("7:1:1", serial, "cad")
        };
        let book = [to(&ours, 1), to(&ours, 3), to(&theirs, 4)];
        let license = license_id(FirmCode(7), ProductCode(1), 1);
        assert_eq!(last_to(&book, license, &ours).map(|entry| entry.serial), Some(3));
        assert_eq!(last_to(&book, license, &ClusterId([3; 16])), None);
        assert_eq!(last_to(&book, license_id(FirmCode(7), ProductCode(2), 1), &ours), None);
    }

    #[test]
    fn the_book_numbers_products_and_updates() {
        let name = |text| ProductName::parse(text).expect("a name");
        let book = [entry("7:1:1", 1, "cad"), entry("7:5:1", 1, "cam"), entry("7:1:1", 2, "cad")];
        assert_eq!(product_code(&[], &name("cad")), ProductCode(1));
        assert_eq!(product_code(&book, &name("cad")), ProductCode(1));
        assert_eq!(product_code(&book, &name("new")), ProductCode(6));
        let license = |product| license_id(FirmCode(7), ProductCode(product), 1);
        assert_eq!(next_serial(&book, license(1)), LicenseSerial(3));
        assert_eq!(next_serial(&book, license(9)), LicenseSerial(1));
    }
}
