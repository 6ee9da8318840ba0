//! The certificates that lie in a CA's directory: those in use, and those that
//! a renewal replaced, which are kept so that they can be revoked by name.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use license::product::WallTime;
use pki::{Pem, Summary};
use serde::Serialize;

use super::PEM_BYTES_MAX;
use crate::dates::show_date;
use crate::failure::Failure;
use crate::files::{self, Access, Existing};

/// Where a renewal puts the certificate it replaces. Never its key.
const SUPERSEDED: &str = "superseded";

/// Room for more revoked certificates than the cluster remembers.
const REVOKED_BYTES_MAX: u64 = 1 << 20;

/// The file with the fingerprints of those that were revoked from this
/// directory, one in a line.
const REVOKED: &str = "revoked";

const DAY_MILLIS: i64 = 24 * 60 * 60 * 1_000;

/// One certificate file.
#[derive(Debug, Clone)]
pub(super) struct Filed {
    /// What its files are called, without the ending.
    pub(super) name: String,
    pub(super) path: PathBuf,
    pub(super) certificate: Summary,
    /// Whether a renewal replaced it.
    pub(super) superseded: bool,
    /// Whether it was revoked from this directory.
    pub(super) revoked: bool,
}

/// One row of `trine pki list`.
#[derive(Debug, Serialize)]
pub(super) struct Row {
    /// What its files are called, without the ending.
    pub(super) name: String,
    /// `trine://ROLE/NAME`, or `authority`, or `container`.
    pub(super) identity: String,
    /// RFC 3339.
    pub(super) expires: String,
    /// Whole days until then; negative when it is over.
    pub(super) days_left: i64,
    /// Whether a renewal replaced it.
    pub(super) superseded: bool,
    /// Whether it was revoked from this directory; what the cluster refuses is in
    /// `trine pki revoked`.
    pub(super) revoked: bool,
    /// SHA-256 of the certificate (DER).
    pub(super) fingerprint: String,
    /// The file.
    pub(super) certificate: PathBuf,
}

impl Filed {
    /// Its last second.
    pub(super) fn expires(&self) -> WallTime {
        let seconds = i64::try_from(self.certificate.expires.as_secs()).unwrap_or(i64::MAX);
        WallTime(seconds.saturating_mul(1_000))
    }

    pub(super) fn identity(&self) -> String {
        match &self.certificate.identity {
            Ok(identity) => identity.to_string(),
            Err(_) if self.certificate.is_authority => "authority".to_owned(),
            Err(_) if self.name.ends_with(".container") => "container".to_owned(),
            Err(_) => "nobody".to_owned(),
        }
    }

    pub(super) fn row(&self, now: WallTime) -> Row {
        Row {
            name: self.name.clone(),
            identity: self.identity(),
            expires: show_date(self.expires()),
            days_left: self.expires().0.saturating_sub(now.0).div_euclid(DAY_MILLIS),
            superseded: self.superseded,
            revoked: self.revoked,
            fingerprint: self.certificate.fingerprint.to_string(),
            certificate: self.path.clone(),
        }
    }
}

/// Reads the certificate in one file.
pub(super) fn read(path: &Path, name: String, superseded: bool) -> Result<Filed, Failure> {
    let bytes = files::read("certificate", path, PEM_BYTES_MAX)?;
    let shown = path.to_string_lossy();
    let certificate = Summary::read(Pem::new(&shown, &bytes)).map_err(Failure::usage)?;
    Ok(Filed { name, path: path.to_owned(), certificate, superseded, revoked: false })
}

/// All certificates in the CA's directory, by name; those that were replaced behind.
pub(super) fn all(dir: &Path) -> Result<Vec<Filed>, Failure> {
    let mut found = Vec::new();
    let revoked = revoked(dir)?;
    for (folder, superseded) in [(dir.to_owned(), false), (dir.join(SUPERSEDED), true)] {
        if superseded && !folder.exists() {
            continue;
        }
        let unreadable = |error| Failure::reading("CA directory", &folder, &error);
        let mut paths = Vec::new();
        for entry in std::fs::read_dir(&folder).map_err(unreadable)? {
            paths.push(entry.map_err(unreadable)?.path());
        }
        paths.retain(|path| path.extension().is_some_and(|ending| ending == "pem"));
        paths.sort();
        for path in paths {
            let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            // NAME.FINGERPRINT, where it was replaced.
            let name = match stem.rsplit_once('.') {
                Some((name, _)) if superseded => name.to_owned(),
                _ => stem,
            };
            let filed = read(&path, name, superseded)?;
            let revoked = revoked.contains(&filed.certificate.fingerprint.to_string());
            found.push(Filed { revoked, ..filed });
        }
    }
    Ok(found)
}

/// The fingerprints of those that were revoked from this directory.
pub(super) fn revoked(dir: &Path) -> Result<BTreeSet<String>, Failure> {
    let path = dir.join(REVOKED);
    if !path.exists() {
        return Ok(BTreeSet::new());
    }
    let bytes = files::read("list of revoked certificates", &path, REVOKED_BYTES_MAX)?;
    Ok(String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect())
}

/// Notes that the cluster refuses this one now.
pub(super) fn note_revoked(dir: &Path, filed: &Filed) -> Result<(), Failure> {
    let mut all = revoked(dir)?;
    if !all.insert(filed.certificate.fingerprint.to_string()) {
        return Ok(());
    }
    let lines: String = all.iter().map(|one| format!("{one}\n")).collect();
    let path = dir.join(REVOKED);
    let what = "list of revoked certificates";
    files::write(what, &path, lines.as_bytes(), Access::Shared, Existing::Replace)
}

/// Keeps a certificate that is about to be replaced.
pub(super) fn keep(dir: &Path, old: &Filed) -> Result<(), Failure> {
    let folder = dir.join(SUPERSEDED);
    files::private_dir("directory", &folder)?;
    let fingerprint = old.certificate.fingerprint.to_string();
    let path = folder.join(format!("{}.{}.pem", old.name, &fingerprint[..16]));
    let bytes = files::read("certificate", &old.path, PEM_BYTES_MAX)?;
    files::write("certificate", &path, &bytes, Access::Shared, Existing::Replace)
}
