//! Restoring: the backup's cluster is formed anew by the configured members.

use std::time::Duration;

use ledger::Ledger;
use ledger::backup::{Front, Header};
use ledger::command::RestoreRefusal;
use ledger::command::{Command, Outcome, Refusal, Reply, Restore, RestorePlan};
use ledger::name::Subject;
use license::product::ClusterId;

use super::{Formation, FormationError, MEMBER_WAIT_MAX};

/// What an operator asks for.
pub(crate) struct Asked {
    /// The header and its checksum, as they stand in the backup.
    pub(crate) front: Vec<u8>,
    /// For so long nothing is granted, in milliseconds.
    pub(crate) quiet_ms: u64,
    /// The new epoch, if the operator knows better than this node's clock.
    pub(crate) epoch: Option<u64>,
    /// The operator.
    pub(crate) by: Subject,
}

/// A restore that waits for its parts.
pub(crate) struct Begun {
    pub(crate) reply: Reply,
    pub(crate) plan: RestorePlan,
    /// The first part that has not arrived, as far as this node knows.
    pub(crate) next_part: u32,
}

impl Formation {
    /// Begins a restore, or goes on with it: of the same backup, into the same
    /// containers.
    ///
    /// # Errors
    /// [`FormationError`]; nothing is formed by this step.
    pub(crate) async fn begin_restore(&self, asked: Asked) -> Result<Begun, FormationError> {
        let Front { header, .. } = Front::decode(&asked.front)?;
        if let Some(cluster) = self.service.peek(|ledger| ledger.charter().map(|c| c.cluster)) {
            let formed = Box::new(RestoreRefusal::Formed { cluster });
            return Err(FormationError::Refused(Refusal::Restore(formed)));
        }
        if !self.clearance.given_within(MEMBER_WAIT_MAX).await {
            return Err(FormationError::NotCleared);
        }
        self.require_unformed(header.cluster).await?;
        let members = self.members(header.cluster).await?;
        let mut plan = RestorePlan {
            backup: header.digest,
            bytes: header.bytes,
            cluster: header.cluster,
            epoch: self.epoch(&header, &asked).await?,
            quiet_ms: asked.quiet_ms,
            ca: self.ca.der().to_vec(),
            members,
            by: asked.by,
        };
        if let (None, Some((underway, _))) = (asked.epoch, self.underway()) {
            // Clock and dice have gone on since it began; the restore is the same.
            let same = RestorePlan { epoch: underway.epoch, ..plan.clone() };
            if same == underway {
                plan = same;
            }
        }
        self.start_raft().await?;
        let reply = self.submit_first(Command::Restore(Restore::Begin(plan.clone()))).await?;
        if let Outcome::Refused(refusal) = reply.outcome {
            return Err(FormationError::Refused(refusal));
        }
        let arrived = self.underway().filter(|(underway, _)| *underway == plan);
        Ok(Begun { reply, plan, next_part: arrived.map_or(0, |(_, next)| next) })
    }

    async fn epoch(&self, header: &Header, asked: &Asked) -> Result<u64, FormationError> {
        let lowest = header.lowest_epoch();
        match asked.epoch {
            Some(asked) if asked < lowest => Err(FormationError::EpochTooLow { asked, lowest }),
            Some(asked) => Ok(asked),
            None => {
                if header.is_of_this_second(self.clock.wall()) {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
                let mut dice = [0; 8];
                self.entropy.fill(&mut dice);
                let next = header.next_epoch(self.clock.wall(), u64::from_le_bytes(dice));
                // A clock may be behind the one that an earlier attempt was begun by.
                Ok(next.max(self.service.peek(Ledger::epoch)))
            }
        }
    }

    /// The restore that this node's ledger knows of.
    fn underway(&self) -> Option<(RestorePlan, u32)> {
        self.service.peek(|ledger| ledger.restoring().map(|(plan, next)| (plan.clone(), next)))
    }

    /// Starting Raft over nodes that have a log of their own would cut them off,
    /// and a node of another build could make another ledger of the same bytes.
    async fn require_unformed(&self, cluster: ClusterId) -> Result<(), FormationError> {
        let ours = env!("CARGO_PKG_VERSION");
        for (node, endpoints) in
            self.roster.configured().iter().filter(|(node, _)| *node != self.node)
        {
            let missing = |reason: String| FormationError::MemberMissing {
                node: *node,
                address: endpoints.peer.clone(),
                reason,
            };
            let mut client = self
                .peers
                .calls(node.0)
                .ok_or_else(|| missing("it is not in this node's config".to_owned()))?;
            let request = wire::peer::ContainerRequest { cluster: cluster.0.to_vec() };
            let shown = tokio::time::timeout(MEMBER_WAIT_MAX, client.container(request))
                .await
                .map_err(|_| missing("no answer in time".to_owned()))?
                .map_err(|status| missing(status.message().to_owned()))?
                .into_inner();
            if shown.formed {
                return Err(FormationError::MemberFormed { node: *node });
            }
            if shown.version != ours {
                let (theirs, ours) = (shown.version, ours.to_owned());
                return Err(FormationError::OtherVersion { node: *node, theirs, ours });
            }
        }
        Ok(())
    }
}
