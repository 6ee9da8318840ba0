//! What the ledger is made of: everything a snapshot holds and the hash covers.

use std::collections::BTreeSet;

use license::build::{Build, Level};
use license::container::ContainerSerial;
use license::package::{License, Package};
use license::product::{FirmCode, LicenseId, LicenseSerial, NodeId, WallTime};
use license::repair::RepairedShare;
use serde::{Deserialize, Serialize};

use crate::calendar::Calendar;
use crate::charter::Charter;
use crate::command::{Blob, LeaseId, RestorePlan};
use crate::counters::Counters;
use crate::history::{History, Part, Tally};
use crate::memory::Request;
use crate::name::Subject;
use crate::table::{self, Sum, Table};
use crate::time::ClusterTime;
use crate::usage::Denial;
use crate::view::PackageView;

/// The replicated state.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) scalars: Scalars,
    pub(crate) vitals: Table<NodeId, Vitals, 1>,
    pub(crate) licenses: Table<LicenseId, Installed, 2>,
    pub(crate) bearers: Table<[u8; 32], Bearer, 3>,
    pub(crate) requests: Table<LeaseId, Request, 4>,
    /// What has arrived of the backup that is being restored.
    pub(crate) parts: Table<u32, Blob, 5>,
    /// By fingerprint.
    pub(crate) revoked: Table<[u8; 32], Revoked, 6>,
    /// Where the parts of the history that are kept begin, by their first page.
    pub(crate) history_parts: Table<u64, Part, 7>,
    /// Denials of the present minute.
    pub(crate) denials: Table<Denial, Tally, 8>,
}

/// All that there is one of.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Scalars {
    /// The highest epoch that a restore began with here, whatever became of it;
    /// the first part of every log id.
    pub(crate) epoch: u64,
    pub(crate) clock: ClusterTime,
    /// Term of the last batch that had an effect.
    pub(crate) term: u64,
    /// Index of the last batch that had an effect.
    pub(crate) applied: u64,
    /// `None` before genesis.
    pub(crate) charter: Option<Charter>,
    pub(crate) calendar: Calendar,
    /// Which commands may be written (S22); never falls.
    pub(crate) level: Level,
    /// The last fencing token given out; never goes back (S5).
    pub(crate) last_token: u64,
    pub(crate) last_ticket: u64,
    pub(crate) counters: Counters,
    /// The last few (index, hash), oldest first.
    pub(crate) checkpoints: Vec<(u64, [u8; 32])>,
    /// The restore under way; only before the cluster is formed.
    pub(crate) restoring: Option<RestorePlan>,
    /// As the last stamp said: nothing is handed on.
    pub(crate) withheld: bool,
    /// The last restore.
    pub(crate) restored: Option<Restored>,
    pub(crate) history: History,
    /// When the first batch of `term` had an effect.
    pub(crate) term_since: ClusterTime,
    /// When the members became those they are.
    pub(crate) members_since: ClusterTime,
}

/// The restore that this history began with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Restored {
    /// SHA-256 of the backed-up ledger.
    pub(crate) backup: [u8; 32],
    /// The backup's clock, which went on from there.
    pub(crate) from: ClusterTime,
    /// Before this nothing is granted.
    pub(crate) quiet_until: ClusterTime,
}

/// What a node's last heartbeat said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Vitals {
    /// When it was logged.
    pub(crate) heard: ClusterTime,
    /// Its count; the next must be above it.
    pub(crate) count: u64,
    pub(crate) wall: WallTime,
    pub(crate) boot: [u8; 16],
    /// The index it had applied.
    pub(crate) applied: u64,
    /// The checkpoint it reports.
    pub(crate) checkpoint: (u64, [u8; 32]),
    /// What it runs.
    pub(crate) build: Build,
    /// The CA that its certificates are under.
    pub(crate) ca: [u8; 32],
}

/// A license: the update in force, and the one on its way.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Installed {
    pub(crate) current: Edition,
    /// Takes over when it could serve itself, so that an update interrupts nobody.
    pub(crate) next: Option<Edition>,
}

impl Installed {
    /// The edition of that serial.
    pub(crate) fn edition_mut(&mut self, serial: LicenseSerial) -> Option<&mut Edition> {
        [Some(&mut self.current), self.next.as_mut()]
            .into_iter()
            .flatten()
            .find(|edition| edition.license.terms().serial == serial)
    }

    /// Both editions, the one in force first.
    pub(crate) fn editions(&self) -> impl Iterator<Item = &Edition> {
        std::iter::once(&self.current).chain(&self.next)
    }

    /// Changes both editions.
    pub(crate) fn each_edition(&mut self, change: impl FnMut(&mut Edition)) {
        std::iter::once(&mut self.current).chain(&mut self.next).for_each(change);
    }

    /// The newest edition.
    pub(crate) fn newest(&self) -> &Edition {
        self.next.as_ref().unwrap_or(&self.current)
    }
}

/// One update of a license.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Edition {
    /// As the vendor wrote it: nodes take their share from it.
    pub(crate) package: Vec<u8>,
    /// What it says, with every share that was made again in its place.
    pub(crate) license: License,
    /// The shares that were made again, in order.
    pub(crate) repaired: Vec<RepairedShare>,
    /// Nodes for whom an operator ordered the lost share to be made again.
    pub(crate) repairs: BTreeSet<NodeId>,
    /// Nodes that proved their share.
    pub(crate) attested: BTreeSet<NodeId>,
    /// Places of the split whose share an operator withdrew. Places, not nodes:
    /// made again for another node, it would be the same share.
    pub(crate) withdrawn: BTreeSet<usize>,
    /// The last term that two shares signed.
    pub(crate) signed_term: Option<u64>,
}

impl Edition {
    /// Whether the share in this container was withdrawn.
    pub(crate) fn is_withdrawn(&self, container: ContainerSerial) -> bool {
        let place = self.license.signer(container);
        place.is_some_and(|place| self.withdrawn.contains(&place))
    }

    /// The places of the split whose share is, or ever was, in one of these
    /// containers: made again for another, it is the same share.
    pub(crate) fn places_of(&self, containers: &[ContainerSerial]) -> BTreeSet<usize> {
        // It was verified when it was installed.
        let split = Package::decode(&self.package).ok();
        let split: Vec<_> = split.iter().flat_map(|package| package.claimed_containers()).collect();
        let made_again = self.repaired.iter().filter(|it| containers.contains(&it.container()));
        let mut places: BTreeSet<usize> =
            made_again.filter_map(|repaired| self.license.place(repaired)).collect();
        places.extend((0..split.len()).filter(|place| containers.contains(&split[*place])));
        places
    }

    /// What a node takes its share from.
    pub(crate) fn view(&self) -> PackageView<'_> {
        PackageView { package: &self.package, repaired: &self.repaired }
    }
}

/// Whom a bearer token stands for, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Bearer {
    pub(crate) subject: Subject,
    pub(crate) expires: WallTime,
}

/// A certificate that is shut out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Revoked {
    pub(crate) subject: Subject,
    pub(crate) expires: WallTime,
    pub(crate) by: Subject,
    /// Cluster time before which it is not forgotten, whatever the date.
    pub(crate) kept_until: ClusterTime,
}

impl State {
    /// The hash of everything, from the kept sums.
    pub(crate) fn hash(&self) -> [u8; 32] {
        self.hash_of(self.sums())
    }

    /// The same from scratch.
    pub(crate) fn recomputed_hash(&self) -> [u8; 32] {
        self.hash_of([
            self.vitals.recomputed(),
            self.licenses.recomputed(),
            self.bearers.recomputed(),
            self.requests.recomputed(),
            self.parts.recomputed(),
            self.revoked.recomputed(),
            self.history_parts.recomputed(),
            self.denials.recomputed(),
        ])
    }

    fn sums(&self) -> [Sum; 8] {
        [
            self.vitals.sum(),
            self.licenses.sum(),
            self.bearers.sum(),
            self.requests.sum(),
            self.parts.sum(),
            self.revoked.sum(),
            self.history_parts.sum(),
            self.denials.sum(),
        ]
    }

    fn hash_of(&self, sums: [Sum; 8]) -> [u8; 32] {
        table::digest(&("trine ledger 1", &self.scalars, sums))
    }

    /// The common wall floor now, if anything has set it.
    pub(crate) fn wall(&self) -> Option<WallTime> {
        self.scalars.calendar.common(self.scalars.clock)
    }

    /// The wall floor that a firm's licenses run on.
    pub(crate) fn wall_of(&self, firm: FirmCode) -> Option<WallTime> {
        self.scalars.calendar.of_firm(firm, self.scalars.clock)
    }
}
