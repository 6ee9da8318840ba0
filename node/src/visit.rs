//! A node that is no member yet, asked for its container on the leader's behalf.
//!
//! A member makes another dial an address here. So only the leader may, one
//! address at a time, and what it hears of who is no node of this cluster is one
//! of few sentences: no member is to learn from another what else stands in its
//! network.

use std::io;
use std::time::Duration;

use ledger::name::Address;
use tokio::sync::Semaphore;
use tonic::Status;
use wire::peer::{ContainerReply, ContainerRequest, VisitRequest};

use crate::peers::Peers;

/// Visits that this node makes for others at once.
const VISITS_MAX: usize = 1;

/// Less than the member waits on whose behalf another is visited.
const VISIT_MAX: Duration = Duration::from_millis(1_500);

/// The visits that this node makes for others.
pub(crate) struct Visits {
    peers: Peers,
    room: Semaphore,
}

impl Visits {
    pub(crate) fn new(peers: Peers) -> Self {
        Self { peers, room: Semaphore::new(VISITS_MAX) }
    }

    /// What a node that is to join shows to `caller`, if that is who leads.
    /// Whether it holds is the leader's to judge.
    pub(crate) async fn pay(
        &self,
        caller: u64,
        leader: Option<u64>,
        request: VisitRequest,
    ) -> Result<ContainerReply, Status> {
        if leader != Some(caller) {
            return Err(Status::permission_denied(format!(
                "this node visits another for its leader, which node-{caller} is not"
            )));
        }
        let Ok(_room) = self.room.try_acquire() else {
            return Err(Status::resource_exhausted("this node is on another visit already"));
        };
        let VisitRequest { cluster, node, address } = request;
        let address = Address::parse(&address)
            .map_err(|wrong| Status::invalid_argument(wrong.to_string()))?;
        let mut client = self.peers.visit(node, address.as_str());
        let call = client.container(ContainerRequest { cluster });
        match tokio::time::timeout(VISIT_MAX, call).await {
            Ok(Ok(shown)) => Ok(shown.into_inner()),
            Ok(Err(status)) => Err(Status::failed_precondition(found(&status))),
            Err(_) => Err(Status::failed_precondition(NO_ANSWER)),
        }
    }
}

const NO_ANSWER: &str = "no answer in time";

/// What is said of a visit that `status` ended. It is not this node that refuses.
fn found(status: &Status) -> &str {
    let mut source = std::error::Error::source(status);
    if source.is_none() {
        // The words of a node that has proved who it is.
        return status.message();
    }
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            return match error.kind() {
                io::ErrorKind::ConnectionRefused => "the connection is refused",
                io::ErrorKind::TimedOut => NO_ANSWER,
                // Of a handshake that fails.
                io::ErrorKind::InvalidData
                | io::ErrorKind::UnexpectedEof
                | io::ErrorKind::PermissionDenied => "it does not prove that it is this node",
                _ => "it is not reached",
            };
        }
        source = error.source();
    }
    "it is not reached"
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use futures_util::FutureExt as _;
    use tonic::Code;

    use super::*;
    use crate::peers::{Dial, Dialing, Incarnation};

    /// What comes of dialing.
    enum Street {
        /// Nothing, ever.
        Silent,
        /// This, in the words of an operating system.
        Ends(io::ErrorKind),
    }

    impl Dial for Street {
        fn dial(&self, _: u64, _: &str) -> Dialing {
            match self {
                Self::Silent => Box::pin(std::future::pending()),
                Self::Ends(kind) => {
                    let error = io::Error::new(*kind, "SSH-2.0 at 10.0.0.7 (os error 111)");
                    Box::pin(std::future::ready(Err(error)))
                }
            }
        }
    }

    fn visits(street: Street) -> Visits {
        Visits::new(Peers::new(1, [], Arc::new(street), Incarnation([1; 16])))
    }

    fn request(address: &str) -> VisitRequest {
        VisitRequest { cluster: vec![1; 16], node: 4, address: address.to_owned() }
    }

    fn at_its_door() -> VisitRequest {
        request("node-4:22451")
    }

    #[tokio::test(start_paused = true)]
    async fn one_visit_is_made_at_a_time() {
        let visits = visits(Street::Silent);
        let mut first = std::pin::pin!(visits.pay(2, Some(2), at_its_door()));
        assert!(first.as_mut().now_or_never().is_none(), "it is under way");
        for _ in 0..256 {
            let refused = visits.pay(2, Some(2), at_its_door()).now_or_never();
            let refused = refused.expect("at once").unwrap_err();
            assert_eq!(refused.code(), Code::ResourceExhausted, "{refused}");
        }
        let ended = first.await.unwrap_err();
        assert_eq!((ended.code(), ended.message()), (Code::FailedPrecondition, NO_ANSWER));
        let mut next = std::pin::pin!(visits.pay(2, Some(2), at_its_door()));
        assert!(next.as_mut().now_or_never().is_none(), "there is room again");
    }

    /// Not even whether the address is one.
    #[tokio::test]
    async fn who_does_not_lead_has_nobody_visited() {
        for leader in [None, Some(1), Some(3)] {
            for address in ["node-4:22451", "nowhere"] {
                let visits = visits(Street::Silent);
                let answer = visits.pay(2, leader, request(address)).now_or_never();
                let refused = answer.expect("at once").unwrap_err();
                assert_eq!(refused.code(), Code::PermissionDenied, "{refused}");
            }
        }
    }

    #[tokio::test]
    async fn of_who_is_no_node_a_visit_says_one_of_few_sentences() {
        for (kind, said) in [
            (io::ErrorKind::ConnectionRefused, "the connection is refused"),
            (io::ErrorKind::TimedOut, "no answer in time"),
            (io::ErrorKind::InvalidData, "it does not prove that it is this node"),
            (io::ErrorKind::UnexpectedEof, "it does not prove that it is this node"),
            (io::ErrorKind::HostUnreachable, "it is not reached"),
            (io::ErrorKind::ConnectionReset, "it is not reached"),
            (io::ErrorKind::Other, "it is not reached"),
        ] {
            let answer = visits(Street::Ends(kind)).pay(2, Some(2), at_its_door()).await;
            let ended = answer.unwrap_err();
            assert_eq!((ended.code(), ended.message()), (Code::FailedPrecondition, said), "{kind}");
        }
    }
}
