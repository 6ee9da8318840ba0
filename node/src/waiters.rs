//! Callers held open until their queued request is settled.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ledger::command::{LeaseId, Reply};
use tokio::sync::oneshot;

/// Who is to be told when a queued request is settled.
#[derive(Default)]
pub(crate) struct Waiters {
    by_lease: Mutex<BTreeMap<LeaseId, Vec<oneshot::Sender<Reply>>>>,
}

/// One caller that is held open; forgotten however the wait ends.
pub(crate) struct Waiter<'a> {
    waiters: &'a Waiters,
    lease: LeaseId,
    settled: oneshot::Receiver<Reply>,
}

impl Waiters {
    /// Begins to wait. Do so before asking, so that a seat that comes free at
    /// once is not missed.
    pub(crate) fn wait_for(&self, lease: LeaseId) -> Waiter<'_> {
        let (tell, settled) = oneshot::channel();
        self.lock().entry(lease).or_default().push(tell);
        Waiter { waiters: self, lease, settled }
    }

    /// Tells everyone who waits for `lease`.
    pub(crate) fn tell(&self, lease: LeaseId, reply: &Reply) {
        let told = self.lock().remove(&lease).unwrap_or_default();
        for waiter in told {
            // A caller that hung up learns it by asking again.
            let _ = waiter.send(reply.clone());
        }
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<LeaseId, Vec<oneshot::Sender<Reply>>>> {
        // Nothing panics while it holds this lock, and the map is never half changed.
        self.by_lease.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Waiter<'_> {
    /// The answer, if it is settled within `limit`.
    pub(crate) async fn settled(&mut self, limit: Duration) -> Option<Reply> {
        tokio::time::timeout(limit, &mut self.settled).await.ok()?.ok()
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.settled.close();
        let mut by_lease = self.waiters.lock();
        if let Some(waiting) = by_lease.get_mut(&self.lease) {
            waiting.retain(|waiter| !waiter.is_closed());
            if waiting.is_empty() {
                by_lease.remove(&self.lease);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use ledger::command::{LogId, Outcome};
    use ledger::time::ClusterTime;

    use super::*;

    fn reply() -> Reply {
        let log_id = LogId { epoch: 0, index: 7, position: 1 };
        Reply { log_id, stamp: ClusterTime(900), outcome: Outcome::Released }
    }

    #[tokio::test(start_paused = true)]
    async fn a_caller_hears_of_a_seat_that_came_free_before_it_looked() {
        let waiters = Waiters::default();
        let mut waiter = waiters.wait_for(LeaseId(1));
        waiters.tell(LeaseId(1), &reply());
        assert_eq!(waiter.settled(Duration::from_secs(5)).await, Some(reply()));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_in_vain_is_forgotten() {
        let waiters = Waiters::default();
        let mut waiter = waiters.wait_for(LeaseId(1));
        assert_eq!(waiter.settled(Duration::from_secs(5)).await, None);
        drop(waiter);
        assert!(waiters.lock().is_empty());
    }
}
