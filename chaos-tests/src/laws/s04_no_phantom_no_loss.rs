//! S4, no phantom, no loss. Checked in log order by the oracle.

use super::Law;

pub(super) struct NoPhantomNoLoss;

impl Law for NoPhantomNoLoss {
    fn name(&self) -> &'static str {
        "S4"
    }

    fn sentence(&self) -> &'static str {
        "Every acknowledged grant is there until its release or deadline; every seat has a request behind it."
    }
}
