//! Licenses: requested, issued by hand, installed, updated, withdrawn.

use std::fs;

use serde_json::Value;

use super::caller::{Caller, eventually, text};
use super::cluster::{Cluster, shared, word};

/// The development vendor, offline: it has a directory and a passphrase.
fn vendor(cluster: &Cluster) -> Caller {
    let dir = cluster.servers().layout().vendor();
    Caller::new(&dir).with("TRINE_VENDOR_PASSPHRASE", "development")
}

fn shown(caller: &Caller, license: &str) -> Value {
    caller.json(&["license", "show", license])["licenses"][0].clone()
}

fn until_serving(caller: &Caller, license: &str, serial: u64) -> Value {
    eventually("the license serves", || {
        Some(shown(caller, license))
            .filter(|license| license["serving"] == true && license["serial"] == serial)
    })
}

/// From the customer's request to the vendor's package to the first seat; then
/// an update, a step back that is refused, and a share withdrawn.
#[test]
fn a_license_is_requested_issued_installed_and_updated() {
    let cluster = shared();
    let (customer, vendor) = (cluster.caller(), vendor(cluster));
    let dir = tempfile::tempdir().expect("a directory");
    let request = dir.path().join("our.request");
    let requested = customer.json(&["license", "request", "-o", text(&request)]);
    assert!(word(&requested, "virtual_container").starts_with("131-"), "{requested}");
    customer.refused(2, &["license", "request", "-o", text(&request)]).says(&["--force"]);
    let asked = vendor.json(&["vendor", "inspect", text(&request)]);
    assert_eq!(asked["contents"]["fingerprint"], requested["fingerprint"]);
    assert_eq!(asked["contents"]["ca_fingerprint"], requested["ca_fingerprint"]);
    assert_eq!(asked["vouched"]["holds"], true, "{asked}");

    let issue = |serial: &str, seats: &str| {
        let package = dir.path().join(format!("{serial}.license"));
        let issued = vendor.json(&[
            "vendor",
            "issue",
            "--dir",
            ".",
            "--request",
            text(&request),
            "--product",
            "cad-pro",
            "--seats",
            seats,
            "--serial",
            serial,
            "--feature-map",
            "0x5",
            "--text",
            "pro",
            "--product-code",
            "4711",
            "--ca-fingerprint",
            &word(&requested, "ca_fingerprint"),
            "-o",
            text(&package),
        ]);
        assert_eq!(issued["request_fingerprint"], requested["fingerprint"]);
        assert_eq!(issued["license"], "6000010:4711:1");
        package
    };
    let first = issue("1", "2");
    let inspected = vendor.json(&["vendor", "inspect", text(&first)]);
    assert_eq!(inspected["contents"]["seats"], 2);

    let license = word(&customer.json(&["license", "install", text(&first)]), "license");
    let serving = until_serving(customer, &license, 1);
    assert_eq!((&serving["seats"], &serving["feature_map"]), (&2.into(), &5.into()));
    assert_eq!(serving["shares"].as_array().map(Vec::len), Some(3), "{serving}");
    let listed = customer.page(&["license", "list"]);
    assert!(listed.contains("cad-pro") && listed.contains(&license), "{listed}");
    assert!(customer.page(&["license", "show", "cad-pro"]).contains("0x00000005"));
    let seat = customer.json(&["acquire", "cad-pro"]);
    assert_eq!((&seat["feature_map"], &seat["feature_text"]), (&5.into(), &"pro".into()));

    let second = issue("2", "3");
    customer.json(&["license", "install", text(&second)]);
    assert_eq!(until_serving(customer, &license, 2)["seats"], 3);
    // A retry of the same package is no mistake; a step back is one.
    customer.json(&["license", "install", text(&second)]);
    customer.refused(3, &["license", "install", text(&first)]).says(&["serial"]);
    assert_eq!(shown(customer, &license)["serial"], 2);

    let mut altered = fs::read(&second).expect("the package");
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    let broken = dir.path().join("broken.license");
    fs::write(&broken, altered).expect("the broken package");
    assert_eq!(
        customer.refused(3, &["license", "install", text(&broken)]).reason,
        "PACKAGE_REFUSED"
    );
    customer.refused(3, &["license", "install", text(&request)]);
    customer.refused(2, &["license", "install", "no-such-file"]);

    let withdraw = ["license", "withdraw-share", &license, "--node", "3"];
    customer.refused(2, &withdraw).says(&["--yes"]);
    customer.json(&[&withdraw[..], &["--yes"]].concat());
    let share = |license: Value| word(&license["shares"][2], "state");
    assert_eq!(share(shown(customer, &license)), "withdrawn");
    customer.json(&["acquire", "cad-pro"]);
    let other = ["license", "withdraw-share", &license, "--node", "2", "--yes"];
    customer.json(&other);
    let refusal = customer.refused(3, &["acquire", "cad-pro"]);
    assert_eq!(refusal.reason, "SHARES_MISSING");
    refusal.says(&["cad-pro", "share"]);
    let shown = shown(customer, &license);
    assert_eq!(shown["serving"], false, "{shown}");
    assert!(!word(&shown, "reason").is_empty());
    let listed = customer.page(&["license", "list"]);
    assert!(listed.contains("trine cluster status"), "{listed}");
    // An update is split anew, so all three count again.
    customer.json(&["license", "install", text(&issue("3", "4"))]);
    until_serving(customer, &license, 3);
    customer.json(&["acquire", "cad-pro"]);
}

#[test]
fn a_package_of_another_vendor_is_refused() {
    let cluster = shared();
    let dir = tempfile::tempdir().expect("a directory");
    let stranger = Caller::new(dir.path()).with("TRINE_VENDOR_PASSPHRASE", "stranger");
    let request = dir.path().join("request");
    let requested = cluster.caller().json(&["license", "request", "-o", text(&request)]);
    let ca = word(&requested, "ca_fingerprint");
    stranger.json(&["vendor", "init", "--name", "Stranger", "--firm", "6000010"]);
    let issue = ["vendor", "issue", "--request", "request", "--product", "fake", "--seats", "9"];
    let issue = [&issue[..], &["-o", "fake.license"]].concat();
    stranger.refused(2, &issue).says(&["compare with the customer", &ca]);
    let other = ca.chars().rev().collect::<String>();
    let refusal = stranger.refused(3, &[&issue[..], &["--ca-fingerprint", &other]].concat());
    refusal.says(&["do not issue it", &ca, &other]);
    stranger.json(&[&issue[..], &["--ca-fingerprint", &ca]].concat());
    let fake = dir.path().join("fake.license");
    let refusal = cluster.caller().refused(3, &["license", "install", text(&fake)]);
    assert_eq!(refusal.reason, "PACKAGE_REFUSED");
    cluster.caller().refused(3, &["license", "show", "fake"]);
}

#[test]
fn inspect_explains_every_file_there_is() {
    let cluster = shared();
    let vendor = vendor(cluster);
    for (file, kind) in [
        ("vendor.root", "vendor-root"),
        ("root.key", "encrypted-key"),
        ("firm.key", "encrypted-key"),
    ] {
        let inspected = vendor.json(&["vendor", "inspect", file]);
        assert_eq!(inspected["contents"]["kind"], kind, "{file}");
        assert!(!vendor.page(&["vendor", "inspect", file]).is_empty());
    }
    let certificate = cluster.servers().layout().pki().join("ca.pem");
    vendor.refused(2, &["vendor", "inspect", text(&certificate)]).says(&["not a Trine file"]);
}

#[test]
fn a_cluster_is_formed_once() {
    let refusal = shared().caller().refused(3, &["cluster", "init"]);
    assert_eq!(refusal.reason, "ALREADY_FORMED");
}
