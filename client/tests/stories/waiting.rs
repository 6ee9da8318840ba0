//! Waiting in the queue for a seat.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::JoinHandle;
use tonic::Code;
use trine_client::testing::{FakeCluster, Fault, NOT_FORMED, OUTCOME_UNKNOWN, SHARES_MISSING};
use trine_client::{AcquireError, Outcome, Place, Reason, Seat};

use crate::support::{PRODUCT, client, cluster, comes_true};

/// Of who waits in [`one_waits`], with a request that has no place yet.
const PATIENCE: Duration = Duration::from_secs(1);

/// Who holds the only seat, and who waits for it.
async fn one_waits(cluster: &FakeCluster) -> (Seat, JoinHandle<Result<Seat, AcquireError>>) {
    let client = client(cluster).await;
    let held = client.acquire(PRODUCT).send().await.unwrap();
    let wait = client.acquire(PRODUCT).ttl(Duration::from_secs(2)).patience(PATIENCE);
    let waiting = tokio::spawn(wait.wait(Duration::from_secs(60)).send());
    comes_true(|| cluster.waiting(PRODUCT) == 1).await;
    (held, waiting)
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

/// Nobody gets a seat for a while, because the leader withholds them. Who waits goes
/// on waiting.
#[tokio::test]
async fn a_place_in_the_queue_is_not_given_up_while_seats_are_withheld() {
    let cluster = cluster(2, 1).await;
    let (held, waiting) = one_waits(&cluster).await;
    let withheld = Fault::Fail(Code::Unavailable, "EPOCHS_DIFFER", Outcome::NotDone);
    cluster.everywhere(Some(withheld));
    let asked = || cluster.calls(0) + cluster.calls(1);
    let before = asked();
    comes_true(|| asked() > before + 3).await;
    assert!(!waiting.is_finished(), "it heard so and gave up");
    cluster.everywhere(None);
    held.release().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().standing().is_usable());
}

/// The quorum is away for longer than the client's patience with a request that
/// has no place yet.
#[tokio::test]
async fn a_place_in_the_queue_outlasts_an_outage_that_is_longer_than_patience() {
    let cluster = cluster(2, 1).await;
    let (held, waiting) = one_waits(&cluster).await;
    cluster.everywhere(Some(Fault::Fail(Code::Unavailable, "NO_QUORUM", Outcome::NotDone)));
    tokio::time::sleep(3 * PATIENCE).await;
    assert!(!waiting.is_finished(), "it gave up");
    cluster.everywhere(None);
    held.release().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().standing().is_usable());
}

/// The cluster is lost and restored from a backup of two minutes ago, longer than
/// the client's patience later: its nodes are empty first, then know nothing of the
/// request, find its time too far ahead, and have to prove their shares. Another
/// request waits in its place.
#[tokio::test]
async fn who_waits_is_served_by_the_cluster_restored_from_a_backup() {
    let cluster = cluster(2, 1).await;
    cluster.skip(Duration::from_secs(300));
    let (held, waiting) = one_waits(&cluster).await;
    // The nodes die under the call that is held open.
    cluster.once(0, OUTCOME_UNKNOWN);
    cluster.once(1, OUTCOME_UNKNOWN);
    cluster.everywhere(Some(NOT_FORMED));
    tokio::time::sleep(3 * PATIENCE).await;
    assert!(!waiting.is_finished(), "it gave up");
    cluster.restore(Duration::from_secs(120));
    assert_eq!(cluster.waiting(PRODUCT), 0);
    cluster.once(0, SHARES_MISSING);
    cluster.once(1, SHARES_MISSING);
    cluster.everywhere(None);
    comes_true(|| cluster.waiting(PRODUCT) == 1).await;
    held.release().await.unwrap();
    assert!(waiting.await.unwrap().unwrap().standing().is_usable());
    assert_eq!(cluster.seats_held(PRODUCT), 1);
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
