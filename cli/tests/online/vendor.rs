//! The vendor's desk: which requests `trine vendor issue` answers. No cluster
//! runs here; the vendor has files alone.

use std::fs;
use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use license::container::Container;
use license::product::{ActId, ClusterId, NodeId};
use license::rand_core::UnwrapErr;
use license::request::{ClusterRequest, ContainerRequest};
use pki::{Authority, ContainerSubject, Pem, UnixTime, Validity};
use tempfile::TempDir;

use super::caller::{Caller, Refusal};
use super::cluster::trine;

const CLUSTER: ClusterId = ClusterId(*b"one customer's 3");
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Days from now, which may be below zero.
fn in_days(days: i64) -> UnixTime {
    let seconds = super::clock::now().0 / 1_000 + days * 24 * 60 * 60;
    UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(seconds).expect("after 1970")))
}

/// A customer's CA and its three containers.
struct Customer {
    ca: Authority,
    containers: [Container; 3],
}

impl Customer {
    fn new() -> Self {
        let ca =
            Authority::create("a customer's CA", Validity::starting(in_days(-900), DAY * 3_650));
        let container = || Container::create(ActId(7), &mut UnwrapErr(rand::rngs::SysRng));
        Self { ca: ca.expect("a CA"), containers: [container(), container(), container()] }
    }

    /// What `ca` says of a container, of node `node`, from `begins` on for a year.
    fn certify(ca: &Authority, container: &Container, node: u64, begins: i64) -> Vec<Vec<u8>> {
        let identity = container.identity();
        let (serial, key) = (identity.serial().to_string(), identity.key().to_spki_der());
        let subject = ContainerSubject { node, serial: &serial, key: &key };
        let validity = Validity::starting(in_days(begins), DAY * 365);
        let chain = ca.certify_container(&subject, validity).expect("certified");
        pki::container_chain(Pem::new("chain", chain.as_bytes())).expect("PEM")
    }

    /// A request whose third container and chain are these.
    fn request(&self, third: &Container, chain: Vec<Vec<u8>>) -> Vec<u8> {
        let ask = |container: &Container, node: u64, chain| {
            ContainerRequest::make(container, CLUSTER, NodeId(node), [0; 32], chain)
                .expect("a short chain")
        };
        let own = |at: usize| {
            let (container, node) = (&self.containers[at], at as u64 + 1);
            ask(container, node, Self::certify(&self.ca, container, node, -1))
        };
        let requests = [own(0), own(1), ask(third, 3, chain)];
        let request = ClusterRequest::new(CLUSTER, self.ca.ca().digest(), requests);
        request.expect("three of a kind").encode()
    }

    /// The honest one.
    fn honest(&self) -> Vec<u8> {
        let third = &self.containers[2];
        self.request(third, Self::certify(&self.ca, third, 3, -1))
    }
}

/// A vendor who has just made the keys.
struct Desk {
    dir: TempDir,
    vendor: Caller,
}

impl Desk {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::write(dir.path().join("passphrase"), "a vendor's secret\n").expect("a file");
        let vendor = Caller::new(dir.path());
        let words = ["vendor", "init", "--name", "Acme", "--firm", "6000010"];
        vendor.json(&[&words[..], &["--passphrase-file", "passphrase"]].concat());
        Self { dir, vendor }
    }

    fn gets(&self, request: &[u8]) {
        fs::write(self.dir.path().join("request"), request).expect("a file");
    }

    const ISSUE: [&str; 9] =
        ["vendor", "issue", "--request", "request", "--product", "cad", "--seats", "5", "-o"];

    fn words<'a>(more: &[&'a str]) -> Vec<&'a str> {
        [&Self::ISSUE[..], &["license"], more].concat()
    }

    /// The refusal of a request, whatever fingerprint the customer has told.
    fn refuses(&self, request: &[u8], fingerprint: &str) -> Refusal {
        self.gets(request);
        let more = ["--ca-fingerprint", fingerprint, "--passphrase-file", "passphrase"];
        let refusal = self.vendor.refused(3, &Self::words(&more));
        assert_eq!(refusal.reason, "REQUEST_REFUSED");
        self.nothing_was_issued();
        refusal
    }

    fn nothing_was_issued(&self) {
        assert!(!self.dir.path().join("license").exists(), "a license was issued");
        assert!(!self.dir.path().join("vendor/issued.jsonl").exists(), "the book says so");
    }
}

fn fingerprint(desk: &Desk, request: &[u8]) -> String {
    desk.gets(request);
    let shown = desk.vendor.json(&["vendor", "inspect", "request"]);
    super::cluster::word(&shown["contents"], "ca_fingerprint")
}

#[test]
fn the_vendor_answers_no_request_whose_chains_do_not_hold() {
    let (desk, customer, stranger) = (Desk::new(), Customer::new(), Customer::new());
    let told = fingerprint(&desk, &customer.honest());
    let third = &customer.containers[2];
    let own = Container::create(ActId(7), &mut UnwrapErr(rand::rngs::SysRng));
    let cases = [
        // What a hostile node that collects the three may put in the place of another's.
        ("no chain at all", customer.request(&own, vec![]), "no certificate"),
        (
            "a chain of another CA",
            customer.request(third, Customer::certify(&stranger.ca, third, 3, -1)),
            "another CA",
        ),
        (
            "another container than the one certified",
            customer.request(&own, Customer::certify(&customer.ca, third, 3, -1)),
            "node-3",
        ),
        (
            "a container certified for another node",
            customer.request(third, Customer::certify(&customer.ca, third, 2, -1)),
            "node-3",
        ),
        (
            "a chain that has expired",
            customer.request(third, Customer::certify(&customer.ca, third, 3, -400)),
            "expired",
        ),
    ];
    for (what, request, says) in cases {
        let refusal = desk.refuses(&request, &told);
        assert!(refusal.text.contains(says), "{what}: {}", refusal.text);
    }
    // Every chain of a stranger's request holds; it is the stranger's.
    desk.refuses(&stranger.honest(), &told).says(&[&told, "do not issue it"]);
    let mut altered = customer.honest();
    let middle = altered.len() / 2;
    altered[middle] ^= 1;
    desk.refuses(&altered, &told);

    desk.gets(&customer.honest());
    let more = ["--ca-fingerprint", &told, "--passphrase-file", "passphrase", "--tmr-id", "7"];
    let issued = desk.vendor.json(&Desk::words(&more));
    assert_eq!(issued["license"], "6000010:1:7");
}

/// A person at the desk is shown both fingerprints and asked; yes issues, and
/// anything else does not. Nobody there to ask is no yes.
#[test]
fn the_vendor_is_asked_to_compare_the_fingerprints() {
    let (desk, customer) = (Desk::new(), Customer::new());
    let told = fingerprint(&desk, &customer.honest());
    let refusal = desk.vendor.refused(2, &Desk::words(&["--passphrase-file", "passphrase"]));
    refusal.says(&["no terminal", &told]);
    desk.nothing_was_issued();
    let Some(mut no) = Terminal::open(&desk) else {
        eprintln!("skipped: a terminal needs script(1) of util-linux");
        return;
    };
    let asked = no.until("[y/N]");
    assert!(asked.contains(&told) && asked.contains("request fingerprint"), "{asked}");
    no.types("n\n");
    assert_eq!(no.ends(), 2);
    desk.nothing_was_issued();

    let mut yes = Terminal::open(&desk).expect("a terminal");
    yes.until("[y/N]");
    yes.types("y\n");
    yes.until("Passphrase:");
    yes.types("a vendor's secret\n");
    assert_eq!(yes.ends(), 0, "{}", yes.seen);
    assert!(!yes.seen.contains("a vendor's secret"), "it was shown: {}", yes.seen);
    assert!(desk.dir.path().join("license").exists());
}

/// `trine vendor issue` on a terminal of its own, which script(1) makes.
struct Terminal {
    child: Child,
    seen: String,
}

impl Terminal {
    fn open(desk: &Desk) -> Option<Self> {
        let words = Desk::words(&[]).join(" ");
        let child = Command::new("script")
            .args(["--quiet", "--return", "--command"])
            .arg(format!("'{}' {words}", trine().display()))
            .arg("/dev/null")
            .current_dir(desk.dir.path())
            .env_remove("TRINE_VENDOR_PASSPHRASE")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        Some(Self { child: child.ok()?, seen: String::new() })
    }

    /// Reads until it shows this; gives all it has shown.
    fn until(&mut self, words: &str) -> String {
        let mut some = [0; 256];
        while !self.seen.contains(words) {
            let screen = self.child.stdout.as_mut().expect("it is piped");
            let read = screen.read(&mut some).expect("a terminal shows");
            assert!(read > 0, "it ended without {words:?}: {}", self.seen);
            self.seen.push_str(&String::from_utf8_lossy(&some[..read]));
        }
        self.seen.clone()
    }

    fn types(&mut self, keys: &str) {
        let keyboard = self.child.stdin.as_mut().expect("it is piped");
        keyboard
            .write_all(keys.as_bytes())
            .and_then(|()| keyboard.flush())
            .expect("keys are taken");
    }

    /// Its exit code.
    fn ends(&mut self) -> i32 {
        let mut rest = Vec::new();
        let screen = self.child.stdout.as_mut().expect("it is piped");
        screen.read_to_end(&mut rest).expect("a terminal shows");
        self.seen.push_str(&String::from_utf8_lossy(&rest));
        self.child.wait().expect("it ends").code().expect("by itself")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended, which is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
