//! `trine usage export`: the history in a file, for an auditor.

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::source;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::report::hex;
use crate::usage::file::Writer;
use crate::usage::source::Dates;
use crate::verb::Call;

/// Write the whole history to a file, to be verified without the cluster
///
/// The file holds the records as they were written and the hash they come to.
/// Compare that hash with `trine usage verify` on the cluster by another way.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine usage export history.trine
  trine usage verify --file history.trine")]
pub(super) struct Export {
    /// The file to write, which must not be there yet
    file: PathBuf,
}

/// `trine usage export --json`
#[derive(Debug, Serialize)]
struct Exported {
    /// The file.
    file: String,
    /// Pages in it.
    pages: u64,
    /// SHA-256 of the last page.
    head: String,
}

impl Export {
    pub(super) async fn run(self, call: &Call) -> Result<Exit, Failure> {
        let source = source(call, None).await?;
        let ends = source.told(Dates::default()).await?.ends;
        let mut writer = Writer::create(&self.file, &ends)?;
        let written = source.each(ends.first..ends.pages, |page| writer.page(page)).await;
        if let Err(failure) = written.and_then(|()| writer.finish()) {
            // Half a history is none; the first error is the one to tell.
            let _ = std::fs::remove_file(&self.file);
            return Err(failure);
        }
        let exported = Exported {
            file: self.file.display().to_string(),
            pages: ends.pages - ends.first,
            head: hex(&ends.head),
        };
        call.console.result(&exported, |page| {
            page.line(format_args!("{} pages in {}", exported.pages, exported.file));
            page.line(format_args!("head {}", exported.head));
        })?;
        Ok(Exit::Done)
    }
}
