//! A snapshot on its way in from a peer: of a stated size, one at a time.

use std::pin::pin;

use futures_util::{Stream, StreamExt as _};
use tokio::sync::watch;
use tonic::Status;
use wire::peer::Packed;

/// Longest snapshot that is taken from a peer, in bytes.
const SNAPSHOT_BYTES_MAX: u64 = 4 << 30;

/// Snapshots that come in. The latest displaces the one before it: its sender
/// is a newer leader, or has given that one up, and two would be twice the memory.
#[derive(Default)]
pub(crate) struct Arrivals(watch::Sender<u64>);

impl Arrivals {
    /// The bytes of a snapshot that is to have `announced` of them.
    pub(crate) async fn receive(
        &self,
        announced: u64,
        chunks: impl Stream<Item = Result<Packed, Status>>,
    ) -> Result<Vec<u8>, Status> {
        if announced > SNAPSHOT_BYTES_MAX {
            return Err(Status::invalid_argument("snapshot is larger than 4 GiB"));
        }
        self.0.send_modify(|latest| *latest += 1);
        let mut later = self.0.subscribe();
        tokio::select! {
            biased;
            _ = later.changed() => Err(Status::aborted("another snapshot has begun to arrive")),
            received = gather(announced, chunks) => received,
        }
    }
}

async fn gather(
    announced: u64,
    chunks: impl Stream<Item = Result<Packed, Status>>,
) -> Result<Vec<u8>, Status> {
    let mut chunks = pin!(chunks);
    let mut bytes = Vec::new();
    while let Some(chunk) = chunks.next().await {
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

    #[tokio::test]
    async fn a_snapshot_is_as_long_as_its_header_says() {
        let arrivals = Arrivals::default();
        assert_eq!(arrivals.receive(5, chunks(&[2, 3])).await.expect("whole"), vec![7; 5]);
        for (announced, said) in [(4, "longer"), (6, "shorter")] {
            let refused = arrivals.receive(announced, chunks(&[2, 3])).await.unwrap_err();
            assert!(refused.message().contains(said), "{refused}");
        }
    }

    /// Nothing of it is read: its header is enough.
    #[tokio::test]
    async fn a_snapshot_over_four_gibibytes_is_not_begun() {
        let arrivals = Arrivals::default();
        let refused = arrivals.receive((4 << 30) + 1, stream::pending()).await.unwrap_err();
        assert!(refused.message().contains("4 GiB"), "{refused}");
        let most = arrivals.receive(4 << 30, chunks(&[1])).await.unwrap_err();
        assert!(most.message().contains("shorter"), "{most}");
    }

    #[tokio::test]
    async fn a_second_snapshot_displaces_the_first() {
        let arrivals = Arrivals::default();
        let first = arrivals.receive(5, chunks(&[2]).chain(stream::pending()));
        let second = async {
            tokio::task::yield_now().await;
            arrivals.receive(3, chunks(&[3])).await
        };
        let (first, second) = tokio::join!(first, second);
        assert_eq!(first.unwrap_err().code(), Code::Aborted);
        assert_eq!(second.expect("whole"), vec![7; 3]);
    }
}
