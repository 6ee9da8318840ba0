//! How keepalived is told and heard.

use super::*;
use crate::config::Config;

const PAIR: &str = r#"
    listen = "0.0.0.0:22450"
    health = "127.0.0.1:22453"
    [[nodes]]
    id = 1
    client = "10.0.0.1:22450"
    health = "10.0.0.1:22452"
    [keepalived]
    virtual_ip = "10.0.0.100/24"
    interface = "eth0"
    router = 51
    address = "10.0.0.11"
    peer = "10.0.0.12"
    priority = 150
"#;

fn pair(preempt: bool) -> Keepalived {
    let config = Config::parse(PAIR).expect("a pair").keepalived.expect("the table");
    Keepalived { preempt, ..config }
}

fn fitness(up: usize, standing: Standing) -> Fitness {
    Fitness { nodes: 3, up, draining: false, standing }
}

#[test]
fn a_healthy_balancer_keeps_its_priority() {
    assert_eq!(pair(false).weight(fitness(3, Standing::Backup)), 0);
}

/// Whoever holds the virtual IP keeps it when the preferred one comes back, and
/// gives it up as soon as it sees a node less than the other does.
#[test]
fn the_holder_keeps_the_address_from_its_equal_and_not_from_its_better() {
    let gap = i32::from(PRIORITY_GAP_MAX);
    let holds = pair(false).weight(fitness(3, Standing::Master));
    assert!(holds > gap + pair(false).weight(fitness(3, Standing::Backup)));
    let holds_with_two = pair(false).weight(fitness(2, Standing::Master));
    assert!(holds_with_two + gap < pair(false).weight(fitness(3, Standing::Backup)) + gap);
}

#[test]
fn with_preemption_the_preferred_one_takes_the_address_back() {
    let holds = pair(true).weight(fitness(3, Standing::Master));
    assert_eq!(holds, pair(true).weight(fitness(3, Standing::Backup)));
}

#[test]
fn who_leaves_is_worse_than_who_sees_no_node() {
    let leaving = Fitness { draining: true, ..fitness(3, Standing::Master) };
    for standing in Standing::ALL {
        assert!(pair(false).weight(leaving) < pair(false).weight(fitness(0, standing)));
    }
}

/// keepalived puts an instance into FAULT at -254.
#[test]
fn nothing_puts_the_instance_into_fault() {
    for up in 0..=3 {
        for standing in Standing::ALL {
            assert!(pair(false).weight(fitness(up, standing)) + AWAY > -254);
        }
    }
}

#[test]
fn a_notice_says_where_we_stand() {
    for (line, standing) in [
        ("INSTANCE \"trine\" MASTER 115", Some(Standing::Master)),
        ("INSTANCE \"trine\" BACKUP 100", Some(Standing::Backup)),
        ("INSTANCE \"trine\" FAULT 100", Some(Standing::Fault)),
        ("INSTANCE \"trine\" STOP 100", Some(Standing::Unknown)),
        ("INSTANCE \"trine\" MASTER_RX_LOWER_PRI 100", None),
        ("INSTANCE \"other\" MASTER 100", None),
        ("GROUP \"trine\" MASTER 100", None),
        ("INSTANCE", None),
        ("", None),
    ] {
        assert_eq!(Standing::of_notice(line), standing, "{line:?}");
    }
}

#[test]
fn a_value_cannot_smuggle_a_line_into_keepalived() {
    for (from, to) in [
        ("\"eth0\"", r#""eth0\n}""#),
        ("\"eth0\"", "\"a-name-that-is-too-long\""),
        ("10.0.0.100/24", "10.0.0.100"),
        ("10.0.0.100/24", "10.0.0.11/24"),
        ("10.0.0.100/24", "fd00::1/64"),
        ("\"10.0.0.12\"", "\"10.0.0.11\""),
        ("priority = 150", "priority = 50"),
        ("router = 51", "router = 0"),
        ("router = 51", "router = 51\nadvert_ms = 15"),
        ("router = 51", "router = 51\ntrack_file = \"weight\""),
        ("router = 51", "router = 51\nnotify_fifo = \"/run/a b\""),
        (
            "router = 51",
            r#"router = 51
check_user = "root\n""#,
        ),
    ] {
        let text = PAIR.replacen(from, to, 1);
        assert!(Config::parse(&text).is_err(), "{to:?} was taken");
    }
}

#[test]
fn the_configuration_names_what_the_pair_needs() {
    let page =
        pair(false).render(Path::new("/usr/bin/trine"), Path::new("/etc/trine/balancer.toml"));
    for line in [
        "    vrrp_version 3",
        "    state BACKUP",
        "    virtual_router_id 51",
        "    priority 150",
        "    advert_int 0.1",
        "    unicast_src_ip 10.0.0.11",
        "        10.0.0.12",
        "        10.0.0.100/24 dev eth0",
        "    script \"/usr/bin/trine balancer check --config /etc/trine/balancer.toml\"",
        "    vrrp_notify_fifo /run/trine/keepalived.fifo",
        "    vrrp_garp_master_refresh 10",
        "    init_file -100",
    ] {
        assert!(page.lines().any(|found| found == line), "no {line:?} in\n{page}");
    }
    assert!(!page.contains("nopreempt"), "stickiness is the balancer's: see HOLDING");
}
