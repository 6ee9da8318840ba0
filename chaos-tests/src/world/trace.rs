//! Everything of a run that could be observed from outside, in order.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trine_client::Failure;
use trine_client::clock::Moment;
use trine_client::observe::{Attempt, Observer, Reply};

use crate::history::History;
use crate::record::Recorder;

/// A run's events, one a line, each with its simulated time.
pub(super) struct Trace {
    lines: Mutex<Vec<String>>,
    /// Whether calls and answers are in it; writing them out takes its time.
    calls: bool,
}

impl Trace {
    pub(super) fn new(calls: bool) -> Self {
        Self { lines: Mutex::default(), calls }
    }

    pub(super) fn note(&self, what: impl Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        self.locked().push(format!("{at} {what}"));
    }

    pub(super) fn lines(&self) -> Vec<String> {
        self.locked().clone()
    }

    /// Writes down what the client `name` sends and hears, here and in the
    /// history that the laws are judged by.
    pub(super) fn observer(
        self: &Arc<Self>,
        name: &str,
        history: &Arc<History>,
    ) -> Arc<dyn Observer> {
        let recorder = Recorder::new(history.clone(), name.to_owned());
        Arc::new(Client { name: name.to_owned(), trace: self.clone(), recorder })
    }

    fn locked(&self) -> MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Client {
    name: String,
    trace: Arc<Trace>,
    recorder: Recorder,
}

impl Observer for Client {
    fn sent(&self, attempt: &Attempt) {
        let Attempt { number, endpoint, call, .. } = attempt;
        if self.trace.calls {
            self.trace.note(format_args!("{} asks #{number} {endpoint} {call:?}", self.name));
        }
        self.recorder.sent(attempt);
    }

    fn answered(&self, attempt: &Attempt, answer: Result<&Reply, &Failure>, now: Moment) {
        if self.trace.calls {
            self.trace.note(format_args!("{} hears #{} {answer:?}", self.name, attempt.number));
        }
        self.recorder.answered(attempt, answer, now);
    }
}
