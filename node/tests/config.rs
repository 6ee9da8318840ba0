//! A wrong configuration is answered by a sentence that names the key, the
//! value, the rule and what to do.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use license::product::WallTime;
use node::clock::Clock;
use node::config::{Config, ConfigError, Network};
use node::entropy::Entropy;
use node::host::{self, Machine};
use pki::{Authority, UnixTime, Validity};

const EXAMPLE: &str = include_str!("../../deploy/node.example.toml");

/// The example with `from` replaced by `to` must be refused in words that hold all of `words`.
fn refused(from: &str, to: &str, words: &[&str]) {
    assert!(EXAMPLE.contains(from), "the example no longer holds {from:?}");
    let text = EXAMPLE.replacen(from, to, 1);
    let error = Config::parse(&text, Path::new("/etc/trine/node.toml")).expect_err(to);
    let said = error.to_string();
    for word in words.iter().chain(&["/etc/trine/node.toml"]) {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
}

#[test]
fn the_example_is_taken_as_it_stands() {
    let config = Config::parse(EXAMPLE, Path::new("/etc/trine/node.toml")).expect("it holds");
    assert_eq!(config.own().endpoints.peer, "10.0.0.11:22451");
    assert_eq!(config.tls.ca, Path::new("/etc/trine/tls/ca.pem"));
    assert_eq!(config.data, Path::new("/var/lib/trine/node"));
    assert_eq!((config.act, &config.container.key_file), (None, &None), "neither is for everybody");
    let joins = EXAMPLE.replace("# act = ", "act = ");
    let config = Config::parse(&joins, Path::new("/etc/trine/node.toml")).expect("it holds");
    assert_eq!(config.act, Some(license::product::ActId(1_234_567_890)));
}

#[test]
fn a_key_that_does_not_exist_is_named() {
    refused("id = 1", "id = 1\nidd = 2", &["line", "idd", "unknown field"]);
    refused("[log]", "[log]\ncolour = true", &["line", "colour"]);
    refused("data = ", "dat = ", &["dat"]);
    refused("id = 1", "id = ", &["line"]);
    refused("id = 1", "id = \"one\"", &["line", "string"]);
}

#[test]
fn each_value_has_a_rule() {
    refused("id = 1", "id = 4", &["id = 4", "1, 2, 3"]);
    refused(r#"client = "0.0.0.0:22450""#, r#"client = "localhost""#, &["listen.client", "port"]);
    refused(
        r#"peer = "0.0.0.0:22451""#,
        r#"peer = "0.0.0.0:22450""#,
        &["listen.peer", "same port", "its own"],
    );
    refused(
        r#"peer = "0.0.0.0:22451""#,
        r#"peer = "127.0.0.1:22451""#,
        &["listen.peer", "nobody reaches", "10.0.0.11"],
    );
    refused(
        r#"peer = "0.0.0.0:22451""#,
        r#"peer = "10.0.0.11:22455""#,
        &["listen.peer", "10.0.0.11:22451", "agree"],
    );
    refused(r#"["10.0.0.21/32""#, r#"["10.0.0.21/8""#, &["proxy.trusted[0]", "ADDRESS/PREFIX"]);
    refused(r#"engine = "embedded""#, r#"engine = "sled""#, &["storage.engine", "sled"]);
    let every = "snapshot_every = 20000";
    refused(every, "snapshot_every = 99", &["storage.snapshot_every", "100 to 1000000"]);
    refused("log_kept = 5000", "log_kept = 9", &["storage.log_kept", "10 to 1000000"]);
    refused(r#"["trust/vendor.root"]"#, "[]", &["trust.vendor_roots", "at least one vendor"]);
    refused("connections = 4096", "connections = 0", &["limits.connections = 0", "1 to 1000000"]);
    refused("request_bytes = 262144", "request_bytes = 1", &["limits.request_bytes", "65536"]);
    refused("handshake_ms = 5000", "handshake_ms = 1", &["limits.handshake_ms", "100 to 60000"]);
    refused(
        "connections_per_address = 1024",
        "connections_per_address = 5000",
        &["limits.connections_per_address", "limits.connections = 4096"],
    );
    refused(r#"tolerance = "medium""#, r#"tolerance = "some""#, &["container.tolerance", "loose"]);
    refused(r#"# key_file = "container.key""#, r#"key_file = """#, &["container.key_file", "path"]);
    refused(r#"level = "info""#, r#"level = "loud""#, &["log.level", "\"debug\""]);
    refused(r#"format = "text""#, r#"format = "xml""#, &["log.format", "\"json\""]);
    refused(r#"ca = "tls/ca.pem""#, r#"ca = """#, &["tls.ca", "name a path"]);
}

#[test]
fn the_members_are_three_and_distinct() {
    let third = "[[members]]\nid = 3\npeer = \"10.0.0.13:22451\"\nclient = \"10.0.0.13:22450\"\n";
    refused(third, "", &["members", "2 tables", "exactly three"]);
    let fourth = "[[members]]\nid = 4\npeer = \"10.0.0.14:22451\"\nclient = \"10.0.0.14:22450\"\n";
    refused(third, &format!("{third}{fourth}"), &["members", "4 tables", "exactly three"]);
    refused("id = 3", "id = 2", &["members[2].id", "another member"]);
    refused("id = 3", "id = 0", &["members[2].id", "begin with 1"]);
    refused("10.0.0.13:22451", "10.0.0.12:22451", &["members[2].peer", "members[1].peer"]);
    refused("10.0.0.13:22451", "10.0.0.13", &["members[2].peer", "port"]);
    refused("10.0.0.13:22451", "0.0.0.0:22451", &["members[2].peer", "listen on"]);
    refused("10.0.0.13:22451", "a b:22451", &["members[2].peer", "name or address"]);
}

#[test]
fn a_file_that_is_not_there_is_named() {
    let error = Config::load(Path::new("/nonexistent/node.toml")).expect_err("no such file");
    assert!(matches!(error, ConfigError::Unreadable { .. }));
    assert!(error.to_string().contains("/nonexistent/node.toml"), "{error}");
}

#[test]
fn a_network_holds_its_addresses_and_no_others() {
    let network = Network::parse("10.0.0.0/8").expect("a network");
    assert!(network.contains([10, 255, 0, 1].into()));
    assert!(!network.contains([11, 0, 0, 1].into()));
    assert!(network.contains("::ffff:10.1.2.3".parse().expect("an address")));
    let everything = Network::parse("0.0.0.0/0").expect("a network");
    assert!(everything.contains([192, 0, 2, 1].into()));
    assert!(!everything.contains("2001:db8::1".parse().expect("an address")));
    let six = Network::parse("fd00::/16").expect("a network");
    assert!(six.contains("fd00:1::1".parse().expect("an address")));
    for wrong in ["10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "10.0.0", "", "fd00::/129", "a/8"] {
        assert!(Network::parse(wrong).is_none(), "{wrong:?} was taken");
    }
}

/// A node's folder with certificates as they should be.
struct Folder {
    folder: tempfile::TempDir,
    authority: Authority,
}

const NOW: WallTime = WallTime(1_800_000_000_000);

fn validity() -> Validity {
    let now = UnixTime::since_unix_epoch(Duration::from_secs(1_800_000_000));
    Validity::starting(now, Duration::from_secs(90 * 24 * 3_600))
}

impl Folder {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let authority = Authority::create("works", validity()).expect("an authority");
        let new = Self { folder, authority };
        new.write("ca.pem", new.authority.pem().certificate_pem.as_bytes());
        new.issue("node", 1);
        new.write("container.key", &[7; 32]);
        new
    }

    fn issue(&self, name: &str, node: u64) {
        let issued = self.authority.issue_node(node, &[], validity()).expect("a certificate");
        self.write(&format!("{name}.pem"), issued.certificate_pem.as_bytes());
        self.write(&format!("{name}.key"), issued.key_pem.as_bytes());
    }

    fn write(&self, name: &str, bytes: &[u8]) {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).expect("a file");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).expect("permissions");
    }

    /// What is wrong, apart from the vendor root, which is not made here.
    fn wrong(&self, change: impl FnOnce(String) -> String) -> Vec<String> {
        self.wrong_at(NOW, change)
    }

    fn wrong_at(&self, now: WallTime, change: impl FnOnce(String) -> String) -> Vec<String> {
        let config = self.config(change);
        let wrong = config.check(now).expect_err("there is no vendor root");
        let said: Vec<String> = wrong.iter().map(ToString::to_string).collect();
        assert!(said.iter().any(|said| said.contains("trust.vendor_roots[0]")), "{said:?}");
        said.into_iter().filter(|said| !said.contains("trust.vendor_roots[0]")).collect()
    }

    fn config(&self, change: impl FnOnce(String) -> String) -> Config {
        let text = EXAMPLE
            .replace("/var/lib/trine/node", "data")
            .replace("tls/ca.pem", "ca.pem")
            .replace("tls/node", "node");
        let file = self.folder.path().join("node.toml");
        fs::write(&file, change(text)).expect("a file");
        Config::load(&file).expect("the text holds")
    }
}

fn says(said: &[String], words: &[&str]) {
    let found = said.iter().any(|said| words.iter().all(|word| said.contains(word)));
    assert!(found, "{said:?} does not say {words:?}");
}

#[test]
fn files_as_they_should_be_pass() {
    let folder = Folder::new();
    assert_eq!(folder.wrong(|text| text), Vec::<String>::new());
}

#[test]
fn a_missing_file_is_named_with_its_key() {
    let folder = Folder::new();
    fs::remove_file(folder.folder.path().join("ca.pem")).expect("it is there");
    says(&folder.wrong(|text| text), &["tls.ca", "ca.pem", "cannot read"]);
}

#[test]
fn a_file_that_is_too_long_is_refused() {
    let folder = Folder::new();
    folder.write("ca.pem", &vec![b'a'; 1024 * 1024 + 1]);
    says(&folder.wrong(|text| text), &["tls.ca", "ca.pem", "at most 1 MiB"]);
}

#[test]
fn a_key_that_anyone_can_read_is_refused() {
    let folder = Folder::new();
    let key = folder.folder.path().join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permissions");
    says(&folder.wrong(|text| text), &["tls.key", "every user", "chmod o="]);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o440)).expect("permissions");
    assert_eq!(folder.wrong(|text| text), Vec::<String>::new());
}

#[test]
fn a_key_file_to_seal_to_is_secret_and_long_enough() {
    let folder = Folder::new();
    let sealed = |text: String| text.replace("# key_file = ", "key_file = ");
    let key = folder.folder.path().join("container.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permissions");
    says(&folder.wrong(sealed), &["container.key_file", "every user", "chmod o="]);
    folder.write("container.key", b"short");
    says(&folder.wrong(sealed), &["container.key_file", "16 random bytes", "urandom"]);
    fs::remove_file(&key).expect("it is there");
    says(&folder.wrong(sealed), &["container.key_file", "cannot read"]);
}

#[test]
fn another_nodes_certificate_is_refused() {
    let folder = Folder::new();
    folder.issue("node", 2);
    says(&folder.wrong(|text| text), &["tls.cert", "node-2", "node 1", "key `id`"]);
}

#[test]
fn another_authoritys_certificate_is_refused() {
    let folder = Folder::new();
    let other = Authority::create("elsewhere", validity()).expect("an authority");
    folder.write("ca.pem", other.pem().certificate_pem.as_bytes());
    says(&folder.wrong(|text| text), &["tls.cert", "not signed by the CA"]);
}

#[test]
fn a_key_of_another_pair_is_refused() {
    let folder = Folder::new();
    let other = folder.authority.issue_node(1, &[], validity()).expect("a certificate");
    folder.write("node.key", other.key_pem.as_bytes());
    says(&folder.wrong(|text| text), &["tls.cert", "does not belong to the certificate"]);
}

#[test]
fn a_certificate_out_of_date_is_refused() {
    let folder = Folder::new();
    let year = 365 * 24 * 3_600 * 1_000;
    says(&folder.wrong_at(NOW.plus_millis(year), |text| text), &["tls.cert", "expired", "it is"]);
    says(
        &folder.wrong_at(NOW.plus_millis(-year), |text| text),
        &["tls.cert", "not valid before", "set this machine's clock"],
    );
}

#[test]
fn a_file_in_the_place_of_the_data_folder_is_refused() {
    let folder = Folder::new();
    folder.write("data", b"a file");
    says(&folder.wrong(|text| text), &["data", "a file stands in the way"]);
}

/// A machine whose clock stands still and whose dice are loaded.
struct Still(WallTime);

impl Clock for Still {
    fn boot(&self) -> Duration {
        Duration::ZERO
    }

    fn wall(&self) -> WallTime {
        self.0
    }
}

struct Loaded;

impl Entropy for Loaded {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(4);
    }
}

/// What `--check` refuses does not start, in the same words, and leaves no trace.
#[tokio::test]
async fn a_node_does_not_start_with_what_check_refuses() {
    let folder = Folder::new();
    let key = folder.folder.path().join("node.key");
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).expect("permissions");
    let config = folder.config(|text| text);
    let data = config.data.clone();
    let wrong = config.check(NOW).expect_err("the key is open to all");
    let machine =
        Machine { clock: Arc::new(Still(NOW)), entropy: Arc::new(Loaded), reload: Arc::default() };
    let ended = host::run(config, machine, std::future::pending()).await;
    let said = ended.expect_err("it does not start").to_string();
    assert_eq!(said, wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"));
    assert!(said.contains("chmod o="), "{said}");
    assert!(!data.exists(), "the data directory was made");
}
