//! Foreign worlds have few addresses: `ARCHITECTURE.md`'s table of them is what
//! the tree says, no file more and no file less.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

const PAGE: &str = include_str!("../../ARCHITECTURE.md");

/// The rooms that are shipped; tests may know whom they like.
const ROOMS: [&str; 8] = ["balancer", "cli", "client", "ledger", "license", "node", "pki", "wire"];

/// The words between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

/// By each world's words: where the page says that they stand.
fn told() -> BTreeMap<Vec<&'static str>, BTreeSet<String>> {
    let table = PAGE.split("| foreign world |").nth(1).expect("the table of foreign worlds");
    let mut told: BTreeMap<_, BTreeSet<String>> = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with("| ")) {
        let cells: Vec<&str> = row.trim_matches('|').split('|').collect();
        let [world, folder, places] = cells[..] else { panic!("not three cells: {row}") };
        let [folder] = quoted(folder)[..] else { panic!("not one folder: {row}") };
        let places =
            quoted(places).into_iter().filter(|it| it.ends_with(".rs") || it.ends_with('/'));
        told.entry(quoted(world)).or_default().extend(places.map(|it| format!("{folder}{it}")));
    }
    told
}

/// Every source file of `folder` that is no test, and its text.
fn sources(root: &Path, folder: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(root.join(folder)).expect("a folder") {
        let entry = entry.expect("an entry");
        let name = entry.file_name().into_string().expect("a name");
        let path = format!("{folder}/{name}");
        if entry.file_type().expect("its type").is_dir() {
            sources(root, &path, found);
        } else if name.ends_with(".rs") && !name.ends_with("tests.rs") {
            found.push((path, fs::read_to_string(entry.path()).expect("a source file")));
        }
    }
}

/// Whether `word` stands in `text`, and not as the end of another.
fn uses(text: &str, word: &str) -> bool {
    text.match_indices(word)
        .any(|(at, _)| !text[..at].ends_with(|c: char| c.is_alphanumeric() || c == '_'))
}

/// The place of the page that `file` belongs to: itself, or a module with its files.
fn place(file: &str, told: &BTreeSet<String>) -> String {
    let covers = |place: &&String| match place.strip_suffix('/') {
        Some(module) => file.starts_with(*place) || file == format!("{module}.rs"),
        None => file == *place,
    };
    told.iter().find(covers).cloned().unwrap_or_else(|| file.to_owned())
}

#[test]
fn each_foreign_world_is_where_the_architecture_says() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut files = Vec::new();
    for room in ROOMS {
        sources(&root, &format!("{room}/src"), &mut files);
    }
    let told = told();
    assert_eq!(told.len(), 5, "tonic, openraft, redb, RocksDB, keepalived: {told:?}");
    for (words, told) in told {
        let seen = files.iter().filter(|(_, text)| words.iter().any(|word| uses(text, word)));
        let seen: BTreeSet<String> = seen.map(|(file, _)| place(file, &told)).collect();
        assert_eq!(seen, told, "on the left where {words:?} stands, on the right what is told");
    }
}
