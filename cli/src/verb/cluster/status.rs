//! `trine cluster status`: who leads, who lives, what is licensed.

use std::collections::{BTreeMap, BTreeSet};

use clap::Args;
use futures_util::future::join_all;
use license::product::WallTime;
use serde::Serialize;
use trine_client::{CallError, Endpoint};
use wire::v1;

use super::Call;
use super::before_restore::FromBefore;
use super::other_cluster;
use super::settling::is_unheard;
use crate::console::{Cell, Page, Tone};
use crate::context::Target;
use crate::dates::{show_date, show_millis};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::Connection;
use crate::report;

/// Show who leads, who lives, and which shares of which license are live
///
/// Asks the leader, whose answer is of this moment. Without a quorum it shows
/// what each node that can be reached says of itself, and ends with exit code 4;
/// for that it must know the nodes: name them with --host, or in the context.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster status
  trine --host node1,node2,node3 cluster status
  trine --json cluster status | jq '.nodes[] | {id, role, alive}'

Columns: term is what the node says itself, log the last entry the leader knows the
node to hold, applied the last it reported applied, heard how long ago it was heard
(cluster time), offset its wall clock less the leader's.")]
pub(super) struct Status {}

/// `trine cluster status --json`
#[derive(Debug, Serialize)]
struct Report {
    /// Whether a quorum answered. If not, only `nodes` is filled, each node in
    /// its own words.
    quorum: bool,
    /// Why not, if not.
    problem: Option<String>,
    /// What the cluster as a whole says.
    cluster: Option<Whole>,
    /// The nodes.
    nodes: Vec<Node>,
    /// Nodes whose data is from before a restore of this cluster; while they are
    /// up nothing is granted or renewed by them.
    before_restore: Vec<u64>,
    #[serde(skip)]
    from_before: Option<FromBefore>,
    #[serde(skip)]
    ledgers_differ: bool,
    /// Nodes of another cluster, by number, and which.
    other_cluster: BTreeMap<u64, String>,
    /// The installed licenses.
    licenses: Vec<report::License>,
}

#[derive(Debug, Serialize)]
struct Whole {
    /// 32 hexadecimal digits.
    id: String,
    /// The container that users see, 131-…
    virtual_container: String,
    /// What the members' containers have in common; a node that joins is given it.
    activation_id: u32,
    /// The leading node.
    leader: u64,
    /// Raft's term.
    term: u64,
    /// The feature level.
    level: u32,
    /// Cluster time in milliseconds.
    cluster_time_ms: u64,
    /// The clock that license dates run on, RFC 3339; null before it is known.
    wall_floor: Option<String>,
    /// The same for each vendor's licenses: only a vendor turns it back.
    firm_dates: Vec<FirmDate>,
    /// The ledger's hash at this moment.
    state_hash: String,
    /// Seats granted since the cluster was formed.
    granted: u64,
    /// Given back.
    released: u64,
    /// Ended at their deadline.
    expired: u64,
    /// Revoked.
    revoked: u64,
    /// Held now.
    live: u64,
    /// The restore epoch; 0 until a backup was restored.
    epoch: u64,
    /// After a restore: how long nothing is granted yet, in milliseconds of cluster time.
    quiet_ms: Option<u64>,
    /// The replacement of a member that is under way, or null.
    replacement: Option<Replacement>,
    /// Whether nothing is granted or renewed, though licenses serve.
    withheld: bool,
}

/// A member that goes, and the node that comes.
#[derive(Debug, Serialize)]
struct Replacement {
    /// The member.
    old: u64,
    /// The node that is to take its place.
    new: u64,
    /// Where the other nodes reach that one.
    at: String,
    /// What is next, as in `trine cluster replace --status`.
    stage: String,
    /// The same for people.
    detail: String,
}

/// The clock of one vendor's licenses.
#[derive(Debug, Serialize)]
struct FirmDate {
    /// The firm code.
    firm: u32,
    /// RFC 3339.
    wall_floor: String,
    /// Serial of the last clock reset that counted; 0 before the first.
    last_reset: u64,
    /// Whether it differs from the common clock by more than a moment.
    #[serde(skip)]
    differs: bool,
}

/// Fields are null where nobody could say.
#[derive(Debug, Default, Serialize)]
struct Node {
    /// The node.
    id: Option<u64>,
    /// Where it was, or would be, asked.
    address: String,
    /// leader, follower, candidate, learner, down; or unreachable.
    role: String,
    /// Heard by the leader within three seconds; null as well when it could not
    /// be heard yet, because the cluster was formed or restored, or a member
    /// replaced, less than ten seconds ago.
    alive: Option<bool>,
    /// Its build.
    version: Option<String>,
    /// The highest feature level that build knows.
    highest_level: Option<u32>,
    /// Its storage engine.
    engine: Option<String>,
    /// 130-…
    container: Option<String>,
    /// Its Raft term, in its own words.
    term: Option<u64>,
    /// The last log entry it is known to hold.
    log_index: Option<u64>,
    /// The last it applied.
    applied_index: Option<u64>,
    /// How long ago the leader heard it, in milliseconds of cluster time.
    heard_ms_ago: Option<u64>,
    /// Its wall clock less the leader's, in milliseconds.
    clock_offset_ms: Option<i64>,
    /// Its wall clock less the clock that license dates run on, in milliseconds.
    clock_ahead_ms: Option<i64>,
    /// The restore epoch of its data, in its own words.
    epoch: Option<u64>,
    /// The certificates that its connections stand on.
    certificates: Vec<InUse>,
    /// Why it did not answer, if it did not.
    problem: Option<String>,
}

/// A certificate of one node, or the CA it believes.
#[derive(Debug, Serialize)]
struct InUse {
    /// client, peer or ca.
    which: String,
    /// SHA-256 of the certificate (DER).
    fingerprint: String,
    /// RFC 3339.
    expires: String,
    #[serde(skip)]
    expires_at: WallTime,
}

impl From<v1::CertificateInUse> for InUse {
    fn from(one: v1::CertificateInUse) -> Self {
        let expires_at = WallTime(one.expires_ms);
        let expires = show_date(expires_at);
        Self { which: one.which, fingerprint: one.fingerprint, expires, expires_at }
    }
}

impl Status {
    pub(super) async fn run(self, call: &Call, target: Target) -> Result<Exit, Failure> {
        let connection = Connection::to(target).await?;
        let nodes = super::nodes(&connection.target, call);
        let operator = connection.operator();
        let status = tokio::select! {
            status = operator.status() => status,
            // A leader is waited for, but not where there can be none.
            () = unformed(&connection, &nodes) => {
                return Err(Failure::refused("NOT_FORMED", "the cluster is not formed")
                    .next("form a new one with `trine --host NODE cluster init`; or, if one is to come back from a backup, `trine --host NODE,NODE,NODE cluster restore FILE` and no `init`"));
            }
        };
        match status {
            Ok(status) => {
                let report = Report::whole(&connection, status).await;
                call.console.result(&report, |page| report.show(page, call.world.wall_time()))?;
                Ok(Exit::Done)
            }
            Err(error) => {
                let failure = connection.unread(&error);
                if failure.exit() != Exit::Unreachable {
                    return Err(failure);
                }
                let report = Report::pieces(&connection, &nodes, &error).await;
                if report.nodes.iter().all(|node| node.problem.is_some()) {
                    return Err(failure);
                }
                call.console.result(&report, |page| report.show(page, call.world.wall_time()))?;
                Ok(Exit::Unreachable)
            }
        }
    }
}

impl Report {
    async fn whole(connection: &Connection, status: v1::StatusReply) -> Self {
        let endpoints: Vec<Endpoint> = status
            .nodes
            .iter()
            .filter_map(|node| Endpoint::parse(&node.client_address).ok())
            .collect();
        let own_words = in_own_words(connection, &endpoints).await;
        let from_before = from_before(&own_words);
        let other_cluster = other_cluster::among(said(&own_words), &status.cluster_id);
        let own_words = own_words.into_iter().map(Node::from);
        let mut by_id: BTreeMap<u64, Node> =
            own_words.filter_map(|node| Some((node.id?, node))).collect();
        let counts = status.counts.unwrap_or_default();
        let common = status.wall_floor_ms;
        let firm_date = |date: &v1::FirmDate| FirmDate {
            firm: date.firm,
            wall_floor: show_date(WallTime(date.wall_floor_ms)),
            last_reset: date.last_reset,
            differs: common.is_some_and(|common| date.wall_floor_ms.abs_diff(common) > 1_000),
        };
        let unheard: BTreeSet<u64> =
            status.nodes.iter().filter(|node| is_unheard(&status, node)).map(|n| n.id).collect();
        let whole = Whole {
            id: status.cluster_id,
            virtual_container: status.virtual_container,
            activation_id: status.act,
            leader: status.leader,
            term: status.term,
            level: status.level,
            cluster_time_ms: status.as_of.map_or(0, |as_of| as_of.stamp_ms),
            wall_floor: status.wall_floor_ms.map(|date| show_date(WallTime(date))),
            firm_dates: status.firm_dates.iter().map(firm_date).collect(),
            state_hash: status.state_hash,
            granted: counts.granted,
            released: counts.released,
            expired: counts.expired,
            revoked: counts.revoked,
            live: counts.live,
            epoch: status.as_of.map_or(0, |as_of| as_of.epoch),
            quiet_ms: status.quiet_ms,
            replacement: status.replacement.map(|pending| Replacement {
                old: pending.old_node,
                new: pending.new_node,
                at: pending.new_address,
                stage: pending.stage,
                detail: pending.detail,
            }),
            withheld: status.withheld,
        };
        let node = |seen: v1::Node| {
            let own = by_id
                .remove(&seen.id)
                .unwrap_or_else(|| Node { role: "unreachable".to_owned(), ..Node::default() });
            Node {
                id: Some(seen.id),
                address: seen.client_address,
                role: if seen.leader { "leader".to_owned() } else { own.role },
                alive: (!unheard.contains(&seen.id)).then_some(seen.alive),
                container: Some(seen.container),
                log_index: seen.matched_index.or(own.log_index),
                applied_index: seen.applied_index.or(own.applied_index),
                heard_ms_ago: seen.heard_ms_ago,
                clock_offset_ms: seen.clock_offset_ms,
                clock_ahead_ms: seen.clock_ahead_ms,
                // Its own words first: it may have been upgraded since it was heard.
                version: own.version.or(Some(seen.version).filter(|text| !text.is_empty())),
                highest_level: own
                    .highest_level
                    .or(Some(seen.highest_level).filter(|level| *level > 0)),
                ..own
            }
        };
        Self {
            quorum: true,
            problem: None,
            cluster: Some(whole),
            ledgers_differ: status.nodes.iter().any(|node| node.ledger_differs),
            nodes: status.nodes.into_iter().map(node).collect(),
            before_restore: before(from_before.as_ref()),
            from_before,
            other_cluster,
            licenses: status.licenses.into_iter().map(report::License::from).collect(),
        }
    }

    async fn pieces(connection: &Connection, nodes: &[Endpoint], error: &CallError) -> Self {
        let words = in_own_words(connection, nodes).await;
        let from_before = from_before(&words);
        Self {
            quorum: false,
            ledgers_differ: false,
            problem: Some(error.failure().message.clone()),
            cluster: None,
            nodes: words.into_iter().map(Node::from).collect(),
            before_restore: before(from_before.as_ref()),
            from_before,
            // Which is the right one nobody can say who leads none.
            other_cluster: BTreeMap::new(),
            licenses: Vec::new(),
        }
    }

    fn show(&self, page: &mut Page, now: WallTime) {
        match &self.cluster {
            Some(whole) => whole.show(page),
            None => {
                let problem = self.problem.as_deref().unwrap_or_default();
                let title = page.tone(Tone::Bad, &format!("No quorum answers: {problem}"));
                page.line(title);
                page.line("What each node says of itself:");
            }
        }
        page.table(
            &[
                "node", "address", "role", "term", "alive", "log", "applied", "heard", "offset",
                "version",
            ],
            self.nodes.iter().map(Node::row),
        );
        if self.withholds() {
            let line = format!(
                "Nothing is granted or renewed now; seats are given back, and who waits keeps its place: {}",
                self.why_withheld()
            );
            let line = page.tone(Tone::Bad, &line);
            page.line(line);
        }
        if let Some(from_before) = &self.from_before {
            let line = page.tone(Tone::Bad, &from_before.told());
            page.line(line);
        }
        for (node, cluster) in &self.other_cluster {
            let line =
                format!("node-{node} is of another cluster, {cluster}: {}", other_cluster::ADVICE);
            let line = page.tone(Tone::Bad, &line);
            page.line(line);
        }
        let unheard =
            self.nodes.iter().filter(|node| node.alive.is_none()).filter_map(|node| node.id);
        let unheard: Vec<String> = unheard.map(|id| format!("node-{id}")).collect();
        if self.quorum && !unheard.is_empty() {
            let line = format!(
                "Not known yet whether {} lives: not heard since the cluster was formed or \
                 restored, or since it joined; look again in 10 s",
                unheard.join(", ")
            );
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
        for node in &self.nodes {
            node.warn_of_certificates(page, now);
        }
        if !self.licenses.is_empty() {
            report::license_table(&self.licenses, self.withholds(), page);
        } else if self.quorum {
            page.line(
                "No licenses are installed. Ask the vendor for one with `trine license request`.",
            );
        }
    }
}

impl Report {
    fn withholds(&self) -> bool {
        self.cluster.as_ref().is_some_and(|whole| whole.withheld)
    }

    /// The ledger says that it is so; why is seen from the nodes.
    fn why_withheld(&self) -> &'static str {
        if self.from_before.is_some() {
            "there are nodes of two restore epochs, and a seat could be held in both"
        } else if self.ledgers_differ {
            "the ledgers of two nodes differ, and no third one decides; see `trine cluster doctor`"
        } else {
            "for a moment after a start the leader has not heard yet whether the cluster was restored since; if it lasts, see `trine cluster doctor`"
        }
    }
}

impl Whole {
    fn show(&self, page: &mut Page) {
        page.facts(&[
            ("cluster", self.id.clone()),
            ("virtual container", self.virtual_container.clone()),
            ("activation id", self.activation_id.to_string()),
            ("leader", format!("node-{} in term {}", self.leader, self.term)),
            ("feature level", self.level.to_string()),
            ("cluster time", show_millis(self.cluster_time_ms)),
            ("date", self.wall_floor.clone().unwrap_or_else(|| "not known yet".to_owned())),
            (
                "seats",
                format!(
                    "{} held; {} granted, {} released, {} expired, {} revoked in all",
                    self.live, self.granted, self.released, self.expired, self.revoked
                ),
            ),
        ]);
        for date in self.firm_dates.iter().filter(|date| date.differs) {
            let FirmDate { firm, wall_floor, .. } = date;
            page.line(format_args!(
                "Licenses of firm {firm} have a date of their own: {wall_floor}"
            ));
        }
        if let Some(Replacement { old, new, at, stage, detail }) = &self.replacement {
            let line = format!(
                "A replacement is under way: node-{new} (at {at}) is to take the place of \
                 node-{old} ({stage}: {detail}); go on with `trine cluster replace {old} {new}`, \
                 or give it up with --undo"
            );
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
        if let Some(quiet_ms) = self.quiet_ms {
            let line = format!(
                "Restored from a backup (epoch {}): nothing is granted for another {}",
                self.epoch,
                show_millis(quiet_ms)
            );
            let line = page.tone(Tone::Warning, &line);
            page.line(line);
        }
    }
}

/// From then on an operator is told of a certificate's end.
const EXPIRY_NOTICE_MILLIS: i64 = 30 * 24 * 60 * 60 * 1_000;

impl Node {
    fn warn_of_certificates(&self, page: &mut Page, now: WallTime) {
        let id = self.id.map_or_else(|| self.address.clone(), |id| format!("node-{id}"));
        for one in &self.certificates {
            if one.expires_at > now.plus_millis(EXPIRY_NOTICE_MILLIS) {
                continue;
            }
            let is_over = one.expires_at < now;
            let (tone, verb) =
                if is_over { (Tone::Bad, "expired") } else { (Tone::Warning, "expires") };
            let text = format!(
                "{id}: its {} certificate {verb} at {}; renew it with `trine pki renew`",
                one.which, one.expires
            );
            let text = page.tone(tone, &text);
            page.line(text);
        }
    }

    fn row(&self) -> Vec<Cell> {
        let number =
            |number: Option<u64>| number.map_or_else(String::new, |number| number.to_string());
        let alive = match self.alive {
            Some(true) => Cell::toned(Tone::Good, "yes"),
            Some(false) => Cell::toned(Tone::Bad, "no"),
            None => Cell::toned(Tone::Quiet, "?"),
        };
        let role = match self.role.as_str() {
            "leader" => Cell::toned(Tone::Strong, "leader"),
            "unreachable" => Cell::toned(Tone::Bad, "unreachable"),
            role => role.to_owned().into(),
        };
        let version = match (&self.version, &self.engine) {
            (Some(version), Some(engine)) => format!("{version} {engine}"),
            (version, _) => version.clone().unwrap_or_default(),
        };
        vec![
            self.id.map_or_else(|| "?".to_owned(), |id| format!("node-{id}")).into(),
            self.address.clone().into(),
            role,
            number(self.term).into(),
            alive,
            number(self.log_index).into(),
            number(self.applied_index).into(),
            self.heard_ms_ago
                .map_or_else(String::new, |ms| format!("{} ago", show_millis(ms)))
                .into(),
            self.clock_offset_ms.map_or_else(String::new, |ms| format!("{ms:+} ms")).into(),
            version.into(),
        ]
    }
}

/// Ends when every node that answers says that it is not formed; else never. One
/// that has a log has been, and only has not read it yet.
async fn unformed(connection: &Connection, nodes: &[Endpoint]) {
    let ask = |node: &Endpoint| {
        let node = connection.operator().at(node.clone());
        async move { node.node_status().await }
    };
    let answers = join_all(nodes.iter().map(ask)).await;
    let mut answers = answers.into_iter().flatten().peekable();
    if answers.peek().is_none() || answers.any(|answer| answer.formed || answer.last_log_index > 0)
    {
        std::future::pending().await
    }
}

/// Who is from before a restore.
fn before(from_before: Option<&FromBefore>) -> Vec<u64> {
    from_before.iter().flat_map(|from_before| from_before.nodes.keys().copied()).collect()
}

/// What each node said of itself, by where it was asked.
type OwnWords = Vec<(String, Result<v1::NodeStatusReply, CallError>)>;

/// Asks each node how it sees itself, all at once.
async fn in_own_words(connection: &Connection, nodes: &[Endpoint]) -> OwnWords {
    let ask = |endpoint: Endpoint| async move {
        let address = endpoint.to_string();
        (address, connection.operator().at(endpoint).node_status().await)
    };
    join_all(nodes.iter().cloned().map(ask)).await
}

/// The answers among them.
fn said(words: &OwnWords) -> impl Iterator<Item = &v1::NodeStatusReply> {
    words.iter().filter_map(|(_, said)| said.as_ref().ok())
}

fn from_before(words: &OwnWords) -> Option<FromBefore> {
    FromBefore::among(said(words))
}

impl From<(String, Result<v1::NodeStatusReply, CallError>)> for Node {
    fn from((address, said): (String, Result<v1::NodeStatusReply, CallError>)) -> Self {
        match said {
            Ok(own) => Self {
                id: Some(own.id),
                address,
                role: own.role,
                certificates: own.certificates.into_iter().map(InUse::from).collect(),
                version: Some(own.version),
                highest_level: Some(own.highest_level),
                engine: Some(own.engine),
                container: Some(own.container),
                term: Some(own.term),
                log_index: Some(own.last_log_index),
                applied_index: Some(own.applied_index),
                epoch: own.epoch,
                ..Self::default()
            },
            Err(error) => Self {
                address,
                role: "unreachable".to_owned(),
                problem: Some(error.failure().message.clone()),
                ..Self::default()
            },
        }
    }
}
