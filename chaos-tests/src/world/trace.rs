//! Everything of a run that could be observed from outside, in order.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trine_client::Failure;
use trine_client::clock::Moment;
use trine_client::observe::{Attempt, Observer, Reply};

/// A run's events, one a line, each with its simulated time.
#[derive(Default)]
pub(super) struct Trace(Mutex<Vec<String>>);

impl Trace {
    pub(super) fn note(&self, what: impl Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        self.locked().push(format!("{at} {what}"));
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.locked().clone()
    }

    /// Writes down what the client `name` sends and hears.
    pub(super) fn observer(self: &Arc<Self>, name: &str) -> Arc<dyn Observer> {
        Arc::new(Client { name: name.to_owned(), trace: self.clone() })
    }

    fn locked(&self) -> MutexGuard<'_, Vec<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Client {
    name: String,
    trace: Arc<Trace>,
}

impl Observer for Client {
    fn sent(&self, attempt: &Attempt) {
        let Attempt { number, endpoint, call, .. } = attempt;
        self.trace.note(format_args!("{} asks #{number} {endpoint} {call:?}", self.name));
    }

    fn answered(&self, attempt: &Attempt, answer: Result<&Reply, &Failure>, _: Moment) {
        self.trace.note(format_args!("{} hears #{} {answer:?}", self.name, attempt.number));
    }
}
