//! What a peer may ask for, and how much of it at once.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use node::raft::{TypeConfig, Vote};
use openraft::raft::TransferLeaderRequest;
use tokio::task::JoinSet;
use tonic::codegen::tokio_stream::Stream;
use tonic::{Code, Request};
use tonic_prost::ProstCodec;
use wire::peer::peer_client::PeerClient;
use wire::peer::{Packed, PresentReply, PresentRequest, VisitRequest};

use super::bed::{self, connect};
use super::forwarded::{FORMAT, Member};

const NODE_2: Option<&str> = Some("trine://peer/node-2");

/// As many calls as one peer may have at once, over one connection.
const STREAMS_MAX: usize = 256;

/// The longest message of a peer, in bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

/// What a hostile leader may say, to a node that has no vote: it would stand for
/// election, and be refused by all, in a term that the others then have to pass.
#[tokio::test]
async fn a_node_without_a_vote_is_not_made_to_lead() {
    // Not formed yet, so nobody has one.
    let nodes = bed::nodes();
    let mut member = Member::second_of(&nodes).await;
    let transfer = TransferLeaderRequest::<TypeConfig>::new(Vote::new_committed(1, 2), 1, None);
    let body = postcard::to_allocvec(&transfer).expect("it encodes");
    let message = Packed { format: FORMAT, body, ..Packed::default() };
    let request = member.says(message);
    let refused = member.door.transfer_leader(request).await.unwrap_err();
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused}");
    assert!(refused.message().contains("has no vote"), "{refused}");
}

/// Where it finds nobody, and would say so to whoever leads: who may have a node
/// look there could look anywhere in the nodes' network.
#[tokio::test]
async fn only_the_leader_has_another_node_visited() {
    let nodes = bed::nodes();
    bed::form(&nodes).await;
    let visit = VisitRequest { cluster: vec![1; 16], node: 9, address: "node-9:1".to_owned() };
    let mut ways = Vec::new();
    for (other, own) in [(1, 2), (1, 3), (2, 1), (2, 3), (3, 1), (3, 2)] {
        ways.push((own, Member::at(&nodes, other, own).await));
    }
    // Who leads may change meanwhile.
    for _ in 0..200 {
        let mut let_in = Vec::new();
        for (own, member) in &mut ways {
            let unmet = member.door.visit(visit.clone()).await.unwrap_err();
            assert_eq!(unmet.code(), Code::Unauthenticated, "{unmet}");
            let request = member.says(visit.clone());
            let told = member.door.visit(request).await.unwrap_err();
            match told.code() {
                Code::FailedPrecondition => let_in.push(*own),
                Code::PermissionDenied => assert!(told.message().contains("leader"), "{told}"),
                // They have not met yet.
                Code::Unauthenticated => {}
                _ => panic!("{told:?}"),
            }
        }
        if let [one, other] = let_in[..]
            && one == other
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("the nodes never had one leader visit, and nobody else");
}

#[tokio::test]
async fn a_message_of_a_peer_over_the_limit_is_not_read() {
    let nodes = bed::nodes();
    let channel = connect(&nodes[0].peers, NODE_2).await;
    let mut door = PeerClient::new(channel).max_encoding_message_size(usize::MAX);
    let message = |bytes: usize| Packed { body: vec![0; bytes], ..Packed::default() };
    let refused = door.append_entries(message(MESSAGE_BYTES_MAX)).await.unwrap_err();
    assert_eq!(refused.code(), Code::OutOfRange, "{refused}");
    // A little less is read, and refused because nobody knows who says it.
    let read = door.append_entries(message(MESSAGE_BYTES_MAX - 64)).await.unwrap_err();
    assert_eq!(read.code(), Code::Unauthenticated, "{read}");
}

/// Nor is it waited for: who is no member may send the head of a call and as
/// much of a message as a member may, and is answered by the head.
#[tokio::test]
async fn of_a_message_of_who_is_no_member_nothing_is_read() {
    let nodes = bed::nodes();
    for stranger in ["trine://peer/node-9", "trine://application/cad"] {
        let channel = connect(&nodes[0].peers, Some(stranger)).await;
        let mut line = tonic::client::Grpc::new(channel);
        line.ready().await.expect("a connection");
        let path = http::uri::PathAndQuery::from_static("/trine.peer.v1.Peer/Present");
        let codec = ProstCodec::<PresentRequest, PresentReply>::default();
        let unending = Request::new(Silence(None));
        let call = line.client_streaming::<_, _, PresentReply, _>(unending, path, codec);
        let answer = tokio::time::timeout(Duration::from_secs(20), call).await;
        let refused = answer.expect("an answer before the message ends").unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
    }
}

/// The next call waits in the peer until one of them has ended.
#[tokio::test]
async fn one_peer_has_so_many_calls_at_once() {
    let nodes = bed::nodes();
    let channel = connect(&nodes[0].peers, NODE_2).await;
    let mut door = PeerClient::new(channel.clone());
    // Its answer tells the peer of the limit.
    door.present(PresentRequest {}).await.expect("an answer");

    let begun = Arc::new(AtomicUsize::new(0));
    let mut calls = JoinSet::new();
    let mut held = Vec::new();
    for number in 1..=STREAMS_MAX {
        let mut line = tonic::client::Grpc::new(channel.clone());
        let silence = Silence(Some(begun.clone()));
        held.push(calls.spawn(async move {
            line.ready().await.expect("a connection");
            let path = http::uri::PathAndQuery::from_static("/trine.peer.v1.Peer/Present");
            let codec = ProstCodec::<PresentRequest, PresentReply>::default();
            let request = Request::new(silence);
            drop(line.client_streaming::<_, _, PresentReply, _>(request, path, codec).await);
        }));
        while begun.load(Ordering::SeqCst) < number {
            tokio::task::yield_now().await;
        }
    }
    let mut next = Box::pin(door.present(PresentRequest {}));
    let early = tokio::time::timeout(Duration::from_millis(200), &mut next).await;
    assert!(early.is_err(), "there was room for one more");
    held[0].abort();
    next.await.expect("there is room again");
}

/// A request that is begun, counts itself, and says nothing.
struct Silence(Option<Arc<AtomicUsize>>);

impl Stream for Silence {
    type Item = PresentRequest;

    fn poll_next(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<PresentRequest>> {
        if let Some(begun) = self.0.take() {
            begun.fetch_add(1, Ordering::SeqCst);
        }
        Poll::Pending
    }
}
