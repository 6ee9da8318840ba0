//! One thing that is wrong.

use serde::Serialize;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Severity {
    /// Somebody is harmed, or will be by the next failure.
    Error,
    /// Nobody is harmed yet.
    Warning,
    /// It cannot be told yet: something has only just begun.
    NotKnownYet,
}

/// One thing that is wrong, and the way out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// How bad it is.
    pub(super) severity: Severity,
    /// Stable, for scripts.
    pub(super) code: &'static str,
    /// `node-2`, `cluster`, `10.0.0.5:22450`, a license.
    pub(super) about: String,
    /// What is wrong.
    pub(super) what: String,
    /// What to do.
    pub(super) advice: String,
}

impl Finding {
    /// Needs somebody now.
    pub(super) fn error(
        code: &'static str,
        about: impl ToString,
        what: impl ToString,
        advice: impl ToString,
    ) -> Self {
        let (about, what, advice) = (about.to_string(), what.to_string(), advice.to_string());
        Self { severity: Severity::Error, code, about, what, advice }
    }

    /// Needs somebody soon.
    pub(super) fn warning(
        code: &'static str,
        about: impl ToString,
        what: impl ToString,
        advice: impl ToString,
    ) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, about, what, advice) }
    }

    /// Passes by itself within seconds, or becomes one of the others.
    pub(super) fn not_known_yet(
        code: &'static str,
        about: impl ToString,
        what: impl ToString,
    ) -> Self {
        let finding = Self::error(code, about, what, "nothing yet: look again in 10 s");
        Self { severity: Severity::NotKnownYet, ..finding }
    }
}
