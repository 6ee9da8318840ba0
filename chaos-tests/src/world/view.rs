//! What a story sees of its world.

use std::time::Duration;

use pki::Role;

use super::World;
use super::callers::endpoint;

impl World {
    /// Waits until `look` sees something, and says what did not happen if it never does.
    pub async fn until<T>(&self, what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
        for _ in 0..600 {
            if let Some(seen) = look().await {
                return seen;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("this did not happen within 30 s: {what}");
    }

    /// Who leads, once somebody does.
    pub async fn leader(&self) -> u64 {
        let operator = self.operator().operator();
        self.until("somebody leads", async || Some(operator.status().await.ok()?.leader)).await
    }

    /// How a node stands as itself sees it: index applied, and hash of the ledger there.
    pub async fn state(&self, node: u64) -> Option<(u64, String)> {
        let client = self.client_at(Role::Operator, "ana", &[node], Duration::from_secs(1));
        let status = client.operator().at(endpoint(node)).node_status().await.ok()?;
        let state = (status.applied_index, status.state_hash);
        self.note(format_args!("node-{node} applied {} hash {}", state.0, state.1));
        Some(state)
    }

    /// Waits until all three nodes show the same ledger at the same entry (S18, L1).
    ///
    /// # Panics
    /// When two show different ones at the same entry.
    pub async fn until_same(&self) -> (u64, String) {
        self.until("three nodes show the same ledger", async || {
            let mut states = Vec::new();
            for node in self.nodes() {
                states.push(self.state(node).await?);
            }
            let [first, second, third] = [&states[0], &states[1], &states[2]];
            for (one, other) in [(first, second), (second, third), (first, third)] {
                assert!(
                    one.0 != other.0 || one.1 == other.1,
                    "two ledgers at one entry: {states:?}"
                );
            }
            (first == second && second == third).then(|| first.clone())
        })
        .await
    }

    /// Seats taken and requests waiting, as this node's ledger has it.
    pub fn taken_and_waiting(&self, node: u64) -> Option<(u64, u32)> {
        let machine = self.machine(node);
        let window = machine.window();
        let pools = window.as_ref()?.look(|ledger| ledger.pools());
        pools.first().map(|pool| (pool.seats, pool.waiting))
    }

    /// Writes a line into the trace.
    pub fn note(&self, what: impl std::fmt::Display) {
        self.inner.trace.note(what);
    }

    /// What could be observed so far, one event a line, each beginning with its microsecond.
    pub fn trace(&self) -> Vec<String> {
        self.inner.trace.lines()
    }

    /// What the nodes have logged so far at `info` and above.
    pub fn journal(&self) -> Vec<String> {
        self.inner.journal.lines()
    }
}
