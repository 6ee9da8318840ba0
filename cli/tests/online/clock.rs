//! A date that is ahead, and the vendor who turns it back.

use std::fs;
use std::path::PathBuf;

use license::product::WallTime;
use license::request::ClusterRequest;
use license::terms::{Counting, Feature, Terms};
use serde_json::Value;
use tempfile::TempDir;
use trine_cli::vendor_dir::VendorDir;

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, word};

pub(crate) const YEAR: i64 = 365 * 24 * 60 * 60 * 1_000;

/// A cluster whose vendor's clock may be wrong, so that its date is.
pub(crate) struct Bench {
    pub(crate) cluster: Cluster,
    vendor: Caller,
    files: TempDir,
    request: ClusterRequest,
}

impl Bench {
    pub(crate) fn new() -> Self {
        let cluster = Cluster::alone();
        let files = tempfile::tempdir().expect("a directory");
        let vendor = Caller::new(&cluster.servers().layout().vendor())
            .with("TRINE_VENDOR_PASSPHRASE", "development");
        let path = files.path().join("request");
        cluster.caller().json(&["license", "request", "-o", path.to_str().expect("UTF-8")]);
        let request = ClusterRequest::decode(&fs::read(path).expect("the request"));
        Self { cluster, vendor, files, request: request.expect("a request") }
    }

    /// A license as a vendor makes it whose clock is `ahead` of the time.
    pub(crate) fn license(&self, serial: u64, ahead: i64) -> String {
        self.license_until(serial, ahead, now().0 + YEAR)
    }

    /// The same, with this last moment.
    pub(crate) fn license_until(&self, serial: u64, ahead: i64, last: i64) -> String {
        let dir = VendorDir::new(self.vendor.dir());
        let vendor = dir.open("development").expect("the firm key");
        let firm = vendor.certificate().firm();
        let license = trine_cli::vendor_dir::license_id(firm, license::product::ProductCode(1), 1);
        let terms = Terms {
            license,
            serial: license::product::LicenseSerial(serial),
            act: self.request.act(),
            cluster: self.request.cluster(),
            name: license::product::ProductName::parse("cad").expect("a name"),
            seats: 1,
            counting: Counting::PerInstance,
            activation: None,
            expiration: Some(WallTime(last)),
            version_max: None,
            feature: Feature { map: 0, text: String::new() },
            issued: WallTime(now().0 + ahead),
            extensions: Vec::new(),
        };
        let package = dir.issue(&vendor, &self.request, terms, Vec::new()).expect("a package");
        self.file(&format!("{serial}.license"), &package.encode())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> String {
        let path = self.files.path().join(name);
        fs::write(&path, bytes).expect("a file");
        path.into_os_string().into_string().expect("UTF-8")
    }

    pub(crate) fn reset(&self, name: &str, cluster: &str, more: &[&str]) -> String {
        let path: PathBuf = self.files.path().join(name);
        let path = path.into_os_string().into_string().expect("UTF-8");
        let words = ["vendor", "clock-reset", "--dir", ".", "--cluster", cluster, "-o", &path];
        self.vendor.json(&[&words[..], &["--from", &date(now().0 + 9 * YEAR)], more].concat());
        path
    }

    pub(crate) fn status(&self) -> Value {
        self.cluster.caller().json(&["cluster", "status"])["cluster"].clone()
    }
}

#[expect(clippy::disallowed_methods, reason = "a test is a process of its own and holds its clock")]
pub(crate) fn now() -> WallTime {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    WallTime(i64::try_from(since.expect("after 1970").as_millis()).expect("before the end"))
}

fn date(millis: i64) -> String {
    trine_cli::dates::show_date(WallTime(millis))
}

/// A vendor whose clock was ten years ahead sold a license that ends next year.
#[test]
fn a_date_that_is_ahead_is_turned_back_by_the_vendor_once() {
    let bench = Bench::new();
    let caller = bench.cluster.caller();
    let id = word(&bench.status(), "id");
    // Without the nodes' clocks the common date would begin with the license.
    eventually("the nodes' clocks have told the date", || {
        bench.status()["wall_floor"].is_string().then_some(())
    });
    caller.json(&["license", "install", &bench.license(1, 10 * YEAR)]);
    assert_eq!(caller.refused(3, &["acquire", "cad"]).reason, "LICENSE_EXPIRED");
    let page = caller.page(&["cluster", "status"]);
    assert!(page.contains("Licenses of firm 6000010 have a date of their own"), "{page}");

    // Not in another cluster's name, not an altered one, not another kind of file.
    let install = |file: &str| caller.refused(3, &["cluster", "clock-reset", file]);
    let elsewhere = bench.reset("elsewhere", "00000000000000000000000000000007", &[]);
    assert_eq!(install(&elsewhere).reason, "CLOCK_RESET_REFUSED");
    install(&elsewhere).says(&["not for this cluster"]);
    let first = bench.reset("first", &id, &[]);
    let mut altered = fs::read(&first).expect("the reset");
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    install(&bench.file("altered", &altered)).says(&["ask the vendor"]);
    install(&bench.license(9, 0)).says(&["not a clock reset"]);
    let shown = bench.vendor.page(&["vendor", "inspect", &first]);
    assert!(shown.contains("counts once") && shown.contains(&id), "{shown}");

    // No date is before the license's own issue: the vendor corrects that first.
    install(&first).says(&["was issued at", "later date"]);
    caller.json(&["license", "install", &bench.license(2, -60_000)]);
    let done = caller.json(&["cluster", "clock-reset", &first]);
    assert_eq!(done["firm"], 6_000_010);
    eventually("the corrected license serves", || {
        (caller.run(&["acquire", "cad", "--ttl", "1s"]).status.code() == Some(0)).then_some(())
    });
    assert_eq!(bench.status()["firm_dates"][0]["last_reset"], 1);

    // Once: neither the same again nor, while the date is right, another.
    install(&first).says(&["has been used"]);
    install(&bench.reset("second", &id, &[])).says(&["nothing to turn back"]);
    let backward = ["--to", "2000-01-01", "--serial", "7"];
    install(&bench.reset("third", &id, &backward)).says(&["nothing to turn back"]);
}

#[test]
fn a_strangers_reset_is_refused_and_a_vendor_cannot_turn_time_forward() {
    let cluster = super::cluster::shared();
    let files = tempfile::tempdir().expect("a directory");
    let stranger = Caller::new(files.path()).with("TRINE_VENDOR_PASSPHRASE", "a stranger");
    stranger.json(&["vendor", "init", "--name", "Stranger", "--firm", "6000010"]);
    let id = word(&cluster.caller().json(&["cluster", "status"])["cluster"], "id");
    let words = ["vendor", "clock-reset", "--cluster", &id, "-o", "reset"];
    stranger.refused(2, &[&words[..], &["--from", "2001-01-01"]].concat()).says(&["not back"]);
    stranger.refused(2, &["vendor", "clock-reset", "--cluster", "7", "--from", "2040-01-01"]);
    stranger.json(&[&words[..], &["--from", "2040-01-01"]].concat());
    let file = files.path().join("reset");
    let refusal =
        cluster.caller().refused(3, &["cluster", "clock-reset", file.to_str().expect("UTF-8")]);
    assert_eq!(refusal.reason, "CLOCK_RESET_REFUSED");
    refusal.says(&["does not trust"]);
}
