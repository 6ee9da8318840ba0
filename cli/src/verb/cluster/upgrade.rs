//! `trine cluster upgrade`: switching on what the nodes' newer build brings.

use clap::Args;
use serde::Serialize;
use wire::v1::{UpgradeReply, upgrade_reply};

use super::Call;
use crate::console::{Cell, Page, Tone};
use crate::context::Target;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;

/// Raise the feature level, once every node runs a build that knows it
///
/// Two builds in one cluster do the same: what the newer one brings stays
/// switched off until the level is raised. Before that every node may go back to
/// the older build; after it none may, so look at the newer build first. Refused
/// while a node is silent or runs a build that could not follow.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster upgrade --check     what runs where, and what raising would bring
  trine cluster upgrade
  trine --json cluster upgrade --check | jq '.nodes[] | select(.obstacle != null)'

--check ends with exit code 3 when a node's build stands in the way, and with 4 when a
node is silent, so that nobody knows what it runs. How to replace the
builds themselves, one node after the other, is in deploy/RUNBOOK.md, Upgrades.")]
pub(super) struct Upgrade {
    /// Raise nothing; say what raising would mean, and who could not follow
    #[arg(long)]
    check: bool,
    /// The level to raise to [default: the highest that any node's build knows]
    #[arg(long, value_name = "LEVEL", value_parser = clap::value_parser!(u16).range(1..))]
    to: Option<u16>,
}

/// `trine cluster upgrade --json`
#[derive(Debug, Serialize)]
struct Report {
    /// The cluster's feature level now.
    level: u32,
    /// What it was before, or is to become, the same when there is nothing to raise.
    from: u32,
    /// See `from`.
    to: u32,
    /// Whether this command raised it.
    raised: bool,
    /// What the levels on the way bring, as far as the leader's build knows.
    changes: Vec<Change>,
    /// The nodes and their builds.
    nodes: Vec<Node>,
}

#[derive(Debug, Serialize)]
struct Change {
    /// From this level on.
    level: u32,
    /// In words.
    what: String,
}

#[derive(Debug, Serialize)]
struct Node {
    /// The node.
    id: u64,
    /// Heard by the leader within three seconds.
    alive: bool,
    /// Its build, when it was last heard.
    version: Option<String>,
    /// The highest feature level that build knows.
    highest_level: Option<u32>,
    /// Why the level may not be raised with this node as it is.
    obstacle: Option<String>,
}

impl Upgrade {
    pub(super) async fn run(self, call: &Call, target: Target) -> Result<Exit, Failure> {
        let connection = Connection::to(target).await?;
        let reply = connection.operator().upgrade(self.to, self.check).await;
        let report = Report::from(reply.map_err(|error| connection.failed(&error))?);
        call.console.result(&report, |page| report.show(page))?;
        Ok(report.exit(self.check))
    }
}

impl From<UpgradeReply> for Report {
    fn from(reply: UpgradeReply) -> Self {
        let given = |text: String| Some(text).filter(|text| !text.is_empty());
        let change = |change: upgrade_reply::Change| {
            let upgrade_reply::Change { level, what } = change;
            Change { level, what }
        };
        let node = |node: upgrade_reply::Node| Node {
            id: node.id,
            alive: node.alive,
            version: given(node.version),
            highest_level: Some(node.highest_level).filter(|level| *level > 0),
            obstacle: given(node.obstacle),
        };
        Self {
            level: if reply.raised { reply.target } else { reply.level },
            from: reply.level,
            to: reply.target,
            raised: reply.raised,
            changes: reply.changes.into_iter().map(change).collect(),
            nodes: reply.nodes.into_iter().map(node).collect(),
        }
    }
}

impl Report {
    /// A node that was not heard is no node that said no; where nothing is to be
    /// raised, only a check wants to know of it.
    fn exit(&self, is_check: bool) -> Exit {
        let says_no = |node: &Node| node.obstacle.is_some() && (node.alive || !is_check);
        let is_silent = self.nodes.iter().any(|node| !node.alive);
        match () {
            () if self.raised => Exit::Done,
            () if self.is_blocked() && self.nodes.iter().any(says_no) => Exit::Refused,
            () if is_check && is_silent => Exit::Unreachable,
            () => Exit::Done,
        }
    }

    /// Whether there is something to raise and a node that could not follow.
    fn is_blocked(&self) -> bool {
        self.level < self.to && self.nodes.iter().any(|node| node.obstacle.is_some())
    }

    fn show(&self, page: &mut Page) {
        let (from, to) = (self.from, self.to);
        let title = match () {
            () if self.raised => {
                page.tone(Tone::Good, &format!("The feature level is {to}, raised from {from}"))
            }
            () if from == to => {
                format!("The feature level is {from}, the highest that these builds know")
            }
            () if self.is_blocked() => {
                page.tone(Tone::Bad, &format!("The feature level is {from} and cannot be {to} yet"))
            }
            () => format!("The feature level is {from} and can be raised to {to}"),
        };
        page.line(title);
        page.table(
            &["node", "build", "knows levels to", "alive"],
            self.nodes.iter().map(Node::row),
        );
        for obstacle in self.nodes.iter().filter(|_| from < to && !self.raised) {
            if let Some(obstacle) = &obstacle.obstacle {
                page.line(obstacle);
            }
        }
        for silent in self.nodes.iter().filter(|node| !node.alive && node.obstacle.is_none()) {
            let line = format!("node-{} is silent: nobody knows what it runs now", silent.id);
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
        for Change { level, what } in &self.changes {
            page.line(format_args!("Level {level} brings: {what}"));
        }
        if from < to && !self.raised && !self.is_blocked() {
            page.line("Raise it with `trine cluster upgrade`; it never falls again.");
        }
    }
}

impl Node {
    fn row(&self) -> Vec<Cell> {
        let unknown = || "?".to_owned();
        vec![
            format!("node-{}", self.id).into(),
            self.version.clone().unwrap_or_else(unknown).into(),
            self.highest_level.map_or_else(unknown, |level| level.to_string()).into(),
            if self.alive { Cell::toned(Tone::Good, "yes") } else { Cell::toned(Tone::Bad, "no") },
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(to: u32, nodes: [(bool, bool); 3]) -> Exit {
        let node = |(alive, stands): (bool, bool)| Node {
            id: 1,
            alive,
            version: None,
            highest_level: None,
            obstacle: stands.then(|| "why".to_owned()),
        };
        let nodes = nodes.map(node).into();
        Report { level: 2, from: 2, to, raised: false, changes: Vec::new(), nodes }.exit(true)
    }

    #[test]
    fn a_silent_node_is_not_taken_for_one_that_can_follow() {
        const WELL: (bool, bool) = (true, false);
        for to in [2, 3] {
            assert_eq!(checked(to, [WELL, WELL, WELL]), Exit::Done);
            assert_eq!(checked(to, [WELL, WELL, (false, false)]), Exit::Unreachable);
        }
        assert_eq!(checked(3, [WELL, WELL, (false, true)]), Exit::Unreachable);
        assert_eq!(checked(3, [WELL, (true, true), WELL]), Exit::Refused);
        assert_eq!(checked(3, [WELL, (true, true), (false, true)]), Exit::Refused);
    }
}
