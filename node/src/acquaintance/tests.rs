//! Whom a node hears, what it believes of whom, and when it stops by it.

use std::io;
use std::time::Duration;

use futures_util::FutureExt as _;
use openraft::storage::{IOFlushed, RaftLogStorage as _};
use wire::peer::hello_reply::Verdict;
use wire::peer::{self, HelloReply, HelloRequest, Packed};

use super::hello::{FIRST_WORD_MAX, SECOND_LOOK};
use super::meeting::judge;
use super::origin::Origin;
use super::promises::{OVERTAKEN_MAX, to_wire, told};
use super::*;
use crate::clearance::Denial;
use crate::peers::{Dial, Dialing};
use crate::raft::{Entry, EntryPayload, Membership, Vote, log_id};
use crate::store::mem::Platter;
use crate::store::promise::Promise;

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

/// A message with what its sender tells of promises.
fn telling(promises: impl Into<Vec<peer::NodePromise>>) -> Packed {
    Packed { promises: promises.into(), ..Packed::default() }
}

impl Node {
    async fn new() -> Self {
        Self::of(KnownOrigin::default()).await
    }

    async fn of(origin: KnownOrigin) -> Self {
        let mut log = Log::open(Platter::new().open(), |_| {}).await.expect("an empty disk");
        log.save_vote(&Vote::new_committed(5, 2)).await.expect("saved");
        Self::on(log, origin)
    }

    fn on(log: Log, origin: KnownOrigin) -> Self {
        let members = [2, 3].map(|node| (node, format!("node-{node}:22451")));
        let incarnation = Incarnation([1; 16]);
        let peers = Peers::new(1, members, Arc::new(Nowhere), incarnation);
        let clearance = Clearance::new();
        let acquaintances = Acquaintances::new(
            NodeId(1),
            incarnation,
            peers,
            log,
            move || origin,
            clearance.clone(),
        );
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
        let reply = HelloReply { verdict: verdict.into(), detail, ..HelloReply::default() };
        self.acquaintances.answered(witness, reply)
    }

    fn denied(&self) -> Option<Denial> {
        self.clearance.denied().now_or_never()
    }

    fn notes(&self, teller: u64, vote: Vote, of: u64, promise: Promise) -> Promise {
        self.acquaintances.note_all(teller, &vote, &telling([told((of, promise))]));
        self.acquaintances.remembered(of)
    }
}

fn of_epoch(epoch: u64) -> Origin {
    KnownOrigin::formed(epoch).told().expect("formed")
}

fn told_origin(epoch: u64) -> Option<peer::Origin> {
    Some(of_epoch(epoch).to_wire())
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
    let answer = |shown| telling([told((2, shown)), told((1, voted(5)))]);
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
    let unmet = node.acquaintances.compare(2, &telling([]), before_it_was_asked).unwrap_err();
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
        let message = telling([told((2, shown)), told((1, voted(5)))]);
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
    let message = telling([told((3, voted(5))), told((1, held(5, 12)))]);
    let unmet = node.acquaintances.compare(3, &message, voted(5)).unwrap_err();
    assert_eq!(unmet, Unmet::NotCleared);
    let denial = node.denied().expect("it stops");
    assert!(
        matches!(denial, Denial::LostData { witness: NodeId(3), kept, .. } if kept == voted(5))
    );
}

/// A leader put back by a moment has written as many entries as before, so what
/// it promised tells nothing. What it wrote first is still here.
#[tokio::test]
async fn a_leader_that_writes_a_log_id_twice_is_heard_no_more() {
    let mut log = Log::open(Platter::new().open(), |_| {}).await.expect("an empty disk");
    log.save_vote(&Vote::new_committed(5, 2)).await.expect("saved");
    let blank = |term, index| Entry { log_id: log_id(term, index), payload: EntryPayload::Blank };
    let held = [blank(5, 0), blank(5, 1)];
    log.append(held.clone(), IOFlushed::noop()).await.expect("appended");
    let node = Node::on(log, KnownOrigin::default());
    node.told(2, Verdict::Welcome).expect("welcome");
    let process = Incarnation([2; 16]);
    node.acquaintances.known().entry(2).or_default().met = Some(process);
    let sent = |entries: &[Entry]| node.acquaintances.require_same_entries(2, process, entries);
    sent(&held).expect("sent again");
    sent(&[blank(5, 1), blank(5, 2)]).expect("and one more");
    sent(&[blank(6, 1)]).expect("another leader's, in place of one");
    assert!(node.acquaintances.has_met(2, process));

    let members = [1, 2, 3].map(|node| (node, crate::raft::Endpoints::default()));
    let membership =
        Membership::new(vec![[1, 2, 3].into()], members.into_iter().collect::<BTreeMap<_, _>>());
    let payload = EntryPayload::Membership(membership.expect("three members"));
    let other = Entry { log_id: log_id(5, 1), payload };
    let rewrote = Unmet::Rewrote { node: NodeId(2), at: log_id(5, 1) };
    assert_eq!(sent(&[blank(5, 0), other]), Err(rewrote.clone()));
    assert!(!node.acquaintances.has_met(2, process));
    assert_eq!(node.acquaintances.meet(2, Some(process)).await, Err(rewrote), "for good");
    let reply = node.acquaintances.greet(2, Some(process), HelloRequest::default()).await;
    assert_eq!(reply.verdict(), Verdict::Rewrote);

    // The leader hears it.
    let leader = Node::cleared().await;
    leader.acquaintances.answered(3, reply).expect("understood");
    let said = leader.denied().expect("it stops").to_string();
    for part in ["has lost data", "node-3 holds another log entry 1 of term 5", "replace"] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// An answer to a hello, of a node that remembers much of this one.
fn answer(verdict: Verdict, epoch: u64) -> HelloReply {
    let (remembered, origin) = (Some(to_wire(held(40, 900))), told_origin(epoch));
    HelloReply { verdict: verdict.into(), remembered, origin, ..HelloReply::default() }
}

/// A data directory from before the restore remembers what this node's id had
/// promised then, and may have come further. None of it counts here: it stops
/// nobody, clears nobody, and is not noted.
#[tokio::test(start_paused = true)]
async fn what_is_remembered_from_before_a_restore_does_not_count() {
    let node = Node::of(KnownOrigin::formed(9)).await;
    for verdict in [Verdict::LostData, Verdict::Welcome, Verdict::RunsElsewhere] {
        let said = node.acquaintances.answered(3, answer(verdict, 0)).unwrap_err();
        assert!(said.contains("node-3's data is from before"), "{said}");
    }
    assert!(!node.clearance.is_given(), "nobody of this epoch has answered");
    node.told(2, Verdict::Welcome).expect("welcome");

    let promises = [told((3, voted(40))), told((1, held(40, 900))), told((2, held(40, 900)))];
    let message = Packed { origin: told_origin(0), ..telling(promises) };
    let unmet = node.acquaintances.compare_message(3, &message).unwrap_err();
    assert_eq!(unmet, Unmet::BeforeRestore { node: NodeId(3), theirs: 0 });
    let unmet = node.acquaintances.compare(3, &message, Promise::default()).unwrap_err();
    assert_eq!(unmet, Unmet::BeforeRestore { node: NodeId(3), theirs: 0 });
    node.acquaintances.note_all(3, &Vote::new(41, 3), &message);
    assert_eq!(node.acquaintances.remembered(3), Promise::default());
    tokio::time::advance(SECOND_LOOK).await;
    assert_eq!(node.denied(), None);
    assert!(node.clearance.is_given());

    let request = HelloRequest { origin: told_origin(0) };
    let reply = node.acquaintances.greet(3, Some(Incarnation([3; 16])), request).await;
    assert_eq!((reply.verdict(), reply.origin), (Verdict::BeforeRestore, told_origin(9)));
}

/// One that was restored by itself, on the bench say, and strayed into a cluster
/// that lives is told apart from a cluster that was restored: there are two.
#[tokio::test]
async fn two_others_decide_that_a_node_is_from_before_a_restore() {
    let node = Node::of(KnownOrigin::formed(0)).await;
    let later = answer(Verdict::BeforeRestore, 9);
    for _ in 0..3 {
        let said = node.acquaintances.answered(3, later.clone()).unwrap_err();
        assert!(said.contains("the cluster was restored since"), "{said}");
    }
    assert_eq!(node.denied(), None, "one may have strayed");
    node.told(2, Verdict::Welcome).expect("welcome");
    assert!(node.clearance.is_given(), "whoever is of its own epoch clears it");
    let strayed = Packed { origin: told_origin(9), ..telling([told((3, voted(1)))]) };
    let unmet = node.acquaintances.compare_message(3, &strayed).unwrap_err();
    assert_eq!(unmet, Unmet::AfterRestore { node: NodeId(3), theirs: 9 });

    let back = Packed { origin: told_origin(0), ..telling([told((3, voted(5)))]) };
    node.acquaintances.compare_message(3, &back).expect("with its own data again");
    node.acquaintances.answered(2, later.clone()).unwrap_err();
    assert_eq!(node.denied(), None, "now it is the other one, alone");

    node.acquaintances.answered(3, later).unwrap_err();
    let denial = node.denied().expect("two");
    assert!(matches!(denial, Denial::BeforeRestore { ours: 0, theirs: 9, .. }), "{denial}");
    let said = denial.to_string();
    for part in ["from before the cluster was restored", "node-2 and node-3", "epoch 9", "wipe"] {
        assert!(said.contains(part), "{part:?} is not in {said:?}");
    }
}

/// A restore was rehearsed with copies of the containers and certificates and the
/// members' true addresses: its processes call, and nobody who looks for the
/// members finds them. The members go on hearing one another.
#[tokio::test(start_paused = true)]
async fn strays_who_are_not_at_the_members_addresses_stop_nobody() {
    for (ours, theirs) in [(0, 9), (9, 0)] {
        let node = Node::of(KnownOrigin::formed(ours)).await;
        node.told(2, Verdict::Welcome).expect("welcome");
        for member in [2, 3] {
            let met = Incarnation([member as u8; 16]);
            node.acquaintances.known().entry(member).or_default().met = Some(met);
        }
        for _ in 0..3 {
            for stray in [2, 3] {
                let hello = HelloRequest { origin: told_origin(theirs) };
                let claimed = Some(Incarnation([40 + stray as u8; 16]));
                let reply = node.acquaintances.greet(stray, claimed, hello).await;
                assert_ne!(reply.verdict(), Verdict::Welcome);
                assert_eq!(reply.origin, told_origin(ours), "so that it finds out");
            }
        }
        assert_eq!(node.denied(), None, "of epoch {ours}");
        assert!(node.clearance.is_given());
        assert_eq!(node.acquaintances.outdated(), None, "it grants");
        for member in [2, 3] {
            let met = Incarnation([member as u8; 16]);
            assert!(node.acquaintances.has_met(member, met), "its streams go on");
        }
        // What they told does not wait for a second witness either.
        let strayed = answer(Verdict::BeforeRestore, theirs);
        node.acquaintances.answered(3, strayed).unwrap_err();
        assert_eq!(node.denied(), None, "one that stands at an address is one");
    }
}

/// It may be the one that strayed. But if it is not, this node and its follower
/// are the old cluster's majority.
#[tokio::test(start_paused = true)]
async fn one_member_that_tells_a_later_epoch_stops_grants_while_it_is_there_and_stops_nobody() {
    let node = Node::of(KnownOrigin::formed(4)).await;
    node.told(2, Verdict::Welcome).expect("welcome");
    assert_eq!(node.acquaintances.outdated(), None);
    node.acquaintances.answered(3, answer(Verdict::BeforeRestore, 9)).unwrap_err();
    let (by, ours, theirs) = (NodeId(3), 4, 9);
    assert_eq!(node.acquaintances.outdated(), Some(Outdated { by, ours, theirs }));
    assert_eq!(node.denied(), None, "one is not two");
    assert!(node.clearance.is_given());
    tokio::time::advance(witness::PRESENT_MAX - Duration::from_secs(1)).await;
    assert!(node.acquaintances.outdated().is_some());
    tokio::time::advance(Duration::from_secs(1)).await;
    assert_eq!(node.acquaintances.outdated(), None, "it is there no more");
    node.acquaintances.answered(3, answer(Verdict::BeforeRestore, 3)).unwrap_err();
    assert_eq!(node.acquaintances.outdated(), None, "that one is itself from before");
    assert_eq!(node.acquaintances.of_other_origins(), [(NodeId(3), of_epoch(3))]);
}

/// It welcomed this process, and was started again with what it was restored to.
/// Its hello is refused, and may be a stranger's; but it is looked for, or nobody
/// here would ever hear of the restore.
#[tokio::test(start_paused = true)]
async fn a_member_that_welcomed_this_node_and_says_hello_restored_is_asked_at_its_address() {
    let node = Node::of(KnownOrigin::formed(4)).await;
    let hello = async |epoch| {
        let hello = HelloRequest { origin: told_origin(epoch) };
        node.acquaintances.greet(3, Some(Incarnation([43; 16])), hello).await;
        node.acquaintances.has_answered(3)
    };
    node.told(3, Verdict::Welcome).expect("welcome");
    assert!(hello(3).await, "of before this node's data: it is not heard, and that is all");
    assert!(!hello(9).await, "it is asked again");
    let asked = node.acquaintances.unknown();
    tokio::time::timeout(Duration::from_secs(1), asked).await.expect("at once");
    hello(9).await;
    let asked = node.acquaintances.unknown();
    tokio::time::timeout(Duration::from_secs(60), asked).await.expect_err("it is being asked");
    assert_eq!(node.acquaintances.outdated(), None, "not before it was found");
    node.acquaintances.answered(3, answer(Verdict::BeforeRestore, 9)).unwrap_err();
    assert!(node.acquaintances.outdated().is_some());
}

/// A process that has just started does not know yet whether it is from before a
/// restore; and one of the others may never answer.
#[tokio::test(start_paused = true)]
async fn a_process_asks_every_member_of_which_restore_it_is_or_waits_two_seconds() {
    let node = Node::of(KnownOrigin::formed(4)).await;
    tokio::time::advance(FIRST_WORD_MAX).await;
    assert!(!node.acquaintances.has_asked_around(), "its log was read, and nobody was asked");
    node.acquaintances.begin();
    assert!(!node.acquaintances.has_asked_around());
    node.told(2, Verdict::Welcome).expect("welcome");
    assert!(!node.acquaintances.has_asked_around(), "node-3 may know better");
    node.acquaintances.settle(3);
    assert!(node.acquaintances.has_asked_around());

    let node = Node::of(KnownOrigin::formed(4)).await;
    node.acquaintances.begin();
    node.told(2, Verdict::Welcome).expect("welcome");
    tokio::time::advance(FIRST_WORD_MAX).await;
    assert!(node.acquaintances.has_asked_around());
    assert!(Node::new().await.acquaintances.has_asked_around(), "there is no cluster yet");
}

/// Whoever has no cluster yet and whoever knows no epochs is judged as ever; but
/// a new node notes nothing that it may have to forget.
#[tokio::test]
async fn a_node_that_tells_no_epoch_is_judged_by_what_it_promised() {
    let node = Node::of(KnownOrigin::formed(9)).await;
    node.told(2, Verdict::Welcome).expect("welcome");
    let promises = [told((2, held(5, 7))), told((3, voted(4)))];
    node.acquaintances.compare_message(2, &telling(promises)).expect("a build of before");
    node.acquaintances.note_all(2, &Vote::new_committed(5, 2), &telling(promises));
    assert_eq!(node.acquaintances.remembered(2), held(5, 7));
    let less = telling([told((2, voted(4)))]);
    let unmet = node.acquaintances.compare(2, &less, held(5, 7)).unwrap_err();
    assert!(matches!(unmet, Unmet::ShowsLess { .. }), "{unmet}");

    let new = Node::of(KnownOrigin::default()).await;
    let message = Packed { origin: told_origin(0), ..telling(promises) };
    new.told(2, Verdict::Welcome).expect("welcome");
    new.acquaintances.compare_message(2, &message).expect("it is heard");
    new.acquaintances.note_all(2, &Vote::new_committed(5, 2), &message);
    assert_eq!(new.acquaintances.remembered(2), Promise::default());
    new.acquaintances.hear(2, held(40, 900), Some(of_epoch(0)));
    assert!(new.denied().is_some(), "an emptied node is refused all the same");
}

/// One CA may certify two clusters, and both have a node-3. Whatever epoch it is
/// of, it is no witness of a restore, and what it remembers is of another node.
#[tokio::test(start_paused = true)]
async fn a_node_of_another_cluster_is_called_so_and_is_neither_heard_nor_a_witness() {
    let node = Node::of(KnownOrigin::formed(4)).await;
    node.told(2, Verdict::Welcome).expect("welcome");
    for epoch in [0, 4, 9] {
        let cluster = license::product::ClusterId([2; 16]);
        let origin = Some(Origin { cluster, epoch }.to_wire());
        let met = Incarnation([3; 16]);
        node.acquaintances.known().entry(3).or_default().met = Some(met);
        let remembered = Some(to_wire(held(40, 900)));
        let reply = HelloReply { remembered, origin: origin.clone(), ..HelloReply::default() };
        let said = node.acquaintances.answered(3, reply).unwrap_err();
        for part in
            ["node-3 is of cluster 0202", "this node's data is of cluster 0101", "[[members]]"]
        {
            assert!(said.contains(part), "{part:?} is not in {said:?}");
        }
        assert!(!node.acquaintances.has_met(3, met), "not even as it was");
        let promises = [told((3, held(40, 900))), told((1, held(40, 900)))];
        let message = Packed { origin: origin.clone(), ..telling(promises) };
        let unmet = node.acquaintances.compare_message(3, &message).unwrap_err();
        assert!(matches!(unmet, Unmet::OtherCluster { .. }), "{unmet}");
        let unmet = node.acquaintances.compare(3, &message, Promise::default()).unwrap_err();
        assert!(matches!(unmet, Unmet::OtherCluster { .. }), "{unmet}");
        node.acquaintances.note_all(3, &Vote::new(41, 3), &message);
        assert_eq!(node.acquaintances.remembered(3), Promise::default());
        assert_eq!(node.acquaintances.outdated(), None, "it grants");
        let told = Origin { cluster, epoch };
        assert_eq!(node.acquaintances.of_other_origins(), [(NodeId(3), told)]);

        let hello = HelloRequest { origin };
        let reply = node.acquaintances.greet(3, Some(met), hello).await;
        assert_eq!((reply.verdict(), reply.origin), (Verdict::OtherCluster, told_origin(4)));
    }
    // Two of one other cluster are no restored cluster either.
    let other = Origin { cluster: license::product::ClusterId([2; 16]), epoch: 9 }.to_wire();
    for witness in [2, 3] {
        let reply = HelloReply { origin: Some(other.clone()), ..HelloReply::default() };
        node.acquaintances.answered(witness, reply).unwrap_err();
    }
    assert_eq!(node.denied(), None);
}
