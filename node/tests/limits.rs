//! `LIMITS.md` says what is true: its numbers are the code's, and the places
//! and tests it names are there.

use std::fs;
use std::path::Path;

use ledger::limits;
use ledger::name::{HolderName, Subject};
use license::product::ProductName;
use license::terms::{Feature, Terms};
use node::config::Config;

const PAGE: &str = include_str!("../../LIMITS.md");

/// Limit, value, enforced in, beyond it, held by.
fn rows() -> Vec<[&'static str; 5]> {
    let rows: Vec<_> = PAGE
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| limit "))
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
            <[&str; 5]>::try_from(cells).unwrap_or_else(|_| panic!("not five cells: {line}"))
        })
        .collect();
    assert!(rows.len() >= 30, "only {} limits found", rows.len());
    rows
}

/// The words between backticks.
fn quoted(cell: &str) -> Vec<&str> {
    cell.split('`').skip(1).step_by(2).collect()
}

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    fs::read_to_string(path).unwrap_or_else(|error| panic!("LIMITS.md names {file}: {error}"))
}

#[test]
fn every_place_and_test_it_names_is_there() {
    for [limit, _, enforced, _, held] in rows() {
        let [file] = quoted(enforced)[..] else { panic!("{limit}: not one file: {enforced}") };
        read(file);
        match quoted(held)[..] {
            [story] => {
                assert!(story.starts_with("ledger/tests/stories/"), "{limit}: {story}");
                read(story);
            }
            [file, test] => {
                let declared = format!("fn {test}(");
                assert!(read(file).contains(&declared), "{limit}: {file} has no test {test}");
            }
            _ => panic!("{limit}: neither a story nor a file and its test: {held}"),
        }
    }
}

#[test]
fn its_numbers_are_the_codes() {
    let example = include_str!("../../deploy/node.example.toml");
    let doors = Config::parse(example, "node.toml".as_ref()).expect("the example holds").limits;
    for (limit, number) in [
        ("requests waiting for one product", u64::from(limits::QUEUE_MAX)),
        ("live and waiting requests of one subject", u64::from(limits::SUBJECT_SEATS_MAX)),
        ("live and waiting requests in all", limits::LEASES_MAX),
        ("requests known by id", limits::REQUESTS_MAX),
        ("not-after ahead of cluster time", limits::NOT_AFTER_AHEAD_MILLIS / 1_000),
        ("wait ahead of cluster time", limits::WAIT_AHEAD_MILLIS / 3_600_000),
        ("silence of a waiting caller", limits::SESSION_MILLIS / 1_000),
        ("memory of an ended request", limits::MEMORY_MILLIS / 1_000),
        ("licenses", limits::LICENSES_MAX),
        ("bearer tokens", limits::BEARER_TOKENS_MAX),
        ("a node's silence", limits::SILENCE_MILLIS / 1_000),
        ("leases and waits ended by time in one entry", limits::ENDINGS_PER_ENTRY as u64),
        ("commands in one batch", limits::BATCH_COMMANDS_MAX as u64),
        ("bytes of a backup to restore", limits::RESTORE_BYTES_MAX >> 30),
        ("bytes of each part of a backup but the last", limits::RESTORE_PART_BYTES as u64),
        ("quiet after a restore", ledger::time::Ttl::MILLIS_MAX / 3_600_000),
        ("product name", ProductName::LENGTH_MAX as u64),
        ("holder name", HolderName::LENGTH_MAX as u64),
        ("name in a certificate or of a token", pki::Identity::NAME_LENGTH_MAX as u64),
        ("subject: a role and such a name", Subject::LENGTH_MAX as u64),
        ("seats of one license", u64::from(Terms::SEATS_MAX)),
        ("feature text of a license", Feature::TEXT_MAX as u64),
        ("additional terms of a license", Terms::EXTENSIONS_MAX as u64),
        ("a license file of any kind, a clock reset too", license::codec::LENGTH_MAX as u64),
        ("request message", u64::from(doors.request_bytes)),
        ("header list of a request", u64::from(doors.header_bytes)),
        ("connections", u64::from(doors.connections)),
        ("connections of one address", u64::from(doors.connections_per_address)),
        ("calls at once on one connection", u64::from(doors.streams_per_connection)),
        ("calls in flight", u64::from(doors.in_flight)),
        ("PROXY header and TLS handshake", doors.handshake.as_secs()),
        ("from accepted to speaking HTTP", doors.header.as_secs()),
        ("a drain", doors.drain.as_secs()),
        ("health connections", u64::from(doors.health_connections)),
    ] {
        let row = rows().into_iter().find(|row| row[0] == limit);
        let [_, value, ..] = row.unwrap_or_else(|| panic!("LIMITS.md has no row for {limit:?}"));
        let plain = value.replace(',', "");
        let said =
            plain.split(|c: char| !c.is_ascii_digit()).any(|word| word == number.to_string());
        assert!(said, "{limit}: the code says {number}, LIMITS.md {value:?}");
    }
}
