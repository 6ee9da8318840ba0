//! Writing files: secrets stay their owner's, nothing is overwritten unasked.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::failure::Failure;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Whoever the umask lets.
    Shared,
    /// Its owner alone (0600).
    Secret,
}

impl Access {
    fn mode(self) -> u32 {
        match self {
            Self::Shared => 0o666,
            Self::Secret => 0o600,
        }
    }
}

/// What becomes of a file that is already there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// It stays, and the command is refused.
    Keep,
    /// It is replaced in one step: readers see the old file or the new one.
    Replace,
}

impl Existing {
    /// As `--force` says.
    pub fn forced(force: bool) -> Self {
        if force { Self::Replace } else { Self::Keep }
    }
}

/// Writes a whole file and waits until it is on the disk.
pub fn write(
    what: &str,
    path: &Path,
    bytes: &[u8],
    access: Access,
    existing: Existing,
) -> Result<(), Failure> {
    let result = match existing {
        Existing::Keep => create(path, bytes, access),
        Existing::Replace => replace(path, bytes, access),
    };
    result.map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => already_there(what, path),
        _ => Failure::writing(what, path, &error),
    })
}

/// Refuses before work is done for nothing. [`write`] still has the last word.
pub fn must_be_new(what: &str, path: &Path, existing: Existing) -> Result<(), Failure> {
    if existing == Existing::Keep && path.symlink_metadata().is_ok() {
        return Err(already_there(what, path));
    }
    Ok(())
}

/// Makes a directory, and those above it, that only the owner may enter.
pub fn private_dir(what: &str, path: &Path) -> Result<(), Failure> {
    use std::os::unix::fs::DirBuilderExt;
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .map_err(|error| Failure::writing(what, path, &error))
}

/// Reads a whole file of at most `bytes_max`.
pub fn read(what: &str, path: &Path, bytes_max: u64) -> Result<Vec<u8>, Failure> {
    use std::io::Read;
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(bytes_max + 1).read_to_end(&mut bytes))
        .map_err(|error| Failure::reading(what, path, &error))?;
    if bytes.len() as u64 > bytes_max {
        return Err(Failure::usage(format!(
            "{} is larger than {bytes_max} bytes; it is not a {what}",
            path.display()
        )));
    }
    Ok(bytes)
}

fn already_there(what: &str, path: &Path) -> Failure {
    Failure::usage(format!("the {what} {} is already there and stays as it is", path.display()))
        .next("name another place, or add --force to replace it")
}

fn create(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let mut file =
        OpenOptions::new().write(true).create_new(true).mode(access.mode()).open(path)?;
    file.write_all(bytes)?;
    file.sync_all()
}

fn replace(path: &Path, bytes: &[u8], access: Access) -> io::Result<()> {
    let name = path.file_name().ok_or(io::ErrorKind::IsADirectory)?;
    let mut draft_name = name.to_owned();
    draft_name.push(format!(".{}.new", std::process::id()));
    let draft: PathBuf = path.with_file_name(draft_name);
    let written = create(&draft, bytes, access).and_then(|()| fs::rename(&draft, path));
    if written.is_err() {
        // The first error is the one to tell.
        let _ = fs::remove_file(&draft);
    }
    written
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::exit::Exit;

    #[test]
    fn what_is_there_stays_unless_forced() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("key");
        write("key", &path, b"one", Access::Secret, Existing::Keep).expect("it is new");
        let refused = write("key", &path, b"two", Access::Secret, Existing::Keep);
        assert_eq!(refused.expect_err("it is there").exit(), Exit::Usage);
        assert_eq!(fs::read(&path).expect("the file"), b"one");
        write("key", &path, b"two", Access::Secret, Existing::Replace).expect("forced");
        assert_eq!(fs::read(&path).expect("the file"), b"two");
        let mode = fs::metadata(&path).expect("the file").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).expect("the directory").count(), 1, "no draft is left");
    }

    #[test]
    fn a_file_that_is_too_large_is_not_read() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("package");
        fs::write(&path, [0; 11]).expect("a file");
        assert!(read("package", &path, 10).is_err());
        assert_eq!(read("package", &path, 11).expect("small enough").len(), 11);
    }
}
