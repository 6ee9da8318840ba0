//! One file per verb. Each holds its flags, its help, what it does and what it prints.

pub mod acquire;
pub mod balancer;
pub mod cluster;
pub mod completions;
pub mod demo;
pub mod drill;
pub mod license;
pub mod node;
pub mod pki;
pub mod release;
pub mod renew;
pub mod run;
pub mod seats;
pub mod token;
pub mod trust;
pub mod up;
pub mod usage;
pub mod vendor;

use crate::args::{Cli, Global, Verb};
use crate::console::Console;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::world::World;

/// What every verb is given.
#[derive(Debug, Clone)]
pub struct Call {
    /// The flags that every verb takes.
    pub global: Global,
    /// Where to print.
    pub console: Console,
    /// The clocks.
    pub world: World,
}

/// Does what the command line asks.
pub fn run(cli: Cli, console: Console, world: World) -> Result<Exit, Failure> {
    let call = Call { global: cli.global, console, world };
    match cli.verb {
        Verb::Demo(demo) => demo.run(&call),
        Verb::Drill(drill) => drill.run(&call),
        Verb::Up(up) => up.run(&call),
        Verb::Node(node) => node.run(&call),
        Verb::Balancer(balancer) => balancer.run(&call),
        Verb::Pki(pki) => pki.run(&call),
        Verb::Cluster(cluster) => cluster.run(&call),
        Verb::License(license) => license.run(&call),
        Verb::Vendor(vendor) => vendor.run(&call),
        Verb::Token(token) => token.run(&call),
        Verb::Trust(trust) => trust.run(&call),
        Verb::Acquire(acquire) => acquire.run(&call),
        Verb::Renew(renew) => renew.run(&call),
        Verb::Release(release) => release.run(&call),
        Verb::Run(run) => run.run(&call),
        Verb::Seats(seats) => seats.run(&call),
        Verb::Usage(usage) => usage.run(&call),
        Verb::Completions(completions) => completions.run(&call),
    }
}
