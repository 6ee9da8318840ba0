//! Plays the stories in `tests/stories/*.txt` and compares what was answered.
//!
//! A line is `[TIME] VERB ARGS => ANSWER`; lines below it that begin with `|`
//! are what the entry settled besides. Set `UPDATE=1` to write the answers
//! anew, then read the difference. Words of the script: see `Teller::tell`.

mod support;
mod teller;

use std::fs;
use std::path::Path;

use teller::Teller;

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
