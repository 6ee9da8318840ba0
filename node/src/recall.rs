//! Fetching history: the pages that a snapshot from another node covers and
//! that this node never wrote.
//!
//! The latest first: each page is checked when it arrives, against the hash
//! that the one after it names, so it does not matter which node it comes
//! from. The others are asked in turn, one answer each, so that none that is
//! slow, broken or hostile holds up what the rest would give. A restart goes on
//! where the last one stopped.

use std::time::Duration;

use tonic::Status;
use wire::peer::HistoryRequest;

use crate::peers::{Client, Peers};
use crate::store::history::{History, Unfit};

/// Pages asked for at once, and the most that a node gives.
pub(crate) const PAGES_MAX: u64 = 1_024;
/// Bytes of pages in one answer, unless a single page has more.
pub(crate) const PAGES_BYTES_MAX: usize = 1 << 20;
/// An answer that is longer is not read. No page comes near to the difference.
const ANSWER_BYTES_MAX: usize = 2 << 20;
/// One answer takes no longer.
const ANSWER_MAX: Duration = Duration::from_secs(10);
/// The first pause after a round in which nobody gave anything; each further
/// one is twice as long.
const PAUSE: Duration = Duration::from_millis(500);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// Fetches whatever comes to be missing. Never ends.
pub(crate) async fn run(history: History, peers: Peers) {
    let mut changes = history.changes();
    loop {
        changes.mark_unchanged();
        match history.missing() {
            None => {
                // The sender lives as long as `history`.
                let _ = changes.changed().await;
            }
            Some(missing) => {
                tracing::info!(from = missing.from, until = missing.until, "fetching history");
                let nodes = || peers.ids();
                fetch(&history, nodes, |peer, request| ask(peers.calls(peer), request)).await;
                tracing::info!("history is whole");
            }
        }
    }
}

/// Asks `nodes` until nothing is missing.
async fn fetch<A: Answer>(
    history: &History,
    nodes: impl Fn() -> Vec<u64>,
    ask: impl Fn(u64, HistoryRequest) -> A,
) {
    let mut pause = PAUSE;
    while history.missing().is_some() {
        let mut moved = false;
        for peer in nodes() {
            match take_turn(history, |request| ask(peer, request)).await {
                Ok(taken) => moved |= taken,
                Err(Useless::Unfit(unfit)) => {
                    tracing::warn!(peer, %unfit, "this node's history is not taken");
                }
                Err(useless) => tracing::debug!(peer, %useless, "no history from this node"),
            }
        }
        if moved {
            pause = PAUSE;
        } else {
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

/// Pages, in order, from the first that was asked for.
trait Answer: Future<Output = Result<Vec<Vec<u8>>, Status>> {}
impl<T: Future<Output = Result<Vec<Vec<u8>>, Status>>> Answer for T {}

/// Why a node's turn brought nothing.
#[derive(Debug, thiserror::Error)]
enum Useless {
    #[error("{0}")]
    NoAnswer(#[from] Box<Status>),
    #[error("it gave no pages")]
    Empty,
    #[error(transparent)]
    Unfit(#[from] Unfit),
}

/// Asks one node for the last pages that are missing, as many as it gives in
/// one answer. Whether any of them was.
async fn take_turn<A: Answer>(
    history: &History,
    ask: impl Fn(HistoryRequest) -> A,
) -> Result<bool, Useless> {
    let Some(missing) = history.missing() else { return Ok(false) };
    let mut count = PAGES_MAX.min(missing.until - missing.from);
    loop {
        let (from_page, until_page) = (missing.until - count, missing.until);
        let pages = ask(HistoryRequest { from_page, until_page }).await.map_err(Box::new)?;
        if pages.len() as u64 >= count {
            history.fill(&pages).await?;
            return Ok(history.missing().as_ref() != Some(&missing));
        }
        // Large pages: the first of them filled the answer, and the last are wanted.
        count /= 2;
        if count == 0 {
            return Err(Useless::Empty);
        }
    }
}

async fn ask(client: Option<Client>, request: HistoryRequest) -> Result<Vec<Vec<u8>>, Status> {
    let client = client.ok_or_else(|| Status::not_found("no such peer"))?;
    let mut client = client.max_decoding_message_size(ANSWER_BYTES_MAX);
    let answer = tokio::time::timeout(ANSWER_MAX, client.history(request)).await;
    let answer = answer.map_err(|_| Status::deadline_exceeded("no answer in time"))?;
    Ok(answer?.into_inner().pages)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::collections::BTreeMap;

    use ledger::Ledger;
    use ledger::usage::{Reach, hash};

    use super::*;
    use crate::store::history::testing::chain;
    use crate::store::mem::Platter;

    /// A history that lacks all of `pages`.
    async fn lacking(pages: &[Vec<u8>]) -> History {
        let reach = Ledger::new().history();
        let history = History::open(Platter::new().open(), &reach).await.expect("an empty disk");
        let head = hash(pages.last().expect("some pages"));
        let reach = Reach { pages: pages.len() as u64, head, ..reach };
        history.skip(0, &reach).await.expect("a good disk");
        history
    }

    /// How another node answers.
    #[derive(Clone, Copy)]
    enum Manner {
        /// With what was asked for, up to so many pages.
        Well(usize),
        /// With no pages.
        Empty,
        /// With pages of nothing, as many as were asked for.
        Blank,
        /// With every page altered.
        Altered,
        /// With more than was asked for.
        TooMany,
        /// Not before it is given up.
        Late,
    }

    /// Nodes that answer in their manner, and how often each was asked.
    struct Nodes {
        pages: Vec<Vec<u8>>,
        manners: Vec<Manner>,
        asked: RefCell<BTreeMap<u64, u32>>,
    }

    impl Nodes {
        fn new(pages: &[Vec<u8>], manners: &[Manner]) -> Self {
            Self { pages: pages.to_vec(), manners: manners.to_vec(), asked: RefCell::default() }
        }

        async fn fill(&self, history: &History) {
            let nodes = || (0..self.manners.len() as u64).collect();
            fetch(history, nodes, |node, request| self.answer(node, request)).await;
        }

        async fn answer(&self, node: u64, request: HistoryRequest) -> Result<Vec<Vec<u8>>, Status> {
            *self.asked.borrow_mut().entry(node).or_default() += 1;
            // A loop without a pause would never let the time pass that ends the test.
            assert!(self.asked(node) < 100_000, "node {node} is asked in a loop");
            let range = request.from_page as usize..request.until_page as usize;
            let asked = self.pages[range].iter().cloned();
            Ok(match self.manners[node as usize] {
                Manner::Well(most) => asked.take(most).collect(),
                Manner::Empty => Vec::new(),
                Manner::Blank => asked.map(|_| Vec::new()).collect(),
                Manner::Altered => asked
                    .map(|mut page| {
                        page[40] ^= 1;
                        page
                    })
                    .collect(),
                Manner::TooMany => self.pages.iter().cloned().cycle().take(5_000).collect(),
                Manner::Late => {
                    tokio::time::sleep(ANSWER_MAX).await;
                    return Err(Status::deadline_exceeded("no answer in time"));
                }
            })
        }

        fn asked(&self, node: u64) -> u32 {
            self.asked.borrow().get(&node).copied().unwrap_or(0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn answers_that_hold_few_pages_add_up() {
        let pages = chain(3_000);
        for most in [1, 7, 1_000, 2_000] {
            let history = lacking(&pages).await;
            Nodes::new(&pages, &[Manner::Well(most)]).fill(&history).await;
            assert_eq!(history.read(0..3_000, usize::MAX).await.expect("whole"), pages);
        }
    }

    /// Whatever nodes give that is of no use, they are asked a few times a
    /// minute, and nothing of it is kept.
    #[tokio::test(start_paused = true)]
    async fn nodes_that_give_nothing_of_use_are_not_asked_in_a_loop() {
        let pages = chain(2_000);
        for manner in [Manner::Empty, Manner::Blank, Manner::Altered, Manner::Late] {
            let history = lacking(&pages).await;
            let before = history.missing();
            let nodes = Nodes::new(&pages, &[manner, manner]);
            let minute = tokio::time::timeout(Duration::from_secs(60), nodes.fill(&history)).await;
            assert!(minute.is_err(), "nobody had it");
            assert!((1..=150).contains(&nodes.asked(0)), "asked {} times", nodes.asked(0));
            assert_eq!(history.missing(), before);
            assert!(history.read(1_999..2_000, 1).await.is_err(), "a page was kept");
        }
    }

    /// One good node is enough, and the others do not hold it up.
    #[tokio::test(start_paused = true)]
    async fn a_good_node_is_heard_beside_others() {
        let pages = chain(3_000);
        for manner in [Manner::Empty, Manner::Blank, Manner::Altered, Manner::TooMany, Manner::Late]
        {
            let history = lacking(&pages).await;
            let nodes = Nodes::new(&pages, &[manner, Manner::Well(1_024), manner]);
            nodes.fill(&history).await;
            assert_eq!(history.missing(), None);
            assert_eq!(history.read(0..3_000, usize::MAX).await.expect("whole"), pages);
            assert!(nodes.asked(1) <= 3, "it took {} answers", nodes.asked(1));
        }
    }
}
