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

/// What the tests of this crate type, all white space taken out.
fn typed_in_tests() -> String {
    fn read(dir: &std::path::Path, all: &mut String) {
        for entry in std::fs::read_dir(dir).expect("the tests are there").flatten() {
            let path = entry.path();
            if path.is_dir() {
                read(&path, all);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                all.push_str(&std::fs::read_to_string(&path).expect("text"));
            }
        }
    }
    let mut all = String::new();
    read(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests"), &mut all);
    all.retain(|character| !character.is_whitespace());
    all
}

/// A verb that no test runs as users do works by luck, and so does a flag. The
/// list is of those that are tried elsewhere, each with where.
#[test]
fn every_verb_and_flag_is_used_by_some_test() {
    const ELSEWHERE: [(&str, &str); 8] = [
        ("trine balancer guard", "balancer/tests: the balancer starts it"),
        ("trine balancer guard --track-file", "balancer/tests: as above"),
        ("trine demo --keep", "by hand: it leaves a directory behind"),
        ("trine demo --engine", "CI runs the demo on both engines"),
        ("trine up --engine", "the tests' own clusters are prepared on both engines"),
        (
            "trine cluster restore --epoch",
            "ledger/tests/backup.rs and node/src/formation/restore.rs",
        ),
        ("trine acquire --not-after", "client/tests"),
        ("trine usage --window", "cli/src/usage/summary.rs"),
    ];
    let typed = typed_in_tests();
    let mut unused = Vec::new();
    for (words, command) in every_command() {
        let name = words.join(" ");
        let quoted: Vec<String> = words[1..].iter().map(|word| format!("\"{word}\"")).collect();
        if !command.has_subcommands() && !typed.contains(&quoted.join(",")) {
            unused.push(name.clone());
        }
        for argument in command.get_arguments() {
            let long = argument.get_long().map(|long| format!("--{long}"));
            let short = argument.get_short().map(|short| format!("-{short}"));
            let Some(flag) = long.clone().or(short.clone()) else { continue };
            let is_typed = |flag: &String| {
                ["\"", "="].iter().any(|end| typed.contains(&format!("{flag}{end}")))
            };
            if !long.iter().chain(&short).any(is_typed) {
                unused.push(format!("{name} {flag}"));
            }
        }
    }
    let is_elsewhere = |name: &String| ELSEWHERE.iter().any(|(known, _)| known == name);
    unused.retain(|name| !is_elsewhere(name));
    assert!(unused.is_empty(), "no test types {unused:#?}");
}
