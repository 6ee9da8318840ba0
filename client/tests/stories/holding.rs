//! Holding a seat: renewed, at risk, overdue, lost, given back.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trine_client::clock::{BootClock, Clock, Moment};
use trine_client::testing::{Fault, NO_QUORUM};
use trine_client::{Client, Loss, Outcome, Reason, Standing};

use crate::support::{PRODUCT, Recorder, client, cluster, comes_true, connect, quick};

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

/// After an outage a lease may live on though its holder had to stop. Whether it
/// had is said, because a cluster restored from a backup must know.
#[tokio::test]
async fn a_renewal_says_whether_the_hold_had_ended() {
    let cluster = cluster(1, 1).await;
    let (recorder, sleeper) = (Arc::new(Recorder::default()), Arc::new(Sleeper::default()));
    let options = quick(&cluster).observer(recorder.clone()).clock(sleeper.clone());
    let client = connect(options).await;
    let seat = client.acquire(PRODUCT).ttl(Duration::from_secs(2)).send().await.unwrap();
    cluster.everywhere(Some(NO_QUORUM));
    let Standing::Held { until } = seat.standing() else { panic!("{:?}", seat.standing()) };
    seat.must_stop().await;
    let said = || recorder.renewals();
    comes_true(|| said().iter().any(|(_, hold_ended)| *hold_ended)).await;
    sleeper.0.store(3_600, Ordering::Relaxed);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let said = said();
    assert!(said.iter().any(|(_, hold_ended)| !hold_ended), "{said:?}");
    for (sent, hold_ended) in said {
        let in_time = sent < until + Duration::from_millis(20);
        assert!(hold_ended || in_time, "sent at {sent:?}, held until {until:?}");
    }
}

#[test]
fn clients_and_seats_may_be_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Client>();
    shared::<trine_client::Seat>();
    shared::<trine_client::Operator>();
}
