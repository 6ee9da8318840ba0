//! Restoring: a ledger begins where a backup ends, in a new epoch.
//!
//! What happened after the backup is not known. So nothing that could
//! contradict it is done: tokens begin above all that it could have given,
//! and nothing is granted until all that it could have granted has ended.

use license::product::NodeId;
use sha2::{Digest, Sha256};

use crate::charter::{Departure, Retired, Superseded, ca_digest};
use crate::codec::CodecError;
use crate::command::{
    GenesisRefusal, Refusal, Restore, RestoreFinish, RestorePart, RestorePlan, RestoreRefusal,
};
use crate::index::Index;
use crate::ledger::{Entry, Ledger};
use crate::limits::{CA_BYTES_MAX, DEPARTED_MAX, EPOCH_MAX, RESTORE_BYTES_MAX, TOKENS_PER_EPOCH};
use crate::member::act_of;
use crate::state::{Restored, State};
use crate::time::{ClusterTime, Ttl};

impl Ledger {
    /// Takes one step of a restore.
    pub(crate) fn restore_step(
        &mut self,
        step: &Restore,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let taken = match step {
            Restore::Begin(plan) => self.begin_restore(plan),
            Restore::Part(part) => self.take_part(part),
            Restore::Finish(finish) => self.finish_restore(finish, entry),
        };
        taken.map_err(|refusal| Refusal::Restore(Box::new(refusal)))
    }

    fn begin_restore(&mut self, plan: &RestorePlan) -> Result<(), RestoreRefusal> {
        self.require_unformed()?;
        let RestorePlan { bytes, epoch, quiet_ms, members, ca, .. } = plan;
        if !(1..=RESTORE_BYTES_MAX).contains(bytes) {
            return Err(RestoreRefusal::Size { bytes: *bytes });
        }
        if *epoch > EPOCH_MAX {
            return Err(RestoreRefusal::EpochTooHigh { asked: *epoch, highest: EPOCH_MAX });
        }
        // A node that misses what comes next knows of that attempt for good, and
        // takes what is of a lower epoch for what was before it (S21).
        let begun = self.epoch();
        if *epoch < begun {
            return Err(RestoreRefusal::EpochBelowBegun { begun, asked: *epoch });
        }
        if *quiet_ms > Ttl::MILLIS_MAX {
            let longest_ms = Ttl::MILLIS_MAX;
            return Err(RestoreRefusal::QuietTooLong { quiet_ms: *quiet_ms, longest_ms });
        }
        if ca.len() > CA_BYTES_MAX {
            let (length, limit) = (ca.len() as u64, CA_BYTES_MAX as u64);
            return Err(RestoreRefusal::CaTooLong { length, limit });
        }
        if act_of(members).is_none() {
            let detail = GenesisRefusal::NotThree.to_string();
            return Err(RestoreRefusal::Damaged { detail });
        }
        self.state.scalars.epoch = *epoch;
        // The same plan again is a retry: what has arrived of it stays.
        if self.state.scalars.restoring.as_ref() != Some(plan) {
            self.drop_restore();
            self.state.scalars.restoring = Some(plan.clone());
        }
        Ok(())
    }

    fn take_part(&mut self, part: &RestorePart) -> Result<(), RestoreRefusal> {
        self.require_unformed()?;
        let plan = self.plan(&part.backup)?;
        if plan.part_bytes(part.number) != Some(part.bytes.0.len()) {
            return Err(RestoreRefusal::PartWrong { number: part.number });
        }
        self.state.parts.insert(part.number, part.bytes.clone());
        Ok(())
    }

    /// All or nothing: a backup that does not hold leaves the cluster unformed,
    /// and its parts are dropped so that another may be tried.
    fn finish_restore(
        &mut self,
        finish: &RestoreFinish,
        entry: &mut Entry,
    ) -> Result<(), RestoreRefusal> {
        // Asking again for what was done is a retry.
        if self.state.scalars.restored.as_ref().is_some_and(|done| done.backup == finish.backup) {
            return Ok(());
        }
        self.require_unformed()?;
        let plan = self.plan(&finish.backup)?.clone();
        let missing = u64::from(plan.parts()).saturating_sub(self.state.parts.len());
        if missing > 0 {
            let missing = u32::try_from(missing).unwrap_or(u32::MAX);
            return Err(RestoreRefusal::Incomplete { missing });
        }
        match self.backed_up(&plan) {
            Ok(backup) => {
                self.adopt(backup, plan);
                entry.enter(&self.state);
                self.resume_history(entry);
                Ok(())
            }
            Err(refusal) => {
                self.drop_restore();
                Err(refusal)
            }
        }
    }

    /// The ledger that the parts make, if they make one that may be restored.
    fn backed_up(&mut self, plan: &RestorePlan) -> Result<State, RestoreRefusal> {
        let damaged = |detail: String| RestoreRefusal::Damaged { detail };
        // Moved, not copied: the parts and the whole are never both in memory.
        let mut bytes = Vec::new();
        for (_, part) in std::mem::take(&mut self.state.parts) {
            bytes.extend_from_slice(&part.0);
        }
        if Sha256::digest(&bytes)[..] != plan.backup {
            return Err(damaged("its parts do not add up to what was announced".to_owned()));
        }
        let backup = Self::restore(&bytes).map_err(|error| match error {
            // Builds that know the level judge the backup; this one cannot, and
            // must go no further (S22): see `is_within_reach`.
            CodecError::Level { found, .. } => {
                self.state.scalars.level = found;
                damaged(error.to_string())
            }
            // What it says to do is for snapshots of a node's own.
            CodecError::Damaged { detail, .. } => damaged(detail),
            other => damaged(other.to_string()),
        })?;
        let charter = backup
            .charter()
            .ok_or_else(|| damaged("it is of a cluster that was never formed".to_owned()))?;
        if charter.cluster != plan.cluster {
            let (said, found) = (plan.cluster, charter.cluster);
            return Err(RestoreRefusal::OtherCluster { said, found });
        }
        let is_retired = |node: &NodeId| charter.retired.contains_key(node);
        if let Some(node) = plan.members.iter().map(|member| member.node).find(is_retired) {
            return Err(RestoreRefusal::Retired { node });
        }
        // Its own node may have it again, and nobody else: a share's proof and a
        // sign of life are known by node and by container.
        for member in &plan.members {
            let (node, container) = (member.node, member.container.serial());
            if let Some(owner) = charter.owner_of(container).filter(|owner| *owner != node) {
                return Err(RestoreRefusal::ContainerOfAnother { node, container, owner });
            }
        }
        // S5: above every token that the backup knows, whatever its epoch says.
        let highest = backup.epoch().max(backup.last_token() / TOKENS_PER_EPOCH);
        if plan.epoch <= highest {
            return Err(RestoreRefusal::EpochNotAbove { backup: highest, asked: plan.epoch });
        }
        // Three nodes, the one on its way in and three containers may leave.
        if charter.gone() + 7 > DEPARTED_MAX {
            return Err(RestoreRefusal::TooManyGone { limit: DEPARTED_MAX });
        }
        Ok(backup.state)
    }

    /// Begins where the backup ends.
    ///
    /// Kept: the cluster's identity, licenses, leases with their tokens and
    /// deadlines, who waits, bearer tokens, both clocks. The clocks stood still
    /// since the backup, as in any outage: nobody loses a seat by it.
    ///
    /// Anew: the epoch; who the members are; which shares are proved and which
    /// terms signed, because it is other processes, perhaps other containers,
    /// that must show they can.
    fn adopt(&mut self, mut state: State, plan: RestorePlan) {
        let now = &self.state.scalars;
        let scalars = &mut state.scalars;
        scalars.clock = scalars.clock.max(now.clock);
        (scalars.term, scalars.applied) = (now.term, now.applied);
        (scalars.term_since, scalars.members_since) = (scalars.clock, scalars.clock);
        scalars.epoch = plan.epoch;
        // S5: epochs are seconds apart at least, and nobody grants so many seats
        // in one; so no token of what was lost, nor of another restore, is as high.
        scalars.last_token = scalars.last_token.max(plan.epoch * TOKENS_PER_EPOCH);
        // They are of entries of another log.
        scalars.checkpoints.clear();
        scalars.restored = Some(Restored {
            backup: plan.backup,
            from: scalars.clock,
            quiet_until: scalars.clock.plus_millis(plan.quiet_ms),
        });
        forget_vitals(&mut state, &plan);
        join(&mut state, plan);
        unprove(&mut state);
        self.index = Index::of(&state);
        self.state = state;
    }

    fn require_unformed(&self) -> Result<(), RestoreRefusal> {
        match self.charter() {
            Some(charter) => Err(RestoreRefusal::Formed { cluster: charter.cluster }),
            None => Ok(()),
        }
    }

    fn plan(&self, backup: &[u8; 32]) -> Result<&RestorePlan, RestoreRefusal> {
        let plan = self.state.scalars.restoring.as_ref();
        plan.filter(|plan| plan.backup == *backup).ok_or(RestoreRefusal::NotBegun)
    }

    fn drop_restore(&mut self) {
        self.state.scalars.restoring = None;
        self.state.parts = Default::default();
    }

    /// Until when nothing is granted, while that is so.
    pub fn quiet_until(&self) -> Option<ClusterTime> {
        let until = self.state.scalars.restored.as_ref()?.quiet_until;
        (self.clock() < until).then_some(until)
    }

    /// The refusal of every grant while it is quiet.
    pub(crate) fn check_not_quiet(&self) -> Result<(), Refusal> {
        match self.quiet_until() {
            Some(until) => Err(Refusal::Restored { until, now: self.clock() }),
            None => Ok(()),
        }
    }
}

/// A node whose container is the same may not send an old sign of life again;
/// what it said of itself then says nothing of the node that runs now.
fn forget_vitals(state: &mut State, plan: &RestorePlan) {
    let known = state.scalars.charter.iter().flat_map(|charter| &charter.members);
    let strangers: Vec<NodeId> =
        known.filter(|member| !plan.members.contains(member)).map(|member| member.node).collect();
    for node in strangers {
        state.vitals.remove(&node);
    }
    let nodes: Vec<NodeId> = state.vitals.iter().map(|(node, _)| *node).collect();
    for node in nodes {
        state.vitals.update(&node, |vitals| {
            vitals.heard = ClusterTime(0);
            vitals.applied = 0;
            vitals.checkpoint = Default::default();
        });
    }
}

/// The members are now the nodes that the backup was restored into, under the
/// CA that they use. Who is none of them any more has left for good.
fn join(state: &mut State, plan: RestorePlan) {
    let Some(charter) = &mut state.scalars.charter else { return };
    let is_here = |node: NodeId| plan.members.iter().any(|member| member.node == node);
    // A node that was on its way in is here now, or has missed it.
    let coming = charter.replacement.take().map(|replacement| replacement.new);
    for left in charter.members.iter().chain(&coming).filter(|member| !is_here(member.node)) {
        let container = left.container.clone();
        let gone = Retired { container, departure: Departure::LeftBehind };
        charter.retired.insert(left.node, gone);
    }
    // Containers made for other addresses or another CA have another act id:
    // the vendor issues anew for them.
    charter.act = act_of(&plan.members).unwrap_or(charter.act);
    // A node that has its id and not its container: the two others' shares of
    // what was split for it are as good as before.
    let is_used = |serial| plan.members.iter().any(|member| member.container.serial() == serial);
    for left in charter.members.iter().chain(&coming).filter(|member| is_here(member.node)) {
        let before = Superseded { node: left.node, container: left.container.clone() };
        charter.superseded.insert(before.container.serial(), before);
    }
    charter.superseded.retain(|serial, _| !is_used(*serial));
    charter.members = plan.members;
    charter.cas = [(ca_digest(&plan.ca), plan.ca)].into();
}

fn unprove(state: &mut State) {
    let licenses: Vec<_> = state.licenses.iter().map(|(id, _)| *id).collect();
    for id in licenses {
        state.licenses.update(&id, |installed| {
            installed.each_edition(|edition| {
                edition.attested.clear();
                edition.signed_term = None;
                edition.repairs.clear();
            });
        });
    }
}
