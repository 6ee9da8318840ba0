//! S17: what Raft itself promises, as far as it shows.

use std::collections::BTreeMap;

use node::raft::LogId;

use super::{End, Held, Law, NodeSight, Sight};

/// Term, committed and applied.
type Shown = (u64, Option<LogId>, Option<LogId>);

#[derive(Default)]
pub(super) struct RaftsOwn {
    /// Who was seen to lead each term.
    leaders: BTreeMap<u64, u64>,
    /// What each start of each node showed last.
    last: BTreeMap<(u64, u64), Shown>,
    /// The term of each committed entry.
    committed: BTreeMap<u64, u64>,
}

impl Law for RaftsOwn {
    fn name(&self) -> &'static str {
        "S17"
    }

    fn sentence(&self) -> &'static str {
        "One leader per term; purged <= snapshot <= applied <= committed <= last log; term, committed and applied only rise; what is committed stays."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes {
            self.look(node).map_err(|how| format!("node-{}: {how}", node.node))?;
        }
        Ok(())
    }

    fn end(&mut self, end: &End<'_>) -> Held {
        end.told("S17")
    }
}

impl RaftsOwn {
    fn look(&mut self, node: &NodeSight<'_>) -> Held {
        let standing = &node.standing;
        if standing.leads {
            let leader = *self.leaders.entry(standing.term).or_insert(node.node);
            if leader != node.node {
                return Err(format!("it leads term {}, which node-{leader} leads", standing.term));
            }
        }
        let chain = [standing.purged, standing.snapshot, standing.applied, standing.committed];
        // A snapshot that was just installed is told before the rest of it.
        let ordered = chain.windows(2).all(|pair| pair[0] <= pair[1]);
        let in_log = standing.committed.map(|id| id.index) <= standing.last_log;
        if !ordered || !in_log {
            return Err(format!("out of order: {standing:?}"));
        }
        let now = (standing.term, standing.committed, node.applied);
        let before = self.last.insert((node.node, node.start), now);
        if let Some((term, committed, applied)) = before
            && (term > now.0 || committed > now.1 || applied > now.2)
        {
            return Err(format!("went back from {before:?} to {now:?}"));
        }
        if let Some(applied) = node.applied.filter(|_| node.moved) {
            let term = applied.leader_id.term;
            let known = *self.committed.entry(applied.index).or_insert(term);
            if known != term {
                return Err(format!(
                    "entry {} was committed in term {known} and is of term {term}",
                    applied.index
                ));
            }
        }
        Ok(())
    }
}
