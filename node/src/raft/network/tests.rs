//! The way to a peer that answers as the test wants it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use license::product::NodeId;

use super::*;
use crate::acquaintance::origin::KnownOrigin;
use crate::clearance::Clearance;
use crate::peers::{Dial, Dialing, Incarnation, Stream as PeerStream};
use crate::store::log::Log;
use crate::store::machine::Machine;
use crate::store::mem::Platter;

/// A peer for whom every message comes too late; how many came.
struct TooLate(Arc<AtomicU32>);

impl Dial for TooLate {
    fn dial(&self, _: u64, _: &str) -> Dialing {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let came = self.0.clone();
        tokio::spawn(async move {
            let refuse = service_fn(move |_| {
                came.fetch_add(1, Ordering::SeqCst);
                let aborted = Status::aborted("a later message came before this one");
                std::future::ready(Ok::<_, Infallible>(aborted.into_http::<String>()))
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(serving.serve_connection(TokioIo::new(far), refuse).await);
        });
        Box::pin(async move { Ok(Box::new(near) as Box<dyn PeerStream>) })
    }
}

/// A peer that takes every snapshot, and is of this vote.
struct Takes(Vote);

impl Dial for Takes {
    fn dial(&self, _: u64, _: &str) -> Dialing {
        let (near, far) = tokio::io::duplex(64 * 1024);
        let vote = self.0;
        tokio::spawn(async move {
            let take = service_fn(move |request| async move {
                let mut grpc = tonic::server::Grpc::new(tonic_prost::ProstCodec::default());
                Ok::<_, Infallible>(grpc.client_streaming(Taking(vote), request).await)
            });
            let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            drop(serving.serve_connection(TokioIo::new(far), take).await);
        });
        Box::pin(async move { Ok(Box::new(near) as Box<dyn PeerStream>) })
    }
}

struct Taking(Vote);

impl tonic::server::ClientStreamingService<Packed> for Taking {
    type Response = Packed;
    type Future = BoxFuture<'static, Result<tonic::Response<Packed>, Status>>;

    fn call(&mut self, request: tonic::Request<tonic::Streaming<Packed>>) -> Self::Future {
        let vote = self.0;
        Box::pin(async move {
            let mut chunks = request.into_inner();
            while chunks.message().await?.is_some() {}
            pack(&SnapshotResponse::<TypeConfig>::new(vote)).map(tonic::Response::new)
        })
    }
}

/// Node 1, with this way to node 2.
async fn node_1(dial: impl Dial) -> (Acquaintances, Network) {
    let incarnation = Incarnation([1; 16]);
    let there = Endpoints { peer: "node-2:22451".into(), client: "node-2:22450".into() };
    let known = [(2, there.peer.clone())];
    let peers = Peers::new(1, known, Arc::new(dial), incarnation);
    let log = Log::open(Platter::new().open(), |_| {}).await.expect("an empty disk");
    let machine = Machine::open(Platter::new().open()).await.expect("an empty disk");
    let clearance = Clearance::new();
    let (node, links) = (NodeId(1), peers.clone());
    let acquaintances =
        Acquaintances::new(node, incarnation, links, log, KnownOrigin::default, clearance.clone());
    assert!(clearance.give());
    let mut factory = Factory::new(peers, acquaintances.clone(), machine.view());
    (acquaintances, factory.new_client(2, &there).await)
}

/// Who took a snapshot is in its leader's term, and that is noted: put back to
/// before, it might vote in that term (S21). How far its log reaches it has not
/// said. Who refused it for a newer leader promised this one nothing.
#[tokio::test]
async fn who_took_a_snapshot_has_promised_its_leaders_term() {
    let ours = Vote::new_committed(5, 1);
    for (answered, noted) in [(ours, 5), (Vote::new_committed(6, 3), 0)] {
        let (acquaintances, mut network) = node_1(Takes(answered)).await;
        let snapshot = Snapshot {
            meta: crate::raft::SnapshotMeta::default(),
            snapshot: SnapshotBytes(vec![7; 10].into()),
        };
        let option = RPCOption::new(Duration::from_secs(5));
        let sent = network.full_snapshot(ours, snapshot, std::future::pending(), option).await;
        assert_eq!(sent.expect("answered").vote, answered);
        assert_eq!(acquaintances.remembered(2), Promise { term: noted, held: None });
    }
}

/// The one who is to lead refuses the message that says so, because an append
/// overtook it. It is told again; else the cluster would wait for an election.
#[tokio::test]
async fn who_is_to_lead_is_told_again_when_the_message_was_overtaken() {
    let came = Arc::new(AtomicU32::new(0));
    let (_, mut network) = node_1(TooLate(came.clone())).await;

    let transfer = TransferLeaderRequest::new(Vote::new_committed(1, 1), 2, None);
    let told = network.transfer_leader(transfer, RPCOption::new(Duration::from_millis(400))).await;
    told.expect_err("it never comes in time");
    assert!(came.load(Ordering::SeqCst) > 1, "it was told once");
}
