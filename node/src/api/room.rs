//! How many calls there may be at once: some being answered, others held open
//! for a seat. Each has its own room, so that who waits for a seat never keeps
//! out who renews one (L9).

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::Limits;

/// The room of one listener.
pub(super) struct Room {
    in_flight: Arc<Semaphore>,
    held_open: Arc<Semaphore>,
}

/// One call's place, in the extensions of its request. Cloning shares it.
#[derive(Debug, Clone)]
pub struct Place {
    in_flight: Arc<Mutex<Option<OwnedSemaphorePermit>>>,
    held_open: Arc<Semaphore>,
}

/// The place of a call that is held open; dropping it frees the place.
#[derive(Debug)]
pub struct HeldOpen(#[expect(dead_code, reason = "held for its drop")] OwnedSemaphorePermit);

impl Room {
    /// Room for `in_flight` calls being answered, and half as many held open.
    pub(super) fn new(limits: &Limits) -> Self {
        let in_flight = usize::try_from(limits.in_flight).unwrap_or(Semaphore::MAX_PERMITS);
        Self {
            in_flight: Arc::new(Semaphore::new(in_flight)),
            held_open: Arc::new(Semaphore::new((in_flight / 2).max(1))),
        }
    }

    /// A place for one more call, if there is one.
    pub(super) fn enter(&self) -> Option<Place> {
        let permit = self.in_flight.clone().try_acquire_owned().ok()?;
        let in_flight = Arc::new(Mutex::new(Some(permit)));
        Some(Place { in_flight, held_open: self.held_open.clone() })
    }
}

impl fmt::Debug for Room {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (in_flight, held_open) = (&self.in_flight, &self.held_open);
        write!(
            f,
            "Room({} places free, {} to be held open)",
            in_flight.available_permits(),
            held_open.available_permits()
        )
    }
}

impl Place {
    /// Changes the call's place for one among those held open. `None`, and
    /// nothing changed, when these are all taken: answer the call at once.
    pub fn hold_open(&self) -> Option<HeldOpen> {
        let permit = self.held_open.clone().try_acquire_owned().ok()?;
        // Nothing panics under this lock.
        drop(self.in_flight.lock().unwrap_or_else(PoisonError::into_inner).take());
        Some(HeldOpen(permit))
    }
}
