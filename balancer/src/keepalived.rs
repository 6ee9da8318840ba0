//! keepalived, which moves the virtual IP between two balancers: its
//! configuration, what it tells us, and what we tell it. Pure.
//!
//! A balancer never decides who holds the virtual IP: VRRP does, by priority. It
//! says how well it is by a number in a *track file*, which keepalived adds to
//! the priority; it hears where it stands through the *notify FIFO*. Nothing
//! here puts keepalived's instance into FAULT: with both balancers unwell
//! somebody must still answer, if only to say that there is no quorum.

use std::fmt::{self, Write as _};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The name of the VRRP instance, in its configuration and its notices.
const INSTANCE: &str = "trine";

/// What leaving, or being dead, takes off the priority: more than all else.
pub const AWAY: i32 = -100;

/// What one node too few takes off the priority.
const MISSING_NODE: i32 = -20;

/// What holding the virtual IP adds to the priority.
///
/// keepalived's `nopreempt` would keep the IP where it is too, but then also
/// when its holder says it is leaving. This stickiness outweighs the difference
/// between two base priorities ([`PRIORITY_GAP_MAX`]) and nothing else.
const HOLDING: i32 = 15;

/// How far the two base priorities may be apart: less than [`HOLDING`].
pub const PRIORITY_GAP_MAX: u8 = 10;

/// One balancer's part in the pair.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keepalived {
    /// The address clients use, with its prefix length.
    pub virtual_ip: Cidr,
    /// The network interface it goes on.
    pub interface: String,
    /// Names the pair among VRRP groups of one network: 1 to 255, the same on both.
    pub router: u8,
    /// This balancer's own address, from which it speaks VRRP.
    pub address: IpAddr,
    /// The other balancer's.
    pub peer: IpAddr,
    /// 120 to 200, higher on the preferred one, at most
    /// [`PRIORITY_GAP_MAX`] apart.
    pub priority: u8,
    /// Between two advertisements of the holder: 10 ms to 10 s, in steps of
    /// 10 ms. A dead host is noticed after three of them and a little more.
    pub advert: Duration,
    /// Whether the preferred balancer takes the virtual IP back when it returns.
    pub preempt: bool,
    /// Between two refreshes of the neighbors' ARP tables by the holder.
    pub arp_refresh: Duration,
    /// Where the balancer says how well it is.
    pub track_file: PathBuf,
    /// Where keepalived says how the balancer stands.
    pub notify_fifo: PathBuf,
    /// Whom keepalived runs the check as; that user must be able to read the
    /// balancer's configuration.
    pub check_user: String,
}

/// An address and how many of its bits name the network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// Prefix length in bits.
    pub prefix: u8,
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl std::str::FromStr for Cidr {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (address, prefix) = text.split_once('/').ok_or(())?;
        let address: IpAddr = address.parse().map_err(|_| ())?;
        let prefix: u8 = prefix.parse().map_err(|_| ())?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix == 0 || prefix > bits { Err(()) } else { Ok(Self { address, prefix }) }
    }
}

/// Where a balancer stands in the pair, as keepalived last said.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// keepalived has not said, or does not run.
    #[default]
    Unknown,
    /// Holds the virtual IP.
    Master,
    /// Stands by.
    Backup,
    /// keepalived sees a fault, such as an interface that is down.
    Fault,
}

impl Standing {
    /// All of them, for metrics.
    pub const ALL: [Self; 4] = [Self::Unknown, Self::Master, Self::Backup, Self::Fault];

    /// In lower case, as metrics and JSON say it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Master => "master",
            Self::Backup => "backup",
            Self::Fault => "fault",
        }
    }

    /// Reads one line of the notify FIFO; `None` for what is not about us.
    ///
    /// Such as `INSTANCE "trine" MASTER 115`; keepalived says `STOP` or
    /// `DELETED` when it leaves.
    pub fn of_notice(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let ours = words.next() == Some("INSTANCE")
            && words.next().map(|name| name.trim_matches('"')) == Some(INSTANCE);
        if !ours {
            return None;
        }
        match words.next()? {
            "MASTER" => Some(Self::Master),
            "BACKUP" => Some(Self::Backup),
            "FAULT" => Some(Self::Fault),
            "STOP" | "DELETED" => Some(Self::Unknown),
            // Reminders, such as MASTER_RX_LOWER_PRI, change nothing.
            _ => None,
        }
    }
}

/// How well a balancer is, in numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fitness {
    /// Nodes it is configured with.
    pub nodes: usize,
    /// Nodes that answer.
    pub up: usize,
    /// Whether it is about to stop.
    pub draining: bool,
    /// Where it stands.
    pub standing: Standing,
}

impl Keepalived {
    /// What is added to the base priority.
    pub fn weight(&self, fitness: Fitness) -> i32 {
        if fitness.draining {
            return AWAY;
        }
        let missing = fitness.nodes.saturating_sub(fitness.up).min(3);
        let holds = !self.preempt && fitness.standing == Standing::Master;
        // `missing` is three at most, so the sum is above `AWAY`.
        missing as i32 * MISSING_NODE + if holds { HOLDING } else { 0 }
    }

    /// keepalived's configuration for this balancer.
    ///
    /// `program` is the path of `trine`, `config` that of the balancer's own
    /// configuration; the health script names both.
    pub fn render(&self, program: &Path, config: &Path) -> String {
        let mut page = String::new();
        // Writing to a string cannot fail.
        let _ = self.write(&mut page, program, config);
        page
    }

    fn write(&self, page: &mut String, program: &Path, config: &Path) -> fmt::Result {
        let Self { virtual_ip, interface, router, address, peer, priority, .. } = self;
        let seconds = |time: Duration| time.as_millis() as f64 / 1_000.0;
        let (program, config) = (program.display(), config.display());
        let (track, fifo) = (self.track_file.display(), self.notify_fifo.display());
        let advert = seconds(self.advert);
        let refresh = self.arp_refresh.as_secs();
        let user = &self.check_user;
        writeln!(
            page,
            "\
# Made by `trine balancer keepalived-config`; change the balancer's configuration
# and make it again. The other balancer's file comes from its own configuration.
global_defs {{
    router_id trine-{address}
    vrrp_version 3
    enable_script_security
    script_user {user}
    # Tells the balancer where it stands.
    vrrp_notify_fifo {fifo}
    # Neighbors that missed the first announcement, or heard two balancers in a
    # split brain, learn again where the address is.
    vrrp_garp_master_refresh {refresh}
    vrrp_garp_master_refresh_repeat 2
    vrrp_garp_lower_prio_repeat 2
    vrrp_higher_prio_send_advert true
}}

# How well the balancer says it is; {AWAY} until it has said so.
track_file {INSTANCE} {{
    file \"{track}\"
    weight 1
    init_file {AWAY}
}}

# Whether it answers at all, should it be unable to say so.
vrrp_script {INSTANCE} {{
    script \"{program} balancer check --config {config}\"
    interval 1
    timeout 1
    fall 2
    rise 2
    weight {AWAY}
}}

vrrp_instance {INSTANCE} {{
    state BACKUP
    interface {interface}
    virtual_router_id {router}
    priority {priority}
    advert_int {advert}
    unicast_src_ip {address}
    unicast_peer {{
        {peer}
    }}
    check_unicast_src
    virtual_ipaddress {{
        {virtual_ip} dev {interface}
    }}
    track_file {{
        {INSTANCE} weight 1
    }}
    track_script {{
        {INSTANCE}
    }}
}}"
        )
    }
}

#[cfg(test)]
#[path = "keepalived_tests.rs"]
mod tests;
