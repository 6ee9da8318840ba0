//! The `[keepalived]` table: this balancer's part in a pair with a virtual IP.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;

use super::{ConfigError, bounded, value};
use crate::keepalived::{Cidr, Keepalived};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct KeepalivedTable {
    virtual_ip: String,
    interface: String,
    router: u64,
    address: String,
    peer: String,
    priority: u64,
    advert_ms: Option<u64>,
    preempt: Option<bool>,
    arp_refresh_s: Option<u64>,
    track_file: Option<String>,
    notify_fifo: Option<String>,
    check_user: Option<String>,
}

/// The longest name Linux gives to a network interface.
const INTERFACE_LENGTH_MAX: usize = 15;

impl KeepalivedTable {
    pub(super) fn parse(self) -> Result<Keepalived, ConfigError> {
        let virtual_ip: Cidr = self.virtual_ip.parse().map_err(|()| {
            let rule = "write an address and its prefix length, such as \"10.0.0.100/24\"";
            value("keepalived.virtual_ip", &self.virtual_ip, rule)
        })?;
        let address = ip("keepalived.address", &self.address)?;
        let peer = ip("keepalived.peer", &self.peer)?;
        if peer == address {
            let rule = "it must be the other balancer's address";
            return Err(value("keepalived.peer", &self.peer, rule));
        }
        if [address, peer].contains(&virtual_ip.address) {
            let rule = "it must be an address of its own, that neither balancer has";
            return Err(value("keepalived.virtual_ip", &self.virtual_ip, rule));
        }
        if [peer, virtual_ip.address].iter().any(|other| other.is_ipv4() != address.is_ipv4()) {
            let rule = "address, peer and virtual_ip must all be IPv4, or all IPv6";
            return Err(value("keepalived.address", &self.address, rule));
        }
        let advert = bounded(
            "keepalived.advert_ms",
            self.advert_ms.unwrap_or(100),
            10..=10_000,
            "milliseconds",
        )?;
        if advert % 10 != 0 {
            let rule = "VRRP counts in steps of 10 milliseconds";
            return Err(value("keepalived.advert_ms", advert, rule));
        }
        let refresh = bounded(
            "keepalived.arp_refresh_s",
            self.arp_refresh_s.unwrap_or(10),
            1..=3_600,
            "seconds",
        )?;
        Ok(Keepalived {
            virtual_ip,
            interface: word("keepalived.interface", self.interface, INTERFACE_LENGTH_MAX)?,
            router: small("keepalived.router", self.router, 1..=255)?,
            address,
            peer,
            priority: small("keepalived.priority", self.priority, 120..=200)?,
            advert: Duration::from_millis(advert),
            preempt: self.preempt.unwrap_or(false),
            arp_refresh: Duration::from_secs(refresh),
            track_file: path(
                "keepalived.track_file",
                self.track_file,
                "/run/trine/balancer.weight",
            )?,
            notify_fifo: path(
                "keepalived.notify_fifo",
                self.notify_fifo,
                "/run/trine/keepalived.fifo",
            )?,
            check_user: word(
                "keepalived.check_user",
                self.check_user.unwrap_or_else(|| "root".to_owned()),
                32,
            )?,
        })
    }
}

fn ip(key: &str, text: &str) -> Result<IpAddr, ConfigError> {
    text.parse().map_err(|_| value(key, text, "write an IP address, such as \"10.0.0.11\""))
}

fn small(
    key: &str,
    number: u64,
    allowed: std::ops::RangeInclusive<u64>,
) -> Result<u8, ConfigError> {
    let number = bounded(key, number, allowed, "")?;
    u8::try_from(number).map_err(|_| value(key, number, "write 255 at most"))
}

/// What goes into keepalived's configuration must not be able to end a line or a word.
fn word(key: &str, text: String, length_max: usize) -> Result<String, ConfigError> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._@:".contains(&b);
    if text.is_empty() || text.len() > length_max || !text.bytes().all(plain) {
        let rule = format!("write 1 to {length_max} letters, digits or one of - . _ @ :");
        return Err(value(key, text, rule));
    }
    Ok(text)
}

fn path(key: &str, given: Option<String>, default: &str) -> Result<PathBuf, ConfigError> {
    let text = given.unwrap_or_else(|| default.to_owned());
    let plain = |b: u8| b.is_ascii_graphic() && !b"\"'#!".contains(&b);
    if !text.starts_with('/') || !text.bytes().all(plain) {
        let rule = "write a path from the root, without spaces, quotes, # or !";
        return Err(value(key, text, rule));
    }
    Ok(PathBuf::from(text))
}
