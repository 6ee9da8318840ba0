//! Every stated limit of the ledger, in one table (S26).
//!
//! | limit | value | beyond it |
//! |---|---|---|
//! | live and waiting requests | 2,000,000 | `LedgerFull` |
//! | remembered, waiting and live requests | 4,000,000 | `LedgerFull` |
//! | live and waiting requests of one subject | 100,000 | `TooManySeats` |
//! | requests waiting for one product | 10,000 | `QueueFull` |
//! | licenses | 64 | `LedgerFull` |
//! | bearer tokens | 10,000 | `LedgerFull` |
//! | vendors trusted | 16 | `TrustRefusal` |
//! | cluster CAs trusted | 4 of 4,096 bytes | `TrustRefusal` |
//! | nodes that are gone | 1,000 | `LedgerFull` |
//! | revoked certificates | 10,000 | one that expired long ago is forgotten; without one `LedgerFull` |
//! | memory of a revoked certificate | 30 days after it expired | it may be forgotten when there is no room |
//! | not-after ahead of the clock | 60 s | `TooFarAhead` |
//! | wait ahead of the clock | 24 h | `TooFarAhead` |
//! | a waiting caller's silence | 15 s | `Withdrawn` |
//! | memory after an ending | 60 s, or the not-after if later | the id may be used again |
//! | a node's silence | 3 s | its shares are `Silent` |
//! | a silent node's say about the date | 10 min | the date may jump without it |
//! | leases and waits ended by time in one entry | 4,096 | the next entry goes on |
//! | memories dropped in one entry | 8,192 | the next entry goes on |
//! | facts in one page of history | 256 | the next page goes on |
//! | different denials told apart in a minute | 4,096, and 64 of one subject | one record without holder and product, then without subject |
//! | a part of the history | 16 MiB, a day | a new part begins |
//! | history kept | 1 to 3,650 days, 1 to 65,536 MiB; 400 days and 4,096 MiB unless set | its oldest part is dropped |
//! | commands in one batch | 4,096 | does not encode or decode |
//! | bytes of one batch | 8 MiB | does not encode or decode |
//! | bytes of a backup to restore | 4 GiB | `Restore` |

use std::ops::RangeInclusive;

/// Bytes of a backed-up ledger: as many as of a snapshot for a peer.
pub const RESTORE_BYTES_MAX: u64 = 4 << 30;
/// Bytes of each part of a backup but the last: the shortest message that
/// every node's door lets in holds one.
pub const RESTORE_PART_BYTES: usize = 48 << 10;
/// Fencing tokens from one restore epoch to the next. Epochs are seconds (see
/// [`crate::backup::Header::next_epoch`]), and no cluster grants a million seats in one.
pub const TOKENS_PER_EPOCH: u64 = 1 << 20;
/// The highest restore epoch: its tokens stay below 2^53, so that readers of
/// JSON that know only doubles read them right.
pub const EPOCH_MAX: u64 = (1 << 33) - 1;
/// Live and waiting requests in all.
pub const LEASES_MAX: u64 = 2_000_000;
/// Requests known by id: live, waiting and remembered.
pub const REQUESTS_MAX: u64 = 4_000_000;
/// Live and waiting requests of one subject.
pub const SUBJECT_SEATS_MAX: u32 = 100_000;
/// Requests waiting for one product.
pub const QUEUE_MAX: u32 = 10_000;
/// Installed licenses.
pub const LICENSES_MAX: u64 = 64;
/// Vendors whose licenses may be installed.
pub const VENDOR_ROOTS_MAX: u32 = 16;
/// CAs of the cluster trusted at once.
pub const CLUSTER_CAS_MAX: u32 = 4;
/// Longest certificate of a cluster CA, in bytes of DER.
pub const CA_BYTES_MAX: usize = 4 * 1024;
/// Bearer tokens.
pub const BEARER_TOKENS_MAX: u64 = 10_000;
/// Nodes that were replaced, or were to replace one and did not: their ids and
/// containers are remembered for ever.
pub const DEPARTED_MAX: u64 = 1_000;
/// Revoked certificates.
pub const REVOKED_CERTIFICATES_MAX: u64 = 10_000;
/// How long after it expired a revoked certificate is remembered, in milliseconds.
pub const REVOKED_KEPT_MILLIS: u64 = 30 * 24 * 60 * 60 * 1_000;
/// How far ahead of the clock a not-after may be, in milliseconds.
pub const NOT_AFTER_AHEAD_MILLIS: u64 = 60_000;
/// How far ahead of the clock a wait may end, in milliseconds.
pub const WAIT_AHEAD_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// How long a waiting caller may stay silent, in milliseconds.
pub const SESSION_MILLIS: u64 = 15_000;
/// How long an ended request is remembered at least, in milliseconds.
pub const MEMORY_MILLIS: u64 = 60_000;
/// How long a node may stay silent and its shares stay live, in milliseconds.
pub const SILENCE_MILLIS: u64 = 3_000;
/// How far two nodes' wall clocks may differ before operators are told, in milliseconds.
pub const WALL_AGREEMENT_MILLIS: u64 = 5 * 60 * 1_000;
/// How far below the wall floor a wall clock must be to be wrong beyond doubt, in
/// milliseconds: more than the floor can run ahead of the date in half a year,
/// with a leader's clock 0.5 % fast.
pub const WALL_DISPROOF_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// How long a silent node's wall clock keeps its say, in milliseconds of cluster time.
pub const WALL_WORD_MILLIS: u64 = 10 * 60 * 1_000;
/// Leases and waits that one entry ends because their time came.
pub const ENDINGS_PER_ENTRY: usize = 4_096;
/// Memories and bearer tokens that one entry drops because their time came.
pub const FORGETS_PER_ENTRY: usize = 8_192;
/// Facts in one page of the history.
pub const PAGE_RECORDS_MAX: usize = 256;
/// For how long equal denials are one record and a number, in milliseconds.
pub const DENIAL_WINDOW_MILLIS: u64 = 60_000;
/// Different denials told apart within that.
pub const DENIALS_APART_MAX: u64 = 4_096;
/// Different denials of one subject told apart within that.
pub const DENIALS_OF_SUBJECT_MAX: u32 = 64;
/// Bytes of pages after which a part of the history ends, or a quarter of what
/// is kept if that is less.
pub const HISTORY_PART_BYTES: u64 = 16 << 20;
/// Cluster time after which a part of the history ends, in milliseconds.
pub const HISTORY_PART_MILLIS: u64 = 24 * 60 * 60 * 1_000;
/// Days that history can be kept.
pub const HISTORY_DAYS: RangeInclusive<u32> = 1..=3_650;
/// Mebibytes in which history can be kept.
pub const HISTORY_MEBIBYTES: RangeInclusive<u32> = 1..=65_536;
/// Commands in one batch.
pub const BATCH_COMMANDS_MAX: usize = 4_096;
/// Bytes of one encoded batch.
pub const BATCH_BYTES_MAX: usize = 8 * 1024 * 1024;
/// A checkpoint of the state hash is taken at every multiple of this index.
pub const CHECKPOINT_EVERY: u64 = 256;
/// Checkpoints kept.
pub const CHECKPOINTS_KEPT: usize = 8;
