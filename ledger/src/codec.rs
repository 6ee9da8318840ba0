//! The encodings that live on disk: batches and snapshots.
//!
//! Both open with a magic and a version and are read strictly: trailing
//! bytes, unknown versions and values out of bounds are refused.

/// Bytes that are not what they should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CodecError {
    /// Not this kind of file.
    #[error("these bytes are not a {what}; the file is another's or damaged")]
    Magic {
        /// What was expected.
        what: &'static str,
    },
    /// Written by a newer build.
    #[error(
        "this {what} has format version {found} and this build reads {known}; use a newer build"
    )]
    Version {
        /// What was read.
        what: &'static str,
        /// Its version.
        found: u16,
        /// The version this build reads.
        known: u16,
    },
    /// Does not decode.
    #[error("the {what} is damaged: {detail}; restore it from a peer")]
    Damaged {
        /// What was read.
        what: &'static str,
        /// What is wrong with it.
        detail: String,
    },
    /// Over a stated limit.
    #[error("the {what} has {found} {unit} and the limit is {limit}")]
    TooLarge {
        /// What was read or written.
        what: &'static str,
        /// How much it has.
        found: usize,
        /// The limit.
        limit: usize,
        /// Of what.
        unit: &'static str,
    },
}
