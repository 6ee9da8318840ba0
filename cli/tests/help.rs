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
