//! Who asks, and where: what is no fault of any node.

use super::*;

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
