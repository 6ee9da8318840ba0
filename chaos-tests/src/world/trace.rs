//! Everything of a run that could be observed from outside, in order.

use std::fmt::Display;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trine_client::Failure;
use trine_client::clock::Moment;
use trine_client::observe::{Attempt, Observer, Reply};

use crate::history::History;
use crate::record::Recorder;

/// Something that lasted, for the timeline.
#[derive(Debug, Clone)]
pub struct Span {
    /// Where it is drawn: `leads`, `faults`, `cut node-1`, a machine.
    pub lane: String,
    /// What it was.
    pub what: String,
    /// When it began, in microseconds.
    pub from_us: u64,
    /// When it ended; open if the run ended first.
    pub to_us: Option<u64>,
}

/// A run's events, one a line, each with its simulated time.
pub(super) struct Trace {
    lines: Mutex<Vec<String>>,
    /// Whether calls and answers are in it; writing them out takes its time.
    calls: bool,
    spans: Mutex<Vec<Span>>,
}

impl Trace {
    pub(super) fn new(calls: bool) -> Self {
        Self { lines: Mutex::default(), calls, spans: Mutex::default() }
    }

    pub(super) fn note(&self, what: impl Display) {
        let at = turmoil::sim_elapsed().unwrap_or_default().as_micros();
        self.locked().push(format!("{at} {what}"));
    }

    /// Something begins.
    pub(super) fn begin(&self, at: Duration, lane: &str, what: impl Display) {
        let (from_us, what) = (micros(at), what.to_string());
        let span = Span { lane: lane.to_owned(), what, from_us, to_us: None };
        self.spanned().push(span);
    }

    /// The last thing that began in this lane, and is called so if that is said, ends.
    pub(super) fn end(&self, at: Duration, lane: &str, what: Option<&str>) {
        let mut spans = self.spanned();
        let open = spans.iter_mut().rev().find(|span| {
            span.lane == lane && span.to_us.is_none() && what.is_none_or(|what| span.what == what)
        });
        if let Some(span) = open {
            span.to_us = Some(micros(at));
        }
    }

    /// What lasted.
    pub(super) fn spans(&self) -> Vec<Span> {
        self.spanned().clone()
    }

    fn spanned(&self) -> MutexGuard<'_, Vec<Span>> {
        self.spans.lock().unwrap_or_else(PoisonError::into_inner)
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

fn micros(at: Duration) -> u64 {
    u64::try_from(at.as_micros()).unwrap_or(u64::MAX)
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
