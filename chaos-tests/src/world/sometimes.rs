//! What a set of runs must have come to, or it has tested little (LAWS.md, Sometimes).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use ledger::command::ShareState;
use node::raft::LogId;
use node::store::mem::{Platter, Survives};
use node::store::{entry, keys};
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
    LeaderChangedBetweenStampAndCommit,
    TwoBelieveTheyLead,
    BothBalancersActive,
    OneWayCut,
    UnsyncedWritesLost,
    TornTail,
    CrashBetweenAppendAndSync,
    VoteLost,
    DiskFullOnTheLeader,
    QuorumLostAndBack,
    LateDuplicateRefused,
    OneShareLive,
    Shrunk,
    ReplacedWhileFull,
}

impl Sometimes {
    /// All of them.
    pub const ALL: [Self; 23] = [
        Self::PoolFull,
        Self::FullWithWaiters,
        Self::ExpiryInTheEntryOfAGrant,
        Self::RenewalAfterTheEnd,
        Self::ReleaseAfterTheEnd,
        Self::OneRequestTwoLeaders,
        Self::AnsweredFromMemoryBehindASnapshot,
        Self::SnapshotInstalled,
        Self::LeaderChanged,
        Self::LeaderChangedBetweenStampAndCommit,
        Self::TwoBelieveTheyLead,
        Self::BothBalancersActive,
        Self::OneWayCut,
        Self::UnsyncedWritesLost,
        Self::TornTail,
        Self::CrashBetweenAppendAndSync,
        Self::VoteLost,
        Self::DiskFullOnTheLeader,
        Self::QuorumLostAndBack,
        Self::LateDuplicateRefused,
        Self::OneShareLive,
        Self::Shrunk,
        Self::ReplacedWhileFull,
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
    /// Who led from when on.
    pub(super) led: Vec<(Duration, Option<u64>)>,
    /// What each start of each node showed last.
    before: BTreeMap<(u64, u64), Shown>,
    without_quorum: bool,
    /// The calls that are open, and what they are.
    open: BTreeMap<AttemptId, Op>,
    /// Under which leader each request was asked.
    asked: BTreeMap<RequestId, BTreeSet<u64>>,
    /// Until when each lease lives, by what was told, in milliseconds.
    deadlines: BTreeMap<RequestId, u64>,
    /// The furthest entry that any ledger has seen.
    frontier: Option<LogId>,
    /// The last count in force, and each change of it: from where, by where, to what.
    in_force: Option<u32>,
    pub(super) counts: Vec<(u64, u64, u32)>,
    /// Nodes whose full disks were seen.
    full: BTreeSet<u64>,
}

impl Watcher {
    pub(super) fn count(&mut self, what: Sometimes) {
        *self.tally.entry(what).or_default() += 1;
    }

    pub(super) fn look(&mut self, sight: &Sight<'_>) {
        for node in sight.nodes.iter().filter(|node| node.moved) {
            self.ledger(node, sight.seats);
        }
        for node in sight.nodes {
            self.disk(node, sight);
            if node.applied > self.frontier {
                self.committed(node, sight);
            }
        }
        let leaders: Vec<_> = sight.nodes.iter().filter(|node| node.standing.leads).collect();
        if leaders.len() > 1 {
            self.count(Sometimes::TwoBelieveTheyLead);
        }
        let leader = leaders.iter().max_by_key(|node| node.standing.term).map(|node| node.node);
        // One that is alone leads nobody.
        let leader = leader.filter(|_| sight.nodes.len() >= 2);
        if leader.is_some() && leader != self.leader {
            if self.leader.is_some() {
                self.count(Sometimes::LeaderChanged);
            }
            self.leader = leader;
            self.led.push((sight.at, leader));
            if std::mem::take(&mut self.without_quorum) {
                self.count(Sometimes::QuorumLostAndBack);
            }
        }
        if sight.nodes.len() < 2 {
            if self.leader.is_some() {
                self.led.push((sight.at, None));
            }
            (self.without_quorum, self.leader) = (true, None);
        }
        for event in sight.events {
            self.event(&event.what, sight);
        }
    }

    /// Whether the last leader's disk has just run full.
    fn disk(&mut self, node: &NodeSight<'_>, sight: &Sight<'_>) {
        let disk = sight.nodes_disk(node.node);
        if !disk.is_some_and(Platter::is_full) {
            self.full.remove(&node.node);
        } else if self.full.insert(node.node) && self.leader == Some(node.node) {
            self.count(Sometimes::DiskFullOnTheLeader);
        }
    }

    /// A ledger has seen what none had: were there entries of an earlier term among it?
    fn committed(&mut self, node: &NodeSight<'_>, sight: &Sight<'_>) {
        let before = std::mem::replace(&mut self.frontier, node.applied);
        let in_force =
            node.window.look(|ledger| ledger.licenses().first().map(|one| one.terms.seats));
        let (Some(before), Some(now)) = (before, node.applied) else { return };
        if let Some(seats) = in_force
            && let Some(known) = self.in_force.replace(seats)
            && known != seats
        {
            self.counts.push((before.index + 1, now.index, seats));
            if seats < known {
                self.count(Sometimes::Shrunk);
            }
        }
        if before.leader_id.term == now.leader_id.term {
            return;
        }
        let next = before.index + 1;
        let framed = sight.nodes_disk(node.node).and_then(|disk| disk.durable(&keys::entry(next)));
        let of_old_term = framed
            .and_then(|framed| entry::decode(next, &framed).ok())
            .is_some_and(|entry| entry.log_id.leader_id.term < now.leader_id.term);
        if of_old_term {
            self.count(Sometimes::LeaderChangedBetweenStampAndCommit);
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
                    // Releasing what has ended is no mistake, and answered like any release.
                    (Op::Release { request, .. }, Answer::Released { at })
                        if self.deadlines.get(&request).is_some_and(|end| *end <= at.stamp_ms) =>
                    {
                        self.count(Sometimes::ReleaseAfterTheEnd);
                    }
                    (Op::Renew { request, .. }, Answer::Renewed { deadline_ms, .. }) => {
                        self.deadlines.insert(request, *deadline_ms);
                    }
                    (Op::Acquire { .. }, Answer::Refused { reason, .. })
                        if reason == "TOO_LATE" =>
                    {
                        self.count(Sometimes::LateDuplicateRefused);
                    }
                    (Op::Acquire { request, .. }, Answer::Granted { at, grant, .. })
                        if at.log_id == grant.granted.log_id =>
                    {
                        self.deadlines.insert(request, grant.deadline_ms);
                    }
                    (Op::Acquire { .. }, Answer::Granted { grant, .. }) => {
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
