//! Where new connections go, told as short histories.

use proptest::prelude::*;

use super::*;

const NODES: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn three() -> Topology {
    Topology::new(NODES, 3)
}

/// `node` says that `leader` (perhaps itself) leads `term`.
fn says(node: u64, term: u64, leader: Option<u64>, ready: bool) -> Observation {
    let role = if leader == Some(node) { Role::Leader } else { Role::Follower };
    let leader = leader.map(NodeId);
    Observation::Answered(Report { node: NodeId(node), role, term, leader, ready })
}

fn hear(topology: &mut Topology, node: u64, observation: Observation) -> Vec<Change> {
    topology.observe(NodeId(node), observation)
}

fn led_by_two() -> Topology {
    let mut topology = three();
    for node in 1..=3 {
        hear(&mut topology, node, says(node, 7, Some(2), true));
    }
    topology
}

#[test]
fn a_connection_goes_to_the_leader_then_to_the_others() {
    let mut topology = led_by_two();
    for _ in 0..5 {
        let route = topology.route();
        assert_eq!((route[0], route.len()), (NodeId(2), 3));
    }
}

#[test]
fn a_stale_leader_with_a_lower_term_is_not_believed() {
    let mut topology = led_by_two();
    hear(&mut topology, 3, says(3, 8, Some(3), true));
    assert_eq!(topology.leader(), Some(Leadership { node: NodeId(3), term: 8 }));
    assert_eq!(topology.route()[0], NodeId(3));
    // The old leader keeps claiming; nothing moves.
    assert_eq!(hear(&mut topology, 2, says(2, 7, Some(2), true)), []);
    assert_eq!(topology.route()[0], NodeId(3));
}

#[test]
fn a_follower_may_be_first_to_name_the_new_leader() {
    let mut topology = led_by_two();
    let moved = Some(Leadership { node: NodeId(3), term: 8 });
    assert_eq!(hear(&mut topology, 1, says(1, 8, Some(3), true)), [Change::LeaderMoved(moved)]);
    assert_eq!(topology.route()[0], NodeId(3));
}

#[test]
fn without_a_leader_ready_nodes_take_turns() {
    let mut topology = three();
    for node in 1..=3 {
        hear(&mut topology, node, says(node, 7, None, true));
    }
    let firsts: Vec<_> = (0..6).map(|_| topology.route()[0].0).collect();
    assert_eq!(firsts, [1, 2, 3, 1, 2, 3]);
}

#[test]
fn without_anyone_ready_somebody_still_answers() {
    let mut topology = three();
    hear(&mut topology, 3, says(3, 7, None, false));
    for node in [1, 2] {
        (0..3).for_each(|_| drop(hear(&mut topology, node, Observation::Failed)));
    }
    assert_eq!(topology.route(), [NodeId(3)]);
}

#[test]
fn a_leader_that_is_not_ready_is_not_first() {
    let mut topology = led_by_two();
    hear(&mut topology, 2, says(2, 7, Some(2), false));
    assert_eq!(topology.route()[2], NodeId(2));
}

#[test]
fn a_missed_probe_moves_new_connections_and_cuts_none() {
    let mut topology = led_by_two();
    assert_eq!(hear(&mut topology, 2, Observation::Failed), []);
    assert_eq!(topology.route()[2], NodeId(2));
    assert_eq!(hear(&mut topology, 2, says(2, 7, Some(2), true)), []);
    assert_eq!(topology.route()[0], NodeId(2));
}

#[test]
fn a_node_goes_down_once_and_comes_back_once() {
    let mut topology = led_by_two();
    assert_eq!(hear(&mut topology, 1, Observation::Failed), []);
    assert_eq!(hear(&mut topology, 1, Observation::Failed), []);
    assert_eq!(hear(&mut topology, 1, Observation::Failed), [Change::WentDown(NodeId(1))]);
    assert_eq!(hear(&mut topology, 1, Observation::Failed), []);
    assert!(!topology.route().contains(&NodeId(1)));
    assert_eq!(hear(&mut topology, 1, says(1, 7, Some(2), true)), [Change::CameUp(NodeId(1))]);
    assert_eq!(topology.route().len(), 3);
}

#[test]
fn an_answer_in_another_nodes_name_is_a_failure() {
    let mut topology = three();
    hear(&mut topology, 1, says(2, 9, Some(2), true));
    assert_eq!(topology.leader(), None);
    assert_eq!(topology.views()[0].failures, 1);
}

#[test]
fn a_leader_nobody_configured_is_no_leader() {
    let mut topology = led_by_two();
    hear(&mut topology, 1, says(1, 9, Some(4), true));
    assert_eq!(topology.leader(), Some(Leadership { node: NodeId(2), term: 7 }));
}

#[test]
fn before_the_first_probe_everyone_may_be_tried() {
    assert_eq!(three().route(), NODES);
}

#[test]
fn when_all_are_down_all_are_tried() {
    let mut topology = three();
    for node in 1..=3 {
        (0..3).for_each(|_| drop(hear(&mut topology, node, Observation::Failed)));
    }
    assert_eq!(topology.route().len(), 3);
}

fn observation() -> impl Strategy<Value = (u64, Observation)> {
    let answer = (1..=4u64, 0..5u64, prop::option::of(1..=4u64), any::<bool>())
        .prop_map(|(node, term, leader, ready)| says(node, term, leader, ready));
    (1..=4u64, prop_oneof![answer, Just(Observation::Failed)])
}

proptest! {
    /// Whatever the nodes say: somebody is tried, nobody twice, nobody who is
    /// down while another is not, and first a ready leader if one is known.
    #[test]
    fn a_route_is_always_sound(history in prop::collection::vec(observation(), 0..60)) {
        let mut topology = three();
        for (node, observation) in history {
            let was_down = |t: &Topology| t.views().iter().map(|v| v.health == Health::Down).collect::<Vec<_>>();
            let before = was_down(&topology);
            let changes = hear(&mut topology, node, observation);
            for ((view, before), node) in topology.views().iter().zip(before).zip(NODES) {
                let went = !before && view.health == Health::Down;
                prop_assert_eq!(went, changes.contains(&Change::WentDown(node)));
            }
            let leader = topology.leader();
            let route = topology.route();
            let view = |node: NodeId| topology.views().iter().find(|v| v.node == node).expect("known");
            prop_assert!(!route.is_empty());
            let mut once = route.clone();
            once.sort_unstable();
            once.dedup();
            prop_assert_eq!(once.len(), route.len());
            if topology.views().iter().any(|v| v.health != Health::Down) {
                prop_assert!(route.iter().all(|node| view(*node).health != Health::Down));
            }
            if let Some(leader) = leader {
                let reports = topology.views().iter().filter_map(|v| v.report.as_ref());
                let claims = reports.filter(|r| r.role == Role::Leader).map(|r| r.term);
                prop_assert!(claims.max().is_none_or(|term| term <= leader.term));
                let ready = view(leader.node).report.as_ref().is_some_and(|r| r.ready);
                if ready && view(leader.node).health == Health::Up {
                    prop_assert_eq!(route[0], leader.node);
                }
            }
        }
    }
}
