//! Which process of each other node this one listens to (S21).
//!
//! A process has an incarnation, drawn when it starts and shown with every
//! call. Another node hears it only after *meeting* it: it dials the member
//! address itself, on a connection of its own, and finds that very incarnation
//! there. So of two processes with one identity, a node and its clone, only the
//! one that stands where the members' addresses point is heard; and once a
//! newer process stands there, the older one is not.
//!
//! At each meeting the two also compare what they remember of one another with
//! what their disks hold. So nobody hears a node that lost what this one saw it
//! acknowledge, and this node acknowledges nothing to anybody who remembers
//! more of it than it does itself. That is more than S21 asks: every node that
//! is talked to is a witness, not the first alone.
//!
//! A machine that is put back to a snapshot of its memory and disk goes on as
//! the process that was met. So every message of Raft and every answer is a
//! meeting in small ([`Acquaintances::compare`]): each carries what its sender
//! promised and what it remembers of the receiver, and both sides compare
//! before the message is acted on or the answer counts.
//!
//! All this holds within one epoch: what was promised before a restore is not
//! compared at all ([`epoch`]).

pub(crate) mod epoch;
mod witness;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::Duration;

use license::product::NodeId;
use openraft::vote::RaftLeaderId as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tonic::Status;
use wire::peer::{
    self, HelloReply, HelloRequest, Packed, PresentReply, PresentRequest, hello_reply,
};

use self::epoch::Epoch;
use self::witness::Witnesses;
use crate::clearance::{Clearance, Denial};
use crate::peers::{Incarnation, Peers};
use crate::raft::{Entry, LogId, Vote};
use crate::store::log::Log;
use crate::store::memory::Memory;
use crate::store::promise::Promise;

/// A node that stands at its address answers within a fraction of this.
const MEET_MAX: Duration = Duration::from_secs(1);

/// Another process that is found at this node's address may be on its way out.
/// One that is still there after so long is there to stay.
const SECOND_LOOK: Duration = Duration::from_secs(1);

/// How long a process that has just started puts off its first grant to hear from
/// every other member whether the cluster was restored since. One that is there
/// answers within a fraction of this, and one whose host is up and that is not
/// there is known to be away at once.
const FIRST_WORD_MAX: Duration = Duration::from_secs(2);

/// A message that came later than this after one that was sent later is not
/// late: its sender has lost something.
const OVERTAKEN_MAX: Duration = Duration::from_secs(1);

/// The other nodes as this one has met them. Clones share it.
#[derive(Clone)]
pub(crate) struct Acquaintances {
    inner: Arc<Inner>,
}

struct Inner {
    node: NodeId,
    incarnation: Incarnation,
    peers: Peers,
    log: Log,
    memory: Memory,
    epoch: Box<dyn Fn() -> Epoch + Send + Sync>,
    clearance: Clearance,
    known: Mutex<BTreeMap<u64, Known>>,
    witnesses: Mutex<Witnesses>,
    /// When this process began to ask the others, if it has.
    began: OnceLock<Instant>,
    /// Wakes whoever says hello: a peer does not know this node.
    unknown: Notify,
}

/// What is known of one other node.
#[derive(Clone, Default)]
struct Known {
    /// The process that was met last.
    met: Option<Incarnation>,
    /// Meetings with one node follow one another: each begins after the call
    /// it decides on had arrived, so what it finds is newer than that call.
    meeting: Arc<tokio::sync::Mutex<()>>,
    /// Whether it has answered this process's hello.
    answered: bool,
    /// Whether it was asked, and is not there or had its say.
    asked: bool,
    /// Since when it says that another process stands at this node's address.
    objects: Option<Instant>,
    /// The process that wrote something else under a log id, and where.
    rewrote: Option<(Incarnation, LogId)>,
    /// What was remembered of it a moment ago.
    lately: Lately,
}

/// What was remembered of a node a moment ago: between one and two of
/// [`OVERTAKEN_MAX`] if it is asked for all the time, longer ago if not.
#[derive(Debug, Clone, Copy, Default)]
struct Lately {
    since: Option<Instant>,
    before: Promise,
    then: Promise,
}

impl Lately {
    /// What it was, when `remembered` is what is remembered `now`.
    fn at(&mut self, now: Instant, remembered: Promise) -> Promise {
        let is_over = self.since.is_none_or(|since| now - since >= OVERTAKEN_MAX);
        if is_over {
            *self = Self { since: Some(now), before: self.then, then: remembered };
        }
        self.before
    }
}

/// A member that is present tells a later restore epoch than this node's data is
/// of: the cluster was restored since, or that node strayed in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outdated {
    /// Who tells.
    pub(crate) by: NodeId,
    /// Of this node's data.
    pub(crate) ours: u64,
    /// What it tells.
    pub(crate) theirs: u64,
}

/// Why a process is not heard.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unmet {
    /// It shows no incarnation.
    #[error("the caller does not say which process it is; run matching versions")]
    Nameless,
    /// Nobody answers where it should be.
    #[error(
        "{node} is not reached at {address}: {reason}; a node takes part only if the others reach it at its member address"
    )]
    Unreached {
        /// Who.
        node: NodeId,
        /// Where it was looked for.
        address: String,
        /// What happened.
        reason: String,
    },
    /// Another process answers there.
    #[error("another process runs as {node} at {address}")]
    Elsewhere {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
    },
    /// Another process answers there, and has lost data: it displaces nobody.
    #[error(
        "the process that answers as {node} at {address} acknowledged {remembered} and keeps {kept}"
    )]
    LostDataThere {
        /// Who.
        node: NodeId,
        /// Where.
        address: String,
        /// What this node saw it acknowledge.
        remembered: Promise,
        /// What the process there says it keeps.
        kept: Promise,
    },
    /// It has lost data.
    #[error("{node} acknowledged {remembered} and keeps {kept}")]
    LostData {
        /// Who.
        node: NodeId,
        /// What this node saw it acknowledge.
        remembered: Promise,
        /// What it says it keeps.
        kept: Promise,
    },
    /// What came from it shows less than it promised. A message that was
    /// overtaken does too, so this is a reason to look and no more.
    #[error("{node} shows {shown} and promised {remembered}; it is to be met again")]
    ShowsLess {
        /// Who.
        node: NodeId,
        /// What this node saw it acknowledge.
        remembered: Promise,
        /// What came with its message or answer.
        shown: Promise,
    },
    /// A later message of it came first.
    #[error("a later message of {node} came before this one")]
    Overtaken {
        /// Who.
        node: NodeId,
    },
    /// Its data is from before a restore.
    #[error(
        "{node}'s data is from before the cluster was restored: it is of epoch {theirs}, and a later one is known here"
    )]
    BeforeRestore {
        /// Who.
        node: NodeId,
        /// What it told.
        theirs: u64,
    },
    /// It says that this node's data is.
    #[error(
        "this node's data is of an earlier epoch than {node}'s, {theirs}: the cluster was restored since"
    )]
    AfterRestore {
        /// Who.
        node: NodeId,
        /// What it told.
        theirs: u64,
    },
    /// It wrote a log id twice, so it has forgotten what it wrote first.
    #[error("{node} sends another {} than it sent before", entry(*at))]
    Rewrote {
        /// Who.
        node: NodeId,
        /// Which entry.
        at: LogId,
    },
    /// It was not cleared, or no longer is.
    #[error("this node takes no part")]
    NotCleared,
}

impl From<Unmet> for Status {
    /// The code that makes the other end say hello, and so hear why; but for a
    /// message that only came late.
    fn from(unmet: Unmet) -> Self {
        match unmet {
            Unmet::Overtaken { .. } => Self::aborted(unmet.to_string()),
            _ => Self::unauthenticated(unmet.to_string()),
        }
    }
}

impl Acquaintances {
    pub(crate) fn new(
        node: NodeId,
        incarnation: Incarnation,
        peers: Peers,
        log: Log,
        epoch: impl Fn() -> Epoch + Send + Sync + 'static,
        clearance: Clearance,
    ) -> Self {
        let epoch = Box::new(epoch);
        let memory = log.memory();
        let (known, witnesses, unknown) = (Mutex::default(), Mutex::default(), Notify::new());
        Self {
            inner: Arc::new(Inner {
                node,
                incarnation,
                peers,
                log,
                memory,
                epoch,
                clearance,
                known,
                witnesses,
                began: OnceLock::new(),
                unknown,
            }),
        }
    }

    /// Lets `node` be heard as `claimed`, if that is the process that stands at
    /// its address and it has lost nothing.
    pub(crate) async fn meet(&self, node: u64, claimed: Option<Incarnation>) -> Result<(), Unmet> {
        let claimed = claimed.ok_or(Unmet::Nameless)?;
        if self.has_met(node, claimed) {
            return Ok(());
        }
        let rewrote = self.known().get(&node).and_then(|known| known.rewrote);
        if let Some((_, at)) = rewrote.filter(|(process, _)| *process == claimed) {
            return Err(Unmet::Rewrote { node: NodeId(node), at });
        }
        let meeting = self.known().entry(node).or_default().meeting.clone();
        let _one_at_a_time = meeting.lock().await;
        if self.has_met(node, claimed) {
            return Ok(());
        }
        // Before the look: what it acknowledges meanwhile is not held against it.
        let remembered = self.inner.memory.of(node);
        let (address, there) = self.look(node).await?;
        self.take_epoch(node, there.epoch)?;
        self.hear(node, promise(there.remembered), there.epoch);
        let kept = promise(there.promise);
        let is_claimed = Incarnation::from_wire(&there.incarnation) == Some(claimed);
        judge(NodeId(node), is_claimed, &address, remembered, kept)?;
        self.known().entry(node).or_default().met = Some(claimed);
        tracing::debug!(node, %address, %kept, "met a node");
        Ok(())
    }

    /// Whether `node` is heard as this process without looking again.
    pub(crate) fn has_met(&self, node: u64, claimed: Incarnation) -> bool {
        self.known().get(&node).is_some_and(|known| known.met == Some(claimed))
    }

    /// Asks whoever stands at a node's address.
    async fn look(&self, node: u64) -> Result<(String, PresentReply), Unmet> {
        let unreached = |address: &str, reason: String| Unmet::Unreached {
            node: NodeId(node),
            address: address.to_owned(),
            reason,
        };
        let Some((mut client, address)) = self.inner.peers.afresh(node) else {
            return Err(unreached(
                "an address",
                "it is not a node of this cluster, as far as is known here".to_owned(),
            ));
        };
        match tokio::time::timeout(MEET_MAX, client.present(PresentRequest {})).await {
            Ok(Ok(reply)) => Ok((address, reply.into_inner())),
            Ok(Err(status)) => Err(unreached(&address, status.message().to_owned())),
            Err(_) => Err(unreached(&address, "no answer in time".to_owned())),
        }
    }

    /// What others are told of this node's epoch.
    pub(crate) fn epoch(&self) -> Option<u64> {
        (self.inner.epoch)().told()
    }

    /// Takes in the epoch that `node` told, and refuses it when a restore lies
    /// between its data and this node's.
    ///
    /// Only of a process that was found at the node's address: anybody with a
    /// copy of its keys can call, and is neither a witness nor a reason not to
    /// hear the node itself. Whose data is the older stops, by two [`Witnesses`].
    fn take_epoch(&self, node: u64, told: Option<u64>) -> Result<(), Unmet> {
        let is_news = self.witnesses().take(node, told, Instant::now());
        let same = self.require_same_epoch(node, told);
        if let Err(unmet) = &same {
            self.known().entry(node).or_default().met = None;
            match unmet {
                Unmet::BeforeRestore { node, theirs } if is_news => {
                    tracing::warn!(%node, epoch = theirs, "a node's data is from before the cluster was restored; it is not heard");
                }
                Unmet::AfterRestore { node: by, theirs } => {
                    if is_news {
                        tracing::warn!(node = %by, epoch = theirs, "the cluster was restored since this node's data was written, as that member says; nothing is granted or renewed while it is up");
                    }
                    self.hear_witnesses();
                    self.ask_again(node);
                }
                _ => {}
            }
        }
        same
    }

    /// Has a node that tells a later epoch, and had welcomed this one, asked at its
    /// own address, once a second and for as long as it tells it: what it told
    /// counts only while it is there ([`Self::outdated`]).
    fn ask_again(&self, node: u64) {
        if self.has_answered(node) {
            self.is_unknown_to(node);
        }
    }

    /// Refuses the epoch that a caller who may be anybody told as `node`.
    fn require_same_epoch(&self, node: u64, told: Option<u64>) -> Result<(), Unmet> {
        let Some(theirs) = told else { return Ok(()) };
        let (ours, node) = ((self.inner.epoch)(), NodeId(node));
        if ours.outdates(told) {
            return Err(Unmet::BeforeRestore { node, theirs });
        }
        if ours.is_outdated_by(told) {
            return Err(Unmet::AfterRestore { node, theirs });
        }
        Ok(())
    }

    /// Stops this node when two others say that the cluster was restored since.
    fn hear_witnesses(&self) {
        let ours = (self.inner.epoch)();
        let (members, now) = (self.inner.peers.ids(), Instant::now());
        let agreed = self.witnesses().agree(&members, now, |told| ours.is_outdated_by(Some(told)));
        if let (Some(ours), Some((by, theirs))) = (ours.told(), agreed) {
            let node = self.inner.node;
            self.inner.clearance.deny(Denial::BeforeRestore { node, by, ours, theirs });
        }
    }

    /// Who says that the cluster was restored since this node's data was written,
    /// if anybody does. One is enough not to grant, because two of an earlier epoch
    /// are a majority; to stop the process takes two.
    pub(crate) fn outdated(&self) -> Option<Outdated> {
        self.of_later_epochs().into_iter().max_by_key(|outdated| outdated.theirs)
    }

    /// All who say so now.
    pub(crate) fn of_later_epochs(&self) -> Vec<Outdated> {
        let Some(ours) = self.epoch() else { return Vec::new() };
        let others = self.of_other_epochs().into_iter();
        let later = others.filter(|(_, theirs)| *theirs > ours);
        later.map(|(by, theirs)| Outdated { by, ours, theirs }).collect()
    }

    /// The members that are there and of another restore epoch than this node's
    /// data, and that epoch.
    pub(crate) fn of_other_epochs(&self) -> Vec<(NodeId, u64)> {
        let Some(ours) = self.epoch() else { return Vec::new() };
        let (members, now) = (self.inner.peers.ids(), Instant::now());
        self.witnesses().of_others(&members, now, ours)
    }

    /// The others are asked from now on.
    pub(crate) fn begin(&self) {
        self.inner.began.get_or_init(Instant::now);
    }

    /// Whether every other member has said of which epoch it is, could not, or had
    /// time to. A process that has just started grants nothing before.
    pub(crate) fn has_asked_around(&self) -> bool {
        let had_time = |began: &Instant| began.elapsed() >= FIRST_WORD_MAX;
        if self.epoch().is_none() || self.inner.began.get().is_some_and(had_time) {
            return true;
        }
        let (members, known) = (self.inner.peers.ids(), self.known());
        members
            .iter()
            .all(|member| known.get(member).is_some_and(|known| known.answered || known.asked))
    }

    /// `node` was asked for what it remembers: it did not say that all is well, or
    /// nobody is there to say anything.
    pub(crate) fn asked(&self, node: u64) {
        self.known().entry(node).or_default().asked = true;
    }

    /// Compares what `witness`, of this epoch, remembers of this node with what its
    /// disk keeps.
    pub(crate) fn hear(&self, witness: u64, remembered: Promise, epoch: Option<u64>) {
        let kept = self.inner.log.promise();
        if kept < remembered {
            let (node, witness) = (self.inner.node, NodeId(witness));
            let denial = Denial::LostData { node, witness, remembered, kept, epoch };
            self.inner.clearance.deny(denial);
        }
    }

    /// What this node answers who looks for it.
    pub(crate) fn present(&self, caller: u64) -> PresentReply {
        PresentReply {
            incarnation: self.inner.incarnation.to_wire(),
            promise: Some(to_wire(self.inner.log.promise())),
            remembered: Some(to_wire(self.inner.memory.of(caller))),
            epoch: self.epoch(),
        }
    }

    /// What this node answers a process that has just started as `node`.
    pub(crate) async fn greet(
        &self,
        node: u64,
        claimed: Option<Incarnation>,
        request: HelloRequest,
    ) -> HelloReply {
        use hello_reply::Verdict;
        let mut reply = HelloReply {
            remembered: Some(to_wire(self.inner.memory.of(node))),
            epoch: self.epoch(),
            ..HelloReply::default()
        };
        // Not taken in: who calls has not been looked for yet.
        let met = match self.require_same_epoch(node, request.epoch) {
            Ok(()) => self.meet(node, claimed).await,
            Err(unmet) => {
                // But it may be the member itself, which was restored since it
                // welcomed this process. Nothing else of it may ever come here.
                if matches!(unmet, Unmet::AfterRestore { .. }) {
                    self.ask_again(node);
                }
                Err(unmet)
            }
        };
        let verdict = match met {
            Ok(()) => Verdict::Welcome,
            // While the restore is on its way nobody is told to stop for it.
            Err(Unmet::BeforeRestore { .. }) if reply.epoch.is_some() => Verdict::BeforeRestore,
            Err(lost @ Unmet::LostData { .. }) => {
                tracing::warn!(%lost, "a node has lost data and is told to stop");
                Verdict::LostData
            }
            Err(Unmet::Elsewhere { address, .. }) => {
                reply.detail = address;
                Verdict::RunsElsewhere
            }
            Err(Unmet::Rewrote { at, .. }) => {
                reply.detail = entry(at);
                Verdict::Rewrote
            }
            Err(unreached) => {
                reply.detail = unreached.to_string();
                Verdict::Unreached
            }
        };
        reply.verdict = verdict.into();
        reply
    }

    /// Refuses entries of a leader that wrote others under the same log ids
    /// before. Its process is heard no more, and told when it says hello.
    pub(crate) fn require_same_entries(
        &self,
        node: u64,
        process: Incarnation,
        entries: &[Entry],
    ) -> Result<(), Unmet> {
        let Some(at) = self.inner.log.contradicts(entries) else { return Ok(()) };
        let mut known = self.known();
        let it = known.entry(node).or_default();
        (it.met, it.rewrote) = (None, Some((process, at)));
        let unmet = Unmet::Rewrote { node: NodeId(node), at };
        tracing::error!(%unmet, "a leader has forgotten what it wrote; it is told to stop");
        Err(unmet)
    }

    /// Takes in a peer's answer to this node's hello. Says why it was not welcome
    /// yet; whether it never will be is the clearance's to know.
    pub(crate) fn answered(&self, witness: u64, reply: HelloReply) -> Result<(), String> {
        use hello_reply::Verdict;
        let (node, by) = (self.inner.node, NodeId(witness));
        let remembered = promise(reply.remembered);
        if let Err(unmet) = self.take_epoch(witness, reply.epoch) {
            self.objects_no_more(witness);
            return Err(unmet.to_string());
        }
        if reply.verdict() != Verdict::RunsElsewhere {
            self.objects_no_more(witness);
        }
        match reply.verdict() {
            Verdict::Welcome => {
                self.hear(witness, remembered, reply.epoch);
                self.known().entry(witness).or_default().answered = true;
                self.give_clearance();
                Ok(())
            }
            Verdict::RunsElsewhere => {
                let address = reply.detail;
                let now = Instant::now();
                let since = *self.known().entry(witness).or_default().objects.get_or_insert(now);
                if since == now {
                    tracing::warn!(%by, %address, "another process answers as this node; it is looked for once more");
                }
                let told = format!("another process runs as {node} at {address}");
                if since.elapsed() >= SECOND_LOOK {
                    self.inner.clearance.deny(Denial::RunsElsewhere { node, witness: by, address });
                }
                Err(told)
            }
            Verdict::LostData => {
                // Its own word weighs, even if ours should have told us already.
                let kept = self.inner.log.promise();
                let epoch = reply.epoch;
                let denial = Denial::LostData { node, witness: by, remembered, kept, epoch };
                self.inner.clearance.deny(denial);
                Ok(())
            }
            Verdict::Rewrote => {
                let at = reply.detail;
                self.inner.clearance.deny(Denial::Rewrote { node, witness: by, at });
                Ok(())
            }
            Verdict::BeforeRestore | Verdict::Unreached => Err(reply.detail),
            Verdict::Unspecified => Err("its answer is not understood".to_owned()),
        }
    }

    /// `witness` found no other process at this node's address when it looked
    /// last, or looks no more.
    pub(crate) fn objects_no_more(&self, witness: u64) {
        let objected = self.known().entry(witness).or_default().objects.take().is_some();
        if objected {
            self.give_clearance();
        }
    }

    /// One welcome is enough, while nobody sees another process in this one's place.
    fn give_clearance(&self) {
        let (is_welcome, is_disputed) = {
            let known = self.known();
            let is = |what: fn(&Known) -> bool| known.values().any(what);
            (is(|known| known.answered), is(|known| known.objects.is_some()))
        };
        if is_welcome && !is_disputed && self.inner.clearance.give() {
            let kept = self.inner.log.promise();
            tracing::info!(%kept, "a peer knows this node; it takes part");
        }
    }

    /// Whether `node` has answered this process's hello.
    pub(crate) fn has_answered(&self, node: u64) -> bool {
        self.known().get(&node).is_some_and(|known| known.answered)
    }

    /// `node` says that it does not know this process: it is to be greeted again.
    pub(crate) fn is_unknown_to(&self, node: u64) {
        self.known().entry(node).or_default().answered = false;
        self.inner.unknown.notify_one();
    }

    /// Resolves when somebody is to be greeted again.
    pub(crate) async fn unknown(&self) {
        self.inner.unknown.notified().await;
    }

    /// What goes with every message of Raft: how far this node's own disk has
    /// promised, and what it remembers of the others.
    ///
    /// The first is how followers know what their leader promised. The second
    /// tells the receiver what is remembered of itself, and lets a third node
    /// stand witness when the one that saw it is gone.
    pub(crate) fn promises(&self) -> Vec<peer::NodePromise> {
        let own = (self.inner.node.0, self.inner.log.promise());
        let peers = self.inner.peers.ids();
        let others = self.inner.memory.all().into_iter().filter(|(node, _)| peers.contains(node));
        std::iter::once(own).chain(others).map(told).collect()
    }

    /// What goes with an answer to `caller`, as of the moment its message came:
    /// what is promised by answering would hide what was lost before.
    pub(crate) fn promises_to(&self, caller: u64) -> Vec<peer::NodePromise> {
        let own = (self.inner.node.0, self.inner.log.promise());
        [own, (caller, self.inner.memory.of(caller))].map(told).into()
    }

    /// What this node remembers of `node`'s promises now.
    pub(crate) fn remembered(&self, node: u64) -> Promise {
        self.inner.memory.of(node)
    }

    /// Compares what came with a message or an answer of `node` as a meeting
    /// would, and refuses it when either side has lost what the other remembers.
    ///
    /// `remembered` is what this node remembered of it when the message came, or
    /// before it sent what is answered. What it shows is then newer than what is
    /// remembered, whatever other answers came first.
    pub(crate) fn compare(
        &self,
        node: u64,
        Packed { promises, epoch, .. }: &Packed,
        remembered: Promise,
    ) -> Result<(), Unmet> {
        self.take_epoch(node, *epoch)?;
        self.hear(node, told_of(self.inner.node.0, promises), *epoch);
        self.require_cleared()?;
        let shown = told_of(node, promises);
        if shown < remembered {
            self.known().entry(node).or_default().met = None;
            let unmet = Unmet::ShowsLess { node: NodeId(node), remembered, shown };
            tracing::debug!(%unmet, "a message does not count");
            return Err(unmet);
        }
        Ok(())
    }

    /// The same for a message, which a later one may have overtaken: a heartbeat
    /// travels beside the stream of entries. One that shows what was remembered a
    /// moment ago does not count either, and is no reason to look: a healthy
    /// leader's stream would be cut for it. A node that lost more than a moment's
    /// promises, or goes on showing less for longer than that, is met again.
    pub(crate) fn compare_message(&self, node: u64, message: &Packed) -> Result<(), Unmet> {
        let Packed { promises, epoch, .. } = message;
        self.take_epoch(node, *epoch)?;
        let remembered = self.remembered(node);
        let shown = told_of(node, promises);
        let lately = self.known().entry(node).or_default().lately.at(Instant::now(), remembered);
        if (lately..remembered).contains(&shown) {
            self.hear(node, told_of(self.inner.node.0, promises), *epoch);
            self.require_cleared()?;
            tracing::debug!(node, %shown, %remembered, "a message was overtaken and does not count");
            return Err(Unmet::Overtaken { node: NodeId(node) });
        }
        self.compare(node, message, remembered)
    }

    /// Whether this node takes part now; a message that was begun before a
    /// denial ends with it.
    pub(crate) fn require_cleared(&self) -> Result<(), Unmet> {
        if self.inner.clearance.is_given() { Ok(()) } else { Err(Unmet::NotCleared) }
    }

    /// Takes in what came with a message of Raft from `teller`, which shows
    /// `vote`: of the nodes this one knows.
    ///
    /// What a node says of itself is its own affair. What it says of others is
    /// believed within bounds, or one that is broken or hostile could shut out
    /// another for ever by a promise that was never made. A leader is believed
    /// what is of its own term or an earlier one: it was there. Anybody else
    /// only that another voted, in a term that this node has been in itself; of
    /// a later one its leader will tell with its first append.
    pub(crate) fn note_all(&self, teller: u64, vote: &Vote, message: &Packed) {
        if !(self.inner.epoch)().may_note(message.epoch) {
            return;
        }
        let term = vote.leader_id().term;
        let own = self.inner.log.vote();
        let own_term = own.map_or(0, |own| own.leader_id().term);
        // Of one term there is one leader, and this node may know another.
        let is_possible = own.is_none_or(|own| {
            term > own_term
                || (term == own_term && own.leader_id().node_id() == vote.leader_id().node_id())
        });
        let leads = vote.is_committed() && is_possible;
        for told in
            message.promises.iter().filter(|told| self.inner.peers.calls(told.node).is_some())
        {
            let promise = promise(told.promise);
            if told.node == teller || (leads && promise.term <= term) {
                self.note(told.node, promise);
            } else if promise.term <= own_term {
                self.note(told.node, Promise { held: None, ..promise });
            }
        }
    }

    /// Notes what `node` acknowledged to this one.
    pub(crate) fn note(&self, node: u64, promise: Promise) {
        self.inner.memory.note(node, promise);
    }

    fn known(&self) -> MutexGuard<'_, BTreeMap<u64, Known>> {
        self.inner.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn witnesses(&self) -> MutexGuard<'_, Witnesses> {
        self.inner.witnesses.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the process that claims to be `node` is heard, after a look at the
/// node's address: is it the one that is there, and what does that one keep of
/// what is remembered?
///
/// A process that is there and has lost data takes nobody's place: it is to
/// stop itself, and which of the two is the copy is not in doubt.
fn judge(
    node: NodeId,
    is_claimed: bool,
    address: &str,
    remembered: Promise,
    kept: Promise,
) -> Result<(), Unmet> {
    let address = address.to_owned();
    match (is_claimed, kept < remembered) {
        (true, false) => Ok(()),
        (true, true) => Err(Unmet::LostData { node, remembered, kept }),
        (false, false) => Err(Unmet::Elsewhere { node, address }),
        (false, true) => Err(Unmet::LostDataThere { node, address, remembered, kept }),
    }
}

/// A log id in words.
fn entry(at: LogId) -> String {
    format!("log entry {} of term {}", at.index, at.leader_id.term)
}

/// What is told of `node`.
fn told_of(node: u64, promises: &[peer::NodePromise]) -> Promise {
    promise(promises.iter().find(|told| told.node == node).and_then(|told| told.promise))
}

fn promise(told: Option<peer::Promise>) -> Promise {
    told.map_or_else(Promise::default, |told| Promise { term: told.term, held: told.held })
}

fn told((node, promise): (u64, Promise)) -> peer::NodePromise {
    peer::NodePromise { node, promise: Some(to_wire(promise)) }
}

fn to_wire(promise: Promise) -> peer::Promise {
    peer::Promise { term: promise.term, held: promise.held }
}

#[cfg(test)]
mod tests;
