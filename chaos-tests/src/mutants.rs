//! Mutants: mistakes planted one at a time, each of which the simulator must find.
//!
//! Production code carries no seam for them. They are put in by substitution:
//! [`plant`] copies the sources, changes in the copy the places listed here, so
//! that each mistake is made only in a process whose environment names it, and
//! builds that copy once for all of them. A place that is not found, or found
//! twice, is an error: the list follows the code.

mod list;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
pub use list::MUTANTS;

/// The variable that names the mutant that a process is.
pub const VARIABLE: &str = "TRINE_MUTANT";

/// One mistake.
#[derive(Debug, Clone, Copy)]
pub struct Mutant {
    /// What it is called.
    pub name: &'static str,
    /// What is wrong with it.
    pub mistake: &'static str,
    /// The law that is meant to find it.
    pub law: &'static str,
    /// What is changed: in which file, what, into what. `MUTANT` in it is
    /// whether the process is this one.
    pub changes: &'static [(&'static str, &'static str, &'static str)],
}

/// What asks for the variable, in each crate that has a mistake.
const MODULE: &str = "\
//! Which mistake this process makes.
pub(crate) fn is(name: &str) -> bool {
    static MUTANT: std::sync::LazyLock<String> =
        std::sync::LazyLock::new(|| std::env::var(\"TRINE_MUTANT\").unwrap_or_default());
    *MUTANT == name
}
";

/// Makes a copy of the sources of `workspace` in `folder` with all mistakes in
/// it, builds it into `built_as`, the folder of a profile in a target folder, and
/// returns the program that plays seeds.
///
/// # Errors
/// A place is not found, or cargo fails.
pub fn plant(workspace: &Path, folder: &Path, built_as: &Path) -> anyhow::Result<PathBuf> {
    let target = built_as.parent().context("a target folder")?;
    let listed = Command::new("git")
        .args(["ls-files", "--cached", "--others", "--exclude-standard"])
        .current_dir(workspace)
        .output()
        .context("git lists the sources")?;
    ensure!(listed.status.success(), "git ls-files failed; mutants are planted in a checkout");
    let mut files: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    for name in String::from_utf8(listed.stdout)?.lines() {
        let path = workspace.join(name);
        if path.is_file() {
            files.insert(name.to_owned(), std::fs::read(&path).with_context(|| name.to_owned())?);
        }
    }
    for mutant in MUTANTS {
        for change in mutant.changes {
            let (file, from, _) = *change;
            let text = files.get(file).with_context(|| format!("there is no {file}"))?;
            let text = String::from_utf8(text.clone())?;
            let found = text.matches(from).count();
            if found != 1 {
                bail!(
                    "{}: {from:?} is {found} times in {file}; bring chaos-tests/src/mutants/list.rs up to date",
                    mutant.name
                );
            }
            files.insert(file.to_owned(), changed(&text, mutant.name, change).into_bytes());
        }
    }
    for name in ["ledger", "node", "client"] {
        let library = files.get_mut(&format!("{name}/src/lib.rs")).context("it is a crate")?;
        library.extend_from_slice(b"\nmod mutant;\n");
        files.insert(format!("{name}/src/mutant.rs"), MODULE.as_bytes().to_vec());
    }
    // Under another name, so that the real one stays what it is.
    let program = files.remove("chaos-tests/src/bin/world.rs").context("the simulator")?;
    files.insert("chaos-tests/src/bin/mutated.rs".to_owned(), program);
    for (name, text) in &files {
        let path = folder.join(name);
        // What did not change is not built again.
        if std::fs::read(&path).is_ok_and(|there| there == *text) {
            continue;
        }
        std::fs::create_dir_all(path.parent().context("a folder")?)?;
        std::fs::write(&path, text)?;
    }
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--locked", "-p", "chaos-tests", "--bin", "mutated"]);
    // What is built for this program's own profile is there already.
    let profile = built_as.file_name().and_then(|name| name.to_str()).context("a profile")?;
    cargo.args(["--profile", if profile == "debug" { "dev" } else { profile }]);
    let built = cargo.current_dir(folder).env("CARGO_TARGET_DIR", target).status()?;
    ensure!(built.success(), "the sources with the mistakes in them do not build");
    Ok(built_as.join("mutated"))
}

/// `text` with one change in it.
fn changed(text: &str, name: &str, (_, from, to): &(&str, &str, &str)) -> String {
    let to = to.replace("MUTANT", &format!("crate::mutant::is({name:?})"));
    text.replacen(from, &to, 1)
}

/// What became of one mutant.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Hunt {
    /// Its name.
    pub name: &'static str,
    /// The law that is meant to find it.
    pub law: &'static str,
    /// The seeds that each try needed; `None` where they did not suffice.
    pub needed: Vec<Option<u64>>,
    /// The laws that found it, and in how many tries.
    pub found_by: BTreeMap<String, u64>,
}

impl Hunt {
    /// The median of the seeds needed, if more than half of the tries found it.
    pub fn median(&self) -> Option<u64> {
        let mut needed: Vec<u64> =
            self.needed.iter().map(|seeds| seeds.unwrap_or(u64::MAX)).collect();
        needed.sort_unstable();
        needed.get(needed.len() / 2).copied().filter(|median| *median < u64::MAX)
    }
}

/// Plays seeds with one mistake in the code until it is found: `tries` times,
/// each with seeds of its own and at most `seeds_max` of them.
///
/// # Errors
/// The program does not run, or says nothing that makes sense.
pub fn hunt(program: &Path, mutant: &Mutant, tries: u64, seeds_max: u64) -> anyhow::Result<Hunt> {
    let (mut needed, mut found_by) = (Vec::new(), BTreeMap::new());
    for first in (0..tries).map(|number| 1 + number * 1_000) {
        let mut found = None;
        for seed in first..first + seeds_max {
            let played = Command::new(program)
                .args(["--seed", &seed.to_string(), "--json", "--keep", "-"])
                .env(VARIABLE, mutant.name)
                .output()?;
            match played.status.code() {
                Some(0) => continue,
                Some(2) => bail!(
                    "{} did not run: {}",
                    program.display(),
                    String::from_utf8_lossy(&played.stderr)
                ),
                // A broken law, or a panic that took the whole process along.
                _ => {}
            }
            let said = String::from_utf8_lossy(&played.stderr);
            let law = |line: &str| {
                let (law, _) = line.split_once(": ")?.1.split_once(" broken: ")?;
                Some(law.to_owned())
            };
            let mut laws: BTreeSet<String> = said.lines().filter_map(law).collect();
            if laws.is_empty() {
                laws.insert("a panic".to_owned());
            }
            laws.into_iter().for_each(|law| *found_by.entry(law).or_default() += 1);
            found = Some(seed - first + 1);
            break;
        }
        needed.push(found);
    }
    Ok(Hunt { name: mutant.name, law: mutant.law, needed, found_by })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A change of the code that a mutant is planted in shows here, not in the
    /// middle of a night of measuring.
    #[test]
    fn every_mutant_still_has_its_place() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let mut names = BTreeSet::new();
        let mut files: BTreeMap<&str, String> = BTreeMap::new();
        for mutant in MUTANTS {
            assert!(names.insert(mutant.name), "{} is there twice", mutant.name);
            for change in mutant.changes {
                let (file, from, to) = *change;
                let text = files.entry(file).or_insert_with(|| {
                    std::fs::read_to_string(workspace.join(file)).expect("a source file")
                });
                assert_eq!(text.matches(from).count(), 1, "{}: {from}", mutant.name);
                assert!(to.contains("MUTANT"), "{} is always on: {to}", mutant.name);
                *text = changed(text, mutant.name, change);
            }
        }
        assert!(names.len() >= 20, "{} mutants", names.len());
    }
}
