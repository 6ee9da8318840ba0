//! Members' addresses where a node of another cluster answers, or nodes that were
//! started with its data directory.

use std::collections::BTreeMap;

use wire::v1;

/// Who is of another cluster than `ours`, and of which: a node is believed of
/// itself first, and what the nodes of this cluster found at the members' addresses
/// next.
pub(super) fn among<'a>(
    answers: impl Iterator<Item = &'a v1::NodeStatusReply>,
    ours: &str,
) -> BTreeMap<u64, String> {
    let formed: Vec<_> = answers.filter(|node| node.formed).collect();
    let own = formed.iter().filter(|node| node.cluster_id == *ours);
    let heard = own.flat_map(|node| &node.other_origins);
    let mut clusters: BTreeMap<u64, String> =
        heard.map(|other| (other.node, other.cluster_id.clone())).collect();
    clusters.extend(formed.iter().map(|node| (node.id, node.cluster_id.clone())));
    clusters.retain(|_, cluster| *cluster != *ours);
    clusters
}

/// What to do about one.
pub(super) const ADVICE: &str = "correct the address in [[members]] and in TRINE_HOST or the context, or give the node back the data directory of this cluster; neither hears the other meanwhile, and nothing is lost by it";

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64, cluster: &str) -> v1::NodeStatusReply {
        let cluster_id = cluster.to_owned();
        v1::NodeStatusReply { id, cluster_id, formed: true, ..Default::default() }
    }

    #[test]
    fn a_node_of_another_cluster_is_known_by_itself_or_by_who_found_it() {
        let of = |nodes: &[v1::NodeStatusReply]| among(nodes.iter(), "c1");
        let other: BTreeMap<u64, String> = [(3, "c2".to_owned())].into();
        assert_eq!(of(&[node(1, "c1"), node(2, "c1"), node(3, "c1")]), BTreeMap::new());
        assert_eq!(of(&[node(1, "c1"), node(3, "c2")]), other);

        let found = |cluster: &str| {
            let cluster_id = cluster.to_owned();
            vec![v1::OtherOrigin { node: 3, epoch: 9, cluster_id }]
        };
        let told = |cluster| v1::NodeStatusReply { other_origins: found(cluster), ..node(1, "c1") };
        assert_eq!(of(&[told("c2")]), other);
        assert_eq!(of(&[told("c1")]), BTreeMap::new(), "that is another epoch of this one");
        assert_eq!(of(&[told("c2"), node(3, "c1")]), BTreeMap::new(), "it knows better");
        let stranger = v1::NodeStatusReply { other_origins: found("c3"), ..node(2, "c2") };
        assert_eq!(of(&[stranger]), [(2, "c2".to_owned())].into(), "whose neighbors are its own");
    }
}
