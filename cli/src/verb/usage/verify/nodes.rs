//! The members' own histories: each is asked at the address that the cluster
//! knows it by, and has to say who it is. What answers at the addresses of the
//! command line may be a balancer, and that is one node, whichever it likes.

use std::collections::BTreeMap;

use futures_util::future::join_all;
use ledger::usage::{Page as Records, hash};
use serde::Serialize;
use trine_client::Endpoint;
use wire::v1;

use crate::context::Purpose;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;
use crate::usage::source::{Dates, Source};
use crate::verb::Call;

/// A member and how far it reaches, asked for before the leader's reach: it is
/// never further.
pub(super) struct Asked {
    id: u64,
    address: String,
    reach: Result<(Endpoint, v1::UsageReach), String>,
}

/// What became of one member.
#[derive(Debug, Serialize)]
pub(super) struct Node {
    /// `node-2`.
    pub(super) node: String,
    /// Where it was asked.
    address: String,
    /// Pages it had.
    pages: Option<u64>,
    /// Whether they are the leader's; null when that is not known.
    pub(super) same: Option<bool>,
    /// Whether all its pages were read from its own disk.
    read: bool,
    /// Why something of this is not known.
    problem: Option<String>,
    #[serde(skip)]
    endpoint: Option<Endpoint>,
}

/// Asks every member of the cluster.
pub(super) async fn ask(connection: &Connection) -> Result<Vec<Asked>, Failure> {
    let status = connection.operator().status().await;
    let status = status.map_err(|error| connection.unread(&error))?;
    let asked = status.nodes.into_iter().map(|member| async move {
        let (id, address) = (member.id, member.client_address);
        let reach = reach(connection, id, &address).await;
        Asked { id, address, reach }
    });
    Ok(join_all(asked).await)
}

async fn reach(
    connection: &Connection,
    id: u64,
    address: &str,
) -> Result<(Endpoint, v1::UsageReach), String> {
    let endpoint = Endpoint::parse(address).map_err(|error| error.to_string())?;
    let node = connection.operator().at(endpoint.clone());
    let who = node.node_status().await.map_err(|error| error.failure().message.clone())?;
    if who.id != id {
        return Err(format!("node-{} answers in its place", who.id));
    }
    let nothing =
        v1::UsagePagesRequest { from_page: Some(0), until_page: Some(0), ..Default::default() };
    let reply = node.usage_pages(nothing).await;
    let reply = reply.map_err(|error| error.failure().message.clone())?;
    let reach = reply.reach.ok_or_else(|| "it does not say how far it reaches".to_owned())?;
    Ok((endpoint, reach))
}

impl Asked {
    /// How many pages it had, if it said so.
    pub(super) fn pages(&self) -> Option<u64> {
        self.reach.as_ref().ok().map(|(_, reach)| reach.pages)
    }

    /// Holds its head against the leader's chain at the same length.
    pub(super) fn compare(self, heads: &BTreeMap<u64, [u8; 32]>) -> Result<Node, Failure> {
        let node = Node {
            node: format!("node-{}", self.id),
            address: self.address,
            pages: None,
            same: None,
            read: false,
            problem: None,
            endpoint: None,
        };
        let (endpoint, reach) = match self.reach {
            Ok(told) => told,
            Err(problem) => return Ok(Node { problem: Some(problem), ..node }),
        };
        let node = Node { pages: Some(reach.pages), endpoint: Some(endpoint), ..node };
        match heads.get(&reach.pages) {
            Some(head) if reach.head == head => Ok(Node { same: Some(true), ..node }),
            Some(_) => Err(Failure::unsound(
                "HISTORIES_DIFFER",
                format!(
                    "{} knows another history than the leader up to page {}",
                    node.node, reach.pages
                ),
            )
            .next(
                "stop it, leave it stopped and see `trine cluster doctor`; its ledger differs too",
            )),
            None => {
                let problem = "it is further behind than what is kept".to_owned();
                Ok(Node { problem: Some(problem), ..node })
            }
        }
    }
}

impl Node {
    /// Reads all its pages, each of which the next one must name. Pages that it
    /// does not give are no proof of anything; pages that are wrong are.
    pub(super) async fn read(&mut self, call: &Call) -> Result<(), Failure> {
        let Some(endpoint) = self.endpoint.clone() else { return Ok(()) };
        match read_all(call, &self.node, endpoint).await {
            Ok(()) => self.read = true,
            Err(failure) if failure.exit() == Exit::Unsound => return Err(failure),
            Err(failure) => self.problem = Some(failure.message().to_owned()),
        }
        Ok(())
    }

    /// What is said of it on a page.
    pub(super) fn told(&self) -> String {
        let pages = self.pages.unwrap_or(0);
        match (self.same, self.read, &self.problem) {
            (Some(true), true, _) => format!("all its {pages} pages read, the same"),
            (Some(true), false, None) => format!("the same head after {pages} pages"),
            (Some(true), false, Some(problem)) => format!("the same head, not read: {problem}"),
            (_, _, Some(problem)) => format!("not compared: {problem}"),
            _ => "not compared".to_owned(),
        }
    }
}

/// Every member was read, or the ones that were not are named.
pub(super) fn require_all_read(nodes: &[Node]) -> Result<(), Failure> {
    let unread = nodes.iter().filter(|node| !node.read).map(|node| {
        let problem = node.problem.as_deref().unwrap_or("no answer");
        format!("{} at {} ({problem})", node.node, node.address)
    });
    let unread: Vec<String> = unread.collect();
    if unread.is_empty() {
        return Ok(());
    }
    Err(Failure::unreachable("NODE_NOT_READ", format!("not read: {}", unread.join(", "))).next(
        "what was read holds; see `trine cluster doctor`, let this machine reach that client port, and verify again",
    ))
}

async fn read_all(call: &Call, name: &str, node: Endpoint) -> Result<(), Failure> {
    let connection = Connection::find(&call.global, Purpose::Operator).await?;
    let source = Source::Node(Box::new(connection), node);
    let ends = source.told(Dates::default()).await?.ends;
    let (mut head, mut number) = (ends.previous, ends.first);
    let altered = |number: u64| {
        let what = format!("page {number} of {name} was altered on its disk");
        Failure::unsound("HISTORY_UNSOUND", what)
            .next("check that disk; the other nodes have the page")
    };
    source
        .each(ends.first..ends.pages, |bytes| {
            let page = Records::decode(bytes).map_err(|_| altered(number))?;
            if page.previous != head {
                return Err(altered(number.saturating_sub(1)));
            }
            head = hash(bytes);
            number = number.saturating_add(1);
            Ok(())
        })
        .await?;
    if head == ends.head { Ok(()) } else { Err(altered(number.saturating_sub(1))) }
}
