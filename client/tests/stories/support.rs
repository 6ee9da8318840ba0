//! What the stories share: a cluster in memory, a client in a hurry, a recorder.

use std::sync::Mutex;
use std::time::Duration;

use trine_client::clock::Moment;
use trine_client::observe::{Attempt, Call, Observer, Reply};
use trine_client::testing::FakeCluster;
use trine_client::{Client, Endpoint, Failure, Options};
use wire::v1::AcquireRequest;

pub(crate) const PRODUCT: &str = "cad-pro";

pub(crate) async fn cluster(doors: usize, seats: usize) -> FakeCluster {
    let cluster = FakeCluster::start(doors).await.expect("loopback has ports");
    cluster.sell(PRODUCT, seats);
    cluster
}

/// Tries are short, so that an unanswered one does not make a test long.
pub(crate) async fn client(cluster: &FakeCluster) -> Client {
    connect(quick(cluster)).await
}

pub(crate) fn quick(cluster: &FakeCluster) -> Options {
    cluster.options().answer_within(Duration::from_millis(400))
}

pub(crate) async fn connect(options: Options) -> Client {
    Client::connect(options).await.expect("the options hold")
}

/// Waits for something that is to come true by itself.
pub(crate) async fn comes_true(what: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if what() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it did not come true in ten seconds");
}

/// Remembers what was sent, where and when.
#[derive(Default)]
pub(crate) struct Recorder(Mutex<Vec<Attempt>>);

impl Observer for Recorder {
    fn sent(&self, attempt: &Attempt) {
        self.0.lock().unwrap().push(attempt.clone());
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
    pub(crate) fn acquires(&self) -> Vec<(AcquireRequest, Endpoint)> {
        let sent = self.0.lock().unwrap();
        sent.iter()
            .filter_map(|attempt| match &attempt.call {
                Call::Acquire(request) => Some((request.clone(), attempt.endpoint.clone())),
                _ => None,
            })
            .collect()
    }

    /// When renewals were sent so far, and whether each said that the hold had ended.
    pub(crate) fn renewals(&self) -> Vec<(Moment, bool)> {
        let sent = self.0.lock().unwrap();
        sent.iter()
            .filter_map(|attempt| match &attempt.call {
                Call::Renew(request) => Some((attempt.sent, request.hold_ended)),
                _ => None,
            })
            .collect()
    }
}
