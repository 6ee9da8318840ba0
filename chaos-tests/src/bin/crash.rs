//! `cargo crash`: the crash test as a command.
//!
//! The same binary is also the servers: started with `node` or `balancer` it
//! is `trine`, so that nothing else needs to be built.

use std::path::PathBuf;
use std::process::ExitCode;

use chaos_tests::crash::{self, Plan, Report};
use chaos_tests::disk::Unavailable;
use chaos_tests::history;
use clap::Parser;
use trine_cli::world::World;

/// Kill servers of a real cluster under load, drop their unsynced bytes, check that nothing is lost
///
/// Exit codes: 0 everything held, 1 a law was broken, 2 usage, 3 not possible on
/// this machine, 4 the test itself failed.
#[derive(Debug, Parser)]
#[command(name = "crash")]
struct Arguments {
    /// How many crashes
    #[arg(long, default_value_t = 200)]
    rounds: u32,
    /// Storage engine of the nodes: embedded, or rocksdb in builds that have it
    #[arg(long, default_value = "embedded")]
    engine: String,
    /// Derives the choices; drawn from the clock and printed if not given
    #[arg(long)]
    seed: Option<u64>,
    /// Let the disks lie about syncs, to see that the test notices
    #[arg(long)]
    ignore_syncs: bool,
    /// Keep the logs and the history even if everything held
    #[arg(long)]
    keep: bool,
    /// Print the report as JSON
    #[arg(long)]
    json: bool,
    /// Judge a saved history again instead of running anything
    #[arg(long, value_name = "FILE")]
    judge: Option<PathBuf>,
}

const BROKEN_LAW: u8 = 1;
const NOT_POSSIBLE: u8 = 3;
const TEST_FAILED: u8 = 4;

#[expect(
    clippy::disallowed_methods,
    reason = "the process's one clock; everything else is handed it"
)]
fn main() -> ExitCode {
    let world = World { wall: std::time::SystemTime::now, monotonic: std::time::Instant::now };
    if matches!(std::env::args().nth(1).as_deref(), Some("node" | "balancer")) {
        return trine_cli::main(world);
    }
    let arguments = Arguments::parse();
    let ended = match &arguments.judge {
        Some(file) => judge(&arguments, file),
        None => tokio::runtime::Runtime::new()
            .map_err(anyhow::Error::from)
            .and_then(|runtime| runtime.block_on(test(&arguments, world))),
    };
    match ended {
        Ok(code) => code,
        Err(error) if error.is::<Unavailable>() => {
            eprintln!("crash: not possible here: {error:#}");
            NOT_POSSIBLE.into()
        }
        Err(error) => {
            eprintln!("crash: the test itself failed: {error:#}");
            TEST_FAILED.into()
        }
    }
}

async fn test(arguments: &Arguments, world: World) -> anyhow::Result<ExitCode> {
    let seed = arguments.seed.unwrap_or_else(|| world.wall_time().0.unsigned_abs());
    let folder = tempfile::Builder::new().prefix("trine-crash-").tempdir()?;
    let again = format!(
        "cargo crash --rounds {} --engine {} --seed {seed}{}",
        arguments.rounds,
        arguments.engine,
        if arguments.ignore_syncs { " --ignore-syncs" } else { "" },
    );
    eprintln!("crash: {again}");
    let plan = Plan {
        rounds: arguments.rounds,
        engine: arguments.engine.clone(),
        seed,
        ignore_syncs: arguments.ignore_syncs,
        dir: folder.path().to_owned(),
        program: std::env::current_exe()?,
    };
    let ended = crash::run(plan, world, |line| eprintln!("crash: {line}")).await;
    let (report, history) = match ended {
        Ok(ended) => ended,
        Err(error) => {
            if !error.is::<Unavailable>() {
                eprintln!("crash: logs are kept in {}", folder.keep().display());
            }
            return Err(error);
        }
    };
    if report.holds() && !arguments.keep {
        return tell(arguments, &report);
    }
    let folder = folder.keep();
    let file = folder.join("history.jsonl");
    history::save(&history.events(), &file)?;
    eprintln!("crash: logs and history are kept in {}", folder.display());
    if !report.holds() {
        eprintln!("crash: judge the history again: cargo crash --judge {}", file.display());
        eprintln!("crash: run it again: {again}");
    }
    tell(arguments, &report)
}

fn judge(arguments: &Arguments, file: &std::path::Path) -> anyhow::Result<ExitCode> {
    let verdict = crash::judge(&history::load(file)?);
    let report =
        Report { figures: verdict.figures, violations: verdict.violations, ..Report::default() };
    tell(arguments, &report)
}

fn tell(arguments: &Arguments, report: &Report) -> anyhow::Result<ExitCode> {
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(report)?);
    }
    eprintln!("crash: {:?}", report.figures);
    for violation in &report.violations {
        eprintln!("crash: {violation}");
    }
    for failure in &report.failures {
        eprintln!("crash: {failure}");
    }
    if !report.holds() {
        return Ok(BROKEN_LAW.into());
    }
    eprintln!(
        "crash: nothing lost and nothing doubled in {} crashes ({} nodes, {} balancers killed, {} syncs)",
        report.rounds, report.nodes_killed, report.balancers_killed, report.syncs
    );
    Ok(ExitCode::SUCCESS)
}
