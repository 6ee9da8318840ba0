//! How many connections there are: in all, per client address, of callers that
//! have not yet said who they are, and of nodes that are gone.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::{Listener, Metrics};

/// Connections of one node that is gone: it dials twice, and needs one answer.
const OF_GONE_MAX: u32 = 2;

/// The connections of one listener. Cloning shares the count.
#[derive(Debug, Clone)]
pub struct Slots {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    listener: Listener,
    metrics: Arc<Metrics>,
    total_max: u32,
    per_address_max: u32,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    total: u32,
    /// Invariant: as many as there are slots with `is_anonymous`.
    anonymous: u32,
    /// Invariant: holds the addresses with a count above zero.
    by_address: BTreeMap<IpAddr, Held>,
    /// By node. Invariant: holds those with a count above zero.
    of_gone: BTreeMap<u64, u32>,
}

/// The connections of one address.
#[derive(Debug, Default)]
struct Held {
    all: u32,
    anonymous: u32,
}

/// How many of so many connections may be anonymous.
fn quarter(connections: u32) -> u32 {
    (connections / 4).max(1)
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
pub(crate) struct Slot {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
    is_anonymous: bool,
    /// The node at the other end, if it is gone.
    gone: Option<u64>,
}

impl Slots {
    /// Room for `total_max` connections, `per_address_max` of them from one
    /// address. A quarter of either may be from callers who have not said who
    /// they are, so that one address cannot keep out all who show a token.
    pub fn new(
        listener: Listener,
        total_max: u32,
        per_address_max: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        let shared =
            Shared { listener, metrics, total_max, per_address_max, taken: Mutex::default() };
        Self { shared: Arc::new(shared) }
    }

    /// A place for a connection whose client is not known yet.
    pub(super) fn take(&self) -> Option<Slot> {
        let shared = &self.shared;
        {
            let mut taken = shared.taken();
            if taken.total >= shared.total_max {
                drop(taken);
                self.refused("limit");
                return None;
            }
            taken.total += 1;
        }
        shared.metrics.connection_opened(shared.listener);
        Some(Slot { shared: shared.clone(), address: None, is_anonymous: false, gone: None })
    }

    /// Counts a connection that was closed at the door.
    pub(super) fn refused(&self, reason: &'static str) {
        self.shared.refused(reason);
    }

    /// Which listener this is.
    pub(super) fn listener(&self) -> Listener {
        self.shared.listener
    }
}

impl Taken {
    /// What the slot of that address is counted under.
    fn of(&mut self, address: Option<IpAddr>) -> Option<&mut Held> {
        address.and_then(|address| self.by_address.get_mut(&address))
    }
}

impl Slot {
    /// Counts the connection under its client's address, unless that has too many.
    pub(super) fn count_address(&mut self, address: IpAddr) -> bool {
        let station = station(address);
        let mut taken = self.shared.taken();
        let held = taken.by_address.entry(station).or_default();
        if held.all >= self.shared.per_address_max {
            return false;
        }
        held.all += 1;
        drop(taken);
        self.address = Some(station);
        true
    }

    /// Counts the connection among those that showed no certificate, unless
    /// they have their quarter already.
    pub(super) fn count_anonymous(&mut self) -> bool {
        let mut taken = self.shared.taken();
        if taken.anonymous >= quarter(self.shared.total_max) {
            return false;
        }
        if let Some(held) = taken.of(self.address) {
            if held.anonymous >= quarter(self.shared.per_address_max) {
                return false;
            }
            held.anonymous += 1;
        }
        taken.anonymous += 1;
        drop(taken);
        self.is_anonymous = true;
        true
    }

    /// Counts the connection among those of a node that is gone, unless that
    /// has enough to be told so.
    pub(super) fn count_gone(&mut self, node: u64) -> bool {
        let mut taken = self.shared.taken();
        let of_node = taken.of_gone.entry(node).or_default();
        if *of_node >= OF_GONE_MAX {
            return false;
        }
        *of_node += 1;
        drop(taken);
        self.gone = Some(node);
        true
    }

    /// Whether its caller is to be told that it is gone, and nothing else.
    pub(crate) fn is_of_gone(&self) -> bool {
        self.gone.is_some()
    }

    /// Its caller has shown who it is.
    pub(crate) fn identified(&mut self) {
        if std::mem::take(&mut self.is_anonymous) {
            let mut taken = self.shared.taken();
            taken.anonymous -= 1;
            if let Some(held) = taken.of(self.address) {
                held.anonymous -= 1;
            }
        }
    }

    /// Counts that the connection was closed for `reason` after it was let in.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.shared.refused(reason);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.identified();
        let mut taken = self.shared.taken();
        taken.total -= 1;
        if let Some(address) = self.address
            && let Some(held) = taken.by_address.get_mut(&address)
        {
            held.all -= 1;
            if held.all == 0 {
                taken.by_address.remove(&address);
            }
        }
        if let Some(node) = self.gone
            && let Some(of_node) = taken.of_gone.get_mut(&node)
        {
            *of_node -= 1;
            if *of_node == 0 {
                taken.of_gone.remove(&node);
            }
        }
        drop(taken);
        self.shared.metrics.connection_closed(self.shared.listener);
    }
}

impl Shared {
    fn refused(&self, reason: &'static str) {
        self.metrics.connection_refused(self.listener, reason);
    }

    fn taken(&self) -> std::sync::MutexGuard<'_, Taken> {
        // Nothing panics under this lock, and counts would still be counts.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What one client can be told by: an IPv4 address, or the /64 of an IPv6
/// address, of which a single machine commonly has every address.
fn station(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => {
            IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slots(total: u32, per_address: u32) -> Slots {
        Slots::new(Listener::Client, total, per_address, Arc::new(Metrics::new("embedded")))
    }

    #[test]
    fn a_full_listener_has_room_again_when_a_connection_ends() {
        let slots = slots(2, 2);
        let first = slots.take().expect("room");
        let _second = slots.take().expect("room");
        assert!(slots.take().is_none());
        drop(first);
        assert!(slots.take().is_some());
    }

    #[test]
    fn one_address_leaves_room_for_others() {
        let slots = slots(10, 1);
        let mut first = slots.take().expect("room");
        let mut second = slots.take().expect("room");
        assert!(first.count_address([10, 0, 0, 1].into()));
        assert!(!second.count_address([10, 0, 0, 1].into()));
        assert!(second.count_address([10, 0, 0, 2].into()));
        drop(first);
        let mut third = slots.take().expect("room");
        assert!(third.count_address([10, 0, 0, 1].into()));
    }

    #[test]
    fn a_quarter_is_for_callers_who_have_not_said_who_they_are() {
        let slots = slots(8, 8);
        let mut held: Vec<Slot> = (0..4).map(|_| slots.take().expect("room")).collect();
        assert!(held[0].count_anonymous());
        assert!(held[1].count_anonymous());
        assert!(!held[2].count_anonymous());
        held[0].identified();
        held[0].identified();
        assert!(held[2].count_anonymous());
        assert!(!held[3].count_anonymous());
        drop(held.remove(1));
        assert!(held[2].count_anonymous());
        assert!(slots.take().is_some(), "others are let in all the while");
    }

    #[test]
    fn one_address_cannot_take_the_quarter_either() {
        let slots = slots(100, 8);
        let mut held: Vec<Slot> = (0..4).map(|_| slots.take().expect("room")).collect();
        for slot in &mut held[..3] {
            assert!(slot.count_address([10, 0, 0, 1].into()));
        }
        assert!(held[3].count_address([10, 0, 0, 2].into()));
        assert!(held[0].count_anonymous());
        assert!(held[1].count_anonymous());
        assert!(!held[2].count_anonymous());
        assert!(held[3].count_anonymous());
        drop(held.remove(0));
        assert!(held[1].count_anonymous(), "its place is free for the next of the address");
    }

    #[test]
    fn a_node_that_is_gone_has_two_connections_and_its_next_one_when_they_end() {
        let slots = slots(8, 8);
        let mut held: Vec<Slot> = (0..4).map(|_| slots.take().expect("room")).collect();
        assert!(held[0].count_gone(3) && held[1].count_gone(3));
        assert!(!held[2].count_gone(3) && !held[2].is_of_gone());
        assert!(held[3].count_gone(4), "another has its own");
        drop(held.remove(0));
        assert!(held[1].count_gone(3) && held[1].is_of_gone());
    }

    #[test]
    fn a_machine_with_many_ipv6_addresses_is_one_client() {
        let slots = slots(10, 1);
        let mut first = slots.take().expect("room");
        let mut second = slots.take().expect("room");
        assert!(first.count_address("fd00::1".parse().expect("an address")));
        assert!(!second.count_address("fd00::2".parse().expect("an address")));
        assert!(second.count_address("fd00:0:0:1::2".parse().expect("an address")));
    }
}
