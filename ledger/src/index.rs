//! What can be derived from the state, kept so that no command scans it.
//!
//! Never in a snapshot and never hashed: a restore builds it anew, and tests
//! compare the kept index with a new one after every step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use license::product::{LicenseId, NodeId, ProductName, WallTime};
use license::terms::Feature;

use crate::command::{LeaseId, ShareState, Token};
use crate::memory::{Due, Request, RequestState};
use crate::name::Subject;
use crate::pool::Pool;
use crate::state::State;
use crate::time::ClusterTime;
use crate::usage::Denial;
use crate::view::Service;

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Index {
    /// Exactly one entry per live or waiting request, under the time it ends.
    pub(crate) ends: BTreeSet<(ClusterTime, LeaseId)>,
    /// Exactly one entry per other request, under the time it is forgotten.
    pub(crate) forgets: BTreeSet<(ClusterTime, LeaseId)>,
    /// Exactly one entry per bearer token, under its expiry.
    pub(crate) bearer_ends: BTreeSet<(WallTime, [u8; 32])>,
    /// Every live lease by its token.
    pub(crate) seats: BTreeMap<Token, LeaseId>,
    /// Every product with a license, a lease or a waiting request.
    pub(crate) pools: BTreeMap<Arc<ProductName>, Pool>,
    /// Every subject with a lease or a waiting request, and how many.
    pub(crate) subjects: BTreeMap<Subject, u32>,
    /// What every license switches on, one copy for all its grants.
    pub(crate) features: BTreeMap<LicenseId, Arc<Feature>>,
    /// Every subject that was denied something in the present minute, and in
    /// how many ways.
    pub(crate) denials: BTreeMap<Subject, u32>,
    /// How every license stands at the ledger's clock.
    pub(crate) standing: BTreeMap<LicenseId, LicenseStanding>,
}

/// Whether a license serves, and what its three shares are doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LicenseStanding {
    pub(crate) service: Service,
    pub(crate) shares: Vec<(NodeId, ShareState)>,
}

impl Index {
    /// Builds the index of a state.
    pub(crate) fn of(state: &State) -> Self {
        let mut index = Self::default();
        index.arrange_licenses(state);
        state.licenses.iter().for_each(|(id, installed)| {
            index.standing.insert(*id, state.standing(&installed.current));
        });
        state.bearers.iter().for_each(|(digest, bearer)| {
            index.bearer_ends.insert((bearer.expires, *digest));
        });
        state.requests.iter().for_each(|(lease, request)| index.link(*lease, request));
        state.denials.iter().for_each(|(denial, _)| index.count_denial(denial));
        index
    }

    /// Notes a request in every index it belongs to.
    pub(crate) fn link(&mut self, lease: LeaseId, request: &Request) {
        match request.due() {
            Due::Ends(time) => self.ends.insert((time, lease)),
            Due::Forgotten(time) => self.forgets.insert((time, lease)),
        };
        match &request.state {
            RequestState::Live(live) => {
                self.seats.insert(live.grant.token, lease);
                self.pool_mut(&live.wanted.product).charge(live.charged, &request.subject);
            }
            RequestState::Waiting(waiting) => {
                self.pool_mut(&waiting.wanted.product).enqueue(waiting.ticket, lease);
            }
            _ => return,
        }
        match self.subjects.get_mut(&request.subject) {
            Some(count) => *count += 1,
            None => {
                self.subjects.insert(request.subject.clone(), 1);
            }
        }
    }

    /// Undoes [`Index::link`].
    pub(crate) fn unlink(&mut self, lease: LeaseId, request: &Request) {
        match request.due() {
            Due::Ends(time) => self.ends.remove(&(time, lease)),
            Due::Forgotten(time) => self.forgets.remove(&(time, lease)),
        };
        let product = match &request.state {
            RequestState::Live(live) => {
                self.seats.remove(&live.grant.token);
                let pool = self.pool_mut(&live.wanted.product);
                pool.discharge(live.charged, &request.subject);
                &live.wanted.product
            }
            RequestState::Waiting(waiting) => {
                self.pool_mut(&waiting.wanted.product).dequeue(waiting.ticket);
                &waiting.wanted.product
            }
            _ => return,
        };
        if self.pools.get(product).is_some_and(Pool::is_empty) {
            self.pools.remove(product);
        }
        if let Some(count) = self.subjects.get_mut(&request.subject) {
            *count -= 1;
            if *count == 0 {
                self.subjects.remove(&request.subject);
            }
        }
    }

    /// Counts one more kind of denial of its subject.
    pub(crate) fn count_denial(&mut self, denial: &Denial) {
        if let Some(subject) = &denial.subject {
            *self.denials.entry(subject.clone()).or_default() += 1;
        }
    }

    /// Moves a live lease to a later deadline.
    pub(crate) fn postpone(&mut self, lease: LeaseId, from: ClusterTime, to: ClusterTime) {
        self.ends.remove(&(from, lease));
        self.ends.insert((to, lease));
    }

    /// Sorts every license into its product's pool, the soonest to expire first.
    pub(crate) fn arrange_licenses(&mut self, state: &State) {
        let features = state.licenses.iter().map(|(id, installed)| {
            (*id, Arc::new(installed.current.license.terms().feature.clone()))
        });
        self.features = features.collect();
        self.pools.values_mut().for_each(|pool| pool.licenses.clear());
        let mut by_end: Vec<_> = state
            .licenses
            .iter()
            .map(|(id, installed)| (installed.current.license.terms(), *id))
            .map(|(terms, id)| (terms.expiration.is_none(), terms.expiration, id, &terms.name))
            .collect();
        by_end.sort();
        for (_, _, id, product) in by_end {
            match self.pools.get_mut(product) {
                Some(pool) => pool.licenses.push(id),
                None => self.pool_mut(&Arc::new(product.clone())).licenses.push(id),
            }
        }
        self.pools.retain(|_, pool| !pool.is_empty());
    }

    /// One copy of a product's name for everything that refers to it.
    pub(crate) fn interned(&self, product: &ProductName) -> Arc<ProductName> {
        let known = self.pools.get_key_value(product);
        known.map_or_else(|| Arc::new(product.clone()), |(name, _)| Arc::clone(name))
    }

    /// One copy of a subject's name for everything that it holds or awaits.
    pub(crate) fn interned_subject(&self, subject: &Subject) -> Subject {
        self.subjects.get_key_value(subject).map_or(subject, |(known, _)| known).clone()
    }

    fn pool_mut(&mut self, product: &Arc<ProductName>) -> &mut Pool {
        self.pools.entry(Arc::clone(product)).or_default()
    }
}
