//! `trine drill`: breaking an installation on purpose, under load, and
//! measuring what its applications feel.

mod gentle;
mod lab;
mod limits;
mod load;
mod page;
mod play;
mod record;
mod report;
mod scenario;

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum as _};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use trine_client::clock::Moment;

use self::lab::{Lab, Script};
use self::limits::Limits;
use self::load::{Crowd, Load};
use self::play::Play;
use self::record::{Kind, Mark, Marks, Span, millis};
use self::report::{Judged, Repeat, Report, Seats};
use self::scenario::Scenario;
use super::Call;
use crate::context::{Purpose, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};
use crate::online::{Connection, until_interrupted};
use crate::version;

/// Break an installation on purpose, under load, and measure what applications feel
///
/// --lab drills a whole installation in network namespaces on this machine: five
/// hosts, real keepalived, real disks (deploy/lab; Linux and root). It is started
/// if it is not up, and removed again. --cluster drills your own staging cluster
/// with what does a shared one no harm, and asks before each step.
///
/// Applications hold, renew, take and give back seats all the while. The result
/// is a table: per scenario the longest time without a new grant and without a
/// renewal, what failed, and whether a seat was lost or doubled, against limits.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  sudo trine drill --lab
  sudo trine drill --lab --scenario leader-killed --repeat 20 --html drill.html
  trine drill --cluster staging.toml --product cad-pro
  trine drill --cluster staging.toml --product cad-pro \\
      --restart 'ssh {host} sudo systemctl restart trine-node'
  trine --json drill --lab | jq '.scenarios[] | {scenario, grant_gap_ms, broken}'

Exit code 8 when a limit is broken.")]
pub struct Drill {
    /// Drill the lab on this machine
    #[arg(long, required_unless_present = "cluster", conflicts_with = "cluster")]
    lab: bool,
    /// Drill the cluster of this context file, gently
    #[arg(long, value_name = "CONTEXT")]
    cluster: Option<PathBuf>,
    /// Only these; several separated by commas [default: all that fit]
    #[arg(long, value_delimiter = ',', value_name = "SCENARIO")]
    scenario: Vec<Scenario>,
    /// How often each is played
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    repeat: u16,
    /// What each may cost, a TOML file [default: deploy/lab/limits.toml, as it was built in]
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Write the report with pictures to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// With --cluster: the product whose seats the load takes; 12 of them
    #[arg(long, required_unless_present = "lab", conflicts_with = "lab")]
    product: Option<String>,
    /// With --cluster: the command that restarts one node; {host} and {node} are filled in.
    /// Left out, you are asked to do it
    #[arg(long, value_name = "COMMAND", conflicts_with = "lab")]
    restart: Option<String>,
    /// With --cluster: do not ask before each step
    #[arg(long, conflicts_with = "lab")]
    yes: bool,
    /// With --lab: leave the lab up
    #[arg(long, conflicts_with = "cluster")]
    keep: bool,
    /// The lab's script, for the drill's own process on the lab's client host
    #[arg(long, hide = true, value_name = "SCRIPT")]
    inside: Option<PathBuf>,
}

/// The lab's applications: 16 seats held, 8 that come and go.
const LAB_CROWD: Crowd = Crowd { holders: 8, renewers: 8, takers: 8 };
/// A shared cluster's seats are not ours to take.
const GENTLE_CROWD: Crowd = Crowd { holders: 4, renewers: 4, takers: 4 };

/// The pictures have so many bars at most.
const BARS_MAX: u64 = 400;
/// And no bar is shorter than this, in milliseconds.
const STEP_MIN: u64 = 20;

impl Drill {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let limits = Limits::read(self.limits.as_deref())?;
        let runtime = crate::online::runtime()?;
        runtime.block_on(self.drill(call, &limits))
    }

    async fn drill(&self, call: &Call, limits: &Limits) -> Result<Exit, Failure> {
        match (&self.inside, &self.cluster) {
            (Some(script), _) => self.in_lab(call, limits, Lab::of(script.clone())).await,
            (None, Some(context)) => self.gently(call, limits, context).await,
            (None, None) => self.with_lab().await,
        }
    }

    /// Sees to it that a lab is up, and drills it from its client host.
    async fn with_lab(&self) -> Result<Exit, Failure> {
        let script = Script::unpack()?;
        let lab = Lab::of(script.path());
        let was_up = lab.is_up().await;
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("cannot find this program's file: {error}"))
        })?;
        if !was_up {
            lab.run_as(&["up"], &program).await?;
        }
        // Ctrl-C reaches the inner command too, which ends by itself.
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let mut drilling = std::pin::pin!(self.on_client_host(&lab, &script, &program));
        let drilled = tokio::select! {
            drilled = &mut drilling => drilled,
            _ = &mut interrupt => drilling.await,
        };
        if !was_up && !self.keep {
            lab.run(&["down"]).await?;
        }
        drilled
    }

    /// This very command again, on the lab's client host.
    async fn on_client_host(
        &self,
        lab: &Lab,
        script: &Script,
        program: &std::path::Path,
    ) -> Result<Exit, Failure> {
        let failed =
            |error: std::io::Error| Failure::failed(format!("the lab's client host: {error}"));
        let mut command = lab.command(&["exec", "client"]);
        command.arg(program).args(std::env::args_os().skip(1));
        command.arg("--inside").arg(script.path());
        let ended = command.status().await.map_err(failed)?;
        Ok(Exit::Program(ended.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
    }

    async fn in_lab(&self, call: &Call, limits: &Limits, lab: Lab) -> Result<Exit, Failure> {
        let application = Target::resolve(&call.global, Purpose::Application)?;
        let operator = Target::resolve(&call.global, Purpose::Operator)?;
        let began = load::now();
        let load = Load::start(application, lab::PRODUCT, LAB_CROWD).await?;
        let played = until_interrupted(self.play_in(call, limits, &lab, &load, &operator)).await;
        load.stop().await;
        let report = self.report(call, "lab".to_owned(), &operator, began, played?).await?;
        self.tell(call, &report)
    }

    async fn play_in(
        &self,
        call: &Call,
        limits: &Limits,
        lab: &Lab,
        load: &Load,
        operator: &Target,
    ) -> Result<Vec<Judged>, Failure> {
        let chosen =
            if self.scenario.is_empty() { Scenario::value_variants() } else { &self.scenario };
        let progress = progress(call, chosen.len() * usize::from(self.repeat));
        let mut scenarios = Vec::new();
        for scenario in chosen {
            let mut repeats = Vec::new();
            let mut seats = Seats::default();
            let lost_before = load.lost();
            let doubled_before = load.record.doubled();
            for round in 0..usize::from(self.repeat) {
                progress.set_message(format!("{} {}", scenario.name(), round + 1));
                let play = Play::new(lab, load, operator, round);
                let (span, marks) = play.play(*scenario).await?;
                repeats.push(repeat(load, span, marks));
                count_seats(load, operator, &mut seats).await?;
                load.record.forget_before(load::now());
                progress.inc(1);
            }
            seats.lost += load.lost() - lost_before;
            seats.doubled = load.record.doubled() - doubled_before;
            scenarios.push(Judged::judge(*scenario, repeats, seats, limits));
        }
        progress.finish_and_clear();
        Ok(scenarios)
    }

    async fn report(
        &self,
        call: &Call,
        installation: String,
        operator: &Target,
        began: Moment,
        scenarios: Vec<Judged>,
    ) -> Result<Report, Failure> {
        Ok(Report {
            installation,
            version: version::TEXT.as_str(),
            scenarios,
            engine: engine(operator).await?,
            repeats: self.repeat.into(),
            history_broken: history(call).await,
            seconds: load::now().since(began).as_secs(),
        })
    }

    fn tell(&self, call: &Call, report: &Report) -> Result<Exit, Failure> {
        if let Some(file) = &self.html {
            let html = page::render(report);
            files::write("report", file, html.as_bytes(), Access::Shared, Existing::Replace)?;
            call.console.note(format_args!("the report with pictures: {}", file.display()));
        }
        call.console.result(report, |page| report.show(page))?;
        Ok(if report.holds() { Exit::Done } else { Exit::Broken })
    }
}

fn repeat(load: &Load, span: Span, marks: Vec<Mark>) -> Repeat {
    let span_ms = millis(span.to.since(span.from));
    let step_ms = (span_ms / BARS_MAX).max(STEP_MIN);
    let step = Duration::from_millis(step_ms);
    Repeat {
        felt: load.record.felt(span),
        marks,
        span_ms,
        step_ms,
        grants: load.record.pulse(Kind::Grant, span, step),
        renewals: load.record.pulse(Kind::Renewal, span, step),
    }
}

/// Lets another node lead, and marks it.
async fn hand_over(operator: &Target, marks: &mut Marks) -> Result<(), Failure> {
    marks.add(load::now(), "leadership is handed over");
    let connection = Connection::to(operator.clone()).await?;
    let moved = connection.operator().transfer_leader(None).await;
    let moved = moved.map_err(|error| connection.failed(&error))?;
    marks.add(load::now(), format_args!("node-{} leads", moved.leader));
    Ok(())
}

/// Exactly the seats of the license come out, and the ledger has those that are held.
async fn count_seats(load: &Load, operator: &Target, seats: &mut Seats) -> Result<(), Failure> {
    seats.lost += load.missing(operator.clone()).await?;
    let due = lab::SEATS - load.held();
    let came_out = load.fill(due + 1).await?;
    match came_out.checked_sub(due) {
        Some(0) => {}
        Some(over) => seats.wrong.push(format!("{over} seats more than the license has came out")),
        None => seats.wrong.push(format!("{} seats did not come out", due - came_out)),
    }
    Ok(())
}

async fn engine(operator: &Target) -> Result<String, Failure> {
    let connection = Connection::to(operator.clone()).await?;
    let Some(first) = connection.target.nodes.first().cloned() else {
        return Ok(String::new());
    };
    let status = connection.operator().at(first).node_status().await;
    status.map(|status| status.engine).map_err(|error| connection.unread(&error))
}

/// Has the usage history counted anew. Gives what does not hold.
async fn history(call: &Call) -> Option<String> {
    let program = std::env::current_exe().ok()?;
    let mut command = tokio::process::Command::new(program);
    command.args(["usage", "verify"]).kill_on_drop(true);
    for (flag, value) in [
        ("--host", call.global.host.clone().map(Into::into)),
        ("--context", call.global.context.clone().map(PathBuf::into_os_string)),
    ] {
        if let Some(value) = value {
            command.arg(flag).arg(value);
        }
    }
    match command.output().await {
        Ok(ended) if ended.status.success() => None,
        Ok(ended) => Some(String::from_utf8_lossy(&ended.stderr).trim().to_owned()),
        Err(error) => Some(format!("not verified: {error}")),
    }
}

fn progress(call: &Call, steps: usize) -> ProgressBar {
    let bar = ProgressBar::new(steps as u64);
    if call.console.json() {
        bar.set_draw_target(ProgressDrawTarget::hidden());
    }
    if let Ok(style) = ProgressStyle::with_template("{elapsed_precise} {bar:30} {pos}/{len} {msg}")
    {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(500));
    bar
}
