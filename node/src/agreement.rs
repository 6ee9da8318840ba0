//! Whether this node's ledger is what the others have (S18). Pure.
//!
//! Every heartbeat carries the state hash at a checkpoint. Equal log, equal
//! hash: a difference means that a ledger was damaged or that binaries apply
//! differently, and then nobody may grant on it.

use std::collections::BTreeMap;

use ledger::Ledger;
use ledger::view::Disagreement;
use license::product::NodeId;

/// What the others' checkpoints say of this ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Agreement {
    /// Nobody reports another hash.
    Whole,
    /// Two others agree on another hash: this ledger is the wrong one.
    Contradicted {
        /// The log index where they do.
        index: u64,
    },
    /// One other reports another hash and no third is heard to decide.
    Undecided {
        /// Who.
        with: NodeId,
        /// The log index where it does.
        index: u64,
    },
    /// One other is wrong, by the word of the third.
    Confirmed {
        /// Who is wrong.
        wrong: NodeId,
    },
}

/// How `node`'s ledger stands to the others'.
pub(crate) fn of(ledger: &Ledger, node: NodeId) -> Agreement {
    let live: Vec<NodeId> = ledger
        .members()
        .into_iter()
        .filter(|member| member.live && member.node != node)
        .map(|member| member.node)
        .collect();
    judge(&ledger.disagreements(), node, &live)
}

fn judge(disagreements: &[Disagreement], node: NodeId, live: &[NodeId]) -> Agreement {
    let mut claims: BTreeMap<(u64, [u8; 32]), Vec<NodeId>> = BTreeMap::new();
    for claim in disagreements.iter().filter(|claim| claim.node != node) {
        claims.entry((claim.index, claim.theirs)).or_default().push(claim.node);
    }
    if let Some(((index, _), _)) = claims.iter().find(|(_, nodes)| nodes.len() >= 2) {
        return Agreement::Contradicted { index: *index };
    }
    match claims.into_iter().next() {
        None => Agreement::Whole,
        Some(((index, _), nodes)) => {
            let wrong = nodes[0];
            if live.iter().any(|other| !nodes.contains(other)) {
                return Agreement::Confirmed { wrong };
            }
            Agreement::Undecided { with: wrong, index }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim(node: u64, theirs: u8) -> Disagreement {
        Disagreement { node: NodeId(node), index: 256, theirs: [theirs; 32], ours: [0; 32] }
    }

    #[test]
    fn a_ledger_that_two_others_contradict_is_wrong() {
        let live = [NodeId(2), NodeId(3)];
        let verdict = judge(&[claim(2, 7), claim(3, 7)], NodeId(1), &live);
        assert_eq!(verdict, Agreement::Contradicted { index: 256 });
    }

    #[test]
    fn one_that_a_third_confirms_goes_on() {
        let live = [NodeId(2), NodeId(3)];
        let verdict = judge(&[claim(2, 7)], NodeId(1), &live);
        assert_eq!(verdict, Agreement::Confirmed { wrong: NodeId(2) });
    }

    #[test]
    fn two_that_differ_without_a_third_cannot_tell_who_is_right() {
        let verdict = judge(&[claim(2, 7)], NodeId(1), &[NodeId(2)]);
        assert_eq!(verdict, Agreement::Undecided { with: NodeId(2), index: 256 });
    }

    #[test]
    fn a_node_that_sees_no_difference_grants() {
        assert_eq!(judge(&[], NodeId(1), &[NodeId(2)]), Agreement::Whole);
    }
}
