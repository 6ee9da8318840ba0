//! Answers that are lost, and what may be said of the outcome.

use std::sync::Arc;
use std::time::Duration;

use trine_client::testing::{
    FakeCluster, Fault, LEDGER_FULL, NO_QUORUM, OUTCOME_UNKNOWN, TOO_FAR_AHEAD,
};
use trine_client::{AcquireError, LeaseId, Reason};
use wire::v1::AcquireRequest;

use crate::support::{PRODUCT, Recorder, client, cluster, comes_true, connect, quick};

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

/// What the network held back arrives: the first copy of a request, as it was.
async fn arrives_late(cluster: &FakeCluster, copy: &AcquireRequest) -> AcquireError {
    let lease = LeaseId::from_wire(&copy.lease).unwrap();
    let late = client(cluster).await;
    late.acquire(PRODUCT).id(lease).not_after_ms(copy.not_after_ms).send().await.unwrap_err()
}

/// A full ledger does not remember whom it refused. The first copy may still be
/// on its way, and there may be room when it comes.
#[tokio::test]
async fn a_refusal_by_a_full_ledger_does_not_settle_an_earlier_doubt() {
    let cluster = cluster(1, 1).await;
    let recorder = Arc::new(Recorder::default());
    let client = connect(quick(&cluster).observer(recorder.clone())).await;
    client.whoami().await.unwrap();
    cluster.once(0, OUTCOME_UNKNOWN);
    cluster.once(0, LEDGER_FULL);
    let error = client.acquire(PRODUCT).send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Unknown { .. }), "{error}");
    assert_eq!(error.reason(), Reason::LedgerFull);

    assert!(client.settle(Duration::from_secs(10)).await);
    let late = arrives_late(&cluster, &recorder.acquires()[0].0).await;
    assert!(matches!(late, AcquireError::Refused(_)), "{late}");
    assert_eq!((cluster.seats_held(PRODUCT), cluster.grants()), (0, 0));
}

#[tokio::test]
async fn a_full_ledger_alone_leaves_no_doubt() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.once(0, LEDGER_FULL);
    let error = client.acquire(PRODUCT).send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Refused(_)), "{error}");
}

/// The time was wrong, so a new request is made; the old one, which may still
/// be on its way, must not take a second seat.
#[tokio::test]
async fn a_doubtful_request_with_a_wrong_time_is_withdrawn_before_the_next() {
    let cluster = cluster(1, 2).await;
    let recorder = Arc::new(Recorder::default());
    let client = connect(quick(&cluster).observer(recorder.clone())).await;
    client.whoami().await.unwrap();
    cluster.once(0, OUTCOME_UNKNOWN);
    cluster.once(0, TOO_FAR_AHEAD);
    let seat = client.acquire(PRODUCT).send().await.unwrap();

    let first = &recorder.acquires()[0].0;
    assert_ne!(first.lease, seat.lease().0.to_be_bytes());
    let late = arrives_late(&cluster, first).await;
    assert!(matches!(late, AcquireError::Refused(_)), "{late}");
    assert_eq!((cluster.seats_held(PRODUCT), cluster.grants()), (1, 1));
}

/// A new request would need the same id, and that is withdrawn.
#[tokio::test]
async fn a_doubtful_request_with_the_callers_id_is_not_made_anew() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    client.whoami().await.unwrap();
    cluster.once(0, OUTCOME_UNKNOWN);
    cluster.once(0, TOO_FAR_AHEAD);
    let error = client.acquire(PRODUCT).id(client.mint()).send().await.unwrap_err();
    assert!(matches!(error, AcquireError::Unknown { .. }), "{error}");
    assert!(client.settle(Duration::from_secs(10)).await);
    assert_eq!(cluster.grants(), 0);
}
