//! Benches: `benches/*.rs` run them, `RESULTS.md` keeps what was measured.
#![forbid(unsafe_code)]
