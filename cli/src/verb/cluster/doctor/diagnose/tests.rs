//! One healthy cluster, and what each thing that goes wrong makes of it.

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
    assert_eq!(found(|seen| seen.down(2)), [error("NODE_DOWN", "node-2")]);
    let mut seen = healthy();
    seen.down(2);
    assert!(findings(&seen)[0].advice.contains("do not reach it either"));
}

/// Its shares and its silence say no more than that it is down.
#[test]
fn the_silence_of_a_node_that_is_down_is_not_told_twice() {
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
fn one_wrong_clock_is_a_warning_and_is_told_by_the_others() {
    for off in [-10 * YEAR, -60 * MINUTE, 60 * MINUTE, 10 * YEAR] {
        let wrong = found(|seen| seen.checkup(3).wall_ms += off);
        assert_eq!(wrong, [warning("CLOCK_WRONG", "node-3")], "{off}");
    }
    assert_eq!(found(|seen| seen.checkup(3).wall_ms += 5 * MINUTE), []);
}

#[test]
fn clocks_of_which_no_two_agree_are_an_error_each() {
    let change = |seen: &mut Observations| {
        seen.checkup(2).wall_ms += 60 * MINUTE;
        seen.checkup(3).wall_ms -= 60 * MINUTE;
        (1..=3).for_each(|id| seen.checkup(id).wall_floor_ms = None);
    };
    let all = ["node-1", "node-2", "node-3"].map(|node| error("CLOCKS_DISAGREE", node));
    assert_eq!(found(change), all);
}

/// A bad time server is believed by two: neither is right for that.
#[test]
fn two_wrong_clocks_that_agree_are_named_by_the_date_and_not_the_third() {
    for off in [-10 * YEAR, -60 * MINUTE, 60 * MINUTE, 10 * YEAR] {
        let change = |seen: &mut Observations| {
            seen.checkup(1).wall_ms += off;
            seen.checkup(2).wall_ms += off;
        };
        let expected = [error("CLOCK_WRONG", "node-1"), error("CLOCK_WRONG", "node-2")];
        assert_eq!(found(change), expected, "{off}");
        // This machine is the wrong one: the nodes and the date agree.
        let mut seen = healthy();
        for id in 1..=3 {
            seen.checkup(id).wall_ms += off;
            seen.checkup(id).wall_floor_ms = Some(NOW + off);
        }
        assert!(findings(&seen).iter().all(|f| f.code != "CLOCK_WRONG"), "{off}");
    }
}

#[test]
fn right_clocks_below_the_date_mean_that_the_date_is_ahead() {
    let change = |seen: &mut Observations| {
        (1..=3).for_each(|id| seen.checkup(id).wall_floor_ms = Some(NOW + 10 * YEAR));
    };
    assert_eq!(found(change), [error("DATE_AHEAD", "cluster")]);
    let mut seen = healthy();
    change(&mut seen);
    assert!(findings(&seen)[0].advice.contains("trine cluster clock-reset"));
}

#[test]
fn a_date_behind_the_clocks_is_late() {
    let change = |seen: &mut Observations| {
        (1..=3).for_each(|id| seen.checkup(id).wall_floor_ms = Some(NOW - 60 * MINUTE));
    };
    assert_eq!(found(change), [warning("DATE_LATE", "cluster")]);
}

#[test]
fn a_disk_fills_before_it_is_full() {
    let free = |bytes| {
        move |seen: &mut Observations| {
            seen.checkup(2).disk.as_mut().expect("a disk").bytes_free = bytes;
        }
    };
    assert_eq!(found(free(2 * GIB)), []);
    assert_eq!(found(free(2 * GIB - 1)), [warning("DISK_FILLING", "node-2")]);
    assert_eq!(found(free(GIB / 2 - 1)), [error("DISK_FULL", "node-2")]);
}

#[test]
fn a_slow_disk_is_told_by_its_latest_syncs() {
    let syncs = |count, median_us, p99_us| {
        move |seen: &mut Observations| {
            seen.checkup(1).syncs = Some(Syncs { count, median_us, p99_us });
        }
    };
    assert_eq!(found(syncs(512, 50_001, 60_000)), [warning("DISK_SLOW", "node-1")]);
    assert_eq!(found(syncs(512, 900, 400_001)), [warning("DISK_SLOW", "node-1")]);
    assert_eq!(found(syncs(19, 900_000, 900_000)), [], "too few to tell");
}

#[test]
fn a_certificate_is_renewed_in_time_or_it_is_an_error() {
    const DAY: i64 = 24 * 60 * MINUTE;
    for (which, at) in [("client", 0), ("peer", 1), ("ca", 2)] {
        let left = |millis| {
            move |seen: &mut Observations| seen.node(2).certificates[at].expires_ms = NOW + millis
        };
        assert_eq!(found(left(30 * DAY + 1)), [], "{which}");
        assert_eq!(found(left(30 * DAY)), [warning("CERTIFICATE_ENDING", "node-2")], "{which}");
        assert_eq!(found(left(3 * DAY)), [error("CERTIFICATE_ENDING", "node-2")], "{which}");
        assert_eq!(found(left(-1)), [error("CERTIFICATE_ENDING", "node-2")], "{which}");
    }
}

#[test]
fn builds_that_differ_are_a_warning() {
    let change = |seen: &mut Observations| seen.node(2).version = "0.2.0".into();
    assert_eq!(found(change), [warning("VERSIONS_DIFFER", "cluster")]);
}

/// In the middle of an upgrade nobody is told to raise anything.
#[test]
fn a_level_that_all_builds_know_is_a_warning_and_not_one_that_some_know() {
    let newer = |nodes: &'static [usize]| {
        move |seen: &mut Observations| nodes.iter().for_each(|id| seen.node(*id).highest_level = 3)
    };
    assert_eq!(found(newer(&[1, 2])), []);
    assert_eq!(found(newer(&[1, 2, 3])), [warning("LEVEL_CAN_RISE", "cluster")]);

    // One that is down was heard before that.
    let heard = |level| {
        move |seen: &mut Observations| {
            newer(&[1, 2])(seen);
            seen.down(3);
            seen.cluster().nodes[2].highest_level = level;
        }
    };
    let down = || error("NODE_DOWN", "node-3");
    assert_eq!(found(heard(2)), [down()]);
    assert_eq!(found(heard(3)), [down(), warning("LEVEL_CAN_RISE", "cluster")]);
    assert_eq!(found(heard(0)), [down()]);
}

#[test]
fn a_build_that_is_too_old_for_the_level_is_an_error() {
    let change = |seen: &mut Observations| seen.node(2).highest_level = 1;
    assert_eq!(found(change), [error("BUILD_TOO_OLD", "node-2")]);
    let stopped = |seen: &mut Observations| {
        seen.down(2);
        seen.cluster().nodes[1].highest_level = 1;
    };
    assert_eq!(found(stopped), [error("NODE_DOWN", "node-2"), error("BUILD_TOO_OLD", "node-2")]);
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
    for part in ["stop it", "put its data directory aside", "node-3"] {
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

/// Right after a start or an election nothing is wrong and not all is well.
#[test]
fn a_license_that_is_about_to_serve_is_not_known_yet_and_later_it_is_an_error() {
    let about = "cad (6000010:1:1)";
    let waits = || [not_yet("NOT_SERVING_YET", about)];
    let broken = || [error("LICENSE_NOT_SERVING", about)];
    let since = |seen: &mut Observations, members, term| {
        seen.cluster().members_for_ms = Some(members);
        seen.cluster().term_for_ms = Some(term);
    };
    let unsigned = |members, term| {
        move |seen: &mut Observations| {
            let license = &mut seen.cluster().licenses[0];
            (license.serving, license.signed) = (false, false);
            since(seen, members, term);
        }
    };
    assert_eq!(found(unsigned(HOUR, 9_999)), waits());
    assert_eq!(found(unsigned(9_999, HOUR)), waits());
    assert_eq!(found(unsigned(10_000, 10_000)), broken());
    let unproved = |members, term| {
        move |seen: &mut Observations| {
            let license = &mut seen.cluster().licenses[0];
            license.serving = false;
            license.shares[0].state = "not proved".into();
            license.shares[1].state = "not proved".into();
            since(seen, members, term);
        }
    };
    assert_eq!(found(unproved(9_999, HOUR)), waits());
    assert_eq!(found(unproved(10_000, HOUR)), broken());
    assert_eq!(found(unproved(HOUR, 9_999)), broken(), "an election takes no share away");
    let expired = |seen: &mut Observations| {
        seen.cluster().licenses[0].serving = false;
        since(seen, 9_999, 9_999);
    };
    assert_eq!(found(expired), broken(), "signed, with shares enough");
}

/// It grants nothing, and that is as it should be: neither healthy nor broken.
#[test]
fn a_restored_cluster_that_is_quiet_is_no_healthy_one() {
    assert_eq!(found(|seen| seen.cluster().quiet_ms = Some(0)), []);
    let quiet = |seen: &mut Observations| seen.cluster().quiet_ms = Some(82_800_000);
    assert_eq!(found(quiet), [warning("RESTORED", "cluster")]);
}

/// Nobody answers, the first node not at all; the others and the cluster for these reasons.
fn answered(second: Reason, third: Reason, cluster: Reason) -> Observations {
    let mut seen = healthy();
    seen.nodes[0].answer = Err(problem(Reason::Unreachable, "connection refused"));
    seen.nodes[1].answer = Err(problem(second, "not with this certificate"));
    seen.nodes[2].answer = Err(problem(third, "not with this certificate"));
    seen.cluster = Err(problem(cluster, "not with this certificate"));
    seen.doors.clear();
    seen.balancers.clear();
    seen
}

fn codes(seen: &Observations) -> Vec<(&'static str, String)> {
    findings(seen).into_iter().map(|finding| (finding.code, finding.about)).collect()
}

/// Whose identity does not do is told so, whatever it makes of the nodes.
#[test]
fn a_wrong_identity_is_the_askers_and_no_node_is_to_blame() {
    use Reason::{CertificateRefused, CertificateRevoked, ConnectionLost, NoIdentity, WrongRole};
    for reason in [WrongRole, NoIdentity, CertificateRevoked, CertificateRefused] {
        let mut seen = answered(reason, reason, reason);
        assert_eq!(seen.turned_away().map(|it| it.reason), Some(reason));
        // Another hung up before it was heard why.
        seen = answered(reason, ConnectionLost, reason);
        assert_eq!(seen.turned_away().map(|it| it.reason), Some(reason));
        // One that lets us in makes the others' refusal theirs.
        seen.nodes[2] = node(3);
        assert_eq!(seen.turned_away(), None);
    }
}

/// An address where nothing is says nothing of any node.
#[test]
fn a_place_where_nobody_is_blames_no_node() {
    use Reason::{NoAnswer, NoQuorum, Unreachable};
    let mut seen = answered(Unreachable, Unreachable, NoQuorum);
    assert!(seen.is_nobody_there());
    // What takes connections is there, whatever is wrong with it.
    seen.nodes[2].answer = Err(problem(NoAnswer, "no answer in time"));
    assert!(!seen.is_nobody_there());
    seen.nodes[2] = node(3);
    assert!(!seen.is_nobody_there());
    seen = answered(Unreachable, Unreachable, NoQuorum);
    seen.balancers = healthy().balancers;
    assert!(!seen.is_nobody_there(), "a balancer tells of them");
}

/// A verdict of ours on the nodes, or of some nodes only, is no verdict on us.
#[test]
fn nodes_whose_certificates_are_at_fault_are_named_with_all_else() {
    use Reason::{CertificateRefused, Untrusted};
    let down = || ("NODE_DOWN", "node-1".to_owned());
    let not_trusted = |node: &str| ("NODE_NOT_TRUSTED", node.to_owned());
    for (second, third) in [(Untrusted, Untrusted), (CertificateRefused, Untrusted)] {
        let seen = answered(second, third, third);
        assert_eq!(seen.turned_away(), None);
        assert_eq!(codes(&seen), [down(), not_trusted("node-2"), not_trusted("node-3")]);
        // So is what is behind a balancer, as far as anybody can tell.
        let mut behind = seen.clone();
        behind.doors = healthy().doors;
        behind.doors[0].answer = Err(problem(third, "why"));
        let last = codes(&behind).pop();
        assert_eq!(last, Some(("DOOR_NOT_TRUSTED", "10.0.0.5:22450".to_owned())));
        let advice = &findings(&seen)[1].advice;
        assert!(advice.contains("its certificates") && advice.contains("TRINE_CA"), "{advice}");
    }
    // Two of three ended: the third tells that it is alone.
    let mut seen = answered(Untrusted, Untrusted, Reason::NoQuorum);
    seen.nodes[0] = node(1);
    assert_eq!(seen.turned_away(), None);
    let expected =
        [("NO_QUORUM", "cluster".to_owned()), not_trusted("node-2"), not_trusted("node-3")];
    assert_eq!(codes(&seen), expected);
}

/// A node on its way in has read the history of long ago, and no more yet.
#[test]
fn a_node_that_joins_raises_no_alarm_about_the_date() {
    let joining = |seen: &mut Observations| {
        seen.cluster().wall_floor_ms = Some(NOW - 500);
        for id in 1..=3 {
            seen.checkup(id).wall_floor_ms = Some(NOW - YEAR);
        }
    };
    assert_eq!(found(joining), []);
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
    let change = |seen: &mut Observations| seen.node(3).cluster_id = "c2".into();
    assert_eq!(found(change), [error("OTHER_CLUSTER", "node-3")]);
    let change = |seen: &mut Observations| seen.node(3).formed = false;
    assert_eq!(found(change), [warning("NOT_CAUGHT_UP", "node-3")]);
}

#[test]
fn a_license_that_does_not_serve_says_why() {
    let change = |seen: &mut Observations| {
        seen.cluster().licenses[0].serving = false;
        seen.cluster().licenses[0].reason = "1 of 3 shares live".into();
    };
    assert_eq!(found(change), [error("LICENSE_NOT_SERVING", "cad (6000010:1:1)")]);
    let mut seen = healthy();
    change(&mut seen);
    assert!(findings(&seen)[0].what.contains("1 of 3 shares live"));
}

#[test]
fn a_missing_share_is_a_warning_while_two_are_live() {
    for state in ["not proved", "withdrawn", "silent"] {
        let change =
            |seen: &mut Observations| seen.cluster().licenses[0].shares[2].state = state.into();
        assert_eq!(found(change), [warning("SHARE_MISSING", "cad (6000010:1:1)")], "{state}");
    }
}

/// Its node is slow or cut off, and has it still.
#[test]
fn nobody_is_told_to_withdraw_a_share_that_is_only_silent() {
    let mut seen = healthy();
    seen.cluster().licenses[0].shares[2].state = "silent".into();
    let advice = findings(&seen).remove(0).advice;
    assert!(!advice.contains("withdraw") && !advice.contains("repair"), "{advice}");
    assert!(advice.contains("comes back"), "{advice}");
}

/// Node 3 went, and node 4 came without a share: whose it was is told, and what
/// became of it.
#[test]
fn a_lost_share_is_repaired_or_withdrawn_by_the_name_of_who_had_it() {
    let mut seen = healthy();
    let place = |node: u64| {
        let container = format!("of-{node}");
        v1::Place { container, node, withdrawn: false }
    };
    let cluster = seen.cluster();
    cluster.nodes.iter_mut().for_each(|node| node.container = format!("of-{}", node.id));
    cluster.nodes[2].container = "of-4".into();
    cluster.licenses[0].places = [1, 2, 3].map(place).to_vec();
    cluster.licenses[0].shares[2].state = "without a share".into();
    let lost = findings(&seen).remove(0);
    let words = ["license repair 6000010:1:1", "withdraw-share 6000010:1:1 --node 3"];
    assert!(words.iter().all(|words| lost.advice.contains(words)), "{lost:?}");

    seen.cluster().licenses[0].places[2].withdrawn = true;
    let withdrawn = findings(&seen).remove(0);
    assert!(withdrawn.what.contains("the share of node-3 was withdrawn"), "{withdrawn:?}");
    assert!(!withdrawn.advice.contains("license repair"), "{withdrawn:?}");
    assert!(withdrawn.advice.contains("license request"), "{withdrawn:?}");
}

#[test]
fn a_replacement_that_was_left_is_told() {
    let change = |seen: &mut Observations| {
        let new_address = "10.0.0.14:22451".into();
        seen.cluster().replacement =
            Some(v1::Replacement { old_node: 3, new_node: 4, new_address });
    };
    assert_eq!(found(change), [warning("REPLACEMENT_UNDER_WAY", "cluster")]);
    let mut seen = healthy();
    change(&mut seen);
    assert!(findings(&seen)[0].advice.contains("trine cluster replace 3 4"));
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

/// Neither side is taken for the right one.
#[test]
fn clocks_that_are_all_ahead_of_this_machines_are_told_by_how_much() {
    const DAYS: i64 = 40 * 24 * 60 * MINUTE;
    for off in [DAYS, -DAYS] {
        let change = |seen: &mut Observations| {
            (1..=3).for_each(|id| {
                seen.checkup(id).wall_ms += off;
                seen.checkup(id).wall_floor_ms = Some(NOW + off);
            });
        };
        assert_eq!(found(change), [warning("CLOCK_HERE_DIFFERS", "cluster")]);
        let mut seen = healthy();
        change(&mut seen);
        let what = findings(&seen).remove(0).what;
        let which =
            if off > 0 { "40d ahead of this machine's" } else { "40d behind this machine's" };
        assert!(what.contains(which), "{what}");
    }
}

#[test]
fn a_way_in_is_closed_not_trusted_or_leads_elsewhere() {
    let door = |reason: Reason| {
        move |seen: &mut Observations| seen.doors[0].answer = Err(problem(reason, "why"))
    };
    assert_eq!(found(door(Reason::Unreachable)), [error("DOOR_CLOSED", "10.0.0.5:22450")]);
    assert_eq!(found(door(Reason::Untrusted)), [error("DOOR_NOT_TRUSTED", "10.0.0.5:22450")]);
    let elsewhere = |seen: &mut Observations| {
        seen.doors[0].answer.as_mut().expect("it answers").cluster_id = "c2".into();
    };
    assert_eq!(found(elsewhere), [error("DOOR_TO_ANOTHER_CLUSTER", "10.0.0.5:22450")]);
}

#[test]
fn a_balancer_that_points_at_the_wrong_place_is_told_which() {
    const ABOUT: &str = "balancer 10.0.0.5:22453";
    let down = |seen: &mut Observations| {
        seen.balancers[0].answer = Err(problem(Reason::Unreachable, "nobody answers there"));
    };
    assert_eq!(found(down), [error("BALANCER_DOWN", ABOUT)]);
    let stranger = |seen: &mut Observations| seen.balancer().nodes[2].id = 9;
    let expected =
        [error("BALANCER_KNOWS_A_STRANGER", ABOUT), warning("BALANCER_LACKS_A_NODE", ABOUT)];
    assert_eq!(found(stranger), expected);
    let address = |seen: &mut Observations| seen.balancer().nodes[0].client = client(2);
    assert_eq!(found(address), [warning("BALANCER_ADDRESS_DIFFERS", ABOUT)]);
    let probe = |seen: &mut Observations| seen.balancer().nodes[0].error = Some("refused".into());
    assert_eq!(found(probe), [error("BALANCER_SEES_NO_NODE", ABOUT)]);
    let unready = |seen: &mut Observations| seen.balancer().ready = false;
    assert_eq!(found(unready), [error("BALANCER_NOT_READY", ABOUT)]);
    let leader =
        |seen: &mut Observations| seen.balancer().leader = Some(BalancerLeader { node: 2 });
    assert_eq!(found(leader), [warning("BALANCER_OTHER_LEADER", ABOUT)]);
    // A probe of a node that is down is that node's finding.
    let both = |seen: &mut Observations| {
        seen.down(3);
        seen.balancer().nodes[2].error = Some("refused".into());
    };
    assert_eq!(found(both), [error("NODE_DOWN", "node-3")]);
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
