//! Drilling a cluster that others use: leadership is moved, nodes are restarted
//! by whoever may, and each step is asked for first.

use std::path::Path;
use std::time::Duration;

use super::load::{self, Load};
use super::record::{Marks, Span};
use super::report::{Judged, Seats};
use super::scenario::Scenario;
use super::{Drill, GENTLE_CROWD, Limits, hand_over, repeat};
use crate::context::{Purpose, Target};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{Connection, until_interrupted};
use crate::verb::Call;

/// How long it is watched after each step.
const WATCHED: Duration = Duration::from_secs(3);

/// A moment to let things settle.
const BREATH: Duration = Duration::from_secs(1);

/// How long a restarted node may take to be back.
const BACK_MAX: Duration = Duration::from_secs(300);

/// A node may be so many entries behind and count as back.
const BEHIND_MAX: u64 = 1_000;

impl Drill {
    pub(super) async fn gently(
        &self,
        call: &Call,
        limits: &Limits,
        context: &Path,
    ) -> Result<Exit, Failure> {
        let mut call = call.clone();
        call.global.context = Some(context.to_owned());
        let chosen = if self.scenario.is_empty() { &Scenario::GENTLE[..] } else { &self.scenario };
        if let Some(rough) = chosen.iter().find(|chosen| !Scenario::GENTLE.contains(chosen)) {
            return Err(Failure::usage(format!(
                "{} is not for a cluster that others use",
                rough.name()
            ))
            .next("play it in the lab: trine drill --lab"));
        }
        let operator = Target::resolve(&call.global, Purpose::Operator)?;
        let application = Target::resolve(&call.global, Purpose::Application)?;
        let product = self.product.as_deref().unwrap_or_default();
        let (drill, began) = (self, load::now());
        let marks = Marks::from(began);
        let mut round = Round { drill, call: &call, operator: &operator, marks };
        round.whole().await?;
        let load = Load::start(application, product, GENTLE_CROWD).await?;
        let played = until_interrupted(round.play_all(chosen, &load, limits)).await;
        load.stop().await;
        let installation = context.display().to_string();
        let report = self.report(&call, installation, &operator, began, played?).await?;
        self.tell(&call, &report)
    }
}

struct Round<'a> {
    drill: &'a Drill,
    call: &'a Call,
    operator: &'a Target,
    marks: Marks,
}

impl Round<'_> {
    async fn play_all(
        &mut self,
        chosen: &[Scenario],
        load: &Load,
        limits: &Limits,
    ) -> Result<Vec<Judged>, Failure> {
        let mut scenarios = Vec::new();
        for scenario in chosen {
            let (mut repeats, mut seats) = (Vec::new(), Seats::default());
            let (lost_before, doubled_before) = (load.lost(), load.record.doubled());
            for _ in 0..self.drill.repeat {
                tokio::time::sleep(BREATH).await;
                self.begin();
                self.play(*scenario).await?;
                self.whole().await?;
                tokio::time::sleep(WATCHED).await;
                let span = Span { from: self.marks.began, to: load::now() };
                repeats.push(repeat(load, span, std::mem::take(&mut self.marks.list)));
                load.record.forget_before(span.to);
            }
            let missing = load.missing(self.operator.clone()).await?;
            seats.lost = load.lost() - lost_before + missing;
            seats.doubled = load.record.doubled() - doubled_before;
            scenarios.push(Judged::judge(*scenario, repeats, seats, limits));
        }
        Ok(scenarios)
    }

    fn begin(&mut self) {
        self.marks = Marks::from(load::now());
    }

    fn mark(&mut self, what: impl ToString) {
        self.marks.add(load::now(), what);
    }

    async fn play(&mut self, scenario: Scenario) -> Result<(), Failure> {
        match scenario {
            Scenario::LeaderMoved => self.move_leader().await,
            _ => self.restart_nodes().await,
        }
    }

    async fn move_leader(&mut self) -> Result<(), Failure> {
        self.consent("Leadership is handed to another node; no request should fail.")?;
        // Thinking it over is not part of what is measured.
        self.begin();
        hand_over(self.operator, &mut self.marks).await
    }

    /// Followers first, the leader last.
    async fn restart_nodes(&mut self) -> Result<(), Failure> {
        let connection = Connection::to(self.operator.clone()).await?;
        let status = connection.operator().status().await;
        let mut nodes = status.map_err(|error| connection.unread(&error))?.nodes;
        nodes.sort_by_key(|node| node.leader);
        for node in nodes {
            let host = node.client_address.rsplit_once(':').map_or("", |(host, _)| host);
            match &self.drill.restart {
                Some(template) => {
                    let command =
                        template.replace("{host}", host).replace("{node}", &node.id.to_string());
                    self.consent(&format!("node-{} is restarted: {command}", node.id))?;
                    self.mark(format_args!("node-{} is restarted", node.id));
                    run(&command).await?;
                }
                None => {
                    let question = format!(
                        "Restart node-{} on {host} (systemctl restart trine-node), then press Enter: ",
                        node.id
                    );
                    self.mark(format_args!("node-{} is to be restarted", node.id));
                    self.call.console.ask(&question).ok_or_else(nobody_to_ask)?;
                }
            }
            tokio::time::sleep(BREATH).await;
            self.whole().await?;
            self.mark(format_args!("node-{} is back", node.id));
        }
        Ok(())
    }

    fn consent(&self, what: &str) -> Result<(), Failure> {
        if self.drill.yes {
            return Ok(());
        }
        let wanted = self.call.console.ask_whether(&format!("{what} Go on?"));
        if wanted.ok_or_else(nobody_to_ask)? {
            return Ok(());
        }
        Err(Failure::refused("NOT_WANTED", "nothing more was done"))
    }

    /// Waits until all members are alive and have nearly everything.
    async fn whole(&self) -> Result<(), Failure> {
        let connection = Connection::to(self.operator.clone()).await?;
        let deadline = load::now() + BACK_MAX;
        loop {
            let missing = match connection.operator().status().await {
                Ok(status) => {
                    let furthest = status.nodes.iter().filter_map(|node| node.applied_index).max();
                    let behind = |node: &wire::v1::Node| {
                        furthest.unwrap_or(0).saturating_sub(node.applied_index.unwrap_or(0))
                    };
                    let waits = |node: &&wire::v1::Node| !node.alive || behind(node) > BEHIND_MAX;
                    match status.nodes.iter().find(waits) {
                        None => return Ok(()),
                        Some(node) if !node.alive => format!("node-{} does not live", node.id),
                        Some(node) => {
                            format!("node-{} is {} entries behind", node.id, behind(node))
                        }
                    }
                }
                Err(error) => error.to_string(),
            };
            if load::now() >= deadline {
                return Err(Failure::failed(format!("the cluster is not whole: {missing}"))
                    .next("`trine cluster doctor` says what is wrong"));
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }
}

fn nobody_to_ask() -> Failure {
    Failure::usage("each step is asked for, and there is no terminal to ask on")
        .next("add --yes, and --restart for restarts")
}

async fn run(command: &str) -> Result<(), Failure> {
    let mut shell = tokio::process::Command::new("sh");
    match shell.arg("-c").arg(command).kill_on_drop(true).status().await {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("{command:?} ended with {status}")),
        Err(error) => Err(format!("{command:?}: {error}")),
    }
    .map_err(|what| Failure::failed(what).next("run it by hand until it works, then drill again"))
}
