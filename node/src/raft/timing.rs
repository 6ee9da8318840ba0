//! How long Raft waits: for a sign of its leader, and for a vote.
//!
//! openraft counts from the last sign of a leader: first the leader lease, in
//! which nobody votes for anybody else and which is as long as the longest
//! election timeout; then the timeout, which each node draws anew. So a follower
//! stands for election after [`SILENCE_MIN`] to [`SILENCE_MAX`], and no sooner.

use std::time::Duration;

/// Between two signs of a leader. An answer to one that takes longer counts for
/// nothing, so no two nodes may be further apart than this, there and back.
pub(crate) const HEARTBEAT: Duration = Duration::from_millis(100);

/// The shortest election timeout, beyond the lease. A vote that takes longer does not count
/// either, and the voter syncs it first, perhaps behind a sync that is under way:
/// with two nodes left, a disk that needs longer for that elects nobody.
pub(crate) const ELECTION_TIMEOUT_MIN: Duration = Duration::from_millis(350);

/// The longest election timeout, and the leader lease. A candidate asks for votes after a sync of
/// its own; the other must not stand meanwhile, or neither wins. So the timeouts are
/// spread over more than that.
pub(crate) const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(550);

/// A leader that was heard so lately is left alone.
pub const SILENCE_MIN: Duration = ELECTION_TIMEOUT_MAX.saturating_add(ELECTION_TIMEOUT_MIN);

/// A leader that was not heard for so long is not waited for.
pub const SILENCE_MAX: Duration = ELECTION_TIMEOUT_MAX.saturating_add(ELECTION_TIMEOUT_MAX);
