//! The feature level: which commands may be written, whatever the binaries
//! that write and apply them know (S22).
//!
//! A cluster is at one level, which stands in its ledger; a build knows all
//! levels up to its own highest. What a build adds stays switched off until
//! every node can and an operator raises the level, so that two builds in one
//! cluster write and apply the same.
//!
//! To add or change a rule: append a [`Command`] variant, give it the next
//! level in [`Command::level`], raise [`HIGHEST`], say in [`CHANGES`] what it
//! brings. Below its level nothing of it may show: no new command, refusal,
//! event or behavior, and not one byte of state, snapshot or hash.

use std::cmp::Ordering;

pub use license::build::Level;
use license::product::NodeId;

use crate::command::{Batch, Command, RaiseLevel, Refusal};
use crate::ledger::Ledger;

/// The highest level this build knows.
pub const HIGHEST: Level = Level::LOWEST;

/// What each level brings, in the words an operator reads before raising it.
pub const CHANGES: &[(Level, &str)] = &[(Level::LOWEST, "all that Trine 0.1 does")];

/// What the levels above `from`, up to `to`, bring, as far as this build knows.
pub fn changes(from: Level, to: Level) -> impl Iterator<Item = (Level, &'static str)> {
    CHANGES.iter().copied().filter(move |(level, _)| from < *level && *level <= to)
}

impl Command {
    /// The level from which it may be written.
    pub fn level(&self) -> Level {
        // No wildcard: a new command must find its level.
        match self {
            Self::Genesis(_)
            | Self::Acquire(_)
            | Self::Renew(_)
            | Self::Release(_)
            | Self::Cancel(_)
            | Self::Revoke(_)
            | Self::Install(_)
            | Self::Attest(_)
            | Self::SignTerm(_)
            | Self::WithdrawShare(_)
            | Self::Heartbeat(_)
            | Self::IssueToken(_)
            | Self::RevokeToken(_)
            | Self::Restore(_)
            | Self::BeginReplacement(_)
            | Self::FinishReplacement(_)
            | Self::AbandonReplacement(_)
            | Self::OrderRepair(_)
            | Self::RepairShare(_)
            | Self::ResetClock(_)
            | Self::RevokeCertificate(_)
            | Self::SetRetention(_)
            | Self::Trust(_)
            | Self::Distrust(_)
            | Self::RaiseLevel(_) => Level::LOWEST,
        }
    }
}

impl Batch {
    /// The lowest level at which all of it may be written: who knows that
    /// level can read it.
    pub fn level(&self) -> Level {
        self.commands.iter().map(Command::level).max().unwrap_or_default()
    }
}

impl Ledger {
    /// The cluster's feature level.
    pub fn level(&self) -> Level {
        self.state.scalars.level
    }

    /// Whether this build may apply what comes after: above its highest level
    /// it would not know what it does not know, and must stop.
    pub fn is_within_reach(&self) -> bool {
        self.level() <= HIGHEST
    }

    /// A command above the cluster's level is refused by every build alike.
    pub fn permits(&self, command: &Command) -> Result<(), Refusal> {
        let (needs, level) = (command.level(), self.level());
        if needs <= level {
            return Ok(());
        }
        Err(Refusal::LevelTooLow { needs, level })
    }

    /// Raises the level once the last sign of life of every member says that
    /// its build can. Judged by the log alone: a build that cannot follow
    /// applies this too, and stops then.
    pub(crate) fn raise_level(&mut self, raise: &RaiseLevel) -> Result<(), Refusal> {
        let (level, asked) = (self.level(), raise.level);
        match asked.cmp(&level) {
            Ordering::Less => return Err(Refusal::LevelNeverFalls { level, asked }),
            // Raising twice is a retry, not a mistake.
            Ordering::Equal => return Ok(()),
            Ordering::Greater => {}
        }
        // Nobody heard yet what a node on its way in runs.
        self.require_no_replacement()?;
        let members = self.chartered()?.members.iter();
        if let Some(refusal) = members.map(|m| m.node).find_map(|n| self.cannot_follow(n, asked)) {
            return Err(refusal);
        }
        self.state.scalars.level = asked;
        Ok(())
    }

    /// Why the cluster may not go to that level with this node in it.
    pub fn cannot_follow(&self, node: NodeId, asked: Level) -> Option<Refusal> {
        let heard = self.state.vitals.get(&node).filter(|_| self.state.is_heard(node));
        let Some(build) = heard.map(|vitals| vitals.build) else {
            return Some(Refusal::BuildUnknown { node });
        };
        (build.highest < asked).then_some(Refusal::BuildTooOld { node, build, asked })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_level_of_this_build_says_what_it_brings() {
        let told: Vec<u16> = CHANGES.iter().map(|(level, _)| level.number()).collect();
        assert_eq!(told, (1..=HIGHEST.number()).collect::<Vec<_>>());
        assert!(CHANGES.iter().all(|(_, what)| !what.is_empty()));
    }

    #[test]
    fn only_what_is_new_is_told() {
        assert_eq!(changes(HIGHEST, HIGHEST).count(), 0);
    }
}
