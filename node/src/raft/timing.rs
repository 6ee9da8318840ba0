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

/// The longest election timeout, and the leader lease. A candidate asks for votes
/// after a sync of its own; the other must not stand meanwhile, or neither wins.
/// So the timeouts are spread over more than that.
pub(crate) const ELECTION_TIMEOUT_MAX: Duration = Duration::from_millis(550);

/// The leader lease. A leader that no quorum has confirmed for so long takes
/// nothing in (L4): openraft refuses its writes from then on, and a node that
/// said longer that it leads would draw requests which it only turns away.
pub(crate) const LEADER_LEASE: Duration = ELECTION_TIMEOUT_MAX;

/// A leader that was heard within this is left alone; and a leader hands over
/// only to a node that it heard within this.
pub const SILENCE_MIN: Duration = LEADER_LEASE.saturating_add(ELECTION_TIMEOUT_MIN);

/// A leader that was not heard for so long is not waited for.
pub const SILENCE_MAX: Duration = LEADER_LEASE.saturating_add(ELECTION_TIMEOUT_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    /// The pages that people plan by, and the numbers that Raft is given.
    #[test]
    fn the_pages_say_how_soon_a_leader_is_missed() {
        let millis = |time: Duration| match time.as_millis() {
            short @ ..1_000 => short.to_string(),
            long => format!("{},{:03}", long / 1_000, long % 1_000),
        };
        let [heartbeat, shortest, longest] =
            [HEARTBEAT, ELECTION_TIMEOUT_MIN, ELECTION_TIMEOUT_MAX].map(millis);
        let (lease, min, max) = (millis(LEADER_LEASE), millis(SILENCE_MIN), millis(SILENCE_MAX));
        let architecture = include_str!("../../../ARCHITECTURE.md");
        for said in [
            format!("for {lease} ms after a leader's last sign nobody votes for another"),
            format!("each follower waits {shortest} to {longest} ms of its own"),
            format!("so one stands after {min} to {max} ms"),
            format!("only if it comes within {heartbeat} ms"),
        ] {
            assert!(architecture.contains(&said), "ARCHITECTURE.md does not say {said:?}");
        }
        let stands = format!("{min} to {max} ms");
        let limits = include_str!("../../../LIMITS.md");
        assert!(limits.contains(&format!("stands for election | {stands} |")), "{stands}");
        let runbook = include_str!("../../../deploy/RUNBOOK.md");
        assert!(runbook.contains(&format!("for {stands} before they stand")), "{stands}");
    }

    /// openraft's lease is as long as the longest election timeout, whatever else
    /// it is given.
    #[test]
    fn raft_waits_as_is_written_here() {
        let config = crate::node::raft_config(crate::config::Snapshots::default());
        let millis = |time: Duration| u64::try_from(time.as_millis()).expect("a short time");
        assert_eq!(config.heartbeat_interval, millis(HEARTBEAT));
        assert_eq!(config.election_timeout_min, millis(ELECTION_TIMEOUT_MIN));
        assert_eq!(config.election_timeout_max, millis(LEADER_LEASE));
    }
}
