//! The scenarios of a drill: what each is called, does, and may cost.

use serde::Deserialize;

/// What is done to the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Scenario {
    /// The leader gets SIGKILL, and is started again
    LeaderKilled,
    /// The leader is stopped in its tracks (SIGSTOP) for five seconds
    LeaderFrozen,
    /// The leader's network cable is out for five seconds
    LeaderUnplugged,
    /// A follower gets SIGKILL, and is started again
    FollowerKilled,
    /// A follower is stopped in its tracks (SIGSTOP) for five seconds
    FollowerFrozen,
    /// The balancer with the virtual IP gets SIGKILL, and is started again
    BalancerKilled,
    /// The balancer with the virtual IP is stopped in its tracks for five seconds
    BalancerFrozen,
    /// The cable of the balancer with the virtual IP is out for five seconds
    BalancerUnplugged,
    /// The balancers do not hear one another for five seconds, and both take the virtual IP
    SplitBrain,
    /// No packet from one node reaches another for five seconds; the other way they pass
    OneWay,
    /// The leader drains and stops (SIGTERM), and is started again
    LeaderDrained,
    /// The balancer with the virtual IP drains and stops, and is started again
    BalancerDrained,
    /// An operator hands leadership to another node
    LeaderMoved,
    /// All five servers are restarted one after the other, as an upgrade does; with --cluster the nodes
    RollingRestart,
    /// Two nodes get SIGKILL, and are started again after five seconds
    QuorumLost,
    /// One node's wall clock is an hour ahead, then an hour behind
    ClockOff,
    /// One node's disk is full for five seconds
    DiskFull,
}

impl Scenario {
    /// Those that do a shared cluster no harm: nothing is killed, cut or filled.
    pub(super) const GENTLE: [Self; 2] = [Self::LeaderMoved, Self::RollingRestart];

    /// Its name, as flags, limits and reports have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::LeaderKilled => "leader-killed",
            Self::LeaderFrozen => "leader-frozen",
            Self::LeaderUnplugged => "leader-unplugged",
            Self::FollowerKilled => "follower-killed",
            Self::FollowerFrozen => "follower-frozen",
            Self::BalancerKilled => "balancer-killed",
            Self::BalancerFrozen => "balancer-frozen",
            Self::BalancerUnplugged => "balancer-unplugged",
            Self::SplitBrain => "split-brain",
            Self::OneWay => "one-way",
            Self::LeaderDrained => "leader-drained",
            Self::BalancerDrained => "balancer-drained",
            Self::LeaderMoved => "leader-moved",
            Self::RollingRestart => "rolling-restart",
            Self::QuorumLost => "quorum-lost",
            Self::ClockOff => "clock-off",
            Self::DiskFull => "disk-full",
        }
    }
}
