//! A backup: what it is of, in front; behind it the whole ledger as in a snapshot.
//!
//! `TRBK · version (u16) · header length (u32) · header · SHA-256 of these ·
//! snapshot`. The header names the snapshot's length and SHA-256, and the
//! snapshot carries a checksum and its state's hash. How a backup is encrypted
//! is not this crate's matter; what is in it is secret to nobody who may see
//! who holds which seat: packages hold sealed shares, tokens are digests.

use license::product::{ClusterId, WallTime};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::codec::{CodecError, Format};
use crate::ledger::Ledger;
use crate::limits::{EPOCH_MAX, RESTORE_BYTES_MAX, TOKENS_PER_EPOCH};
use crate::time::ClusterTime;

const BACKUP: Format = Format { what: "backup", magic: *b"TRBK", version: 1 };

/// The longest header, in bytes: it holds numbers and one short text.
pub const HEADER_BYTES_MAX: usize = 4_096;

/// Before the header: magic, version, its length.
const FRONT_BYTES: usize = 10;

/// A restore without a clock that helps begins so many epochs after the backup:
/// 2^40 tokens, a thousand a second for 34 years.
const EPOCHS_APART: u64 = 1 << 20;

/// 2020-01-01T00:00:00Z in seconds since 1970.
const EPOCHS_BEGIN: i64 = 1_577_836_800;

/// What a backup is of.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    /// The cluster.
    pub cluster: ClusterId,
    /// Its restore epoch.
    pub epoch: u64,
    /// The last log entry in it.
    pub index: u64,
    /// Cluster time there.
    pub clock: ClusterTime,
    /// The last fencing token given out there.
    pub last_token: u64,
    /// The wall floor there.
    pub wall: Option<WallTime>,
    /// The wall clock of the node that took it.
    pub taken: WallTime,
    /// The build that took it.
    pub version: String,
    /// The hash of the ledger's state.
    pub state_hash: [u8; 32],
    /// Length of the snapshot.
    pub bytes: u64,
    /// SHA-256 of the snapshot.
    pub digest: [u8; 32],
}

/// What stands before the snapshot in a backup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Front {
    /// What the backup is of.
    pub header: Header,
    /// How many bytes stand before the snapshot.
    pub length: usize,
}

/// A backup that was read and checked to the last byte.
#[derive(Debug)]
pub struct Backup {
    /// What it is of.
    pub header: Header,
    /// The ledger in it.
    pub ledger: Ledger,
    /// The same as bytes, to be handed over.
    pub snapshot: Vec<u8>,
}

impl Header {
    /// Describes `snapshot`, which is `ledger`'s, taken at `taken` by a build of `version`.
    ///
    /// `None` for a cluster that is not formed: there is nothing to back up.
    pub fn of(ledger: &Ledger, snapshot: &[u8], taken: WallTime, version: &str) -> Option<Self> {
        Some(Self {
            cluster: ledger.charter()?.cluster,
            epoch: ledger.epoch(),
            index: ledger.applied(),
            clock: ledger.clock(),
            last_token: ledger.last_token(),
            wall: ledger.wall(),
            taken,
            version: version.to_owned(),
            state_hash: ledger.hash(),
            bytes: snapshot.len() as u64,
            digest: Sha256::digest(snapshot).into(),
        })
    }

    /// What stands before the snapshot in a backup.
    pub fn encode(&self) -> Vec<u8> {
        let file = BACKUP.encode(self);
        let (front, header) = file.split_at(FRONT_BYTES - 4);
        let length = u32::try_from(header.len()).unwrap_or(u32::MAX);
        let mut bytes = [front, &length.to_le_bytes(), header].concat();
        let checksum: [u8; 32] = Sha256::digest(&bytes).into();
        bytes.extend_from_slice(&checksum);
        bytes
    }
}

impl Front {
    /// Reads what stands before the snapshot; `begins` may go on behind it.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with it.
    pub fn decode(begins: &[u8]) -> Result<Self, CodecError> {
        let cut_short = || BACKUP.damaged("it is cut short".to_owned());
        let rest = BACKUP.body(begins)?;
        let (length, rest) = rest.split_first_chunk().ok_or_else(cut_short)?;
        let length = u32::from_le_bytes(*length) as usize;
        if length > HEADER_BYTES_MAX {
            return Err(BACKUP.damaged(format!("its header claims {length} bytes")));
        }
        let header = rest.get(..length).ok_or_else(cut_short)?;
        let checksum = rest.get(length..length + 32).ok_or_else(cut_short)?;
        if Sha256::digest(&begins[..FRONT_BYTES + length])[..] != *checksum {
            return Err(BACKUP.damaged("the checksum of its header does not match".to_owned()));
        }
        let header: Header = BACKUP.decode(header)?;
        if header.bytes > RESTORE_BYTES_MAX {
            let (found, limit) = (header.bytes as usize, RESTORE_BYTES_MAX as usize);
            return Err(CodecError::TooLarge { what: BACKUP.what, found, limit, unit: "bytes" });
        }
        Ok(Self { header, length: FRONT_BYTES + length + 32 })
    }
}

impl Backup {
    /// Reads a whole backup, strictly: every checksum, the state's hash and its
    /// invariants must hold, and the header must say of the ledger what it is.
    ///
    /// # Errors
    /// [`CodecError`] says what is wrong with it.
    pub fn decode(mut file: Vec<u8>) -> Result<Self, CodecError> {
        let Front { header, length } = Front::decode(&file)?;
        let snapshot = file.split_off(length);
        drop(file);
        let found = snapshot.len() as u64;
        if found != header.bytes {
            let bytes = header.bytes;
            return Err(BACKUP.damaged(format!("it holds {found} bytes of a ledger of {bytes}")));
        }
        if Sha256::digest(&snapshot)[..] != header.digest {
            return Err(BACKUP.damaged("the checksum of its ledger does not match".to_owned()));
        }
        let ledger = Ledger::restore(&snapshot)?;
        let Header { taken, version, .. } = &header;
        if Header::of(&ledger, &snapshot, *taken, version).as_ref() != Some(&header) {
            return Err(BACKUP.damaged("its header is of another ledger".to_owned()));
        }
        Ok(Self { header, ledger, snapshot })
    }
}

impl Header {
    /// The epoch of a restore: seconds since 2020 by the wall clock, so that two
    /// restores of one backup are of two epochs though neither knows of the other.
    ///
    /// A clock that is behind the backup is wrong. Then the epoch is above all
    /// that the backup can know of, by more than was granted since, and `dice`
    /// (any random number) tells two such restores apart.
    pub fn next_epoch(&self, wall: WallTime, dice: u64) -> u64 {
        let seconds = seconds(wall);
        if seconds > self.known_epoch() {
            return seconds;
        }
        self.known_epoch().saturating_add(EPOCHS_APART + dice % EPOCHS_APART)
    }

    /// Whether the backup was taken within this very second: a restore by a right
    /// clock then waits for the next, so that it is not taken for a clock that
    /// stands still.
    pub fn is_of_this_second(&self, wall: WallTime) -> bool {
        seconds(wall) == seconds(self.taken)
    }

    /// The lowest epoch that an operator may choose: its tokens are above the
    /// backup's by more than any cluster grants between backup and loss.
    pub fn lowest_epoch(&self) -> u64 {
        self.tokens_epoch().saturating_add(EPOCHS_APART)
    }

    /// The highest epoch that the backup's tokens are of.
    fn tokens_epoch(&self) -> u64 {
        self.epoch.max(self.last_token / TOKENS_PER_EPOCH)
    }

    /// The highest epoch of any restore before the backup was taken, or of one
    /// at that moment. The clock that it was taken by may be wrong as well: it
    /// must not use up the epochs there are.
    fn known_epoch(&self) -> u64 {
        self.tokens_epoch().max(seconds(self.taken).min(EPOCH_MAX / 2))
    }
}

/// Seconds since 2020.
fn seconds(wall: WallTime) -> u64 {
    let since = i128::from(wall.0.div_euclid(1_000)) - i128::from(EPOCHS_BEGIN);
    u64::try_from(since).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn second(seconds: i64) -> WallTime {
        WallTime((EPOCHS_BEGIN + seconds) * 1_000)
    }

    /// Of a backup taken at that second since 2020.
    fn header(epoch: u64, last_token: u64, taken: i64) -> Header {
        Header {
            cluster: ClusterId([7; 16]),
            epoch,
            index: 1,
            clock: ClusterTime(1),
            last_token,
            wall: None,
            taken: second(taken),
            version: "0.1.0".to_owned(),
            state_hash: [0; 32],
            bytes: 1,
            digest: [0; 32],
        }
    }

    #[test]
    fn epochs_rise_whatever_the_clock_says() {
        const DAY: i64 = 200_000_000;
        let first = header(0, 5_000_000, DAY);
        assert_eq!(first.next_epoch(second(DAY + 1), 9), 200_000_001);
        // Restored by the very clock that it was taken by, which has stood still.
        assert!(first.next_epoch(second(DAY), 0) >= 200_000_000 + EPOCHS_APART);
        // Ten years behind, and before there was a calendar.
        for wrong in [WallTime(0), WallTime(i64::MIN)] {
            assert_eq!(first.next_epoch(wrong, 7), 200_000_000 + EPOCHS_APART + 7);
        }
        let again = header(200_000_000, 200_000_000 << 20, DAY);
        assert_eq!(again.next_epoch(second(DAY + 1), 9), 200_000_001);
        assert!(first.next_epoch(WallTime(i64::MAX), 0) > EPOCH_MAX, "which is refused");
        // A clock that was far ahead when the backup was taken leaves epochs to be used.
        let ahead = Header { taken: WallTime(i64::MAX), ..first };
        assert!(ahead.next_epoch(second(DAY), u64::MAX) < EPOCH_MAX);
    }

    /// A cluster that was lost right after its backup, with clocks that are right.
    #[test]
    fn a_restore_within_the_second_of_the_backup_waits_for_the_next() {
        let backup = header(0, 0, 200_000_000);
        assert!(backup.is_of_this_second(WallTime(second(200_000_000).0 + 999)));
        assert!(!backup.is_of_this_second(second(200_000_001)));
        assert_eq!(backup.next_epoch(second(200_000_001), 5), 200_000_001);
    }

    /// Both under a clock that stands at the same wrong time.
    #[test]
    fn two_restores_of_one_backup_are_told_apart_without_a_clock() {
        let backup = header(0, 0, 200_000_000);
        let epochs = [1, 2].map(|dice| backup.next_epoch(WallTime(0), dice));
        assert_ne!(epochs[0], epochs[1]);
        assert!(epochs.iter().all(|epoch| *epoch < EPOCH_MAX), "tokens stay below 2^53");
    }

    #[test]
    fn an_epoch_that_an_operator_chooses_is_above_the_tokens_given_out() {
        assert_eq!(header(0, 0, 0).lowest_epoch(), EPOCHS_APART);
        assert_eq!(header(3, 50 << 20, 0).lowest_epoch(), 50 + EPOCHS_APART);
        assert_eq!(header(60, 50 << 20, 0).lowest_epoch(), 60 + EPOCHS_APART);
    }
}
