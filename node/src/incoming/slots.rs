//! How many connections there are, in all and per client address.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};

use crate::telemetry::{Listener, Metrics};

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
    /// Invariant: holds the addresses with a count above zero.
    by_address: BTreeMap<IpAddr, u32>,
}

/// One connection's place; dropping it frees the place.
#[derive(Debug)]
pub(super) struct Slot {
    shared: Arc<Shared>,
    address: Option<IpAddr>,
}

impl Slots {
    /// Room for `total_max` connections, `per_address_max` of them from one address.
    pub fn new(
        listener: Listener,
        total_max: u32,
        per_address_max: u32,
        metrics: Arc<Metrics>,
    ) -> Self {
        let taken = Mutex::default();
        Self { shared: Arc::new(Shared { listener, metrics, total_max, per_address_max, taken }) }
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
        Some(Slot { shared: shared.clone(), address: None })
    }

    /// Counts a connection that was closed at the door.
    pub(super) fn refused(&self, reason: &'static str) {
        self.shared.metrics.connection_refused(self.shared.listener, reason);
    }

    /// Which listener this is.
    pub(super) fn listener(&self) -> Listener {
        self.shared.listener
    }
}

impl Slot {
    /// Counts the connection under its client's address, unless that has too many.
    pub(super) fn count_address(&mut self, address: IpAddr) -> bool {
        let station = station(address);
        let mut taken = self.shared.taken();
        let count = taken.by_address.entry(station).or_default();
        if *count >= self.shared.per_address_max {
            return false;
        }
        *count += 1;
        drop(taken);
        self.address = Some(station);
        true
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut taken = self.shared.taken();
        taken.total -= 1;
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
        drop(taken);
        self.shared.metrics.connection_closed(self.shared.listener);
    }
}

impl Shared {
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
    fn a_machine_with_many_ipv6_addresses_is_one_client() {
        let slots = slots(10, 1);
        let mut first = slots.take().expect("room");
        let mut second = slots.take().expect("room");
        assert!(first.count_address("fd00::1".parse().expect("an address")));
        assert!(!second.count_address("fd00::2".parse().expect("an address")));
        assert!(second.count_address("fd00:0:0:1::2".parse().expect("an address")));
    }
}
