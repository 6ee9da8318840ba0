//! The way to a peer that answers as the test wants it.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use license::product::NodeId;

use super::*;
use crate::acquaintance::epoch::Epoch;
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

/// The one who is to lead refuses the message that says so, because an append
/// overtook it. It is told again; else the cluster would wait for an election.
#[tokio::test]
async fn who_is_to_lead_is_told_again_when_the_message_was_overtaken() {
    let (came, incarnation) = (Arc::new(AtomicU32::new(0)), Incarnation([1; 16]));
    let there = Endpoints { peer: "node-2:22451".into(), client: "node-2:22450".into() };
    let known = [(2, there.peer.clone())];
    let peers = Peers::new(1, known, Arc::new(TooLate(came.clone())), incarnation);
    let log = Log::open(Platter::new().open(), |_| {}).await.expect("an empty disk");
    let machine = Machine::open(Platter::new().open()).await.expect("an empty disk");
    let clearance = Clearance::new();
    let (node, links) = (NodeId(1), peers.clone());
    let acquaintances =
        Acquaintances::new(node, incarnation, links, log, Epoch::default, clearance.clone());
    assert!(clearance.give());
    let mut network =
        Factory::new(peers, acquaintances, machine.view()).new_client(2, &there).await;

    let transfer = TransferLeaderRequest::new(Vote::new_committed(1, 1), 2, None);
    let told = network.transfer_leader(transfer, RPCOption::new(Duration::from_millis(400))).await;
    told.expect_err("it never comes in time");
    assert!(came.load(Ordering::SeqCst) > 1, "it was told once");
}
