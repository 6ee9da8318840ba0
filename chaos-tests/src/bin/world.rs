//! `cargo chaos`: bad weather for real nodes and clients in a simulated world.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use chaos_tests::sets::{self, Sum};
use chaos_tests::world::{Ended, Syncs, Weather, brave, rehearse};
use chaos_tests::{history, laws};
use clap::Parser;
use nix::time::{ClockId, clock_gettime};

/// Play seeds in the simulator and hold every law against them; the same seed plays the same
///
/// Exit codes: 0 everything held, 1 a law was broken or a set came to too little, 2 usage.
#[derive(Debug, Parser)]
#[command(name = "world")]
struct Arguments {
    /// One seed
    #[arg(long, conflicts_with = "seeds")]
    seed: Option<u64>,
    /// Seeds from and below, as in 1..200; without --seed and --seeds they begin at the time of day
    #[arg(long, value_parser = range)]
    seeds: Option<std::ops::Range<u64>>,
    /// No new seed after so long, as in 90s or 10m
    #[arg(long, value_parser = span)]
    time: Option<Duration>,
    /// How long each world lives, in simulated seconds
    #[arg(long)]
    seconds: Option<u64>,
    /// How many at once
    #[arg(long, default_value_t = 1)]
    jobs: usize,
    /// Print all that could be observed of each seed
    #[arg(long)]
    trace: bool,
    /// Print the sum as JSON
    #[arg(long)]
    json: bool,
    /// Where the history of a seed that failed is kept
    #[arg(long, default_value = "target/chaos")]
    keep: PathBuf,
    /// Let the disks lie about syncs, to see that the laws notice
    #[arg(long)]
    ignore_syncs: bool,
    /// Play the small rehearsal of one seed instead
    #[arg(long)]
    rehearsal: bool,
    /// Print the laws that are checked
    #[arg(long)]
    laws: bool,
}

/// Seeds that `--time` alone may come to.
const ENDLESS: u64 = 1 << 40;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    if arguments.laws {
        for (name, sentence) in laws::Laws::default().sentences() {
            println!("{name:4} {sentence}");
        }
        return ExitCode::SUCCESS;
    }
    if arguments.rehearsal {
        let syncs = if arguments.ignore_syncs { Syncs::Lie } else { Syncs::Hold };
        let seed = arguments.seed.unwrap_or(1);
        let played = rehearse(seed, syncs);
        played.trace().iter().for_each(|line| println!("{line}"));
        println!("{:?}\nseed {seed} digest {:032x}", played.figures(), played.digest());
        return ExitCode::SUCCESS;
    }
    let seeds = match (arguments.seed, arguments.seeds.clone()) {
        (Some(seed), _) => seed..seed + 1,
        (None, Some(seeds)) => seeds,
        (None, None) => {
            let first = clock(ClockId::CLOCK_REALTIME).as_secs();
            first..first + if arguments.time.is_some() { ENDLESS } else { 1 }
        }
    };
    let began = clock(ClockId::CLOCK_MONOTONIC);
    let go_on = || {
        let took = clock(ClockId::CLOCK_MONOTONIC) - began;
        arguments.time.is_none_or(|limit| took < limit)
    };
    let play = |seed| {
        let cpu = clock(ClockId::CLOCK_THREAD_CPUTIME_ID);
        let mut options = Weather::of(seed);
        options.syncs_lie = arguments.ignore_syncs;
        options.seconds = arguments.seconds.unwrap_or(options.seconds);
        let ended = brave(options, arguments.trace);
        (ended, clock(ClockId::CLOCK_THREAD_CPUTIME_ID) - cpu)
    };
    let tell = |ended: &Ended, cpu: Duration| told(&arguments, ended, cpu);
    let sum = sets::play(seeds, arguments.jobs, play, go_on, tell);
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&sum).expect("plain data"));
    } else if sum.seeds > 1 {
        print(&sum);
    }
    if sum.holds() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Says how one seed ended; keeps and says more if it failed.
fn told(arguments: &Arguments, ended: &Ended, cpu: Duration) {
    if arguments.trace {
        // Of this nothing may depend on the machine: it is compared byte for byte.
        ended.trace.iter().for_each(|line| println!("{line}"));
        println!("{}", serde_json::to_string(ended).expect("plain data"));
    } else if !arguments.json {
        let faults: u64 = ended.faults.values().sum();
        println!(
            "seed {} {}: {:.0} simulated seconds in {:.1} s of CPU, {} operations, {faults} faults, digest {}",
            ended.options.seed,
            if ended.broken.is_empty() { "held" } else { "FAILED" },
            ended.seconds,
            cpu.as_secs_f64(),
            ended.figures.attempts,
            ended.digest,
        );
    }
    if ended.broken.is_empty() {
        return;
    }
    let seed = ended.options.seed;
    for broken in &ended.broken {
        eprintln!("seed {seed}: {} broken: {}", broken.law, broken.how);
    }
    eprintln!("options: {}", serde_json::to_string(&ended.options).expect("plain data"));
    eprintln!("commit: {}", commit().as_deref().unwrap_or("unknown"));
    let life = arguments.seconds.map_or(String::new(), |life| format!(" --seconds {life}"));
    let lies = if arguments.ignore_syncs { " --ignore-syncs" } else { "" };
    eprintln!("again: cargo chaos --seed {seed} --trace{lies}{life}");
    match keep(&arguments.keep, ended) {
        Ok(file) => eprintln!("history: {}", file.display()),
        Err(error) => eprintln!("its history could not be kept: {error}"),
    }
}

fn keep(folder: &Path, ended: &Ended) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let seed = ended.options.seed;
    let log = ended.trace.iter().chain(&ended.journal);
    let log: String = log.flat_map(|line| [line.as_str(), "\n"]).collect();
    std::fs::write(folder.join(format!("seed-{seed}.log")), log)?;
    let file = folder.join(format!("seed-{seed}.jsonl"));
    history::save(&ended.history, &file)?;
    Ok(file)
}

fn print(sum: &Sum) {
    println!(
        "{} seeds, {} failed; {:.2} simulated hours; {} operations ({} unknown, {} not done; at least {} a seed)",
        sum.seeds,
        sum.failed.len(),
        sum.hours,
        sum.operations,
        sum.unknown,
        sum.not_done,
        sum.operations_min.unwrap_or(0),
    );
    println!(
        "{:.0} operations per CPU second; {:.1} simulated seconds per CPU second",
        sum.pace(),
        sum.ratio()
    );
    println!("faults: {}", serde_json::to_string(&sum.faults).expect("plain data"));
    println!("sometimes: {}", serde_json::to_string(&sum.sometimes).expect("plain data"));
    if !sum.missed().is_empty() {
        println!("never: {}", serde_json::to_string(&sum.missed()).expect("plain data"));
    }
    for (seed, laws) in &sum.failed {
        println!("seed {seed} failed: {}", laws.join("; "));
    }
}

/// The commit this tree is at, if git says.
fn commit() -> Option<String> {
    let told = std::process::Command::new("git").args(["rev-parse", "HEAD"]).output().ok()?;
    told.status.success().then(|| String::from_utf8_lossy(&told.stdout).trim().to_owned())
}

fn clock(id: ClockId) -> Duration {
    clock_gettime(id).map(Duration::from).unwrap_or_default()
}

fn range(text: &str) -> Result<std::ops::Range<u64>, String> {
    let (from, to) = text.split_once("..").ok_or("write FROM..TO, as in 1..200")?;
    let number = |text: &str| text.parse().map_err(|_| format!("{text:?} is no number"));
    Ok(number(from)?..number(to)?)
}

fn span(text: &str) -> Result<Duration, String> {
    let (number, unit) = text.split_at(text.len().saturating_sub(1));
    let number: u64 = number.parse().map_err(|_| "write seconds or minutes, as in 90s or 10m")?;
    match unit {
        "s" => Ok(Duration::from_secs(number)),
        "m" => Ok(Duration::from_secs(60 * number)),
        _ => Err("write seconds or minutes, as in 90s or 10m".to_owned()),
    }
}
