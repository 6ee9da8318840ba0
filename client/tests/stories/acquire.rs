//! Taking a seat and being refused one.

use std::time::Duration;

use trine_client::{AcquireError, LeaseId, Reason};

use crate::support::{PRODUCT, client, cluster};

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
