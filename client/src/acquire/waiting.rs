//! Waiting in the queue: asked once to be told the place, then held open.

use std::time::Duration;

use wire::v1;

use super::Acquire;
use crate::clock::Moment;
use crate::connection::Lane;
use crate::core::Answered;
use crate::error::CallError;
use crate::lease::Place;
use crate::observe::Call;
use crate::patience::Patience;

/// The longest a node holds a queued call open.
const HOLD_OPEN_MAX: Duration = Duration::from_secs(5);
/// How often a waiting request is asked again when it cannot be held open.
const ASK_EVERY: Duration = Duration::from_secs(1);

/// How a waiting request is asked again: held open by the node if possible.
pub(super) struct Waiting<'a> {
    acquire: &'a Acquire,
    place: Option<Place>,
    hold_open: Duration,
    asked: Moment,
}

impl<'a> Waiting<'a> {
    pub(super) fn new(acquire: &'a Acquire) -> Self {
        // A hold is counted from before the send, so a call held open for long
        // would use up a short lease before it is granted.
        let hold_open = HOLD_OPEN_MAX.min(acquire.ttl / 3);
        Self { acquire, place: None, hold_open, asked: acquire.core.now() }
    }

    pub(super) async fn ask(
        &mut self,
        body: &v1::AcquireRequest,
        patience: Patience,
    ) -> Result<Answered, CallError> {
        let core = &self.acquire.core;
        // The first answer comes at once: it tells the place.
        let turn = match self.place {
            None => None,
            Some(_) => core.waits.try_acquire().ok(),
        };
        let hold_open = if turn.is_some() { self.hold_open } else { Duration::ZERO };
        if self.place.is_some() {
            // A node that does not hold the call open must not be asked in a spin.
            let early = ASK_EVERY.min(self.hold_open).saturating_sub(core.now().since(self.asked));
            if turn.is_none() || self.answered_early() {
                tokio::time::sleep(early).await;
            }
        }
        self.asked = core.now();
        let lane = if turn.is_some() { Lane::Waiting } else { Lane::Short };
        let hold_open_ms = u32::try_from(hold_open.as_millis()).unwrap_or(u32::MAX);
        let call = &Call::Acquire(v1::AcquireRequest { hold_open_ms, ..body.clone() });
        core.persist(patience, |endpoint, within| async move {
            core.send(call, &endpoint, lane, within + hold_open).await
        })
        .await
    }

    /// Whether the ledger has put the request into the queue.
    pub(super) fn is_queued(&self) -> bool {
        self.place.is_some()
    }

    fn answered_early(&self) -> bool {
        self.acquire.core.now().since(self.asked) < self.hold_open / 2
    }

    pub(super) fn queued(&mut self, queued: &v1::Queued, stamp_ms: u64) {
        let place = Place { position: queued.position, length: queued.length };
        if self.place != Some(place) {
            self.place = Some(place);
            if let Some(hear) = &self.acquire.on_place {
                hear(place);
            }
        }
        // Come back well before the place is lost.
        let session = Duration::from_millis(queued.ask_before_ms.saturating_sub(stamp_ms));
        self.hold_open = self.hold_open.min(session / 3);
    }
}
