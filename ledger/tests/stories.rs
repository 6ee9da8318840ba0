//! Plays the stories in `tests/stories/*.txt` and compares what was answered.
//!
//! A line is `[TIME] VERB ARGS => ANSWER`; lines below it that begin with `|`
//! are what the entry settled besides. Set `UPDATE=1` to write the answers
//! anew, then read the difference. Words of the script: see `Teller::tell`.

mod support;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use ledger::charter::ca_digest;
use ledger::command::{
    AbandonReplacement, Acquire, Anchor, AnchorId, Batch, Cancel, Command, Distrust,
    FinishReplacement, IssueToken, LeaseId, OrderRepair, Outcome, RaiseLevel, Release, Renew,
    Reply, Restore, RestoreFinish, RestorePlan, Revoke, RevokeCertificate, RevokeToken, Standing,
    Token, Trust, WithdrawShare,
};
use ledger::level::Level;
use ledger::name::HolderName;
use ledger::time::{ClusterTime, Stamp, Ttl};
use ledger::usage::{Denied, Fact, Held, Page, Record};
use ledger::{Applied, Event, Ledger};
use license::product::{ClusterId, Epoch, FirmCode, NodeId, ProductName, Version, WallTime};
use license::reset::ResetTerms;
use license::terms::Counting;
use support::{CLUSTER, FIRM, ISSUED, Issued, World, subject, terms};

#[test]
fn the_stories_go_as_written() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/stories");
    let mut files: Vec<_> =
        fs::read_dir(folder).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    assert!(files.len() >= 20, "only {} stories found", files.len());
    for file in files {
        let written = fs::read_to_string(&file).unwrap();
        let told = Teller::new().story(&written);
        if std::env::var_os("UPDATE").is_some() {
            fs::write(&file, told).unwrap();
        } else {
            assert!(told == written, "{} goes otherwise:\n{told}", file.display());
        }
    }
}

/// Plays one story on one ledger.
struct Teller {
    world: World,
    ledger: Ledger,
    index: u64,
    now: u64,
    term: u64,
    walls: BTreeMap<u64, i64>,
    issued: BTreeMap<(String, u32, u64), Issued>,
    codes: Vec<String>,
    asked: BTreeMap<String, Acquire>,
    backups: BTreeMap<String, Vec<u8>>,
    tokens: BTreeMap<String, Token>,
    /// The last heartbeat of every node.
    beats: BTreeMap<u64, Command>,
    product: String,
    /// Whether shares and licenses coming and going are part of the story.
    watching: bool,
    /// Usage records that nobody has read.
    records: Vec<String>,
}

impl Teller {
    fn new() -> Self {
        Self {
            world: World::new(1),
            ledger: Ledger::new(),
            index: 0,
            now: 0,
            term: 1,
            walls: (1..=3).map(|node| (node, 0)).collect(),
            issued: BTreeMap::new(),
            codes: Vec::new(),
            asked: BTreeMap::new(),
            backups: BTreeMap::new(),
            tokens: BTreeMap::new(),
            beats: BTreeMap::new(),
            product: "cad".to_owned(),
            watching: false,
            records: Vec::new(),
        }
    }

    fn story(&mut self, written: &str) -> String {
        let mut told = String::new();
        for line in written.lines() {
            if line.trim_start().starts_with('|') {
                continue;
            }
            let script = line.split("=>").next().unwrap_or("").trim_end();
            if script.is_empty() || script.starts_with('#') {
                told += line;
                told.push('\n');
                continue;
            }
            let answer = self.line(script);
            let mut lines = answer.lines();
            match lines.next() {
                Some(first) => writeln!(told, "{script:<44} => {first}").unwrap(),
                None => writeln!(told, "{script}").unwrap(),
            }
            lines.for_each(|more| writeln!(told, "    | {more}").unwrap());
            if let Err(law) = self.ledger.check() {
                panic!("after {script:?}: {law}");
            }
        }
        told
    }

    fn line(&mut self, script: &str) -> String {
        let mut words: Vec<&str> = script.split_whitespace().collect();
        if words[0].starts_with(|first: char| first.is_ascii_digit()) {
            self.now = millis(words.remove(0));
        }
        let (verb, rest) = (words[0], &words[1..]);
        let args: Vec<&str> = rest.iter().filter(|word| !word.contains('=')).copied().collect();
        let options = rest.iter().filter_map(|word| word.split_once('=')).collect();
        self.tell(verb, &args, &options)
    }

    fn tell(&mut self, verb: &str, args: &[&str], options: &BTreeMap<&str, &str>) -> String {
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
                let signed = self.world.sign(&self.issued[&key], term);
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

    fn apply(&mut self, command: Command) -> String {
        self.apply_in(command, self.term)
    }

    fn apply_in(&mut self, command: Command, entry_term: u64) -> String {
        self.apply_all(vec![command], entry_term)
    }

    /// Applies one entry; before it, one with the heartbeats of the nodes that are up.
    fn apply_all(&mut self, commands: Vec<Command>, entry_term: u64) -> String {
        let stamp = Stamp { time: ClusterTime(self.now), term: self.term };
        let mut said = String::new();
        if self.ledger.charter().is_some() && entry_term == self.term {
            let wall = |ahead: i64| WallTime(ISSUED.0 + self.now as i64 + ahead);
            for (node, ahead) in &self.walls {
                let beat = self.world.beat(*node, wall(*ahead), (0, [0; 32]));
                self.beats.insert(*node, beat);
            }
            let commands = self.walls.keys().map(|node| self.beats[node].clone()).collect();
            self.index += 1;
            let applied = self.ledger.apply(self.index, self.term, &Batch { stamp, commands });
            self.records.extend(records(&applied));
            said = self.events(&applied);
        }
        self.index += 1;
        let applied = self.ledger.apply(self.index, entry_term, &Batch { stamp, commands });
        self.records.extend(records(&applied));
        said += &self.events(&applied);
        let answer = match applied.replies.as_slice() {
            [] => "ticked".to_owned(),
            [reply] => self.outcome(reply),
            several => {
                let refused =
                    several.iter().find(|reply| matches!(reply.outcome, Outcome::Refused(_)));
                self.outcome(refused.unwrap_or(&several[0]))
            }
        };
        if let [Reply { outcome: Outcome::Granted(grant, _), .. }] = applied.replies.as_slice() {
            self.learn(grant.lease, grant.token);
        }
        format!("{answer}\n{said}")
    }

    fn learn(&mut self, id: LeaseId, token: Token) {
        let name = self.asked.keys().find(|name| lease(name) == id).cloned().unwrap();
        self.tokens.insert(name, token);
    }

    fn events(&mut self, applied: &Applied) -> String {
        let mut said = String::new();
        for event in &applied.events {
            let text = match event {
                Event::Settled { lease: id, reply } => {
                    if let Outcome::Granted(grant, _) = &reply.outcome {
                        self.learn(*id, grant.token);
                    }
                    let name = self.asked.keys().find(|name| lease(name) == *id).unwrap();
                    format!("{name}: {}", self.outcome(reply))
                }
                Event::LicenseInForce { serial, product, .. } => {
                    format!("{product} is in force at serial {}", serial.0)
                }
                Event::ServiceChanged { .. } | Event::ShareChanged { .. } if !self.watching => {
                    continue;
                }
                Event::ServiceChanged { license, service } => format!("{license} is {service:?}"),
                Event::Revoked { seat, by } => format!("seat {seat} revoked by {by}"),
                Event::ShareChanged { node, state, .. } => format!("share of {node} is {state}"),
            };
            writeln!(said, "{text}").unwrap();
        }
        said
    }

    fn outcome(&self, reply: &Reply) -> String {
        match &reply.outcome {
            Outcome::Granted(grant, Standing::Live { deadline }) => {
                format!("granted {} on {} until {deadline}", grant.token, grant.license)
            }
            Outcome::Granted(grant, Standing::Ended(ending)) => {
                format!("granted {} on {}, ended: {ending:?}", grant.token, grant.license)
            }
            Outcome::Queued(place) => format!(
                "queued {} of {}, ask before {}",
                place.position, place.length, place.ask_before
            ),
            Outcome::Renewed { deadline } => format!("renewed until {deadline}"),
            Outcome::Refused(refusal) => format!("refused: {refusal}"),
            other => format!("{other:?}").to_lowercase(),
        }
    }
}

/// What an entry wrote into the history, but for the cluster's own comings and goings.
fn records(applied: &Applied) -> Vec<String> {
    let pages = applied.pages.iter().map(|page| Page::decode(&page.bytes).expect("its own page"));
    let told = |(time, record): (ClusterTime, Record)| {
        let seat = |seat: &Held| format!("{} {} {}", seat.token, seat.product, seat.subject);
        Some(match record.fact {
            Fact::Licensed(licensed) => format!(
                "{time} {} serial {}: {} seats, {:?}",
                licensed.product, licensed.serial.0, licensed.seats, licensed.counting
            ),
            Fact::Granted { seat: held, waited_ms: None, .. } => {
                format!("{time} granted {}", seat(&held))
            }
            Fact::Granted { seat: held, waited_ms: Some(waited), .. } => {
                format!("{time} granted {} after {waited} ms in the queue", seat(&held))
            }
            Fact::Denied(Denied { denial, times, since }) => {
                let product = denial.product.map_or("*".to_owned(), |product| product.to_string());
                let subject = denial.subject.map_or("*".to_owned(), |subject| subject.to_string());
                let reason = denial.reason.label();
                format!("{time} denied {product} {subject}: {reason}, {times} since {since}")
            }
            Fact::GaveUp { product, subject, waited_ms, reason, .. } => {
                let reason = reason.label();
                format!("{time} gave up {product} {subject}: {reason} after {waited_ms} ms")
            }
            Fact::RenewedLate { seat: held, silent_ms, left_ms } => {
                format!(
                    "{time} renewed late {}: {silent_ms} ms silent, {left_ms} left",
                    seat(&held)
                )
            }
            Fact::Moved { seat: held, to } => {
                format!("{time} moved {} from {} to {to}", seat(&held), held.license)
            }
            Fact::RevokeOrdered { seat: held, by } => {
                format!("{time} revoke ordered {} by {by}", seat(&held))
            }
            Fact::Ended { seat: held, ending, since } => {
                format!("{time} {ending:?} {} since {since}", seat(&held)).to_lowercase()
            }
            Fact::RetentionSet { retention, by } => format!(
                "{time} kept for {} days, {} MiB by {by}",
                retention.days(),
                retention.mebibytes()
            ),
            Fact::Formed { .. } | Fact::ServiceChanged { .. } | Fact::PartBegun { .. } => {
                return None;
            }
        })
    };
    pages
        .flat_map(|page| page.records.into_iter().map(move |record| (page.time, record)))
        .filter_map(told)
        .collect()
}

fn lines(lines: impl Iterator<Item = String>) -> String {
    let all: Vec<String> = lines.collect();
    if all.is_empty() { "none".to_owned() } else { format!("{}\n{}", all.len(), all.join("\n")) }
}

fn nodes(args: &[&str]) -> [u64; 2] {
    [args[0].parse().unwrap(), args[1].parse().unwrap()]
}

fn lease(name: &str) -> LeaseId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    LeaseId(u128::from_be_bytes(bytes))
}

fn digest(name: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    bytes
}

/// `1500ms`, `10s`, `5m`, `24h` in milliseconds.
fn millis(text: &str) -> u64 {
    for (unit, millis) in [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000)] {
        if let Some(Ok(number)) = text.strip_suffix(unit).map(str::parse::<u64>) {
            return number * millis;
        }
    }
    panic!("no such time: {text}")
}

fn level(number: &str) -> Level {
    Level::new(number.parse().unwrap()).unwrap()
}
