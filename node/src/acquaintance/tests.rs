//! Whom a node hears, what it believes of whom, and when it stops by it.

use std::io;

use futures_util::FutureExt as _;
use openraft::storage::RaftLogStorage as _;

use super::*;
use crate::peers::{Dial, Dialing};
use crate::store::mem::Platter;
use hello_reply::Verdict;

/// Where nobody is reached.
struct Nowhere;

impl Dial for Nowhere {
    fn dial(&self, _: u64, _: &str) -> Dialing {
        Box::pin(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) })
    }
}

/// node-1 in term 5, whose peers are node-2 and node-3.
struct Node {
    acquaintances: Acquaintances,
    clearance: Clearance,
}

impl Node {
    async fn new() -> Self {
        let mut log = Log::open(Platter::new().open(), |_| {}).await.expect("an empty disk");
        log.save_vote(&Vote::new_committed(5, 2)).await.expect("saved");
        let members = [2, 3].map(|node| (node, format!("node-{node}:22451")));
        let incarnation = Incarnation([1; 16]);
        let peers = Peers::new(1, members, Arc::new(Nowhere), incarnation);
        let clearance = Clearance::new();
        let acquaintances =
            Acquaintances::new(NodeId(1), incarnation, peers, log, clearance.clone());
        Self { acquaintances, clearance }
    }

    async fn cleared() -> Self {
        let node = Self::new().await;
        node.told(2, Verdict::Welcome).expect("welcome");
        assert!(node.clearance.is_given());
        node
    }

    fn told(&self, witness: u64, verdict: Verdict) -> Result<(), String> {
        let detail = "node-1:22451".to_owned();
        let reply = HelloReply { verdict: verdict.into(), remembered: None, detail };
        self.acquaintances.answered(witness, reply)
    }

    fn denied(&self) -> Option<Denial> {
        self.clearance.denied().now_or_never()
    }

    fn notes(&self, teller: u64, vote: Vote, of: u64, promise: Promise) -> Promise {
        self.acquaintances.note_all(teller, &vote, &[told((of, promise))]);
        self.acquaintances.remembered(of)
    }
}

fn held(term: u64, index: u64) -> Promise {
    Promise { term, held: Some(index) }
}

fn voted(term: u64) -> Promise {
    Promise { term, held: None }
}

/// What stands at the address may be on its way out: a process that ends while
/// its successor starts, a copy that is found out by the others.
#[tokio::test(start_paused = true)]
async fn one_look_at_another_process_does_not_stop_a_node() {
    let node = Node::cleared().await;
    node.told(3, Verdict::RunsElsewhere).unwrap_err();
    tokio::time::advance(SECOND_LOOK / 2).await;
    node.told(3, Verdict::RunsElsewhere).unwrap_err();
    assert_eq!(node.denied(), None, "it may be going");
    node.told(3, Verdict::Unreached).unwrap_err();
    tokio::time::advance(SECOND_LOOK).await;
    node.told(3, Verdict::RunsElsewhere).unwrap_err();
    assert_eq!(node.denied(), None, "this is another one");
    assert!(node.clearance.is_given());
    tokio::time::advance(SECOND_LOOK).await;
    node.told(3, Verdict::RunsElsewhere).unwrap_err();
    assert!(matches!(node.denied(), Some(Denial::RunsElsewhere { witness: NodeId(3), .. })));
}

/// An old copy was started where the node should be, and the node runs
/// elsewhere. The copy is told to stop, and stops nobody.
#[test]
fn a_copy_that_lost_data_takes_nobodys_place() {
    let look = |is_claimed, kept| judge(NodeId(2), is_claimed, "b:1", held(5, 40), kept);
    let (whole, old) = (held(5, 40), held(5, 12));
    assert_eq!(look(true, whole), Ok(()));
    assert!(matches!(look(true, old), Err(Unmet::LostData { .. })));
    assert!(matches!(look(false, whole), Err(Unmet::Elsewhere { .. })));
    let displaced = look(false, old).unwrap_err();
    assert!(matches!(displaced, Unmet::LostDataThere { .. }), "{displaced}");
}

/// One of two processes is a copy, and nobody knows yet which.
#[tokio::test(start_paused = true)]
async fn who_starts_takes_no_part_while_another_is_seen_in_its_place() {
    let node = Node::new().await;
    node.told(3, Verdict::RunsElsewhere).unwrap_err();
    node.told(2, Verdict::Welcome).expect("welcome");
    assert!(!node.clearance.is_given());
    node.told(3, Verdict::Unreached).unwrap_err();
    assert!(node.clearance.is_given(), "the other one is gone");

    let node = Node::new().await;
    node.told(3, Verdict::RunsElsewhere).unwrap_err();
    node.told(2, Verdict::Welcome).expect("welcome");
    node.acquaintances.objects_no_more(3);
    assert!(node.clearance.is_given(), "who saw the other one is gone");
}

/// One hostile node says that another voted in a term that will never be, or
/// holds what nobody wrote: if that were noted, the other were shut out for ever.
#[tokio::test]
async fn nobody_is_shut_out_by_a_promise_that_was_never_made() {
    let node = Node::cleared().await;
    let (candidate, leader) = (Vote::new(6, 3), Vote::new_committed(5, 2));
    assert_eq!(node.notes(3, candidate, 2, voted(u64::MAX)), voted(0));
    assert_eq!(node.notes(3, candidate, 2, voted(6)), voted(0), "its leader will say so");
    assert_eq!(node.notes(3, candidate, 2, held(4, 1_000)), voted(4), "it did not see that");
    let pretender = Vote::new_committed(5, 3);
    assert_eq!(node.notes(3, pretender, 2, held(5, 1_000)), voted(5), "node-2 leads this term");
    let past = Vote::new_committed(4, 3);
    assert_eq!(node.notes(3, past, 2, held(4, 2_000)), voted(5), "it leads no more");

    assert_eq!(node.notes(2, leader, 3, voted(6)), voted(0), "no leader is told of later terms");
    assert_eq!(node.notes(2, leader, 3, held(5, 7)), held(5, 7));
    let next = Vote::new_committed(6, 2);
    assert_eq!(node.notes(2, next, 3, held(6, 9)), held(6, 9), "this node follows it next");
    // Of itself it may say what it likes.
    assert_eq!(node.notes(3, candidate, 3, voted(9)), voted(9));
}

/// Who shows less than it promised has lost it: its answer does not count, and
/// it is heard again only after another meeting.
#[tokio::test]
async fn an_answer_of_who_lost_data_does_not_count() {
    let node = Node::cleared().await;
    let met = Incarnation([2; 16]);
    node.acquaintances.known().entry(2).or_default().met = Some(met);
    node.acquaintances.note(2, held(5, 40));
    let before_it_was_asked = node.acquaintances.remembered(2);
    let answer = |shown| [told((2, shown)), told((1, voted(5)))];
    let compare = |shown, remembered| node.acquaintances.compare(2, &answer(shown), remembered);
    compare(held(5, 40), before_it_was_asked).expect("as it was");
    compare(voted(6), before_it_was_asked).expect("a later term outweighs it");
    assert!(node.acquaintances.has_met(2, met));

    // Two answers overtake one another: the older is measured by what was known
    // when it was asked for.
    node.acquaintances.note(2, held(5, 90));
    compare(held(5, 60), before_it_was_asked).expect("it came late");
    assert!(node.acquaintances.has_met(2, met));

    let unmet = compare(held(5, 39), before_it_was_asked).unwrap_err();
    assert!(matches!(unmet, Unmet::ShowsLess { .. }), "{unmet}");
    assert!(!node.acquaintances.has_met(2, met));
    let unmet = node.acquaintances.compare(2, &[], before_it_was_asked).unwrap_err();
    assert!(matches!(unmet, Unmet::ShowsLess { .. }), "silence shows nothing: {unmet}");
    assert_eq!(node.denied(), None);
}

/// A heartbeat travels beside the stream of entries, so it may come after what
/// was sent later. It does not count, and the stream is not cut for it. Who goes
/// on showing less has lost something.
#[tokio::test(start_paused = true)]
async fn an_overtaken_message_does_not_count_and_cuts_nobody_off() {
    let node = Node::cleared().await;
    let met = Incarnation([2; 16]);
    node.acquaintances.known().entry(2).or_default().met = Some(met);
    let compare = |shown| {
        let message = [told((2, shown)), told((1, voted(5)))];
        node.acquaintances.compare_message(2, &message)
    };
    node.acquaintances.note(2, held(5, 40));
    for _ in 0..2 {
        compare(held(5, 40)).expect("as it is remembered");
        tokio::time::advance(OVERTAKEN_MAX).await;
    }
    node.acquaintances.note(2, held(5, 41));
    assert_eq!(compare(held(5, 40)), Err(Unmet::Overtaken { node: NodeId(2) }));
    assert!(node.acquaintances.has_met(2, met));
    compare(held(5, 41)).expect("the stream goes on");

    for _ in 0..2 {
        tokio::time::advance(OVERTAKEN_MAX).await;
        let _ = compare(held(5, 40));
    }
    assert!(matches!(compare(held(5, 40)), Err(Unmet::ShowsLess { .. })), "for too long");
    assert!(!node.acquaintances.has_met(2, met), "so it is met again");
    node.acquaintances.known().entry(2).or_default().met = Some(met);
    assert!(matches!(compare(held(5, 39)), Err(Unmet::ShowsLess { .. })), "more than a moment");
}

/// A message says what its sender remembers of this node. Who remembers more
/// than is here is neither answered nor heard, and this node stops.
#[tokio::test]
async fn who_is_told_that_it_promised_more_takes_no_part_any_more() {
    let node = Node::cleared().await;
    let message = [told((3, voted(5))), told((1, held(5, 12)))];
    let unmet = node.acquaintances.compare(3, &message, voted(5)).unwrap_err();
    assert_eq!(unmet, Unmet::NotCleared);
    let denial = node.denied().expect("it stops");
    assert!(
        matches!(denial, Denial::LostData { witness: NodeId(3), kept, .. } if kept == voted(5))
    );
}
