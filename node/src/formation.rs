//! Forming the cluster: three containers under one new identity, once.

pub(crate) mod restore;

use std::sync::Arc;
use std::time::Duration;

use ledger::command::{Command, Genesis, GenesisRefusal, Member, Outcome, Refusal, Reply};
use ledger::level::{HIGHEST, Level};
use ledger::{CodecError, Ledger};
use license::container::VirtualSerial;
use license::product::{ClusterId, NodeId, WallTime};
use license::request::{ClusterRequest, ContainerRequest};
use license::trust::VendorRoot;
use openraft::errors::{InitializeError, RaftError};
use pki::Ca;
use tokio::time::Instant;
use tonic::Code;
use wire::peer::ContainerReply;

use crate::answer::NotAnswered;
use crate::clearance::{Clearance, WAITS};
use crate::clock::Clock;
use crate::enrollment::{self, NotVouched};
use crate::entropy::Entropy;
use crate::peers::{Client, Peers};
use crate::raft::Raft;
use crate::roster::Roster;
use crate::service::Service;
use crate::shares::Shares;

/// How long a member may take to show its container.
const MEMBER_WAIT_MAX: Duration = Duration::from_secs(2);

/// How long the first election may take.
const ELECTION_WAIT_MAX: Duration = Duration::from_secs(5);

/// Between two tries to write genesis.
const PAUSE: Duration = Duration::from_millis(50);

/// What a node knows of the cluster it belongs to before that is formed.
pub(crate) struct Formation {
    pub(crate) node: NodeId,
    pub(crate) roster: Roster,
    pub(crate) ca: Ca,
    pub(crate) vendor_roots: Vec<VendorRoot>,
    pub(crate) raft: Raft,
    pub(crate) service: Service,
    pub(crate) peers: Peers,
    pub(crate) shares: Shares,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) entropy: Arc<dyn Entropy>,
    pub(crate) clearance: Clearance,
}

/// The cluster that was formed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Formed {
    /// Its identity.
    pub cluster: ClusterId,
    /// The container that users see.
    pub virtual_container: VirtualSerial,
}

/// Why the cluster was not formed, or why its request cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FormationError {
    /// Once only.
    #[error("the cluster is already formed")]
    AlreadyFormed,
    /// Forming needs all three.
    #[error("{node} at {address} did not show its container: {reason}; all three nodes must be up")]
    MemberMissing {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Nobody has said yet that this node lost nothing.
    #[error("this node {WAITS}; all three nodes must be up and reach one another")]
    NotCleared,
    /// A node that is to join must be up, and know who asks it.
    #[error(
        "{node} at {address} did not show its container: {reason}; start it with a configuration that names itself and the two nodes that stay, and check the address"
    )]
    Newcomer {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
        /// What happened.
        reason: String,
    },
    /// A backup is restored into nodes that have nothing to lose.
    #[error(
        "{node} belongs to a formed cluster: a backup is restored into three nodes that do not (stop all three, put their data directories aside, start them with empty ones)"
    )]
    MemberFormed {
        /// Who.
        node: NodeId,
    },
    /// Two builds could read the backup differently.
    #[error(
        "{node} runs version {theirs} and this node {ours}: restore with one version on all three nodes"
    )]
    OtherVersion {
        /// Who.
        node: NodeId,
        /// Its version.
        theirs: String,
        /// This node's.
        ours: String,
    },
    /// Tokens of seats that the backup does not know could be met again.
    #[error(
        "epoch {asked} is too low: tokens given after the backup could be given again; leave --epoch out, or give {lowest} or more, and more than any earlier restore of this backup had"
    )]
    EpochTooLow {
        /// What the operator gave.
        asked: u64,
        /// The lowest that is taken.
        lowest: u64,
    },
    /// It is no backup, or of another build.
    #[error("{0}")]
    Backup(#[from] CodecError),
    /// A container's request, or all three together, do not hold.
    #[error("the containers do not make a cluster: {0}")]
    Containers(String),
    /// The cluster CA does not vouch for a container.
    #[error(transparent)]
    NotVouched(#[from] NotVouched),
    /// Raft did not start.
    #[error("the nodes did not elect a leader: {0}")]
    Raft(String),
    /// The ledger refused.
    #[error("{0}")]
    Refused(Refusal),
    /// The ledger was not reached.
    #[error("{0}")]
    NotAnswered(#[from] NotAnswered),
}

impl Formation {
    /// Forms the cluster of the configured members.
    ///
    /// May be repeated after a failure half way: Raft's membership is the same
    /// each time, and the ledger takes the first genesis and refuses others.
    ///
    /// # Errors
    /// [`FormationError`]; nothing is formed unless it returns the cluster.
    pub(crate) async fn form(&self) -> Result<Formed, FormationError> {
        if self.service.peek(|ledger| ledger.charter().is_some()) {
            return Err(FormationError::AlreadyFormed);
        }
        if !self.clearance.given_within(MEMBER_WAIT_MAX).await {
            return Err(FormationError::NotCleared);
        }
        let mut cluster = [0; 16];
        self.entropy.fill(&mut cluster);
        let cluster = ClusterId(cluster);
        let members = self.members(cluster).await?;

        self.start_raft().await?;
        let genesis = Genesis {
            cluster,
            ca: self.ca.der().to_vec(),
            vendor_roots: self.vendor_roots.clone(),
            members,
            formed: self.clock.wall(),
            level: self.level().await?,
        };
        match self.submit_first(Command::Genesis(genesis)).await?.outcome {
            Outcome::Refused(Refusal::Genesis(GenesisRefusal::AlreadyFormed)) => {
                Err(FormationError::AlreadyFormed)
            }
            Outcome::Refused(refusal) => Err(FormationError::Refused(refusal)),
            _ => Ok(Formed { cluster, virtual_container: VirtualSerial::of(&cluster) }),
        }
    }

    /// The nodes of the configuration, as they show their containers now; the
    /// cluster CA vouches for each.
    async fn members(&self, cluster: ClusterId) -> Result<Vec<Member>, FormationError> {
        let configured: Vec<_> = self.roster.configured().iter().map(|(node, _)| *node).collect();
        let requests = self.containers(cluster, &configured).await?;
        let ours = self.ca.digest();
        enrollment::check_all(&requests, |ca| *ca == ours, self.clock.wall())?;
        let member = |request: &ContainerRequest| Member {
            node: request.node(),
            container: request.identity().clone(),
        };
        Ok(requests.iter().map(member).collect())
    }

    /// Gives Raft its first members.
    async fn start_raft(&self) -> Result<(), FormationError> {
        let nodes: std::collections::BTreeMap<_, _> =
            self.roster.configured().iter().map(|(node, found)| (node.0, found.clone())).collect();
        match self.raft.initialize(nodes).await {
            // Someone began before and did not finish.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(FormationError::Raft(error.to_string())),
        }
    }

    /// Submits the first command of a log. The first election takes a moment;
    /// while there is no leader nothing is done.
    async fn submit_first(&self, command: Command) -> Result<Reply, FormationError> {
        let give_up = Instant::now() + ELECTION_WAIT_MAX;
        loop {
            match self.service.submit(command.clone()).await {
                Err(NotAnswered::NoQuorum { .. } | NotAnswered::NotFormed)
                    if Instant::now() < give_up =>
                {
                    tokio::time::sleep(PAUSE).await;
                }
                answer => return Ok(answer?),
            }
        }
    }

    /// The request for a license, to send to the vendor.
    ///
    /// # Errors
    /// [`FormationError`] when a member does not show its container.
    pub(crate) async fn request_license(&self) -> Result<ClusterRequest, FormationError> {
        let charter = self
            .service
            .peek(|ledger| ledger.charter().cloned())
            .ok_or(FormationError::NotAnswered(NotAnswered::NotFormed))?;
        let members: Vec<_> = charter.members.iter().map(|member| member.node).collect();
        let requests = self.containers(charter.cluster, &members).await?;
        for request in &requests {
            let known = charter.member(request.node());
            if known.is_none_or(|member| member.container != *request.identity()) {
                let what = format!("{} shows another than it was formed with", request.node());
                return Err(FormationError::Containers(what));
            }
        }
        let counts = |ca: &[u8; 32]| charter.trusts_ca(ca);
        let ca = self.in_date(|now| enrollment::check_all(&requests, counts, now))?;
        ClusterRequest::new(charter.cluster, ca.digest(), requests)
            .map_err(|refusal| FormationError::Containers(refusal.to_string()))
    }

    async fn containers(
        &self,
        cluster: ClusterId,
        nodes: &[NodeId],
    ) -> Result<[ContainerRequest; 3], FormationError> {
        let mut requests = Vec::new();
        for node in nodes {
            let address = self.roster.endpoints(*node).unwrap_or_default().peer;
            let missing = |reason: String| FormationError::MemberMissing {
                node: *node,
                address: address.clone(),
                reason,
            };
            let request = if *node == self.node {
                self.shares.container_request(cluster).map_err(missing)?
            } else {
                let client = self.peers.calls(node.0);
                let client = client.ok_or_else(|| missing("its address is not known".into()))?;
                ask(client, cluster).await.map_err(missing)?.0
            };
            if request.node() != *node || request.cluster() != cluster {
                return Err(missing("it showed a container of another node or cluster".into()));
            }
            requests.push(request);
        }
        <[ContainerRequest; 3]>::try_from(requests)
            .map_err(|_| FormationError::Containers("a cluster has three nodes".into()))
    }

    /// The highest feature level that the builds of all three nodes know.
    async fn level(&self) -> Result<Level, FormationError> {
        let mut level = HIGHEST;
        let others = self.roster.configured().iter().filter(|(node, _)| *node != self.node);
        for (node, endpoints) in others {
            let highest = self.ask_level(*node).await;
            level = level.min(highest.map_err(|reason| FormationError::MemberMissing {
                node: *node,
                address: endpoints.peer.clone(),
                reason,
            })?);
        }
        Ok(level)
    }

    async fn ask_level(&self, node: NodeId) -> Result<Level, String> {
        let mut client = self.peers.calls(node.0).ok_or("it is not in this node's config")?;
        let answer =
            tokio::time::timeout(MEMBER_WAIT_MAX, client.build(wire::peer::BuildRequest {}))
                .await
                .map_err(|_| "no answer in time".to_owned())?
                .map_err(|status| status.message().to_owned())?;
        let highest = u16::try_from(answer.into_inner().highest_level).ok().and_then(Level::new);
        highest.ok_or_else(|| "it does not say what its build knows".to_owned())
    }

    /// Asks a node that is no member for its container, and for the address
    /// where clients reach it. It knows the nodes that stay and no other: where
    /// this one does not, the first of `through` that is told something asks.
    pub(crate) async fn visit(
        &self,
        node: NodeId,
        address: &str,
        through: &[u64],
    ) -> Result<(ContainerRequest, String), FormationError> {
        let missing =
            |reason: String| FormationError::Newcomer { node, address: address.to_owned(), reason };
        let charter = self.service.peek(|ledger| ledger.charter().cloned());
        let charter = charter.ok_or(FormationError::NotAnswered(NotAnswered::NotFormed))?;
        let shown = match through {
            [] => ask(self.peers.visit(node.0, address), charter.cluster).await,
            [first, others @ ..] => {
                let mut shown = self.visit_through(*first, node, address, charter.cluster).await;
                for stays in others {
                    if shown.is_ok() {
                        break;
                    }
                    shown = self.visit_through(*stays, node, address, charter.cluster).await;
                }
                shown
            }
        };
        let shown = shown.map_err(missing)?;
        if shown.0.node() != node || shown.0.cluster() != charter.cluster {
            return Err(missing("it showed a container of another node or cluster".into()));
        }
        let counts = |ca: &[u8; 32]| charter.trusts_ca(ca);
        self.in_date(|now| enrollment::check(&shown.0, counts, now))?;
        Ok(shown)
    }

    /// As `stays` is told there.
    async fn visit_through(
        &self,
        stays: u64,
        node: NodeId,
        address: &str,
        cluster: ClusterId,
    ) -> Result<(ContainerRequest, String), String> {
        let mut client =
            self.peers.calls(stays).ok_or_else(|| format!("node-{stays} is not a peer"))?;
        let (cluster, address) = (cluster.0.to_vec(), address.to_owned());
        let request = wire::peer::VisitRequest { cluster, node: node.0, address };
        let answer = tokio::time::timeout(MEMBER_WAIT_MAX, client.visit(request))
            .await
            .map_err(|_| format!("node-{stays} did not say in time what it found there"))?
            .map_err(|status| match status.code() {
                Code::FailedPrecondition => format!("node-{stays} asked it: {}", status.message()),
                _ => format!("node-{stays} did not ask it: {}", status.message()),
            })?;
        shown(answer.into_inner())
    }

    /// By this node's clock or the cluster's date.
    fn in_date<T>(
        &self,
        verify: impl Fn(WallTime) -> Result<T, NotVouched>,
    ) -> Result<T, NotVouched> {
        enrollment::in_date(self.clock.wall(), self.service.peek(Ledger::wall), verify)
    }
}

/// A node's container, and where clients reach the node.
async fn ask(mut client: Client, cluster: ClusterId) -> Result<(ContainerRequest, String), String> {
    let request = wire::peer::ContainerRequest { cluster: cluster.0.to_vec() };
    let answer = tokio::time::timeout(MEMBER_WAIT_MAX, client.container(request))
        .await
        .map_err(|_| "no answer in time".to_owned())?
        .map_err(|status| status.message().to_owned())?;
    shown(answer.into_inner())
}

fn shown(answer: ContainerReply) -> Result<(ContainerRequest, String), String> {
    let request = ContainerRequest::decode(&answer.request).map_err(|error| error.to_string())?;
    Ok((request, answer.client_address))
}
