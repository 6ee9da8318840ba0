//! The binary `trine`: hands the world in and gives the exit code back.

use std::process::ExitCode;

use trine_cli::world::World;

#[expect(
    clippy::disallowed_methods,
    reason = "the process's one clock; everything else is handed it"
)]
fn main() -> ExitCode {
    trine_cli::main(World { wall: std::time::SystemTime::now, monotonic: std::time::Instant::now })
}
