//! Raft's messages on their way in, and what else peers ask of one another.

use std::convert::Infallible;
use std::pin::Pin;
use std::time::Duration;

use axum::Router;
use axum::middleware::{self, Next};
use futures_util::{Stream, StreamExt};
use ledger::command::Command;
use license::product::{ClusterId, NodeId};
use openraft::async_runtime::WatchReceiver as _;
use openraft::raft::{AppendEntriesRequest, SnapshotResponse, TransferLeaderRequest, VoteRequest};
use openraft::vote::RaftLeaderId as _;
use pki::Fingerprint;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, Streaming};
use wire::peer::hello_reply::Verdict;
use wire::peer::peer_server::{Peer, PeerServer};
use wire::peer::{
    BuildReply, BuildRequest, CommitTermReply, CommitTermRequest, ContainerReply, ContainerRequest,
    ForwardReply, ForwardRequest, HelloReply, HelloRequest, HistoryReply, HistoryRequest,
    NodePromise, Packed, PresentReply, PresentRequest, RepairHalfReply, RepairHalfRequest,
    RepairReply, RepairRequest, RepairRestRequest, SignTermReply, SignTermRequest, VisitRequest,
    forward_reply,
};

use super::arrival::Arrivals;
use super::forward::may_be_forwarded;
use super::message::{pack, unpack};
use super::{Raft, Snapshot, SnapshotHeader, TypeConfig, Vote, spawn};
use crate::acquaintance::{Acquaintances, Unmet};
use crate::clearance::{Clearance, WAITS};
use crate::identity as connection;
use crate::peers::{Incarnation, MESSAGE_BYTES_MAX, Peers};
use crate::reach::Reach;
use crate::recall::{PAGES_BYTES_MAX, PAGES_MAX};
use crate::repair::Repairs;
use crate::roster::Roster;
use crate::service::Service;
use crate::shares::Shares;
use crate::status::RaftRole;
use crate::store::machine::SnapshotBytes;
use crate::visit::Visits;

/// What reaches a node that is about to be cleared waits so long for it.
const CLEARANCE_WAIT_MAX: Duration = Duration::from_millis(300);

/// What a node answers to its peers.
pub(crate) struct PeerDoor {
    pub(crate) raft: Raft,
    pub(crate) service: Service,
    pub(crate) shares: Shares,
    pub(crate) acquaintances: Acquaintances,
    pub(crate) clearance: Clearance,
    pub(crate) reach: Reach,
    pub(crate) roster: Roster,
    pub(crate) repairs: Repairs,
    pub(crate) snapshots: Arrivals,
    pub(crate) peers: Peers,
    pub(crate) visits: Visits,
    /// Where clients reach this node, as its configuration says.
    pub(crate) client_address: String,
}

impl PeerDoor {
    /// As routes. Who is not admitted hears so before a byte of its message is
    /// read: a message of a peer may be long.
    pub(crate) fn routes(self) -> Router {
        let (roster, service) = (self.roster.clone(), self.service.clone());
        let door = PeerServer::new(self)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let routes = tonic::service::Routes::new(door).into_axum_router();
        routes.route_layer(middleware::from_fn(
            move |request: axum::extract::Request, next: Next| {
                let admitted = admitted(&roster, &service, request.extensions().get());
                async move {
                    match admitted {
                        Ok(_) => next.run(request).await,
                        Err(status) => status.into_http(),
                    }
                }
            },
        ))
    }

    /// Lets in the members of this cluster and nobody else.
    fn admit<T>(&self, request: Request<T>) -> Result<(u64, T), Status> {
        let id = admitted(&self.roster, &self.service, request.extensions().get())?;
        Ok((id, request.into_inner()))
    }

    /// Lets in the process of a member that this node has met, once this node
    /// itself is cleared (S21).
    async fn hear<T>(&self, request: Request<T>) -> Result<(Heard, T), Status> {
        let incarnation = Incarnation::shown(request.metadata());
        let peer = request.extensions().get::<connection::Peer>();
        let certificate = peer.and_then(|peer| peer.certificate);
        let (node, message) = self.admit(request)?;
        if !self.clearance.given_within(CLEARANCE_WAIT_MAX).await {
            return Err(Status::unauthenticated(format!("this node {WAITS}")));
        }
        self.acquaintances.meet(node, incarnation).await?;
        let Some(incarnation) = incarnation else { return Err(Unmet::Nameless.into()) };
        let (service, acquaintances) = (self.service.clone(), self.acquaintances.clone());
        let reach = self.reach.clone();
        Ok((Heard { node, incarnation, certificate, service, acquaintances, reach }, message))
    }

    /// One message of Raft, whose vote must be the caller's own, and what goes
    /// with its answer.
    async fn message<T: DeserializeOwned>(
        &self,
        request: Request<Packed>,
        vote: impl FnOnce(&T) -> &Vote,
    ) -> Result<(T, Promises), Status> {
        let (caller, packed) = self.hear(request).await?;
        caller.message(&packed, vote)
    }

    /// The answer to a message of Raft, of a node that still takes part.
    ///
    /// Only a stopped Raft fails here; the process is about to end and says why
    /// itself.
    fn answer<A: Serialize>(
        &self,
        result: Result<A, impl std::fmt::Display>,
        promises: Promises,
    ) -> Result<Response<Packed>, Status> {
        answer(&self.acquaintances, result, promises).map(Response::new)
    }
}

/// What goes with the answer to a message of Raft: see
/// [`Acquaintances::promises_to`].
type Promises = Vec<NodePromise>;

fn answer<A: Serialize>(
    acquaintances: &Acquaintances,
    result: Result<A, impl std::fmt::Display>,
    promises: Promises,
) -> Result<Packed, Status> {
    // A message may have come before this node was denied.
    acquaintances.require_cleared()?;
    match result {
        Ok(answer) => Ok(Packed { promises, origin: acquaintances.origin(), ..pack(&answer)? }),
        Err(stopped) => Err(Status::unavailable(stopped.to_string())),
    }
}

/// A process that is heard.
struct Heard {
    node: u64,
    incarnation: Incarnation,
    certificate: Option<Fingerprint>,
    service: Service,
    acquaintances: Acquaintances,
    reach: Reach,
}

impl Heard {
    /// A stream outlives the moment its certificate is revoked; what comes over it does not.
    fn require_unrevoked(&self) -> Result<(), Status> {
        require_unrevoked(&self.service, self.certificate)
    }

    /// What `packed` says, if its vote is the caller's own, the caller is still
    /// the process that is heard, and neither has lost what the other remembers
    /// of it; and what goes with the answer. Notes the promises that came with it.
    fn message<T: DeserializeOwned>(
        &self,
        packed: &Packed,
        vote: impl FnOnce(&T) -> &Vote,
    ) -> Result<(T, Promises), Status> {
        let Self { node, acquaintances, .. } = self;
        if !acquaintances.has_met(*node, self.incarnation) {
            return Err(Status::unauthenticated("a newer process runs as this node"));
        }
        self.require_unrevoked()?;
        acquaintances.compare_message(*node, packed)?;
        self.reach.admit(packed.level)?;
        let message = unpack(packed)?;
        let vote = vote(&message);
        require_own(vote, *node)?;
        let promises = acquaintances.promises_to(*node);
        acquaintances.note_all(*node, vote, packed);
        Ok((message, promises))
    }

    /// The same of entries, which must be those that were sent before.
    fn append(
        &self,
        packed: &Packed,
    ) -> Result<(AppendEntriesRequest<TypeConfig>, Promises), Status> {
        let (message, promises) =
            self.message(packed, |append: &AppendEntriesRequest<TypeConfig>| &append.vote)?;
        let Self { node, incarnation, acquaintances, .. } = self;
        acquaintances.require_same_entries(*node, *incarnation, &message.entries)?;
        Ok((message, promises))
    }
}

/// The member of this cluster that calls, if it is one.
fn admitted(
    roster: &Roster,
    service: &Service,
    peer: Option<&connection::Peer>,
) -> Result<u64, Status> {
    let identity = peer.and_then(|peer| peer.identity.as_ref());
    let Some(id) = identity.and_then(pki::Identity::node_id) else {
        return Err(Status::permission_denied("only this cluster's nodes are served here"));
    };
    roster.admit(NodeId(id))?;
    require_unrevoked(service, peer.and_then(|peer| peer.certificate))?;
    Ok(id)
}

/// Whom an operator shut out is not heard, over whatever connection.
fn require_unrevoked(service: &Service, shown: Option<Fingerprint>) -> Result<(), Status> {
    if shown.is_some_and(|shown| service.peek(|ledger| ledger.is_revoked(&shown.0))) {
        return Err(Status::permission_denied("the certificate of this node was revoked"));
    }
    Ok(())
}

/// Nobody stands for election, or leads, in another node's name.
fn require_own(vote: &Vote, caller: u64) -> Result<(), Status> {
    if *vote.leader_id().node_id() == caller {
        return Ok(());
    }
    Err(Status::permission_denied(format!("node-{caller} shows the vote of another node")))
}

#[tonic::async_trait]
impl Peer for PeerDoor {
    async fn hello(&self, request: Request<HelloRequest>) -> Result<Response<HelloReply>, Status> {
        let incarnation = Incarnation::shown(request.metadata());
        let (caller, hello) = self.admit(request)?;
        let reply = self.acquaintances.greet(caller, incarnation, hello).await;
        if reply.verdict() == Verdict::Welcome {
            // It has just started, and its old connections ended with it.
            drop(spawn(self.peers.clone().open(caller)));
        }
        Ok(Response::new(reply))
    }

    async fn present(
        &self,
        request: Request<PresentRequest>,
    ) -> Result<Response<PresentReply>, Status> {
        let (caller, _) = self.admit(request)?;
        Ok(Response::new(self.acquaintances.present(caller)))
    }

    async fn append_entries(&self, request: Request<Packed>) -> Result<Response<Packed>, Status> {
        let (caller, packed) = self.hear(request).await?;
        let (message, promises) = caller.append(&packed)?;
        self.answer(self.raft.append_entries(message).await, promises)
    }

    type StreamAppendStream = Pin<Box<dyn Stream<Item = Result<Packed, Status>> + Send>>;

    async fn stream_append(
        &self,
        request: Request<Streaming<Packed>>,
    ) -> Result<Response<Self::StreamAppendStream>, Status> {
        // A message that does not decode, or shows another's vote, ends the
        // stream as a broken connection would.
        let (caller, messages) = self.hear(request).await?;
        // Answers come in the order of the messages, one for each.
        let (tell, mut told) = mpsc::unbounded_channel();
        let requests = messages
            .map(move |message| {
                let (message, promises) = caller.append(&message?)?;
                // Who hears no more answers sends no more messages either.
                let _ = tell.send(promises);
                Ok::<_, Status>(message)
            })
            .take_while(|request| std::future::ready(request.is_ok()))
            .filter_map(|request| std::future::ready(request.ok()));
        let acquaintances = self.acquaintances.clone();
        // Conflict and higher vote are answers, not failures of the call.
        let answers = self.raft.stream_append(requests).map(move |answered| {
            answer(&acquaintances, answered, told.try_recv().unwrap_or_default())
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn vote(&self, request: Request<Packed>) -> Result<Response<Packed>, Status> {
        let (message, promises) =
            self.message(request, |asked: &VoteRequest<TypeConfig>| &asked.vote).await?;
        self.answer(self.raft.vote(message).await, promises)
    }

    async fn pre_vote(&self, request: Request<Packed>) -> Result<Response<Packed>, Status> {
        let (message, promises) =
            self.message(request, |asked: &VoteRequest<TypeConfig>| &asked.vote).await?;
        self.answer(self.raft.pre_vote(message).await, promises)
    }

    async fn transfer_leader(&self, request: Request<Packed>) -> Result<Response<Packed>, Status> {
        let from = TransferLeaderRequest::<TypeConfig>::from_leader;
        let (message, promises) = self.message(request, from).await?;
        let own = self.service.node_status();
        // Raft would have whoever is named stand for election.
        if *message.to_node_id() == own.id && own.role == RaftRole::Learner {
            return Err(Status::failed_precondition("this node has no vote, so it cannot lead"));
        }
        self.answer(self.raft.handle_transfer_leader(message).await, promises)
    }

    async fn install_snapshot(
        &self,
        request: Request<Streaming<Packed>>,
    ) -> Result<Response<Packed>, Status> {
        let (caller, mut messages) = self.hear(request).await?;
        let first = messages
            .message()
            .await?
            .ok_or_else(|| Status::invalid_argument("a snapshot begins with its header"))?;
        let (header, promises) = caller.message(&first, |header: &SnapshotHeader| &header.vote)?;
        // As Raft would answer when all of it is here.
        let own = self.raft.server_metrics().borrow_watched().vote;
        let is_current = header.vote >= own;
        if !is_current {
            let refused = SnapshotResponse::<TypeConfig>::new(own);
            return self.answer(Ok::<_, Infallible>(refused), promises);
        }
        let arrival = self.snapshots.begin(header.vote, own)?;
        let bytes = arrival.receive(header.bytes, messages).await?;
        // Minutes may have passed since it began.
        caller.require_unrevoked()?;
        let snapshot = Snapshot { meta: header.meta, snapshot: SnapshotBytes(bytes.into()) };
        let raft = self.raft.clone();
        // Raft goes on with it when its sender has given up, and until then no other begins.
        let installed = spawn(async move {
            let _arrival = arrival;
            raft.install_full_snapshot(header.vote, snapshot).await
        });
        let installed = installed.await.map_err(|ended| Status::unavailable(ended.to_string()))?;
        self.answer(installed, promises)
    }

    async fn forward(
        &self,
        request: Request<ForwardRequest>,
    ) -> Result<Response<ForwardReply>, Status> {
        let (_, ForwardRequest { command, within_ms }) = self.hear(request).await?;
        let command: Command = unpack(&command.unwrap_or_default())?;
        if !may_be_forwarded(&command) {
            return Err(Status::permission_denied(
                "a node hands on what applications and operators ask about seats; operators ask the leader everything else themselves",
            ));
        }
        // One hop only: a node that does not lead says so.
        let within = Duration::from_millis(within_ms.into());
        let result = match self.service.submit_forwarded(command, within).await {
            Ok(reply) => forward_reply::Result::Reply(pack(&reply)?),
            Err(why) => match why.to_wire() {
                Some(not_done) => forward_reply::Result::NotDone(not_done),
                None => forward_reply::Result::Unknown(why.to_string()),
            },
        };
        Ok(Response::new(ForwardReply { result: Some(result) }))
    }

    async fn container(
        &self,
        request: Request<ContainerRequest>,
    ) -> Result<Response<ContainerReply>, Status> {
        let cluster = <[u8; 16]>::try_from(self.admit(request)?.1.cluster.as_slice())
            .map_err(|_| Status::invalid_argument("a cluster id has 16 bytes"))?;
        let request = self
            .shares
            .container_request(ClusterId(cluster))
            .map_err(Status::failed_precondition)?;
        Ok(Response::new(ContainerReply {
            request: request.encode(),
            client_address: self.client_address.clone(),
            formed: self.service.peek(|ledger| ledger.charter().is_some()),
            version: env!("CARGO_PKG_VERSION").to_owned(),
        }))
    }

    async fn visit(
        &self,
        request: Request<VisitRequest>,
    ) -> Result<Response<ContainerReply>, Status> {
        let (caller, request) = self.hear(request).await?;
        let leader = self.service.leader();
        self.visits.pay(caller.node, leader, request).await.map(Response::new)
    }

    async fn build(&self, request: Request<BuildRequest>) -> Result<Response<BuildReply>, Status> {
        self.admit(request)?;
        let build = crate::build::ours();
        let (version, highest_level) = (build.version.to_string(), build.highest.number().into());
        Ok(Response::new(BuildReply { version, highest_level }))
    }

    async fn commit_term(
        &self,
        request: Request<CommitTermRequest>,
    ) -> Result<Response<CommitTermReply>, Status> {
        self.shares.commit(&self.admit(request)?.1).map(Response::new)
    }

    async fn sign_term(
        &self,
        request: Request<SignTermRequest>,
    ) -> Result<Response<SignTermReply>, Status> {
        self.shares.sign(&self.admit(request)?.1).map(Response::new)
    }

    async fn repair(
        &self,
        request: Request<RepairRequest>,
    ) -> Result<Response<RepairReply>, Status> {
        let (caller, request) = self.admit(request)?;
        self.repairs.help(caller, request).await.map(Response::new)
    }

    async fn repair_half(
        &self,
        request: Request<RepairHalfRequest>,
    ) -> Result<Response<RepairHalfReply>, Status> {
        let (caller, request) = self.admit(request)?;
        self.repairs.swap(caller, &request).map(Response::new)
    }

    async fn repair_rest(
        &self,
        request: Request<RepairRestRequest>,
    ) -> Result<Response<RepairReply>, Status> {
        let (caller, request) = self.admit(request)?;
        self.repairs.rest(caller, &request).map(Response::new)
    }

    async fn history(
        &self,
        request: Request<HistoryRequest>,
    ) -> Result<Response<HistoryReply>, Status> {
        let (_, HistoryRequest { from_page, until_page }) = self.admit(request)?;
        let until = until_page.min(from_page.saturating_add(PAGES_MAX));
        let pages = self.service.history().read(from_page..until, PAGES_BYTES_MAX).await;
        let pages = pages.map_err(|why| Status::not_found(why.to_string()))?;
        Ok(Response::new(HistoryReply { pages }))
    }
}
