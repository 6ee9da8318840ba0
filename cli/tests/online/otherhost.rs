//! A node whose host changes piece by piece, as the runbook tells it.
//!
//! A host is a folder of files that are mounted over the real ones in a mount
//! namespace of the command's own: production reads what it always reads.

use std::ffi::OsString;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::signal::Signal;
use serde_json::{Value, json};
use trine_cli::devcluster::Server;

use super::caller::Caller;
use super::cluster::prepared;

/// Mounts the files of the host in `$1` and becomes the rest of its arguments.
const MOVE_IN: &str = r#"set -e
host=$1; shift
mount --bind "$host/machine-id" /etc/machine-id
mount --bind "$host/net" /sys/class/net
mount --bind "$host/block" /sys/block
if [ -d /sys/class/dmi/id ]; then mount -t tmpfs none /sys/class/dmi/id; fi
exec "$@""#;

/// The words before a program that is to run on the host in this folder.
fn on(host: &Path) -> Vec<OsString> {
    let words = ["unshare", "--map-root-user", "--mount", "sh", "-c", MOVE_IN, "host"];
    words.into_iter().map(OsString::from).chain([host.into()]).collect()
}

/// A host with one disk and one network card.
fn host(dir: &Path, name: &str, machine_id: &str, card: (&str, &str)) -> PathBuf {
    let root = dir.join(name);
    let put = |path: &str, text: &str| {
        let path = root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("made");
        fs::write(path, text).expect("written");
    };
    put("machine-id", machine_id);
    put("block/nvme0n1/device/serial", "S6Z1NJ0T");
    let (interface, address) = card;
    put(&format!("net/{interface}/device/vendor"), "0x8086");
    put(&format!("net/{interface}/address"), address);
    root
}

/// Whether hosts can be played here. As CI sets `TRINE_NO_SKIP`, they must be.
fn can_play(host: &Path) -> bool {
    let words = on(host);
    let output = Command::new(&words[0]).args(&words[1..]).arg("true").output();
    let why = match &output {
        Ok(output) if output.status.success() => return true,
        Ok(output) => String::from_utf8_lossy(&output.stderr).into_owned(),
        Err(error) => error.to_string(),
    };
    assert!(std::env::var_os("TRINE_NO_SKIP").is_none(), "no mount namespaces here: {why}");
    // Past the test runner's capture; a closed terminal is no reason to fail.
    let _ = writeln!(std::io::stderr(), "SKIPPED: no mount namespaces here: {why}");
    false
}

/// A node's network card is exchanged: it starts, says what is gone and what is
/// new, and is sealed to the host as it is then. Then its machine id goes too,
/// with the new card: too little is left, and it says so in the runbook's words.
#[test]
fn a_host_may_change_by_a_part_and_not_by_most_of_it() {
    const FIRST: &str = "4c4c4544003610528036b4c04f4e3732";
    const OTHER: &str = "8d1f2a90c3b74e6fa5d0e1b2c3d4e5f6";
    let dir = tempfile::tempdir().expect("a directory");
    let servers = prepared(&dir.path().join("cluster"));
    let config = servers.layout().config(Server::Node(2)).display().to_string();
    // Development clusters are sealed loosely.
    let text = fs::read_to_string(&config).expect("the configuration");
    assert!(text.contains("\"loose\""), "{text}");
    fs::write(&config, text.replace("\"loose\"", "\"medium\"")).expect("the configuration");
    let new = host(dir.path(), "new", FIRST, ("eth0", "52:54:00:00:00:01"));
    let card = host(dir.path(), "card", FIRST, ("ens3", "52:54:00:00:00:02"));
    let board = host(dir.path(), "board", OTHER, ("ens5", "52:54:00:00:00:03"));
    if !can_play(&new) {
        return;
    }
    let at = |host: &Path| Caller::new(dir.path()).through(on(host));
    let traits = |host: &Path| -> Value {
        at(host).json(&["node", "traits", "--config", &config])["container"].clone()
    };
    let start = ["node", "--config", &config];

    at(&new).json(&["node", "enroll", "--config", &config, "-o", "two.enroll"]);
    assert_eq!(traits(&new)["opens"], true);
    let shown = traits(&card);
    assert_eq!(shown["opens"], true, "{shown}");
    assert_eq!(shown["gone"], json!(["address of eth0"]));
    assert_eq!(shown["new"], json!(["address of ens3"]));

    let mut node = at(&card).start(&start);
    let said = node.until_said("the host has changed");
    for part in ["address of eth0", "address of ens3", "sealed to it as it is today"] {
        assert!(said.contains(part), "{part:?} is not in {said}");
    }
    node.until_said("node is up");
    node.signal(Signal::SIGTERM);
    assert_eq!(node.finish().code, 0);
    assert_eq!(traits(&card)["gone"], json!([]), "it is sealed anew");
    assert_eq!(traits(&card)["new"], json!([]));

    let refusal = at(&board).refused(6, &start);
    refusal.says(&[
        "the host has changed too much",
        "traits of weight 2 of the 5 that are needed are there",
        "gone: machine id, address of ens3",
        "new: machine id, address of ens5",
        "trine node traits",
    ]);
    assert_eq!(traits(&board)["opens"], false);

    // Nothing was changed by the try.
    let mut node = at(&card).start(&start);
    node.until_said("node is up");
    node.signal(Signal::SIGTERM);
    let ended = node.finish();
    assert_eq!(ended.code, 0);
    assert!(!ended.said.contains("the host has changed"), "{}", ended.said);
}
