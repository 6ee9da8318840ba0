//! `trine demo`: the main job, played on real processes, in under a minute.

mod crowd;
mod record;
mod verdict;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use trine_client::clock::Moment;
use trine_client::{AcquireError, Seat};
use wire::v1;

use self::crowd::{Crowd, now};
use self::record::Heard;
use self::verdict::{Failover, Fill, Outage, Report, Shares};
use super::Call;
use super::up::PRODUCT;
use crate::console::Console;
use crate::context::Purpose;
use crate::devcluster::{DevCluster, Plan, Ports, Server, health};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::online::{Connection, until_interrupted};

/// Watch a real cluster lose its leader, its quorum and its shares, and no seat
///
/// Starts three nodes and two balancers as processes on loopback, splits a
/// license of 50 seats over them, lets 40 clients take, renew and release seats,
/// and kills what keeps it running. Judges by what was lost or doubled, never by
/// milliseconds. Takes about half a minute and leaves nothing behind.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine demo
  trine demo --keep                 leave the cluster's data to go on with `trine up`
  trine demo --json | jq .failover")]
pub struct Demo {
    /// Keep the cluster up at the end, until Ctrl-C, and its data after that
    #[arg(long)]
    keep: bool,
    /// Where it keeps everything [default: a new directory, removed at the end]
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Storage engine: embedded, or rocksdb in builds that have it
    #[arg(long)]
    engine: Option<String>,
}

/// Seats of the demo's license.
const SEATS: u32 = 50;
/// Clients at work.
const CLIENTS: usize = 40;
/// How long they work before the kill, and after everyone has recovered.
const WORK: Duration = Duration::from_secs(2);
/// How long anything that must happen may take before the demo calls it failed.
const PATIENCE: Duration = Duration::from_secs(30);
/// A request in flight when the quorum goes is unknown by then (LAWS.md, L4);
/// later ones are refused.
const UNKNOWN_WITHIN: Duration = Duration::from_secs(2);

impl Demo {
    pub(super) fn run(self, call: &Call) -> Result<Exit, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .map_err(|error| Failure::failed(format!("cannot start the runtime: {error}")))?;
        runtime.block_on(self.play(call))
    }

    async fn play(self, call: &Call) -> Result<Exit, Failure> {
        let console = call.console;
        let (dir, removed) = match &self.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let new = tempfile::Builder::new().prefix("trine-demo-").tempdir();
                let new = new.map_err(|error| {
                    Failure::failed(format!("cannot make a temporary directory: {error}"))
                })?;
                (new.path().to_owned(), Some(new))
            }
        };
        let program = std::env::current_exe().map_err(|error| {
            Failure::failed(format!("cannot find this program's file: {error}"))
        })?;
        let plan = Plan { dir, program, ports: Some(Ports::free()?), engine: self.engine.clone() };
        let mut cluster = DevCluster::prepare(plan, call.world)?;
        let began = (call.world.monotonic)();
        let story = Story { cluster: &mut cluster, console, began };
        let played = until_interrupted(story.play()).await;
        let report = match played {
            Ok(report) => report,
            Err(failure) => {
                if let Some(dir) = removed {
                    // The logs say why.
                    let kept = dir.keep();
                    return Err(
                        failure.next(format!("the servers' logs are in {}", kept.display()))
                    );
                }
                return Err(failure);
            }
        };
        console.result(&report, |page| report.show(page))?;
        if self.keep {
            stay(&cluster, console).await?;
            if let Some(dir) = removed {
                console.note(format_args!("Its data stays in {}", dir.keep().display()));
            }
        }
        cluster.stop_all().await?;
        if report.holds() {
            return Ok(Exit::Done);
        }
        Err(Failure::failed("a seat was lost or doubled, or a promise was not kept; see the table"))
    }
}

async fn stay(cluster: &DevCluster, console: Console) -> Result<(), Failure> {
    if let Some(context) = cluster.write_context()? {
        console.note(format_args!("export TRINE_CONTEXT={}", context.display()));
    }
    console
        .note("The cluster stays up until Ctrl-C; try `trine cluster status` in another terminal.");
    tokio::signal::ctrl_c()
        .await
        .map_err(|error| Failure::failed(format!("cannot catch signals: {error}")))
}

/// The six acts.
struct Story<'a> {
    cluster: &'a mut DevCluster,
    console: Console,
    began: Instant,
}

impl Story<'_> {
    async fn play(mut self) -> Result<Report, Failure> {
        let container = self.stand_up().await?;
        let crowd = Crowd::gather(&self.cluster.target(Purpose::Application), CLIENTS).await?;
        let (failover, dead_leader) = self.lose_the_leader(&crowd).await?;
        let (fill, seats) = self.fill(&crowd).await?;
        let outage = self.lose_the_quorum(dead_leader, &seats).await?;
        for seat in seats {
            seat.release().await.map_err(Failure::failed)?;
        }
        let shares = self.withdraw_shares(&crowd).await?;
        let seconds = self.began.elapsed().as_secs();
        Ok(Report {
            container,
            seats: SEATS,
            clients: CLIENTS,
            failover,
            fill,
            outage,
            shares,
            seconds,
        })
    }

    fn say(&self, what: impl std::fmt::Display) {
        self.console.note(format_args!("{:>5.1} s  {what}", self.began.elapsed().as_secs_f32()));
    }

    /// 1 and 2: five processes, one license in three shares, one container.
    async fn stand_up(&mut self) -> Result<String, Failure> {
        self.say("starting 3 nodes and 2 balancers, each a process with its own data, certificates and log");
        self.cluster.start_all()?;
        self.cluster.until_healthy(&Server::NODES, "/livez", PATIENCE).await?;
        let container = self.cluster.ensure_formed().await?;
        self.say(format_args!("formed: the three containers show as one, {container}"));
        let license = self.cluster.ensure_license(PRODUCT, Some(SEATS), SEATS).await?;
        self.say(format_args!(
            "the vendor issued license {} of {SEATS} seats of {PRODUCT}, split 2-of-3; installed",
            license.license
        ));
        self.cluster.until_healthy(&Server::BALANCERS, "/readyz", PATIENCE).await?;
        Ok(container)
    }

    /// 3: the leader is killed under 40 busy clients.
    async fn lose_the_leader(&mut self, crowd: &Crowd) -> Result<(Failover, Server), Failure> {
        self.say(format_args!(
            "{CLIENTS} clients take, renew and release seats through both balancers"
        ));
        let began = now();
        let mut working = crowd.work();
        self.until(&mut working, |at| {
            crowd.record.all_succeeded_after(began, crowd.len()) && at >= began + WORK
        })
        .await?;

        let leader = self.leader().await?;
        let killed = now();
        self.cluster.kill(leader).await?;
        self.say(format_args!("{leader}, the leader, was killed with SIGKILL"));
        self.until(&mut working, |_| crowd.record.all_succeeded_after(killed, crowd.len())).await?;
        let next = self.leader().await?;
        self.say(format_args!("{next} leads; every client has been answered again"));

        let earlier = crowd.record.grants_before(killed, CLIENTS);
        let not_answered = crowd.ask_again(&earlier).await?;
        self.say(format_args!("{} requests from before the kill were sent again", earlier.len()));
        let recovered = now();
        self.until(&mut working, |at| at >= recovered + WORK).await?;
        let ended = now();

        let seats = working.hold().await?;
        let lost = self.missing(&seats).await?;
        let (before, after) = crowd.record.grants_around(killed);
        let failover = Failover {
            leader: leader.to_string(),
            next: next.to_string(),
            grants_before: before,
            grants_after: after,
            gap_max_ms: crowd.record.gap_max(began, ended).as_millis(),
            asked_again: earlier.len(),
            not_answered,
            lost,
            doubled: crowd.record.doubled(),
        };
        for seat in seats {
            seat.release().await.map_err(Failure::failed)?;
        }
        Ok((failover, leader))
    }

    /// 4: exactly the licensed number comes out.
    async fn fill(&mut self, crowd: &Crowd) -> Result<(Fill, Vec<Seat>), Failure> {
        let (seats, refusal) = crowd.fill(SEATS as usize + 1).await?;
        self.say(format_args!("{} seats came out; the next: {refusal}", seats.len()));
        let lost = self.missing(&seats).await?;
        Ok((Fill { granted: seats.len(), refusal, lost }, seats))
    }

    /// 5: a second node is killed, and both come back.
    async fn lose_the_quorum(
        &mut self,
        dead_leader: Server,
        seats: &[Seat],
    ) -> Result<Outage, Failure> {
        let crowd = Crowd::gather(&self.cluster.target(Purpose::Application), CLIENTS).await?;
        let mut askers = crowd.press();
        tokio::time::sleep(Duration::from_millis(500)).await;
        let leader = self.leader().await?;
        let follower =
            Server::NODES.into_iter().find(|node| *node != dead_leader && *node != leader);
        let follower = follower.ok_or_else(|| Failure::failed("no second follower"))?;
        let killed = now();
        self.cluster.kill(follower).await?;
        self.say(format_args!("{follower} was killed too: one node of three, no quorum"));
        tokio::time::sleep(UNKNOWN_WITHIN * 2).await;
        let asked_until = now();
        askers.shutdown().await;
        let outage = outage(&crowd, killed, asked_until);
        self.say(format_args!(
            "{} requests in flight ended as unknown; {} later ones were refused: no quorum",
            outage.unknown, outage.refused_later
        ));

        self.cluster.start(dead_leader)?;
        self.cluster.start(follower)?;
        self.cluster.until_healthy(&Server::NODES, "/readyz", PATIENCE).await?;
        let lost = self.missing(seats).await?;
        self.say(format_args!(
            "both are back; {} of {} seats are still held",
            seats.len() - lost,
            seats.len()
        ));
        Ok(Outage { held: seats.len(), lost, ..outage })
    }

    /// 6: with one share live the license disappears, whatever Raft can do.
    async fn withdraw_shares(&mut self, crowd: &Crowd) -> Result<Shares, Failure> {
        let connection = self.cluster.operate().await?;
        let license = self.license(&connection).await?;
        self.withdraw(&connection, &license.id, 1).await?;
        let with_two = self.granted_at_last(crowd).await?;
        self.say("node-1's share was withdrawn: two live, and the license serves");
        self.withdraw(&connection, &license.id, 2).await?;
        let refusal = match crowd.take_one().await {
            Err(AcquireError::Refused(why)) => Some(why.message),
            Err(error) => return Err(Failure::failed(error)),
            Ok(_) => None,
        };
        let leader = self.leader().await?;
        self.say(format_args!(
            "node-2's share was withdrawn: {}",
            refusal.as_deref().unwrap_or("granted!")
        ));
        Ok(Shares { with_two, with_one: refusal, leader: leader.to_string() })
    }

    /// Two live shares serve; right after a failover their next signature may take a moment.
    async fn granted_at_last(&self, crowd: &Crowd) -> Result<bool, Failure> {
        match crowd.take_one().await {
            Ok(seat) => seat.release().await.map(|()| true).map_err(Failure::failed),
            Err(AcquireError::Refused(_)) => Ok(false),
            Err(error) => Err(Failure::failed(error)),
        }
    }

    async fn withdraw(
        &self,
        connection: &Connection,
        license: &str,
        node: u64,
    ) -> Result<(), Failure> {
        let withdrawn = connection.operator().withdraw_share(license, node).await;
        withdrawn.map(drop).map_err(|error| connection.failed(&error))
    }

    async fn license(&self, connection: &Connection) -> Result<v1::License, Failure> {
        let listed = connection.operator().list_licenses().await;
        let listed = listed.map_err(|error| connection.unread(&error))?;
        let license = listed.licenses.into_iter().find(|license| license.product == PRODUCT);
        license.ok_or_else(|| Failure::failed("the license is not listed"))
    }

    /// How many of these seats the ledger does not list.
    async fn missing(&self, seats: &[Seat]) -> Result<usize, Failure> {
        let listed = self.cluster.operate().await?.listed_seats(PRODUCT).await?;
        Ok(seats.iter().filter(|seat| !listed.contains(&seat.token())).count())
    }

    /// Who leads, as the nodes' health listeners say.
    async fn leader(&self) -> Result<Server, Failure> {
        let deadline = now() + PATIENCE;
        loop {
            for node in Server::NODES {
                let answer = health::get(self.cluster.ports().health(node), "/leader").await;
                let says = answer.and_then(|answer| {
                    serde_json::from_str::<serde_json::Value>(&answer.body).ok()
                });
                if says.is_some_and(|says| says["role"] == "leader" && says["ready"] == true) {
                    return Ok(node);
                }
            }
            if now() >= deadline {
                return Err(Failure::failed("no node became leader"));
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Waits for `reached` while the crowd works.
    async fn until(
        &mut self,
        working: &mut crowd::Working,
        reached: impl Fn(Moment) -> bool,
    ) -> Result<(), Failure> {
        let deadline = now() + PATIENCE;
        while !reached(now()) {
            working.check()?;
            if let Some(death) = self.cluster.deaths().into_iter().next() {
                return Err(death.into_failure(self.cluster.layout()));
            }
            if now() >= deadline {
                return Err(Failure::failed("some client was never answered again"));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }
}

/// What requests heard when the quorum went, in flight and later.
fn outage(crowd: &Crowd, killed: Moment, asked_until: Moment) -> Outage {
    let attempts = crowd.record.attempts(0..crowd.len());
    let mut outage = Outage::default();
    for asked in &attempts {
        let answered = asked.answer.map(|(at, _)| at);
        let is_in_flight =
            answered.is_none_or(|at| at > killed) && asked.sent <= killed + UNKNOWN_WITHIN;
        match (is_in_flight, asked.answer) {
            (true, Some((at, Heard::Unknown))) => {
                outage.unknown += 1;
                outage.unknown_max_ms = outage.unknown_max_ms.max(at.since(asked.sent).as_millis());
            }
            (true, Some((_, Heard::Silence))) => outage.silent += 1,
            // Answered on time after all, or refused.
            (true, _) => {}
            // Still being answered when the demo stopped asking.
            (false, None) if asked_until.since(asked.sent) < UNKNOWN_WITHIN => {}
            (false, Some((_, Heard::NotDone))) if asked.sent > killed => outage.refused_later += 1,
            (false, _) if asked.sent > killed => outage.undecided_later += 1,
            (false, _) => {}
        }
    }
    outage
}
