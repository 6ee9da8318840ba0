//! What is read from ledger and Raft when Prometheus asks, rather than kept up
//! to date.

use std::sync::atomic::Ordering;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;

use super::Metrics;
use super::labels::{License, Product, Reason};

/// One look at the node.
#[derive(Debug, Default)]
pub(crate) struct Reading {
    pub(crate) counts: Counts,
    pub(crate) pools: Vec<PoolReading>,
    pub(crate) licenses: Vec<LicenseReading>,
    pub(crate) cluster_time: Duration,
    pub(crate) is_leader: bool,
    pub(crate) has_quorum: bool,
    pub(crate) ready: bool,
    pub(crate) term: u64,
    pub(crate) last_log_index: u64,
    pub(crate) applied_index: u64,
    pub(crate) snapshot_index: u64,
    pub(crate) ledgers_differing: u64,
    pub(crate) epochs_differing: u64,
    /// Free and in all, in bytes; a simulated node has no disk.
    pub(crate) disk: Option<(u64, u64)>,
}

/// What happened since the cluster was formed.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) granted: u64,
    pub(crate) released: u64,
    pub(crate) expired: u64,
    pub(crate) revoked: u64,
    pub(crate) renewed: u64,
    pub(crate) queued: u64,
    pub(crate) refused: Vec<(&'static str, u64)>,
}

/// One product.
#[derive(Debug)]
pub(crate) struct PoolReading {
    pub(crate) product: String,
    pub(crate) capacity: u64,
    pub(crate) held: u64,
    pub(crate) waiting: u64,
}

/// One license.
#[derive(Debug)]
pub(crate) struct LicenseReading {
    pub(crate) license: String,
    pub(crate) shares_live: u64,
    pub(crate) serving: bool,
}

impl Metrics {
    /// Takes over what a scrape reads from the node.
    pub(crate) fn set(&self, reading: &Reading) {
        let Reading { counts, pools, licenses, .. } = reading;
        let store = |counter: &Counter, total| counter.inner().store(total, Ordering::Relaxed);
        store(&self.seats_granted, counts.granted);
        store(&self.seats_released, counts.released);
        store(&self.seats_expired, counts.expired);
        store(&self.seats_revoked, counts.revoked);
        store(&self.renewals, counts.renewed);
        store(&self.queued, counts.queued);
        for (reason, total) in &counts.refused {
            let label = Reason { reason };
            store(&self.refusals.get_or_create(&label), *total);
        }
        // What is no longer installed must no longer be shown.
        self.seats_capacity.clear();
        self.seats_held.clear();
        self.waiting.clear();
        for pool in pools {
            let label = Product { product: pool.product.clone() };
            self.seats_capacity.get_or_create(&label).set(figure(pool.capacity));
            self.seats_held.get_or_create(&label).set(figure(pool.held));
            self.waiting.get_or_create(&label).set(figure(pool.waiting));
        }
        self.shares_live.clear();
        self.serving.clear();
        for license in licenses {
            let label = License { license: license.license.clone() };
            self.shares_live.get_or_create(&label).set(figure(license.shares_live));
            self.serving.get_or_create(&label).set(i64::from(license.serving));
        }
        self.cluster_time.set(reading.cluster_time.as_secs_f64());
        self.is_leader.set(i64::from(reading.is_leader));
        self.has_quorum.set(i64::from(reading.has_quorum));
        self.ready.set(i64::from(reading.ready));
        self.term.set(figure(reading.term));
        self.last_log.set(figure(reading.last_log_index));
        self.applied.set(figure(reading.applied_index));
        self.snapshot.set(figure(reading.snapshot_index));
        self.ledgers_differing.set(figure(reading.ledgers_differing));
        self.epochs_differing.set(figure(reading.epochs_differing));
        if let Some((free, size)) = reading.disk {
            self.disk_free.set(figure(free));
            self.disk_size.set(figure(size));
        }
    }
}

fn figure(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
