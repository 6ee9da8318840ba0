//! Plays one story: a script of words, and one ledger that answers.

mod shown;
mod words;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::support::{ISSUED, Issued, World};
use ledger::Ledger;
use ledger::command::{Acquire, Batch, Command, LeaseId, Outcome, Reply, Token};
use ledger::time::{ClusterTime, Stamp};
use license::product::WallTime;

use shown::records;

/// Plays one story on one ledger.
pub(crate) struct Teller {
    world: World,
    ledger: Ledger,
    index: u64,
    now: u64,
    term: u64,
    /// Whether the leader grants nothing.
    withheld: bool,
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
    pub(crate) fn new() -> Self {
        Self {
            world: World::new(1),
            ledger: Ledger::new(),
            index: 0,
            now: 0,
            term: 1,
            withheld: false,
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

    pub(crate) fn story(&mut self, written: &str) -> String {
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

    fn apply(&mut self, command: Command) -> String {
        self.apply_in(command, self.term)
    }

    fn apply_in(&mut self, command: Command, entry_term: u64) -> String {
        self.apply_all(vec![command], entry_term)
    }

    /// Applies one entry; before it, one with the heartbeats of the nodes that are up.
    fn apply_all(&mut self, commands: Vec<Command>, entry_term: u64) -> String {
        let stamp = Stamp { time: ClusterTime(self.now), term: self.term, withheld: self.withheld };
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
}

fn lease(name: &str) -> LeaseId {
    let mut bytes = [0; 16];
    bytes[..name.len()].copy_from_slice(name.as_bytes());
    LeaseId(u128::from_be_bytes(bytes))
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
