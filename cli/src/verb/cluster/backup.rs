//! `trine cluster backup`: the ledger in a file, sealed to the operator.

use std::fs::{self, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use ledger::backup::{Backup as Read, Front, HEADER_BYTES_MAX, Header};
use ledger::limits::RESTORE_BYTES_MAX;
use serde::Serialize;
use sha2::{Digest, Sha256};
use trine_client::Operator;

use super::Call;
use crate::context::Target;
use crate::dates::{show_date, show_millis};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::files::{self, Existing};
use crate::online::Connection;
use crate::passphrase::{self, Typing};
use crate::report::hex;
use crate::sealed::{self, Key, Lock};

/// Every byte of a backup, and a little more.
const FILE_BYTES_MAX: u64 = RESTORE_BYTES_MAX + (HEADER_BYTES_MAX as u64) + 64;

/// How long the leader may take to write its ledger down.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// How long nothing may come of a backup that is on its way.
const CHUNK_MAX: Duration = Duration::from_secs(30);

/// Back the cluster's ledger up into a file, sealed to a key or a passphrase
///
/// The backup holds licenses, who holds which seat, who waits, bearer tokens as
/// digests, and whom the cluster trusts. Shares are in it as the vendor sealed
/// them, each to one node's container, and no private key is: keep every node's
/// container file, certificate and key, the cluster CA and the vendor's license
/// files besides. A live cluster goes on meanwhile.
///
/// With --verify it reads a backup instead and checks every byte of it, offline.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  trine cluster backup-key -o backup.key > backup.pub
  trine cluster backup today.backup --recipient backup.pub
  trine cluster backup --verify today.backup --identity backup.key
  trine cluster backup today.backup --passphrase-file secret.txt")]
pub(super) struct Backup {
    /// The backup
    file: PathBuf,
    /// Seal it to this recipient: age1…, or a file of them. May be repeated
    #[arg(long, value_name = "AGE1|FILE", conflicts_with_all = ["passphrase", "passphrase_file"])]
    recipient: Vec<String>,
    /// Replace a backup that is there
    #[arg(long)]
    force: bool,
    /// Check a backup instead, offline
    #[arg(long, conflicts_with_all = ["recipient", "force"])]
    verify: bool,
    #[command(flatten)]
    opening: Opening,
}

/// How a sealed backup is opened.
#[derive(Debug, Args)]
pub(super) struct Opening {
    /// The key that opens it, which `trine cluster backup-key` made
    #[arg(long, value_name = "FILE", conflicts_with_all = ["passphrase", "passphrase_file"])]
    identity: Option<PathBuf>,
    /// It is sealed with a passphrase, to be asked for [env: TRINE_BACKUP_PASSPHRASE]
    #[arg(long)]
    passphrase: bool,
    /// It is sealed with the passphrase in this file
    #[arg(long, value_name = "FILE")]
    passphrase_file: Option<PathBuf>,
}

/// `trine cluster backup --json`
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// The file.
    file: PathBuf,
    /// 32 hexadecimal digits.
    cluster: String,
    /// The restore epoch that it is of.
    epoch: u64,
    /// The last log entry in it.
    index: u64,
    /// Cluster time there.
    cluster_time_ms: u64,
    /// When it was taken, by that node's clock, RFC 3339.
    taken: String,
    /// The build that took it.
    version: String,
    /// The ledger's length.
    bytes: u64,
    /// The ledger's SHA-256, hexadecimal.
    sha256: String,
    /// The hash of the ledger's state.
    state_hash: String,
    /// What is in it; null until it was opened with --verify.
    contents: Option<Contents>,
}

/// What a backup holds.
#[derive(Debug, Serialize)]
pub(super) struct Contents {
    /// Licenses.
    licenses: usize,
    /// Seats held.
    seats: u64,
    /// Requests in queues.
    waiting: usize,
    /// Bearer tokens.
    tokens: usize,
}

impl Opening {
    /// Reads and checks a whole backup.
    pub(super) fn read(&self, file: &Path) -> Result<Read, Failure> {
        let key = match &self.identity {
            Some(path) => Key::Identity(path.clone()),
            None => Key::Passphrase(self.find_passphrase(Typing::Once)?),
        };
        let bytes = key.open(file, FILE_BYTES_MAX)?;
        Read::decode(bytes).map_err(|error| {
            let what = format!("{} opens and does not hold: {error}", file.display());
            Failure::refused("BACKUP_REFUSED", what)
        })
    }

    fn find_passphrase(&self, typing: Typing) -> Result<zeroize::Zeroizing<String>, Failure> {
        let file = self.passphrase_file.as_deref();
        let is_set = crate::context::environment(sealed::PASSPHRASE).is_some();
        if !self.passphrase && file.is_none() && !is_set {
            return Err(Failure::usage("it is not said how the backup is sealed").next(
                "give --identity FILE or --passphrase; to take one, --recipient or --passphrase",
            ));
        }
        passphrase::find_in(sealed::PASSPHRASE, file, typing)
    }
}

impl Backup {
    /// Whether nobody is to be asked.
    pub(super) fn is_offline(&self) -> bool {
        self.verify
    }

    /// Checks a backup to the last byte.
    pub(super) fn check(self, call: &Call) -> Result<Exit, Failure> {
        let read = self.opening.read(&self.file)?;
        let contents = Contents {
            licenses: read.ledger.licenses().len(),
            seats: read.ledger.live(),
            waiting: read.ledger.waiters(None).len(),
            tokens: read.ledger.bearer_tokens().len(),
        };
        let report = Report::of(&read.header, self.file, Some(contents));
        call.console.result(&report, |page| {
            page.line("The backup holds: every checksum, the state's hash and its laws");
            report.show(page);
        })?;
        Ok(Exit::Done)
    }

    pub(super) async fn run(self, call: &Call, target: Target) -> Result<Exit, Failure> {
        let existing = Existing::forced(self.force);
        files::must_be_new("backup", &self.file, existing)?;
        let lock = self.lock()?;
        let opens = match &lock {
            Lock::Passphrase(_) => "--passphrase",
            Lock::Recipients(_) => "--identity KEY",
        };
        let connection = Connection::patient(target, ANSWER_MAX).await?;
        let part = Unfinished::create(&self.file)?;
        let header = match part.fill(&lock, &connection, call).await {
            Ok(header) => header,
            Err(failure) => {
                part.discard();
                return Err(failure);
            }
        };
        part.keep(existing)?;
        let report = Report::of(&header, self.file, None);
        call.console.result(&report, |page| {
            page.line("The cluster is backed up");
            report.show(page);
            page.line(format_args!(
                "Next: trine cluster backup --verify {} {opens}",
                report.file.display()
            ));
        })?;
        Ok(Exit::Done)
    }

    fn lock(&self) -> Result<Lock, Failure> {
        if self.opening.identity.is_some() {
            return Err(Failure::usage("a backup is sealed to a recipient, and opened with a key")
                .next("give --recipient, which `trine cluster backup-key` printed"));
        }
        let recipients = sealed::recipients(&self.recipient)?;
        if !recipients.is_empty() {
            return Ok(Lock::Recipients(recipients));
        }
        self.opening.find_passphrase(Typing::Twice).map(Lock::Passphrase)
    }
}

impl Report {
    fn of(header: &Header, file: PathBuf, contents: Option<Contents>) -> Self {
        Self {
            file,
            cluster: header.cluster.to_string(),
            epoch: header.epoch,
            index: header.index,
            cluster_time_ms: header.clock.0,
            taken: show_date(header.taken),
            version: header.version.clone(),
            bytes: header.bytes,
            sha256: hex(&header.digest),
            state_hash: hex(&header.state_hash),
            contents,
        }
    }

    fn show(&self, page: &mut crate::console::Page) {
        page.facts(&[
            ("file", self.file.display().to_string()),
            ("cluster", self.cluster.clone()),
            ("taken", format!("{} by trine {}", self.taken, self.version)),
            ("up to", format!("log entry {} of epoch {}", self.index, self.epoch)),
            ("cluster time", show_millis(self.cluster_time_ms)),
            ("ledger", format!("{} bytes, SHA-256 {}", self.bytes, self.sha256)),
        ]);
        if let Some(Contents { licenses, seats, waiting, tokens }) = &self.contents {
            page.facts(&[
                ("licenses", licenses.to_string()),
                ("seats held", seats.to_string()),
                ("waiting", waiting.to_string()),
                ("bearer tokens", tokens.to_string()),
            ]);
        }
    }
}

/// A backup on its way to its file, under another name until it is whole.
struct Unfinished<'a> {
    whole: &'a Path,
    part: PathBuf,
    file: File,
}

impl<'a> Unfinished<'a> {
    fn create(whole: &'a Path) -> Result<Self, Failure> {
        let mut name = whole.as_os_str().to_owned();
        name.push(".part");
        let part = PathBuf::from(name);
        // What an interrupted backup left is of no use.
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&part)
            .map_err(|error| Failure::writing("backup", &part, &error))?;
        Ok(Self { whole, part, file })
    }

    /// Streams the backup through, sealing and checking it on the way.
    async fn fill(
        &self,
        lock: &Lock,
        connection: &Connection,
        call: &Call,
    ) -> Result<Header, Failure> {
        let unwritten = |error: std::io::Error| Failure::writing("backup", &self.part, &error);
        let operator: Operator = connection.operator();
        let mut chunks = operator.backup().await.map_err(|error| connection.failed(&error))?;
        let mut output = lock.seal(BufWriter::new(&self.file))?;
        let mut front: Option<Front> = None;
        let (mut checksum, mut arrived) = (Sha256::new(), 0_u64);
        loop {
            let next = tokio::time::timeout(CHUNK_MAX, chunks.message()).await;
            let next = next.map_err(|_| broken_off("nothing came for too long"))?;
            let Some(chunk) = next.map_err(|status| broken_off(status.message()))? else { break };
            output.write_all(&chunk.bytes).map_err(unwritten)?;
            let Some(front) = &front else {
                front = Some(
                    Front::decode(&chunk.bytes).map_err(|error| broken_off(&error.to_string()))?,
                );
                continue;
            };
            checksum.update(&chunk.bytes);
            tell_progress(call, arrived, chunk.bytes.len() as u64, front.header.bytes);
            arrived += chunk.bytes.len() as u64;
        }
        let header = front.map(|front| front.header).ok_or_else(|| broken_off("nothing came"))?;
        if arrived != header.bytes || checksum.finalize()[..] != header.digest {
            return Err(broken_off("what came is not what was announced"));
        }
        let mut buffer = output.finish().map_err(unwritten)?;
        buffer.flush().map_err(unwritten)?;
        drop(buffer);
        self.file.sync_all().map_err(unwritten)?;
        Ok(header)
    }

    fn keep(self, existing: Existing) -> Result<(), Failure> {
        let unwritten = |error: std::io::Error| Failure::writing("backup", self.whole, &error);
        files::must_be_new("backup", self.whole, existing)?;
        fs::rename(&self.part, self.whole).map_err(unwritten)?;
        let directory = self.whole.parent().filter(|parent| !parent.as_os_str().is_empty());
        let directory = File::open(directory.unwrap_or(Path::new(".")));
        directory.and_then(|directory| directory.sync_all()).map_err(unwritten)
    }

    fn discard(self) {
        // The first failure is the one to tell.
        let _ = fs::remove_file(&self.part);
    }
}

/// What a large backup tells a person on the way.
pub(super) fn tell_progress(call: &Call, before: u64, more: u64, of: u64) {
    const STEP: u64 = 64 << 20;
    if before / STEP != (before + more) / STEP {
        call.console.progress(format_args!("{} of {} MiB", (before + more) >> 20, of >> 20));
    }
}

fn broken_off(why: &str) -> Failure {
    Failure::unreachable("NO_ANSWER", format!("the backup broke off: {why}"))
        .next("nothing was written; try again, and see `trine cluster status`")
}
