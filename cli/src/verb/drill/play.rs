//! Playing one scenario once: what is done to the lab, in which order, and
//! which stretch of time is judged.

use std::time::Duration;

use trine_client::clock::Moment;

use super::hand_over;
use super::lab::{Host, Lab};
use super::load::{Load, now};
use super::record::{Kind, Mark, Marks, Span};
use super::scenario::Scenario;
use crate::context::Target;
use crate::failure::Failure;

/// How long a fault lasts that ends by itself.
const FAULT: Duration = Duration::from_secs(5);

/// A moment to let things settle.
const BREATH: Duration = Duration::from_secs(1);

/// How long the installation may take to be whole again before the drill gives up.
const WHOLE_MAX: Duration = Duration::from_secs(90);

/// How long it is watched once it is whole: what a return upsets shows here.
const AFTER: Duration = Duration::from_millis(500);

/// Calls of each kind that say "it serves again".
const SERVES: usize = 10;

/// Where to look when the lab does not come back.
const LEFT_UP: &str = "`trine drill --lab --keep` leaves it up; what the hosts said is in \
    *.log below the lab's folder (TRINE_LAB_DIR, else /var/lib/trine-lab)";

/// One repeat of a scenario.
pub(super) struct Play<'a> {
    lab: &'a Lab,
    load: &'a Load,
    /// Where operators' commands go.
    operator: &'a Target,
    /// Which repeat it is, from 0: who is hit takes turns.
    round: usize,
    marks: Marks,
}

impl<'a> Play<'a> {
    pub(super) fn new(lab: &'a Lab, load: &'a Load, operator: &'a Target, round: usize) -> Self {
        Self { lab, load, operator, round, marks: Marks::from(now()) }
    }

    /// Plays `scenario`. Gives the time that is judged, and what was done when.
    pub(super) async fn play(mut self, scenario: Scenario) -> Result<(Span, Vec<Mark>), Failure> {
        self.whole("before it begins").await?;
        self.served(now()).await?;
        tokio::time::sleep(AFTER).await;
        self.marks = Marks::from(now());
        let judged_from = self.act(scenario).await?;
        self.whole("after it").await?;
        self.mark("whole again");
        tokio::time::sleep(AFTER).await;
        Ok((Span { from: judged_from, to: now() }, self.marks.list))
    }

    async fn act(&mut self, scenario: Scenario) -> Result<Moment, Failure> {
        let from = self.marks.began;
        match scenario {
            Scenario::LeaderKilled => {
                let leader = self.leader().await?;
                self.kill_and_restart(leader).await?;
            }
            Scenario::FollowerKilled => {
                let follower = self.follower().await?;
                self.kill_and_restart(follower).await?;
            }
            Scenario::BalancerKilled => {
                let master = self.master().await?;
                self.kill_and_restart(master).await?;
            }
            Scenario::LeaderFrozen => {
                let leader = self.leader().await?;
                self.freeze(leader).await?;
            }
            Scenario::FollowerFrozen => {
                let follower = self.follower().await?;
                self.freeze(follower).await?;
            }
            Scenario::BalancerFrozen => {
                let master = self.master().await?;
                self.freeze(master).await?;
            }
            Scenario::LeaderUnplugged => {
                let leader = self.leader().await?;
                self.unplug(leader).await?;
            }
            Scenario::BalancerUnplugged => {
                let master = self.master().await?;
                self.unplug(master).await?;
            }
            Scenario::SplitBrain => {
                self.mark("the balancers do not hear one another");
                self.lab.run(&["cut", "balancer-1", "balancer-2"]).await?;
                self.heal().await?;
            }
            Scenario::OneWay => self.cut_one_way().await?,
            Scenario::LeaderDrained => {
                let leader = self.leader().await?;
                self.restart(leader).await?;
            }
            Scenario::BalancerDrained => {
                let master = self.master().await?;
                self.restart(master).await?;
            }
            Scenario::LeaderMoved => self.move_leader().await?,
            Scenario::RollingRestart => self.restart_all().await?,
            Scenario::QuorumLost => return self.lose_quorum().await,
            Scenario::ClockOff => self.move_clock().await?,
            Scenario::DiskFull => self.fill_disk().await?,
        }
        Ok(from)
    }

    async fn kill_and_restart(&mut self, host: Host) -> Result<(), Failure> {
        self.mark(format_args!("{host} gets SIGKILL"));
        self.lab.signal(host, "KILL").await?;
        self.served(now()).await?;
        self.mark("it serves");
        tokio::time::sleep(BREATH).await;
        self.mark(format_args!("{host} is started"));
        self.lab.start(host).await
    }

    async fn freeze(&mut self, host: Host) -> Result<(), Failure> {
        self.mark(format_args!("{host} is frozen"));
        self.lab.signal(host, "STOP").await?;
        tokio::time::sleep(FAULT).await;
        self.mark(format_args!("{host} thaws"));
        self.lab.signal(host, "CONT").await
    }

    async fn unplug(&mut self, host: Host) -> Result<(), Failure> {
        self.mark(format_args!("{host}'s cable is pulled"));
        self.lab.run(&["unplug", &host.to_string()]).await?;
        self.heal().await
    }

    async fn heal(&mut self) -> Result<(), Failure> {
        tokio::time::sleep(FAULT).await;
        self.mark("the network heals");
        self.lab.run(&["heal"]).await
    }

    /// From the leader to a follower, the other way, and between followers.
    async fn cut_one_way(&mut self) -> Result<(), Failure> {
        let leader = self.leader().await?;
        let others: Vec<Host> = Host::NODES.into_iter().filter(|node| *node != leader).collect();
        let (from, to) = match self.round % 3 {
            0 => (leader, others[0]),
            1 => (others[0], leader),
            _ => (others[0], others[1]),
        };
        self.mark(format_args!("nothing from {from} reaches {to}"));
        self.lab.run(&["cut", "--one-way", &from.to_string(), &to.to_string()]).await?;
        self.heal().await
    }

    async fn restart(&mut self, host: Host) -> Result<(), Failure> {
        self.mark(format_args!("{host} drains"));
        self.lab.stop(host).await?;
        self.mark(format_args!("{host} is started"));
        self.lab.start(host).await
    }

    async fn move_leader(&mut self) -> Result<(), Failure> {
        hand_over(self.operator, &mut self.marks).await?;
        tokio::time::sleep(BREATH).await;
        Ok(())
    }

    /// Followers, then the leader; the standby, then the active: as RUNBOOK.md upgrades.
    async fn restart_all(&mut self) -> Result<(), Failure> {
        let leader = self.leader().await?;
        let master = self.master().await?;
        let nodes = Host::NODES.into_iter().filter(|node| *node != leader).chain([leader]);
        let balancers =
            Host::BALANCERS.into_iter().filter(|balancer| *balancer != master).chain([master]);
        for host in nodes.chain(balancers) {
            self.restart(host).await?;
            self.whole("before the next is restarted").await?;
        }
        Ok(())
    }

    /// Judged from the return: before it nobody can be served.
    async fn lose_quorum(&mut self) -> Result<Moment, Failure> {
        let leader = self.leader().await?;
        let follower = self.follower().await?;
        for host in [leader, follower] {
            self.mark(format_args!("{host} gets SIGKILL"));
            self.lab.signal(host, "KILL").await?;
        }
        tokio::time::sleep(FAULT).await;
        let back = now();
        self.mark("both are started");
        for host in [leader, follower] {
            self.lab.start(host).await?;
        }
        self.served(back).await?;
        self.mark("it serves");
        Ok(back)
    }

    async fn move_clock(&mut self) -> Result<(), Failure> {
        let node = Host::NODES[self.round % Host::NODES.len()].to_string();
        for (seconds, how) in
            [("3600", "an hour ahead"), ("-3600", "an hour behind"), ("0", "right")]
        {
            self.mark(format_args!("{node}'s clock is {how}"));
            self.lab.run(&["clock", &node, seconds]).await?;
            tokio::time::sleep(FAULT).await;
        }
        Ok(())
    }

    async fn fill_disk(&mut self) -> Result<(), Failure> {
        let node = match self.round % 2 {
            0 => self.leader().await?,
            _ => self.follower().await?,
        };
        self.mark(format_args!("{node}'s disk is full"));
        self.lab.run(&["fill", &node.to_string()]).await?;
        tokio::time::sleep(FAULT).await;
        self.mark(format_args!("{node}'s disk has room"));
        self.lab.run(&["empty", &node.to_string()]).await?;
        // A node that cannot write stops, unless it had nothing to write.
        if !self.lab.runs(node).await {
            self.mark(format_args!("{node} had stopped, and is started"));
            self.lab.start(node).await?;
        }
        Ok(())
    }

    async fn leader(&self) -> Result<Host, Failure> {
        let nobody = || {
            Failure::failed("no node leads")
                .next("see with `trine cluster status` which nodes are up")
        };
        self.lab.leader().await.ok_or_else(nobody)
    }

    async fn follower(&self) -> Result<Host, Failure> {
        let leader = self.leader().await?;
        let followers: Vec<Host> = Host::NODES.into_iter().filter(|node| *node != leader).collect();
        Ok(followers[self.round % followers.len()])
    }

    async fn master(&self) -> Result<Host, Failure> {
        let nobody = || {
            Failure::failed("the virtual IP is not on exactly one balancer")
                .next("`deploy/lab/lab status` says who holds it")
        };
        self.lab.master().await.ok_or_else(nobody)
    }

    fn mark(&mut self, what: impl ToString) {
        self.marks.add(now(), what);
    }

    /// Waits until everything runs and agrees.
    async fn whole(&self, when: &str) -> Result<(), Failure> {
        let deadline = now() + WHOLE_MAX;
        while let Some(missing) = self.lab.unwell().await {
            if now() >= deadline {
                return Err(Failure::failed(format!(
                    "the lab is not whole {when}, {} s later: {missing}",
                    WHOLE_MAX.as_secs()
                ))
                .next(LEFT_UP));
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    /// Waits until seats are granted and renewed again.
    async fn served(&self, from: Moment) -> Result<(), Failure> {
        let deadline = now() + WHOLE_MAX;
        let done = |kind| self.load.record.done_since(kind, from) >= SERVES;
        while !(done(Kind::Grant) && done(Kind::Renewal)) {
            if now() >= deadline {
                return Err(Failure::failed(format!(
                    "nothing is served, {} s later",
                    WHOLE_MAX.as_secs()
                ))
                .next(LEFT_UP));
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Ok(())
    }
}
