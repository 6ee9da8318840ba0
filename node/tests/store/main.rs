//! What a node keeps: the suites every engine passes, the crash tests, the data directory.

mod bench;
mod crash;
mod directory;
mod history;
mod promise;
mod suite;
mod usage;
