//! A lost share made again, between three nodes: the one that is to hold it and
//! the two that hold the others.
//!
//! The new holder asks the first helper; the helpers swap halves between
//! themselves; each hands its contribution to the new holder. Nobody sees both
//! halves of another. Nobody helps unless an operator's order for that very node
//! stands in the ledger.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::command::{Command, Outcome, RepairShare};
use ledger::view::RepairNeed;
use license::product::{LicenseId, LicenseSerial, NodeId};
use license::repair::{Contribution, Half, contribute};
use tokio::time::MissedTickBehavior;
use tonic::Status;
use wire::peer::{
    RepairHalfReply, RepairHalfRequest, RepairReply, RepairRequest, RepairRestRequest,
};

use crate::outstanding::Outstanding;
use crate::peers::Peers;
use crate::service::Service;
use crate::shares::Shares;

/// How often orders are looked for.
const LOOK_INTERVAL: Duration = Duration::from_millis(500);

/// How long one call to a helper may take.
const HELPER_WAIT_MAX: Duration = Duration::from_secs(2);

type Session = [u8; 16];

/// This node's part in repairs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Repairs {
    node: NodeId,
    shares: Shares,
    peers: Peers,
    kept: Arc<Mutex<Kept>>,
}

/// The second helper's contributions that wait to be fetched, and for whom.
type Kept = Outstanding<Session, (NodeId, Contribution)>;

impl Repairs {
    pub(crate) fn new(node: NodeId, shares: Shares, peers: Peers) -> Self {
        Self { node, shares, peers, kept: Arc::default() }
    }

    /// First helper, asked by the node that is to hold the share.
    pub(crate) async fn help(
        &self,
        caller: u64,
        request: RepairRequest,
    ) -> Result<RepairReply, Status> {
        let RepairRequest { license, serial, session } = request;
        let need = self.ordered(&license, serial, NodeId(caller))?;
        let partner = self.partner(&need)?;
        let (kept, given) = self.halve(&need, partner)?;
        let mut client = self.peers.calls(partner.0).ok_or_else(|| unavailable(partner))?;
        let ask = RepairHalfRequest {
            license,
            serial,
            session,
            node: caller,
            half: given.to_bytes().to_vec(),
        };
        let theirs = tokio::time::timeout(HELPER_WAIT_MAX, client.repair_half(ask))
            .await
            .map_err(|_| unavailable(partner))??;
        let theirs = half(&theirs.into_inner().half)?;
        let contribution = contribute(kept, &theirs).map_err(refuse)?;
        Ok(RepairReply { contribution: contribution.to_bytes().to_vec() })
    }

    /// Second helper, asked by the first.
    pub(crate) fn swap(
        &self,
        caller: u64,
        request: &RepairHalfRequest,
    ) -> Result<RepairHalfReply, Status> {
        let whose = NodeId(request.node);
        let need = self.ordered(&request.license, request.serial, whose)?;
        let partner = self.partner(&need)?;
        if partner != NodeId(caller) {
            return Err(Status::permission_denied("only the other helper is helped here"));
        }
        let session = session(&request.session)?;
        let (ours, given) = self.halve(&need, partner)?;
        let contribution = contribute(ours, &half(&request.half)?).map_err(refuse)?;

        if !self.kept().keep(session, (whose, contribution)) {
            return Err(Status::resource_exhausted("too many repairs under way"));
        }
        Ok(RepairHalfReply { half: given.to_bytes().to_vec() })
    }

    /// Second helper, asked by the node that is to hold the share.
    pub(crate) fn rest(
        &self,
        caller: u64,
        request: &RepairRestRequest,
    ) -> Result<RepairReply, Status> {
        let session = session(&request.session)?;
        // Taken out before anything else: it is given once.
        let kept = self.kept().take(session);
        let (_, contribution) = kept
            .filter(|(whose, _)| *whose == NodeId(caller))
            .ok_or_else(|| Status::not_found("no such repair, or it was dropped after 2 s"))?;
        Ok(RepairReply { contribution: contribution.to_bytes().to_vec() })
    }

    /// The order of an operator that this node may help to carry out.
    fn ordered(&self, license: &str, serial: u64, node: NodeId) -> Result<RepairNeed, Status> {
        let license = LicenseId::parse(license)
            .map_err(|error| Status::invalid_argument(error.to_string()))?;
        let needs = self.shares.repair_needs(node).into_iter();
        let mut of_edition =
            needs.filter(|need| (need.license, need.serial) == (license, LicenseSerial(serial)));
        of_edition.next().ok_or_else(|| {
            Status::permission_denied(format!(
                "no operator ordered a share of license {license} for {node}"
            ))
        })
    }

    fn partner(&self, need: &RepairNeed) -> Result<NodeId, Status> {
        match need.helpers {
            [one, other] if one == self.node => Ok(other),
            [other, one] if one == self.node => Ok(other),
            _ => Err(Status::failed_precondition(format!("{} holds no share of it", self.node))),
        }
    }

    fn halve(&self, need: &RepairNeed, partner: NodeId) -> Result<(Half, Half), Status> {
        let partner = self.shares.container_of(partner).ok_or_else(|| unavailable(partner))?;
        self.shares.halve(need, partner)
    }

    /// Has the share made again for this node, and logs it.
    async fn repair(&self, service: &Service, need: RepairNeed) -> Result<(), String> {
        let session = self.shares.fresh_session();
        let [first, second] = need.helpers;
        let client = |helper: NodeId| {
            self.peers.calls(helper.0).ok_or_else(|| unavailable(helper).message().to_owned())
        };
        let ask = RepairRequest {
            license: need.license.to_string(),
            serial: need.serial.0,
            session: session.to_vec(),
        };
        let one = within(client(first)?.repair(ask)).await?;
        let rest = RepairRestRequest { session: session.to_vec() };
        let other = within(client(second)?.repair_rest(rest)).await?;
        let read = |reply: RepairReply| {
            Contribution::from_bytes(&reply.contribution).ok_or("a helper's answer makes no sense")
        };
        let contributions = [read(one)?, read(other)?];
        let (share, proof) = self.shares.restore(&need, &contributions)?;
        let RepairNeed { license, serial, node, .. } = need;
        let repaired = RepairShare { license, serial, node, share, proof };
        match service.submit(Command::RepairShare(repaired)).await.map(|reply| reply.outcome) {
            Ok(Outcome::Refused(refusal)) => Err(refusal.to_string()),
            Ok(_) => {
                tracing::info!(%license, serial = serial.0, "this node's share was made again");
                Ok(())
            }
            // The order still stands at the next look, unless it was carried out.
            Err(unanswered) => Err(unanswered.to_string()),
        }
    }

    fn kept(&self) -> MutexGuard<'_, Kept> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Carries out the orders for this node. Runs for ever.
pub(crate) async fn carry_out_orders(repairs: Repairs, service: Service) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = BTreeMap::new();
    loop {
        looks.tick().await;
        for need in repairs.shares.repair_needs(repairs.node) {
            let Err(reason) = repairs.repair(&service, need).await else { continue };
            // Once for each reason.
            if said.insert((need.license, need.serial), reason.clone()).as_ref() != Some(&reason) {
                tracing::warn!(license = %need.license, reason, "a share is not made again yet");
            }
        }
    }
}

async fn within<T>(
    call: impl Future<Output = Result<tonic::Response<T>, Status>>,
) -> Result<T, String> {
    match tokio::time::timeout(HELPER_WAIT_MAX * 2, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(status.message().to_owned()),
        Err(_) => Err("a helper did not answer in time".to_owned()),
    }
}

fn session(bytes: &[u8]) -> Result<Session, Status> {
    bytes.try_into().map_err(|_| Status::invalid_argument("a session has 16 bytes"))
}

fn half(bytes: &[u8]) -> Result<Half, Status> {
    Half::from_bytes(bytes).ok_or_else(|| Status::invalid_argument("a half has 32 bytes"))
}

fn unavailable(helper: NodeId) -> Status {
    Status::unavailable(format!("{helper}, which holds the other share, does not answer"))
}

fn refuse(error: impl std::fmt::Display) -> Status {
    Status::failed_precondition(error.to_string())
}
