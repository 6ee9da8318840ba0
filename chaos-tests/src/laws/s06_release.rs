//! S6, release. Checked in log order by the oracle.

use super::Law;

pub(super) struct Release;

impl Law for Release {
    fn name(&self) -> &'static str {
        "S6"
    }

    fn sentence(&self) -> &'static str {
        "Only the lease's own token releases it; nothing is released that nobody asked to."
    }
}
