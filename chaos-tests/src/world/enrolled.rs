//! Enrollment in a simulated world: one CA, the same in every world.
//!
//! Its key is written here for anyone to read. Ed25519 signs without
//! randomness, so that equal seeds make equal certificates.

use std::time::Duration;

use license::container::Container;
use node::enrollment::Enrolled;
use pki::{Authority, ContainerSubject, Pem, UnixTime, Validity};

use super::EPOCH;

const KEY: &str = "\
-----BEGIN PRIVATE KEY-----\n\
MC4CAQAwBQYDK2VwBCIEIGZvciBzaW11bGF0ZWQgd29ybGRzIG9ubHk6IG5vIENB\n\
-----END PRIVATE KEY-----\n\
";

const CERTIFICATE: &str = "\
-----BEGIN CERTIFICATE-----\n\
MIIBlDCCAUagAwIBAgIUIgAeEXqYL/+oOCPem5G4OUy7YmgwBQYDK2VwMDUxDjAM\n\
BgNVBAoMBVRyaW5lMSMwIQYDVQQDDBp0aGUgQ0Egb2Ygc2ltdWxhdGVkIHdvcmxk\n\
czAgFw0yNjExMjExMjAyMzlaGA8yMTI2MTAyODEyMDIzOVowNTEOMAwGA1UECgwF\n\
VHJpbmUxIzAhBgNVBAMMGnRoZSBDQSBvZiBzaW11bGF0ZWQgd29ybGRzMCowBQYD\n\
K2VwAyEAcAU7ahvGrDcemuo+yGUiseCQEMrdSeZPlos8qLF78vOjZjBkMB0GA1Ud\n\
DgQWBBRa7x/FIMnPql4bIYB/Mu7gq13acDAfBgNVHSMEGDAWgBRa7x/FIMnPql4b\n\
IYB/Mu7gq13acDASBgNVHRMBAf8ECDAGAQH/AgEAMA4GA1UdDwEB/wQEAwIBBjAF\n\
BgMrZXADQQAA+wFHZlobyMacDFHTpRGq6iOPkQ8oT7qrymUS4iJpZ1YV7qrxZltR\n\
XkGXP8mtQrKBwXaWq615Sqizro0HnmgI\n\
-----END CERTIFICATE-----\n\
";

/// How long a container's certificate counts: longer than any story.
const LIFE: Duration = Duration::from_secs(10 * 365 * 24 * 60 * 60);

/// The CA of all simulated worlds.
pub(super) fn authority() -> Authority {
    let pem = |name, text: &'static str| Pem::new(name, text.as_bytes());
    Authority::from_pem(pem("the CA", CERTIFICATE), pem("its key", KEY)).expect("they are a pair")
}

/// The chain by which it vouches for the container of this node.
pub(super) fn certify(container: &Container, node: u64) -> Vec<Vec<u8>> {
    let identity = container.identity();
    let (serial, key) = (identity.serial().to_string(), identity.key().to_spki_der());
    let subject = ContainerSubject { node, serial: &serial, key: &key };
    let now = UnixTime::since_unix_epoch(Duration::from_secs(EPOCH));
    let chain = authority().certify_container(&subject, Validity::starting(now, LIFE));
    let chain = chain.expect("a P-256 key is certified");
    pki::container_chain(Pem::new("the chain", chain.as_bytes())).expect("it is PEM")
}

/// A chain that never changes.
pub(super) struct Chain(pub(super) Vec<Vec<u8>>);

impl Enrolled for Chain {
    fn chain(&self) -> Result<Vec<Vec<u8>>, String> {
        Ok(self.0.clone())
    }
}
