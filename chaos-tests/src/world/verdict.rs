//! What a run is held to, and what it came to.

use super::World;
use super::sometimes::Sometimes;
use crate::laws::s15_time_is_not_ahead::JUMP;
use crate::model::Counts;
use crate::oracle::{self, Figures};

impl World {
    pub(super) fn judge(&self, seats: u32) -> Figures {
        let verdict = self.verdict(seats);
        let broken: Vec<_> = verdict.violations.iter().map(ToString::to_string).collect();
        assert!(broken.is_empty(), "laws were broken:\n{}", broken.join("\n"));
        verdict.figures
    }

    /// Counts what must happen now and then.
    pub(super) fn saw(&self, what: impl IntoIterator<Item = Sometimes>) {
        if let Some(inspector) = &mut *self.inner.inspector.borrow_mut() {
            what.into_iter().for_each(|what| inspector.watcher.count(what));
        }
    }

    pub(super) fn verdict(&self, seats: u32) -> oracle::Verdict {
        let jumped = JUMP * u32::try_from(self.jumps()).unwrap_or(u32::MAX);
        let jumped_ms = u64::try_from(jumped.as_millis()).unwrap_or(u64::MAX);
        oracle::check_after_jumps(&self.inner.history.events(), self.counts(seats), jumped_ms)
    }

    /// The seats sold, along the log.
    pub(super) fn counts(&self, seats: u32) -> Counts {
        let mut counts = Counts::fixed(seats as usize);
        if let Some(inspector) = &*self.inner.inspector.borrow() {
            for (from, by, seats) in &inspector.watcher.counts {
                counts.change(*from, *by, *seats as usize);
            }
        }
        counts
    }

    /// How often a node's boot clock jumped.
    pub(super) fn jumps(&self) -> u64 {
        self.machines().iter().map(|machine| machine.clock().jumps()).sum()
    }
}
