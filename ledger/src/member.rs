//! The members: forming the cluster, and their signed signs of life.

use std::collections::BTreeSet;

use license::container::{Heartbeat, SignedHeartbeat};
use license::product::{ActId, NodeId};

use crate::charter::Charter;
use crate::command::{Genesis, GenesisRefusal, Member, ProofKind, Refusal};
use crate::ledger::{Entry, Ledger};
use crate::limits::{CA_BYTES_MAX, TOKENS_PER_EPOCH, VENDOR_ROOTS_MAX};
use crate::state::Vitals;

/// The act id of three distinct nodes with three distinct containers that have
/// it in common; `None` when they are anything else.
pub(crate) fn act_of(members: &[Member]) -> Option<ActId> {
    let nodes: BTreeSet<_> = members.iter().map(|member| member.node).collect();
    let containers: BTreeSet<_> = members.iter().map(|m| m.container.serial()).collect();
    let acts: BTreeSet<_> = members.iter().map(|member| member.container.act()).collect();
    match (members.len(), nodes.len(), containers.len(), acts.len(), acts.first()) {
        (3, 3, 3, 1, Some(act)) => Some(*act),
        _ => None,
    }
}

impl Ledger {
    pub(crate) fn form(&mut self, genesis: &Genesis) -> Result<(), Refusal> {
        if self.state.scalars.charter.is_some() {
            return Err(Refusal::Genesis(GenesisRefusal::AlreadyFormed));
        }
        // A backup half restored must not end as an empty cluster.
        if self.state.scalars.restoring.is_some() {
            return Err(Refusal::Genesis(GenesisRefusal::Restoring));
        }
        let too_much = genesis.vendor_roots.len() > VENDOR_ROOTS_MAX as usize
            || genesis.ca.len() > CA_BYTES_MAX;
        if too_much {
            return Err(Refusal::Genesis(GenesisRefusal::TooMuchTrust));
        }
        let act = act_of(&genesis.members).ok_or(Refusal::Genesis(GenesisRefusal::NotThree))?;
        self.state.scalars.charter = Some(Charter::of(genesis, act));
        // Above 0 when a restore was begun here and given up: the epoch stays, and
        // the tokens of an epoch begin there.
        self.state.scalars.last_token = self.epoch() * TOKENS_PER_EPOCH;
        self.state.scalars.level = genesis.level;
        self.state.scalars.members_since = self.clock();
        Ok(())
    }

    /// The charter; commands before genesis are refused.
    pub(crate) fn chartered(&self) -> Result<&Charter, Refusal> {
        self.charter().ok_or(Refusal::Genesis(GenesisRefusal::NotFormed))
    }

    /// The charter, for a command after genesis to amend.
    pub(crate) fn charter_mut(&mut self) -> &mut Charter {
        let charter = self.state.scalars.charter.as_mut();
        charter.expect("commands before genesis are refused before they get here")
    }

    /// A member by its node.
    pub(crate) fn member(&self, node: NodeId) -> Result<&Member, Refusal> {
        self.chartered()?.member(node).ok_or(Refusal::UnknownNode { node })
    }

    /// Notes a sign of life, each once: a leader that kept an old one cannot
    /// make a dead node's share live with it. A wall clock that went back is no
    /// fault of the node's shares: it is noted as it is, and moves no wall floor.
    pub(crate) fn hear(
        &mut self,
        signed: &SignedHeartbeat,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let said = &signed.heartbeat;
        let ours = self.chartered()?.cluster == said.cluster;
        if !ours || !signed.verify(&self.member(said.node)?.container) {
            return Err(Refusal::ProofInvalid { what: ProofKind::Heartbeat, node: said.node });
        }
        let last = self.state.vitals.get(&said.node).map_or(0, |vitals| vitals.count);
        if said.count <= last {
            return Err(Refusal::HeartbeatStale { node: said.node, count: said.count, last });
        }
        let Heartbeat { count, wall, boot, applied, checkpoint, build, ca, .. } = *said;
        let heard = self.clock();
        let vitals = Vitals { heard, count, wall, boot, applied, checkpoint, build, ca };
        self.state.vitals.insert(said.node, vitals);
        self.raise_walls();
        self.refresh_service(entry);
        Ok(())
    }
}
