//! `trine node` that cannot start: every time a message that says what to do, a
//! nonzero exit code, no panic, and nothing lost.

use std::ffi::OsString;
use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use nix::sys::signal::Signal;
use tempfile::TempDir;
use trine_cli::devcluster::Server;

use super::caller::{Caller, Refusal, Running};
use super::cluster::prepared;
use super::disk::SmallDisk;

/// One node's configuration with all it names, and nothing running.
struct Bench {
    _dir: TempDir,
    caller: Caller,
    home: PathBuf,
}

impl Bench {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        let cluster = prepared(&dir.path().join("cluster"));
        let home = cluster.layout().home(Server::Node(1));
        Self { caller: Caller::new(&home), home, _dir: dir }
    }

    fn pki(&self, file: &str) -> PathBuf {
        self.home.join("../pki").join(file)
    }

    /// Replaces `from` in the configuration, which must be there.
    fn configure(&self, from: &str, to: &str) {
        let path = self.home.join("node.toml");
        let text = fs::read_to_string(&path).expect("the configuration");
        assert!(text.contains(from), "{from:?} is not in {text}");
        fs::write(&path, text.replace(from, to)).expect("the configuration");
    }

    fn configured(&self, key: &str) -> String {
        let text = fs::read_to_string(self.home.join("node.toml")).expect("the configuration");
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{key} = ")));
        line.expect("the key").trim_matches('"').to_owned()
    }

    #[track_caller]
    fn refused(&self, exit: i32) -> Refusal {
        self.caller.refused(exit, &["node", "--config", "node.toml"])
    }

    #[track_caller]
    fn check_refused(&self) -> Refusal {
        self.caller.refused(2, &["node", "--config", "node.toml", "--check"])
    }

    fn start(&self) -> Running {
        let mut node = self.caller.start(&["node", "--config", "node.toml"]);
        node.until_said("node is up");
        node
    }

    #[track_caller]
    fn starts_and_stops(&self) {
        stop(self.start());
    }
}

#[track_caller]
fn stop(node: Running) {
    node.signal(Signal::SIGTERM);
    let ended = node.finish();
    assert_eq!(ended.code, 0, "{}", ended.said);
    assert!(!ended.said.contains("panicked"), "{}", ended.said);
}

#[test]
fn a_wrong_key_is_named_with_its_line() {
    let bench = Bench::new();
    bench.configure("data = ", "date = ");
    for refusal in [bench.refused(2), bench.check_refused()] {
        refusal.says(&["node.toml", "date", "line", "deploy/node.example.toml"]);
    }
    bench.caller.refused(2, &["node", "--config", "absent.toml"]).says(&["absent.toml"]);
}

/// Directories on the way to the data are made; a file in the way is not.
#[test]
fn a_data_directory_is_made_unless_a_file_is_in_the_way() {
    let bench = Bench::new();
    bench.configure("\"data\"", "\"deep/down/data\"");
    bench.starts_and_stops();
    assert!(bench.home.join("deep/down/data").is_dir());
    fs::write(bench.home.join("file"), "").expect("a file");
    bench.configure("\"deep/down/data\"", "\"file/data\"");
    for refusal in [bench.refused(2), bench.check_refused()] {
        refusal.says(&["data", "file", "name another"]);
    }
}

/// Under systemd the directory is the service's, and it is not root who enrolls.
#[test]
fn a_data_directory_that_may_not_be_written_to_is_refused_by_check_start_and_enrollment() {
    let bench = Bench::new();
    let data = bench.home.join("data");
    fs::create_dir(&data).expect("a directory");
    fs::set_permissions(&data, fs::Permissions::from_mode(0o500)).expect("permissions");
    // Permissions stop root only without its power over them.
    let is_root = fs::write(data.join("probe"), "").is_ok();
    let powerless = ["setpriv", "--bounding-set=-dac_override"].map(OsString::from);
    let caller = if is_root { bench.caller.through(powerless) } else { bench.caller.clone() };
    if is_root {
        fs::remove_file(data.join("probe")).expect("it was there");
    }
    let node = ["node", "--config", "node.toml"];
    for words in [&node[..], &["node", "--config", "node.toml", "--check"]] {
        caller.refused(2, words).says(&["data", "may not write", "sudo -u", "chown -R"]);
    }
    caller.refused(2, &["node", "enroll", "--config", "node.toml"]).says(&["may not write"]);
    assert!(!bench.home.join("node-1.enroll").exists());
    fs::set_permissions(&data, fs::Permissions::from_mode(0o700)).expect("permissions");
    caller.json(&["node", "--config", "node.toml", "--check"]);
}

/// What root makes in the service's directory the service cannot open.
#[test]
fn root_who_enrolls_beside_the_services_own_files_is_warned() {
    const SERVICE: u32 = 65_534;
    let bench = Bench::new();
    let data = bench.home.join("data");
    fs::create_dir(&data).expect("a directory");
    let enroll = |file: &str| {
        let enrolled = bench.caller.run(&["node", "enroll", "--config", "node.toml", "-o", file]);
        assert_eq!(enrolled.status.code(), Some(0));
        String::from_utf8_lossy(&enrolled.stderr).into_owned()
    };
    if chown(&data, Some(SERVICE), None).is_err() {
        // Only root can be in this story.
        return;
    }
    let said = enroll("first");
    for words in ["container is root's", "user 65534", "chown -R 65534: ", "sudo -u '#65534'"] {
        assert!(said.contains(words), "{words:?} is not in {said}");
    }
    chown(data.join("container"), Some(SERVICE), None).expect("as it was told");
    assert_eq!(enroll("second"), "");
}

#[test]
fn a_directory_with_foreign_files_is_left_alone() {
    let bench = Bench::new();
    let data = bench.home.join("data");
    fs::create_dir(&data).expect("a directory");
    fs::write(data.join("thesis.tex"), "years of work").expect("a file");
    bench.refused(1).says(&["thesis.tex", "empty or a new directory"]);
    let left: Vec<_> = fs::read_dir(&data).expect("the directory").collect();
    assert_eq!(left.len(), 1, "{left:?}");
}

#[test]
fn a_directory_of_the_other_engine_is_refused_by_its_name() {
    let bench = Bench::new();
    bench.starts_and_stops();
    let marker = bench.home.join("data/engine");
    let text = fs::read_to_string(&marker).expect("the marker");
    let engine = bench.configured("engine");
    let other = if engine == "embedded" { "rocksdb" } else { "embedded" };
    fs::write(&marker, text.replace(&engine, other)).expect("the marker");
    bench.refused(1).says(&[other, &format!("engine = \"{other}\"")]);
    fs::write(&marker, text).expect("the marker");
    bench.starts_and_stops();
}

#[test]
fn a_directory_serves_one_process() {
    let bench = Bench::new();
    let first = bench.start();
    bench.refused(1).says(&["in use by another process", "data"]);
    stop(first);
    bench.starts_and_stops();
}

#[test]
fn a_port_in_use_is_named_with_its_key() {
    let bench = Bench::new();
    for key in ["client", "peer", "health"] {
        let address = bench.configured(key);
        let taken = TcpListener::bind(&address).expect("the port is free");
        bench.refused(1).says(&[&address, &format!("listen.{key}"), "another process"]);
        drop(taken);
    }
    bench.starts_and_stops();
}

#[test]
fn a_certificate_of_another_ca_is_refused_before_anything_is_made() {
    let bench = Bench::new();
    bench.caller.json(&["pki", "init", "--dir", "own"]);
    bench.caller.json(&["pki", "issue", "node", "1", "--dir", "own"]);
    bench.configure("../pki/node-1", "own/node-1");
    for refusal in [bench.refused(2), bench.check_refused()] {
        refusal.says(&["tls.cert", "CA"]);
    }
    bench.configure("own/node-1", "../pki/node-2");
    bench.check_refused().says(&["node-2", "trine pki issue"]);
    bench.configure("../pki/node-2.pem", "../pki/application-developer.pem");
    bench.check_refused();
    assert!(!bench.home.join("data").exists());
}

#[test]
fn a_key_that_others_can_read_is_refused_with_the_remedy() {
    let bench = Bench::new();
    let key = bench.pki("node-1.key");
    let mode = |mode| fs::set_permissions(&key, fs::Permissions::from_mode(mode)).expect("a mode");
    mode(0o644);
    for refusal in [bench.refused(2), bench.check_refused()] {
        refusal.says(&["tls.key", "chmod o="]);
    }
    mode(0o640);
    bench.starts_and_stops();
    fs::remove_file(&key).expect("the key");
    bench.check_refused().says(&["tls.key", "cannot read"]);
}

#[test]
fn a_disk_without_space_is_named_and_the_start_can_be_repeated() {
    let bench = Bench::new();
    let data = bench.home.join("data");
    for bytes in ["4k", "8k"] {
        let Some(disk) = SmallDisk::mount(&data, bytes) else {
            eprintln!("skipped: mounting a small disk needs root");
            return;
        };
        bench.refused(1).says(&["data", "No space left on device", "start the node again"]);
        disk.grow("64M");
        bench.starts_and_stops();
    }
}
