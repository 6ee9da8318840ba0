//! Whether this node's ledger is what the others have (S18). Pure.
//!
//! Every heartbeat carries the state hash at a checkpoint. Equal log, equal
//! hash: a difference means that a ledger was damaged or that binaries apply
//! differently, and then nobody may grant on it.

use ledger::Ledger;
use ledger::view::Comparison;
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
    /// One other reports another hash, and no third is heard that has reached
    /// that checkpoint and can decide.
    Undecided {
        /// Who.
        with: NodeId,
        /// The log index where it does.
        index: u64,
    },
    /// One other is wrong: a live third reports this ledger's hash there or later.
    Confirmed {
        /// Who is wrong.
        wrong: NodeId,
    },
}

/// How `node`'s ledger stands to the others'.
pub(crate) fn of(ledger: &Ledger, node: NodeId) -> Agreement {
    let members = ledger.members();
    let is_live = |asked| members.iter().any(|member| member.node == asked && member.live);
    let others = ledger.comparisons(node).into_iter();
    let heard = |(node, comparison)| Heard { node, is_live: is_live(node), comparison };
    judge(&others.map(heard).collect::<Vec<_>>())
}

/// What is known of one other node.
#[derive(Debug, Clone, Copy)]
struct Heard {
    node: NodeId,
    /// Whether it was heard within three seconds.
    is_live: bool,
    /// How its last checkpoint compares with this ledger's.
    comparison: Comparison,
}

impl Heard {
    /// Where it differs, and the hash it has there.
    fn claim(&self) -> Option<(u64, [u8; 32])> {
        match self.comparison {
            Comparison::Differs { index, theirs, .. } => Some((index, theirs)),
            Comparison::Equal { .. } | Comparison::NotComparable => None,
        }
    }

    /// Whether it is there and stands for this ledger's history up to `index`.
    fn vouches_for(&self, index: u64) -> bool {
        // Equal at an earlier checkpoint, it may have gone the other way since.
        let agrees = matches!(self.comparison, Comparison::Equal { index: at } if at >= index);
        self.is_live && agrees
    }
}

fn judge(others: &[Heard]) -> Agreement {
    let mut claims = others.iter().filter_map(|other| Some((other.node, other.claim()?)));
    let Some((with, claim)) = claims.next() else { return Agreement::Whole };
    let index = claim.0;
    if claims.any(|(_, second)| second == claim) {
        return Agreement::Contradicted { index };
    }
    if others.iter().any(|other| other.vouches_for(index)) {
        return Agreement::Confirmed { wrong: with };
    }
    Agreement::Undecided { with, index }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EQUAL: Comparison = Comparison::Equal { index: 256 };

    fn differs(index: u64, theirs: u8) -> Comparison {
        Comparison::Differs { index, theirs: [theirs; 32], ours: [0; 32] }
    }

    /// Nodes 2 and 3, both live, as node 1 hears them.
    fn heard(second: Comparison, third: Comparison) -> [Heard; 2] {
        let live = |node, comparison| Heard { node: NodeId(node), is_live: true, comparison };
        [live(2, second), live(3, third)]
    }

    const UNDECIDED: Agreement = Agreement::Undecided { with: NodeId(2), index: 256 };

    #[test]
    fn a_ledger_that_two_others_contradict_is_wrong() {
        let verdict = judge(&heard(differs(256, 7), differs(256, 7)));
        assert_eq!(verdict, Agreement::Contradicted { index: 256 });
    }

    #[test]
    fn one_that_a_third_confirms_goes_on() {
        let confirmed = Agreement::Confirmed { wrong: NodeId(2) };
        assert_eq!(judge(&heard(differs(256, 7), EQUAL)), confirmed);
        let later = Comparison::Equal { index: 512 };
        assert_eq!(judge(&heard(differs(256, 7), later)), confirmed);
    }

    #[test]
    fn who_has_not_reached_the_checkpoint_confirms_nothing() {
        assert_eq!(judge(&heard(differs(256, 7), Comparison::NotComparable)), UNDECIDED);
        let behind = Comparison::Equal { index: 0 };
        assert_eq!(judge(&heard(differs(256, 7), behind)), UNDECIDED);
    }

    #[test]
    fn who_has_gone_silent_confirms_nothing() {
        let mut others = heard(differs(256, 7), EQUAL);
        others[1].is_live = false;
        assert_eq!(judge(&others), UNDECIDED);
    }

    #[test]
    fn three_that_all_differ_cannot_tell_who_is_right() {
        assert_eq!(judge(&heard(differs(256, 7), differs(256, 8))), UNDECIDED);
        assert_eq!(judge(&heard(differs(256, 7), differs(512, 7))), UNDECIDED);
    }

    #[test]
    fn a_node_that_sees_no_difference_grants() {
        assert_eq!(judge(&heard(EQUAL, Comparison::NotComparable)), Agreement::Whole);
    }
}
