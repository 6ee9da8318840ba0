//! What a set of runs must have come to, or it has tested little (LAWS.md, Sometimes).

use std::collections::{BTreeMap, BTreeSet};

use ledger::command::ShareState;
use node::raft::LogId;
use node::store::mem::Survives;
use serde::Serialize;

use super::traps::{Point, Subject};
use crate::history::{Answer, AttemptId, Op, RequestId, What};
use crate::laws::{NodeSight, Sight};

/// One thing that must happen now and then.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "each says what it is")]
pub enum Sometimes {
    PoolFull,
    FullWithWaiters,
    ExpiryInTheEntryOfAGrant,
    RenewalAfterTheEnd,
    ReleaseAfterTheEnd,
    OneRequestTwoLeaders,
    AnsweredFromMemoryBehindASnapshot,
    SnapshotInstalled,
    LeaderChanged,
    TwoBelieveTheyLead,
    OneWayCut,
    UnsyncedWritesLost,
    TornTail,
    CrashBetweenAppendAndSync,
    VoteLost,
    DiskFullOnTheLeader,
    QuorumLostAndBack,
    LateDuplicateRefused,
    OneShareLive,
}

impl Sometimes {
    /// All of them.
    pub const ALL: [Self; 19] = [
        Self::PoolFull,
        Self::FullWithWaiters,
        Self::ExpiryInTheEntryOfAGrant,
        Self::RenewalAfterTheEnd,
        Self::ReleaseAfterTheEnd,
        Self::OneRequestTwoLeaders,
        Self::AnsweredFromMemoryBehindASnapshot,
        Self::SnapshotInstalled,
        Self::LeaderChanged,
        Self::TwoBelieveTheyLead,
        Self::OneWayCut,
        Self::UnsyncedWritesLost,
        Self::TornTail,
        Self::CrashBetweenAppendAndSync,
        Self::VoteLost,
        Self::DiskFullOnTheLeader,
        Self::QuorumLostAndBack,
        Self::LateDuplicateRefused,
        Self::OneShareLive,
    ];
}

/// What a crash was that came when so many changes were not synced.
pub(super) fn of_crash(unsynced: usize, survives: Survives) -> Vec<Sometimes> {
    let lost = match survives {
        Survives::Nothing => unsynced > 0,
        Survives::Changes(kept) => kept < unsynced,
        Survives::Everything => false,
    };
    let torn = matches!(survives, Survives::Changes(kept) if kept > 0 && kept < unsynced);
    let lost = lost.then_some(Sometimes::UnsyncedWritesLost);
    lost.into_iter().chain(torn.then_some(Sometimes::TornTail)).collect()
}

/// What a crash was that came at one moment in the life of a write.
pub(super) fn of_trap(subject: Subject, point: Point, survives: Survives) -> Option<Sometimes> {
    match (subject, point, survives) {
        (Subject::Entry, Point::BeforeSync, _) => Some(Sometimes::CrashBetweenAppendAndSync),
        (Subject::Vote, Point::BeforeSync, Survives::Nothing) => Some(Sometimes::VoteLost),
        _ => None,
    }
}

/// How often each happened.
pub type Tally = BTreeMap<Sometimes, u64>;

/// Applied, the end of the log, seats granted and expired.
type Shown = (Option<LogId>, Option<u64>, u64, u64);

/// Counts them in one run.
#[derive(Default)]
pub(super) struct Watcher {
    pub(super) tally: Tally,
    /// Who was last seen to lead.
    pub(super) leader: Option<u64>,
    /// What each start of each node showed last.
    before: BTreeMap<(u64, u64), Shown>,
    without_quorum: bool,
    /// The calls that are open, and what they are.
    open: BTreeMap<AttemptId, Op>,
    /// Under which leader each request was asked.
    asked: BTreeMap<RequestId, BTreeSet<u64>>,
}

impl Watcher {
    pub(super) fn count(&mut self, what: Sometimes) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn look(&mut self, sight: &Sight<'_>) {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            self.ledger(node, sight.seats);
        }
        let leaders: Vec<_> = sight.nodes.iter().filter(|node| node.standing.leads).collect();
        if leaders.len() > 1 {
            self.count(Sometimes::TwoBelieveTheyLead);
        }
        let leader = leaders.iter().max_by_key(|node| node.standing.term).map(|node| node.node);
        if leader.is_some() && leader != self.leader {
            if self.leader.is_some() {
                self.count(Sometimes::LeaderChanged);
            }
            self.leader = leader;
            if std::mem::take(&mut self.without_quorum) {
                self.count(Sometimes::QuorumLostAndBack);
            }
        }
        if sight.nodes.len() < 2 {
            (self.without_quorum, self.leader) = (true, None);
        }
        for event in sight.events {
            self.event(&event.what, sight);
        }
    }

    fn ledger(&mut self, node: &NodeSight<'_>, seats: u32) {
        let (pools, licenses, granted, expired) = node.window.look(|ledger| {
            let counters = ledger.counters();
            (ledger.pools(), ledger.licenses(), counters.granted, counters.expired)
        });
        for pool in pools.iter().filter(|pool| seats > 0 && pool.seats == u64::from(seats)) {
            self.count(Sometimes::PoolFull);
            if pool.waiting > 0 {
                self.count(Sometimes::FullWithWaiters);
            }
        }
        let live = |state: ShareState| matches!(state, ShareState::Live);
        for license in &licenses {
            if license.shares.iter().filter(|share| live(share.state)).count() == 1 {
                self.count(Sometimes::OneShareLive);
            }
        }
        let now = (node.applied, node.standing.last_log, granted, expired);
        let before = self.before.insert((node.node, node.start), now);
        let Some((applied, last_log, granted_then, expired_then)) = before else { return };
        let index = |id: Option<LogId>| id.map_or(0, |id| id.index);
        let is_next = index(applied) + 1 == index(node.applied);
        if is_next && granted > granted_then && expired > expired_then {
            self.count(Sometimes::ExpiryInTheEntryOfAGrant);
        }
        if node.standing.snapshot.map(|id| id.index) > last_log && !is_next {
            self.count(Sometimes::SnapshotInstalled);
        }
    }

    fn event(&mut self, what: &What, sight: &Sight<'_>) {
        match what {
            What::Invoke { attempt, op, .. } => {
                if let (Op::Acquire { request, .. }, Some(leader)) = (op, self.leader) {
                    let leaders = self.asked.entry(*request).or_default();
                    if leaders.insert(leader) && leaders.len() == 2 {
                        self.count(Sometimes::OneRequestTwoLeaders);
                    }
                }
                self.open.insert(*attempt, op.clone());
            }
            What::Answer { attempt, answer } => {
                let Some(op) = self.open.remove(attempt) else { return };
                match (op, answer) {
                    (Op::Renew { .. }, Answer::Refused { reason, .. })
                        if reason == "LEASE_ENDED" =>
                    {
                        self.count(Sometimes::RenewalAfterTheEnd);
                    }
                    (Op::Release { .. }, Answer::Refused { reason, .. })
                        if reason == "LEASE_ENDED" =>
                    {
                        self.count(Sometimes::ReleaseAfterTheEnd);
                    }
                    (Op::Acquire { .. }, Answer::Refused { reason, .. })
                        if reason == "TOO_LATE" =>
                    {
                        self.count(Sometimes::LateDuplicateRefused);
                    }
                    (Op::Acquire { .. }, Answer::Granted { at, grant, .. })
                        if at.log_id > grant.granted.log_id =>
                    {
                        let snapshots =
                            sight.nodes.iter().filter_map(|node| node.standing.snapshot);
                        if snapshots.map(|id| id.index).max() >= Some(grant.granted.log_id.index) {
                            self.count(Sometimes::AnsweredFromMemoryBehindASnapshot);
                        }
                    }
                    _ => {}
                }
            }
            What::Note { .. } => {}
        }
    }
}
