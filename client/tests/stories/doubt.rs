//! Answers that are lost, and what may be said of the outcome.

use std::sync::Arc;
use std::time::Duration;

use trine_client::AcquireError;
use trine_client::testing::{Fault, NO_QUORUM, OUTCOME_UNKNOWN};

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
