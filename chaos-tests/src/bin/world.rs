//! `cargo world`: plays the rehearsal of one seed in the simulator and prints
//! all that could be observed, with a digest of it as the last line.

use chaos_tests::world::rehearse;
use clap::Parser;

/// Play one seed in the simulator and print its trace; the same seed prints the same
#[derive(Debug, Parser)]
#[command(name = "world")]
struct Arguments {
    /// Which world
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Print only the digest
    #[arg(long)]
    quiet: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let played = rehearse(arguments.seed);
    if !arguments.quiet {
        played.trace().iter().for_each(|line| println!("{line}"));
    }
    println!("seed {} digest {:032x}", arguments.seed, played.digest());
}
