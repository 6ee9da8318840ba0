//! What of a cluster cannot be told yet, and for how long that is no fault.

use wire::v1;

/// Nodes are heard every second, and a license is signed within one. What is not
/// so after this much cluster time is broken.
const SETTLING_MILLIS: u64 = 10_000;

/// Whether the cluster was formed or restored, or a member replaced, a moment ago.
pub(super) fn has_new_members(status: &v1::StatusReply) -> bool {
    status.members_for_ms.is_some_and(|since| since < SETTLING_MILLIS)
}

/// Whether its leader was elected a moment ago.
pub(super) fn has_new_leader(status: &v1::StatusReply) -> bool {
    status.term_for_ms.is_some_and(|since| since < SETTLING_MILLIS)
}

/// Whether the leader has not heard this node, and had no time to.
pub(super) fn is_unheard(status: &v1::StatusReply, node: &v1::Node) -> bool {
    !node.alive && node.heard_ms_ago.is_none() && has_new_members(status)
}
