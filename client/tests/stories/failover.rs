//! Servers that are down, busy, leaving or without a quorum.

use std::sync::Arc;
use std::time::Duration;

use tonic::Code;
use trine_client::testing::{Fault, NO_QUORUM, Plaintext, TERM_UNSIGNED};
use trine_client::{AcquireError, CallError, Endpoint, Options, Outcome, Reason};

use crate::support::{PRODUCT, client, cluster, connect};

#[tokio::test]
async fn a_node_that_is_down_costs_nothing_but_time() {
    let cluster = cluster(1, 1).await;
    let mut endpoints = vec![closed_port().await];
    endpoints.extend(cluster.endpoints());
    let options = Options::new(endpoints, Arc::new(Plaintext));
    let client = connect(options).await;
    let seat = client.acquire(PRODUCT).send().await.unwrap();
    assert!(seat.standing().is_usable());
}

#[tokio::test]
async fn when_nobody_is_there_it_is_definitely_not_done() {
    let options = Options::new(vec![closed_port().await], Arc::new(Plaintext))
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

/// As with a lack of quorum: nobody gets a seat now, and in a moment everybody may.
#[tokio::test]
async fn a_cluster_that_withholds_its_seats_is_borne_with_and_told_at_once_to_those_in_a_hurry() {
    for reason in ["EPOCHS_DIFFER", "LEDGERS_DIFFER"] {
        let cluster = Arc::new(cluster(2, 1).await);
        let client = client(&cluster).await;
        cluster.everywhere(Some(Fault::Fail(Code::Unavailable, reason, Outcome::NotDone)));
        let error = client.acquire(PRODUCT).fail_fast().send().await.unwrap_err();
        assert!(matches!(error, AcquireError::NotDone(_)), "{error}");
        assert_eq!(error.reason().to_string(), reason);
        let healer = Arc::clone(&cluster);
        tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(500)).await;
            healer.everywhere(None);
        });
        client.acquire(PRODUCT).send().await.unwrap().release().await.unwrap();
    }
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

/// A node answers within 1.9 s even when all it can say is "unknown". By
/// default that answer is waited for, not run away from.
#[tokio::test]
async fn an_answer_that_takes_as_long_as_a_node_may_is_heard() {
    let cluster = cluster(1, 1).await;
    let client = connect(cluster.options()).await;
    client.whoami().await.unwrap();
    cluster.once(0, Fault::Slow(Duration::from_millis(1_900)));
    let _seat = client.acquire(PRODUCT).send().await.unwrap();
    assert_eq!(cluster.calls(0), 2);
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

/// A server that does not speak the operators' service is told apart from one
/// that is silent.
#[tokio::test]
async fn a_call_that_the_server_does_not_know_is_definitely_not_done() {
    let cluster = cluster(1, 1).await;
    let client = client(&cluster).await;
    let error = client.operator().status().await.unwrap_err();
    assert!(matches!(error, CallError::NotDone(_)), "{error}");
}
