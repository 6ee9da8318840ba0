//! A starting node says hello: no vote and no acknowledgement before one peer
//! has answered what it remembers (S21).

use std::collections::BTreeMap;
use std::time::Duration;

use tokio_util::task::AbortOnDropHandle;
use wire::peer::HelloRequest;

use crate::acquaintance::Acquaintances;
use crate::clearance::{Clearance, WAITS};
use crate::peers::{Peers, is_answer, is_refused};
use crate::raft::spawn;

/// A peer dials back before it answers.
const ANSWER_MAX: Duration = Duration::from_millis(2_500);

/// Between two tries, from the first on: a cold start of three is over at once…
const RETRY_MIN: Duration = Duration::from_millis(25);

/// …and a peer that stays away costs little.
const RETRY_MAX: Duration = Duration::from_secs(1);

/// How often it is looked whom to greet.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Greets every peer until it has answered, and again whenever it says that it
/// does not know this process. Runs for ever.
///
/// One answer clears the node; the others are asked all the same, because each
/// may remember more.
pub(crate) async fn run(acquaintances: Acquaintances, peers: Peers, clearance: Clearance) {
    tracing::info!("{WAITS}");
    acquaintances.begin();
    let mut greeting: BTreeMap<u64, AbortOnDropHandle<()>> = BTreeMap::new();
    loop {
        greeting.retain(|_, task| !task.is_finished());
        for peer in peers.ids().into_iter().filter(|peer| !acquaintances.has_answered(*peer)) {
            greeting.entry(peer).or_insert_with(|| {
                let greet = greet(peer, acquaintances.clone(), peers.clone(), clearance.clone());
                AbortOnDropHandle::new(spawn(greet))
            });
        }
        drop(tokio::time::timeout(LOOK_INTERVAL, acquaintances.unknown()).await);
    }
}

/// Greets one peer until it has answered.
async fn greet(peer: u64, acquaintances: Acquaintances, peers: Peers, clearance: Clearance) {
    let mut pause = RETRY_MIN;
    let mut said = String::new();
    loop {
        let Some(mut client) = peers.calls(peer) else {
            // Who belongs no more has nothing to object to.
            acquaintances.objects_no_more(peer);
            return;
        };
        let hello = HelloRequest { origin: acquaintances.origin() };
        let answer = tokio::time::timeout(ANSWER_MAX, client.hello(hello)).await;
        // Of a call that ended otherwise nobody knows whether somebody is there.
        let is_settled = answer.as_ref().is_ok_and(|answer| {
            answer.as_ref().err().is_none_or(|status| is_answer(status) || is_refused(status))
        });
        let unwelcome = match answer {
            Ok(Ok(reply)) => match acquaintances.answered(peer, reply.into_inner()) {
                Ok(()) => return peers.open(peer).await,
                Err(why) => why,
            },
            Ok(Err(status)) => {
                acquaintances.objects_no_more(peer);
                peers.heed(&status);
                status.message().to_owned()
            }
            Err(_) => {
                acquaintances.objects_no_more(peer);
                "no answer in time".to_owned()
            }
        };
        if is_settled {
            acquaintances.settle(peer);
        }
        // While nobody has answered this is why the node does not take part.
        if unwelcome != said && pause > RETRY_MIN && !clearance.is_given() {
            tracing::info!(peer, reason = unwelcome, "a peer has not answered yet");
            said = unwelcome;
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(RETRY_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::Arc;

    use license::product::NodeId;
    use wire::peer::HelloReply;
    use wire::peer::hello_reply::Verdict;

    use super::*;
    use crate::acquaintance::origin::KnownOrigin;
    use crate::peers::{Dial, Dialing, Incarnation};
    use crate::store::log::Log;
    use crate::store::mem::Platter;

    struct Nowhere;

    impl Dial for Nowhere {
        fn dial(&self, _: u64, _: &str) -> Dialing {
            Box::pin(async { Err(io::Error::from(io::ErrorKind::ConnectionRefused)) })
        }
    }

    /// Replaced while it objects, a witness is greeted no more, so nobody could
    /// clear the node otherwise.
    #[tokio::test(start_paused = true)]
    async fn a_witness_that_is_dropped_objects_no_more() {
        let address = |node: u64| (node, format!("node-{node}:22451"));
        let incarnation = Incarnation([1; 16]);
        let peers = Peers::new(1, [2, 3].map(address), Arc::new(Nowhere), incarnation);
        let log = Log::open(Platter::new().open(), |_| {}).await.expect("an empty disk");
        let clearance = Clearance::new();
        let node = NodeId(1);
        let (links, origin) = (peers.clone(), KnownOrigin::default);
        let acquaintances =
            Acquaintances::new(node, incarnation, links, log, origin, clearance.clone());
        let told = |witness: u64, verdict: Verdict| {
            let reply = HelloReply { verdict: verdict.into(), ..HelloReply::default() };
            acquaintances.answered(witness, reply)
        };
        told(3, Verdict::RunsElsewhere).expect_err("it sees another process");
        told(2, Verdict::Welcome).expect("welcome");
        assert!(!clearance.is_given(), "it is disputed");
        peers.know([address(2)]);
        greet(3, acquaintances.clone(), peers, clearance.clone()).await;
        assert!(clearance.is_given());
    }
}
