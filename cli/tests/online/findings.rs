//! What `trine cluster doctor` finds, for stories about anything.

use serde_json::Value;

use super::caller::{Caller, eventually};

/// The exit code, and what was found: code and whose. A disk that a busy
/// machine makes slow is no story.
pub(crate) fn examined(caller: &Caller, more: &[&str]) -> (i32, Vec<(String, String)>) {
    // Whoever runs the tests may have little room.
    let free: &[&str] = if more.contains(&"--disk-free") { &[] } else { &["--disk-free", "1"] };
    let output = caller.run(&[&["--json", "cluster", "doctor"], free, more].concat());
    let stderr = String::from_utf8_lossy(&output.stderr);
    let report: Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    let all = report["findings"].as_array().expect("findings");
    let text = |finding: &Value, key: &str| finding[key].as_str().expect("text").to_owned();
    let found = all.iter().map(|finding| (text(finding, "code"), text(finding, "about")));
    let found: Vec<_> = found.filter(|(code, _)| code != "DISK_SLOW").collect();
    let code = output.status.code().expect("it ends by itself");
    let expected = match report["verdict"].as_str() {
        Some("healthy") => 0,
        Some("warnings" | "not_known_yet") => 7,
        _ => 8,
    };
    assert_eq!(code, expected, "{report}");
    (if found.is_empty() { 0 } else { code }, found)
}

/// Until the doctor finds exactly this: nodes take a moment to be missed.
#[track_caller]
pub(crate) fn until_found(caller: &Caller, more: &[&str], exit: i32, expected: &[(&str, &str)]) {
    let mut last = None;
    let seen = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        eventually("the doctor finds it", || {
            let (code, found) = examined(caller, more);
            let so = code == exit
                && expected.len() == found.len()
                && expected.iter().all(|(c, a)| found.contains(&((*c).into(), (*a).into())));
            last = Some((code, found));
            so.then_some(())
        });
    }));
    assert!(seen.is_ok(), "{expected:?} expected, last seen {last:?}");
}
