//! S10, waiters. Checked in log order by the oracle.

use super::Law;

pub(super) struct Waiters;

impl Law for Waiters {
    fn name(&self) -> &'static str {
        "S10"
    }

    fn sentence(&self) -> &'static str {
        "A queued request is granted only while it is still wanted."
    }
}
