//! Where pages come from: the leader, one node, or a file.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use ledger::command::{LogId, Token};
use ledger::name::Subject;
use ledger::time::ClusterTime;
use ledger::usage::audit::{Charged, Ends};
use license::product::{ClusterId, FirmCode, LicenseId, ProductCode, ProductName, TmrId, WallTime};
use trine_client::{CallError, Endpoint};
use wire::v1;

use super::file::Reader;
use crate::failure::Failure;
use crate::online::Connection;

/// Where pages come from.
pub enum Source {
    /// The cluster: its leader, whoever that is as the reading goes on.
    Cluster(Box<Connection>),
    /// One node, as far as it has applied.
    Node(Box<Connection>, Endpoint),
    /// A file that `trine usage export` wrote.
    File(PathBuf),
}

/// A history as it stands at one moment.
pub struct Told {
    /// What it must come to.
    pub ends: Ends,
    /// The pages that may have the dates asked for.
    pub dated: std::ops::Range<u64>,
    /// Since when the live seats are held.
    pub since: BTreeMap<Token, ClusterTime>,
    /// Days and mebibytes that are kept, where they are known.
    pub retention: Option<(u32, u32)>,
}

/// The dates asked for: from, and up to and without.
#[derive(Debug, Clone, Copy, Default)]
pub struct Dates {
    /// From here on.
    pub from: Option<WallTime>,
    /// Up to here.
    pub to: Option<WallTime>,
}

impl Dates {
    /// Whether something of that date was asked for. What has no date is older than all dates.
    pub fn contain(&self, date: Option<WallTime>) -> bool {
        self.from.is_none_or(|from| date.is_some_and(|date| date >= from))
            && self.to.is_none_or(|to| date.is_none_or(|date| date < to))
    }
}

impl Source {
    /// How far it reaches, and which pages may have these dates.
    pub async fn told(&self, dates: Dates) -> Result<Told, Failure> {
        if let Self::File(path) = self {
            let ends = Reader::open(path)?.ends;
            let dated = ends.first..ends.pages;
            return Ok(Told { ends, dated, since: BTreeMap::new(), retention: None });
        }
        let request = v1::UsagePagesRequest {
            from_ms: dates.from.map(|date| date.0),
            to_ms: dates.to.map(|date| date.0),
            seats: true,
            ..Default::default()
        };
        let reply = self.ask(request).await?;
        told(&reply).ok_or_else(|| Failure::failed("the answer does not say how far it reaches"))
    }

    /// Hands over the pages of `range` in order.
    pub async fn each(
        &self,
        range: std::ops::Range<u64>,
        mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
    ) -> Result<(), Failure> {
        if let Self::File(path) = self {
            return each_of_file(path, &range, take);
        }
        let mut next = range.start;
        while next < range.end {
            let request = v1::UsagePagesRequest {
                from_page: Some(next),
                until_page: Some(range.end),
                ..Default::default()
            };
            let reply = self.ask(request).await?;
            if reply.first_page != next || reply.pages.is_empty() {
                let gone = format!("page {next} of the history is no longer kept");
                return Err(Failure::refused("NOT_KEPT", gone).next("read again from the start"));
            }
            next = next.saturating_add(reply.pages.len() as u64);
            for page in &reply.pages {
                take(page)?;
            }
        }
        Ok(())
    }

    async fn ask(&self, request: v1::UsagePagesRequest) -> Result<v1::UsagePagesReply, Failure> {
        let (connection, reply) = match self {
            Self::Cluster(connection) => {
                (connection, connection.operator().usage_pages(request).await)
            }
            Self::Node(connection, node) => {
                (connection, connection.operator().at(node.clone()).usage_pages(request).await)
            }
            Self::File(path) => {
                return Err(Failure::failed(format!("{} is a file", path.display())));
            }
        };
        reply.map_err(|error: CallError| connection.unread(&error))
    }
}

/// A file has all its pages from the first on.
fn each_of_file(
    path: &Path,
    range: &std::ops::Range<u64>,
    mut take: impl FnMut(&[u8]) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let mut file = Reader::open(path)?;
    let mut number = file.ends.first;
    while let Some(page) = file.page()? {
        if number >= range.start {
            take(&page)?;
        }
        number = number.saturating_add(1);
    }
    Ok(())
}

fn told(reply: &v1::UsagePagesReply) -> Option<Told> {
    let (as_of, reach) = (reply.as_of.as_ref()?, reply.reach.as_ref()?);
    let mut live = BTreeMap::new();
    let mut since = BTreeMap::new();
    for seat in &reply.seats {
        let charged = Charged {
            product: ProductName::parse(&seat.product).ok()?,
            license: license_id(&seat.license)?,
            subject: Subject::parse(&seat.subject).ok()?,
        };
        live.insert(Token(seat.seat), charged);
        since.insert(Token(seat.seat), ClusterTime(seat.since_ms));
    }
    let ends = Ends {
        cluster: cluster_id(&reach.cluster_id)?,
        log_id: LogId { epoch: as_of.epoch, index: as_of.index, position: as_of.position },
        time: ClusterTime(as_of.stamp_ms),
        first: reach.kept,
        previous: reach.kept_previous.as_slice().try_into().ok()?,
        pages: reach.pages,
        head: reach.head.as_slice().try_into().ok()?,
        live,
    };
    let dated = reply.first_page..reply.until_page;
    Some(Told { ends, dated, since, retention: Some((reach.days, reach.mebibytes)) })
}

fn license_id(text: &str) -> Option<LicenseId> {
    let mut numbers = text.split(':').map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    let (firm, product, tmr) = (next()?, next()?, next()?);
    Some(LicenseId { firm: FirmCode(firm), product: ProductCode(product), tmr: TmrId(tmr) })
}

fn cluster_id(text: &str) -> Option<ClusterId> {
    u128::from_str_radix(text, 16).ok().map(|number| ClusterId(number.to_be_bytes()))
}
