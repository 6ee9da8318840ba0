//! `cargo chaos`: bad weather for real nodes and clients in a simulated world.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::PoisonError;
use std::time::Duration;

use chaos_tests::sets::{self, Sum};
use chaos_tests::world::{Ended, Syncs, Weather, brave, rehearse};
use chaos_tests::{history, laws, mutants, timeline};
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
    /// Where the history and the timeline of a seed that failed are kept; nowhere if `-`
    #[arg(long, default_value = "target/seeds")]
    keep: PathBuf,
    /// Let the disks lie about syncs, to see that the laws notice
    #[arg(long)]
    ignore_syncs: bool,
    /// Play the small rehearsal of one seed instead
    #[arg(long)]
    rehearsal: bool,
    /// Plant every mistake of the list, one at a time, and say what finds each
    #[arg(long)]
    mutants: bool,
    /// Only these, by name; implies --mutants
    #[arg(long)]
    mutant: Vec<String>,
    /// How often each mistake is looked for, with other seeds each time
    #[arg(long, default_value_t = 10)]
    tries: u64,
    /// Seeds in which a try must find it
    #[arg(long, default_value_t = 50)]
    seeds_max: u64,
    /// Print the laws that are checked
    #[arg(long)]
    laws: bool,
}

thread_local! {
    /// The seed that this thread plays.
    static PLAYED: std::cell::Cell<u64> = const { std::cell::Cell::new(0) };
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
    if arguments.mutants || !arguments.mutant.is_empty() {
        return match hunt(&arguments) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::FAILURE,
            Err(error) => {
                eprintln!("{error:#}");
                ExitCode::from(2)
            }
        };
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
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        // A panic while another unwinds ends the process: nobody would know which seed.
        let seed = PLAYED.get();
        eprintln!("seed {seed}: a panic; again: cargo chaos --seed {seed} --trace");
        usual(panic);
    }));
    let began = clock(ClockId::CLOCK_MONOTONIC);
    let go_on = || {
        let took = clock(ClockId::CLOCK_MONOTONIC) - began;
        arguments.time.is_none_or(|limit| took < limit)
    };
    let play = |seed| {
        PLAYED.set(seed);
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

/// Plants the mistakes that were asked for; whether each was found in time.
fn hunt(arguments: &Arguments) -> anyhow::Result<bool> {
    let asked = |mutant: &&mutants::Mutant| {
        arguments.mutant.is_empty() || arguments.mutant.iter().any(|name| name == mutant.name)
    };
    let wanted: Vec<_> = mutants::MUTANTS.iter().filter(asked).collect();
    anyhow::ensure!(!wanted.is_empty(), "no mutant is called {:?}", arguments.mutant);
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let program = std::env::current_exe()?;
    let mut above = program.ancestors().skip(1);
    let (Some(built_as), Some(target)) = (above.next(), above.next()) else {
        anyhow::bail!("{} is not where cargo puts programs", program.display());
    };
    let program = mutants::plant(&workspace, &target.join("mutants"), built_as)?;
    println!("| mutant | what is wrong | found by | median seeds |\n|---|---|---|---|");
    let next = std::sync::Mutex::new(wanted.into_iter());
    let all = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..arguments.jobs.max(1) {
            scope.spawn(|| {
                loop {
                    let mutant = next.lock().unwrap_or_else(PoisonError::into_inner).next();
                    let Some(mutant) = mutant else { return };
                    let found =
                        mutants::hunt(&program, mutant, arguments.tries, arguments.seeds_max);
                    if let Ok(hunt) = &found {
                        let laws: Vec<_> = hunt.found_by.iter().collect();
                        let laws: Vec<_> =
                            laws.iter().map(|(law, n)| format!("{law} ({n})")).collect();
                        let median =
                            hunt.median().map_or("never".to_owned(), |seeds| seeds.to_string());
                        println!(
                            "| `{}` | {} | {} | {median} of {} tries |",
                            mutant.name,
                            mutant.mistake,
                            laws.join(", "),
                            hunt.needed.len()
                        );
                    }
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(found);
                }
            });
        }
    });
    let all: Vec<_> = all.into_inner().unwrap_or_else(PoisonError::into_inner);
    let hunts = all.into_iter().collect::<anyhow::Result<Vec<_>>>()?;
    if arguments.json {
        println!("{}", serde_json::to_string_pretty(&hunts)?);
    }
    Ok(hunts.iter().all(|hunt| hunt.median().is_some()))
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
    let again = format!("cargo chaos --seed {seed} --trace{lies}{life}");
    eprintln!("again: {again}");
    if arguments.keep == Path::new("-") {
        return;
    }
    let page = timeline::html(ended, commit().as_deref().unwrap_or("unknown"), &again);
    match keep(&arguments.keep, ended, &page) {
        Ok(file) => {
            eprintln!("history: {}", file.display());
            eprintln!("timeline: {}", file.with_extension("html").display());
        }
        Err(error) => eprintln!("its history could not be kept: {error}"),
    }
}

fn keep(folder: &Path, ended: &Ended, page: &str) -> std::io::Result<PathBuf> {
    std::fs::create_dir_all(folder)?;
    let seed = ended.options.seed;
    let log = ended.trace.iter().chain(&ended.journal);
    let log: String = log.flat_map(|line| [line.as_str(), "\n"]).collect();
    std::fs::write(folder.join(format!("seed-{seed}.log")), log)?;
    std::fs::write(folder.join(format!("seed-{seed}.html")), page)?;
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
    if let Some(p99) = sum.failover_p99_ms() {
        println!(
            "{} failovers, the next call decided within {p99} ms at p99",
            sum.failovers_ms.len()
        );
    }
    println!("{} seeds whose history had too many orders for the second check", sum.open);
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
