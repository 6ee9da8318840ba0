//! One healthy cluster, and what each thing that goes wrong makes of it: here
//! the nodes, all else in a file for each subject.

mod caller;
mod clocks;
mod doors;
mod licenses;
mod machines;

use std::collections::BTreeSet;

use license::product::WallTime;
use trine_client::Reason;
use wire::v1;
use wire::v1::checkup::{Disk, Member, Syncs};

use super::super::finding::{Finding, Severity};
use super::super::observations::{
    BalancerLeader, BalancerNode, BalancerStatus, Observations, Problem, Seen,
};
use super::{Thresholds, diagnose};

const NOW: i64 = 1_800_000_000_000;
const MINUTE: i64 = 60_000;
const YEAR: i64 = 365 * 24 * 60 * MINUTE;
/// Of cluster time.
const HOUR: u64 = 3_600_000;
const GIB: u64 = 1 << 30;

fn client(id: u64) -> String {
    format!("10.0.0.1{id}:22450")
}

fn node(id: u64) -> Seen<v1::NodeStatusReply> {
    let member = |id| Member {
        id,
        peer_address: format!("10.0.0.1{id}:22451"),
        client_address: client(id),
        problem: String::new(),
    };
    let certificate = |which: &str| v1::CertificateInUse {
        which: which.into(),
        fingerprint: String::new(),
        expires_ms: NOW + YEAR,
    };
    let checkup = v1::Checkup {
        wall_ms: NOW,
        wall_floor_ms: Some(NOW - 500),
        disk: Some(Disk { path: "/data".into(), bytes_total: 100 * GIB, bytes_free: 50 * GIB }),
        syncs: Some(Syncs { count: 512, median_us: 900, p99_us: 9_000 }),
        members: [1, 2, 3].map(member).to_vec(),
        certificates_refused: String::new(),
        trusted_proxies: vec!["10.0.0.21/32".into(), "10.0.0.22/32".into()],
    };
    let answer = v1::NodeStatusReply {
        id,
        version: "0.1.0".into(),
        formed: true,
        cluster_id: "c1".into(),
        checkup: Some(checkup),
        certificates: ["client", "peer", "ca"].map(certificate).to_vec(),
        level: 2,
        highest_level: 2,
        ..Default::default()
    };
    Seen { id: Some(id), address: client(id), answer: Ok(answer) }
}

fn healthy() -> Observations {
    let member = |id| v1::Node {
        id,
        client_address: client(id),
        leader: id == 1,
        alive: true,
        heard_ms_ago: Some(400),
        matched_index: Some(1_000_000),
        highest_level: 2,
        ..Default::default()
    };
    let share = |node| v1::Share { node, container: String::new(), state: "live".into() };
    let license = v1::License {
        id: "6000010:1:1".into(),
        product: "cad".into(),
        serving: true,
        signed: true,
        shares: [1, 2, 3].map(share).to_vec(),
        ..Default::default()
    };
    let cluster = v1::StatusReply {
        as_of: Some(v1::Envelope { stamp_ms: HOUR, ..Default::default() }),
        cluster_id: "c1".into(),
        leader: 1,
        nodes: [1, 2, 3].map(member).to_vec(),
        level: 2,
        licenses: vec![license],
        members_for_ms: Some(HOUR),
        term_for_ms: Some(HOUR),
        ..Default::default()
    };
    let mut behind = node(1);
    (behind.id, behind.address) = (None, "10.0.0.5:22450".into());
    let probed = |id| BalancerNode {
        id,
        client: client(id),
        health: format!("10.0.0.1{id}:22452"),
        error: None,
    };
    let balancer = BalancerStatus {
        ready: true,
        leader: Some(BalancerLeader { node: 1 }),
        nodes: [1, 2, 3].map(probed).to_vec(),
    };
    Observations {
        cluster: Ok(cluster),
        nodes: vec![node(1), node(2), node(3)],
        doors: vec![behind],
        balancers: vec![Seen { id: None, address: "10.0.0.5:22453".into(), answer: Ok(balancer) }],
        revoked: BTreeSet::new(),
    }
}

fn problem(reason: Reason, message: &str) -> Problem {
    Problem { reason, message: message.into() }
}

impl Observations {
    fn node(&mut self, id: usize) -> &mut v1::NodeStatusReply {
        self.nodes[id - 1].answer.as_mut().expect("it answers")
    }

    fn checkup(&mut self, id: usize) -> &mut v1::Checkup {
        self.node(id).checkup.as_mut().expect("it was asked for")
    }

    fn cluster(&mut self) -> &mut v1::StatusReply {
        self.cluster.as_mut().expect("a leader answers")
    }

    fn balancer(&mut self) -> &mut BalancerStatus {
        self.balancers[0].answer.as_mut().expect("it answers")
    }

    fn down(&mut self, id: usize) {
        self.nodes[id - 1].answer = Err(problem(Reason::Unreachable, "connection refused"));
        for node in self.nodes.iter_mut().filter_map(|node| node.answer.as_mut().ok()) {
            let members = &mut node.checkup.as_mut().expect("it was asked for").members;
            members[id - 1].problem = "connection refused".into();
        }
    }
}

fn findings(seen: &Observations) -> Vec<Finding> {
    diagnose(seen, &Thresholds { disk_free: 2 * GIB }, WallTime(NOW))
}

/// What is found after one change: severity, code and whose.
#[track_caller]
fn found(change: impl FnOnce(&mut Observations)) -> Vec<(Severity, &'static str, String)> {
    let mut seen = healthy();
    change(&mut seen);
    let findings = findings(&seen);
    for finding in &findings {
        assert!(!finding.what.is_empty() && !finding.advice.is_empty(), "{finding:?}");
    }
    findings.into_iter().map(|f| (f.severity, f.code, f.about)).collect()
}

fn error(code: &'static str, about: &str) -> (Severity, &'static str, String) {
    (Severity::Error, code, about.into())
}

fn warning(code: &'static str, about: &str) -> (Severity, &'static str, String) {
    (Severity::Warning, code, about.into())
}

fn not_yet(code: &'static str, about: &str) -> (Severity, &'static str, String) {
    (Severity::NotKnownYet, code, about.into())
}

#[test]
fn a_healthy_cluster_has_nothing_wrong() {
    assert_eq!(found(|_| {}), []);
}

#[test]
fn a_node_that_is_down_is_named_once() {
    let mut seen = healthy();
    seen.down(2);
    assert!(findings(&seen)[0].advice.contains("do not reach it either"));
    // Its shares and its silence say no more than that it is down.
    let change = |seen: &mut Observations| {
        seen.down(2);
        seen.cluster().nodes[1].alive = false;
        seen.cluster().licenses[0].shares[1].state = "silent".into();
    };
    assert_eq!(found(change), [error("NODE_DOWN", "node-2")]);
}

#[test]
fn a_node_that_only_we_do_not_reach_is_behind_a_firewall() {
    let mut seen = healthy();
    seen.nodes[1].answer = Err(problem(Reason::Unreachable, "no answer in time"));
    let findings = findings(&seen);
    assert_eq!((findings[0].code, findings.len()), ("NODE_DOWN", 1));
    assert!(findings[0].advice.contains("so it runs"), "{findings:?}");
}

#[test]
fn without_a_quorum_it_still_tells_who_is_missing() {
    let change = |seen: &mut Observations| {
        seen.cluster = Err(problem(Reason::NoQuorum, "no leader answered in time"));
        seen.down(1);
        seen.down(2);
        seen.doors.clear();
        seen.balancers.clear();
    };
    let expected =
        [error("NO_QUORUM", "cluster"), error("NODE_DOWN", "node-1"), error("NODE_DOWN", "node-2")];
    assert_eq!(found(change), expected);
}

#[test]
fn a_cluster_that_is_not_formed_is_called_so() {
    let change = |seen: &mut Observations| {
        seen.cluster = Err(problem(Reason::NotFormed, "not formed"));
        (1..=3).for_each(|id| seen.node(id).formed = false);
        seen.doors.clear();
        seen.balancers.clear();
    };
    assert_eq!(found(change), [error("NOT_FORMED", "cluster")]);
}

/// A node that comes back alone has its log, and has not read what it is of.
#[test]
fn a_cluster_that_lost_its_quorum_is_not_called_unformed() {
    let change = |seen: &mut Observations| {
        seen.cluster = Err(problem(Reason::NoQuorum, "no leader"));
        (1..=3).for_each(|id| {
            let node = seen.node(id);
            (node.formed, node.last_log_index) = (false, 7);
        });
        seen.doors.clear();
        seen.balancers.clear();
    };
    assert_eq!(found(change), [error("NO_QUORUM", "cluster")]);
}

#[test]
fn a_ledger_that_differs_is_an_error() {
    let change = |seen: &mut Observations| seen.cluster().nodes[2].ledger_differs = true;
    assert_eq!(found(change), [error("LEDGER_DIFFERS", "node-3")]);
}

/// What is said of them is that they are strays, and nothing of peer ports.
#[test]
fn nodes_from_before_a_restore_are_named_with_the_way_out() {
    let change = |seen: &mut Observations| {
        for (id, epoch) in [(1, 0), (2, 0), (3, 216_864_000)] {
            seen.node(id).epoch = Some(epoch);
        }
        seen.cluster().nodes[2].alive = false;
    };
    let of = |node| error("BEFORE_RESTORE", node);
    assert_eq!(found(change), [of("node-1"), of("node-2")]);
    let mut seen = healthy();
    change(&mut seen);
    let first = findings(&seen).remove(0);
    assert!(first.what.contains("node-3 is of epoch 216864000"), "{}", first.what);
    for part in ["restored on purpose", "stop node-3", "put its data directory aside"] {
        assert!(first.advice.contains(part), "{part:?} is not in {:?}", first.advice);
    }
}

#[test]
fn a_node_far_behind_is_a_warning() {
    let change = |seen: &mut Observations| seen.cluster().nodes[2].matched_index = Some(979_999);
    assert_eq!(found(change), [warning("LAGGING", "node-3")]);
    assert_eq!(found(|seen| seen.cluster().nodes[2].matched_index = Some(980_000)), []);
}

#[test]
fn a_node_that_the_leader_does_not_hear_is_an_error() {
    let change = |seen: &mut Observations| seen.cluster().nodes[1].alive = false;
    assert_eq!(found(change), [error("NODE_SILENT", "node-2")]);
    let never_heard = |millis| {
        move |seen: &mut Observations| {
            change(seen);
            seen.cluster().nodes[1].heard_ms_ago = None;
            seen.cluster().members_for_ms = Some(millis);
        }
    };
    assert_eq!(found(never_heard(9_999)), [not_yet("NOT_HEARD_YET", "node-2")]);
    assert_eq!(found(never_heard(10_000)), [error("NODE_SILENT", "node-2")]);
    // One that was heard, and is no more.
    let silent_since = |seen: &mut Observations| {
        change(seen);
        seen.cluster().members_for_ms = Some(9_999);
    };
    assert_eq!(found(silent_since), [error("NODE_SILENT", "node-2")]);
}

/// It grants nothing, and that is as it should be: neither healthy nor broken.
#[test]
fn a_restored_cluster_that_is_quiet_is_no_healthy_one() {
    assert_eq!(found(|seen| seen.cluster().quiet_ms = Some(0)), []);
    let quiet = |seen: &mut Observations| seen.cluster().quiet_ms = Some(82_800_000);
    assert_eq!(found(quiet), [warning("RESTORED", "cluster")]);
}

#[test]
fn a_closed_peer_port_is_told_by_who_needs_it() {
    let change = |seen: &mut Observations| {
        seen.checkup(1).members[2].problem = "no answer in time".into();
    };
    assert_eq!(found(change), [error("PEER_UNREACHED", "node-1")]);
}

#[test]
fn a_node_of_another_cluster_is_an_error() {
    let change = |seen: &mut Observations| {
        seen.node(3).cluster_id = "c2".into();
        seen.cluster().nodes[2].alive = false;
    };
    assert_eq!(found(change), [error("OTHER_CLUSTER", "node-3")]);
    let restored = |seen: &mut Observations| {
        change(seen);
        seen.node(3).epoch = Some(216_864_000);
        let cluster_id = "c2".to_owned();
        let found = v1::OtherOrigin { node: 3, epoch: 216_864_000, cluster_id };
        seen.node(1).other_origins = vec![found];
    };
    assert_eq!(found(restored), [error("OTHER_CLUSTER", "node-3")], "nobody is from before");
    let change = |seen: &mut Observations| seen.node(3).formed = false;
    assert_eq!(found(change), [warning("NOT_CAUGHT_UP", "node-3")]);
}

#[test]
fn a_replacement_that_was_left_is_told() {
    let change = |seen: &mut Observations| {
        seen.cluster().replacement = Some(v1::Replacement {
            old_node: 3,
            new_node: 4,
            new_address: "10.0.0.14:22451".into(),
            stage: "catching-up".into(),
            detail: "node-4 is 70 entries behind".into(),
        });
    };
    assert_eq!(found(change), [warning("REPLACEMENT_UNDER_WAY", "cluster")]);
    let mut seen = healthy();
    change(&mut seen);
    assert!(findings(&seen)[0].advice.contains("trine cluster replace 3 4"));
}

/// It serves with what it showed before, and would not start again.
#[test]
fn a_node_that_does_not_take_its_new_certificate_files_is_told_of() {
    let change = |seen: &mut Observations| {
        seen.checkup(2).certificates_refused = "peer.pem: key and certificate differ".into();
    };
    assert_eq!(found(change), [error("CERTIFICATE_REFUSED", "node-2")]);
}

/// The others refuse its connections, and it theirs: no firewall is between them.
#[test]
fn a_member_whose_certificate_was_revoked_is_called_so() {
    let change = |seen: &mut Observations| {
        seen.node(3).certificates[1].fingerprint = "ab12".into();
        seen.revoked.insert("ab12".into());
        seen.checkup(1).members[2].problem = "certificate revoked".into();
        seen.checkup(3).members[0].problem = "certificate revoked".into();
        seen.cluster().nodes[2].alive = false;
        seen.cluster().licenses[0].shares[2].state = "silent".into();
    };
    let expected = [error("NODE_REVOKED", "node-3"), warning("SHARE_MISSING", "cad (6000010:1:1)")];
    assert_eq!(found(change), expected);
}

#[test]
fn errors_come_before_warnings() {
    let change = |seen: &mut Observations| {
        seen.checkup(1).wall_ms += YEAR;
        seen.down(3);
        seen.checkup(2).disk.as_mut().expect("a disk").bytes_free = 0;
    };
    let severities: Vec<Severity> = found(change).into_iter().map(|(s, ..)| s).collect();
    assert!(severities.is_sorted(), "{severities:?}");
    assert_eq!(severities.first(), Some(&Severity::Error));
}
