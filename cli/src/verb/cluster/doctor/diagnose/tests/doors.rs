//! Ways in, and balancers.

use super::*;

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

/// One backup was restored into two sets of nodes: their cluster's id is the same.
#[test]
fn a_way_in_to_a_twin_from_the_same_backup_is_told() {
    let epochs = |seen: &mut Observations, here, there| {
        seen.cluster().as_of = Some(v1::Envelope { epoch: here, ..Default::default() });
        seen.doors[0].answer.as_mut().expect("it answers").epoch = Some(there);
    };
    let twin = |seen: &mut Observations| epochs(seen, 7, 9);
    assert_eq!(found(twin), [error("DOOR_TO_ANOTHER_CLUSTER", "10.0.0.5:22450")]);
    assert_eq!(found(|seen| epochs(seen, 7, 7)), []);
}

/// A node that follows needs none; once it leads it refuses whoever they speak for.
#[test]
fn nodes_that_trust_different_balancers_are_told() {
    let lacks = |seen: &mut Observations| seen.checkup(3).trusted_proxies.clear();
    assert_eq!(found(lacks), [warning("PROXIES_DIFFER", "cluster")]);
    let order = |seen: &mut Observations| seen.checkup(3).trusted_proxies.reverse();
    assert_eq!(found(order), []);
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
