//! Nodes of one cluster that were started with data of different restore epochs.
//!
//! Those of an earlier one have been put aside, and came back. They are not heard
//! by the others, and two of them are a majority of their own: it grants nothing
//! while a restored node is up, and everything when none is.

use std::collections::BTreeMap;

use wire::v1;

/// The nodes from before a restore, beside one that is of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct FromBefore {
    /// Who, and the epoch of what they have.
    pub(super) nodes: BTreeMap<u64, u64>,
    /// The latest epoch, and who is of it.
    restored: (u64, Vec<u64>),
    /// All that is known of anybody.
    epochs: BTreeMap<u64, u64>,
}

impl FromBefore {
    /// Those that the nodes which answer are, or know of. A node is believed of
    /// itself first.
    pub(super) fn among<'a>(
        answers: impl Iterator<Item = &'a v1::NodeStatusReply>,
    ) -> Option<Self> {
        let answers: Vec<_> = answers.filter(|node| node.formed).collect();
        let cluster = &answers.first()?.cluster_id;
        let of_one = || answers.iter().filter(|node| node.cluster_id == *cluster);
        let heard = of_one()
            .flat_map(|node| &node.other_origins)
            .filter(|other| other.cluster_id == *cluster);
        let mut epochs: BTreeMap<u64, u64> = heard.map(|other| (other.node, other.epoch)).collect();
        epochs.extend(of_one().filter_map(|node| Some((node.id, node.epoch?))));
        let latest = *epochs.values().max()?;
        let (of_it, nodes): (BTreeMap<_, _>, BTreeMap<_, _>) =
            epochs.clone().into_iter().partition(|(_, epoch)| *epoch == latest);
        let restored = (latest, of_it.into_keys().collect());
        (!nodes.is_empty()).then_some(Self { nodes, restored, epochs })
    }

    /// Whether these two are of different epochs.
    pub(super) fn part(&self, one: u64, other: u64) -> bool {
        let of = |node| self.epochs.get(node);
        of(&one).zip(of(&other)).is_some_and(|(one, other)| one != other)
    }

    /// What is wrong with a node of this epoch.
    pub(super) fn of(&self, epoch: u64) -> String {
        let (latest, restored) = &self.restored;
        format!(
            "its data is from before the cluster was restored: it is of epoch {epoch}, and {} of epoch {latest}. \
             It is not heard by them; where it or another from before leads, nothing is granted or renewed",
            are(restored)
        )
    }

    /// What to do about them.
    pub(super) fn advice(&self) -> String {
        let (_, restored) = &self.restored;
        let afresh = "put its data directory aside and start the one that it was restored with; if there is none, \
             an empty one with its container and the container's certificate (see \"A node says its data is from before the restore\" in the runbook)";
        if !self.may_live() {
            return format!(
                "stop it, {afresh}. If it is {} who strayed in, from a restore that was tried out, stop that instead",
                names(restored)
            );
        }
        let before: Vec<u64> = self.nodes.keys().copied().collect();
        format!(
            "first find out whether this cluster was restored on purpose, because the wrong way destroys it. \
             If nobody restored it, and {} of a restore that was tried out: stop {}, and leave {} alone; they grant again ten seconds later. \
             If it was restored: stop {}, and of each {afresh}",
            are(restored),
            names(restored),
            names(&before),
            names(&before)
        )
    }

    /// Whether those from before have a majority: they are the cluster then, unless
    /// it was restored.
    fn may_live(&self) -> bool {
        self.nodes.len() > self.restored.1.len()
    }

    /// The same of all of them, in short.
    pub(super) fn told(&self) -> String {
        let (latest, restored) = &self.restored;
        let before: Vec<u64> = self.nodes.keys().copied().collect();
        let next = if self.may_live() {
            "Was this cluster restored on purpose? Stop nothing before you know; `trine cluster doctor` says what to do if it was, and if not"
        } else {
            "Stop what is from before and put its data directory aside; `trine cluster doctor` says how it goes on"
        };
        format!(
            "{} from before the restore of epoch {latest}, which {} of: where a node from before leads, nothing is granted or renewed. {next}",
            are(&before),
            are(restored)
        )
    }
}

fn names(nodes: &[u64]) -> String {
    let names: Vec<String> = nodes.iter().map(|node| format!("node-{node}")).collect();
    names.join(" and ")
}

/// `node-1 is`, `node-1 and node-2 are`.
fn are(nodes: &[u64]) -> String {
    format!("{} {}", names(nodes), if nodes.len() == 1 { "is" } else { "are" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, epoch: u64) -> v1::NodeStatusReply {
        let cluster_id = "c1".to_owned();
        v1::NodeStatusReply {
            id,
            epoch: Some(epoch),
            formed: true,
            cluster_id,
            ..Default::default()
        }
    }

    #[test]
    fn nodes_of_one_epoch_are_not_from_before_and_one_of_another_cluster_is_not_either() {
        let of = |nodes: &[v1::NodeStatusReply]| FromBefore::among(nodes.iter());
        assert_eq!(of(&[]), None);
        assert_eq!(of(&[node(1, 9), node(2, 9), node(3, 9)]), None);
        let other = v1::NodeStatusReply { cluster_id: "c2".to_owned(), ..node(3, 0) };
        assert_eq!(of(&[node(1, 9), node(2, 9), other]), None);
        let new = v1::NodeStatusReply { formed: false, epoch: None, ..node(3, 0) };
        assert_eq!(of(&[node(1, 9), node(2, 9), new]), None);
    }

    /// The majority of an earlier epoch is the cluster itself, if nobody restored it.
    #[test]
    fn where_the_earlier_epoch_has_a_majority_both_ways_are_given_after_the_question() {
        let from_before =
            FromBefore::among([node(1, 0), node(2, 0), node(3, 9)].iter()).expect("two epochs");
        let (advice, told) = (from_before.advice(), from_before.told());
        assert!(advice.starts_with("first find out whether this cluster was restored"), "{advice}");
        assert!(told.contains("Was this cluster restored on purpose?"), "{told}");
        assert!(!told.contains("put its data directory aside"), "{told}");
        for way in ["stop node-3, and leave node-1 and node-2 alone", "stop node-1 and node-2, and"]
        {
            assert!(advice.contains(way), "{way:?} is not in {advice:?}");
        }
        let from_before =
            FromBefore::among([node(1, 0), node(2, 9), node(3, 9)].iter()).expect("two epochs");
        assert!(from_before.advice().starts_with("stop it, put its data directory aside"));
        assert!(from_before.told().contains("Stop what is from before"), "{}", from_before.told());
    }

    #[test]
    fn two_nodes_from_before_are_named_also_by_who_heard_them() {
        let from_before =
            FromBefore::among([node(1, 0), node(2, 0), node(3, 9)].iter()).expect("two epochs");
        assert_eq!(from_before.nodes, [(1, 0), (2, 0)].into());
        assert!(from_before.told().contains(
            "node-1 and node-2 are from before the restore of epoch 9, which node-3 is of"
        ));
        assert!(from_before.part(1, 3) && !from_before.part(1, 2));

        let heard = |node, cluster: &str| {
            let cluster_id = cluster.to_owned();
            v1::OtherOrigin { node, epoch: 0, cluster_id }
        };
        let restored = v1::NodeStatusReply {
            other_origins: vec![heard(1, "c1"), heard(2, "c1")],
            ..node(3, 9)
        };
        assert_eq!(
            FromBefore::among([restored].iter()).map(|from_before| from_before.nodes),
            Some([(1, 0), (2, 0)].into())
        );
        let beside = v1::NodeStatusReply { other_origins: vec![heard(1, "c2")], ..node(3, 9) };
        assert_eq!(FromBefore::among([beside].iter()), None, "that one is of another cluster");
    }
}
