//! A history in a file: its ends as the ledger told them, then its pages.
//!
//! `TRINEUSG`, then the ends and every page, each behind its length (u32,
//! little-endian). The chain of the pages is its checksum.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use ledger::usage::audit::Ends;

use crate::failure::Failure;

/// How a file of pages begins.
pub const MAGIC: &[u8; 8] = b"TRINEUSG";
/// No page is longer: 256 records of names at their limits.
const PAGE_BYTES_MAX: u32 = 1 << 20;
/// The ends name every live seat.
const ENDS_BYTES_MAX: u32 = 1 << 30;

/// Writes a file of pages.
pub struct Writer {
    path: PathBuf,
    out: BufWriter<File>,
}

impl Writer {
    /// Begins a file, which must not be there yet.
    pub fn create(path: &Path, ends: &Ends) -> Result<Self, Failure> {
        let file = File::create_new(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => Failure::usage(format!(
                "the history file {} is already there and stays as it is",
                path.display()
            ))
            .next("name another place"),
            _ => Failure::writing("history file", path, &error),
        })?;
        let mut writer = Self { path: path.to_owned(), out: BufWriter::new(file) };
        writer.put(MAGIC)?;
        writer.sized(&ends.encode())?;
        Ok(writer)
    }

    /// Adds the next page.
    pub fn page(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sized(bytes)
    }

    /// Waits until all of it is on the disk.
    pub fn finish(self) -> Result<(), Failure> {
        let path = self.path;
        let synced =
            self.out.into_inner().map_err(io::Error::from).and_then(|file| file.sync_all());
        synced.map_err(|error| Failure::writing("history file", &path, &error))
    }

    fn sized(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let length = u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        self.put(&length.to_le_bytes())?;
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        let put = self.out.write_all(bytes);
        put.map_err(|error| Failure::writing("history file", &self.path, &error))
    }
}

/// Reads a file of pages.
pub struct Reader {
    path: PathBuf,
    input: BufReader<File>,
    /// What it must come to.
    pub ends: Ends,
}

impl Reader {
    /// Opens a file and reads its ends.
    pub fn open(path: &Path) -> Result<Self, Failure> {
        let file =
            File::open(path).map_err(|error| Failure::reading("history file", path, &error))?;
        let mut input = BufReader::new(file);
        let mut magic = [0; 8];
        let is_ours = input.read_exact(&mut magic).is_ok() && magic == *MAGIC;
        if !is_ours {
            return Err(Failure::usage(format!("{} is not a history file", path.display()))
                .next("write one with `trine usage export FILE`"));
        }
        let ends = sized(&mut input, ENDS_BYTES_MAX).map_err(|error| damaged(path, &error))?;
        let ends = Ends::decode(&ends.unwrap_or_default())
            .map_err(|error| Failure::unsound("ALTERED", format!("{}: {error}", path.display())))?;
        Ok(Self { path: path.to_owned(), input, ends })
    }

    /// The next page; `None` behind the last.
    pub fn page(&mut self) -> Result<Option<Vec<u8>>, Failure> {
        sized(&mut self.input, PAGE_BYTES_MAX).map_err(|error| damaged(&self.path, &error))
    }
}

fn damaged(path: &Path, error: &io::Error) -> Failure {
    Failure::unsound("ALTERED", format!("the history file {} is damaged: {error}", path.display()))
}

fn sized(input: &mut impl Read, bytes_max: u32) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    if input.read(&mut length[..1])? == 0 {
        return Ok(None);
    }
    input.read_exact(&mut length[1..])?;
    let length = u32::from_le_bytes(length);
    if length > bytes_max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes at once")));
    }
    let mut bytes = Vec::new();
    input.take(length.into()).read_to_end(&mut bytes)?;
    if bytes.len() as u64 != u64::from(length) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(Some(bytes))
}
