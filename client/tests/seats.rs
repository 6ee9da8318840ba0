//! Stories of an application and its seats, told against a cluster in memory.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use trine_client::clock::{BootClock, Clock, Moment};
use trine_client::observe::{Attempt, Call, Observer, Reply};
use trine_client::testing::{FakeCluster, Fault, NO_QUORUM, OUTCOME_UNKNOWN, TERM_UNSIGNED};
use trine_client::{
    AcquireError, CallError, Client, Endpoint, Failure, LeaseId, Loss, Options, Outcome, Place,
    Reason, Standing,
};
use wire::v1::AcquireRequest;

const PRODUCT: &str = "cad-pro";

async fn cluster(doors: usize, seats: usize) -> FakeCluster {
    let cluster = FakeCluster::start(doors).await.expect("loopback has ports");
    cluster.sell(PRODUCT, seats);
    cluster
}

/// Tries are short, so that an unanswered one does not make a test long.
async fn client(cluster: &FakeCluster) -> Client {
    connect(quick(cluster)).await
}

fn quick(cluster: &FakeCluster) -> Options {
    cluster.options().answer_within(Duration::from_millis(400))
}

async fn connect(options: Options) -> Client {
    Client::connect(options).await.expect("the options hold")
}

/// Waits for something that is to come true by itself.
async fn comes_true(what: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true in ten seconds");
}

/// Remembers which request ids went where.
#[derive(Default)]
struct Recorder(Mutex<Vec<(Call, Endpoint)>>);

impl Observer for Recorder {
    fn sent(&self, attempt: &Attempt) {
        self.0.lock().unwrap().push((attempt.call.clone(), attempt.endpoint.clone()));
    }

    fn answered(&self, attempt: &Attempt, answer: Result<&Reply, &Failure>, now: Moment) {
        assert!(now >= attempt.sent);
        if let Ok(reply) = answer {
            assert_eq!(reply.envelope().is_none(), matches!(reply, Reply::Clock(_)));
        }
    }
}

impl Recorder {
    /// The acquires sent so far, as they went on the wire.
    fn acquires(&self) -> Vec<(AcquireRequest, Endpoint)> {
        let sent = self.0.lock().unwrap();
        sent.iter()
            .filter_map(|(call, endpoint)| match call {
                Call::Acquire(request) => Some((request.clone(), endpoint.clone())),
                _ => None,
            })
            .collect()
    }
}

#[tokio::test]
async fn a_seat_is_taken_and_given_back() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let seat = client.acquire(PRODUCT).holder("press 4").version("3.1").send().await.unwrap();
    assert!(seat.standing().is_usable());
    assert_eq!(seat.grant().feature_map, 0b101);
    assert_eq!(cluster.seats_held(PRODUCT), 1);
    seat.release().await.unwrap();
    assert_eq!(cluster.seats_held(PRODUCT), 0);
}

#[tokio::test]
async fn a_full_pool_refuses_and_says_so() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let _held = client.acquire(PRODUCT).send().await.unwrap();
    let error = client.acquire(PRODUCT).send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Refused(_)), "{error}");
    assert_eq!(error.reason(), Reason::NoSeatFree);
    assert_eq!(
        client.acquire("nobody-sells-this").send().await.unwrap_err().reason(),
        Reason::UnknownProduct
    );
}

#[tokio::test]
async fn a_request_that_breaks_a_rule_is_not_sent() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    for acquire in [
        client.acquire("No Such Name"),
        client.acquire(PRODUCT).ttl(Duration::from_millis(999)),
        client.acquire(PRODUCT).holder("x".repeat(129)),
        client.acquire(PRODUCT).wait(Duration::from_secs(86_401)),
    ] {
        let error = acquire.send().await.unwrap_err();
        assert!(matches!(error, AcquireError::Invalid(_)), "{error}");
    }
    assert_eq!(cluster.calls(0), 0);
}

#[tokio::test]
async fn a_lost_reply_and_a_retry_take_one_seat() {
    let cluster = cluster(1, 2).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.once(0, Fault::LoseReply);
    let seat = client.acquire(PRODUCT).send().await.unwrap();
    assert_eq!((cluster.seats_held(PRODUCT), cluster.grants()), (1, 1));
    assert_eq!(seat.token(), 1);
}

#[tokio::test]
async fn the_same_id_and_body_go_to_another_endpoint() {
    let cluster = cluster(2, 2).await;
    let recorder = Arc::new(Recorder::default());
    let client = connect(quick(&cluster).observer(recorder.clone())).await;
    client.whoami().await.unwrap();
    cluster.always(0, Some(Fault::HangAfter));
    let _seat = client.acquire(PRODUCT).send().await.unwrap();
    let acquires = recorder.acquires();
    let [(first, there), (second, elsewhere)] = acquires.as_slice() else {
        panic!("two sends, not {}", acquires.len());
    };
    assert_eq!(first, second);
    assert_ne!(there, elsewhere);
    assert_eq!((cluster.seats_held(PRODUCT), cluster.grants()), (1, 1));
}

#[tokio::test]
async fn a_node_that_is_down_costs_nothing_but_time() {
    let cluster = cluster(1, 1).await;
    let mut endpoints = vec![closed_port().await];
    endpoints.extend(cluster.endpoints());
    let options = Options::new(endpoints, Arc::new(trine_client::testing::Plaintext));
    let client = connect(options).await;
    let seat = client.acquire(PRODUCT).send().await.unwrap();
    assert!(seat.standing().is_usable());
}

#[tokio::test]
async fn when_nobody_is_there_it_is_definitely_not_done() {
    let options =
        Options::new(vec![closed_port().await], Arc::new(trine_client::testing::Plaintext))
            .patience(Duration::from_millis(300));
    let error = connect(options).await.acquire(PRODUCT).send().await.unwrap_err();
    assert!(matches!(error, AcquireError::NotDone(_)), "{error}");
    assert_eq!(error.reason(), Reason::Unreachable);
}

async fn closed_port() -> Endpoint {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    Endpoint::new("127.0.0.1", listener.local_addr().unwrap().port())
}

#[tokio::test]
async fn a_lack_of_quorum_is_borne_with_until_it_returns() {
    let cluster = Arc::new(cluster(2, 1).await);
    let client = client(&cluster).await;
    cluster.everywhere(Some(NO_QUORUM));
    let healer = Arc::clone(&cluster);
    tokio::spawn(async move {
        tokio::time::sleep(Duration::from_millis(500)).await;
        healer.everywhere(None);
    });
    client.acquire(PRODUCT).send().await.unwrap().release().await.unwrap();
}

#[tokio::test]
async fn a_caller_in_a_hurry_hears_of_a_lack_of_quorum_at_once() {
    let cluster = cluster(2, 1).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.everywhere(Some(NO_QUORUM));
    let error = client.acquire(PRODUCT).fail_fast().send().await.unwrap_err();
    assert!(matches!(error, AcquireError::NotDone(_)), "{error}");
    assert_eq!(error.reason(), Reason::NoQuorum);
    assert_eq!(cluster.calls(0) + cluster.calls(1), 2);
}

/// The first send may have been carried out; that the second was not does not
/// say anything of the first.
#[tokio::test]
async fn a_doubt_is_not_talked_away_by_a_later_no() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.once(0, OUTCOME_UNKNOWN);
    cluster.always(0, Some(NO_QUORUM));
    let error = client.acquire(PRODUCT).fail_fast().send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Unknown { .. }), "{error}");
}

#[tokio::test]
async fn an_acquire_that_ends_unknown_is_withdrawn() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.always(0, Some(Fault::HangAfter));
    let acquire = client.acquire(PRODUCT).patience(Duration::from_millis(600));
    let error = acquire.send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Unknown { .. }), "{error}");
    cluster.always(0, None);
    comes_true(|| cluster.seats_held(PRODUCT) == 0).await;
    assert_eq!(cluster.grants(), 1);
    assert!(client.settle(Duration::from_secs(10)).await);
}

#[tokio::test]
async fn a_license_not_signed_for_the_term_yet_is_asked_again() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.once(0, TERM_UNSIGNED);
    cluster.once(0, TERM_UNSIGNED);
    let _seat = client.acquire(PRODUCT).send().await.unwrap();
    assert_eq!(cluster.calls(0), 4);
}

#[tokio::test]
async fn a_leader_hint_is_followed() {
    let cluster = cluster(3, 1).await;
    let client = client(&cluster).await;
    cluster.always(0, Some(Fault::NotLeader(2)));
    let _seat = client.acquire(PRODUCT).send().await.unwrap();
    assert_eq!((cluster.calls(0), cluster.calls(1)), (1, 0));
}

#[tokio::test]
async fn a_connection_told_to_go_away_is_replaced() {
    let cluster = cluster(1, 3).await;
    let client = client(&cluster).await;
    let _one = client.acquire(PRODUCT).send().await.unwrap();
    cluster.go_away(0);
    let _two = client.acquire(PRODUCT).send().await.unwrap();
    assert_eq!(cluster.grants(), 2);
}

#[tokio::test]
async fn a_wrong_idea_of_cluster_time_is_put_right() {
    let cluster = cluster(1, 2).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.skip(Duration::from_secs(3_600));
    let seat = client.acquire(PRODUCT).send().await.unwrap();
    assert!(seat.standing().is_usable());
    let chosen = client.acquire(PRODUCT).not_after_ms(1).send().await.unwrap_err();
    assert_eq!(chosen.reason(), Reason::TooLate);
}

#[tokio::test]
async fn an_id_of_the_callers_own_gets_the_same_grant_again() {
    let cluster = cluster(1, 2).await;
    let client = client(&cluster).await;
    let not_after_ms = client.whoami().await.unwrap().cluster_time_ms + 20_000;
    let lease: LeaseId = "000102030405060708090a0b0c0d0e0f".parse().unwrap();
    let ask = || client.acquire(PRODUCT).id(lease).not_after_ms(not_after_ms).send();
    let first = ask().await.unwrap();
    let again = ask().await.unwrap();
    assert_eq!(first.grant(), again.grant());
    assert_eq!(cluster.grants(), 1);
    let other = client.acquire(PRODUCT).id(lease).holder("another").send().await.unwrap_err();
    assert_eq!(other.reason(), Reason::IdReused);
}

#[tokio::test]
async fn a_seat_renews_itself() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let seat = client.acquire(PRODUCT).ttl(Duration::from_secs(1)).send().await.unwrap();
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert!(seat.standing().is_usable());
    assert_eq!((cluster.seats_held(PRODUCT), cluster.grants()), (1, 1));
}

#[tokio::test]
async fn a_dropped_seat_is_given_back() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    drop(client.acquire(PRODUCT).send().await.unwrap());
    assert!(client.settle(Duration::from_secs(10)).await);
    assert_eq!(cluster.seats_held(PRODUCT), 0);
}

#[tokio::test]
async fn a_detached_seat_lives_on_and_is_renewed_and_released_by_hand() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let ticket = client.acquire(PRODUCT).send().await.unwrap().detach();
    assert!(client.settle(Duration::from_secs(10)).await);
    assert_eq!(cluster.seats_held(PRODUCT), 1);
    let renewal = client.renew(ticket).await.unwrap();
    assert_eq!(renewal.lasts, Duration::from_secs(30));
    client.release(ticket).await.unwrap();
    client.release(ticket).await.unwrap();
    assert_eq!(cluster.seats_held(PRODUCT), 0);
    assert_eq!(client.renew(ticket).await.unwrap_err().reason(), Reason::LeaseEnded);
}

/// Renewals stop getting through. The application must have been told before
/// the cluster may give the seat to another.
#[tokio::test]
async fn an_application_is_told_to_stop_before_the_seat_is_given_away() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let seat = client.acquire(PRODUCT).ttl(Duration::from_secs(2)).send().await.unwrap();
    cluster.everywhere(Some(Fault::Hang));
    let standing = seat.must_stop().await;
    assert!(matches!(standing, Standing::Overdue { .. }), "{standing:?}");
    assert_eq!(cluster.seats_held(PRODUCT), 1, "told too late");
}

/// An outage shorter than the cluster's memory of the lease: the application
/// stops, and goes on when the seat turns out to be its own still.
#[tokio::test]
async fn a_seat_that_survived_an_outage_is_held_again() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let seat = client.acquire(PRODUCT).ttl(Duration::from_secs(2)).send().await.unwrap();
    let mut watch = seat.watch();
    cluster.everywhere(Some(NO_QUORUM));
    watch.wait_for(|standing| matches!(standing, Standing::AtRisk { .. })).await.unwrap();
    assert!(seat.standing().is_usable());
    cluster.everywhere(None);
    watch.wait_for(|standing| matches!(standing, Standing::Held { .. })).await.unwrap();
    assert_eq!(cluster.grants(), 1);
}

#[tokio::test]
async fn a_seat_whose_lease_ended_is_lost() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let seat = client.acquire(PRODUCT).ttl(Duration::from_secs(3)).send().await.unwrap();
    cluster.skip(Duration::from_secs(60));
    let loss = seat.lost().await;
    let Loss::Ended(failure) = loss else { panic!("{loss:?}") };
    assert_eq!((failure.outcome, failure.reason), (Outcome::Refused, Reason::LeaseEnded));
}

#[tokio::test]
async fn a_revoked_seat_is_told_and_then_given_back() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let seat = client.acquire(PRODUCT).ttl(Duration::from_secs(2)).send().await.unwrap();
    cluster.revoke(seat.token());
    let mut watch = seat.watch();
    let told = watch.wait_for(|standing| matches!(standing, Standing::AtRisk { .. })).await;
    assert!(
        matches!(&*told.unwrap(), Standing::AtRisk { why, .. } if why.reason == Reason::SeatRevoked)
    );
    assert!(matches!(seat.lost().await, Loss::Revoked(_)));
    comes_true(|| cluster.seats_held(PRODUCT) == 0).await;
}

#[tokio::test]
async fn a_waiting_request_hears_its_place_and_gets_the_seat() {
    let cluster = cluster(2, 1).await;
    let client = client(&cluster).await;
    let held = client.acquire(PRODUCT).send().await.unwrap();
    let places = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&places);
    let waiting = tokio::spawn(
        client
            .acquire(PRODUCT)
            .wait(Duration::from_secs(20))
            .on_place(move |place| heard.lock().unwrap().push(place))
            .send(),
    );
    comes_true(|| !places.lock().unwrap().is_empty()).await;
    held.release().await.unwrap();
    let seat = waiting.await.unwrap().unwrap();
    assert!(seat.standing().is_usable());
    assert_eq!(*places.lock().unwrap(), [Place { position: 1, length: 1 }]);
    assert_eq!(cluster.waiting(PRODUCT), 0);
}

/// The node that holds the call open falls silent; the place is kept by asking
/// another for the same request.
#[tokio::test]
async fn a_place_in_the_queue_survives_a_failover() {
    let cluster = cluster(2, 1).await;
    let client = client(&cluster).await;
    let held = client.acquire(PRODUCT).send().await.unwrap();
    let wait = client.acquire(PRODUCT).ttl(Duration::from_secs(2)).wait(Duration::from_secs(20));
    let waiting = tokio::spawn(wait.send());
    comes_true(|| cluster.waiting(PRODUCT) == 1).await;
    cluster.always(0, Some(Fault::Hang));
    held.release().await.unwrap();
    let seat = waiting.await.unwrap().unwrap();
    assert_eq!(seat.token(), 2);
}

#[tokio::test]
async fn a_wait_in_vain_is_refused() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let _held = client.acquire(PRODUCT).send().await.unwrap();
    let wait = client.acquire(PRODUCT).wait(Duration::from_millis(700));
    let error = wait.send().await.unwrap_err();
    assert_eq!(error.reason(), Reason::WaitedInVain);
    assert_eq!(cluster.waiting(PRODUCT), 0);
}

#[tokio::test]
async fn a_cancelled_wait_leaves_the_queue() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let _held = client.acquire(PRODUCT).send().await.unwrap();
    let waiting = tokio::spawn(client.acquire(PRODUCT).wait(Duration::from_secs(60)).send());
    comes_true(|| cluster.waiting(PRODUCT) == 1).await;
    waiting.abort();
    comes_true(|| cluster.waiting(PRODUCT) == 0).await;
}

#[tokio::test]
async fn a_cancelled_id_takes_no_seat_later() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let lease = client.mint();
    client.cancel(lease).await.unwrap();
    let error = client.acquire(PRODUCT).id(lease).send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Refused(_)), "{error}");
    assert_eq!(cluster.grants(), 0);
}

#[tokio::test]
async fn fifty_seats_come_out_for_sixty_who_ask_at_once() {
    let cluster = cluster(2, 50).await;
    let client = client(&cluster).await;
    let asking: Vec<_> = (0..60).map(|_| tokio::spawn(client.acquire(PRODUCT).send())).collect();
    let mut seats = Vec::new();
    for one in asking {
        match one.await.unwrap() {
            Ok(seat) => seats.push(seat),
            Err(error) => assert_eq!(error.reason(), Reason::NoSeatFree),
        }
    }
    assert_eq!(seats.len(), 50);
}

/// A machine that sleeps: its clock runs on, its timers do not.
#[derive(Default)]
struct Sleeper(AtomicU64);

impl Clock for Sleeper {
    fn now(&self) -> Moment {
        BootClock.now() + Duration::from_secs(self.0.load(Ordering::Relaxed))
    }
}

#[tokio::test]
async fn a_seat_is_not_held_through_a_sleep_of_the_machine() {
    let cluster = cluster(1, 1).await;
    let sleeper = Arc::new(Sleeper::default());
    let client = connect(quick(&cluster).clock(sleeper.clone())).await;
    let seat = client.acquire(PRODUCT).send().await.unwrap();
    cluster.everywhere(Some(NO_QUORUM));
    sleeper.0.store(3_600, Ordering::Relaxed);
    assert!(!seat.standing().is_usable());
    assert!(!seat.must_stop().await.is_usable());
    cluster.everywhere(None);
    let mut watch = seat.watch();
    watch.wait_for(Standing::is_usable).await.unwrap();
    assert_eq!(cluster.grants(), 1);
}

/// A node that does not hold calls open must not be asked in a spin.
#[tokio::test]
async fn waiting_asks_seldom() {
    let cluster = cluster(1, 1).await;
    cluster.hold_open(false);
    let client = client(&cluster).await;
    let _held = client.acquire(PRODUCT).send().await.unwrap();
    let before = cluster.calls(0);
    let wait = client.acquire(PRODUCT).wait(Duration::from_secs(3));
    assert_eq!(wait.send().await.unwrap_err().reason(), Reason::WaitedInVain);
    assert!(cluster.calls(0) - before < 10);
}

/// A server that does not speak the operators' service is told apart from one
/// that is silent.
#[tokio::test]
async fn a_call_that_the_server_does_not_know_is_definitely_not_done() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let error = client.operator().status().await.unwrap_err();
    assert!(matches!(error, CallError::NotDone(_)), "{error}");
}

#[test]
fn clients_and_seats_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<trine_client::Seat>();
    shared::<trine_client::Operator>();
}
