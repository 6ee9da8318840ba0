//! Every verb teaches: it has help, and an example that the parser understands.

use clap::{Command, CommandFactory, Parser};
use trine_cli::args::Cli;

/// All commands, each with the words that lead to it.
fn all(command: &Command, words: &[String]) -> Vec<(Vec<String>, Command)> {
    let mut found = vec![(words.to_vec(), command.clone())];
    for sub in command.get_subcommands().filter(|sub| sub.get_name() != "help") {
        let words: Vec<String> = words.iter().cloned().chain([sub.get_name().to_owned()]).collect();
        found.extend(all(sub, &words));
    }
    found
}

fn every_command() -> Vec<(Vec<String>, Command)> {
    all(&Cli::command(), &["trine".to_owned()])
}

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_verb_says_what_it_does_and_shows_an_example() {
    for (words, command) in every_command() {
        let name = words.join(" ");
        assert!(command.get_about().is_some(), "{name} has no help");
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        assert!(after.contains("Examples:"), "{name} has no examples");
        let verb = words[1..].join(" ");
        assert!(after.contains(&verb), "{name} shows no example of itself");
        for argument in command.get_arguments().filter(|argument| !argument.is_hide_set()) {
            let id = argument.get_id();
            assert!(argument.get_help().is_some(), "{name}: {id} has no help");
        }
    }
}

/// What an example shows must work when it is typed.
#[test]
fn every_example_parses() {
    let mut examples = 0;
    for (words, command) in every_command() {
        let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
        for line in after.replace("\\\n      ", "").lines() {
            let Some(typed) = typed(line) else { continue };
            examples += 1;
            if let Err(error) = Cli::try_parse_from(&typed) {
                panic!("{}: example {line:?} does not parse: {error}", words.join(" "));
            }
        }
    }
    assert!(examples > 40, "only {examples} examples were found");
}

/// The words of an example as a shell would split them; `None` for other lines.
fn typed(line: &str) -> Option<Vec<String>> {
    let line = line.strip_prefix("  ")?;
    // Comments, two spaces and more behind the command; pipes and redirections.
    let line = line.split("   ").next()?;
    let line = line.split(" | ").next()?.split(" > ").next()?.split(" && ").next()?;
    let start = if line.starts_with("trine ") { 0 } else { line.find(" trine ")? + 1 };
    let mut words = Vec::new();
    let mut quote = None;
    let mut word = String::new();
    for character in line[start..].chars() {
        match (quote, character) {
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), character) if open == character => quote = None,
            (None, ' ') => {
                words.extend(Some(std::mem::take(&mut word)).filter(|word| !word.is_empty()))
            }
            (_, character) => word.push(character),
        }
    }
    words.extend(Some(word).filter(|word| !word.is_empty()));
    Some(words)
}

#[test]
fn the_exit_codes_are_in_the_help() {
    let after = Cli::command().get_after_help().map(ToString::to_string).unwrap_or_default();
    for code in 0..=9 {
        assert!(after.contains(&format!("\n  {code}  ")), "{code} is not explained");
    }
}

/// What the stories of this crate type, file by file, all white space taken out.
/// This file types nothing: it names flags to except them.
fn typed_in_tests() -> Vec<String> {
    fn read(dir: &std::path::Path, all: &mut Vec<String>) {
        for entry in std::fs::read_dir(dir).expect("the tests are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|ending| ending == "rs")
                && !path.ends_with("help.rs")
            {
                let mut text = std::fs::read_to_string(&path).expect("text");
                text.retain(|character| !character.is_whitespace());
                all.push(text);
            }
        }
    }
    let mut all = Vec::new();
    read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut all);
    all
}

/// A verb that no test runs as users do works by luck, and so does a flag that
/// is not typed in any file that types its verb. The list is of those that are
/// tried elsewhere, each with where.
#[test]
fn every_verb_and_flag_is_used_by_some_test() {
    const INSTALLED: &str = "by hand: it drills an installation; cli/src/verb/drill";
    const BY_HAND: &str = "by hand: it leaves something running or a file to look at";
    const ELSEWHERE: [(&str, &str); 14] = [
        ("trine demo", ".ci/run plays it, on RocksDB"),
        ("trine demo --keep", BY_HAND),
        ("trine demo --dir", BY_HAND),
        ("trine demo --engine", "it is handed on as that of `trine up` is"),
        ("trine drill --inside", "the drill starts itself with it, in the lab"),
        ("trine drill --keep", BY_HAND),
        ("trine drill --html", BY_HAND),
        ("trine drill --yes", INSTALLED),
        ("trine balancer --while-stdin-open", "every test cluster starts its balancers with it"),
        ("trine cluster doctor --balancer", "cli/tests/online/doctor.rs, through findings.rs"),
        ("trine run --wait", "the same argument as that of `trine acquire`"),
        ("trine run --version", "the same argument as that of `trine acquire`"),
        ("trine vendor clock-reset --passphrase-file", "read as that of `trine vendor issue` is"),
        ("trine vendor clock-reset --force", "written as by `trine vendor issue`"),
    ];
    let files = typed_in_tests();
    let mut unused = Vec::new();
    for (words, command) in every_command() {
        let name = words.join(" ");
        // One word alone is a verb only where a command line begins.
        let quoted: Vec<String> = words[1..].iter().map(|word| format!("\"{word}\"")).collect();
        let verb = match &quoted[..] {
            [only] => format!("[{only}"),
            several => several.join(","),
        };
        let files: Vec<&String> = files.iter().filter(|file| file.contains(&verb)).collect();
        if !command.has_subcommands() && files.is_empty() {
            unused.push(name.clone());
        }
        for argument in command.get_arguments() {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let short = argument.get_short().map(|short| format!("-{short}"));
            let Some(flag) = long.clone().or(short.clone()) else { continue };
            let is_typed = |flag: &String| {
                let ends = ["\"", "="].map(|end| format!("{flag}{end}"));
                files.iter().any(|file| ends.iter().any(|typed| file.contains(typed)))
            };
            if !long.iter().chain(&short).any(is_typed) {
                unused.push(format!("{name} {flag}"));
            }
        }
    }
    let is_elsewhere = |name: &String| ELSEWHERE.iter().any(|(known, _)| known == name);
    let needless: Vec<&str> = ELSEWHERE
        .iter()
        .map(|(known, _)| *known)
        .filter(|known| !unused.iter().any(|name| name == known))
        .collect();
    assert!(needless.is_empty(), "excepted for nothing: {needless:#?}");
    unused.retain(|name| !is_elsewhere(name));
    assert!(unused.is_empty(), "no test types {unused:#?}");
}
