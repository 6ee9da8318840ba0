//! `cargo chaos`: plays the rehearsal of one seed in the simulator and prints
//! all that could be observed, with a digest of it as the last line.

use chaos_tests::world::{Syncs, rehearse};
use clap::Parser;

/// Play one seed in the simulator and print its trace; the same seed prints the same
#[derive(Debug, Parser)]
#[command(name = "world")]
struct Arguments {
    /// Which world
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Let the disks lie about syncs, to see that the laws notice
    #[arg(long)]
    ignore_syncs: bool,
    /// Print only what was in it and the digest
    #[arg(long)]
    quiet: bool,
}

fn main() {
    let arguments = Arguments::parse();
    let played =
        rehearse(arguments.seed, if arguments.ignore_syncs { Syncs::Lie } else { Syncs::Hold });
    if !arguments.quiet {
        played.trace().iter().for_each(|line| println!("{line}"));
    }
    println!("{:?}", played.figures());
    println!("seed {} digest {:032x}", arguments.seed, played.digest());
}
