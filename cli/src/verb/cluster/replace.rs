//! `trine cluster replace`: a new node in the place of a member.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use trine_client::{CallError, Reason};
use wire::v1;

use super::Call;
use crate::console::{Page, Tone};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;
use crate::verb::license::repair;

/// Between two steps that wait for something.
const PAUSE: Duration = Duration::from_millis(200);

/// How long a step that finds nobody to take it is tried again: an election.
const LEADERLESS_MAX: Duration = Duration::from_secs(15);

/// Put a new node in the place of a member, dead or alive
///
/// The new node has an id that the cluster never had, a certificate of its own,
/// and a configuration that names itself and the two nodes that stay. Start it,
/// then run this. Seats are held and granted all the while. Interrupted, run it
/// again: it goes on where it was. The old node is never let in again.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster replace 3 4 --at node4.acme.example:22451
  trine cluster replace 3 4 --at node4.acme.example:22451 --repair-shares
  trine cluster replace 3 4              # go on after an interruption
  trine cluster replace 3 4 --status     # how far it is
  trine cluster replace 3 4 --undo       # give it up, while node 4 has no vote

Licenses serve with the two shares that are left. The third comes with the vendor's
next issue (`trine license request`), or from the other two nodes without the vendor
(--repair-shares, or `trine license repair` later). If the old node's disk may be in
others' hands, have the vendor issue anew: a repaired share is the same share.")]
pub(super) struct Replace {
    /// The member that goes
    #[arg(value_name = "OLD", value_parser = node)]
    old: u64,
    /// The node that comes
    #[arg(value_name = "NEW", value_parser = node)]
    new: u64,
    /// Where the other nodes reach the new one: the peer address of its configuration
    #[arg(long, value_name = "HOST:PORT")]
    at: Option<String>,
    /// Have the lost shares made again by the other two nodes, without the vendor
    #[arg(long, conflicts_with_all = ["undo", "status"])]
    repair_shares: bool,
    /// Give it up
    #[arg(long, conflicts_with_all = ["at", "status"])]
    undo: bool,
    /// Show how far it is, and do nothing
    #[arg(long, conflicts_with = "at")]
    status: bool,
}

/// `3` or `node-3`.
fn node(text: &str) -> Result<u64, String> {
    let number = text.strip_prefix("node-").unwrap_or(text).parse().ok();
    number.filter(|number| *number > 0).ok_or_else(|| "write a node as 3 or node-3".to_owned())
}

/// `trine cluster replace --json`
#[derive(Debug, Serialize)]
struct Replaced {
    /// The member that went, or stays.
    old: u64,
    /// The node that came, or left.
    new: u64,
    /// begun, handing-over, joining, catching-up, switching, done; leaving,
    /// undone; with --status what is next, or none, or waiting where another node
    /// must come back first.
    stage: String,
    /// The same for people, while it is under way.
    #[serde(skip_serializing_if = "String::is_empty")]
    detail: String,
    /// Licenses of which the new node has no share.
    without_share: Vec<String>,
}

impl Replace {
    pub(super) async fn run(self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        if self.status {
            return self.show(call, connection).await;
        }
        let stage = self.drive(call, connection).await?;
        let mut lost = self.lost_shares(connection).await?;
        if self.repair_shares {
            for share in &lost {
                repair::repair(call, connection, &share.license).await?;
            }
            lost = self.lost_shares(connection).await?;
        }
        let (old, new) = (self.old, self.new);
        let without_share = lost.iter().map(|share| share.license.clone()).collect();
        let replaced = Replaced { old, new, stage, detail: String::new(), without_share };
        call.console.result(&replaced, |page| {
            let title = if self.undo {
                format!("node-{old} stays; node-{new} was sent away, and its id is spent")
            } else {
                format!("node-{new} has the place of node-{old}")
            };
            let title = page.tone(Tone::Good, &title);
            page.line(title);
            if self.undo {
                page.line(format_args!(
                    "Next: stop the process of node-{new} and wipe its data directory"
                ));
            } else {
                next_steps(page, &replaced, &lost);
            }
        })?;
        Ok(Exit::Done)
    }

    /// Asks for one step after another until nothing is left.
    async fn drive(&self, call: &Call, connection: &Connection) -> Result<String, Failure> {
        let request = v1::ReplaceNodeRequest {
            old_node: self.old,
            new_node: self.new,
            new_address: self.at.clone().unwrap_or_default(),
            undo: self.undo,
        };
        let mut said = Said::default();
        let mut last_answer = Instant::now();
        loop {
            match connection.operator().replace_node(request.clone()).await {
                Ok(step) => {
                    last_answer = Instant::now();
                    if !step.ended && said.is_news(&step.stage, &step.detail) {
                        call.console.progress(format_args!("{}: {}", step.stage, step.detail));
                    }
                    if step.ended {
                        return Ok(step.stage);
                    }
                }
                Err(error) if passes(&error) && last_answer.elapsed() < LEADERLESS_MAX => {}
                Err(error) => return Err(self.failed(connection, &error, said.is_anything())),
            }
            sleep(PAUSE).await;
        }
    }

    fn failed(&self, connection: &Connection, error: &CallError, began: bool) -> Failure {
        let failure = connection.failed(error);
        match self.way_on(passes(error), began) {
            Some(next) => failure.next(next),
            None => failure,
        }
    }

    /// What to do about an end that passes by itself, once a step was taken.
    /// Before that nothing was done that could be gone on with.
    fn way_on(&self, passes: bool, began: bool) -> Option<String> {
        let (old, new) = (self.old, self.new);
        let undo = if self.undo { " --undo" } else { "" };
        (passes && began).then(|| {
            format!("what was done stays: go on with `trine cluster replace {old} {new}{undo}`")
        })
    }

    async fn lost_shares(&self, connection: &Connection) -> Result<Vec<LostShare>, Failure> {
        let status = connection.operator().status().await;
        let status = status.map_err(|error| connection.unread(&error))?;
        Ok(lost_shares(&status, self.new))
    }

    async fn show(&self, call: &Call, connection: &Connection) -> Result<Exit, Failure> {
        let status = connection.operator().status().await;
        let status = status.map_err(|error| connection.unread(&error))?;
        let (old, new) = (self.old, self.new);
        let is_member = |asked| status.nodes.iter().any(|node| node.id == asked);
        let pending = status.replacement.as_ref();
        let pending = pending.filter(|asked| (asked.old_node, asked.new_node) == (old, new));
        let (stage, detail) = match pending {
            Some(pending) => (&*pending.stage, pending.detail.clone()),
            None if is_member(new) && !is_member(old) => ("done", String::new()),
            None => ("none", String::new()),
        };
        let without_share = lost_shares(&status, new);
        let without_share = without_share.into_iter().map(|share| share.license).collect();
        let shown = Replaced { old, new, stage: stage.to_owned(), detail, without_share };
        call.console.result(&shown, |page| {
            page.line(match stage {
                "done" => format!("node-{new} has the place of node-{old}"),
                "none" => format!("no replacement of node-{old} by node-{new} is under way"),
                _ => format!("{}: {}", shown.stage, shown.detail),
            });
            if pending.is_some() && stage != "switching" {
                page.line(format_args!(
                    "Go on with `trine cluster replace {old} {new}`, or give it up with --undo"
                ));
            }
        })?;
        Ok(Exit::Done)
    }
}

/// What was shown of the steps: a new stage at once, what changes within one
/// every few seconds.
#[derive(Debug, Default)]
struct Said(Option<(String, String, Instant)>);

impl Said {
    const PAUSE: Duration = Duration::from_secs(5);

    fn is_news(&mut self, stage: &str, detail: &str) -> bool {
        let is_old = self.0.as_ref().is_some_and(|(last_stage, last_detail, at)| {
            last_stage == stage && (last_detail == detail || at.elapsed() < Self::PAUSE)
        });
        if !is_old {
            self.0 = Some((stage.to_owned(), detail.to_owned(), Instant::now()));
        }
        !is_old
    }

    fn is_anything(&self) -> bool {
        self.0.is_some()
    }
}

/// A license of which a node has no share, and who had that share last.
#[derive(Debug, Clone, PartialEq, Eq)]
struct LostShare {
    license: String,
    /// The node that is gone, where anybody knows it.
    with: Option<u64>,
    withdrawn: bool,
}

/// What the node `new` lacks. It may have been lost earlier than with the member
/// that `new` replaced: that one never had it either, if nobody repaired it.
fn lost_shares(status: &v1::StatusReply, new: u64) -> Vec<LostShare> {
    let lacks = |license: &&v1::License| {
        let mut shares = license.shares.iter();
        shares.any(|share| share.node == new && share.state == repair::WITHOUT_SHARE)
    };
    let of = |license: &v1::License| {
        let place = repair::lost_place(status, license);
        LostShare {
            license: license.id.clone(),
            with: place.map(|place| place.node).filter(|node| *node > 0),
            withdrawn: place.is_some_and(|place| place.withdrawn),
        }
    };
    status.licenses.iter().filter(lacks).map(of).collect()
}

/// What is left to people once the new node has the place.
fn next_steps(page: &mut Page, replaced: &Replaced, lost: &[LostShare]) {
    let Replaced { old, new, .. } = replaced;
    page.line("Next:");
    for LostShare { license, with, withdrawn } in lost {
        let with = with.unwrap_or(*old);
        page.line(if *withdrawn {
            format!(
                "- license {license} serves with two shares; that of node-{with} was withdrawn, \
                 and nobody makes it again: `trine license request`, and have the vendor issue it \
                 anew"
            )
        } else {
            format!(
                "- license {license} serves with two shares. If the disk of node-{with} is in \
                 your hands: `trine license repair {license}`. If it may be in others': `trine \
                 license withdraw-share {license} --node {with}`, then `trine license request`, \
                 and have the vendor issue it anew"
            )
        });
    }
    page.line(format_args!(
        "- put node-{new} for node-{old} into the configurations of the balancers and of the \
         other nodes, and restart the balancers one after the other"
    ));
    page.line(format_args!(
        "- put it also into TRINE_HOST and into the contexts that name node-{old}, of operators \
         and of applications (`trine cluster status` shows its address)"
    ));
    page.line(format_args!("- destroy the disk of node-{old}, or wipe its data directory"));
    page.line(format_args!(
        "- revoke its certificate: `trine pki revoke node-{old} --dir DIR`, DIR being the \
         directory of the cluster's CA"
    ));
}

/// Whether asking again in a moment may help.
fn passes(error: &CallError) -> bool {
    matches!(
        error.reason(),
        Reason::NoQuorum
            | Reason::NotLeader
            | Reason::LeaderChanged
            | Reason::Unreachable
            | Reason::NoAnswer
            | Reason::ConnectionLost
            | Reason::OutcomeUnknown
            | Reason::Draining
            | Reason::Overloaded
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without a quorum nothing was begun, and the way on would need `--at` again.
    #[test]
    fn nobody_is_told_to_go_on_with_what_did_not_begin() {
        let (at, repair_shares, undo, status) = (None, false, false, false);
        let replace = Replace { old: 3, new: 4, at, repair_shares, undo, status };
        assert_eq!(replace.way_on(true, false), None);
        assert_eq!(replace.way_on(false, true), None, "a refusal says itself what to do");
        let words = replace.way_on(true, true).expect("a way on");
        assert!(words.contains("`trine cluster replace 3 4`"), "{words}");
        let undoing = Replace { undo: true, ..replace };
        let words = undoing.way_on(true, true).expect("a way back");
        assert!(words.contains("`trine cluster replace 3 4 --undo`"), "{words}");
    }

    /// Node 3 went, node 4 came and got no share, and went in its turn.
    #[test]
    fn a_lost_share_is_named_by_the_node_that_had_it_last() {
        let place =
            |node, withdrawn| v1::Place { container: format!("of-{node}"), node, withdrawn };
        let share =
            |node, state: &str| v1::Share { node, state: state.into(), ..Default::default() };
        let license = v1::License {
            id: "6000010:1:1".into(),
            shares: vec![share(1, "live"), share(2, "live"), share(5, repair::WITHOUT_SHARE)],
            places: vec![place(1, false), place(2, false), place(3, false)],
            ..Default::default()
        };
        let nodes = [1, 2, 5].map(|id| v1::Node {
            id,
            container: format!("of-{id}"),
            ..Default::default()
        });
        let mut status = v1::StatusReply {
            nodes: nodes.to_vec(),
            licenses: vec![license],
            ..Default::default()
        };
        let lost = |with, withdrawn| LostShare { license: "6000010:1:1".into(), with, withdrawn };
        assert_eq!(lost_shares(&status, 5), [lost(Some(3), false)]);
        assert_eq!(lost_shares(&status, 1), []);
        status.licenses[0].places[2] = place(4, true);
        assert_eq!(lost_shares(&status, 5), [lost(Some(4), true)]);
    }
}
