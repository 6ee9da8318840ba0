//! Replacing a member by a new node, one step at each call.
//!
//! The leader takes the step that is next, whoever took those before; the
//! command line asks until nothing is left. Ledger and Raft take turns: the
//! ledger says who is to come, Raft brings the node up to date and moves the
//! vote, the ledger says that it is so. From the vote on there is no way back,
//! and whoever leads goes on unasked.

mod step;

use std::sync::Arc;
use std::time::Duration;

use ledger::Ledger;
use ledger::charter::Replacement;
use ledger::command::{
    AbandonReplacement, BeginReplacement, Command, FinishReplacement, Member, Outcome, Refusal,
};
use ledger::name::{Address, Subject};
use license::product::NodeId;
use openraft::async_runtime::WatchReceiver as _;
use openraft::{ChangeMembers, Instant as _, ServerState};
use tokio::sync::Mutex;
use tokio::time::{Instant, MissedTickBehavior};

use self::step::{Sight, Step};
use crate::answer::NotAnswered;
use crate::formation::{Formation, FormationError};
use crate::handover;
use crate::raft::Endpoints;
use crate::roster;

/// A node whose last answer to the leader is older does not answer.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(3);

/// How often a leader looks for a replacement that nobody goes on with.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// How long one change of Raft's membership is waited for; the next call finds
/// it done or waits on.
const CHANGE_WAIT_MAX: Duration = Duration::from_millis(1_200);

/// What an operator wants.
#[derive(Debug, Clone)]
pub(crate) struct Order {
    pub(crate) old: NodeId,
    pub(crate) new: NodeId,
    /// Where the new node's peers reach it; needed to begin.
    pub(crate) peer: Option<Address>,
    /// Back instead of on.
    pub(crate) undo: bool,
    pub(crate) by: Subject,
}

/// What a call did, or waits for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Progress {
    /// For scripts; see cluster.proto.
    pub(crate) stage: &'static str,
    /// For people.
    pub(crate) detail: String,
    /// Nothing is left to do.
    pub(crate) ended: bool,
}

/// Why no step was taken.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReplaceError {
    /// Something that an operator must see to first.
    #[error("{0}")]
    Wrong(String),
    /// The ledger refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The new node did not show its container.
    #[error(transparent)]
    Container(#[from] FormationError),
    /// The ledger was not reached.
    #[error(transparent)]
    NotAnswered(#[from] NotAnswered),
}

/// Takes one step at a time.
#[derive(Default)]
pub(crate) struct Replacer {
    /// On and back must not take turns within one step. The new node that did
    /// not answer at the last one, and since when.
    silent: Mutex<Option<(NodeId, Instant)>>,
}

impl Replacer {
    /// Takes the step that is next. This node must lead.
    ///
    /// # Errors
    /// [`ReplaceError`]; what was done before stays, and may be gone on with.
    pub(crate) async fn step(
        &self,
        formation: &Formation,
        order: &Order,
    ) -> Result<Progress, ReplaceError> {
        let mut silent = self.silent.lock().await;
        let (_, mut sight) =
            formation.service.read(|ledger| look(ledger, order.old, order.new)).await?;
        see_raft(formation, &mut sight);
        let (old, new) = (order.old.0, order.new.0);
        let next =
            if order.undo { step::back(&sight, old, new) } else { step::forward(&sight, old, new) };
        tracing::info!(old = %order.old, new = %order.new, by = %order.by, step = ?next, "replacing a node");
        let is_silent = matches!(next, Step::NeedNewcomer { .. });
        let known = silent.take().filter(|(node, _)| *node == order.new);
        if is_silent {
            let (_, since) = *silent.insert(known.unwrap_or((order.new, Instant::now())));
            if since.elapsed() <= ANSWER_AGE_MAX {
                // It may have been let in a moment ago.
                let detail = format!("{} has not answered yet", order.new);
                return Ok(Progress { stage: "catching-up", detail, ended: false });
            }
        }
        take(formation, order, &sight, next).await
    }
}

/// Finishes what cannot be undone and nobody asks for any more: the command
/// line was cut off, or the leader died that was asked. Runs for ever.
pub(crate) async fn finish_unasked(formation: Arc<Formation>, replacer: Arc<Replacer>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let Some(order) = left_undone(&formation) else { continue };
        if let Err(error) = replacer.step(&formation, &order).await {
            tracing::info!(%error, old = %order.old, new = %order.new, "a replacement waits");
        }
    }
}

/// What this node, if it leads, is to go on with: as far as it knows.
fn left_undone(formation: &Formation) -> Option<Order> {
    if formation.raft.server_metrics().borrow_watched().state != ServerState::Leader {
        return None;
    }
    let (pending, sight) = pending(formation)?;
    step::beyond_undoing(&sight)?;
    let (old, new) = (pending.old, pending.new.node);
    Some(Order { old, new, peer: None, undo: false, by: pending.by })
}

/// How far the replacement under way is, if one is: what would be done or waited
/// for next, as far as this node knows, which leads. Takes no step.
pub(crate) fn under_way(formation: &Formation) -> Option<Progress> {
    let (pending, sight) = pending(formation)?;
    let (old, new) = (pending.old, pending.new.node);
    let (stage, detail) = step::forward(&sight, old.0, new.0).words(old, new);
    Some(Progress { stage, detail, ended: false })
}

/// The replacement under way, if one is, and how things stand for it.
fn pending(formation: &Formation) -> Option<(Replacement, Sight)> {
    let (pending, mut sight) = formation.service.peek(|ledger| {
        let pending = ledger.charter()?.replacement.clone()?;
        let sight = look(ledger, pending.old, pending.new.node);
        Some((pending, sight))
    })?;
    see_raft(formation, &mut sight);
    Some((pending, sight))
}

fn look(ledger: &Ledger, old: NodeId, new: NodeId) -> Sight {
    let members = ledger.members().into_iter().map(|member| (member.node.0, member.live));
    let mut sight = Sight { members: members.collect(), ..Sight::default() };
    if let Some(charter) = ledger.charter() {
        sight.departed = [old, new].map(|node| roster::departure(charter, node));
        let pending = charter.replacement.as_ref();
        sight.pending = pending.map(|pending| (pending.old.0, pending.new.node.0));
    }
    sight
}

fn see_raft(formation: &Formation, sight: &mut Sight) {
    let metrics = formation.raft.metrics();
    let metrics = metrics.borrow_watched();
    let membership = &metrics.membership_config;
    let index = |log_id: Option<crate::raft::LogId>| log_id.map_or(0, |log_id| log_id.index);
    sight.leader = formation.node.0;
    // Whoever takes the step is there, heard or not.
    if let Some(is_there) = sight.members.get_mut(&sight.leader) {
        *is_there = true;
    }
    sight.voters = membership.membership().get_joint_config().clone();
    sight.nodes = membership.membership().nodes().map(|(id, _)| *id).collect();
    sight.membership_index = index(*membership.log_id());
    sight.committed_index = index(metrics.cluster_committed);
    sight.last_index = metrics.last_log_index.unwrap_or(0);
    let answers = metrics.heartbeat.iter().flatten();
    let answering = answers
        .filter(|(_, last)| last.as_ref().is_some_and(|at| at.elapsed() <= ANSWER_AGE_MAX))
        .map(|(node, _)| *node);
    sight.answering = answering.collect();
    let matched = metrics.replication.iter().flatten();
    sight.matched = matched.map(|(node, log_id)| (*node, index(*log_id))).collect();
}

async fn take(
    formation: &Formation,
    order: &Order,
    sight: &Sight,
    step: Step,
) -> Result<Progress, ReplaceError> {
    let (old, new) = (order.old, order.new);
    let (stage, detail) = step.words(old, new);
    let wrong = |what: String| Err(ReplaceError::Wrong(what));
    let under_way = |detail| Ok(Progress { stage, detail, ended: false });
    let ended = |detail| Ok(Progress { stage, detail, ended: true });
    match step {
        Step::Done if order.undo => {
            let (stage, detail) = Step::Abandon.words(old, new);
            Ok(Progress { stage, detail, ended: true })
        }
        Step::Done => ended(detail),
        Step::TooLate if sight.departed[0].is_some() => wrong(format!(
            "too late to undo: {new} has the place of {old}; to be rid of {new}, replace it in \
             its turn"
        )),
        Step::TooLate => wrong(format!(
            "too late to undo: {new} votes already; finish with `trine cluster replace {} {}`, \
             then replace {new} in its turn",
            old.0, new.0
        )),
        Step::Begin => begin(formation, order, sight).await,
        Step::Finish => {
            let by = order.by.clone();
            submit(formation, Command::FinishReplacement(FinishReplacement { old, new, by }))
                .await?;
            let (stage, detail) = Step::Done.words(old, new);
            Ok(Progress { stage, detail, ended: true })
        }
        Step::Abandon => {
            let by = order.by.clone();
            submit(formation, Command::AbandonReplacement(AbandonReplacement { old, new, by }))
                .await?;
            ended(detail)
        }
        Step::NeedSurvivor { .. } => wrong(detail),
        Step::HandOver { to } => {
            let (raft, service) = (&formation.raft, &formation.service);
            match handover::hand_over(raft, service, Some(to)).await {
                Ok(_) => under_way(detail),
                Err(why) => under_way(format!("{detail}: {why}")),
            }
        }
        Step::Teach => {
            let endpoints = pending_endpoints(formation)?;
            change(formation.raft.add_learner(new.0, endpoints, false)).await;
            under_way(detail)
        }
        Step::Switch { voters } => {
            change(formation.raft.change_membership(voters, false)).await;
            under_way(detail)
        }
        Step::Dismiss => {
            let dismissed = ChangeMembers::RemoveNodes([new.0].into());
            change(formation.raft.change_membership(dismissed, false)).await;
            under_way(detail)
        }
        Step::Wait { .. } | Step::NeedNewcomer { .. } | Step::Settle => under_way(detail),
    }
}

/// Asks the new node who it is, and tells the ledger.
async fn begin(
    formation: &Formation,
    order: &Order,
    sight: &Sight,
) -> Result<Progress, ReplaceError> {
    let (old, new) = (order.old, order.new);
    // What the ledger would refuse anyhow needs no answer of the new node.
    let allowed = formation.service.peek(|ledger| ledger.may_replace(old, new));
    if allowed.is_err() && formation.service.peek(|ledger| is_swapped(ledger, old, new)) {
        return Err(ReplaceError::Wrong(format!(
            "{new} is a member and {old} is none: the member that goes comes first: `trine \
             cluster replace {} {}`",
            new.0, old.0
        )));
    }
    allowed.map_err(ReplaceError::Refused)?;
    let under_way_already = formation
        .service
        .peek(|ledger| ledger.charter().and_then(|charter| charter.replacement.clone()));
    let peer = match (&order.peer, under_way_already) {
        (Some(peer), _) => peer.clone(),
        (None, Some(other)) => other.peer,
        (None, None) => {
            return Err(ReplaceError::Wrong(format!(
                "no replacement of {old} is under way: to begin one, say where the other nodes \
                 reach {new}, with --at HOST:PORT"
            )));
        }
    };
    let stay = sight.survivors(old.0).collect::<Vec<_>>();
    let through = if formation.node == old { &stay[..] } else { &[] };
    let (request, client) = formation.visit(new, peer.as_str(), through).await?;
    let client = Address::parse(&client).map_err(|invalid| {
        ReplaceError::Wrong(format!("{new} says that clients reach it at no address: {invalid}"))
    })?;
    let new_member = Member { node: new, container: request.identity().clone() };
    let by = order.by.clone();
    let begin = BeginReplacement { old, new: new_member, peer, client, by };
    submit(formation, Command::BeginReplacement(begin)).await?;
    let detail = format!("{new} is to take the place of {old}");
    Ok(Progress { stage: "begun", detail, ended: false })
}

/// Whether the two were named in the wrong order: a node that goes was never
/// heard of, and the one that comes is a member.
fn is_swapped(ledger: &Ledger, old: NodeId, new: NodeId) -> bool {
    ledger.charter().is_some_and(|charter| charter.member(new).is_some() && !charter.knew(old))
}

async fn submit(formation: &Formation, command: Command) -> Result<(), ReplaceError> {
    match formation.service.submit_here(command).await?.outcome {
        Outcome::Refused(refusal) => Err(ReplaceError::Refused(refusal)),
        _ => Ok(()),
    }
}

fn pending_endpoints(formation: &Formation) -> Result<Endpoints, ReplaceError> {
    let pending = formation.service.peek(|ledger| {
        let replacement = ledger.charter()?.replacement.as_ref()?;
        let (peer, client) = (replacement.peer.to_string(), replacement.client.to_string());
        Some(Endpoints { peer, client })
    });
    pending.ok_or_else(|| {
        ReplaceError::Wrong("the replacement has just ended; see `trine cluster status`".into())
    })
}

/// Waits a while. What comes of it the next call sees for itself.
async fn change<T, E: std::fmt::Display>(changing: impl Future<Output = Result<T, E>>) {
    match tokio::time::timeout(CHANGE_WAIT_MAX, changing).await {
        Ok(Ok(_)) => {}
        Ok(Err(error)) => tracing::info!(%error, "the membership is not changed yet"),
        Err(_) => tracing::debug!("the change of membership takes its time"),
    }
}
