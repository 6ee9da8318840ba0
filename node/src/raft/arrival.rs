//! A snapshot on its way in from a peer: of a stated size, one at a time, and
//! given up when nothing more comes of it.

use std::future::ready;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _};
use openraft::vote::RaftLeaderId as _;
use tokio::sync::watch;
use tonic::Status;
use wire::peer::Packed;

use super::Vote;

/// Longest snapshot that is taken from a peer, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// A snapshot of which no byte has come for so long is given up.
const STALL_MAX: Duration = Duration::from_secs(10);

/// Snapshots that come in, of which there is one: two would be twice the memory.
#[derive(Default)]
pub(crate) struct Arrivals(Arc<watch::Sender<Latest>>);

/// The latest that began.
#[derive(Default)]
struct Latest {
    number: u64,
    stage: Stage,
}

#[derive(Default)]
enum Stage {
    /// It is over.
    #[default]
    Over,
    /// It is sent by the leader of this vote.
    Received(Vote),
    /// Raft has it, and cannot leave it in the middle.
    Installed,
}

/// The one snapshot that comes in; once this is dropped there is room for another.
pub(crate) struct Arrival {
    latest: Arc<watch::Sender<Latest>>,
    number: u64,
    /// Of its sender.
    vote: Vote,
}

impl Arrivals {
    /// Begins the snapshot of a leader that shows `vote`, at a node whose own vote
    /// is `own`. It displaces what is still being received: its sender is a newer
    /// leader, or has given that one up. An older leader's is refused, and touches
    /// nothing.
    ///
    /// Who says that it leads a term that this node has not heard of may have made
    /// it up, so the leader of this node's own vote goes before it. A true one is
    /// that as soon as its first heartbeat has come.
    pub(crate) fn begin(&self, vote: Vote, own: Vote) -> Result<Arrival, Status> {
        if !vote.is_committed() {
            return Err(Status::invalid_argument("only a leader sends a snapshot"));
        }
        let rank = |vote: Vote| (vote.leader_id() == own.leader_id(), vote);
        let mut begun = Err(Status::aborted("another snapshot is being installed"));
        // In one step, so that of two that begin at once one displaces the other.
        self.0.send_if_modified(|latest| {
            match &latest.stage {
                Stage::Installed => return false,
                Stage::Over => {}
                Stage::Received(theirs) if rank(vote) >= rank(*theirs) => {}
                // Two of one term have no order, because there is but one.
                Stage::Received(_) => {
                    begun = Err(Status::aborted("another leader's snapshot is on its way in"));
                    return false;
                }
            }
            *latest = Latest { number: latest.number + 1, stage: Stage::Received(vote) };
            begun = Ok(Arrival { latest: self.0.clone(), number: latest.number, vote });
            true
        });
        begun
    }
}

impl Arrival {
    /// The bytes of a snapshot that is to have `announced` of them. From then on
    /// it is being installed, until this is dropped.
    pub(crate) async fn receive(
        &self,
        announced: u64,
        chunks: impl Stream<Item = Result<Packed, Status>>,
    ) -> Result<Vec<u8>, Status> {
        if announced > SNAPSHOT_BYTES_MAX {
            return Err(Status::invalid_argument("snapshot is larger than 4 GiB"));
        }
        let displaced = || Status::aborted("another snapshot has begun to arrive");
        let mut latest = self.latest.subscribe();
        let bytes = tokio::select! {
            biased;
            _ = latest.wait_for(|latest| latest.number != self.number) => return Err(displaced()),
            received = self.gather(announced, chunks) => received?,
        };
        if self.enter(Stage::Installed) { Ok(bytes) } else { Err(displaced()) }
    }

    async fn gather(
        &self,
        announced: u64,
        chunks: impl Stream<Item = Result<Packed, Status>>,
    ) -> Result<Vec<u8>, Status> {
        // A chunk without a byte is no progress.
        let says = |chunk: &Result<Packed, Status>| !matches!(chunk, Ok(it) if it.body.is_empty());
        let mut chunks = pin!(chunks.filter(|chunk| ready(says(chunk))));
        let mut bytes = Vec::new();
        while let Some(chunk) = tokio::time::timeout(STALL_MAX, chunks.next())
            .await
            .map_err(|_| self.stalled(bytes.len(), announced))?
        {
            bytes.extend_from_slice(&chunk?.body);
            if bytes.len() as u64 > announced {
                return Err(Status::invalid_argument("snapshot is longer than its header says"));
            }
        }
        if bytes.len() as u64 != announced {
            return Err(Status::invalid_argument("snapshot is shorter than its header says"));
        }
        Ok(bytes)
    }

    fn stalled(&self, received: usize, announced: u64) -> Status {
        let (from, term) = (self.vote.leader_id().node_id(), self.vote.leader_id().term);
        tracing::warn!(from, term, received, announced, "a snapshot that stalled is given up");
        Status::aborted(format!("no byte of this snapshot came for {STALL_MAX:?}"))
    }

    /// Whether it was not displaced before.
    fn enter(&self, stage: Stage) -> bool {
        self.latest.send_if_modified(|latest| {
            let is_latest = latest.number == self.number;
            if is_latest {
                latest.stage = stage;
            }
            is_latest
        })
    }
}

impl Drop for Arrival {
    fn drop(&mut self) {
        self.enter(Stage::Over);
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream;
    use tonic::Code;

    use super::*;

    fn chunk(bytes: usize) -> Result<Packed, Status> {
        Ok(Packed { body: vec![7; bytes], ..Packed::default() })
    }

    fn chunks(sizes: &[usize]) -> impl Stream<Item = Result<Packed, Status>> {
        stream::iter(sizes.iter().map(|bytes| chunk(*bytes)).collect::<Vec<_>>())
    }

    /// The leader of a term.
    fn led(term: u64) -> Vote {
        Vote::new_committed(term, 1)
    }

    /// The vote of a node that has heard nobody yet.
    fn new() -> Vote {
        Vote::new(0, 0)
    }

    #[tokio::test]
    async fn a_snapshot_is_as_long_as_its_header_says() {
        let arrivals = Arrivals::default();
        let receive = async |announced| {
            arrivals.begin(led(5), new()).expect("alone").receive(announced, chunks(&[2, 3])).await
        };
        assert_eq!(receive(5).await.expect("whole"), vec![7; 5]);
        for (announced, said) in [(4, "longer"), (6, "shorter")] {
            let refused = receive(announced).await.unwrap_err();
            assert!(refused.message().contains(said), "{refused}");
        }
    }

    /// Nothing of it is read: its header is enough.
    #[tokio::test]
    async fn a_snapshot_over_four_gibibytes_is_not_begun() {
        let arrival = Arrivals::default().begin(led(5), new()).expect("alone");
        let refused = arrival.receive((4 << 30) + 1, stream::pending()).await.unwrap_err();
        assert!(refused.message().contains("4 GiB"), "{refused}");
        let most = arrival.receive(4 << 30, chunks(&[1])).await.unwrap_err();
        assert!(most.message().contains("shorter"), "{most}");
    }

    /// The same leader has given the first one up, or a newer one sends.
    #[tokio::test]
    async fn a_second_snapshot_displaces_the_first() {
        for term in [5, 6] {
            let arrivals = Arrivals::default();
            let first = arrivals.begin(led(5), new()).expect("alone");
            let second = arrivals.begin(led(term), new()).expect("no older leader's");
            let received = first.receive(2, chunks(&[2])).await.unwrap_err();
            assert_eq!(received.code(), Code::Aborted, "however they began");
            drop(first);
            assert_eq!(second.receive(3, chunks(&[3])).await.expect("whole"), vec![7; 3]);
        }
    }

    /// A node that led once, and does not know better yet, sends what it has.
    #[tokio::test]
    async fn an_older_leaders_snapshot_does_not_touch_what_arrives() {
        let arrivals = Arrivals::default();
        let newer = arrivals.begin(led(6), new()).expect("alone");
        let another_of_its_term = Vote::new_committed(6, 2);
        for refused in [led(5), another_of_its_term].map(|vote| arrivals.begin(vote, new())) {
            let refused = refused.err().expect("refused");
            assert!(refused.message().contains("another leader's"), "{refused}");
        }
        let candidate = arrivals.begin(Vote::new(7, 1), new()).err().expect("refused");
        assert_eq!(candidate.code(), Code::InvalidArgument);
        assert_eq!(newer.receive(3, chunks(&[3])).await.expect("whole"), vec![7; 3]);
    }

    /// Whoever it is, it kept every other snapshot out.
    #[tokio::test(start_paused = true)]
    async fn a_snapshot_that_stalls_is_given_up() {
        let arrivals = Arrivals::default();
        let silent = arrivals.begin(led(9), new()).expect("alone");
        let one_and_no_more = chunks(&[1]).chain(stream::pending());
        let received = in_the_end(silent.receive(3, one_and_no_more)).await.unwrap_err();
        assert_eq!(received.code(), Code::Aborted, "{received}");
        drop(silent);
        let idle = arrivals.begin(led(8), new()).expect("there is room again");
        let of_nothing = stream::repeat(0).then(|bytes| after(STALL_MAX / 10, bytes));
        let received = in_the_end(idle.receive(3, of_nothing)).await.unwrap_err();
        assert_eq!(received.code(), Code::Aborted, "{received}");
        drop(idle);
        // A slow one is another thing.
        let slow = arrivals.begin(led(5), new()).expect("there is room again");
        let chunks = stream::iter([1; 3]).then(|bytes| after(STALL_MAX * 9 / 10, bytes));
        assert_eq!(slow.receive(3, chunks).await.expect("whole"), vec![7; 3]);
    }

    async fn in_the_end<T>(what: impl Future<Output = T>) -> T {
        tokio::time::timeout(STALL_MAX * 100, what).await.expect("it ends")
    }

    async fn after(pause: Duration, bytes: usize) -> Result<Packed, Status> {
        tokio::time::sleep(pause).await;
        chunk(bytes)
    }

    #[tokio::test]
    async fn the_own_leaders_snapshot_goes_before_that_of_an_invented_vote() {
        let invented = Vote::new_committed(u64::MAX, 3);
        // The node may not have heard yet that who has its vote was elected.
        for own in [led(5), Vote::new(5, 1)] {
            let arrivals = Arrivals::default();
            let first = arrivals.begin(invented, own).expect("alone");
            let leaders = arrivals.begin(led(5), own).expect("it is this node's leader");
            let received = first.receive(3, chunks(&[3])).await.unwrap_err();
            assert_eq!(received.code(), Code::Aborted, "displaced");
            let again = arrivals.begin(invented, own).err().expect("refused");
            assert!(again.message().contains("another leader's"), "{again}");
            assert_eq!(leaders.receive(3, chunks(&[3])).await.expect("whole"), vec![7; 3]);
        }
    }

    /// A disk may take longer to take a snapshot in than its sender waits. Sent
    /// again meanwhile, it would be in memory twice.
    #[tokio::test]
    async fn while_a_snapshot_is_installed_no_other_begins() {
        let arrivals = Arrivals::default();
        let first = arrivals.begin(led(5), new()).expect("alone");
        first.receive(3, chunks(&[3])).await.expect("whole");
        let refused = arrivals.begin(led(6), new()).err().expect("refused");
        assert!(refused.message().contains("is being installed"), "{refused}");
        drop(first);
        arrivals.begin(led(6), new()).expect("there is room again");
    }
}
