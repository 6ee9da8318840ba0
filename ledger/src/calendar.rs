//! Whose dates run on which wall floor.
//!
//! Every firm's licenses have a floor of their own, so that the reset of one
//! vendor revives no license of another; bearer tokens and whatever else is
//! the cluster's own run on the common one. All of them follow the nodes'
//! clocks alike and differ only by issue times and resets.

use std::collections::BTreeMap;

use license::product::{FirmCode, LicenseId, NodeId, WallTime};
use license::reset::{ClockReset, ResetRefusal, ResetTerms};
use serde::{Deserialize, Serialize};

use crate::charter::Charter;
use crate::command::{Refusal, ResetClock};
use crate::ledger::{Entry, Ledger};
use crate::limits::WALL_WORD_MILLIS;
use crate::state::State;
use crate::time::ClusterTime;
use crate::wall::{WallFloor, moved_on, uncontradicted};

/// The wall floors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Calendar {
    /// `None` before a license or the nodes' clocks set it.
    common: Option<WallFloor>,
    /// Of every firm that has, or had, a license here.
    firms: BTreeMap<FirmCode, FirmDate>,
}

/// The date that one firm's licenses run on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct FirmDate {
    floor: WallFloor,
    /// Serial of the last reset that counted; 0 before the first.
    last_reset: u64,
}

impl Calendar {
    /// The common date.
    pub(crate) fn common(&self, clock: ClusterTime) -> Option<WallTime> {
        self.common.map(|floor| floor.at(clock))
    }

    /// The date that a firm's licenses run on; the common one before it has any.
    pub(crate) fn of_firm(&self, firm: FirmCode, clock: ClusterTime) -> Option<WallTime> {
        let own = self.firms.get(&firm).map(|date| date.floor.at(clock));
        own.or_else(|| self.common(clock))
    }

    /// Every firm's date and the serial of its last reset.
    pub(crate) fn firms(
        &self,
        clock: ClusterTime,
    ) -> impl Iterator<Item = (FirmCode, WallTime, u64)> + '_ {
        self.firms.iter().map(move |(firm, date)| (*firm, date.floor.at(clock), date.last_reset))
    }

    /// What the nodes' clocks say moves every floor that they may move.
    pub(crate) fn heard(&mut self, clocks: &[WallTime], clock: ClusterTime) {
        if let Some(date) = uncontradicted(clocks, self.common(clock)) {
            self.common = Some(WallFloor::raised(self.common, date, clock));
        }
        for FirmDate { floor, .. } in self.firms.values_mut() {
            if let Some(date) = uncontradicted(clocks, Some(floor.at(clock))) {
                *floor = WallFloor::raised(Some(*floor), date, clock);
            }
        }
    }

    /// A license is not installed before it was issued. The vendor's clock is
    /// one clock, so it moves the date of the vendor's own licenses; the common
    /// one only begins with it.
    pub(crate) fn issued(&mut self, firm: FirmCode, issued: WallTime, clock: ClusterTime) {
        let known = self.firms.get(&firm);
        let last_reset = known.map_or(0, |date| date.last_reset);
        let floor = known.map(|date| date.floor).or(self.common);
        let floor = WallFloor::raised(floor, issued, clock);
        self.firms.insert(firm, FirmDate { floor, last_reset });
        self.common.get_or_insert_with(|| WallFloor::new(issued, clock));
    }

    /// Turns one firm's date back. The common one follows once no firm's is
    /// as late: with one vendor, at once.
    fn reset(&mut self, firm: FirmCode, reset: &ResetTerms, clock: ClusterTime) {
        let floor = WallFloor::new(reset.to, clock);
        self.firms.insert(firm, FirmDate { floor, last_reset: reset.serial });
        let latest = self.firms.values().map(|date| date.floor).max_by_key(|floor| floor.at(clock));
        self.common = match (self.common, latest) {
            (Some(common), Some(latest)) if latest.at(clock) < common.at(clock) => Some(latest),
            (common, _) => common,
        };
    }
}

impl Ledger {
    /// The clocks have their say.
    pub(crate) fn raise_walls(&mut self) {
        let clock = self.clock();
        if let Some(words) = self.state.wall_words() {
            let clocks: Vec<WallTime> = words.into_iter().map(|(_, wall)| wall).collect();
            self.state.scalars.calendar.heard(&clocks, clock);
        }
    }

    /// A vendor turns the date of its licenses back.
    pub(crate) fn reset_clock(
        &mut self,
        body: &ResetClock,
        entry: &mut Entry,
    ) -> Result<(), Refusal> {
        let charter = self.chartered()?;
        let believed = self.believed_reset(charter, &body.reset);
        let (firm, reset) = believed.map_err(Refusal::ClockReset)?;
        let clock = self.clock();
        self.state.scalars.calendar.reset(firm, &reset, clock);
        self.refresh_service(entry);
        Ok(())
    }

    fn believed_reset(
        &self,
        charter: &Charter,
        file: &[u8],
    ) -> Result<(FirmCode, ResetTerms), ResetRefusal> {
        let (firm, reset) =
            ClockReset::decode(file)?.verify(&charter.vendor_roots, &charter.cluster)?;
        let ResetTerms { serial, from, to, .. } = reset;
        let known = self.state.scalars.calendar.firms.get(&firm);
        let FirmDate { floor, last_reset: last } =
            *known.ok_or(ResetRefusal::NoLicense { firm })?;
        if serial <= last {
            return Err(ResetRefusal::Used { firm, serial, last });
        }
        let here = floor.at(self.clock());
        if here < from {
            return Err(ResetRefusal::NotAhead { here, from });
        }
        if let Some((license, issued)) = self.last_issued(firm).filter(|(_, issued)| to < *issued) {
            return Err(ResetRefusal::BeforeIssue { to, license, issued });
        }
        self.check_clocks_let(&reset)?;
        Ok((firm, reset))
    }

    /// The license of a firm that was issued last, and when.
    fn last_issued(&self, firm: FirmCode) -> Option<(LicenseId, WallTime)> {
        let of_firm = self.state.licenses.iter().filter(|(id, _)| id.firm == firm);
        // An update corrects what was issued in the wrong year.
        let newest =
            of_firm.map(|(id, installed)| (*id, installed.newest().license.terms().issued));
        newest.max_by_key(|(_, issued)| *issued)
    }

    /// A reset counts once: it is not spent while the clocks would undo it.
    fn check_clocks_let(&self, reset: &ResetTerms) -> Result<(), ResetRefusal> {
        let words = self.state.wall_words().unwrap_or_default();
        let clocks: Vec<WallTime> = words.iter().map(|(_, wall)| *wall).collect();
        match uncontradicted(&clocks, Some(reset.to)).filter(|date| *date >= reset.from) {
            None => Ok(()),
            Some(date) => {
                let ahead = words.into_iter().filter(|(_, wall)| *wall >= reset.from);
                let nodes = ahead.map(|(node, _)| node).collect();
                Err(ResetRefusal::ClocksAhead { date, nodes })
            }
        }
    }
}

impl State {
    /// What every member's wall clock shows now, as far as its word still
    /// counts. `None` while one that has not spoken may yet contradict.
    ///
    /// A node that has gone silent keeps its say for ten minutes, carried on by
    /// cluster time, which stands still in an outage: after one, a far jump waits
    /// for all three nodes, or ten minutes for the one that does not come back.
    pub(crate) fn wall_words(&self) -> Option<Vec<(NodeId, WallTime)>> {
        let clock = self.scalars.clock;
        let members = self.scalars.charter.iter().flat_map(|charter| &charter.members);
        let mut words = Vec::new();
        for member in members {
            match self.vitals.get(&member.node) {
                None if clock.0 <= WALL_WORD_MILLIS => return None,
                None => {}
                Some(vitals) => {
                    let age = clock.millis_since(vitals.heard);
                    if age <= WALL_WORD_MILLIS {
                        words.push((member.node, moved_on(vitals.wall, age)));
                    }
                }
            }
        }
        Some(words)
    }
}
