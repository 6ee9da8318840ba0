//! Raft's messages on their way out.
//!
//! Every call has its own deadline: a partition may eat bytes and leave the
//! connection open. An answer counts only if who gives it still keeps what this
//! node remembered of it before it asked (S21).

use std::collections::VecDeque;
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt, stream};
use ledger::Ledger;
use ledger::level::Level;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::Instant;
use tonic::{Code, Status};
use wire::peer::Packed;

use super::message::{pack, pack_entries, unpack};
use super::{Endpoints, LogId, Snapshot, SnapshotHeader, TypeConfig, Vote};
use crate::acquaintance::Acquaintances;
use crate::peers::{Client, Peers, never_sent};
use crate::store::machine::{SnapshotBytes, View};
use crate::store::promise::Promise;

type RpcError = RPCError<TypeConfig>;

/// Bytes of a snapshot in one message.
const CHUNK_BYTES: usize = 256 << 10;

/// An append is answered after the follower's sync, which on a slow or busy disk
/// takes longer than Raft lets a heartbeat wait. Giving up on it means to send
/// its entries once more, over a new stream.
const APPEND_ANSWER_MAX: Duration = Duration::from_millis(500);

/// Between two tries to tell a node that it is to lead.
const TELL_AGAIN: Duration = Duration::from_millis(10);

/// Makes a [`Network`] for each peer.
pub(crate) struct Factory {
    peers: Peers,
    acquaintances: Acquaintances,
    view: View,
}

impl Factory {
    pub(crate) fn new(peers: Peers, acquaintances: Acquaintances, view: View) -> Self {
        Self { peers, acquaintances, view }
    }
}

impl RaftNetworkFactory<TypeConfig> for Factory {
    type Network = Network;

    async fn new_client(&mut self, target: u64, node: &Endpoints) -> Network {
        // Raft may learn of a node before anybody else here does.
        self.peers.meet(target, &node.peer);
        Network {
            id: target,
            client: self.peers.raft(target),
            peers: self.peers.clone(),
            target: format!("node-{target} at {node}"),
            acquaintances: self.acquaintances.clone(),
            view: self.view.clone(),
        }
    }
}

/// The way to one peer.
pub(crate) struct Network {
    /// `None` only for this node itself.
    client: Option<Client>,
    id: u64,
    peers: Peers,
    target: String,
    acquaintances: Acquaintances,
    view: View,
}

impl Network {
    /// The way there, for a node that takes part.
    fn client(&self) -> Result<Client, Status> {
        self.acquaintances.require_cleared()?;
        self.client.clone().ok_or_else(|| {
            Status::failed_precondition(format!("{} is this node itself", self.target))
        })
    }

    fn failed(&self, status: &Status) -> RpcError {
        self.peers.heed(status);
        let what = format!("{}: {}", self.target, status.message());
        let is_unknown = status.code() == Code::Unauthenticated;
        if is_unknown {
            self.acquaintances.is_unknown_to(self.id);
        }
        if never_sent(status) || is_unknown || self.client().is_err() {
            // Backs off before the next try; a dead peer is not dialed in a hot loop.
            return Unreachable::from_string(what).into();
        }
        NetworkError::from_string(what).into()
    }

    /// A message of Raft, with what this node knows of promises, of the feature
    /// level and of its origin.
    fn pack(&self, message: &impl Serialize) -> Result<Packed, Status> {
        let (promises, level) = (self.acquaintances.promises(), self.level().number().into());
        Ok(Packed { promises, level, origin: self.acquaintances.origin(), ..pack(message)? })
    }

    /// What an answer says, if it counts: `remembered` is what this node knew of
    /// the peer before it asked.
    fn counted<A: DeserializeOwned>(
        &self,
        answer: &Packed,
        remembered: Promise,
    ) -> Result<A, Status> {
        self.acquaintances.compare(self.id, answer, remembered)?;
        unpack(answer)
    }

    fn level(&self) -> Level {
        self.view.look(Ledger::level)
    }

    /// Remembers that the peer is in `term` and that its disk reaches `last`.
    fn acknowledged(&self, term: u64, last: Option<LogId>) {
        self.acquaintances.note(self.id, Promise::new(term, last));
    }

    /// One request, one answer, one deadline.
    async fn call<A, F>(
        &self,
        request: Result<Packed, Status>,
        within: Duration,
        send: impl FnOnce(Client, Packed) -> F,
    ) -> Result<A, RpcError>
    where
        A: DeserializeOwned,
        F: Future<Output = Result<tonic::Response<Packed>, Status>>,
    {
        let remembered = self.acquaintances.remembered(self.id);
        let answer = async {
            let answer = send(self.client()?, request?).await?;
            self.counted(answer.get_ref(), remembered)
        };
        match tokio::time::timeout(within, answer).await {
            Ok(answer) => answer.map_err(|status| self.failed(&status)),
            Err(_) => Err(self.failed(&Status::deadline_exceeded("no answer in time"))),
        }
    }
}

impl RaftNetworkV2<TypeConfig> for Network {
    type SnapshotData = SnapshotBytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RpcError> {
        let (term, last) = (request.vote.leader_id().term, reach(&request));
        let message = pack_append(self.level(), &self.acquaintances, &request);
        let answer = self
            .call(message, option.soft_ttl(), |mut client, message| async move {
                client.append_entries(message).await
            })
            .await?;
        match answer {
            AppendEntriesResponse::Success => self.acknowledged(term, last),
            AppendEntriesResponse::PartialSuccess(last) => self.acknowledged(term, last),
            AppendEntriesResponse::Conflict | AppendEntriesResponse::HigherVote(_) => {}
        }
        Ok(answer)
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        // Raft cuts off a heartbeat by itself; of the stream of entries this would be too short.
        _option: RPCOption,
    ) -> BoxFuture<
        's,
        Result<BoxStream<'s, Result<StreamAppendResult<TypeConfig>, RpcError>>, RpcError>,
    >
    where
        S: Stream<Item = AppendEntriesRequest<TypeConfig>> + Send + Unpin + 'static,
    {
        Box::pin(async move {
            // Dialing for a stream that will carry nothing would dial a dead peer in a loop.
            let Some(first) = input.next().await.filter(|first| !is_hollow(first)) else {
                return Ok(stream::empty().boxed());
            };
            // A stream is one leader's, and so of one term.
            let term = first.vote.leader_id().term;
            let unanswered = Unanswered::default();
            let (sent, id) = (unanswered.clone(), self.id);
            let acquaintances = self.acquaintances.clone();
            // As of now: entries of a later level say so themselves.
            let level = self.level();
            let outbound = stream::iter([first])
                .chain(input)
                .take_while(|request| std::future::ready(!is_hollow(request)))
                .map(move |request| {
                    // A stream outlives the moment at which this node is denied.
                    acquaintances.require_cleared()?;
                    sent.all().push_back(acquaintances.remembered(id));
                    pack_append(level, &acquaintances, &request)
                })
                // A request that is not sent ends the stream; Raft then starts another.
                .take_while(|message| std::future::ready(message.is_ok()))
                .filter_map(|message| std::future::ready(message.ok()));

            let opening = async { self.client()?.stream_append(outbound).await };
            let inbound = match tokio::time::timeout(APPEND_ANSWER_MAX, opening).await {
                Ok(Ok(answer)) => answer.into_inner(),
                Ok(Err(status)) => return Err(self.failed(&status)),
                Err(_) => {
                    return Err(self.failed(&Status::deadline_exceeded("stream did not open")));
                }
            };
            let network = &*self;
            let answers = stream::unfold(Some(inbound), move |inbound| {
                let unanswered = unanswered.clone();
                async move {
                    let mut inbound = inbound?;
                    let answer = next_answer(&mut inbound, &unanswered, APPEND_ANSWER_MAX).await?;
                    let answer = answer.and_then(|(answer, remembered)| {
                        network.counted::<StreamAppendResult<TypeConfig>>(&answer, remembered)
                    });
                    match answer {
                        Ok(answer) => {
                            if let Ok(last) = &answer {
                                network.acknowledged(term, *last);
                            }
                            Some((Ok(answer), Some(inbound)))
                        }
                        Err(status) => Some((Err(network.failed(&status)), None)),
                    }
                }
            });
            Ok(answers.boxed())
        })
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        let answer: VoteResponse<TypeConfig> = self
            .call(self.pack(&request), option.hard_ttl(), |mut client, message| async move {
                client.vote(message).await
            })
            .await?;
        if answer.is_granted_to(&request.vote) {
            self.acknowledged(request.vote.leader_id().term, None);
        }
        Ok(answer)
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RpcError> {
        self.call(self.pack(&request), option.hard_ttl(), |mut client, message| async move {
            client.pre_vote(message).await
        })
        .await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let bytes = snapshot.snapshot.0;
        let term = vote.leader_id().term;
        let header = SnapshotHeader { vote, meta: snapshot.meta, bytes: bytes.len() as u64 };
        let send = async {
            let header = self.pack(&header)?;
            let (format, level) = (header.format, header.level);
            let packed = |chunk: &[u8]| {
                let body = chunk.to_vec();
                Packed { format, body, level, ..Packed::default() }
            };
            let chunks = bytes.chunks(CHUNK_BYTES).map(packed).collect::<Vec<_>>();
            let messages = stream::iter(std::iter::once(header).chain(chunks));
            let remembered = self.acquaintances.remembered(self.id);
            let answer = self.client()?.install_snapshot(messages).await?;
            let answer: SnapshotResponse<TypeConfig> =
                self.counted(answer.get_ref(), remembered)?;
            if answer.vote == vote {
                // How far its log reaches it says itself, once that is so: it may
                // have refused the snapshot, and purges behind it later.
                self.acknowledged(term, None);
            }
            Ok::<_, Status>(answer)
        };
        tokio::select! {
            closed = cancel => Err(closed.into()),
            () = tokio::time::sleep(option.soft_ttl()) => {
                Err(NetworkError::from_string(format!("{}: snapshot not taken in time", self.target)).into())
            }
            answer = send => answer.map_err(|status| self.failed(&status).into()),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RpcError> {
        // Raft tells each node once, and one that does not hear it makes the
        // cluster wait for an election. So it is told again: a message may be
        // overtaken by an append, and be refused for it, or end with its connection.
        let deadline = Instant::now() + option.soft_ttl();
        loop {
            let within = deadline.saturating_duration_since(Instant::now());
            let told = self
                .call(self.pack(&request), within, |mut client, message| async move {
                    client.transfer_leader(message).await
                })
                .await;
            match told {
                Err(error) if Instant::now() + TELL_AGAIN < deadline => {
                    tracing::debug!(%error, "a node is told again who is to lead");
                    tokio::time::sleep(TELL_AGAIN).await;
                }
                told => return told,
            }
        }
    }
}

/// Whether it brings nothing although more is committed: what it was to bring has
/// been purged. Such a stream ends, so that Raft looks at what to send instead.
fn is_hollow(append: &AppendEntriesRequest<TypeConfig>) -> bool {
    append.entries.is_empty() && append.prev_log_id < append.leader_commit
}

/// Entries, with what this node knows of promises and of restores.
fn pack_append(
    level: Level,
    acquaintances: &Acquaintances,
    append: &AppendEntriesRequest<TypeConfig>,
) -> Result<Packed, Status> {
    let packed = pack_entries(level, acquaintances.promises(), append)?;
    Ok(Packed { origin: acquaintances.origin(), ..packed })
}

/// How far a follower's log reaches that has taken in all of `request`.
fn reach(request: &AppendEntriesRequest<TypeConfig>) -> Option<LogId> {
    request.entries.last().map(|entry| entry.log_id).or(request.prev_log_id)
}

/// What was remembered of the peer before each request that it has not answered.
/// Clones share it.
#[derive(Clone, Default)]
struct Unanswered(Arc<Mutex<VecDeque<Promise>>>);

impl Unanswered {
    fn all(&self) -> MutexGuard<'_, VecDeque<Promise>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The next answer of an append stream, with what was remembered before its
/// request; an error if one is owed and does not come.
async fn next_answer(
    inbound: &mut tonic::Streaming<Packed>,
    unanswered: &Unanswered,
    within: Duration,
) -> Option<Result<(Packed, Promise), Status>> {
    loop {
        let answer = match tokio::time::timeout(within, inbound.message()).await {
            Ok(Ok(Some(answer))) => answer,
            Ok(Ok(None)) => return None,
            Ok(Err(status)) => return Some(Err(status)),
            // An idle stream owes nothing; keep-alive watches its connection.
            Err(_) if unanswered.all().is_empty() => continue,
            Err(_) => return Some(Err(Status::deadline_exceeded("no answer to an append"))),
        };
        let unasked = || Status::internal("an answer came that nobody asked for");
        let remembered = unanswered.all().pop_front().ok_or_else(unasked);
        return Some(remembered.map(|remembered| (answer, remembered)));
    }
}

#[cfg(test)]
mod tests;
