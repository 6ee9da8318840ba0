//! The usage history of what does not go smoothly: waits, silence, denials that
//! cost and that did not; and of nodes whose disk rots or who were away for long.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::task::JoinHandle;
use trine_cli::context::Purpose;
use trine_cli::devcluster::Server;
use trine_cli::online::Connection;
use trine_cli::usage::file::Reader;

use super::caller::{Caller, eventually};
use super::cluster::{Cluster, shared, trine, word};

/// The first record of this kind, once there is one.
#[track_caller]
fn first(caller: &Caller, what: &str, words: &[&str]) -> Value {
    eventually(&format!("{what} is told"), || {
        caller.told(words).into_iter().find(|record| record["what"] == what)
    })
}

fn summary(caller: &Caller, words: &[&str]) -> Value {
    let summed = caller.json(&[&["usage", "--summary"], words].concat());
    summed["products"][0].clone()
}

/// One waiter is served, one waits in vain, one goes away, and the one who was
/// served is not heard of again.
#[test]
fn waits_and_how_they_end_are_told() {
    let cluster = shared();
    cluster.license("queued", 1);
    let caller = cluster.caller();
    let wait = |patience, holder| {
        let words = ["acquire", "queued", "--wait", patience, "--ttl", "5s", "--holder", holder];
        caller.start(&words)
    };
    let until_waiting = || {
        eventually("it waits", || (cluster.waiting("queued").len() == 1).then_some(()));
    };
    let held = caller.json(&["acquire", "queued", "--ttl", "10m", "--holder", "first"]);
    assert_ne!(wait("1s", "vain").finish().code, 0);
    let gone = wait("10m", "gone");
    until_waiting();
    gone.signal(Signal::SIGINT);
    assert_eq!(gone.finish().code, 130);
    let served = wait("10m", "served");
    until_waiting();
    caller.give_back(&held);
    assert_eq!(served.finish().code, 0);

    let vain = first(caller, "gave-up", &["--holder", "vain"]);
    assert_eq!(word(&vain, "reason"), "waited_in_vain");
    assert!(vain["waited_ms"].as_u64() > Some(0), "{vain}");
    let gone = first(caller, "gave-up", &["--holder", "gone"]);
    assert_eq!(
        (word(&gone, "reason"), word(&gone, "product")),
        ("withdrawn".into(), "queued".into())
    );
    let granted = first(caller, "granted", &["--holder", "served"]);
    assert!(granted["waited_ms"].as_u64() > Some(0), "{granted}");
    let expired = first(caller, "expired", &["--holder", "served"]);
    assert!(expired["held_ms"].as_u64() >= Some(5_000), "{expired}");
    assert_eq!(expired["seat"], granted["seat"]);

    let used = summary(caller, &["--product", "queued"]);
    assert_eq!(
        (&used["granted"], &used["waited"], &used["expired"]),
        (&2.into(), &1.into(), &1.into())
    );
    assert!(used["longest_wait_ms"].as_u64() >= granted["waited_ms"].as_u64(), "{used}");
    let page = caller.page(&["usage", "--product", "queued"]);
    for words in ["waited in vain", "withdrawn", "expired", "waited "] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
}

/// A holder is silent for more than two thirds of its TTL, and then renews.
#[test]
fn a_late_renewal_is_told() {
    let cluster = shared();
    cluster.license("sleepy", 1);
    let caller = cluster.caller();
    let seat = caller.json(&["acquire", "sleepy", "--ttl", "15s"]);
    let (lease, token) = (word(&seat, "lease"), word(&seat, "token"));
    caller.json(&["renew", &lease, "--token", &token]);
    std::thread::sleep(Duration::from_millis(11_000));
    caller.json(&["renew", &lease, "--token", &token]);
    let records = caller.told(&["--product", "sleepy"]);
    let late: Vec<_> = records.iter().filter(|record| record["what"] == "renewed-late").collect();
    assert_eq!(late.len(), 1, "the first renewal was in time: {records:?}");
    assert!(late[0]["silent_ms"].as_u64() >= Some(10_000), "{}", late[0]);
    assert_eq!(summary(caller, &["--product", "sleepy"])["renewed_late"], 1);
    caller.give_back(&seat);
}

/// Three are denied: one is served from the same pool after all, one from
/// another, and one goes without.
#[test]
fn a_summary_tells_denials_that_cost_from_those_made_good() {
    let cluster = shared();
    cluster.license("scarce", 1);
    cluster.license("plenty", 5);
    let caller = cluster.caller();
    let held = caller.json(&["acquire", "scarce", "--holder", "lucky"]);
    for holder in ["patient", "flexible", "unlucky"] {
        caller.refused(3, &["acquire", "scarce", "--holder", holder]);
    }
    let other = caller.json(&["acquire", "plenty", "--holder", "flexible"]);
    caller.give_back(&held);
    let same = caller.json(&["acquire", "scarce", "--holder", "patient"]);

    let later = |holder| {
        word(&caller.told(&["--product", "scarce", "--holder", holder])[0], "served_later")
    };
    assert_eq!(later("patient"), "same-pool");
    assert_eq!(later("flexible"), "another-pool");
    assert_eq!(later("unlucky"), "no");
    let counts = |words: &[&str]| {
        let used = summary(caller, &[&["--product", "scarce"], words].concat());
        ["denied", "served_later", "served_by_another"].map(|key| used[key].as_u64())
    };
    assert_eq!(counts(&[]), [Some(1), Some(1), Some(1)]);
    // Whoever has to wait longer than the window went without.
    assert_eq!(counts(&["--window", "1ms"]), [Some(3), Some(0), Some(0)]);
    let page = caller.page(&["usage", "--summary", "--product", "scarce"]);
    for words in ["denied", "served later", "by another", "scarce"] {
        assert!(page.contains(words), "{words:?} is not in {page}");
    }
    caller.give_back(&other);
    caller.give_back(&same);
}

/// CSV and JSON are the same rows, and a subject's are its own.
#[test]
fn csv_and_json_say_the_same_of_one_subject() {
    let cluster = shared();
    cluster.license("shaped", 2);
    let operator = cluster.caller();
    // A busy machine may take too long to say that it was issued; then there is one more.
    let token = eventually("a token", || {
        let output = operator.run(&["token", "issue", "shaper"]);
        output.status.success().then_some(output.stdout)
    });
    let file = operator.dir().join("shaper.token");
    fs::write(&file, token).expect("the token's file");
    let robot = operator.with("TRINE_TOKEN_FILE", &file);
    let (own, robots) = (operator.json(&["acquire", "shaped"]), robot.json(&["acquire", "shaped"]));
    robot.refused(3, &["acquire", "shaped", "--holder", "one, \"two\""]);
    robot.give_back(&robots);
    operator.give_back(&own);

    let all = operator.told(&["--product", "shaped"]);
    let subject = word(&all[2], "subject");
    assert!(subject.contains("shaper"), "{all:?}");
    let words = ["--product", "shaped", "--subject", &subject];
    let records = operator.told(&words);
    let whats: Vec<_> = records.iter().map(|record| word(record, "what")).collect();
    assert_eq!(whats, ["granted", "denied", "released"]);

    let csv = operator.page(&[&["usage", "--csv"], &words[..]].concat());
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let columns = reader.headers().expect("a header").clone();
    let rows: Vec<_> = reader.records().map(|row| row.expect("a row")).collect();
    assert_eq!(rows.len(), records.len());
    for (row, record) in rows.iter().zip(&records) {
        assert_eq!(columns.len(), record.as_object().map_or(0, serde_json::Map::len));
        for (column, field) in columns.iter().zip(row) {
            let same = match &record[column] {
                Value::Null => field.is_empty(),
                Value::String(text) => field == text,
                number => field.parse().ok() == number.as_u64(),
            };
            assert!(same, "{column} is {field:?} and {}", record[column]);
        }
    }
    operator.refused(2, &["usage", "--csv", "--json"]);
    operator.refused(2, &["usage", "--csv", "--summary"]);
}

#[test]
fn space_for_the_history_is_set_beside_its_days() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    let kept = caller.json(&["usage", "retain", "--mebibytes", "64"]);
    assert_eq!((&kept["days"], &kept["mebibytes"]), (&400.into(), &64.into()));
    let kept = caller.json(&["usage", "retain", "--days", "30"]);
    assert_eq!((&kept["days"], &kept["mebibytes"]), (&30.into(), &64.into()));
    let set = first(caller, "retention", &[]);
    assert_eq!(word(&set, "reason"), "400 days, 64 MiB");
    assert_eq!(caller.json(&["usage", "retain"]), kept, "asked for nothing, it tells");
}

/// In one mebibyte the first records give way to later ones within a minute or
/// two: on the disks of all nodes alike, also on one that was killed meanwhile,
/// and what is left is verified from where it begins.
#[test]
fn what_there_is_no_space_for_goes_from_all_nodes_alike() {
    let cluster = Cluster::alone();
    let caller = cluster.caller();
    cluster.license("busy", HANDS);
    caller.json(&["usage", "retain", "--mebibytes", "1"]);
    let victim = Server::Node((1..=3).find(|node| *node != cluster.leader()).expect("a follower"));
    // Where a part goes while it is read, it is to be read again.
    let first_page = || {
        eventually("the history is read", || {
            let output = caller.run(&["--json", "usage", "verify"]);
            serde_json::from_slice::<Value>(&output.stdout).ok()?["first_page"].as_u64()
        })
    };
    assert_eq!(first_page(), 0);

    let hands = Hands::start(&cluster);
    cluster.stop(victim);
    hands.until("the first part is gone", || first_page() > 0);
    cluster.restart_as(victim, trine());
    let gone = first_page();
    hands.until("the next part is gone", || first_page() > gone);
    hands.rest(&cluster);

    until_all_have_it(caller);
    let records = caller.told(&[]);
    assert_eq!(records[0]["what"], "part-begun", "{}", records[0]);
    let kept = |what: &str| records.iter().filter(|record| record["what"] == what).count();
    assert!(kept("granted") > 100 && kept("retention") == 0, "what set it is itself gone");
}

/// So many applications take and give back without a pause.
const HANDS: u32 = 24;

struct Hands {
    rest: Arc<AtomicBool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Hands {
    fn start(cluster: &Cluster) -> Self {
        let rest = Arc::new(AtomicBool::new(false));
        let target = cluster.servers().target(Purpose::Application);
        let connection = cluster.block_on(Connection::to(target)).expect("a connection");
        let work = |hand: u32| {
            let (rest, client) = (rest.clone(), connection.client.clone());
            async move {
                // A long name fills the space sooner.
                let name = format!("{hand:0>128}");
                while !rest.load(Ordering::Relaxed) {
                    let seat = client.acquire("busy").holder(&name).send().await.expect("a seat");
                    seat.release().await.expect("given back");
                }
            }
        };
        Self { tasks: (0..HANDS).map(|hand| cluster.spawn(work(hand))).collect(), rest }
    }

    /// Waits for it, minutes if need be, as long as nobody failed.
    #[track_caller]
    fn until(&self, what: &str, is_so: impl Fn() -> bool) {
        for _ in 0..300 {
            if is_so() {
                return;
            }
            let at_work = self.tasks.iter().all(|task| !task.is_finished());
            assert!(at_work, "a seat was refused or lost before {what}");
            std::thread::sleep(Duration::from_secs(1));
        }
        panic!("not so: {what}");
    }

    fn rest(self, cluster: &Cluster) {
        self.rest.store(true, Ordering::Relaxed);
        for task in self.tasks {
            cluster.block_on(task).expect("no application failed");
        }
    }
}

/// Takes a seat and gives it back, so many times.
fn work(caller: &Caller, rounds: u32) {
    for _ in 0..rounds {
        caller.give_back(&caller.json(&["acquire", "busy"]));
    }
}

/// Waits until all three nodes have all of the leader's history, read page by page.
pub(crate) fn until_all_have_it(caller: &Caller) {
    eventually("three nodes have the same history", || {
        let output = caller.run(&["--json", "usage", "verify", "--every-node"]);
        if output.status.code() != Some(0) {
            return None;
        }
        let verified: Value = serde_json::from_slice(&output.stdout).ok()?;
        let pages = verified["first_page"].as_u64()? + verified["pages"].as_u64()?;
        let whole = |node: &Value| node["same"] == true && node["pages"] == pages;
        verified["nodes"].as_array()?.iter().all(whole).then_some(())
    });
}

/// Flips a bit wherever a page lies on a stopped node's disk.
fn rot(data: &Path, page: &[u8]) -> usize {
    let mut flipped = 0;
    for entry in fs::read_dir(data).expect("the data directory").flatten() {
        if entry.path().is_dir() {
            flipped += rot(&entry.path(), page);
            continue;
        }
        let mut bytes = fs::read(entry.path()).expect("a file of the node");
        let places: Vec<usize> =
            (0..bytes.len()).filter(|at| bytes[*at..].starts_with(page)).collect();
        for at in &places {
            bytes[at + page.len() / 2] ^= 1;
        }
        if !places.is_empty() {
            fs::write(entry.path(), bytes).expect("written back");
        }
        flipped += places.len();
    }
    flipped
}

/// A balancer leads to one node. An audit through it reads every member all the
/// same, and says which one it could not read.
#[test]
fn every_node_is_read_through_a_balancer_and_the_one_that_was_not_is_named() {
    let cluster = Cluster::alone();
    cluster.license("busy", 1);
    let balancer = at_balancer(&cluster);
    let caller = cluster.caller();
    work(caller, 3);
    let audit = || {
        let output =
            caller.run(&["--json", "--host", &balancer, "usage", "verify", "--every-node"]);
        let verified: Value = serde_json::from_slice(&output.stdout).ok()?;
        let nodes = verified["nodes"].as_array().cloned()?;
        let read: Vec<_> =
            nodes.iter().map(|node| (word(node, "node"), node["read"] == true)).collect();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        Some((output.status.code()?, read, said))
    };
    let names = ["node-1", "node-2", "node-3"];
    let of = |unread: Option<&str>| names.map(|name| (name.to_owned(), Some(name) != unread));
    eventually("all three are read", || {
        let (code, read, said) = audit()?;
        (code == 0 && read == of(None) && said.is_empty()).then_some(())
    });
    for node in Server::NODES {
        cluster.stop(node);
        let Server::Node(id) = node else { panic!("{node:?} is a node") };
        let name = format!("node-{id}");
        let address = format!("127.0.0.1:{}", cluster.servers().ports().client(node));
        let said = eventually("the others are read", || {
            let (code, read, said) = audit()?;
            (code == 4 && read == of(Some(&name))).then_some(said)
        });
        for words in ["NODE_NOT_READ", &name, &address] {
            assert!(said.contains(words), "{words:?} is not in {said}");
        }
        // Who did not ask for every node is not refused for it.
        eventually("what is kept holds", || {
            let output = caller.run(&["--host", &balancer, "usage", "verify"]);
            (output.status.code() == Some(0)).then_some(())
        });
        cluster.restart_as(node, trine());
    }
}

/// A balancer that stands at a node's address, where the node itself is down:
/// what answers through it is not that node's disk.
#[test]
fn whoever_answers_in_a_nodes_place_is_not_taken_for_it() {
    let cluster = Cluster::alone();
    let (node, stranger) = (Server::Node(3), Server::Balancer(2));
    cluster.stop(node);
    cluster.stop(stranger);
    let address = |server| format!("127.0.0.1:{}\"", cluster.servers().ports().client(server));
    let (ours, theirs) = (address(stranger), address(node));
    let config = cluster.servers().layout().config(stranger);
    let text = fs::read_to_string(&config).expect("its configuration");
    // It must not be told that the node is where it listens itself.
    let moved = text.replace(&ours, "?").replace(&theirs, &ours).replace('?', &theirs);
    assert_ne!(moved, text);
    fs::write(&config, moved).expect("its configuration");
    cluster.block_on(async { cluster.servers().start(stranger) }).expect("it starts");
    let said = eventually("it is noticed", || {
        let output = cluster.caller().run(&["--json", "usage", "verify", "--every-node"]);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code() == Some(4) && said.contains("in its place")).then_some(said)
    });
    assert!(said.contains("NODE_NOT_READ") && said.contains("node-3"), "{said}");
}

fn at_balancer(cluster: &Cluster) -> String {
    format!("127.0.0.1:{}", cluster.servers().ports().client(Server::Balancer(1)))
}

/// A node is away until the others have let its log go. It comes back by a
/// snapshot and fetches the records it missed. Then a page rots on another
/// node's disk, and the audit of every node says which page, and whose. RocksDB
/// would not start on such a disk.
#[test]
fn a_node_fetches_the_history_it_missed_and_rot_on_one_disk_is_named() {
    let cluster = Cluster::alone_with_storage("snapshot_every = 100\nlog_kept = 10\n");
    cluster.license("busy", 1);
    let caller = cluster.caller();
    let followers: Vec<Server> = {
        let leader = cluster.leader();
        Server::NODES.into_iter().filter(|node| *node != Server::Node(leader)).collect()
    };
    let away = followers[0];
    cluster.block_on(cluster.servers().kill(away)).expect("killed");
    // Some four snapshots: the first may still be written while its entries are asked for.
    work(caller, 200);
    cluster.block_on(async { cluster.servers().start(away) }).expect("started");
    until_all_have_it(caller);
    let log = fs::read_to_string(cluster.servers().layout().log(away)).expect("its log");
    assert!(log.contains("fetching history") && log.contains("history is whole"), "{log}");

    let file = caller.dir().join("whole.trine");
    caller.json(&["usage", "export", &file.to_string_lossy()]);
    let mut export = Reader::open(&file).expect("the export");
    let pages: Vec<_> = std::iter::from_fn(|| export.page().expect("a page")).collect();
    let number = 20;
    let rotten = followers[1];
    cluster.block_on(cluster.servers().stop(rotten)).expect("stopped");
    let data = cluster.servers().layout().home(rotten);
    assert!(rot(&data, &pages[number]) > 0, "the page is not in {}", data.display());
    cluster.block_on(async { cluster.servers().start(rotten) }).expect("started");
    let balancer = at_balancer(&cluster);
    let refusal = eventually("the node is back and read", || {
        let output =
            caller.run(&["--json", "--host", &balancer, "usage", "verify", "--every-node"]);
        (output.status.code() == Some(9))
            .then(|| String::from_utf8_lossy(&output.stderr).into_owned())
    });
    let Server::Node(id) = rotten else { panic!("{rotten:?} is a node") };
    for words in [&format!("node-{id}"), &format!("page {number}"), "HISTORY_DAMAGED", "replace"] {
        assert!(refusal.contains(words), "{words:?} is not in {refusal}");
    }
    // The others have it, and without that node all is well.
    cluster.block_on(cluster.servers().stop(rotten)).expect("stopped");
    caller.json(&["usage", "verify"]);
}
