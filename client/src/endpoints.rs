//! Which address to try next. Pure: failures and hints go in, a choice comes out.
//!
//! Stays with whoever answered last; after a failure goes on to the address
//! that has been quiet the longest; follows a leader hint while it leads
//! somewhere.

use std::fmt;
use std::time::Duration;

use crate::clock::Moment;

/// An address to dial. The certificate that must answer there is always the
/// cluster's, whatever the address (see [`pki::SERVER_NAME`]).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    host: String,
    port: u16,
}

/// An address that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a server address: write host, host:port or [ipv6]:port")]
pub struct InvalidEndpoint {
    /// What was given, cut to 80 characters.
    pub text: String,
}

impl Endpoint {
    /// An endpoint at this host (a name, or an IP address without brackets) and port.
    pub fn new(host: impl Into<String>, port: u16) -> Self {
        Self { host: host.into(), port }
    }

    /// Parses `host`, `host:port`, `[ipv6]` or `[ipv6]:port`; a bare host
    /// means port [`wire::CLIENT_PORT`].
    ///
    /// # Errors
    /// The text is none of these.
    pub fn parse(text: &str) -> Result<Self, InvalidEndpoint> {
        let wrong = || InvalidEndpoint { text: text.chars().take(80).collect() };
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, rest) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                let port = match rest {
                    "" => None,
                    rest => Some(rest.strip_prefix(':').ok_or_else(wrong)?),
                };
                (host, port)
            }
            None => match text.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let port = match port {
            None => wire::CLIENT_PORT,
            Some(port) => port.parse().ok().filter(|port| *port != 0).ok_or_else(wrong)?,
        };
        let strange = |c: char| c.is_whitespace() || matches!(c, '/' | '@' | '[' | ']');
        if host.is_empty() || host.len() > 253 || host.contains(strange) {
            return Err(wrong());
        }
        Ok(Self::new(host, port))
    }

    /// Parses a list such as `a:22450,b:22450`.
    ///
    /// # Errors
    /// One of them cannot be read, or there is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, InvalidEndpoint> {
        text.split(',').map(|one| Self::parse(one.trim())).collect()
    }

    /// The host, without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The TCP port.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

/// How long an address rests after one failure; doubles with each further one.
const REST_MIN: Duration = Duration::from_millis(500);
/// The longest rest.
const REST_MAX: Duration = Duration::from_secs(8);

/// The addresses a client knows and what it remembers of them.
#[derive(Debug, Clone)]
pub struct Endpoints {
    known: Vec<Known>,
    /// Index of the one to stay with.
    preferred: usize,
    /// Where the leader is said to be. Dropped as soon as it fails.
    leader: Option<Endpoint>,
}

#[derive(Debug, Clone)]
struct Known {
    endpoint: Endpoint,
    failures: u32,
    failed: Option<Moment>,
    rests_until: Option<Moment>,
}

impl Known {
    fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, failures: 0, failed: None, rests_until: None }
    }

    fn rests(&self, now: Moment) -> bool {
        self.rests_until.is_some_and(|until| until > now)
    }
}

impl Endpoints {
    /// Knows `configured`, in order of preference, and nothing about them yet.
    pub fn new(configured: Vec<Endpoint>) -> Self {
        let mut known: Vec<Known> = Vec::with_capacity(configured.len());
        for endpoint in configured {
            if known.iter().all(|one| one.endpoint != endpoint) {
                known.push(Known::new(endpoint));
            }
        }
        Self { known, preferred: 0, leader: None }
    }

    /// The address to try at `now`; another than `avoid` if there is one.
    /// `None` only when none was configured.
    pub fn pick(&self, now: Moment, avoid: Option<&Endpoint>) -> Option<Endpoint> {
        if let Some(leader) = &self.leader
            && Some(leader) != avoid
        {
            return Some(leader.clone());
        }
        let count = self.known.len();
        let turn = |index: usize| (index + count - self.preferred) % count;
        self.known
            .iter()
            .enumerate()
            .min_by_key(|(index, one)| {
                // When all rest they take turns, so that the first to come back is found.
                let last_tried = one.failed.filter(|_| one.rests(now));
                (Some(&one.endpoint) == avoid, last_tried, turn(*index))
            })
            .map(|(_, one)| one.endpoint.clone())
    }

    /// `endpoint` gave a useful answer: stay with it.
    pub fn answered(&mut self, endpoint: &Endpoint) {
        if let Some(index) = self.known.iter().position(|one| one.endpoint == *endpoint) {
            self.preferred = index;
            self.known[index] = Known::new(endpoint.clone());
        }
    }

    /// `endpoint` did not help at `now`: let it rest.
    pub fn failed(&mut self, endpoint: &Endpoint, now: Moment) {
        if self.leader.as_ref() == Some(endpoint) {
            self.leader = None;
        }
        if let Some(one) = self.known.iter_mut().find(|one| one.endpoint == *endpoint) {
            // A crowd of calls that fail together is one failure.
            let rested = !one.rests(now);
            one.failed = Some(now);
            if !rested {
                return;
            }
            let rest = REST_MIN.saturating_mul(1 << one.failures.min(8)).min(REST_MAX);
            one.failures = one.failures.saturating_add(1);
            one.rests_until = Some(now + rest);
        }
    }

    /// Somebody said that `leader` leads.
    pub fn hint(&mut self, leader: Endpoint) {
        self.leader = Some(leader);
    }

    /// How many addresses were configured.
    pub fn count(&self) -> usize {
        self.known.len()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const START: Moment = Moment(Duration::from_secs(100));

    fn abc() -> (Endpoints, [Endpoint; 3]) {
        let [a, b, c] = ["a", "b", "c"].map(|host| Endpoint::new(host, 1));
        (Endpoints::new(vec![a.clone(), b.clone(), c.clone()]), [a, b, c])
    }

    #[test]
    fn addresses_are_read_in_every_form() {
        for (text, host, port) in [
            ("trine.example", "trine.example", wire::CLIENT_PORT),
            ("10.0.0.1:77", "10.0.0.1", 77),
            ("[::1]", "::1", wire::CLIENT_PORT),
            ("[fe80::2]:77", "fe80::2", 77),
        ] {
            assert_eq!(Endpoint::parse(text), Ok(Endpoint::new(host, port)), "{text}");
        }
        assert_eq!(Endpoint::parse("[::1]:77").map(|e| e.to_string()), Ok("[::1]:77".into()));
        for text in
            ["", "::1", "a:", "a:0", "a:70000", "[::1", "[::1]77", "[a]:1", "a b", "http://a"]
        {
            assert!(Endpoint::parse(text).is_err(), "{text:?}");
        }
        assert_eq!(Endpoint::parse_list("a:1, b").map(|list| list.len()), Ok(2));
        assert!(Endpoint::parse_list("a,,b").is_err());
    }

    #[test]
    fn the_first_is_tried_first_and_whoever_answers_is_kept() {
        let (mut endpoints, [a, b, _]) = abc();
        assert_eq!(endpoints.pick(START, None), Some(a.clone()));
        endpoints.failed(&a, START);
        assert_eq!(endpoints.pick(START, None), Some(b.clone()));
        endpoints.answered(&b);
        assert_eq!(endpoints.pick(START + REST_MAX, None), Some(b));
    }

    #[test]
    fn a_leader_hint_is_followed_until_it_fails() {
        let (mut endpoints, [a, ..]) = abc();
        let leader = Endpoint::new("leader", 1);
        endpoints.hint(leader.clone());
        assert_eq!(endpoints.pick(START, None), Some(leader.clone()));
        endpoints.failed(&leader, START);
        assert_eq!(endpoints.pick(START, None), Some(a));
    }

    #[test]
    fn when_all_rest_the_one_not_tried_for_longest_is_next() {
        let (mut endpoints, [a, b, c]) = abc();
        for (endpoint, second) in [(&b, 0), (&c, 1), (&a, 2)] {
            endpoints.failed(endpoint, START + Duration::from_millis(second));
        }
        assert_eq!(endpoints.pick(START + Duration::from_millis(3), None), Some(b));
    }

    /// It hangs for this call and answers others: this call goes elsewhere.
    #[test]
    fn the_address_to_avoid_is_avoided_although_it_answers() {
        let (mut endpoints, [a, b, _]) = abc();
        endpoints.answered(&a);
        assert_eq!(endpoints.pick(START, Some(&a)), Some(b));
    }

    #[test]
    fn a_lone_address_is_tried_again_although_it_is_to_be_avoided() {
        let a = Endpoint::new("a", 1);
        let endpoints = Endpoints::new(vec![a.clone()]);
        assert_eq!(endpoints.pick(START, Some(&a)), Some(a));
    }

    proptest! {
        /// Whatever failed before, an address that answers again is found again.
        #[test]
        fn every_address_is_tried_sooner_or_later(alive in 0usize..3, noise in 0usize..20) {
            let (mut endpoints, all) = abc();
            let mut now = START;
            let mut found = false;
            for round in 0..noise + 10 {
                let picked = endpoints.pick(now, None).expect("three are configured");
                if round >= noise && picked == all[alive] {
                    found = true;
                    break;
                }
                endpoints.failed(&picked, now);
                now = now + Duration::from_millis(100);
            }
            prop_assert!(found);
        }
    }
}
