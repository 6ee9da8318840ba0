//! The next build of Trine: this tree, edited as whoever raises the feature
//! level would edit it, and compiled.
//!
//! It has a higher version and one level more, at which a rule changes:
//! revoking a seat that has ended is done instead of refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use ledger::level::HIGHEST;

/// The version of the next build.
pub(crate) const VERSION: &str = "0.1000.0";

/// The highest level that the next build knows.
pub(crate) fn level() -> u64 {
    u64::from(HIGHEST.number()) + 1
}

/// Compiles the next build, or what has changed of it, and gives its binary.
pub(crate) fn build() -> PathBuf {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("the target directory");
    let home = shared.join("next");
    fs::create_dir_all(&home).expect("a directory");
    let turn = File::create(home.join("lock")).expect("a lock file");
    turn.lock().expect("the turn");

    let source = home.join("source");
    let mut sync = Sync { tree, source: &source, skip: shared, kept: BTreeSet::new() };
    sync.directory(Path::new(""));
    sync.clear(Path::new(""));

    let profile = Path::new(env!("CARGO_BIN_EXE_trine")).parent().and_then(Path::file_name);
    let profile = profile.and_then(|name| name.to_str()).expect("the profile's directory");
    // Cargo says where it is to what it runs.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(&cargo);
    // What cargo told this test about itself is not about the next build; some
    // dependencies would be compiled anew because of it.
    for (name, _) in std::env::vars_os() {
        let about = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if about.iter().any(|about| name.to_string_lossy().starts_with(about)) {
            command.env_remove(name);
        }
    }
    command.arg("build");
    if cfg!(feature = "rocksdb") {
        // It must read what this build's engine wrote.
        command.args(["--features", "rocksdb"]);
    }
    let status = command
        .args(["--offline", "--quiet", "--workspace", "--bin", "trine"])
        .args(["--profile", if profile == "debug" { "dev" } else { profile }])
        .arg("--manifest-path")
        .arg(source.join("Cargo.toml"))
        // Where this tree's own settings of cargo are found, and no others.
        .current_dir(tree)
        // Dependencies are compiled once for both builds; what is Trine's own
        // has another version, and so other names.
        .env("CARGO_BUILD_BUILD_DIR", shared)
        .env("CARGO_TARGET_DIR", home.join("target"))
        .status()
        .unwrap_or_else(|error| panic!("{} builds the next build: {error}", cargo.display()));
    assert!(status.success(), "the next build compiles; its source is in {}", source.display());
    home.join("target").join(profile).join("trine")
}

/// Copies the tree, edited; what has not changed keeps its time, so that cargo
/// does not compile it again.
struct Sync<'a> {
    tree: &'a Path,
    source: &'a Path,
    /// What cargo makes is not source.
    skip: &'a Path,
    kept: BTreeSet<PathBuf>,
}

impl Sync<'_> {
    fn directory(&mut self, path: &Path) {
        for entry in fs::read_dir(self.tree.join(path)).expect("a directory of the tree") {
            let entry = entry.expect("an entry");
            let path = path.join(entry.file_name());
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if is_hidden || entry.file_name() == "target" || entry.path() == self.skip {
                continue;
            }
            if entry.file_type().expect("its kind").is_dir() {
                self.directory(&path);
            } else {
                self.file(&path);
            }
        }
    }

    fn file(&mut self, path: &Path) {
        let from = self.tree.join(path);
        let bytes = fs::read(&from).expect("a file of the tree");
        let bytes = match path.to_str().and_then(edits_of) {
            Some(edit) => edit(String::from_utf8(bytes).expect("text")).into_bytes(),
            None => bytes,
        };
        let to = self.source.join(path);
        if fs::read(&to).ok().is_none_or(|there| there != bytes) {
            fs::create_dir_all(to.parent().expect("a directory")).expect("a directory");
            fs::write(&to, bytes).expect("a copy");
        }
        self.kept.insert(path.to_owned());
    }

    /// Removes what the tree no longer has.
    fn clear(&self, path: &Path) {
        for entry in fs::read_dir(self.source.join(path)).expect("a directory") {
            let entry = entry.expect("an entry");
            let path = path.join(entry.file_name());
            if entry.file_type().expect("its kind").is_dir() {
                self.clear(&path);
            } else if !self.kept.contains(&path) {
                fs::remove_file(entry.path()).expect("a copy that is ours");
            }
        }
    }
}

/// How a file of the tree differs in the next build; most do not.
fn edits_of(path: &str) -> Option<fn(String) -> String> {
    Some(match path {
        "Cargo.toml" => |text| {
            let version = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
            replace(&text, version, &format!("version = \"{VERSION}\""))
        },
        // Ours are the packages without a source.
        "Cargo.lock" => |text| {
            let ours = concat!("version = \"", env!("CARGO_PKG_VERSION"), "\"");
            let blocks = text.split("\n[[package]]\n").map(|block| {
                if block.contains("\nsource = ") {
                    return block.to_owned();
                }
                block.replace(ours, &format!("version = \"{VERSION}\""))
            });
            blocks.collect::<Vec<_>>().join("\n[[package]]\n")
        },
        "ledger/src/level.rs" => |text| {
            let level = level();
            let highest = format!("pub const HIGHEST: Level = Level::new({level}).expect(\"\");\n");
            let text = replace_line(&text, "pub const HIGHEST: Level = ", &highest);
            let what = "(HIGHEST, \"revoking a seat that has ended is done, not refused\")";
            let text = replace(&text, "does\")];", &format!("does\"), {what}];"));
            let first = "            Self::Genesis(_)\n";
            replace(&text, first, &format!("            Self::RevokeEnded(_) => HIGHEST,\n{first}"))
        },
        "ledger/src/command.rs" => |text| {
            let variant = "    /// Confirms that a seat has ended.\n    RevokeEnded(Revoke),\n";
            append_to(&text, "pub enum Command {", variant)
        },
        "ledger/src/ledger.rs" => |text| {
            let old =
                "            Command::Revoke(body) => return done(self.revoke(body, entry)),\n";
            let new =
                "            Command::RevokeEnded(body) => return done(self.revoke_ended(body)),\n";
            replace(&text, old, &format!("{old}{new}"))
        },
        "ledger/src/lease.rs" => |text| {
            let after = "    /// Ends a live lease;";
            let rule =
                "    /// What has ended need not be revoked; what was never granted cannot be.
    pub(crate) fn revoke_ended(&self, body: &Revoke) -> Result<(), Refusal> {
        let was_granted = body.seat.0 <= self.state.scalars.last_token;
        was_granted.then_some(()).ok_or(Refusal::NoSuchSeat { seat: body.seat })
    }

";
            replace(&text, after, &format!("{rule}{after}"))
        },
        "node/src/raft/forward.rs" => |text| {
            let old = "        Command::Revoke(_)\n";
            replace(&text, old, "        Command::Revoke(_) | Command::RevokeEnded(_)\n")
        },
        "node/src/api/cluster.rs" => |text| {
            let old = "self.command(Command::Revoke(Revoke { seat, by: by.clone() })).await?";
            let new = "{
            let revoke = Revoke { seat, by: by.clone() };
            let is_live = |ledger: &Ledger| ledger.seats(None).iter().any(|held| held.token == seat);
            let is_live = self.service.peek(is_live);
            self.command(if is_live { Command::Revoke(revoke) } else { Command::RevokeEnded(revoke) })
                .await?
        }";
            replace(&text, old, new)
        },
        _ => return None,
    })
}

/// `text` with `old`, which must be there once, replaced.
#[track_caller]
fn replace(text: &str, old: &str, new: &str) -> String {
    assert_eq!(text.matches(old).count(), 1, "the next build's edit looks for {old:?}");
    text.replace(old, new)
}

/// `text` with the line that begins with `start` replaced.
#[track_caller]
fn replace_line(text: &str, start: &str, line: &str) -> String {
    let old = text.split_inclusive('\n').find(|line| line.starts_with(start));
    replace(text, old.unwrap_or(start), line)
}

/// `text` with `more` at the end of the item that begins with `start`.
#[track_caller]
fn append_to(text: &str, start: &str, more: &str) -> String {
    let (before, rest) = text.split_once(start).unwrap_or_else(|| panic!("no {start:?}"));
    let (body, after) = rest.split_once("\n}\n").expect("an end of the item");
    format!("{before}{start}{body}\n{more}}}\n{after}")
}
