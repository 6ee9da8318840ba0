//! S26, bounds.

use super::{Held, Law, Sight};

/// More than any world's bounds of the log allow, twice over.
const LOG_MAX: u64 = 50_000;

pub(super) struct Bounds;

impl Law for Bounds {
    fn name(&self) -> &'static str {
        "S26"
    }

    fn sentence(&self) -> &'static str {
        "Log, queue and what is remembered stay under their limits."
    }

    fn step(&mut self, sight: &Sight<'_>) -> Held {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            let first = node.standing.purged.map_or(0, |id| id.index);
            let length = node.standing.last_log.unwrap_or(0).saturating_sub(first);
            if length > LOG_MAX {
                return Err(format!("node-{} keeps {length} entries in its log", node.node));
            }
        }
        Ok(())
    }
}
