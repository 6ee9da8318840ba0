//! The words of the scripts, and what each does.

use std::collections::BTreeMap;

use crate::support::{self, CLUSTER, FIRM, ISSUED, World, subject, terms};
use ledger::Ledger;
use ledger::charter::ca_digest;
use ledger::command::{
    AbandonReplacement, Acquire, Anchor, AnchorId, Cancel, Command, Distrust, FinishReplacement,
    IssueToken, LeaseId, OrderRepair, RaiseLevel, Release, Renew, Restore, RestoreFinish,
    RestorePlan, Revoke, RevokeCertificate, RevokeToken, Token, Trust, WithdrawShare,
};
use ledger::level::Level;
use ledger::name::HolderName;
use ledger::time::{ClusterTime, Ttl};
use license::product::{ClusterId, Epoch, FirmCode, NodeId, ProductName, Version, WallTime};
use license::reset::ResetTerms;
use license::terms::Counting;

use super::shown::lines;
use super::{Teller, lease, millis};

impl Teller {
    /// Does what a line says, and gives the answer.
    pub(super) fn tell(
        &mut self,
        verb: &str,
        args: &[&str],
        options: &BTreeMap<&str, &str>,
    ) -> String {
        let name = args.first().copied().unwrap_or_default();
        match verb {
            "form" => {
                let genesis = self.world.genesis();
                self.apply(genesis)
            }
            "license" => self.license(args, options),
            "attest" => {
                let node = options.get("node").map_or(1, |node| node.parse().unwrap());
                let claimed = options.get("as").map_or(node, |node| node.parse().unwrap());
                let key = self.key(name, options);
                self.world.epoch = self.epoch(options);
                let attest = self.world.attest_as(&self.issued[&key], node, claimed);
                self.apply(attest)
            }
            "sign" => {
                let key = self.key(name, options);
                let term = options.get("term").map_or(self.term, |term| term.parse().unwrap());
                self.world.epoch = self.epoch(options);
                let signed = match options.get("by").map(|nodes| nodes.split_once(',').unwrap()) {
                    Some((one, other)) => {
                        let nodes = [one, other].map(|node| node.parse().unwrap());
                        self.world.sign_by(nodes, &self.issued[&key], term)
                    }
                    None => self.world.sign(&self.issued[&key], term),
                };
                self.apply(Command::SignTerm(signed))
            }
            "withdraw" => {
                let license = self.issued[&self.key(name, options)].license.terms().license;
                let node = NodeId(options["node"].parse().unwrap());
                let by = subject("ops");
                self.apply(Command::WithdrawShare(WithdrawShare { license, node, by }))
            }
            "replace" => {
                let [old, new] = nodes(args);
                let number = |key| options.get(key).map(|word| word.parse().unwrap());
                let (copied, act) = (number("container"), number("act").unwrap_or(4711));
                let begin = self.world.newcomer(old, new, copied, act as u32);
                self.apply(begin)
            }
            "replaced" => {
                let [old, new] = nodes(args);
                let finish =
                    FinishReplacement { old: NodeId(old), new: NodeId(new), by: subject("ops") };
                let told = self.apply(Command::FinishReplacement(finish));
                let members = &self.ledger.charter().expect("formed").members;
                for (member, ours) in members.iter().zip(&mut self.world.members) {
                    *ours = member.node.0;
                }
                told
            }
            "abandon" => {
                let [old, new] = nodes(args);
                let (old, new, by) = (NodeId(old), NodeId(new), subject("ops"));
                self.apply(Command::AbandonReplacement(AbandonReplacement { old, new, by }))
            }
            "members" => {
                let charter = self.ledger.charter().expect("formed");
                let present = charter.members.iter().map(|member| member.node.to_string());
                let coming = charter.replacement.iter().map(|replacement| {
                    let (new, old) = (replacement.new.node, replacement.old);
                    format!("{new} is to replace {old} at {}", replacement.peer)
                });
                let gone = charter.retired.iter();
                let gone = gone.map(|(node, gone)| format!("{node} {}", gone.departure));
                lines(present.chain(coming).chain(gone))
            }
            "ages" => {
                let (members, term) = (self.ledger.members_for(), self.ledger.term_for());
                let unheard = self.ledger.members().into_iter().filter(|m| m.heard.is_none());
                let unheard: Vec<String> = unheard.map(|m| m.node.to_string()).collect();
                format!("members for {members} ms, term for {term} ms, unheard {unheard:?}")
            }
            "order" => {
                let license = self.issued[&self.key(name, options)].license.terms().license;
                let (node, by) = (NodeId(options["node"].parse().unwrap()), subject("ops"));
                self.apply(Command::OrderRepair(OrderRepair { license, node, by }))
            }
            "repair" => {
                let key = self.key(name, options);
                let number = |key: &str| options[key].parse::<u64>().unwrap();
                let (lost, node) = (number("lost"), number("node"));
                let claimed = options.get("as").map_or(node, |node| node.parse().unwrap());
                let helpers: Vec<u64> =
                    options["by"].split(',').map(|node| node.parse().unwrap()).collect();
                let helpers = [helpers[0], helpers[1]];
                let issued = &self.issued[&key];
                let repair = self.world.repair(issued, helpers, lost, (node, claimed));
                self.apply(repair)
            }
            "needs" => {
                let node = NodeId(name.parse().unwrap());
                let attest = self.ledger.attestation_needs(node).into_iter();
                let attest = attest.map(|need| format!("to prove {}", need.license));
                let repair = self.ledger.repair_needs(node).into_iter().map(|need| {
                    let [one, other] = need.helpers;
                    format!("to have {} repaired by {one} and {other}", need.license)
                });
                lines(attest.chain(repair))
            }
            "down" => {
                self.walls.remove(&name.parse().unwrap());
                String::new()
            }
            "up" => {
                let wall = options.get("wall").map_or(0, |ahead| millis(ahead) as i64);
                self.walls.insert(name.parse().unwrap(), wall);
                String::new()
            }
            "replay" => self.apply(self.beats[&name.parse().unwrap()].clone()),
            "term" => {
                self.term = name.parse().unwrap();
                String::new()
            }
            "leader" => {
                self.withheld = name == "withholds";
                String::new()
            }
            "acquire" => {
                let body = self.acquire(name, options);
                let stale = options.contains_key("stale");
                self.apply_in(Command::Acquire(body), self.term + u64::from(stale))
            }
            "renew" => {
                let (lease, subject, token) = self.holding(name, options);
                self.apply(Command::Renew(Renew {
                    lease,
                    subject,
                    token,
                    hold_ended: options.contains_key("ended"),
                }))
            }
            "release" => {
                let (lease, subject, token) = self.holding(name, options);
                self.apply(Command::Release(Release { lease, subject, token }))
            }
            "cancel" => {
                let (lease, subject, _) = self.holding(name, options);
                self.apply(Command::Cancel(Cancel { lease, subject }))
            }
            "revoke" => {
                let seat = Token(name.parse().unwrap());
                self.apply(Command::Revoke(Revoke { seat, by: subject("ops") }))
            }
            "token" => {
                let expires = ISSUED.plus_millis(millis(options["until"]) as i64);
                let (digest, by) = (digest(name), subject("ops"));
                let subject = subject(options["for"]);
                self.apply(Command::IssueToken(IssueToken { digest, subject, expires, by }))
            }
            "untoken" => {
                let (subject, by) = (subject(name), subject("ops"));
                self.apply(Command::RevokeToken(RevokeToken { subject, by }))
            }
            "reset" => {
                let firm = options.get("firm").map_or(FIRM, |f| FirmCode(f.parse().unwrap()));
                let date = |key: &str| ISSUED.plus_millis(millis(options[key]) as i64);
                let cluster = options
                    .get("cluster")
                    .map_or(CLUSTER, |id| ClusterId([id.parse().unwrap(); 16]));
                let serial = options["serial"].parse().unwrap();
                let (from, to) = (date("from"), date("to"));
                let reset = ResetTerms { cluster, serial, from, to, issued: to };
                let command = self.world.reset(firm, reset);
                self.apply(command)
            }
            "revoke-certificate" => {
                let expires = ISSUED.plus_millis(millis(options["until"]) as i64);
                let (fingerprint, subject) = (digest(name), subject(options["of"]));
                let by = support::subject("ops");
                let body = RevokeCertificate { fingerprint, subject, from: ISSUED, expires, by };
                self.apply(Command::RevokeCertificate(body))
            }
            "is-revoked" => {
                let is_revoked = self.ledger.is_revoked(&digest(name));
                if is_revoked { "yes" } else { "no" }.to_owned()
            }
            "revoked" => lines(self.ledger.revoked_certificates().iter().map(|revoked| {
                let until = revoked.expires.0 - ISSUED.0;
                format!("{} until {until} ms after issue by {}", revoked.subject, revoked.by)
            })),
            "build" => {
                self.world.upgrade(name.parse().unwrap(), level(args[1]));
                String::new()
            }
            "raise" => {
                let raise = RaiseLevel { level: level(name), by: subject("ops") };
                self.apply(Command::RaiseLevel(raise))
            }
            "level" => self.ledger.level().to_string(),
            // A CA is named `ca-NAME`; any other name is a vendor's.
            "trust" => {
                let anchor = match name.strip_prefix("ca-") {
                    Some(ca) => Anchor::ClusterCa(support::ca(ca)),
                    None => Anchor::Vendor(self.world.root_of(name)),
                };
                self.apply(Command::Trust(Trust { anchor, by: subject("ops") }))
            }
            "distrust" => {
                let anchor = match name.strip_prefix("ca-") {
                    Some(ca) => AnchorId::ClusterCa(ca_digest(&support::ca(ca))),
                    None => AnchorId::Vendor(self.world.root_of(name).key.digest()),
                };
                self.apply(Command::Distrust(Distrust { anchor, by: subject("ops") }))
            }
            "trusted" => {
                let list = |named: Vec<String>| named.join(", ");
                let vendors = self.ledger.vendors().into_iter().map(|vendor| {
                    let licenses = vendor.licenses.iter().map(ToString::to_string).collect();
                    format!("vendor {}: {}", vendor.root.name, list(licenses))
                });
                let cas = self.ledger.cluster_cas().into_iter().map(|ca| {
                    let nodes = ca.nodes.iter().map(ToString::to_string).collect();
                    format!("{}: {}", String::from_utf8_lossy(&ca.certificate), list(nodes))
                });
                lines(vendors.chain(cas).map(|line| line.trim_end().to_owned()))
            }
            // The vendor issues under another of its roots from now on.
            "issues" => {
                self.world.issue_under(name);
                String::new()
            }
            // A node shows certificates of another CA from its next heartbeat on.
            "shows" => {
                let ca = args[1].trim_start_matches("ca-").to_owned();
                self.world.under.insert(name.parse().unwrap(), ca);
                String::new()
            }
            "whois" => match self.ledger.find_token(&digest(name)) {
                Some(subject) => subject.to_string(),
                None => "nobody".to_owned(),
            },
            "watch" => {
                self.watching = true;
                String::new()
            }
            "history" => lines(std::mem::take(&mut self.records).into_iter()),
            "tick" => self.apply_all(vec![], self.term),
            "restart" => {
                let bytes = self.ledger.snapshot();
                let restored = Ledger::restore(&bytes).expect("a snapshot of our own");
                assert_eq!(restored, self.ledger, "S19");
                assert_eq!(restored.snapshot(), bytes, "S19");
                self.ledger = restored;
                String::new()
            }
            "backup" => {
                self.backups.insert(name.to_owned(), self.ledger.snapshot());
                String::new()
            }
            "lose" => {
                // Three empty nodes: another log, and nothing applied.
                (self.ledger, self.index) = (Ledger::new(), 0);
                String::new()
            }
            "lose-container" => {
                self.world.lose_container(name.parse().unwrap());
                String::new()
            }
            "restore" => self.restore(name, options),
            "begin" => self.apply(Command::Restore(Restore::Begin(self.plan(name, options)))),
            "part" => {
                let number = options["number"].parse().unwrap();
                let part = self.world.part(&self.backups[name], number);
                self.apply(Command::Restore(Restore::Part(part)))
            }
            "finish" => {
                let backup = support::digest_of(&self.backups[name]);
                self.apply(Command::Restore(Restore::Finish(RestoreFinish { backup })))
            }
            "spoil" => {
                let bytes = self.backups.get_mut(name).unwrap();
                let middle = bytes.len() / 2;
                bytes[middle] ^= 1;
                String::new()
            }
            "seats" => lines(self.ledger.seats(None).iter().map(|seat| {
                format!(
                    "{} {} {} on {} until {}{}{}",
                    seat.token,
                    seat.product,
                    seat.subject,
                    seat.license,
                    seat.deadline,
                    if seat.revoked_by.is_some() { " revoked" } else { "" },
                    if seat.surplus { " surplus" } else { "" },
                )
            })),
            "waiters" => lines(self.ledger.waiters(None).iter().map(|waiter| {
                format!(
                    "{} {} {} since {} until {}",
                    waiter.product, waiter.position, waiter.subject, waiter.since, waiter.until
                )
            })),
            "tokens" => lines(self.ledger.bearer_tokens().iter().map(|token| {
                format!("{} until {} ms after issue", token.subject, token.expires.0 - ISSUED.0)
            })),
            "pools" => lines(self.ledger.pools().iter().map(|pool| {
                let of = pool.capacity.map_or("any".to_owned(), |seats| seats.to_string());
                let (taken, waiting) = (pool.seats, pool.waiting);
                format!(
                    "{}: {taken} of {of} taken, {} leases, {waiting} waiting",
                    pool.product, pool.leases
                )
            })),
            "licenses" => lines(self.ledger.licenses().iter().map(|license| {
                let shares: Vec<_> =
                    license.shares.iter().map(|share| share.state.to_string()).collect();
                let update =
                    license.update.map_or(String::new(), |serial| format!(", update {}", serial.0));
                format!(
                    "{} serial {} {:?}: {}{update}",
                    license.terms.name,
                    license.terms.serial.0,
                    license.service,
                    shares.join(", ")
                )
            })),
            "date" => {
                self.apply_all(vec![], self.term);
                let after = |wall: WallTime| format!("{} ms after issue", wall.0 - ISSUED.0);
                let date = match options.get("firm") {
                    Some(firm) => self.ledger.date_of(FirmCode(firm.parse().unwrap())),
                    None => self.ledger.wall(),
                };
                date.map_or("unknown".to_owned(), after)
            }
            "next" => {
                self.ledger.next_deadline().map_or("nothing".to_owned(), |time| time.to_string())
            }
            "counters" => {
                let c = self.ledger.counters();
                let live = self.ledger.live();
                format!(
                    "granted {} = released {} + expired {} + revoked {} + live {live}",
                    c.granted, c.released, c.expired, c.revoked
                )
            }
            other => panic!("no such word: {other}"),
        }
    }

    fn license(&mut self, args: &[&str], options: &BTreeMap<&str, &str>) -> String {
        let name = args[0];
        self.product = name.to_owned();
        if !self.codes.iter().any(|known| known == name) {
            self.codes.push(name.to_owned());
        }
        let own = self.codes.iter().position(|known| known == name).unwrap() as u32 + 1;
        let code = options.get("code").map_or(own, |code| code.parse().unwrap());
        let (_, tmr, serial) = self.key(name, options);
        let seats = options.get("seats").map_or(0, |seats| seats.parse().unwrap());
        let mut sold = terms(name, code, tmr, serial, seats);
        if let Some(firm) = options.get("firm") {
            sold.license.firm = FirmCode(firm.parse().unwrap());
        }
        let date = |key| options.get(key).map(|at| ISSUED.plus_millis(millis(at) as i64));
        sold.issued = date("issued").unwrap_or(ISSUED);
        sold.activation = date("from");
        sold.expiration = date("until");
        sold.version_max = options.get("version").map(|text| Version::parse(text).unwrap());
        sold.counting = match options.get("counting").copied().unwrap_or("instance") {
            "instance" => Counting::PerInstance,
            "station" => Counting::PerStation,
            "exclusive" => Counting::ExclusivePerStation,
            "unlimited" => Counting::Unlimited,
            other => panic!("no such counting: {other}"),
        };
        let issued = self.world.issue(sold);
        self.world.epoch = Epoch(self.ledger.epoch());
        let mut commands = vec![World::install(&issued)];
        if !args.contains(&"bare") {
            let members = self.world.members.into_iter();
            commands.extend(members.map(|node| self.world.attest(&issued, node)));
            commands.push(Command::SignTerm(self.world.sign(&issued, self.term)));
        }
        self.issued.insert((name.to_owned(), tmr, serial), issued);
        self.apply_all(commands, self.term)
    }

    /// Begins, hands over every part and finishes; tells the first refusal.
    fn restore(&mut self, name: &str, options: &BTreeMap<&str, &str>) -> String {
        let plan = self.plan(name, options);
        let parts = (0..plan.parts()).map(|number| self.world.part(&self.backups[name], number));
        let finish = RestoreFinish { backup: plan.backup };
        let mut steps: Vec<_> = parts.map(Restore::Part).collect();
        steps.insert(0, Restore::Begin(plan));
        steps.push(Restore::Finish(finish));
        self.apply_all(steps.into_iter().map(Command::Restore).collect(), self.term)
    }

    fn plan(&self, name: &str, options: &BTreeMap<&str, &str>) -> RestorePlan {
        let quiet = options.get("quiet").map_or(0, |quiet| millis(quiet));
        let epoch = options.get("epoch").map_or(100, |epoch| epoch.parse().unwrap());
        let mut plan = self.world.plan(&self.backups[name], epoch, quiet);
        if let Some(cluster) = options.get("cluster") {
            plan.cluster = ClusterId([cluster.parse().unwrap(); 16]);
        }
        if let Some(containers) = options.get("containers") {
            plan.members = self.world.members_with(containers.parse().unwrap());
        }
        // Nodes by id, each with its own container or, behind a colon, another node's.
        if let Some(nodes) = options.get("nodes") {
            let node = |word: &str| {
                let (node, container) = word.split_once(':').unwrap_or((word, word));
                (node.parse().unwrap(), container.parse().unwrap())
            };
            let nodes: Vec<_> = nodes.split(',').map(node).collect();
            plan.members = self.world.members_as(&nodes);
        }
        plan
    }

    /// The ledger's own epoch, unless the line names another.
    fn epoch(&self, options: &BTreeMap<&str, &str>) -> Epoch {
        let named = options.get("epoch").map(|epoch| epoch.parse().unwrap());
        Epoch(named.unwrap_or_else(|| self.ledger.epoch()))
    }

    fn key(&self, name: &str, options: &BTreeMap<&str, &str>) -> (String, u32, u64) {
        let tmr = options.get("tmr").map_or(1, |tmr| tmr.parse().unwrap());
        let serial = options.get("serial").map_or(1, |serial| serial.parse().unwrap());
        (if name.is_empty() { self.product.clone() } else { name.to_owned() }, tmr, serial)
    }

    /// The same name is the same request: what is not said again stays as it was.
    fn acquire(&mut self, name: &str, options: &BTreeMap<&str, &str>) -> Acquire {
        let fresh = Acquire {
            lease: lease(name),
            subject: subject("alice"),
            product: ProductName::parse(&self.product).unwrap(),
            holder: HolderName::parse("").unwrap(),
            version: None,
            ttl: Ttl::from_millis(10_000).unwrap(),
            not_after: ClusterTime(self.now + 60_000),
            wait_until: None,
        };
        let mut body = self.asked.get(name).cloned().unwrap_or(fresh);
        for (key, value) in options {
            match *key {
                "by" => body.subject = subject(value),
                "product" => body.product = ProductName::parse(value).unwrap(),
                "ttl" => body.ttl = Ttl::from_millis(millis(value)).unwrap(),
                "version" => body.version = Some(Version::parse(value).unwrap()),
                "not_after" => body.not_after = ClusterTime(millis(value)),
                "wait" => body.wait_until = Some(ClusterTime(millis(value))),
                "stale" => {}
                other => panic!("no such option: {other}"),
            }
        }
        self.asked.entry(name.to_owned()).or_insert_with(|| body.clone());
        body
    }

    fn holding(
        &self,
        name: &str,
        options: &BTreeMap<&str, &str>,
    ) -> (LeaseId, ledger::name::Subject, Token) {
        let asked = self.asked.get(name).map(|body| body.subject.clone());
        let by = options.get("by").map(|by| subject(by));
        let token = options.get("token").map(|token| Token(token.parse().unwrap()));
        let known = self.tokens.get(name).copied().unwrap_or(Token(0));
        (lease(name), by.or(asked).unwrap_or(subject("alice")), token.unwrap_or(known))
    }
}

fn nodes(args: &[&str]) -> [u64; 2] {
    [args[0].parse().unwrap(), args[1].parse().unwrap()]
}

fn digest(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

fn level(number: &str) -> Level {
    Level::new(number.parse().unwrap()).unwrap()
}
